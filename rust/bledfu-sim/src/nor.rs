// SPDX-License-Identifier: Apache-2.0
//! A NOR flash with its real behaviour: bits only go from 1 to 0, blocks are erased to ones as a whole, everything
//! takes time, and the power may fail at any moment.
//!
//! A [`Chip`] is one part in one [`Power`] domain; an [`Area`] is a partition of it, and the `embedded_storage`
//! `NorFlash` that the logic crates get. The content is in RAM, or in RAM and a file: every operation writes through to
//! the file, so killing the process is a power cut. In real time an operation sleeps halfway through its effect, so a
//! kill can also hit inside it.
//!
//! What a cut leaves:
//! ```text
//! program   | done: new bytes | one byte: some of its bits cleared | untouched            |
//! erase     | done: all FF    | up to 256 bytes of random bits     | untouched            |
//!           0                 fraction × length                                    length
//! ```
//! If the power domain asks for [weak](crate::hostile) bytes, a cut leaves those instead: they read differently each
//! time.
//!
//! A part with error correction refuses to write a unit twice, and RRAM accepts any bytes at any time: see [`Rewrite`].
//!
//! One `NorFlash::write` is one operation per page that it touches; one `NorFlash::erase` is one operation per erase
//! command, always the largest that fits.

mod area;
mod error;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::ops::{Range, Sub};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use crate::hostile::{Misreads, WeakCells};
use crate::parts::{Part, Rewrite, Times, PAGE_SIZE};
use crate::power::{OpKind, Power, Random, Tear};

pub use area::{AnyUnits, Area, Units, UnitsOf, Words};
pub use error::{NorError, OpenError};

/// Alignment of reads and of RAM buffers: the word that a QSPI peripheral's DMA moves.
const WORD: usize = 4;

/// Bytes with random bits at the edge of a torn erase.
pub const TORN_ERASE_BORDER: usize = 256;

/// How long the driver waits for a missing completion.
const DEFAULT_DRIVER_TIMEOUT_NS: u64 = 500_000_000;

/// An injected fault of one operation of one chip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The driver reports an error after the usual time; the array is untouched.
    Fail,
    /// The completion is missing: the driver gives up after its timeout.
    NoCompletion {
        /// Whether the array did the work anyway.
        work_done: bool,
    },
    /// The operation reports success, but one bit of the result is wrong. Only reading back finds it.
    WrongBit,
}

/// What a chip has been asked to do so far. Subtract an earlier snapshot to get one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Erase commands for 4 KiB.
    pub erases_4k: u64,
    /// Erase commands for 8 KiB.
    pub erases_8k: u64,
    /// Erase commands for 32 KiB.
    pub erases_32k: u64,
    /// Erase commands for 64 KiB.
    pub erases_64k: u64,
    /// Program operations (at most one page each).
    pub programs: u64,
    /// Bytes programmed.
    pub program_bytes: u64,
    /// Read calls.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Time in programs, erases and reads.
    pub busy_ns: u64,
}

impl Stats {
    /// Erase commands of any size.
    pub fn erases(&self) -> u64 {
        self.erases_4k + self.erases_8k + self.erases_32k + self.erases_64k
    }

    /// Bytes erased.
    pub fn erased_bytes(&self) -> u64 {
        (self.erases_4k * 4 + self.erases_8k * 8 + self.erases_32k * 32 + self.erases_64k * 64) * 1024
    }
}

impl Sub for Stats {
    type Output = Stats;

    fn sub(self, earlier: Stats) -> Stats {
        Stats {
            erases_4k: self.erases_4k - earlier.erases_4k,
            erases_8k: self.erases_8k - earlier.erases_8k,
            erases_32k: self.erases_32k - earlier.erases_32k,
            erases_64k: self.erases_64k - earlier.erases_64k,
            programs: self.programs - earlier.programs,
            program_bytes: self.program_bytes - earlier.program_bytes,
            reads: self.reads - earlier.reads,
            read_bytes: self.read_bytes - earlier.read_bytes,
            busy_ns: self.busy_ns - earlier.busy_ns,
        }
    }
}

/// One flash chip; clones share it.
#[derive(Clone)]
pub struct Chip(Rc<RefCell<Array>>);

struct Array {
    name: &'static str,
    part: &'static Part,
    cells: Vec<u8>,
    file: Option<File>,
    power: Power,
    stats: Stats,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    times: Times,
    factor: f64,
    driver_timeout_ns: u64,
    erase_counts: Vec<u32>,
    /// Cells that can no longer change.
    worn: Range<usize>,
    weak: WeakCells,
    misreads: Misreads,
}

/// Effect of one operation, so that its two halves can be applied separately.
enum Effect<'b> {
    Program(&'b [u8]),
    Erase(usize),
}

impl Effect<'_> {
    fn length(&self) -> usize {
        match self {
            Effect::Program(bytes) => bytes.len(),
            Effect::Erase(length) => *length,
        }
    }
}

impl Chip {
    /// An erased chip in RAM. `name` is its name in reports ("internal", "external").
    pub fn new(name: &'static str, part: &'static Part, power: &Power) -> Self {
        Self::with_size(name, part, part.size, power)
    }

    /// The same with another size, for campaigns with thousands of small devices. `size` is rounded up to whole
    /// sectors.
    pub fn with_size(name: &'static str, part: &'static Part, size: u32, power: &Power) -> Self {
        let size = size.next_multiple_of(part.sector_size()) as usize;
        Self::from_cells(name, part, vec![0xFF; size], None, power)
    }

    /// A chip whose content is in the file `path`, which is created erased if it does not exist. The file is locked
    /// while the chip lives.
    ///
    /// # Errors
    /// [`OpenError`] when the file cannot be read or created, has another size than the part, or is in use.
    pub fn open(
        name: &'static str,
        part: &'static Part,
        path: &Path,
        power: &Power,
    ) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let io = |source| OpenError::Io {
            path: shown.clone(),
            source,
        };
        if !path.try_exists().map_err(io)? {
            // A kill while the file is being created must not leave a short file under its name.
            let fresh = path.with_extension("new");
            let mut file = File::create(&fresh).map_err(io)?;
            file.write_all(&vec![0xFF; part.size as usize]).map_err(io)?;
            file.sync_all().map_err(io)?;
            std::fs::rename(&fresh, path).map_err(io)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            if error == rustix::io::Errno::WOULDBLOCK {
                OpenError::InUse { path: shown.clone() }
            } else {
                io(error.into())
            }
        })?;
        let found = file.metadata().map_err(io)?.len();
        if found != u64::from(part.size) {
            return Err(OpenError::WrongSize {
                path: shown,
                found,
                part: part.name,
                expected: u64::from(part.size),
            });
        }
        let mut cells = Vec::with_capacity(part.size as usize);
        file.read_to_end(&mut cells).map_err(io)?;
        Ok(Self::from_cells(name, part, cells, Some(file), power))
    }

    fn from_cells(
        name: &'static str,
        part: &'static Part,
        cells: Vec<u8>,
        file: Option<File>,
        power: &Power,
    ) -> Self {
        let sectors = cells.len() / part.sector_size() as usize;
        Chip(Rc::new(RefCell::new(Array {
            name,
            part,
            cells,
            file,
            power: power.clone(),
            stats: Stats::default(),
            operations: 0,
            faults: BTreeMap::new(),
            dead: false,
            times: Times::Typical,
            factor: 1.0,
            driver_timeout_ns: DEFAULT_DRIVER_TIMEOUT_NS,
            erase_counts: vec![0; sectors],
            worn: 0..0,
            weak: WeakCells::new(),
            misreads: Misreads::none(),
        })))
    }

    /// A partition of this chip, written in words and erased in sectors of 4 KiB.
    ///
    /// # Errors
    /// Those of [`Chip::area_of`].
    pub fn area(&self, start: u32, size: u32) -> Result<Area, NorError> {
        self.area_of(start, size, Words::WRITE as u32, Words::ERASE as u32)
    }

    /// A partition of this chip whose driver writes units of `write` bytes and erases units of `erase` bytes.
    ///
    /// # Errors
    /// [`NorError::Units`] unless the part supports these units and the type has them; [`NorError::NotAligned`] unless
    /// start and size are whole erase units; [`NorError::OutOfBounds`] beyond the chip.
    pub fn area_of<U: Units>(
        &self,
        start: u32,
        size: u32,
        write: u32,
        erase: u32,
    ) -> Result<Area<U>, NorError> {
        let capacity = self.capacity();
        let part = self.part();
        if !U::are(write, erase)
            || !write.is_multiple_of(part.write_size)
            || !erase.is_multiple_of(part.sector_size())
        {
            return Err(NorError::Units {
                part: part.name,
                write,
                erase,
            });
        }
        if !start.is_multiple_of(erase) || !size.is_multiple_of(erase) {
            return Err(NorError::NotAligned {
                address: start,
                length: size as usize,
                grain: erase as usize,
            });
        }
        if (start as usize)
            .checked_add(size as usize)
            .is_none_or(|end| end > capacity)
        {
            return Err(NorError::OutOfBounds {
                address: start,
                length: size as usize,
                capacity,
            });
        }
        Ok(Area {
            chip: self.clone(),
            start,
            size,
            write,
            erase,
            units: PhantomData,
        })
    }

    /// Bytes in the chip.
    pub fn capacity(&self) -> usize {
        self.0.borrow().cells.len()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.borrow().name
    }

    /// Its part.
    pub fn part(&self) -> &'static Part {
        self.0.borrow().part
    }

    /// Its power domain.
    pub fn power(&self) -> Power {
        self.0.borrow().power.clone()
    }

    /// Its operations so far.
    pub fn stats(&self) -> Stats {
        self.0.borrow().stats
    }

    /// Highest number of erases of any sector since the chip was created or opened.
    pub fn worst_wear(&self) -> u32 {
        self.0.borrow().erase_counts.iter().copied().max().unwrap_or(0)
    }

    /// Operations that this chip has started; also the number of its next one. [`Chip::fail_at`] counts in these.
    pub fn ops(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Plans a fault at the chip's operation `op` (see [`Chip::ops`]); several may be planned, each fires once.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.0.borrow_mut().faults.insert(op, fault);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.0.borrow_mut().faults.clear();
    }

    /// Cells in this range keep their content, whatever is programmed or erased there; the chip reports success.
    pub fn wear_out(&self, range: Range<u32>) {
        self.0.borrow_mut().worn = range.start as usize..range.end as usize;
    }

    /// A dead chip responds to no call at all, not even reads.
    pub fn set_dead(&self, dead: bool) {
        self.0.borrow_mut().dead = dead;
    }

    /// Selects typical or maximum times.
    pub fn set_times(&self, times: Times) {
        self.0.borrow_mut().times = times;
    }

    /// Multiplies all program and erase times; 0.0 makes them instant. Negative values and NaN count as 0.0.
    pub fn set_time_factor(&self, factor: f64) {
        self.0.borrow_mut().factor = if factor > 0.0 { factor } else { 0.0 };
    }

    /// From now on, these reads return wrong bytes.
    pub fn set_misreads(&self, misreads: Misreads) {
        self.0.borrow_mut().misreads = misreads;
    }

    /// Whether a byte of this range does not read the same each time.
    pub fn is_weak(&self, range: std::ops::Range<u32>) -> bool {
        self.0.borrow().weak.any_in(range)
    }

    /// How long the driver waits for a missing completion (500 ms by default). Ordinary operations are awaited, however
    /// slow they are.
    pub fn set_driver_timeout_ns(&self, ns: u64) {
        self.0.borrow_mut().driver_timeout_ns = ns;
    }

    /// A copy of all cells, as a debugger would read them: no time, no power needed.
    pub fn contents(&self) -> Vec<u8> {
        self.0.borrow().cells.clone()
    }

    /// Writes cells as a programmer in the factory would: no time, no rules.
    ///
    /// # Errors
    /// [`NorError::OutOfBounds`] beyond the chip, [`NorError::File`] when the file cannot be written.
    pub fn set_contents(&self, address: u32, bytes: &[u8]) -> Result<(), NorError> {
        let mut array = self.0.borrow_mut();
        let capacity = array.cells.len();
        let start = address as usize;
        let Some(target) = start
            .checked_add(bytes.len())
            .and_then(|end| array.cells.get_mut(start..end))
        else {
            return Err(NorError::OutOfBounds {
                address,
                length: bytes.len(),
                capacity,
            });
        };
        target.copy_from_slice(bytes);
        array.write_through(start, bytes.len())
    }
}

impl Array {
    fn check_alive(&self) -> Result<(), NorError> {
        if self.power.is_off() {
            Err(NorError::PowerOff)
        } else if self.dead {
            Err(NorError::NoAnswer)
        } else {
            Ok(())
        }
    }

    fn read(&mut self, address: usize, out: &mut [u8]) -> Result<(), NorError> {
        self.check_alive()?;
        let ns = self.part.bus.transfer_ns(out.len() as u64);
        self.stats.reads += 1;
        self.stats.read_bytes += out.len() as u64;
        self.stats.busy_ns += ns;
        self.power.spend_read(ns);
        out.copy_from_slice(&self.cells[address..address + out.len()]);
        self.weak.read(address as u32, out, self.power.boots());
        self.misreads.read(address as u32, out);
        Ok(())
    }

    /// A unit with error correction is written once; zeros may follow.
    fn check_written_before(&self, address: usize, bytes: &[u8]) -> Result<(), NorError> {
        if self.part.rewrite != Rewrite::Refused {
            return Ok(());
        }
        let unit = self.part.write_size as usize;
        for (at, wanted) in (address..).step_by(unit).zip(bytes.chunks(unit)) {
            let held = &self.cells[at..at + wanted.len()];
            let is_written = held.iter().any(|held| *held != 0xFF)
                || self.weak.any_in(at as u32..(at + wanted.len()) as u32);
            if is_written && wanted.iter().any(|wanted| *wanted != 0) {
                return Err(NorError::WrittenBefore {
                    address: at as u32,
                    unit: self.part.write_size,
                });
            }
        }
        Ok(())
    }

    fn program(&mut self, address: usize, bytes: &[u8]) -> Result<(), NorError> {
        self.check_alive()?;
        if self.worn.contains(&address) {
            return Ok(());
        }
        self.check_written_before(address, bytes)?;
        let mut at = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = PAGE_SIZE as usize - at % PAGE_SIZE as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.stats_program(now.len());
            self.operate(at, &Effect::Program(now))?;
            at += now.len();
            rest = later;
        }
        Ok(())
    }

    /// Counted when requested, as a bus analyser would: a failed program is also a program.
    fn stats_program(&mut self, length: usize) {
        if self.check_alive().is_ok() {
            self.stats.programs += 1;
            self.stats.program_bytes += length as u64;
        }
    }

    fn erase(&mut self, from: usize, to: usize) -> Result<(), NorError> {
        if self.worn.contains(&from) {
            return self.check_alive();
        }
        let mut at = from;
        while at < to {
            let part = self.part;
            let Some((size, _)) = part.erase.iter().rev().find(|(size, _)| {
                let size = *size as usize;
                at.is_multiple_of(size) && at + size <= to
            }) else {
                return Err(NorError::NotAligned {
                    address: at as u32,
                    length: to - at,
                    grain: part.sector_size() as usize,
                });
            };
            if self.check_alive().is_ok() {
                match size / 1024 {
                    4 => self.stats.erases_4k += 1,
                    8 => self.stats.erases_8k += 1,
                    32 => self.stats.erases_32k += 1,
                    _ => self.stats.erases_64k += 1,
                }
                let first = at / part.sector_size() as usize;
                let count = (*size / part.sector_size()) as usize;
                for wear in self.erase_counts.iter_mut().skip(first).take(count) {
                    *wear += 1;
                }
            }
            self.operate(at, &Effect::Erase(*size as usize))?;
            at += *size as usize;
        }
        Ok(())
    }

    fn duration_ns(&self, effect: &Effect) -> u64 {
        let (array, bus) = match effect {
            Effect::Program(bytes) => {
                let length = bytes.len() as u64;
                (
                    self.part.program.of(length, self.times),
                    self.part.bus.transfer_ns(length),
                )
            }
            Effect::Erase(length) => {
                let time = self.part.erase.iter().find(|(size, _)| *size as usize == *length);
                (
                    time.map_or(0, |(_, time)| time.pick(self.times)),
                    self.part.bus.transfer_ns(0),
                )
            }
        };
        // The processor writes internal words itself: moving them is part of the word time.
        let bus = if self.part.internal { 0 } else { bus };
        ((array + bus) as f64 * self.factor) as u64
    }

    /// One operation: counts it, then applies a power cut, a fault, or the whole effect.
    fn operate(&mut self, address: usize, effect: &Effect) -> Result<(), NorError> {
        self.check_alive()?;
        let length = effect.length();
        let kind = match effect {
            Effect::Program(_) => OpKind::Program,
            Effect::Erase(_) => OpKind::Erase,
        };
        let tear = self.power.begin(self.name, kind, address as u32, length as u32);
        let operation = self.operations;
        self.operations += 1;
        let fault = self.faults.remove(&operation);
        let ns = self.duration_ns(effect);
        match tear {
            Some(Tear::Before) => {
                self.power.cut_now();
                return Err(NorError::PowerOff);
            }
            Some(Tear::Inside { fraction, seed }) => {
                let fraction = if fraction > 0.0 { fraction.min(1.0) } else { 0.0 };
                self.pass((ns as f64 * fraction) as u64);
                self.tear(address, effect, (length as f64 * fraction) as usize, seed)?;
                self.power.cut_now();
                return Err(NorError::PowerOff);
            }
            None => {}
        }
        match fault {
            Some(Fault::Fail) => {
                self.pass(ns);
                Err(NorError::Failed { operation })
            }
            Some(Fault::NoCompletion { work_done }) => {
                if work_done {
                    // An unerased target goes unnoticed: this operation reports nothing.
                    let _ = self.apply(address, effect, 0, length)?;
                    self.strengthen(address, effect);
                }
                let waited = self.driver_timeout_ns;
                self.pass(waited);
                Err(NorError::TimedOut {
                    operation,
                    waited_ms: waited / 1_000_000,
                })
            }
            other => {
                let half = length / 2;
                let first = self.apply(address, effect, 0, half)?;
                self.pass(ns);
                let second = self.apply(address, effect, half, length)?;
                self.strengthen(address, effect);
                if other == Some(Fault::WrongBit) {
                    let wrong = address + half;
                    self.cells[wrong] ^= 0x10;
                    self.write_through(wrong, 1)?;
                }
                first.or(second).map_or(Ok(()), Err)
            }
        }
    }

    fn pass(&mut self, ns: u64) {
        self.stats.busy_ns += ns;
        self.power.spend_operation(ns);
    }

    /// Applies the part `from..to` of an effect; returns the NOR rule that it broke, if any.
    fn apply(
        &mut self,
        address: usize,
        effect: &Effect,
        from: usize,
        to: usize,
    ) -> Result<Option<NorError>, NorError> {
        let mut broken = None;
        let cells = &mut self.cells[address + from..address + to];
        match effect {
            Effect::Program(bytes) => {
                let wanted = &bytes[from..to];
                if self.part.rewrite == Rewrite::Replaces {
                    cells.copy_from_slice(wanted);
                } else {
                    let mut pairs = cells.iter().zip(wanted);
                    broken = pairs
                        .position(|(held, wanted)| held & wanted != *wanted)
                        .map(|at| NorError::NotErased {
                            address: (address + from + at) as u32,
                            held: cells[at],
                            wanted: wanted[at],
                        });
                    clear_bits(cells, wanted);
                }
            }
            Effect::Erase(_) => cells.fill(0xFF),
        }
        self.write_through(address + from, to - from)?;
        Ok(broken)
    }

    /// The completed part reads the same each time.
    fn strengthen(&mut self, address: usize, effect: &Effect) {
        let replaces = self.part.rewrite == Rewrite::Replaces;
        match effect {
            Effect::Program(bytes) => self.weak.programmed(address as u32, bytes, replaces),
            Effect::Erase(length) => self.weak.erased(address as u32, *length as u32),
        }
    }

    /// The first `done` bytes of the effect and the damage after them.
    fn tear(&mut self, address: usize, effect: &Effect, done: usize, seed: u64) -> Result<(), NorError> {
        if let Some(weak) = self.power.weak() {
            let length = effect.length();
            let (boot, held) = (self.power.boots(), &self.cells[address..address + length]);
            let kept = match effect {
                Effect::Program(bytes) => {
                    let replaces = self.part.rewrite == Rewrite::Replaces;
                    self.weak
                        .torn_program((address as u32, held, bytes), replaces, weak, boot)
                }
                Effect::Erase(_) => {
                    let fraction = done as f64 / length as f64;
                    self.weak.torn_erase((address as u32, held), fraction, weak, boot)
                }
            };
            self.cells[address..address + length].copy_from_slice(&kept);
            return self.write_through(address, length);
        }
        let _ = self.apply(address, effect, 0, done)?;
        let rest = &mut self.cells[address + done..address + effect.length()];
        let damaged = match effect {
            Effect::Program(bytes) => match self.part.rewrite {
                Rewrite::Replaces => torn_replace(rest, &bytes[done..], seed),
                Rewrite::ClearsBits | Rewrite::Refused => torn_program(rest, &bytes[done..], seed),
            },
            Effect::Erase(_) => torn_erase(rest, seed),
        };
        self.write_through(address + done, damaged)
    }

    fn write_through(&self, address: usize, length: usize) -> Result<(), NorError> {
        match &self.file {
            Some(file) => file
                .write_all_at(&self.cells[address..address + length], address as u64)
                .map_err(|error| NorError::File(error.kind())),
            None => Ok(()),
        }
    }
}

/// Programs a memory whose bits can only be cleared.
pub(crate) fn clear_bits(cells: &mut [u8], wanted: &[u8]) {
    for (cell, wanted) in cells.iter_mut().zip(wanted) {
        *cell &= wanted;
    }
}

/// Damage at the border of a cut program: a random part of the bits of one byte is cleared. Returns the number of bytes
/// touched.
pub(crate) fn torn_program(cells: &mut [u8], wanted: &[u8], seed: u64) -> usize {
    match (cells.first_mut(), wanted.first()) {
        (Some(cell), Some(wanted)) => {
            *cell &= wanted | Random::new(seed).byte();
            1
        }
        _ => 0,
    }
}

/// The same where bits go both ways: some bits of one byte have changed. Returns the number of bytes touched.
pub(crate) fn torn_replace(cells: &mut [u8], wanted: &[u8], seed: u64) -> usize {
    match (cells.first_mut(), wanted.first()) {
        (Some(cell), Some(wanted)) => {
            *cell ^= (*cell ^ wanted) & Random::new(seed).byte();
            1
        }
        _ => 0,
    }
}

/// Damage at the border of a cut erase: random bits. Returns the number of bytes touched.
pub fn torn_erase(cells: &mut [u8], seed: u64) -> usize {
    let border = TORN_ERASE_BORDER.min(cells.len());
    let mut random = Random::new(seed);
    cells[..border].fill_with(|| random.byte());
    border
}

#[cfg(test)]
mod tests;
