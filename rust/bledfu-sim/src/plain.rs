// SPDX-License-Identifier: Apache-2.0
//! One slot as plain bytes, with the erase and write units of any device: used by `bledfu install`, and by `bledfu cut`
//! thousands of times. Without times; the power may be cut before or inside every operation.

use embedded_storage::nor_flash::{
    check_read, ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::hostile::{Misreads, WeakCells};
use crate::nor::{clear_bits, torn_erase, torn_program, torn_replace};
use crate::parts::Rewrite;
use crate::power::{OpKind, Power, Tear};

/// A slot with write unit `W`, unless it has [another](Plain::of_memory). One `write` is one operation, and so is the
/// erase of one sector.
#[derive(Clone)]
pub struct Plain<const W: usize> {
    /// Name in reports.
    pub name: &'static str,
    /// The slot's content.
    pub cells: Vec<u8>,
    /// Erases and bytes programmed.
    pub work: Work,
    /// Which bytes read differently each time.
    pub weak: WeakCells,
    /// Which reads return wrong bytes.
    pub misreads: Misreads,
    sector: u32,
    unit: usize,
    rewrite: Rewrite,
    power: Power,
}

/// Operations on a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Sectors erased.
    pub erases: u64,
    /// Bytes programmed.
    pub programmed: u64,
}

/// Why an operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    /// The power was cut.
    #[error("the power is off")]
    PowerOff,
    /// Outside the slot, or not a multiple of its units.
    #[error("the range does not fit the slot or its units")]
    Range(NorFlashErrorKind),
    /// A bit would have to go from 0 to 1.
    #[error("the bytes at {0:#x} are not erased")]
    NotErased(u32),
    /// A unit with error correction was to be written a second time.
    #[error("the bytes at {0:#x} were written before")]
    WrittenBefore(u32),
}

impl NorFlashError for PlainError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Range(kind) => *kind,
            Self::PowerOff | Self::NotErased(_) | Self::WrittenBefore(_) => NorFlashErrorKind::Other,
        }
    }
}

impl<const W: usize> Plain<W> {
    /// A slot with the content `cells`, with sectors of `sector` bytes.
    pub fn new(name: &'static str, cells: Vec<u8>, sector: u32, power: &Power) -> Self {
        Self {
            name,
            cells,
            work: Work::default(),
            weak: WeakCells::new(),
            misreads: Misreads::none(),
            sector,
            unit: W,
            rewrite: Rewrite::ClearsBits,
            power: power.clone(),
        }
    }

    /// The same slot in a memory of another kind. `unit` is a multiple of `W`.
    #[must_use]
    pub fn of_memory(self, unit: u32, rewrite: Rewrite) -> Self {
        Self {
            unit: unit as usize,
            rewrite,
            ..self
        }
    }

    /// An erased slot.
    pub fn erased(name: &'static str, size: u32, sector: u32, power: &Power) -> Self {
        Self::new(name, vec![0xFF; size as usize], sector, power)
    }

    /// Copies the content of `other`, in the power domain `power`. It reuses the slot's memory: campaigns do this a
    /// million times.
    pub fn become_copy(&mut self, other: &Self, power: &Power) {
        self.cells.clone_from(&other.cells);
        self.work = other.work;
        self.weak.clone_from(&other.weak);
        self.misreads.clone_from(&other.misreads);
        self.power = power.clone();
    }

    /// Whether the slot holds these bytes, and they read the same each time.
    pub fn holds(&self, offset: u32, bytes: &[u8]) -> bool {
        let cells = self.cells.get(offset as usize..).unwrap_or_default();
        cells.starts_with(bytes) && !self.weak.any_in(offset..offset + bytes.len() as u32)
    }

    /// Writes bytes as a debugger would.
    ///
    /// # Panics
    /// Beyond the slot.
    pub fn load(&mut self, offset: u32, bytes: &[u8]) {
        self.cells[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn check_power(&self) -> Result<(), PlainError> {
        match self.power.is_off() {
            true => Err(PlainError::PowerOff),
            false => Ok(()),
        }
    }

    /// Counts the operation; `Some` is the share of it that is done if the power is to be cut here.
    fn begin(&self, kind: OpKind, address: u32, length: usize) -> Option<(Option<usize>, u64)> {
        match self.power.begin(self.name, kind, address, length as u32)? {
            Tear::Before => Some((None, 0)),
            Tear::Inside { fraction, seed } => {
                let done = (length as f64 * fraction.clamp(0.0, 1.0)) as usize;
                Some((Some(done.min(length)), seed))
            }
        }
    }
}

impl<const W: usize> ErrorType for Plain<W> {
    type Error = PlainError;
}

impl<const W: usize> ReadNorFlash for Plain<W> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PlainError> {
        self.check_power()?;
        check_read(&*self, offset, bytes.len()).map_err(PlainError::Range)?;
        bytes.copy_from_slice(&self.cells[offset as usize..offset as usize + bytes.len()]);
        self.weak.read(offset, bytes, self.power.boots());
        self.misreads.read(offset, bytes);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.cells.len()
    }
}

impl<const W: usize> NorFlash for Plain<W> {
    const WRITE_SIZE: usize = W;
    // The real unit is the slot's, see `erase`.
    const ERASE_SIZE: usize = 1;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PlainError> {
        if !from.is_multiple_of(self.sector) || !to.is_multiple_of(self.sector) {
            return Err(PlainError::Range(NorFlashErrorKind::NotAligned));
        }
        if from > to || to as usize > self.cells.len() {
            return Err(PlainError::Range(NorFlashErrorKind::OutOfBounds));
        }
        for at in (from..to).step_by(self.sector as usize) {
            self.check_power()?;
            let cut = self.begin(OpKind::Erase, at, self.sector as usize);
            let cells = &mut self.cells[at as usize..(at + self.sector) as usize];
            match cut {
                None => {
                    cells.fill(0xFF);
                    self.weak.erased(at, self.sector);
                }
                Some((done, seed)) => {
                    if let (Some(done), Some(weak)) = (done, self.power.weak()) {
                        let fraction = done as f64 / f64::from(self.sector);
                        let boot = self.power.boots();
                        let kept = self.weak.torn_erase((at, cells), fraction, weak, boot);
                        cells.copy_from_slice(&kept);
                    } else if let Some(done) = done {
                        let (erased, rest) = cells.split_at_mut(done);
                        erased.fill(0xFF);
                        torn_erase(rest, seed);
                    }
                    self.power.cut_now();
                    return Err(PlainError::PowerOff);
                }
            }
            self.work.erases += 1;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PlainError> {
        self.check_power()?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        if !start.is_multiple_of(self.unit) || !end.is_multiple_of(self.unit) {
            return Err(PlainError::Range(NorFlashErrorKind::NotAligned));
        }
        if end > self.cells.len() {
            return Err(PlainError::Range(NorFlashErrorKind::OutOfBounds));
        }
        if self.rewrite == Rewrite::Refused {
            // The controller looks at what it reads: a weak unit may pass for an erased one.
            let mut held = self.cells[start..end].to_vec();
            self.weak.read(offset, &mut held, self.power.boots());
            let mut units = held.chunks(self.unit).zip(bytes.chunks(self.unit));
            if units.any(|(held, wanted)| {
                held.iter().any(|held| *held != 0xFF) && wanted.iter().any(|wanted| *wanted != 0)
            }) {
                return Err(PlainError::WrittenBefore(offset));
            }
        }
        let cut = self.begin(OpKind::Program, offset, bytes.len());
        let replaces = self.rewrite == Rewrite::Replaces;
        let cells = &mut self.cells[start..end];
        if let (Some((Some(_), _)), Some(weak)) = (cut, self.power.weak()) {
            let boot = self.power.boots();
            let kept = self
                .weak
                .torn_program((offset, cells, bytes), replaces, weak, boot);
            cells.copy_from_slice(&kept);
            self.power.cut_now();
            return Err(PlainError::PowerOff);
        }
        let done = match cut {
            None => bytes.len(),
            Some((done, _)) => done.unwrap_or(0),
        };
        let (written, wanted) = (&mut cells[..done], &bytes[..done]);
        if replaces {
            written.copy_from_slice(wanted);
        } else {
            clear_bits(written, wanted);
        }
        let broken = written != wanted;
        if let Some((torn, seed)) = cut {
            match torn {
                Some(_) if replaces => torn_replace(&mut cells[done..], &bytes[done..], seed),
                Some(_) => torn_program(&mut cells[done..], &bytes[done..], seed),
                None => 0,
            };
            self.power.cut_now();
            return Err(PlainError::PowerOff);
        }
        self.weak.programmed(offset, bytes, replaces);
        self.work.programmed += bytes.len() as u64;
        if broken {
            return Err(PlainError::NotErased(offset));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::{Choice, Weak};

    #[test]
    fn writes_only_clear_bits_and_erases_set_whole_sectors() {
        let power = Power::new();
        let mut slot = Plain::<4>::erased("p", 128, 64, &power);
        slot.write(4, &[0x0F; 8]).unwrap();
        assert_eq!(slot.write(4, &[0xF0; 4]), Err(PlainError::NotErased(4)));
        assert_eq!(slot.cells[4..12], [0, 0, 0, 0, 0x0F, 0x0F, 0x0F, 0x0F]);
        assert!(
            slot.erase(0, 32).is_err() && slot.erase(64, 192).is_err() && slot.write(2, &[0; 4]).is_err()
        );
        slot.erase(0, 64).unwrap();
        assert_eq!(slot.cells, [0xFF; 128]);
        assert_eq!((slot.work.erases, power.ops()), (1, 3));
    }

    #[test]
    fn other_memories_have_their_own_unit_and_rule() {
        let power = Power::new();
        let coded = Plain::<1>::erased("p", 64, 64, &power);
        let mut coded = coded.of_memory(8, Rewrite::Refused);
        assert!(coded.write(4, &[0; 4]).is_err() && coded.write(0, &[0; 12]).is_err());
        coded.write(8, &[0x0F; 8]).unwrap();
        assert_eq!(coded.write(0, &[0x0F; 16]), Err(PlainError::WrittenBefore(0)));
        assert_eq!(coded.cells[..8], [0xFF; 8]);
        coded.write(8, &[0; 8]).unwrap();
        let mut rram = Plain::<16>::erased("p", 64, 64, &power).of_memory(16, Rewrite::Replaces);
        rram.write(0, &[0x0F; 16]).unwrap();
        rram.write(0, &[0xF0; 16]).unwrap();
        assert_eq!(rram.cells[..16], [0xF0; 16]);
    }

    #[test]
    fn a_cut_leaves_weak_bytes_if_requested() {
        let power = Power::new();
        power.set_weak(Some(Weak {
            choice: Choice::Boots(0b01),
            seed: 1,
        }));
        let inside = Tear::Inside {
            fraction: 0.5,
            seed: 3,
        };
        let mut slot = Plain::<8>::erased("p", 64, 64, &power).of_memory(8, Rewrite::Refused);
        power.cut_at(0, inside);
        assert_eq!(slot.write(8, &[1; 8]), Err(PlainError::PowerOff));
        let mut found = [0; 8];
        power.power_on();
        slot.read(8, &mut found).unwrap();
        assert_eq!(found, [1; 8], "it reads as written at first");
        assert_eq!(slot.write(8, &[1; 8]), Err(PlainError::WrittenBefore(8)));
        power.power_on();
        slot.read(8, &mut found).unwrap();
        assert_eq!(found, [0xFF; 8], "then as erased");
        let mut copy = Plain::<8>::erased("q", 0, 64, &power).of_memory(8, Rewrite::Refused);
        copy.become_copy(&slot, &power);
        assert!(copy.weak.any_in(8..16));
        copy.erase(0, 64).unwrap();
        copy.write(8, &[1; 8]).unwrap();
        assert!(!copy.weak.any_in(0..64) && slot.weak.any_in(8..16));
        slot.write(8, &[1; 8]).unwrap();
        assert!(!slot.weak.any_in(0..64));
    }

    #[test]
    fn reads_return_wrong_bytes_where_requested() {
        let power = Power::new();
        let mut slot = Plain::<4>::new("s", vec![0; 64], 64, &power);
        slot.misreads.blank = 1..2;
        let mut found = [[0xAA; 4]; 3];
        for bytes in &mut found {
            slot.read(0, bytes).unwrap();
        }
        assert_eq!(found, [[0; 4], [0xFF; 4], [0; 4]]);
    }

    #[test]
    fn a_cut_leaves_what_was_done_and_damage_behind_it() {
        let power = Power::new();
        let mut slot = Plain::<4>::new("p", vec![0; 1024], 1024, &power);
        power.cut_at(
            0,
            Tear::Inside {
                fraction: 0.5,
                seed: 3,
            },
        );
        assert_eq!(slot.erase(0, 1024), Err(PlainError::PowerOff));
        assert_eq!(slot.erase(0, 1024), Err(PlainError::PowerOff));
        assert!(slot.read(0, &mut [0; 4]).is_err());
        assert_eq!(slot.cells[..512], [0xFF; 512]);
        assert!(slot.cells[512..768].iter().any(|cell| *cell != 0));
        assert_eq!(slot.cells[768..], [0; 256]);
        power.power_on();
        slot.erase(0, 1024).unwrap();
        power.cut_at(2, Tear::Before);
        assert_eq!(slot.write(0, &[1; 4]), Err(PlainError::PowerOff));
        assert_eq!(slot.cells, [0xFF; 1024]);
    }
}
