// SPDX-License-Identifier: Apache-2.0
//! Access to any NOR flash within its limits: reads may be unaligned, and everything is programmed from word-aligned
//! RAM.
//!
//! Flash drivers refuse what their hardware cannot do: the Nordic QSPI peripheral moves whole words between
//! word-aligned flash and word-aligned RAM, and it cannot read a constant that lies in internal flash. So nothing in
//! this crate reads a single byte from a device or programs from a borrowed slice directly; it uses these helpers.

use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

/// Size of the bounce buffer of [`read_bytes`], in bytes; a multiple of every `READ_SIZE` in use.
const BOUNCE_SIZE: usize = 64;

/// The largest write unit a slot may have, in bytes (MCUboot's largest `BOOT_MAX_ALIGN`).
pub const MAX_WRITE_SIZE: usize = 32;

/// A RAM buffer aligned to four bytes, so that a word-wise DMA can read or fill it.
#[repr(align(4))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aligned<const N: usize>(pub [u8; N]);

impl<const N: usize> Aligned<N> {
    /// A buffer that reads like erased flash.
    pub const fn erased() -> Self {
        Self([0xFF; N])
    }
}

impl<const N: usize> Default for Aligned<N> {
    fn default() -> Self {
        Self::erased()
    }
}

/// True if every byte reads as erased NOR flash (`0xFF`); true for an empty slice.
pub fn is_erased(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0xFF)
}

/// Reads `out.len()` bytes from `offset`, for any `READ_SIZE` of the device and any alignment of `out`.
///
/// Aligned stretches go straight into `out`; ragged ends and unaligned memory pass through a 64-byte bounce buffer.
///
/// # Errors
/// The device's error; the device itself refuses a range outside of it.
pub fn read_bytes<F: ReadNorFlash>(flash: &mut F, offset: u32, out: &mut [u8]) -> Result<(), F::Error> {
    const { assert!(F::READ_SIZE > 0 && BOUNCE_SIZE.is_multiple_of(F::READ_SIZE)) };
    let mut at = offset;
    let mut rest = out;
    while !rest.is_empty() {
        let skip = at as usize % F::READ_SIZE;
        let whole = rest.len() - rest.len() % F::READ_SIZE;
        let word_aligned = rest.as_ptr().align_offset(core::mem::align_of::<u32>()) == 0;
        let done = if skip == 0 && whole > 0 && word_aligned {
            if let Some(part) = rest.get_mut(..whole) {
                flash.read(at, part)?;
            }
            whole
        } else {
            let mut bounce = Aligned::<BOUNCE_SIZE>::erased();
            let wanted = rest.len().min(BOUNCE_SIZE - skip);
            let span = (skip + wanted).next_multiple_of(F::READ_SIZE);
            if let Some(part) = bounce.0.get_mut(..span) {
                flash.read(at - skip as u32, part)?;
            }
            if let (Some(to), Some(from)) = (rest.get_mut(..wanted), bounce.0.get(skip..skip + wanted)) {
                to.copy_from_slice(from);
            }
            wanted
        };
        // An offset beyond u32 is beyond every device: saturating makes the next read fail there.
        at = at.saturating_add(done as u32);
        rest = rest.get_mut(done..).unwrap_or_default();
    }
    Ok(())
}

/// Programs a short value at `offset`, padded with erased bytes to a whole number of `unit` bytes.
///
/// `unit` is a power of two up to [`MAX_WRITE_SIZE`]; at most `MAX_WRITE_SIZE` bytes are written, from word-aligned RAM.
///
/// # Errors
/// The device's error.
pub fn program_padded<F: NorFlash>(
    flash: &mut F,
    offset: u32,
    value: &[u8],
    unit: u32,
) -> Result<(), F::Error> {
    let mut buffer = Aligned::<MAX_WRITE_SIZE>::erased();
    for (to, from) in buffer.0.iter_mut().zip(value) {
        *to = *from;
    }
    let length = value
        .len()
        .next_multiple_of((unit as usize).max(1))
        .min(MAX_WRITE_SIZE);
    match buffer.0.get(..length) {
        Some(bytes) => flash.write(offset, bytes),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_testkit::{Nor, Power};

    #[test]
    fn reads_any_range_into_any_memory() {
        let mut flash = Nor::<4>::new('p', 1, &Power::new());
        for (i, byte) in flash.bytes.iter_mut().enumerate() {
            *byte = (i * 7 + i / 256) as u8;
        }
        for offset in 0..70u32 {
            for length in [0, 1, 2, 3, 4, 5, 63, 64, 65, 200] {
                for shift in 0..4 {
                    let mut memory = Aligned([0; 256]);
                    read_bytes(&mut flash, offset, &mut memory.0[shift..shift + length]).unwrap();
                    let start = offset as usize;
                    assert_eq!(
                        memory.0[shift..shift + length],
                        flash.bytes[start..start + length]
                    );
                }
            }
        }
    }

    #[test]
    fn refuses_ranges_outside_the_device() {
        let mut flash = Nor::<4>::new('p', 1, &Power::new());
        assert!(read_bytes(&mut flash, 4095, &mut [0; 2]).is_err());
        assert!(read_bytes(&mut flash, u32::MAX, &mut [0; 2]).is_err());
        assert!(read_bytes(&mut flash, u32::MAX - 3, &mut [0; 64]).is_err());
        assert!(read_bytes(&mut flash, 4095, &mut [0; 1]).is_ok());
    }

    #[test]
    fn short_values_are_filled_with_erased_bytes() {
        let mut flash = Nor::<8>::new('p', 1, &Power::new());
        program_padded(&mut flash, 8, &[1], 8).unwrap();
        assert_eq!(flash.bytes[8..16], [1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(is_erased(&flash.bytes[16..]) && is_erased(&[]));
    }
}
