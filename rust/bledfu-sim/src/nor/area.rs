// SPDX-License-Identifier: Apache-2.0
//! A partition of a chip, and its units.

use std::marker::PhantomData;

use embedded_storage::nor_flash::{
    check_erase, check_read, check_write, ErrorType, MultiwriteNorFlash, NorFlash, NorFlashErrorKind,
    ReadNorFlash,
};

use super::{Chip, NorError, WORD};

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
    pub(super) chip: Chip,
    pub(super) start: u32,
    pub(super) size: u32,
    pub(super) write: u32,
    pub(super) erase: u32,
    pub(super) units: PhantomData<U>,
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
