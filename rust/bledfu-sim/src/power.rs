// SPDX-License-Identifier: Apache-2.0
//! The power domain of all simulated chips: one virtual clock, one count of flash operations, one switch.
//!
//! A *flash operation* is one program command (at most a page) or one erase command (one block) of any chip. Operations
//! are numbered from 0 in the order in which they start, over all chips, so "cut at operation 137" means the same in
//! every run of a scenario. A cut happens before an operation or inside it; after it every chip returns
//! [`NorError::PowerOff`](crate::nor::NorError::PowerOff) until [`Power::power_on`].

use core::fmt;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::hostile::Weak;
use crate::trace::{Lane, Moment, Span, Trace};

/// Where in an operation the power fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tear {
    /// The command never reaches the array: nothing changes.
    Before,
    /// The array does part of the work.
    Inside {
        /// Share of the work that is done, 0.0 to 1.0. At 1.0 all of it is done and only the answer is missing.
        fraction: f64,
        /// Seed of the random bits at the border between done and not done.
        seed: u64,
    },
}

/// What an operation does to the array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// Clears bits within one page.
    Program,
    /// Sets all bits of a block.
    Erase,
}

/// One operation as it started, to describe a cut in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpInfo {
    /// Global number, counted from 0.
    pub number: u64,
    /// Name of the chip.
    pub chip: &'static str,
    /// Program or erase.
    pub kind: OpKind,
    /// Address from the start of the chip.
    pub address: u32,
    /// Bytes programmed or erased.
    pub length: u32,
}

impl fmt::Display for OpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            OpKind::Program => "program",
            OpKind::Erase => "erase",
        };
        write!(
            f,
            "operation {}: {kind} {} bytes at {:#08x} of {}",
            self.number, self.length, self.address, self.chip
        )
    }
}

/// A power cut that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The operation before or inside which the power failed.
    pub op: OpInfo,
    /// When it started, in ns of virtual time.
    pub at_ns: u64,
}

thread_local! {
    /// The clock of this thread that moved last.
    static NOW_NS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Virtual time in ns of the clock of this thread that moved last, for log lines; `None` before the first.
pub fn thread_now_ns() -> Option<u64> {
    NOW_NS.get()
}

/// Lets log lines show another clock than the flash's: the link has its own timeline.
pub(crate) fn set_thread_now_ns(ns: u64) {
    NOW_NS.set(Some(ns));
}

/// A handle to the power domain; clones share it.
#[derive(Clone, Default)]
pub struct Power(Rc<State>);

#[derive(Default)]
struct State {
    now_ns: Cell<u64>,
    busy_ns: Cell<u64>,
    operations: Cell<u64>,
    plan: Cell<Option<(u64, Tear)>>,
    off: Cell<bool>,
    boots: Cell<u64>,
    weak: Cell<Option<Weak>>,
    real_time: Cell<bool>,
    sleep_debt_ns: Cell<u64>,
    last: Cell<Option<OpInfo>>,
    recorded: RefCell<Option<Vec<OpInfo>>>,
    cuts: RefCell<Vec<Cut>>,
    /// What is recorded for pictures, if anything.
    trace: RefCell<Option<Trace>>,
}

/// Reads are far shorter than a sleep can be: the thread sleeps only when this much read time has accumulated.
const SLEEP_STEP_NS: u64 = 1_000_000;

impl Power {
    /// Power on, clock at 0, virtual time, no cut planned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Flash operations started so far; also the number of the next one.
    pub fn ops(&self) -> u64 {
        self.0.operations.get()
    }

    /// Plans one cut: at the operation with this number (see [`Power::ops`]). Replaces an earlier plan.
    pub fn cut_at(&self, op: u64, tear: Tear) {
        self.0.plan.set(Some((op, tear)));
    }

    /// Whether a cut is planned that has not come yet.
    pub fn has_plan(&self) -> bool {
        self.0.plan.get().is_some()
    }

    /// Forgets the planned cut.
    pub fn cut_at_none(&self) {
        self.0.plan.set(None);
    }

    /// Cuts the power now, between two operations.
    pub fn cut_now(&self) {
        self.0.off.set(true);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.0.off.get()
    }

    /// Power returns, or a device with power is reset. The chips hold what the cut left, and bytes that are weak for a
    /// boot choose new values. A plan for a later operation stays.
    pub fn power_on(&self) {
        self.0.off.set(false);
        self.0.boots.set(self.0.boots.get() + 1);
    }

    /// Boots so far.
    pub fn boots(&self) -> u64 {
        self.0.boots.get()
    }

    /// The power of a copy of this device, after as many boots: on, clock and operations at 0, no cut planned.
    #[must_use]
    pub fn of_a_copy(&self) -> Self {
        let copy = Self::new();
        copy.0.boots.set(self.0.boots.get());
        copy.0.weak.set(self.0.weak.get());
        copy
    }

    /// From now on, operations cut inside leave weak bytes, and no torn ones.
    pub fn set_weak(&self, weak: Option<Weak>) {
        self.0.weak.set(weak);
    }

    /// What operations cut inside leave behind.
    pub fn weak(&self) -> Option<Weak> {
        self.0.weak.get()
    }

    /// Virtual time since [`Power::new`].
    pub fn now_ns(&self) -> u64 {
        self.0.now_ns.get()
    }

    /// Lets virtual time pass outside the flashes (link, processor).
    pub fn advance_ns(&self, ns: u64) {
        self.set_now_ns(self.0.now_ns.get().saturating_add(ns));
    }

    /// Sets the clock, for a caller that runs flash work and other work side by side and keeps the time itself.
    pub fn set_now_ns(&self, ns: u64) {
        self.0.now_ns.set(ns);
        NOW_NS.set(Some(ns));
    }

    /// Time that the flashes took since the last call (including reads); restarts the count.
    pub fn take_busy_ns(&self) -> u64 {
        self.0.busy_ns.replace(0)
    }

    /// In real time each operation also sleeps for its duration, with half of its effect done. Off by default.
    pub fn set_real_time(&self, on: bool) {
        self.0.real_time.set(on);
    }

    /// Records every operation from now on; drops earlier records.
    pub fn record(&self) {
        *self.0.recorded.borrow_mut() = Some(Vec::new());
    }

    /// The operations since [`Power::record`].
    pub fn recorded(&self) -> Vec<OpInfo> {
        self.0.recorded.borrow().clone().unwrap_or_default()
    }

    /// The operation that started last: after a cut, the one that was cut.
    pub fn last_op(&self) -> Option<OpInfo> {
        self.0.last.get()
    }

    /// The planned cuts that happened so far, in their order.
    pub fn cuts(&self) -> Vec<Cut> {
        self.0.cuts.borrow().clone()
    }

    /// Counts an operation and returns whether the power fails at it. A cut that happened is removed from the plan.
    pub(crate) fn begin(&self, chip: &'static str, kind: OpKind, address: u32, length: u32) -> Option<Tear> {
        let number = self.0.operations.get();
        self.0.operations.set(number + 1);
        let info = OpInfo {
            number,
            chip,
            kind,
            address,
            length,
        };
        self.0.last.set(Some(info));
        log::trace!("{info}");
        if let Some(recorded) = self.0.recorded.borrow_mut().as_mut() {
            recorded.push(info);
        }
        match self.0.plan.get() {
            Some((op, tear)) if op == number => {
                self.0.plan.set(None);
                self.0.cuts.borrow_mut().push(Cut {
                    op: info,
                    at_ns: self.now_ns(),
                });
                Some(tear)
            }
            _ => None,
        }
    }

    /// From now on, records for pictures what happens when.
    pub fn trace(&self) {
        *self.0.trace.borrow_mut() = Some(Trace::default());
    }

    /// What was recorded since [`Power::trace`]; empty without it.
    pub fn traced(&self) -> Trace {
        self.0.trace.borrow().clone().unwrap_or_default()
    }

    /// Somebody was busy from `from_ns` to `to_ns`.
    pub fn was_busy(&self, lane: Lane, from_ns: u64, to_ns: u64) {
        if let Some(trace) = self.0.trace.borrow_mut().as_mut() {
            trace.span(Span {
                lane,
                from_ns,
                to_ns,
                address: 0,
                length: 0,
            });
        }
    }

    /// Something happened at this time.
    pub fn moment(&self, at_ns: u64, moment: Moment) {
        if let Some(trace) = self.0.trace.borrow_mut().as_mut() {
            trace.moments.push((at_ns, moment));
        }
    }

    /// So many bytes wait in the ring at this time.
    pub(crate) fn ring_holds(&self, at_ns: u64, bytes: u32) {
        if let Some(trace) = self.0.trace.borrow_mut().as_mut() {
            trace.ring.push((at_ns, bytes));
        }
    }

    /// Lets the time of a program or erase pass; in real time it sleeps.
    pub(crate) fn spend_operation(&self, ns: u64) {
        let from_ns = self.now_ns();
        self.account(ns);
        if let (Some(trace), Some(op)) = (self.0.trace.borrow_mut().as_mut(), self.0.last.get()) {
            trace.span(Span {
                lane: Lane::Flash(op.chip, op.kind),
                from_ns,
                to_ns: self.now_ns(),
                address: op.address,
                length: op.length,
            });
        }
        if self.0.real_time.get() {
            std::thread::sleep(Duration::from_nanos(ns));
        }
    }

    /// Lets the time of a read pass.
    pub(crate) fn spend_read(&self, ns: u64) {
        self.account(ns);
        if self.0.real_time.get() {
            let debt = self.0.sleep_debt_ns.get().saturating_add(ns);
            if debt >= SLEEP_STEP_NS {
                std::thread::sleep(Duration::from_nanos(debt));
                self.0.sleep_debt_ns.set(0);
            } else {
                self.0.sleep_debt_ns.set(debt);
            }
        }
    }

    fn account(&self, ns: u64) {
        self.advance_ns(ns);
        self.0.busy_ns.set(self.0.busy_ns.get().saturating_add(ns));
    }
}

/// A small reproducible generator (SplitMix64) for the bits that a cut leaves behind. Not for keys.
pub struct Random(u64);

impl Random {
    /// Starts a sequence.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_clock_and_one_count() {
        let power = Power::new();
        let other = power.clone();
        other.advance_ns(5);
        assert_eq!(other.begin("x", OpKind::Erase, 0, 4096), None);
        power.spend_read(7);
        assert_eq!((power.now_ns(), power.ops(), other.take_busy_ns()), (12, 1, 7));
        assert_eq!(power.take_busy_ns(), 0);
    }

    #[test]
    fn a_cut_fires_once_at_its_number() {
        let power = Power::new();
        power.cut_at(1, Tear::Before);
        assert_eq!(power.begin("x", OpKind::Program, 0, 4), None);
        assert_eq!(power.begin("x", OpKind::Program, 4, 4), Some(Tear::Before));
        assert_eq!(power.begin("x", OpKind::Program, 8, 4), None);
        let last = power.last_op().unwrap();
        assert_eq!(last.to_string(), "operation 2: program 4 bytes at 0x000008 of x");
    }

    #[test]
    fn random_is_repeatable() {
        let (mut a, mut b) = (Random::new(9), Random::new(9));
        assert_eq!([a.bits(), a.bits()], [b.bits(), b.bits()]);
        assert_ne!(Random::new(1).bits(), Random::new(2).bits());
    }
}
