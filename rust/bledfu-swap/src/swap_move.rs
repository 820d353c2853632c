// SPDX-License-Identifier: Apache-2.0
//! Swap using move (MCUboot `swap_move.c`): it needs no spare area, only one free sector after the primary image.
//!
//! # What happens
//! `A` is the image in the primary slot, `B` the one in the secondary, both of three sectors; `F` is a trailer sector.
//!
//! | Step | Primary | Secondary | Record |
//! |---|---|---|---|
//! | a request was made | `A1 A2 A3 - F` | `B1 B2 B3 - F(magic)` | |
//! | 1. revert only: write the request into the secondary | `A1 A2 A3 - F` | `B1 B2 B3 - F(image_ok, size, magic)` | |
//! | 2. write the job into the primary trailer, magic last | `A1 A2 A3 - F(job)` | `B1 B2 B3 - F(magic)` | |
//! | 3. erase the secondary trailer: **the point of no return** | `A1 A2 A3 - F(job)` | `B1 B2 B3 -` | |
//! | 4. move up, highest sector first | `A1 A2 A3 A3 F` | `B1 B2 B3 -` | 0 |
//! | | `A1 A2 A2 A3 F` | `B1 B2 B3 -` | 1 |
//! | | `A1 A1 A2 A3 F` | `B1 B2 B3 -` | 2 |
//! | 5. exchange, lowest sector first | `B1 A1 A2 A3 F` | `B1 B2 B3 -` | M |
//! | | `B1 A1 A2 A3 F` | `A1 B2 B3 -` | M+1 |
//! | | `B1 B2 A2 A3 F` | `A1 B2 B3 -` | M+2 |
//! | | ... | ... | ... |
//! | | `B1 B2 B3 A3 F` | `A1 A2 A3 -` | M+5 |
//! | 6. revert and permanent: `image_ok`; then `copy_done` | `B1 B2 B3 A3 F(done)` | `A1 A2 A3 -` | |
//!
//! # Why a power cut cannot hurt
//! * **Steps 4 and 5.** Every row is one erase and one copy. The erased sector is one whose contents are in two places,
//!   or have just been copied elsewhere. Its record is written only after the copy; until then the unit is done again
//!   from a source that nothing changes meanwhile. A torn record reads as written or as not written, and both are
//!   right.
//! * **Before step 3 begins** the request in the secondary trailer is complete, so the decision table starts over at
//!   step 1, whatever half-erased or half-written trailer it finds in the primary slot: a job counts only if there is
//!   no request.
//! * **Inside step 3** the torn erase may leave the magic of the secondary intact while its flags are erased, torn or
//!   random. The table would then turn a permanent request into a test, turn a revert into a test, or see nothing at
//!   all. So a magic in the secondary does not count if the primary trailer holds a complete job, without records, for
//!   exactly these two images, and the secondary does not hold another request: then the job is resumed, never written
//!   anew. (MCUboot starts over here, and follows the torn flags.)
//! * **Inside step 1** the revert is still due in the primary trailer. Whatever is in the secondary trailer, the
//!   request is written again until its magic is complete. From then on it reads as a permanent request for the old
//!   image.
//! * **Inside step 6** a torn `copy_done` is neither set nor erased. If all records are there and the secondary has no
//!   magic, it can only be the result of this step, and is written again. (MCUboot leaves it, and a test image would
//!   never be reverted.) Where write units are too wide to be written twice, it counts as set.
//! * **Stale or foreign trailers.** A job is resumed only if it has a stored swap type, a size within the layout,
//!   records that such a job can have, and image headers where those records put them. Anything else is not a job.

use bledfu_slot::layout::TrailerLayout;
use bledfu_slot::trailer::{erase_trailer, write_image_ok, write_magic, write_swap_info, write_swap_size};
use bledfu_slot::{Algorithm, Direction, Flag, Layout, Magic, SwapType, Trailer, Transform};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{
    not_kept, rewrite, rewrite_within, try_rewrite, At, Flash, Installer, Job, Progress, Slots, Status,
    SwapError, Through,
};
use crate::job::{self, has_header, is_torn};
use crate::status::records_until;
use crate::trust;

/// Swap using move.
pub struct SwapMove;

/// Units of work for `count` sectors: each is moved once and exchanged in two halves.
const fn units(count: u32) -> u32 {
    3 * count
}

/// The record of a unit: moves use the first M records, exchanges the ones after them.
const fn record_of(unit: u32, count: u32, layout: &TrailerLayout) -> u32 {
    if unit < count {
        unit
    } else {
        layout.max_sectors() + (unit - count)
    }
}

/// Number of units recorded for a job over `count` sectors; `None` if the records cannot belong to such a job.
///
/// Gaps are allowed: a record that could not be written does not stop a swap.
fn units_done<F: Flash>(
    flash: &mut F,
    layout: &TrailerLayout,
    count: u32,
) -> Result<Option<u32>, NorFlashErrorKind> {
    let moves = layout.max_sectors();
    let highest = records_until(flash, layout, 0, layout.record_count())?;
    if highest <= count {
        return Ok(Some(highest));
    }
    if highest <= moves || highest > moves + 2 * count {
        return Ok(None);
    }
    // No boot stage moves more sectors than the job has.
    if records_until(flash, layout, count, moves)? != count {
        return Ok(None);
    }
    Ok(Some(count + (highest - moves)))
}

/// True if both headers are where they must be when `done` units of the job are recorded.
fn headers_in_place<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    count: u32,
    done: u32,
) -> Result<bool, SwapError> {
    let sector = slots.layout.primary().sector_size;
    let exchanged = done.saturating_sub(count);
    // The sector with the header is the last one moved and the first one exchanged.
    let (in_primary, in_secondary): (&[u32], bool) = match (done < count, exchanged) {
        (true, _) => (&[0], true),
        (false, 0) => (&[sector], true),
        (false, 1) => (&[0, sector], false),
        _ => (&[0], true),
    };
    for offset in in_primary {
        if !has_header(slots.primary, *offset).map_err(SwapError::Primary)? {
            return Ok(false);
        }
    }
    Ok(!in_secondary || has_header(slots.secondary, 0).map_err(SwapError::Secondary)?)
}

impl Installer for SwapMove {
    const NAME: Algorithm = Algorithm::SwapMove;
    const REVERTS: bool = true;
    const BOOTSTRAPS: bool = false;

    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, SwapError> {
        let layout = slots.layout.primary_trailer();
        let Some(job) = job::stored(primary, &slots.layout) else {
            return Ok(Status::Idle);
        };
        let count = job.size.div_ceil(layout.sector_size());
        let Some(done) = units_done(slots.primary, &layout, count).map_err(SwapError::Primary)? else {
            return Ok(Status::Idle);
        };
        let job = trust::settle(&slots.rules, job, done);
        let done = job.done;
        if done == 0 {
            let image_ok = job.swap_type != SwapType::Test;
            return job::untouched::<Self, _, _, _, _>(slots, job, primary, secondary, image_ok);
        }
        let torn = primary.copy_done == Flag::Bad;
        if done > units(count)
            || secondary.magic == Magic::Good
            || (torn
                && (done != units(count) || !is_torn(slots.primary, &layout).map_err(SwapError::Primary)?))
            || !headers_in_place(slots, count, done)?
        {
            return Ok(Status::Idle);
        }
        Ok(Status::Underway(job))
    }

    fn install_size(primary: u32, secondary: u32) -> u32 {
        primary.max(secondary)
    }

    fn units(layout: &Layout, size: u32) -> u32 {
        units(size.div_ceil(layout.primary().sector_size))
    }

    fn install<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        job: &Job,
    ) -> Result<(), SwapError> {
        let layout = slots.layout.primary_trailer();
        let count = job.size.div_ceil(layout.sector_size());
        if !job.committed {
            if job.swap_type == SwapType::Revert {
                prepare_revert(slots, job).map_err(SwapError::Secondary)?;
            }
            commit(slots, job).map_err(SwapError::Primary)?;
        }
        // Also for a job that goes on: a torn magic there may read as a request only at a later boot.
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.secondary, &slots.layout.secondary_trailer()).map_err(SwapError::Secondary)?;
        if job.done > 0 {
            job::strengthen(slots, record_of(job.done - 1, count, &layout));
        }
        for unit in job.done..units(count) {
            let state = do_unit(slots, unit, count)?;
            job::record(slots, record_of(unit, count, &layout), state);
            trust::unit_done(slots, unit)?;
        }
        job::finish(slots.primary, &layout, job.swap_type).map_err(SwapError::Primary)
    }
}

/// Step 1: from here on the secondary slot requests that its own image is installed.
fn prepare_revert<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Result<(), NorFlashErrorKind> {
    let layout = slots.layout.secondary_trailer();
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.secondary, &layout)?;
    write_image_ok(slots.secondary, &layout)?;
    write_swap_size(slots.secondary, &layout, job.size)?;
    write_magic(slots.secondary, &layout)
}

/// Step 2: writes the job, and last the magic that makes it count.
fn commit<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Result<(), NorFlashErrorKind> {
    let layout = slots.layout.primary_trailer();
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.primary, &layout)?;
    write_swap_info(slots.primary, &layout, job.swap_type)?;
    if job.swap_type != SwapType::Test {
        write_image_ok(slots.primary, &layout)?;
    }
    write_swap_size(slots.primary, &layout, job.size)?;
    write_magic(slots.primary, &layout)
}

/// Steps 4 and 5: erases and copies one sector. Returns the state number for its record.
fn do_unit<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    unit: u32,
    count: u32,
) -> Result<u8, SwapError> {
    let size = slots.layout.primary().sector_size;
    let Slots {
        primary,
        secondary,
        transform,
        watch,
        failed_records,
        ..
    } = slots;
    let mut tick = || {
        watch(Progress::Install {
            step: unit,
            steps: units(count),
        })
    };
    tick();
    if unit < count {
        let to = (count - unit) * size;
        rewrite_within(*primary, to - size, to, size, &mut tick).map_err(SwapError::Primary)?;
        return Ok(1);
    }
    let at = (unit - count) / 2 * size;
    if (unit - count).is_multiple_of(2) {
        rewrite(
            At(*secondary, at, SwapError::Secondary),
            At(*primary, at, SwapError::Primary),
            size,
            Through(*transform, Direction::Inward, at),
            &mut |primary: &mut P, _: &mut dyn FnMut()| primary.erase(at, at + size),
            &mut tick,
        )?;
        Ok(1)
    } else {
        let kept = try_rewrite(
            At(*primary, at + size, SwapError::Primary),
            At(*secondary, at, SwapError::Secondary),
            size,
            Through(*transform, Direction::Outward, at),
            &mut |secondary: &mut S, _: &mut dyn FnMut()| secondary.erase(at, at + size),
            &mut tick,
        )?;
        not_kept(failed_records, kept);
        Ok(2)
    }
}
