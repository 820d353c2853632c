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

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::ops::{Range, Sub};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use embedded_storage::nor_flash::{
    check_erase, check_read, check_write, ErrorType, MultiwriteNorFlash, NorFlash, NorFlashError,
    NorFlashErrorKind, ReadNorFlash,
};

use crate::hostile::{Misreads, WeakCells};
use crate::parts::{Part, Rewrite, Times, PAGE_SIZE};
use crate::power::{OpKind, Power, Random, Tear};

/// Alignment of reads and of RAM buffers: the word that a QSPI peripheral's DMA moves.
const WORD: usize = 4;

/// Bytes with random bits at the edge of a torn erase.
pub const TORN_ERASE_BORDER: usize = 256;

/// How long the driver waits for a missing completion.
const DEFAULT_DRIVER_TIMEOUT_NS: u64 = 500_000_000;

/// Why a flash call was refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NorError {
    /// The power was cut; every call fails until it is back.
    #[error("the power is off")]
    PowerOff,
    /// Address or length is not a multiple of the unit of reads, writes or erases.
    #[error("address {address:#x} or length {length} is not a multiple of {grain}")]
    NotAligned {
        /// Offset in the area.
        address: u32,
        /// Bytes asked for.
        length: usize,
        /// Required multiple.
        grain: usize,
    },
    /// Beyond the end of the area.
    #[error("{length} bytes at {address:#x} do not fit into an area of {capacity} bytes")]
    OutOfBounds {
        /// Offset in the area.
        address: u32,
        /// Bytes asked for.
        length: usize,
        /// Size of the area.
        capacity: usize,
    },
    /// The source in RAM does not start at a word, so DMA could not read it.
    #[error("the source buffer is not word-aligned in RAM")]
    BufferNotAligned,
    /// A bit would have to go from 0 to 1; the other bits were programmed.
    #[error("the byte at {address:#x} holds {held:#04x} and cannot become {wanted:#04x} without an erase")]
    NotErased {
        /// Address from the start of the chip.
        address: u32,
        /// The byte's content.
        held: u8,
        /// The byte to be programmed.
        wanted: u8,
    },
    /// A unit with error correction was to be written a second time; it was not.
    #[error("the unit of {unit} bytes at {address:#x} was written before and cannot be written again without an erase")]
    WrittenBefore {
        /// Address of the unit from the start of the chip.
        address: u32,
        /// Its size.
        unit: u32,
    },
    /// The area's units do not suit the part, or the code is built for others.
    #[error("the {part} cannot be used in write units of {write} and erase units of {erase} bytes here")]
    Units {
        /// Name of the part.
        part: &'static str,
        /// Write unit in bytes.
        write: u32,
        /// Erase unit in bytes.
        erase: u32,
    },
    /// An injected failure: the driver reported an error.
    #[error("the flash reported a failure of operation {operation}")]
    Failed {
        /// The chip's own operation number.
        operation: u64,
    },
    /// An injected missing completion: the driver stopped waiting.
    #[error("operation {operation} did not complete within {waited_ms} ms")]
    TimedOut {
        /// The chip's own operation number.
        operation: u64,
        /// How long the driver waited.
        waited_ms: u64,
    },
    /// The chip does not respond at all.
    #[error("the flash does not answer")]
    NoAnswer,
    /// The file behind the chip could not be written.
    #[error("the file behind the flash cannot be written: {0}")]
    File(io::ErrorKind),
}

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            NorError::NotAligned { .. } | NorError::BufferNotAligned => NorFlashErrorKind::NotAligned,
            NorError::OutOfBounds { .. } => NorFlashErrorKind::OutOfBounds,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// Why a flash file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused access.
    #[error("cannot open the flash file {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Its reason.
        source: io::Error,
    },
    /// The file belongs to a chip of another size.
    #[error("the flash file {path} holds {found} bytes, but the part {part} has {expected}")]
    WrongSize {
        /// The file.
        path: String,
        /// Its length in bytes.
        found: u64,
        /// Name of the part.
        part: &'static str,
        /// The expected length in bytes.
        expected: u64,
    },
    /// Another process uses the file.
    #[error("the flash file {path} is in use by another process")]
    InUse {
        /// The file.
        path: String,
    },
    /// The part is too small for the device's layout.
    #[error(transparent)]
    Flash(#[from] NorError),
}

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
        match effect {
            Effect::Program(bytes) => {
                for (i, wanted) in bytes.iter().copied().enumerate().take(to).skip(from) {
                    let cell = &mut self.cells[address + i];
                    let held = *cell;
                    *cell = match self.part.rewrite {
                        Rewrite::Replaces => wanted,
                        Rewrite::ClearsBits | Rewrite::Refused => held & wanted,
                    };
                    if *cell != wanted && broken.is_none() {
                        broken = Some(NorError::NotErased {
                            address: (address + i) as u32,
                            held,
                            wanted,
                        });
                    }
                }
            }
            Effect::Erase(_) => self.cells[address + from..address + to].fill(0xFF),
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

/// Write and erase unit of an area as constants of a type, from which logic takes them, as on a device.
pub trait Units: Copy + std::fmt::Debug + 'static {
    /// Write unit in bytes.
    const WRITE: usize;
    /// Erase unit in bytes.
    const ERASE: usize;

    /// Whether an area with these units is of this type.
    fn are(write: u32, erase: u32) -> bool {
        (write as usize, erase as usize) == (Self::WRITE, Self::ERASE)
    }
}

/// These [`Units`].
#[derive(Clone, Copy, Debug)]
pub struct UnitsOf<const WRITE: usize, const ERASE: usize>;

impl<const W: usize, const E: usize> Units for UnitsOf<W, E> {
    const WRITE: usize = W;
    const ERASE: usize = E;
}

/// Units of the nRF52840's flash, and of NOR flash behind its QSPI peripheral.
pub type Words = UnitsOf<4, 4096>;

/// Units of an area that may be on either chip: the type gives the minimum, the area itself its units.
#[derive(Clone, Copy, Debug)]
pub struct AnyUnits;

impl Units for AnyUnits {
    const WRITE: usize = 1;
    const ERASE: usize = 1;

    fn are(_: u32, _: u32) -> bool {
        true
    }
}

/// A partition of a [`Chip`]: the `NorFlash` that the logic crates use. Clones are the same partition.
#[derive(Clone)]
pub struct Area<U = Words> {
    chip: Chip,
    start: u32,
    size: u32,
    write: u32,
    erase: u32,
    units: PhantomData<U>,
}

impl<U: Units> Area<U> {
    /// The same area, as another type with the same units.
    ///
    /// # Errors
    /// [`NorError::Units`] if the area has other units.
    pub fn with_units<V: Units>(&self) -> Result<Area<V>, NorError> {
        self.chip.area_of(self.start, self.size, self.write, self.erase)
    }

    fn grain(&self, grain: u32, address: u32, end: u32) -> Result<(), NorError> {
        if address.is_multiple_of(grain) && end.is_multiple_of(grain) {
            return Ok(());
        }
        Err(NorError::NotAligned {
            address,
            length: end.saturating_sub(address) as usize,
            grain: grain as usize,
        })
    }

    /// The chip that it is on.
    pub fn chip(&self) -> &Chip {
        &self.chip
    }

    /// Where it starts on the chip.
    pub fn start(&self) -> u32 {
        self.start
    }

    /// Its size in bytes.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// A copy of its cells: no time, no power needed.
    pub fn contents(&self) -> Vec<u8> {
        let start = self.start as usize;
        self.chip.0.borrow().cells[start..start + self.size as usize].to_vec()
    }

    /// Writes cells as a programmer in the factory would.
    ///
    /// # Errors
    /// Those of [`Chip::set_contents`], within this area.
    pub fn set_contents(&self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        if offset as usize > self.size as usize || bytes.len() > (self.size - offset) as usize {
            return Err(NorError::OutOfBounds {
                address: offset,
                length: bytes.len(),
                capacity: self.size as usize,
            });
        }
        self.chip.set_contents(self.start + offset, bytes)
    }

    fn refuse(&self, kind: NorFlashErrorKind, address: u32, length: usize, grain: usize) -> NorError {
        match kind {
            NorFlashErrorKind::NotAligned => NorError::NotAligned {
                address,
                length,
                grain,
            },
            _ => NorError::OutOfBounds {
                address,
                length,
                capacity: self.size as usize,
            },
        }
    }
}

impl<U> ErrorType for Area<U> {
    type Error = NorError;
}

impl<U: Units> ReadNorFlash for Area<U> {
    const READ_SIZE: usize = WORD;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        check_read(self, offset, bytes.len())
            .map_err(|kind| self.refuse(kind, offset, bytes.len(), Self::READ_SIZE))?;
        self.chip
            .0
            .borrow_mut()
            .read((self.start + offset) as usize, bytes)
    }

    fn capacity(&self) -> usize {
        self.size as usize
    }
}

impl<U: Units> NorFlash for Area<U> {
    const WRITE_SIZE: usize = U::WRITE;
    const ERASE_SIZE: usize = U::ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        check_erase(self, from, to).map_err(|kind| {
            let length = to.saturating_sub(from) as usize;
            self.refuse(kind, from, length, Self::ERASE_SIZE)
        })?;
        self.grain(self.erase, from, to)?;
        let (from, to) = (self.start + from, self.start + to);
        self.chip.0.borrow_mut().erase(from as usize, to as usize)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        check_write(self, offset, bytes.len())
            .map_err(|kind| self.refuse(kind, offset, bytes.len(), Self::WRITE_SIZE))?;
        self.grain(self.write, offset, offset + bytes.len() as u32)?;
        if !bytes.as_ptr().addr().is_multiple_of(WORD) {
            return Err(NorError::BufferNotAligned);
        }
        self.chip
            .0
            .borrow_mut()
            .program((self.start + offset) as usize, bytes)
    }
}

/// NOR flash may clear further bits of a word; setting one is still refused.
impl<const E: usize> MultiwriteNorFlash for Area<UnitsOf<4, E>> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{Choice, Weak};
    use crate::parts::{EFR32MG24, MX25R6435F, NRF52840, NRF54L15, STM32WB55, STM32WBA52, W25Q64};

    #[repr(align(4))]
    struct Buffer<const N: usize>([u8; N]);

    #[test]
    fn weak_bytes_and_wrong_reads_belong_to_the_chip() {
        let power = Power::new();
        power.set_weak(Some(Weak {
            choice: Choice::Boots(0b01),
            seed: 1,
        }));
        let chip = Chip::with_size("external", &MX25R6435F, 8192, &power);
        let mut area = chip.area(4096, 4096).unwrap();
        let inside = Tear::Inside {
            fraction: 0.5,
            seed: 0,
        };
        power.cut_at(0, inside);
        assert_eq!(area.write(0, &Buffer([7; 4]).0), Err(NorError::PowerOff));
        let read = |area: &mut Area| {
            let mut found = Buffer([0; 4]);
            power.power_on();
            area.read(0, &mut found.0).map(|()| found.0)
        };
        assert_eq!([read(&mut area), read(&mut area)], [Ok([7; 4]), Ok([0xFF; 4])]);
        assert!(chip.is_weak(4096..4097) && !chip.is_weak(0..4096));
        area.write(0, &Buffer([7; 4]).0).unwrap();
        assert!(!chip.is_weak(4096..8192));
        assert_eq!([read(&mut area), read(&mut area)], [Ok([7; 4]), Ok([7; 4])]);
        chip.set_misreads(Misreads {
            blank: 0..1,
            ..Misreads::none()
        });
        assert_eq!([read(&mut area), read(&mut area)], [Ok([0xFF; 4]), Ok([7; 4])]);
        power.cut_at(2, inside);
        assert_eq!(area.erase(0, 4096), Err(NorError::PowerOff));
        assert!(chip.is_weak(4096..4100) && !chip.is_weak(4100..8192));
        power.power_on();
        area.erase(0, 4096).unwrap();
        assert!(!chip.is_weak(4096..8192));
    }

    const SIZE: u32 = 256 * 1024;

    fn chip() -> (Power, Chip, Area) {
        let power = Power::new();
        let chip = Chip::with_size("external", &MX25R6435F, SIZE, &power);
        let area = chip.area(0, SIZE).unwrap();
        (power, chip, area)
    }

    fn read<U: Units>(area: &mut Area<U>, offset: u32, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        area.read(offset, &mut out).unwrap();
        out
    }

    #[test]
    fn a_program_clears_bits_and_an_erase_sets_them() {
        let (_, _, mut area) = chip();
        area.write(0x1000, &Buffer([0xA5; 8]).0).unwrap();
        assert_eq!(
            read(&mut area, 0xFFC, 16),
            [&[0xFF; 4][..], &[0xA5; 8], &[0xFF; 4]].concat()
        );
        area.write(0x1000, &Buffer([0x21; 8]).0).unwrap();
        area.erase(0x1000, 0x2000).unwrap();
        assert!(area.contents().iter().all(|b| *b == 0xFF));
    }

    #[test]
    fn setting_a_bit_is_an_error_but_the_other_bits_are_programmed() {
        let (_, _, mut area) = chip();
        area.write(0, &Buffer([0x0F, 0xFF, 0xFF, 0xFF]).0).unwrap();
        let error = area.write(0, &Buffer([0xF1, 0x12, 0x34, 0x56]).0).unwrap_err();
        assert_eq!(
            error,
            NorError::NotErased {
                address: 0,
                held: 0x0F,
                wanted: 0xF1
            }
        );
        assert_eq!(read(&mut area, 0, 4), [0x01, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn misaligned_address_length_and_buffer_are_refused_without_an_operation() {
        let (power, _, mut area) = chip();
        let bytes = Buffer([0; 12]).0;
        let buffer = Buffer(bytes);
        assert_eq!(
            area.write(2, &buffer.0[..4]).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(
            area.write(0, &buffer.0[..6]).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(area.write(0, &buffer.0[1..9]), Err(NorError::BufferNotAligned));
        assert_eq!(
            area.erase(0, 100).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(
            area.read(1, &mut [0; 4]).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(
            area.read(0, &mut [0; 3]).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(power.ops(), 0);
    }

    #[test]
    fn an_area_refuses_accesses_beyond_its_end() {
        let (_, chip, _) = chip();
        let mut area = chip.area(0x2000, 0x1000).unwrap();
        assert_eq!(
            area.write(0xFFC, &Buffer([0; 8]).0).unwrap_err().kind(),
            NorFlashErrorKind::OutOfBounds
        );
        assert_eq!(
            area.erase(0, 0x2000).unwrap_err().kind(),
            NorFlashErrorKind::OutOfBounds
        );
        assert_eq!(
            area.erase(0x1000, 0).unwrap_err().kind(),
            NorFlashErrorKind::OutOfBounds
        );
        assert_eq!(
            area.read(0x1000, &mut [0; 4]).unwrap_err().kind(),
            NorFlashErrorKind::OutOfBounds
        );
        assert_eq!(
            area.write(u32::MAX - 3, &Buffer([0; 4]).0).unwrap_err().kind(),
            NorFlashErrorKind::OutOfBounds
        );
        area.write(0, &Buffer([0; 4]).0).unwrap();
        assert_eq!(chip.contents()[0x2000..0x2004], [0; 4]);
        assert!(chip.area(0, SIZE + 4096).is_err());
        assert!(chip.area(100, 4096).is_err());
        assert!(chip.area(0xFFFF_F000, 0x2000).is_err());
    }

    #[test]
    fn a_write_is_one_operation_per_page_it_touches() {
        let (power, chip, mut area) = chip();
        area.write(0, &Buffer([0; 512]).0).unwrap();
        assert_eq!(power.ops(), 2);
        area.write(1024 + 128, &Buffer([0; 256]).0).unwrap();
        assert_eq!(power.ops(), 4);
        let stats = chip.stats();
        assert_eq!((stats.programs, stats.program_bytes), (4, 768));
    }

    #[test]
    fn an_erase_takes_the_biggest_commands_that_fit() {
        let (power, chip, mut area) = chip();
        // 4K up to 0x8000, 32K up to 0x10000, 64K, 32K, 4K.
        area.erase(0x6000, 0x29000).unwrap();
        let stats = chip.stats();
        assert_eq!((stats.erases_4k, stats.erases_32k, stats.erases_64k), (3, 2, 1));
        assert_eq!(stats.erased_bytes(), 0x23000);
        assert_eq!(power.ops(), 6);
        assert_eq!(chip.worst_wear(), 1);
    }

    #[test]
    fn the_biggest_command_is_chosen_by_the_address_on_the_chip() {
        let (_, chip, _) = chip();
        let mut area = chip.area(0x8000, 0x10000).unwrap();
        area.erase(0, 0x10000).unwrap();
        assert_eq!((chip.stats().erases_32k, chip.stats().erases_64k), (2, 0));
    }

    #[test]
    fn the_image_of_the_case_takes_the_time_on_the_performance_page() {
        let power = Power::new();
        let chip = Chip::new("external", &MX25R6435F, &power);
        let mut area = chip.area(0, 0x10_0000).unwrap();
        area.erase(0, 117 * 4096).unwrap();
        // 7 × 480 + 5 × 48 ms, and the commands on the bus.
        assert_eq!(chip.stats().busy_ns / 1_000_000, 3600);
        let before = chip.stats();
        let page = Buffer([0; 256]);
        for i in 0..1857 {
            area.write(i * 256, &page.0).unwrap();
        }
        let programs = chip.stats() - before;
        assert_eq!(programs.programs, 1857);
        assert_eq!(programs.busy_ns / 1_000_000, 1785);
        assert_eq!(power.now_ns(), chip.stats().busy_ns);
    }

    #[test]
    fn internal_flash_takes_85_ms_a_page_and_42_us_a_word() {
        let power = Power::new();
        let chip = Chip::with_size("internal", &NRF52840, 8192, &power);
        let mut area = chip.area(0, 8192).unwrap();
        area.erase(0, 4096).unwrap();
        assert_eq!(power.take_busy_ns(), 85_000_000);
        area.write(0, &Buffer([0; 4096]).0).unwrap();
        assert_eq!(power.take_busy_ns(), 1024 * 42_000);
        assert_eq!(power.ops(), 17);
    }

    #[test]
    fn worst_case_times_and_a_factor_apply() {
        let (power, chip, mut area) = chip();
        chip.set_times(Times::Maximum);
        area.erase(0, 4096).unwrap();
        assert_eq!(power.take_busy_ns() / 1_000_000, 384);
        chip.set_time_factor(2.0);
        area.erase(0, 4096).unwrap();
        assert_eq!(power.take_busy_ns() / 1_000_000, 768);
        chip.set_time_factor(0.0);
        area.erase(0, 4096).unwrap();
        assert_eq!(power.take_busy_ns(), 0);
    }

    #[test]
    fn reading_costs_bus_time() {
        let (power, chip, mut area) = chip();
        read(&mut area, 0, 4096);
        // 4 MB/s at 8 MHz on four lines.
        assert_eq!(power.take_busy_ns(), (4096 * 2 + 14) * 125);
        assert_eq!((chip.stats().reads, chip.stats().read_bytes), (1, 4096));
        assert_eq!(power.ops(), 0);
    }

    #[test]
    fn a_cut_before_an_operation_changes_nothing_and_silences_every_chip() {
        let power = Power::new();
        let external = Chip::with_size("external", &W25Q64, SIZE, &power);
        let internal = Chip::with_size("internal", &NRF52840, SIZE, &power);
        let (mut a, mut b) = (external.area(0, SIZE).unwrap(), internal.area(0, SIZE).unwrap());
        a.write(0, &Buffer([1; 4]).0).unwrap();
        power.cut_at(2, Tear::Before);
        b.write(0, &Buffer([2; 4]).0).unwrap();
        assert_eq!(a.write(256, &Buffer([3; 4]).0), Err(NorError::PowerOff));
        assert!(power.is_off());
        assert_eq!(b.erase(0, 4096), Err(NorError::PowerOff));
        assert_eq!(b.read(0, &mut [0; 4]), Err(NorError::PowerOff));
        assert_eq!(
            power.last_op().unwrap().to_string(),
            "operation 2: program 4 bytes at 0x000100 of external"
        );
        power.power_on();
        assert_eq!(read(&mut a, 256, 4), [0xFF; 4]);
        assert_eq!(read(&mut b, 0, 4), [2; 4]);
        a.write(256, &Buffer([3; 4]).0).unwrap();
        assert_eq!(power.ops(), 4);
    }

    #[test]
    fn a_torn_program_leaves_a_prefix_and_one_half_cleared_byte() {
        let mut seen_between = false;
        for seed in 0..20 {
            let (power, _, mut area) = chip();
            power.cut_at(0, Tear::Inside { fraction: 0.5, seed });
            assert_eq!(area.write(0, &Buffer([0x00; 256]).0), Err(NorError::PowerOff));
            power.power_on();
            let left = read(&mut area, 0, 256);
            assert_eq!(left[..128], [0; 128]);
            assert_eq!(left[129..], [0xFF; 127]);
            seen_between |= left[128] != 0 && left[128] != 0xFF;
        }
        assert!(seen_between);
    }

    #[test]
    fn a_torn_erase_leaves_a_prefix_a_border_and_the_old_rest() {
        let (power, _, mut area) = chip();
        for page in 0..32 {
            area.write(page * 256, &Buffer([0x5A; 256]).0).unwrap();
        }
        // The second block of the range: the first is erased whole.
        power.cut_at(
            power.ops() + 1,
            Tear::Inside {
                fraction: 0.25,
                seed: 7,
            },
        );
        assert_eq!(area.erase(0, 8192), Err(NorError::PowerOff));
        power.power_on();
        let left = read(&mut area, 0, 8192);
        assert!(left[..4096 + 1024].iter().all(|b| *b == 0xFF));
        let border = &left[4096 + 1024..4096 + 1024 + 256];
        assert!(border.iter().any(|b| *b != 0xFF && *b != 0x5A));
        assert!(left[4096 + 1024 + 256..].iter().all(|b| *b == 0x5A));
    }

    #[test]
    fn a_cut_at_the_very_end_leaves_the_whole_effect() {
        let (power, _, mut area) = chip();
        power.cut_at(
            0,
            Tear::Inside {
                fraction: 1.0,
                seed: 0,
            },
        );
        assert_eq!(area.write(0, &Buffer([9; 16]).0), Err(NorError::PowerOff));
        power.power_on();
        assert_eq!(read(&mut area, 0, 20), [&[9; 16][..], &[0xFF; 4]].concat());
    }

    #[test]
    fn an_injected_failure_hits_its_operation_only() {
        let (_, chip, mut area) = chip();
        chip.fail_at(1, Fault::Fail);
        area.write(0, &Buffer([1; 4]).0).unwrap();
        assert_eq!(
            area.write(4, &Buffer([1; 4]).0),
            Err(NorError::Failed { operation: 1 })
        );
        assert_eq!(read(&mut area, 0, 8), [1, 1, 1, 1, 255, 255, 255, 255]);
        area.write(4, &Buffer([1; 4]).0).unwrap();
    }

    #[test]
    fn a_missing_completion_costs_the_timeout_whether_or_not_the_work_was_done() {
        for work_done in [false, true] {
            let (power, chip, mut area) = chip();
            chip.fail_at(0, Fault::NoCompletion { work_done });
            let error = area.write(0, &Buffer([1; 4]).0).unwrap_err();
            assert_eq!(error.to_string(), "operation 0 did not complete within 500 ms");
            assert_eq!(power.take_busy_ns(), 500_000_000);
            assert_eq!(area.contents()[0] == 1, work_done);
            chip.set_driver_timeout_ns(20_000_000);
            chip.fail_at(1, Fault::NoCompletion { work_done });
            assert!(area.erase(0, 4096).is_err());
            assert_eq!(power.take_busy_ns(), 20_000_000);
        }
    }

    #[test]
    fn a_wrong_bit_is_only_found_by_reading_back() {
        let (_, chip, mut area) = chip();
        chip.fail_at(0, Fault::WrongBit);
        area.write(0, &Buffer([0x0F; 8]).0).unwrap();
        assert_ne!(read(&mut area, 0, 8), [0x0F; 8]);
    }

    #[test]
    fn a_unit_with_an_error_code_is_written_once_or_with_zeros() {
        let power = Power::new();
        let chip = Chip::with_size("internal", &STM32WB55, 8192, &power);
        let mut area: Area<UnitsOf<8, 4096>> = chip.area_of(0, 8192, 8, 4096).unwrap();
        area.write(8, &Buffer([0x0F; 8]).0).unwrap();
        let ops = power.ops();
        let error = area.write(0, &Buffer([0x0E; 16]).0).unwrap_err();
        assert_eq!(error, NorError::WrittenBefore { address: 8, unit: 8 });
        assert_eq!(read(&mut area, 0, 8), [0xFF; 8], "nothing of it is done");
        assert!(area.write(8, &Buffer([0x0F; 8]).0).is_err(), "nor the same bytes");
        assert_eq!(power.ops(), ops);
        area.write(8, &Buffer([0; 8]).0).unwrap();
        area.erase(0, 4096).unwrap();
        area.write(8, &Buffer([0x0E; 8]).0).unwrap();
        assert_eq!(
            area.write(4, &Buffer([0; 8]).0).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
        assert_eq!(
            area.write(16, &Buffer([0; 4]).0).unwrap_err().kind(),
            NorFlashErrorKind::NotAligned
        );
    }

    #[test]
    fn rram_needs_no_erase_and_a_torn_line_is_between_old_and_new() {
        let power = Power::new();
        let chip = Chip::with_size("internal", &NRF54L15, 4096, &power);
        let mut area: Area<UnitsOf<16, 4096>> = chip.area_of(0, 4096, 16, 4096).unwrap();
        area.write(0, &Buffer([0x0F; 16]).0).unwrap();
        area.write(0, &Buffer([0xF0; 16]).0).unwrap();
        assert_eq!(read(&mut area, 0, 16), [0xF0; 16]);
        let tear = Tear::Inside {
            fraction: 0.5,
            seed: 5,
        };
        power.cut_at(power.ops(), tear);
        assert_eq!(area.write(0, &Buffer([0x0F; 16]).0), Err(NorError::PowerOff));
        power.power_on();
        let left = read(&mut area, 0, 16);
        assert_eq!((&left[..8], &left[9..]), (&[0x0F; 8][..], &[0xF0; 7][..]));
        assert!(![0x00, 0x0F, 0xF0, 0xFF].contains(&left[8]), "{:#x}", left[8]);
    }

    #[test]
    fn units_unsupported_by_part_or_type_are_refused() {
        let power = Power::new();
        let chip = |part| Chip::with_size("internal", part, 16384, &power);
        let refused = |result: Option<NorError>| matches!(result, Some(NorError::Units { .. }));
        assert!(refused(chip(&STM32WB55).area(0, 4096).err()), "words");
        let finer = chip(&STM32WB55).area_of::<AnyUnits>(0, 4096, 4, 4096);
        assert!(refused(finer.err()));
        let smaller_pages = chip(&EFR32MG24).area_of::<Words>(0, 8192, 4, 4096);
        assert!(refused(smaller_pages.err()));
        let other_type = chip(&STM32WBA52).area_of::<UnitsOf<32, 8192>>(0, 8192, 16, 8192);
        assert!(refused(other_type.err()));
        // A driver may ask for more than the part.
        let chip = chip(&STM32WB55);
        let mut area = chip.area_of::<AnyUnits>(0, 16384, 16, 8192).unwrap();
        assert!(area.write(8, &Buffer([0; 16]).0).is_err() && area.erase(4096, 12288).is_err());
        area.erase(8192, 16384).unwrap();
        assert_eq!((chip.stats().erases_4k, chip.stats().erased_bytes()), (2, 8192));
        assert!(area.with_units::<UnitsOf<8, 8192>>().is_err());
        assert_eq!(
            area.with_units::<UnitsOf<16, 8192>>().unwrap().size(),
            area.size()
        );
    }

    #[test]
    fn pages_of_8_kib_are_counted_as_such() {
        let power = Power::new();
        let chip = Chip::with_size("internal", &STM32WBA52, 16384, &power);
        let mut area = chip.area_of::<UnitsOf<16, 8192>>(0, 16384, 16, 8192).unwrap();
        area.erase(0, 16384).unwrap();
        let stats = chip.stats();
        assert_eq!(
            (stats.erases_8k, stats.erases(), stats.erased_bytes()),
            (2, 2, 16384)
        );
        assert_eq!(chip.worst_wear(), 1);
    }

    #[test]
    fn a_dead_chip_answers_nothing() {
        let (_, chip, mut area) = chip();
        chip.set_dead(true);
        assert_eq!(area.read(0, &mut [0; 4]), Err(NorError::NoAnswer));
        assert_eq!(area.erase(0, 4096), Err(NorError::NoAnswer));
        chip.set_dead(false);
        area.erase(0, 4096).unwrap();
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("bledfu-nor-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_keeps_every_operation_and_belongs_to_one_process() {
        let folder = folder("file");
        let path = folder.join("internal.bin");
        let power = Power::new();
        let chip = Chip::open("internal", &NRF52840, &path, &power).unwrap();
        let mut area = chip.area(0x1000, 0x1000).unwrap();
        area.write(0, &Buffer([0x11; 8]).0).unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[0x1000..0x100A], {
            let mut want = [0x11; 10];
            want[8..].fill(0xFF);
            want
        });
        assert!(matches!(
            Chip::open("internal", &NRF52840, &path, &power),
            Err(OpenError::InUse { .. })
        ));
        power.cut_at(
            power.ops(),
            Tear::Inside {
                fraction: 0.5,
                seed: 1,
            },
        );
        area.erase(0, 0x1000).unwrap_err();
        let held = chip.contents();
        drop((chip, area));
        let again = Chip::open("internal", &NRF52840, &path, &Power::new()).unwrap();
        assert_eq!(again.contents(), held);
        drop(again);
        assert!(matches!(
            Chip::open("external", &MX25R6435F, &path, &power),
            Err(OpenError::WrongSize { .. })
        ));
        let error = Chip::open("x", &NRF52840, &folder.join("no/such.bin"), &power)
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("cannot open the flash file"));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn in_real_time_half_the_effect_is_in_the_file_during_the_sleep() {
        let folder = folder("real-time");
        let path = folder.join("internal.bin");
        let watched = path.clone();
        let power = Power::new();
        let chip = Chip::open("internal", &NRF52840, &path, &power).unwrap();
        chip.set_contents(0, &[0; 4096]).unwrap();
        chip.set_time_factor(4.0);
        power.set_real_time(true);
        let watcher = std::thread::spawn(move || {
            // Polls for the state between the two halves; the erase sleeps 340 ms there.
            for _ in 0..2000 {
                let now = std::fs::read(&watched).unwrap();
                if now[..2048].iter().all(|b| *b == 0xFF) && now[2048..4096].iter().all(|b| *b == 0) {
                    return true;
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            false
        });
        let mut area = chip.area(0, 4096).unwrap();
        area.erase(0, 4096).unwrap();
        assert!(watcher.join().unwrap());
        assert!(area.contents().iter().all(|b| *b == 0xFF));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
