// SPDX-License-Identifier: Apache-2.0
//! Status records: one is written after each unit of work, in order, so the highest one written shows how far a swap
//! got (MCUboot `swap_misc.c`, `swap_move.c`).
//!
//! ```text
//! record i, at status_start + i * W:   nn ff ff ..      nn = state number; a reader asks only whether it is erased
//! ```
//! A record torn in its first byte reads as erased, and the unit is done again; or it does not, and the unit was
//! complete before. Both are right. Swap using scratch checks every byte of its first three records, see there.

use bledfu_slot::flash::{program_padded, read_bytes, Aligned, MAX_WRITE_SIZE};
use bledfu_slot::TrailerLayout;
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

/// Number of bytes read at once; a multiple of every status unit.
const CHUNK: u32 = 64;

/// Writes record `index`, counted from zero.
///
/// # Errors
/// The flash's error.
pub fn write_record<F: NorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    index: u32,
    state: u8,
) -> Result<(), F::Error> {
    if index >= layout.record_count() {
        return Ok(()); // cannot happen: layouts hold three records for each of their sectors
    }
    let offset = layout.status_start() + index * layout.status_unit();
    program_padded(flash, offset, &[state], layout.status_unit())
}

/// A record that was not written.
pub const ERASED_RECORD: [u8; MAX_WRITE_SIZE] = [0xFF; MAX_WRITE_SIZE];

/// What [`read_record`] finds where a record with this state number was written.
pub const fn record_bytes(state: u8) -> [u8; MAX_WRITE_SIZE] {
    let mut bytes = ERASED_RECORD;
    bytes[0] = state;
    bytes
}

/// Reads a record of `unit` bytes; the rest of the result is filled with erased bytes.
///
/// # Errors
/// The flash's error.
pub fn read_record<F: ReadNorFlash>(
    flash: &mut F,
    offset: u32,
    unit: u32,
) -> Result<[u8; MAX_WRITE_SIZE], F::Error> {
    let mut bytes = ERASED_RECORD;
    read_bytes(flash, offset, bytes.get_mut(..unit as usize).unwrap_or_default())?;
    Ok(bytes)
}

/// Looks at records `from..to` and returns the index after the last one written; `from` if none is.
///
/// # Errors
/// The flash's error.
pub fn records_until<F: ReadNorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    from: u32,
    to: u32,
) -> Result<u32, F::Error> {
    let unit = layout.status_unit();
    let to = to.min(layout.record_count());
    let mut buffer = Aligned::<{ CHUNK as usize }>::erased();
    let mut highest = from;
    let mut index = from;
    while index < to {
        let count = (to - index).min(CHUNK / unit);
        let bytes = buffer.0.get_mut(..(count * unit) as usize).unwrap_or_default();
        read_bytes(flash, layout.status_start() + index * unit, bytes)?;
        for (i, first) in (index..).zip(bytes.iter().step_by(unit as usize)) {
            if *first != 0xFF {
                highest = i + 1;
            }
        }
        index += count;
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_slot::tlv::SliceFlash;
    use bledfu_slot::{Algorithm, Geometry};

    #[test]
    fn the_last_record_written_counts_whatever_its_value_and_gaps() {
        for unit in [1, 2, 4, 8, 16, 32] {
            let geometry = Geometry {
                slot_size: 0x10000,
                sector_size: 4096,
                write_size: unit,
            };
            let layout = TrailerLayout::new(Algorithm::SwapMove, geometry, unit, 32, 128).unwrap();
            let until = |records: &[u32], from, to| {
                let mut bytes = [0xFF; 0x10000];
                for record in records {
                    bytes[(layout.status_start() + record * unit) as usize] = 0x7B;
                }
                records_until(&mut SliceFlash(&bytes), &layout, from, to).unwrap()
            };
            assert_eq!(until(&[], 0, 384), 0);
            assert_eq!(until(&[0], 0, 384), 1);
            assert_eq!(until(&[0, 2, 70], 0, 384), 71);
            assert_eq!(until(&[383], 0, 384), 384);
            assert_eq!(until(&[383], 0, 383), 0);
            assert_eq!(until(&[2, 128], 3, 128), 3);
            assert_eq!(until(&[127], 3, 128), 128);
            assert_eq!(until(&[5], 3, u32::MAX), 6);
        }
    }
}
