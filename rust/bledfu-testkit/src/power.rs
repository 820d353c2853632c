// SPDX-License-Identifier: Apache-2.0
//! The supply that several chips share, and how an operation is cut short.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::hostile::Weak;
use crate::nor::NorError;

/// How an operation is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing of it is done.
    Before,
    /// About this many percent of it are done, in one of several ways that the seed chooses.
    Inside {
        /// 0 to 100.
        percent: u8,
        /// Chooses which cells are done, and what those at the border hold.
        seed: u64,
    },
    /// Exactly the first bytes of it are done, and the next byte is arbitrary.
    Prefix {
        /// How many bytes are done.
        bytes: usize,
        /// What the next byte becomes; programming can only clear bits of it.
        next: u8,
    },
}

/// One operation, as the flash saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are the arguments of the operation
pub enum Op {
    Erase { chip: char, sector: u32 },
    Write { chip: char, offset: u32, bytes: Vec<u8> },
}

/// The supply of all chips of a device: counts their operations, and fails at a planned one.
#[derive(Debug, Default)]
pub struct Power {
    ops: Cell<u64>,
    cut: Cell<Option<(u64, Tear)>>,
    off: Cell<bool>,
    reads: Cell<u64>,
    failing_reads: RefCell<Range<u64>>,
    failing_ops: RefCell<Range<u64>>,
    spoiled: Cell<Option<u64>>,
    log: RefCell<Option<Vec<Op>>>,
    boots: Cell<u64>,
    weak: Cell<Option<Weak>>,
}

impl Power {
    /// A supply that is switched on.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Erased sectors and program operations since the last [`on`](Self::on).
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.ops.get()
    }

    /// Read operations since the last [`on`](Self::on).
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// Switches on, with no cut or failure planned, and restarts the count at zero. Bytes that are weak for one boot
    /// choose new values.
    pub fn on(&self) {
        self.boots.set(self.boots.get() + 1);
        self.off.set(false);
        self.ops.set(0);
        self.cut.set(None);
        self.reads.set(0);
        self.failing_reads.replace(0..0);
        self.failing_ops.replace(0..0);
        self.spoiled.set(None);
    }

    /// How often it was switched on.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.boots.get()
    }

    /// The supply of a copy of the device, after as many boots: on, nothing planned, counting from zero.
    #[must_use]
    pub fn of_a_copy(&self) -> Rc<Self> {
        Rc::new(Self {
            boots: self.boots.clone(),
            weak: self.weak.clone(),
            ..Self::default()
        })
    }

    /// From now on, operations cut [inside](Tear::Inside) leave weak bytes, and no torn ones.
    pub fn set_weak(&self, weak: Option<Weak>) {
        self.weak.set(weak);
    }

    /// What operations cut inside leave behind.
    #[must_use]
    pub fn weak(&self) -> Option<Weak> {
        self.weak.get()
    }

    /// Plans a cut at the operation with this number, counted from zero.
    pub fn cut_at(&self, op: u64, tear: Tear) {
        self.cut.set(Some((op, tear)));
    }

    /// Plans errors of the reads with these numbers, counted from zero over all chips. The chips are intact: a repeated
    /// read has another number.
    pub fn fail_reads(&self, reads: Range<u64>) {
        self.failing_reads.replace(reads);
    }

    /// Plans errors of the erases and programs with these numbers, counted from zero; they do nothing.
    pub fn fail_ops(&self, ops: Range<u64>) {
        self.failing_ops.replace(ops);
    }

    /// Plans that the program with this number, counted from zero, clears a bit that it should not; nobody is told.
    pub fn spoil(&self, op: u64) {
        self.spoiled.set(Some(op));
    }

    /// Whether the operation that began last is to be [spoiled](Self::spoil).
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.get().is_some_and(|op| op + 1 == self.ops.get())
    }

    /// True after a cut, until [`on`](Self::on).
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.off.get()
    }

    /// Records the operations from now on.
    pub fn record(&self) {
        *self.log.borrow_mut() = Some(Vec::new());
    }

    /// The operations since [`record`](Self::record), including the interrupted one; ends the recording.
    #[must_use]
    pub fn recorded(&self) -> Vec<Op> {
        self.log.borrow_mut().take().unwrap_or_default()
    }

    /// Starts an operation, which may fail: `None`: do all of it; otherwise how it is cut short.
    pub(crate) fn begin(&self, op: impl FnOnce() -> Op) -> Result<Option<Tear>, NorError> {
        let number = self.ops.get();
        self.ops.set(number + 1);
        if self.failing_ops.borrow().contains(&number) {
            return Err(NorError::Broken);
        }
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.push(op());
        }
        Ok(match self.cut.get() {
            Some((at, tear)) if at == number => {
                self.off.set(true);
                Some(tear)
            }
            _ => None,
        })
    }

    /// Counts a read, which may fail.
    pub(crate) fn begin_read(&self) -> Result<(), NorError> {
        let number = self.reads.get();
        self.reads.set(number + 1);
        if self.failing_reads.borrow().contains(&number) {
            return Err(NorError::Broken);
        }
        Ok(())
    }
}
