// SPDX-License-Identifier: Apache-2.0
//! A flash whose driver may lose a completion.
//!
//! When a driver stops waiting for a completion, nobody knows what the flash did: nothing, a part, or all of it. In the
//! case this project starts from, the code waited for ever. Here the flash is read, and if the operation was not done,
//! it is done once more. On NOR flash an erase, or a program of the same bytes, may be repeated without harm; where
//! write units are wide, a program may be repeated only if none of it was done.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::flash::{is_erased, read_bytes, Aligned};

/// Bytes compared at a time.
const CHUNK: usize = 256;

/// Wraps a flash: after a failed erase or program the flash is read, and the operation is tried once more if it was not
/// done after all.
#[derive(Clone, Debug)]
pub struct Retry<F>(pub F);

impl<F: ErrorType> ErrorType for Retry<F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Retry<F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Retry<F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        let Err(error) = self.0.erase(from, to) else {
            return Ok(());
        };
        if is_final(&error) {
            return Err(error);
        }
        // All of this reads through `self`, so that the functions below are compiled once for a flash, not twice.
        let done = blank(self, from, to)?;
        if done || self.0.erase(from, to).is_ok() || blank(self, from, to)? {
            return Ok(());
        }
        Err(error)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let Err(error) = self.0.write(offset, bytes) else {
            return Ok(());
        };
        if is_final(&error) {
            return Err(error);
        }
        if holds(self, offset, bytes)? {
            return Ok(());
        }
        let end = offset.saturating_add(bytes.len() as u32);
        if !programs_again::<F>() && !blank(self, offset, end)? {
            return Err(error);
        }
        if self.0.write(offset, bytes).is_ok() || holds(self, offset, bytes)? {
            return Ok(());
        }
        Err(error)
    }
}

/// Whether the same bytes may be programmed once more. Flash with write units above four bytes usually keeps an
/// error-correction code per unit, which a second write would break.
pub(crate) const fn programs_again<F: NorFlash>() -> bool {
    F::WRITE_SIZE <= 4
}

/// A call that breaks the rules of the flash will do so again.
fn is_final<E: NorFlashError>(error: &E) -> bool {
    matches!(
        error.kind(),
        NorFlashErrorKind::NotAligned | NorFlashErrorKind::OutOfBounds
    )
}

/// True when `from..to` reads all 0xFF.
///
/// # Errors
/// The flash's error.
pub fn blank<F: ReadNorFlash>(flash: &mut F, from: u32, to: u32) -> Result<bool, F::Error> {
    let mut chunk = Aligned([0; CHUNK]);
    let mut at = from;
    while at < to {
        let length = ((to - at) as usize).min(CHUNK);
        let bytes = chunk.0.get_mut(..length).unwrap_or_default();
        read_bytes(flash, at, bytes)?;
        if !is_erased(bytes) {
            return Ok(false);
        }
        at += length as u32;
    }
    Ok(true)
}

/// True when the flash reads `bytes` at `offset`.
fn holds<F: ReadNorFlash>(flash: &mut F, offset: u32, bytes: &[u8]) -> Result<bool, F::Error> {
    let mut chunk = Aligned([0; CHUNK]);
    let mut at = offset;
    for expected in bytes.chunks(CHUNK) {
        let read = chunk.0.get_mut(..expected.len()).unwrap_or_default();
        read_bytes(flash, at, read)?;
        if read != expected {
            return Ok(false);
        }
        at += expected.len() as u32;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_testkit::{Nor, Power};

    const BYTES: Aligned<32> = Aligned([0x5A; 32]);

    fn lost_before_it_was_done<const W: usize>() {
        let mut flash = Retry(Nor::<W>::new('s', 1, &Power::new()));
        flash.0.program_once = true;
        flash.0.power.fail_ops(0..1);
        assert_eq!(flash.write(64, &BYTES.0), Ok(()));
        assert_eq!(flash.0.bytes[64..96], BYTES.0);
        // It stays broken.
        flash.0.power.fail_ops(0..9);
        assert!(flash.write(128, &BYTES.0).is_err());
    }

    #[test]
    fn a_program_that_was_not_done_is_done_once_more_with_every_write_unit() {
        lost_before_it_was_done::<1>();
        lost_before_it_was_done::<4>();
        lost_before_it_was_done::<8>();
        lost_before_it_was_done::<32>();
    }

    #[test]
    fn a_wide_unit_that_was_touched_is_not_programmed_again() {
        let mut flash = Retry(Nor::<8>::new('s', 1, &Power::new()));
        flash.0.program_once = true;
        flash.0.bytes[64..72].fill(0x5B); // what a torn program may leave
        flash.0.power.fail_ops(0..1);
        assert!(flash.write(64, &BYTES.0).is_err());
        let mut narrow = Retry(Nor::<4>::new('s', 1, &Power::new()));
        narrow.0.bytes[64..72].fill(0x5B);
        narrow.0.power.fail_ops(0..1);
        narrow.0.lenient = true;
        assert_eq!(narrow.write(64, &BYTES.0), Ok(()));
    }
}
