// SPDX-License-Identifier: Apache-2.0
//! What the swaps with status records share: finding a job in the primary trailer, recording its progress, and ending
//! it.

use bledfu_slot::flash::{is_erased, program_padded, read_bytes, Aligned, MAX_WRITE_SIZE};
use bledfu_slot::layout::TrailerLayout;
use bledfu_slot::trailer::{is_mendable, repair_flag, write_copy_done, write_image_ok};
use bledfu_slot::verify::{image_size, read_header};
use bledfu_slot::{Flag, Layout, Magic, SwapType, Trailer, Transform, VerifyError};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{Flash, Installer, Job, Slots, Status, SwapError};
use crate::status::{read_record, write_record};

/// The job that the primary trailer holds, if its fields can belong to one. How much of the job is done is not known
/// here.
pub fn stored(primary: &Trailer, layout: &Layout) -> Option<Job> {
    let (swap_type, size) = (primary.swap_type(), primary.swap_size);
    let sane = primary.magic == Magic::Good
        && primary.copy_done != Flag::Set
        && swap_type != SwapType::None
        && primary.image_number() == layout.image_number()
        && size != 0
        && size <= layout.max_image_size();
    sane.then_some(Job {
        swap_type,
        size,
        committed: true,
        done: 0,
    })
}

/// Whether `job`, which has no recorded unit, is to be resumed. Both images are still complete, so the job must fit
/// them. Its flags must be as they were written; `image_ok` says whether that flag must be set.
///
/// # Errors
/// The secondary slot could not be read.
pub fn untouched<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: Job,
    primary: &Trailer,
    secondary: &Trailer,
    image_ok: bool,
) -> Result<Status, SwapError> {
    let source = A::source(&slots.layout, job.swap_type);
    let needed = A::install_size(
        size_of(slots.primary, 0, slots.layout.primary().slot_size).map_err(SwapError::Primary)?,
        size_of(slots.secondary, source, slots.layout.secondary().slot_size).map_err(SwapError::Secondary)?,
    );
    let image_ok = if image_ok { Flag::Set } else { Flag::Unset };
    let pending = secondary.magic == Magic::Good;
    if primary.copy_done != Flag::Unset
        || primary.image_ok != image_ok
        || needed > job.size
        || (pending && needed != job.size)
    {
        return Ok(Status::Idle);
    }
    // A magic in the secondary slot is what remains of the request for this job, unless it is a complete request of
    // another kind.
    if pending && secondary.swap_type() != SwapType::None && secondary.swap_type() != job.swap_type {
        let layout = slots.layout.secondary_trailer();
        if is_whole(slots.secondary, &layout).map_err(SwapError::Secondary)? {
            return Ok(Status::Idle);
        }
    }
    Ok(Status::Committed(job))
}

/// Whether a request is as applications write it, and not the remains of a torn erase. Such remains may by chance look
/// like flags or a swap type, but then the bytes next to them are random.
///
/// # Errors
/// The flash's error.
pub fn is_whole<F: Flash>(flash: &mut F, layout: &TrailerLayout) -> Result<bool, NorFlashErrorKind> {
    let mut fields = Aligned::<{ 4 * MAX_WRITE_SIZE }>::erased();
    let width = layout.max_align();
    let span = fields.0.get_mut(..4 * width as usize).unwrap_or_default();
    read_bytes(flash, layout.swap_info() - width, span)?;
    Ok(span
        .chunks_exact(width as usize)
        .all(|field| field.get(1..).is_some_and(is_erased))
        && span.first() == Some(&0xFF))
}

/// Whether the remaining bytes of both flag fields in the primary trailer are erased. If they are not, a driver may
/// refuse to write a confirmation there.
///
/// # Errors
/// The flash's error.
pub fn flags_can_be_written<F: Flash>(
    flash: &mut F,
    layout: &TrailerLayout,
) -> Result<bool, NorFlashErrorKind> {
    let mut fields = Aligned::<{ 2 * MAX_WRITE_SIZE }>::erased();
    let width = layout.max_align() as usize;
    let span = fields.0.get_mut(..2 * width).unwrap_or_default();
    read_bytes(flash, layout.copy_done(), span)?;
    Ok(span
        .chunks_exact(width)
        .all(|field| field.get(1..).is_some_and(is_erased)))
}

/// Total size of the image at `start`, 0 if there is none; an error only if the flash failed.
pub fn size_of<F: Flash>(flash: &mut F, start: u32, slot_size: u32) -> Result<u32, NorFlashErrorKind> {
    match image_size(flash, start, slot_size) {
        Ok(size) => Ok(size),
        Err(VerifyError::Flash(error)) => Err(error),
        Err(_) => Ok(0),
    }
}

/// True if there is an image header; an error only if the flash failed.
pub fn has_header<F: Flash>(flash: &mut F, offset: u32) -> Result<bool, NorFlashErrorKind> {
    match read_header(flash, offset) {
        Ok(_) => Ok(true),
        Err(VerifyError::Flash(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// Size of the image at `offset` without its unprotected TLVs, from its header; `None` if there is no header.
pub fn hashed_size<F: Flash>(flash: &mut F, offset: u32) -> Result<Option<u32>, NorFlashErrorKind> {
    match read_header(flash, offset) {
        Ok(header) => Ok(header.hashed_size().ok()),
        Err(VerifyError::Flash(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Whether `copy_done` was torn and can be completed.
pub fn is_torn<F: Flash>(flash: &mut F, layout: &TrailerLayout) -> Result<bool, NorFlashErrorKind> {
    is_mendable(flash, layout, layout.copy_done())
}

/// Writes a status record of the primary slot.
///
/// If the flash refuses the record, the job goes on: that is the better way to a bootable image (MCUboot does the
/// same), and the image is verified in the end. Without its record a unit would only be done again.
pub fn record<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    index: u32,
    state: u8,
) {
    if write_record(slots.primary, &slots.layout.primary_trailer(), index, state).is_err() {
        slots.failed_records = slots.failed_records.saturating_add(1);
    }
}

/// Widest write unit that a NOR flash takes the same bytes for twice.
const TWICE: u32 = 4;

/// Programs the last record that was found once more, before the job goes on: torn by a cut, it might read as erased at the next
/// boot, and the unit would be done again when its source is gone. Where there is evidence, that tells instead. Wider units have
/// error correction, which takes no second write.
pub fn strengthen<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>, index: u32) {
    let layout = slots.layout.primary_trailer();
    let unit = layout.status_unit();
    let offset = layout.status_start() + index * unit;
    if slots.rules.is_kept || unit > TWICE || index >= layout.record_count() {
        return;
    }
    // It reads as written, or a later one does. If it is not taken, it stays as it was.
    if let Ok([state, ..]) = read_record(slots.primary, offset, unit) {
        if state != 0xFF {
            let _ = program_padded(slots.primary, offset, &[state], unit);
        }
    }
}

/// Writes the final flags: `image_ok` unless the image is on trial, then `copy_done`.
pub fn finish<F: Flash>(
    flash: &mut F,
    layout: &TrailerLayout,
    swap_type: SwapType,
) -> Result<(), NorFlashErrorKind> {
    let trailer = Trailer::read(flash, layout)?;
    match trailer.image_ok {
        Flag::Unset if swap_type != SwapType::Test => write_image_ok(flash, layout)?,
        Flag::Bad => {
            repair_flag(flash, layout, layout.image_ok())?;
        }
        _ => {}
    }
    match trailer.copy_done {
        Flag::Set => {}
        Flag::Unset => write_copy_done(flash, layout)?,
        Flag::Bad => {
            repair_flag(flash, layout, layout.copy_done())?;
        }
    }
    Ok(())
}
