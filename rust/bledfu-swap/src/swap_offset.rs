// SPDX-License-Identifier: Apache-2.0
//! Swap using offset (MCUboot `swap_offset.c`): an update is stored one sector up in the secondary slot, so there is a
//! free sector next to every sector of the update, and no sector is copied twice.
//!
//! # What happens
//! `A` is the image in the primary slot, `B` the update, both of three sectors; `F` is a trailer sector.
//!
//! | Step | Primary | Secondary | Record |
//! |---|---|---|---|
//! | a request was made | `A1 A2 A3 F` | `-- B1 B2 B3 F(magic)` | |
//! | 1. revert only: write the request into the secondary | `B1 B2 B3 F` | `A1 A2 A3 -- F(copy_done, job, magic)` | |
//! | 2. write the job into the primary trailer, magic last | `A1 A2 A3 F(job)` | `-- B1 B2 B3 F(magic)` | |
//! | 3. erase the secondary trailer: **the point of no return** | `A1 A2 A3 F(job)` | `-- B1 B2 B3 -` | |
//! | 4. exchange, lowest sector first | `A1 A2 A3 F` | `A1 B1 B2 B3 -` | 0 |
//! | | `B1 A2 A3 F` | `A1 B1 B2 B3 -` | 1 |
//! | | `B1 A2 A3 F` | `A1 A2 B2 B3 -` | 2 |
//! | | ... | ... | ... |
//! | | `B1 B2 B3 F` | `A1 A2 A3 B3 -` | 5 |
//! | 4'. a revert: highest sector first | `B1 B2 B3 F` | `A1 A2 A3 B3 -` | 0 |
//! | | `B1 B2 A3 F` | `A1 A2 A3 B3 -` | 1 |
//! | | ... | ... | ... |
//! | | `A1 A2 A3 F` | `A1 B1 B2 B3 -` | 5 |
//! | 5'. a revert: erase the first sector and the trailer of the secondary | `A1 A2 A3 F` | `-- B1 B2 B3 -` | |
//! | 6. revert and permanent: `image_ok`; then `copy_done` | `B1 B2 B3 F(done)` | `A1 A2 A3 B3 -` | |
//!
//! # Why a power cut cannot hurt
//! * **Step 4.** The sector that is erased is free: at first it is unused, later it is the one whose contents the
//!   previous unit copied elsewhere, as its record says. So until its record is written, each unit is done again from a
//!   source that nothing changes. A torn record reads as written or as not written, and both are right.
//! * **Step 4'** is the same with the free sector on the other side.
//! * **Step 5'** changes no sector that is needed: the first sector of the secondary was copied by the last unit. It is
//!   done again until `copy_done` is written.
//! * **Steps 1 to 3 and 6** are those of swap using move, with the same argument (`swap_move.rs`): until its erase
//!   begins, the request in the secondary starts everything over; if a torn erase leaves the magic without its flags,
//!   it does not count, because the complete job it asked for is there; a torn `copy_done` is written again. Only the
//!   request of a revert differs: it is marked with `copy_done`, and so means a revert (row 1 of MCUboot's table).
//! * **Stale or foreign trailers** are not taken for a job, as with swap using move.
//!
//! A sector that holds no part of an image is not copied for that image, but its record is written. The sizes come from
//! the headers, wherever they are by then, and from the TLV sizes in the primary trailer. As in MCUboot, the sector
//! after the last one of an image is copied as well.
//!
//! # Two trailers
//! MCUboot 2.2 (Zephyr 4.1 and 4.2) has no TLV sizes in the trailer, so everything below that field is one field
//! higher. The layout says which of the two trailers is written; an interrupted job is found and finished in either
//! ([`Layout::without_tlv_sizes`]). One cannot be mistaken for the other: where a trailer with TLV sizes has the size
//! of the job, one without has status records, and these read as a size that no slot has.

use bledfu_slot::trailer::{
    erase_trailer, read_tlv_sizes, write_copy_done, write_image_ok, write_magic, write_swap_info,
    write_swap_size, write_tlv_sizes,
};
use bledfu_slot::{Algorithm, Direction, Flag, Layout, Magic, SwapType, Trailer, TrailerLayout, Transform};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{
    not_kept, rewrite, try_rewrite, At, Flash, Installer, Job, Progress, Slots, Status, SwapError, Through,
};
use crate::decide;
use crate::job::{self, has_header, hashed_size, is_torn};
use crate::status::records_until;
use crate::trust;

/// Swap using offset.
pub struct SwapOffset;

/// Number of bytes assumed for the unprotected TLVs of an image if the trailer does not say.
const UNKNOWN_TLVS: u32 = 4096;

/// Units of work for `count` sectors: each is exchanged in two halves.
const fn units(count: u32) -> u32 {
    2 * count
}

/// Where a header is: in the primary slot at its start, or in the secondary at this offset.
#[derive(Clone, Copy)]
enum HeaderAt {
    Primary,
    Secondary(u32),
}

/// Where the headers of the old and of the new image are, by the number of units recorded.
fn headers(layout: &Layout, job: &Job) -> [HeaderAt; 2] {
    let sector = layout.secondary().sector_size;
    let last = units(job.size.div_ceil(sector));
    if job.swap_type == SwapType::Revert {
        let goes = if job.done + 1 < last {
            HeaderAt::Primary
        } else {
            HeaderAt::Secondary(sector)
        };
        let comes = if job.done < last {
            HeaderAt::Secondary(0)
        } else {
            HeaderAt::Primary
        };
        return [goes, comes];
    }
    let goes = if job.done == 0 {
        HeaderAt::Primary
    } else {
        HeaderAt::Secondary(0)
    };
    let comes = if job.done < 2 {
        HeaderAt::Secondary(sector)
    } else {
        HeaderAt::Primary
    };
    [goes, comes]
}

fn headers_in_place<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Result<bool, SwapError> {
    for place in headers(&slots.layout, job) {
        let found = match place {
            HeaderAt::Primary => has_header(slots.primary, 0).map_err(SwapError::Primary)?,
            HeaderAt::Secondary(offset) => {
                has_header(slots.secondary, offset).map_err(SwapError::Secondary)?
            }
        };
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Number of sectors that the old and the new image occupy. If a size is unknown, the largest possible one is assumed:
/// that costs time, never data.
fn used_sectors<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Result<[u32; 2], SwapError> {
    let trailer = slots.layout.primary_trailer();
    let sector = trailer.sector_size();
    let tlvs = match read_tlv_sizes(slots.primary, &trailer).map_err(SwapError::Primary)? {
        Some(sizes) => sizes.map(u32::from),
        // Together with the one sector that is copied in addition, this is enough. As in MCUboot 2.2, a large sector is
        // enough alone.
        None => [UNKNOWN_TLVS.saturating_sub(sector); 2],
    };
    let mut used = [u32::MAX; 2];
    for ((used, place), tlvs) in used.iter_mut().zip(headers(&slots.layout, job)).zip(tlvs) {
        let hashed = match place {
            HeaderAt::Primary => hashed_size(slots.primary, 0).map_err(SwapError::Primary)?,
            HeaderAt::Secondary(offset) => {
                hashed_size(slots.secondary, offset).map_err(SwapError::Secondary)?
            }
        };
        if let Some(hashed) = hashed {
            *used = hashed.saturating_add(tlvs).div_ceil(sector);
        }
    }
    Ok(used)
}

impl Installer for SwapOffset {
    const NAME: Algorithm = Algorithm::SwapOffset;
    const REVERTS: bool = true;
    const BOOTSTRAPS: bool = false;

    fn decide(primary: &Trailer, secondary: &Trailer) -> SwapType {
        decide::decide_by_offset(primary, secondary)
    }

    fn source(layout: &Layout, swap_type: SwapType) -> u32 {
        match swap_type {
            SwapType::Revert => 0,
            _ => layout.upload_offset(),
        }
    }

    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, SwapError> {
        let Some(job) = stored(slots, primary)? else {
            return Ok(Status::Idle);
        };
        let layout = slots.layout.primary_trailer();
        let last = units(job.size.div_ceil(layout.sector_size()));
        let done =
            records_until(slots.primary, &layout, 0, layout.record_count()).map_err(SwapError::Primary)?;
        let job = trust::settle(&slots.rules, job, done);
        let done = job.done;
        if done == 0 {
            let image_ok = job.swap_type == SwapType::Permanent;
            return job::untouched::<Self, _, _, _, _>(slots, job, primary, secondary, image_ok);
        }
        let torn = primary.copy_done == Flag::Bad;
        if done > last
            || secondary.magic == Magic::Good
            || (torn && (done != last || !is_torn(slots.primary, &layout).map_err(SwapError::Primary)?))
            || !headers_in_place(slots, &job)?
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
        let secondary = slots.layout.secondary_trailer();
        if !job.committed {
            let tlvs = tlv_sizes(slots, job.swap_type)?;
            if job.swap_type == SwapType::Revert {
                prepare_revert(slots, job, tlvs).map_err(SwapError::Secondary)?;
            }
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.primary, &layout)
                .and_then(|()| write_job(slots.primary, &layout, job, tlvs))
                .map_err(SwapError::Primary)?;
        }
        // Also for a job that goes on: a torn magic there may read as a request only at a later boot.
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.secondary, &secondary).map_err(SwapError::Secondary)?;
        let used = used_sectors(slots, job)?;
        if job.done > 0 {
            job::strengthen(slots, job.done - 1);
        }
        for unit in job.done..units(job.size.div_ceil(layout.sector_size())) {
            let state = do_unit(slots, unit, job, used)?;
            job::record(slots, unit, state);
            trust::unit_done(slots, unit)?;
        }
        if job.swap_type == SwapType::Revert {
            let sector = secondary.sector_size();
            (slots.watch)(Progress::Erase);
            slots.secondary.erase(0, sector).map_err(SwapError::Secondary)?;
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.secondary, &secondary).map_err(SwapError::Secondary)?;
        }
        job::finish(slots.primary, &layout, job.swap_type).map_err(SwapError::Primary)
    }
}

/// The job in the primary trailer, in whichever of the two layouts that trailer has. From then on `slots` uses that
/// layout.
fn stored<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    primary: &Trailer,
) -> Result<Option<Job>, SwapError> {
    for layout in [slots.layout.with_tlv_sizes(), slots.layout.without_tlv_sizes()] {
        // One read for the whole boot: a torn flag may read differently each time.
        let trailer = match layout == slots.layout {
            true => *primary,
            false => Trailer::read(slots.primary, &layout.primary_trailer()).map_err(SwapError::Primary)?,
        };
        if let Some(job) = job::stored(&trailer, &layout) {
            slots.layout = layout;
            return Ok(Some(job));
        }
    }
    Ok(None)
}

/// Sizes of the unprotected TLV areas of the old and of the new image, while both are complete.
fn tlv_sizes<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    swap_type: SwapType,
) -> Result<[u16; 2], SwapError> {
    fn of<F: Flash>(flash: &mut F, start: u32, slot_size: u32) -> Result<u16, NorFlashErrorKind> {
        let size = job::size_of(flash, start, slot_size)?;
        let tlvs = hashed_size(flash, start)?.and_then(|hashed| size.checked_sub(hashed));
        Ok(tlvs.and_then(|tlvs| u16::try_from(tlvs).ok()).unwrap_or(u16::MAX))
    }
    let source = SwapOffset::source(&slots.layout, swap_type);
    let (primary, secondary) = (
        slots.layout.primary().slot_size,
        slots.layout.secondary().slot_size,
    );
    Ok([
        of(slots.primary, 0, primary).map_err(SwapError::Primary)?,
        of(slots.secondary, source, secondary).map_err(SwapError::Secondary)?,
    ])
}

/// Step 1: from here on the secondary slot asks for the revert. Does nothing if it already does.
fn prepare_revert<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
    tlvs: [u16; 2],
) -> Result<(), NorFlashErrorKind> {
    let layout = slots.layout.secondary_trailer();
    if decide::asks_for_revert(&Trailer::read(slots.secondary, &layout)?) {
        return Ok(());
    }
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.secondary, &layout)?;
    write_copy_done(slots.secondary, &layout)?;
    write_job(slots.secondary, &layout, job, tlvs)
}

/// Steps 1 and 2: writes a job into an erased trailer, and last the magic that makes it count.
fn write_job<F: Flash>(
    flash: &mut F,
    layout: &TrailerLayout,
    job: &Job,
    tlvs: [u16; 2],
) -> Result<(), NorFlashErrorKind> {
    write_swap_info(flash, layout, job.swap_type)?;
    if job.swap_type == SwapType::Permanent {
        write_image_ok(flash, layout)?;
    }
    write_swap_size(flash, layout, job.size)?;
    write_tlv_sizes(flash, layout, tlvs)?;
    write_magic(flash, layout)
}

/// Step 4: erases and copies one sector, if it holds a part of the image. Returns the state number for its record.
fn do_unit<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    unit: u32,
    job: &Job,
    [goes, comes]: [u32; 2],
) -> Result<u8, SwapError> {
    let size = slots.layout.primary().sector_size;
    let steps = units(job.size.div_ceil(size));
    let Slots {
        primary,
        secondary,
        transform,
        watch,
        failed_records,
        ..
    } = slots;
    let mut tick = || watch(Progress::Install { step: unit, steps });
    tick();
    // The sector of the primary goes to the free sector of the secondary; the sector of the new image is next to that
    // one.
    let (index, free, next) = if job.swap_type == SwapType::Revert {
        let index = (steps - 1 - unit) / 2;
        (index, (index + 1) * size, index * size)
    } else {
        let index = unit / 2;
        (index, index * size, (index + 1) * size)
    };
    let at = index * size;
    let (in_primary, in_secondary) = (SwapError::Primary, SwapError::Secondary);
    if unit.is_multiple_of(2) {
        if index <= goes {
            let kept = try_rewrite(
                At(*primary, at, in_primary),
                At(*secondary, free, in_secondary),
                size,
                Through(*transform, Direction::Outward, at),
                &mut |secondary: &mut S, _: &mut dyn FnMut()| secondary.erase(free, free + size),
                &mut tick,
            )?;
            not_kept(failed_records, kept);
        }
        return Ok(1);
    }
    if index <= comes {
        rewrite(
            At(*secondary, next, in_secondary),
            At(*primary, at, in_primary),
            size,
            Through(*transform, Direction::Inward, at),
            &mut |primary: &mut P, _: &mut dyn FnMut()| primary.erase(at, at + size),
            &mut tick,
        )?;
    }
    Ok(2)
}
