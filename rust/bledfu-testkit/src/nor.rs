// SPDX-License-Identifier: Apache-2.0
//! A NOR flash in RAM.

use std::ops::Range;
use std::rc::Rc;

use embedded_storage::nor_flash::{
    check_erase, check_read, check_write, ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::hostile::{Misreads, WeakCells};
use crate::power::{Op, Power, Tear};
use crate::random::Random;

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NorError {
    /// The supply is off.
    PowerLost,
    /// The chip does not respond, or this operation was set to fail.
    Broken,
    /// The caller broke a rule of the flash.
    Misuse(NorFlashErrorKind),
}

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Misuse(kind) => *kind,
            _ => NorFlashErrorKind::Other,
        }
    }
}

/// The erase unit of most parts, in bytes.
pub const SECTOR: usize = 4096;

/// A NOR flash in RAM with write units of `W` bytes (a power of two up to 32) and sectors of `E` bytes: programming
/// only clears bits, erasing sets all bits of a sector.
///
/// It panics where a real part would silently store wrong data: when a bit would have to be set, or when a buffer is
/// not word-aligned. Its power can fail before or inside any operation, see [`Power::cut_at`].
#[derive(Debug)]
pub struct Nor<const W: usize, const E: usize = SECTOR> {
    /// Its name in recorded operations.
    pub chip: char,
    /// The content of the cells.
    pub bytes: Vec<u8>,
    /// The supply, which other chips may share.
    pub power: Rc<Power>,
    /// The chip does not respond.
    pub broken: bool,
    /// Reads that touch this range fail.
    pub refuse_reads: Range<u32>,
    /// Writes that start in this range fail and change nothing.
    pub refuse_writes: Range<u32>,
    /// Programming leaves bits that would have to be set at 0, as a real part does; otherwise such a write panics.
    pub lenient: bool,
    /// A write unit may be programmed only once between two erases, as in a flash with error correction; a second time
    /// panics.
    pub program_once: bool,
    /// Zeros may be programmed over anything all the same, as on most of such parts.
    pub takes_zeros: bool,
    /// Which bytes read differently each time: those of operations cut inside, if the [supply](Power::set_weak) asks
    /// for it.
    pub weak: WeakCells,
    /// Which reads return wrong bytes.
    pub misreads: Misreads,
}

impl<const W: usize> Nor<W> {
    /// An erased flash of this many sectors of [`SECTOR`] bytes.
    #[must_use]
    pub fn new(chip: char, sectors: usize, power: &Rc<Power>) -> Self {
        Self::with_erase_size(chip, sectors, power)
    }
}

impl<const W: usize, const E: usize> Nor<W, E> {
    /// An erased flash of this many sectors of `E` bytes.
    #[must_use]
    pub fn with_erase_size(chip: char, sectors: usize, power: &Rc<Power>) -> Self {
        const { assert!(W.is_power_of_two() && W <= 32 && E.is_multiple_of(W)) };
        Self {
            chip,
            bytes: vec![0xFF; sectors * E],
            power: power.clone(),
            broken: false,
            refuse_reads: 0..0,
            refuse_writes: 0..0,
            lenient: false,
            program_once: false,
            takes_zeros: false,
            weak: WeakCells::new(),
            misreads: Misreads::none(),
        }
    }

    /// A copy of the content on another supply, including weak bytes, but without this flash's faults.
    #[must_use]
    pub fn fork(&self, power: &Rc<Power>) -> Self {
        let mut copy = Self::with_erase_size(self.chip, 0, power);
        copy.bytes = self.bytes.clone();
        copy.weak = self.weak.clone();
        copy
    }

    /// Writes bytes as a debugger would.
    pub fn load(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn check_power(&self) -> Result<(), NorError> {
        if self.power.is_off() {
            Err(NorError::PowerLost)
        } else if self.broken {
            Err(NorError::Broken)
        } else {
            Ok(())
        }
    }

    fn erase_sector(&mut self, sector: usize) -> Result<(), NorError> {
        self.check_power()?;
        let tear = self.power.begin(|| Op::Erase {
            chip: self.chip,
            sector: sector as u32,
        })?;
        let cells = &mut self.bytes[sector * E..(sector + 1) * E];
        match tear {
            None => {
                cells.fill(0xFF);
                self.weak.erased((sector * E) as u32, E as u32);
                return Ok(());
            }
            Some(Tear::Before) => {}
            Some(Tear::Inside { percent, .. }) if self.power.weak().is_some() => {
                if let Some(weak) = self.power.weak() {
                    let (at, fraction) = ((sector * E) as u32, f64::from(percent) / 100.0);
                    let boot = self.power.boots();
                    let kept = self.weak.torn_erase((at, cells), fraction, weak, boot);
                    cells.copy_from_slice(&kept);
                }
            }
            Some(Tear::Prefix { bytes, next }) => {
                cells[..bytes].fill(0xFF);
                if let Some(cell) = cells.get_mut(bytes) {
                    *cell = next;
                }
            }
            Some(Tear::Inside { percent, seed }) => tear_erase(cells, percent, seed),
        }
        Err(NorError::PowerLost)
    }

    /// Panics if a real part would store something other than `bytes`.
    fn check_cells(&self, offset: u32, bytes: &[u8]) {
        let cells = &self.bytes[offset as usize..offset as usize + bytes.len()];
        let rises = would_set_bits(cells, bytes);
        let length = bytes.len();
        assert!(
            self.lenient || !rises,
            "a bit would have to be set, write of {length} at {offset:#x}"
        );
        assert!(
            !self.program_once
                || self.takes_zeros && bytes.iter().all(|byte| *byte == 0)
                || cells.iter().all(|cell| *cell == 0xFF)
                    && !self.weak.any_in(offset..offset + bytes.len() as u32),
            "a unit is programmed again, write of {length} at {offset:#x}"
        );
    }
}

// Not generic, so that they are compiled here, with optimisation: whole campaigns pass through them.

/// Programs: no bit is set.
fn clear_bits(cells: &mut [u8], bytes: &[u8]) {
    for (cell, byte) in cells.iter_mut().zip(bytes) {
        *cell &= byte;
    }
}

fn would_set_bits(cells: &[u8], bytes: &[u8]) -> bool {
    let pairs = cells.iter().zip(bytes);
    pairs.fold(0, |set, (cell, byte)| set | (byte & !cell)) != 0
}

/// One of four ways in which an erase stops halfway.
fn tear_erase(cells: &mut [u8], percent: u8, seed: u64) {
    let size = cells.len();
    let mut random = Random::new(seed);
    let done = size * percent as usize / 100;
    match random.next() % 4 {
        // From low or from high addresses, with a ragged border.
        mode @ (0 | 1) => {
            let border = 8 + random.below(56);
            for i in 0..size {
                let at = if mode == 0 { i } else { size - 1 - i };
                if i < done {
                    cells[at] = 0xFF;
                } else if i < done + border {
                    cells[at] = if random.next() & 1 == 0 {
                        random.byte()
                    } else {
                        cells[at] | random.byte()
                    };
                }
            }
        }
        // All cells at once: some bits anywhere are set already.
        2 => {
            for cell in cells.iter_mut() {
                for bit in 0..8 {
                    if random.next() % 100 < u64::from(percent) {
                        *cell |= 1 << bit;
                    }
                }
            }
        }
        // Only a part in the middle is erased; both ends survive.
        _ => {
            let start = random.below((size - done).max(1));
            cells[start..start + done].fill(0xFF);
        }
    }
}

/// A program operation that stops halfway: no bit is set, and those near the border may not be cleared yet.
fn tear_program(cells: &mut [u8], bytes: &[u8], percent: u8, seed: u64) {
    let mut random = Random::new(seed);
    let done = bytes.len() * percent as usize / 100;
    for (i, (cell, byte)) in cells.iter_mut().zip(bytes).enumerate() {
        if i < done {
            *cell &= *byte;
        } else if i < done + 16 {
            *cell &= *byte | random.byte();
        }
    }
}

impl<const W: usize, const E: usize> ErrorType for Nor<W, E> {
    type Error = NorError;
}

impl<const W: usize, const E: usize> ReadNorFlash for Nor<W, E> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        check_read(self, offset, bytes.len()).map_err(NorError::Misuse)?;
        self.check_power()?;
        assert_eq!(
            bytes.as_ptr() as usize % 4,
            0,
            "the read buffer is not word-aligned"
        );
        let end = offset + bytes.len() as u32;
        self.power.begin_read()?;
        if offset < self.refuse_reads.end && self.refuse_reads.start < end {
            return Err(NorError::Broken);
        }
        bytes.copy_from_slice(&self.bytes[offset as usize..end as usize]);
        self.weak.read(offset, bytes, self.power.boots());
        self.misreads.read(offset, bytes);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const W: usize, const E: usize> NorFlash for Nor<W, E> {
    const WRITE_SIZE: usize = W;
    const ERASE_SIZE: usize = E;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        check_erase(self, from, to).map_err(NorError::Misuse)?;
        for sector in from as usize / E..to as usize / E {
            self.erase_sector(sector)?;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        check_write(self, offset, bytes.len()).map_err(NorError::Misuse)?;
        self.check_power()?;
        if self.refuse_writes.contains(&offset) {
            return Err(NorError::Broken);
        }
        assert_eq!(
            bytes.as_ptr() as usize % 4,
            0,
            "the write buffer is not word-aligned"
        );
        let tear = self.power.begin(|| Op::Write {
            chip: self.chip,
            offset,
            bytes: bytes.to_vec(),
        })?;
        self.check_cells(offset, bytes);
        let cells = &mut self.bytes[offset as usize..offset as usize + bytes.len()];
        match tear {
            None => {
                clear_bits(cells, bytes);
                if self.power.is_spoiled() {
                    if let Some(cell) = cells.iter_mut().find(|cell| **cell != 0) {
                        *cell &= *cell - 1;
                    }
                }
                self.weak.programmed(offset, bytes, false);
                return Ok(());
            }
            Some(Tear::Before) => {}
            Some(Tear::Inside { .. }) if self.power.weak().is_some() => {
                if let Some(weak) = self.power.weak() {
                    let boot = self.power.boots();
                    let torn = (offset, &*cells, bytes);
                    let kept = self.weak.torn_program(torn, false, weak, boot);
                    cells.copy_from_slice(&kept);
                }
            }
            Some(Tear::Prefix { bytes: done, next }) => {
                let done = done.min(bytes.len());
                clear_bits(&mut cells[..done], &bytes[..done]);
                if let (Some(cell), Some(byte)) = (cells.get_mut(done), bytes.get(done)) {
                    *cell &= *byte | next;
                }
            }
            Some(Tear::Inside { percent, seed }) => tear_program(cells, bytes, percent, seed),
        }
        Err(NorError::PowerLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{Choice, Weak};

    #[repr(align(4))]
    struct Words<const N: usize>([u8; N]);

    fn flash() -> Nor<4> {
        Nor::new('s', 2, &Power::new())
    }

    #[test]
    fn programming_clears_bits_and_erasing_sets_those_of_one_sector() {
        let mut flash = Nor::<8, 512>::with_erase_size('s', 3, &Power::new());
        assert_eq!(flash.capacity(), 1536);
        for at in [0, 512, 1024] {
            flash.write(at, &Words([0x0F; 8]).0).unwrap();
        }
        flash.write(512, &Words([0x0E; 8]).0).unwrap();
        assert_eq!(flash.bytes[512..520], [0x0E; 8]);
        flash.erase(512, 1024).unwrap();
        assert_eq!(flash.bytes[512..520], [0xFF; 8]);
        assert_eq!((flash.bytes[0], flash.bytes[1024]), (0x0F, 0x0F));
    }

    #[test]
    fn unaligned_calls_are_refused() {
        let mut flash = flash();
        let not_aligned = Err(NorError::Misuse(NorFlashErrorKind::NotAligned));
        assert_eq!(flash.write(2, &Words([0; 4]).0), not_aligned);
        assert_eq!(flash.write(0, &Words([0; 2]).0), not_aligned);
        assert_eq!(flash.read(0, &mut Words([0; 2]).0), not_aligned);
        assert_eq!(flash.erase(0, 512), not_aligned);
        let out_of_bounds = Err(NorError::Misuse(NorFlashErrorKind::OutOfBounds));
        assert_eq!(flash.write(8192, &Words([0; 4]).0), out_of_bounds);
        assert_eq!(flash.power.ops(), 0);
    }

    #[test]
    #[should_panic(expected = "a bit would have to be set, write of 4 at 0x8")]
    fn a_write_that_would_have_to_set_a_bit_panics() {
        let mut flash = flash();
        flash.load(8, &[0xF0; 4]);
        let _ = flash.write(8, &Words([0xF1; 4]).0);
    }

    #[test]
    fn a_lenient_flash_stores_what_a_real_part_would() {
        let mut flash = flash();
        flash.lenient = true;
        flash.load(8, &[0xF0; 4]);
        flash.write(8, &Words([0x3F; 4]).0).unwrap();
        assert_eq!(flash.bytes[8..12], [0x30; 4]);
    }

    #[test]
    #[should_panic(expected = "a unit is programmed again")]
    fn a_flash_with_error_correction_takes_a_unit_once() {
        let mut flash = flash();
        flash.program_once = true;
        flash.write(0, &Words([0xF0; 4]).0).unwrap();
        let _ = flash.write(0, &Words([0x00; 4]).0);
    }

    #[test]
    fn chosen_reads_fail_and_the_next_ones_do_not() {
        let mut flash = flash();
        flash.load(0, &[1, 2, 3, 4]);
        flash.power.fail_reads(1..2);
        let mut found = Words([0; 4]);
        let results: Vec<_> = (0..3).map(|_| flash.read(0, &mut found.0)).collect();
        assert_eq!(results, [Ok(()), Err(NorError::Broken), Ok(())]);
        assert_eq!((found.0, flash.power.reads()), ([1, 2, 3, 4], 3));
    }

    #[test]
    fn chosen_erases_and_programs_fail_and_do_nothing() {
        let mut flash = flash();
        flash.power.record();
        flash.power.fail_ops(0..2);
        let zeros = Words([0; 4]);
        assert_eq!(flash.write(0, &zeros.0), Err(NorError::Broken));
        assert_eq!(flash.erase(0, 4096), Err(NorError::Broken));
        assert_eq!(flash.bytes[..4], [0xFF; 4]);
        assert_eq!(flash.write(0, &zeros.0), Ok(()));
        assert_eq!(flash.erase(0, 4096), Ok(()));
        assert_eq!((flash.power.ops(), flash.power.recorded().len()), (4, 2));
    }

    #[test]
    fn a_program_is_spoiled_once_without_an_error() {
        let mut flash = flash();
        flash.power.spoil(1);
        for at in [0, 4, 8] {
            assert_eq!(flash.write(at, &Words([0x0C; 4]).0), Ok(()));
        }
        let spoiled = [8, 0x0C, 0x0C, 0x0C];
        assert_eq!(flash.bytes[..12], [[0x0C; 4], spoiled, [0x0C; 4]].concat());
    }

    #[test]
    fn a_bad_range_fails_every_access() {
        let mut flash = flash();
        flash.refuse_reads = 8..12;
        flash.refuse_writes = 4..5;
        let mut eight = Words([0; 8]);
        assert_eq!(flash.read(4, &mut eight.0), Err(NorError::Broken));
        assert_eq!(flash.read(0, &mut eight.0), Ok(()));
        assert_eq!(flash.read(12, &mut eight.0), Ok(()));
        assert_eq!(flash.write(4, &Words([0; 4]).0), Err(NorError::Broken));
        assert_eq!(flash.bytes[4..8], [0xFF; 4]);
    }

    #[test]
    fn a_cut_stops_all_chips_of_the_supply_until_power_is_on_again() {
        let power = Power::new();
        let (mut a, mut b) = (Nor::<4>::new('a', 1, &power), Nor::<4>::new('b', 1, &power));
        power.record();
        power.cut_at(1, Tear::Prefix { bytes: 2, next: 0xF0 });
        a.write(0, &Words([1; 4]).0).unwrap();
        assert_eq!(b.write(0, &Words([0; 4]).0), Err(NorError::PowerLost));
        assert_eq!(b.bytes[..4], [0, 0, 0xF0, 0xFF]);
        assert!(power.is_off());
        assert_eq!(a.erase(0, 4096), Err(NorError::PowerLost));
        assert_eq!(a.read(0, &mut Words([0; 4]).0), Err(NorError::PowerLost));
        power.on();
        a.erase(0, 4096).unwrap();
        let (offset, chip) = (0, 'a');
        let expected = [
            Op::Write {
                chip,
                offset,
                bytes: vec![1; 4],
            },
            Op::Write {
                chip: 'b',
                offset,
                bytes: vec![0; 4],
            },
            Op::Erase { chip, sector: 0 },
        ];
        assert_eq!((power.recorded(), power.ops()), (expected.to_vec(), 1));
    }

    #[test]
    fn a_torn_program_sets_no_bit_and_a_torn_erase_stays_in_its_sector() {
        for seed in 0..200 {
            for percent in [0, 25, 50, 75, 100] {
                let mut flash = flash();
                flash.load(0, &[0xA5; 4096]);
                flash.lenient = true;
                flash.power.cut_at(0, Tear::Inside { percent, seed });
                let mut wanted = Words([0; 256]);
                let mut random = Random::new(seed);
                wanted.0.fill_with(|| random.byte());
                assert!(flash.write(0, &wanted.0).is_err());
                for (cell, byte) in flash.bytes.iter().zip(&wanted.0) {
                    assert!(cell & !0xA5 == 0 && cell & byte == 0xA5 & byte);
                }
                assert_eq!(flash.bytes[256..4096], [0xA5; 3840]);
                flash.power.on();
                flash.load(0, &[0xA5; 4096]);
                flash.power.cut_at(0, Tear::Inside { percent, seed });
                assert!(flash.erase(0, 4096).is_err());
                assert_eq!(flash.bytes[4096..], [0xFF; 4096]);
            }
        }
    }

    #[test]
    fn a_cut_inside_leaves_weak_bytes_if_the_supply_asks_for_them() {
        let mut flash = flash();
        let choice = Choice::Boots(0b10);
        flash.power.set_weak(Some(Weak { choice, seed: 0 }));
        flash.power.cut_at(0, Tear::Inside { percent: 50, seed: 0 });
        assert!(flash.write(4, &Words([1; 4]).0).is_err());
        let read = |flash: &mut Nor<4>| {
            flash.power.on();
            let mut found = Words([0; 4]);
            flash.read(4, &mut found.0).map(|()| found.0)
        };
        assert_eq!(
            [read(&mut flash), read(&mut flash)],
            [Ok([0xFF; 4]), Ok([1; 4])],
            "erased at first, then written"
        );
        let copy = flash.fork(&Power::new());
        assert!(copy.weak.any_in(4..8) && !copy.weak.any_in(8..12));
        flash.write(4, &Words([1; 4]).0).unwrap();
        assert!(!flash.weak.any_in(4..8));
        let inside = Tear::Inside { percent: 50, seed: 0 };
        flash.power.cut_at(1, inside);
        assert!(flash.erase(0, 4096).is_err());
        assert_eq!([read(&mut flash), read(&mut flash)], [Ok([1; 4]), Ok([0xFF; 4])]);
        flash.erase(0, 4096).unwrap();
        assert!(!flash.weak.any_in(0..8192));
    }

    #[test]
    fn reads_return_wrong_bytes_where_the_test_asks_for_it() {
        let mut flash = flash();
        flash.misreads = Misreads {
            flipped: 1..2,
            stuck: vec![(8, 0x80)],
            ..Misreads::none()
        };
        let mut found = Words([0; 4]);
        flash.read(8, &mut found.0).unwrap();
        assert_eq!(found.0, [0x7F, 0xFF, 0xFF, 0xFF]);
        flash.read(0, &mut found.0).unwrap();
        let zeros: u32 = found.0.iter().map(|byte| byte.count_zeros()).sum();
        assert_eq!(zeros, 1);
    }

    #[test]
    fn a_fork_has_the_content_but_not_the_faults() {
        let mut flash = flash();
        flash.load(7, &[9]);
        flash.broken = true;
        flash.power.cut_at(0, Tear::Before);
        let mut copy = flash.fork(&Power::new());
        assert_eq!((copy.bytes.clone(), copy.chip), (flash.bytes.clone(), 's'));
        copy.erase(0, 4096).unwrap();
        assert_eq!(flash.bytes[7], 9);
    }
}
