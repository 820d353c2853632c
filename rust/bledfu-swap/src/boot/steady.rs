// SPDX-License-Identifier: Apache-2.0
//! A wrapper for a flash whose driver may lose a completion; its errors are error kinds.

use bledfu_slot::retry::Retry;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

/// Tries a failed operation once more, reads too: a driver that loses a completion must not stop an install half-way
/// until the next reset, or keep it from beginning. It also turns the driver's errors into error kinds.
pub(crate) struct Steady<'a, F>(Retry<&'a mut F>);

impl<'a, F> Steady<'a, F> {
    pub(crate) fn new(flash: &'a mut F) -> Self {
        Self(Retry(flash))
    }
}

impl<F> ErrorType for Steady<'_, F> {
    type Error = NorFlashErrorKind;
}

impl<F: ReadNorFlash> ReadNorFlash for Steady<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let again = match self.0.read(offset, bytes) {
            Ok(()) => return Ok(()),
            Err(_) => self.0.read(offset, bytes),
        };
        again.map_err(|error| error.kind())
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Steady<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to).map_err(|error| error.kind())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes).map_err(|error| error.kind())
    }
}
