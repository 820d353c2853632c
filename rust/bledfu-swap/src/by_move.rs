// SPDX-License-Identifier: Apache-2.0
//! Swap using move (MCUboot `swap_move.c`): no spare area but one free sector at the end of the primary image.
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
//! * **Steps 4 and 5.** Every row is one erase and one copy of a sector whose contents stand in two places, or have just
//!   been copied on. Until its record is written the unit is done again from a source that nothing touches meanwhile; a
//!   record is written only after the copy. A torn record reads as written or not, and both are right.
//! * **Before step 3 begins** the request in the secondary trailer is whole, so the decision table starts over at step 1,
//!   whatever half-erased or half-written trailer it finds in the primary: a job counts only with no request beside it.
//! * **Inside step 3** the torn erase may leave the magic of the secondary standing while its flags are gone, torn or
//!   random. The table would then forget a permanent request, turn a revert into a test, or see nothing at all. So a
//!   magic in the secondary does not count if the primary trailer holds a complete job without records for exactly these
//!   two images, and the secondary does not hold another request: then the job is taken up, never written anew
//!   (MCUboot starts over here, with what the torn flags say).
//! * **Inside step 1** the revert is still due in the primary trailer: whatever stands in the secondary, it is prepared
//!   again, until its magic is whole. From there on the request reads as a permanent one for the old image.
//! * **Inside step 6** a torn `copy_done` is neither set nor erased. With all records there and no magic in the
//!   secondary it can only be that, and is written again (MCUboot leaves it, and a test image would never be reverted).
//! * **Stale or foreign trailers.** A job is taken up only with a stored swap type, a size within the layout, records
//!   that such a job can have, and image headers where those records say; anything else is no job.

use bledfu_slot::layout::TrailerLayout;
use bledfu_slot::trailer::{
    erase_trailer, repair_flag, write_copy_done, write_image_ok, write_magic, write_swap_info,
    write_swap_size,
};
use bledfu_slot::verify::{image_size, read_header};
use bledfu_slot::{Flag, Magic, SwapType, Trailer, VerifyError};
use embedded_storage::nor_flash::{NorFlash, ReadNorFlash};

use crate::status::{records_until, write_record};
use crate::steps::{copy, copy_within, Algorithm, Job, Progress, Slots, Status, StepError, SwapError};

/// Swap using move.
pub struct ByMove;

/// Units of work for `count` sectors: each is moved once and exchanged in two halves.
const fn units(count: u32) -> u32 {
    3 * count
}

/// Record of a unit: moves fill the first M records, exchanges start behind them.
const fn record_of(unit: u32, count: u32, layout: &TrailerLayout) -> u32 {
    if unit < count {
        unit
    } else {
        layout.max_sectors() + (unit - count)
    }
}

/// Number of units recorded for a job over `count` sectors; `None` if the records cannot be of such a job.
///
/// Gaps are no contradiction: a record that could not be written does not stop a swap.
fn units_done<F: ReadNorFlash>(
    flash: &mut F,
    layout: &TrailerLayout,
    count: u32,
) -> Result<Option<u32>, F::Error> {
    let moves = layout.max_sectors();
    let highest = records_until(flash, layout, 0, layout.record_count())?;
    if highest <= count {
        return Ok(Some(highest));
    }
    if highest <= moves || highest > moves + 2 * count {
        return Ok(None);
    }
    // Nobody moves more sectors than the job has.
    if records_until(flash, layout, count, moves)? != count {
        return Ok(None);
    }
    Ok(Some(count + (highest - moves)))
}

/// True if there is an image header; an error only if the flash failed.
fn has_header<F: ReadNorFlash>(flash: &mut F, offset: u32) -> Result<bool, F::Error> {
    match read_header(flash, offset) {
        Ok(_) => Ok(true),
        Err(VerifyError::Flash(error)) => Err(error),
        Err(_) => Ok(false),
    }
}

/// True if both headers are where a job with `done` of its units recorded has them.
fn headers_in_place<P: NorFlash, S: NorFlash>(
    slots: &mut Slots<'_, P, S>,
    count: u32,
    done: u32,
) -> Result<bool, StepError<P, S>> {
    let sector = slots.layout.primary().sector_size;
    let exchanged = done.saturating_sub(count);
    // The sector holding the first header is copied last when moving, and handed over first when exchanging.
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

/// Whether a magic in the secondary beside a job in the primary is left of the request for that very job.
///
/// Only a stored type of another kind speaks against it: imgtool and a prepared revert store none, and the flags are
/// what a torn erase takes first. A job that never came to an end can stand beside a new request only if something else
/// than an application wrote it, since every boot finishes or closes the job it finds.
fn is_same_request(job: &Trailer, request: &Trailer) -> bool {
    matches!(request.swap_type(), SwapType::None) || request.swap_type() == job.swap_type()
}

impl Algorithm for ByMove {
    const REVERTS: bool = true;
    const BOOTSTRAPS: bool = false;

    fn find<P: NorFlash, S: NorFlash>(
        slots: &mut Slots<'_, P, S>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, StepError<P, S>> {
        let layout = slots.layout.primary_trailer();
        let swap_type = primary.swap_type();
        let size = primary.swap_size;
        let limit = slots.layout.max_image_size();
        if primary.magic != Magic::Good
            || primary.copy_done == Flag::Set
            || swap_type == SwapType::None
            || size == 0
            || size > limit
        {
            return Ok(Status::Idle);
        }
        let count = size.div_ceil(layout.sector_size());
        let Some(done) = units_done(slots.primary, &layout, count).map_err(SwapError::Primary)? else {
            return Ok(Status::Idle);
        };
        let job = Job {
            swap_type,
            size,
            committed: true,
            done,
        };
        let pending = secondary.magic == Magic::Good;
        if done > 0 {
            let torn = primary.copy_done == Flag::Bad;
            if pending || (torn && done != units(count)) || !headers_in_place(slots, count, done)? {
                return Ok(Status::Idle);
            }
            return Ok(Status::Underway(job));
        }
        // No record: both images are whole, so the job must fit them, and its flags must be as step 2 writes them.
        let image_ok = if swap_type == SwapType::Test {
            Flag::Unset
        } else {
            Flag::Set
        };
        let needed = Self::install_size(
            image_size(slots.primary, 0, slots.layout.primary().slot_size).unwrap_or(0),
            image_size(slots.secondary, 0, slots.layout.secondary().slot_size).unwrap_or(0),
        );
        if primary.copy_done != Flag::Unset
            || primary.image_ok != image_ok
            || needed > size
            || (pending && (needed != size || !is_same_request(primary, secondary)))
        {
            return Ok(Status::Idle);
        }
        Ok(Status::Committed(job))
    }

    fn install_size(primary: u32, secondary: u32) -> u32 {
        primary.max(secondary)
    }

    fn install<P: NorFlash, S: NorFlash>(
        slots: &mut Slots<'_, P, S>,
        job: &Job,
    ) -> Result<(), StepError<P, S>> {
        let layout = slots.layout.primary_trailer();
        let count = job.size.div_ceil(layout.sector_size());
        if !job.committed {
            if job.swap_type == SwapType::Revert {
                prepare_revert(slots, job).map_err(SwapError::Secondary)?;
            }
            commit(slots, job).map_err(SwapError::Primary)?;
        }
        if job.done == 0 {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.secondary, &slots.layout.secondary_trailer())
                .map_err(SwapError::Secondary)?;
        }
        for unit in job.done..units(count) {
            let state = do_unit(slots, unit, count)?;
            // Without its record the unit would only be done again; if the flash refuses the record, going on is the
            // better way to a bootable image (MCUboot does the same), and that image is verified.
            if write_record(slots.primary, &layout, record_of(unit, count, &layout), state).is_err() {
                slots.failed_records = slots.failed_records.saturating_add(1);
            }
        }
        finish(slots.primary, &layout, job.swap_type).map_err(SwapError::Primary)
    }
}

/// Step 1: from here on the secondary asks for its own installation.
fn prepare_revert<P: NorFlash, S: NorFlash>(slots: &mut Slots<'_, P, S>, job: &Job) -> Result<(), S::Error> {
    let layout = slots.layout.secondary_trailer();
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.secondary, &layout)?;
    write_image_ok(slots.secondary, &layout)?;
    write_swap_size(slots.secondary, &layout, job.size)?;
    write_magic(slots.secondary, &layout)
}

/// Step 2: the job, with the magic that makes it count last.
fn commit<P: NorFlash, S: NorFlash>(slots: &mut Slots<'_, P, S>, job: &Job) -> Result<(), P::Error> {
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

/// Steps 4 and 5: one sector erased and copied. Returns the state number for its record.
fn do_unit<P: NorFlash, S: NorFlash>(
    slots: &mut Slots<'_, P, S>,
    unit: u32,
    count: u32,
) -> Result<u8, StepError<P, S>> {
    let size = slots.layout.primary().sector_size;
    let Slots {
        primary,
        secondary,
        watch,
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
        primary.erase(to, to + size).map_err(SwapError::Primary)?;
        copy_within(*primary, to - size, to, size, &mut tick).map_err(SwapError::Primary)?;
        return Ok(1);
    }
    let at = (unit - count) / 2 * size;
    if (unit - count).is_multiple_of(2) {
        primary.erase(at, at + size).map_err(SwapError::Primary)?;
        copy((*secondary, at), (*primary, at), size, &mut tick)?;
        Ok(1)
    } else {
        secondary.erase(at, at + size).map_err(SwapError::Secondary)?;
        copy((*primary, at + size), (*secondary, at), size, &mut tick).map_err(|error| match error {
            SwapError::Primary(error) => SwapError::Secondary(error),
            SwapError::Secondary(error) => SwapError::Primary(error),
        })?;
        Ok(2)
    }
}

/// Step 6: the final marks.
fn finish<F: NorFlash>(flash: &mut F, layout: &TrailerLayout, swap_type: SwapType) -> Result<(), F::Error> {
    let trailer = Trailer::read(flash, layout)?;
    if swap_type != SwapType::Test && trailer.image_ok == Flag::Unset {
        write_image_ok(flash, layout)?;
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
