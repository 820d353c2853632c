// SPDX-License-Identifier: Apache-2.0
//! Swap using scratch (MCUboot `swap_scratch.c`): the images are exchanged region by region through a spare area. A
//! region is as large as that area.
//!
//! # What happens
//! `A` is the image in the primary slot, `B` the one in the secondary, both of three regions; `F` is a trailer sector.
//! The highest region is exchanged first and has number 0.
//!
//! | Step | Primary | Secondary | Scratch | Record |
//! |---|---|---|---|---|
//! | a request was made | `A1 A2 A3 F` | `B1 B2 B3 F(magic)` | | |
//! | 1. erase the scratch area, write the job into its trailer, magic last | `A1 A2 A3 F` | `B1 B2 B3 F(magic)` | `F(job)` | |
//! | 2. write the job into the primary trailer in the same way | `A1 A2 A3 F(job)` | `B1 B2 B3 F(magic)` | `F(job)` | |
//! | 3. erase the scratch area | `A1 A2 A3 F(job)` | `B1 B2 B3 F(magic)` | | |
//! | 4. exchange | `A1 A2 A3 F` | `B1 B2 B3 F(magic)` | `B3` | 0 |
//! | the first time, erase the secondary trailer as well | `A1 A2 A3 F` | `B1 B2 A3 -` | `B3` | 1 |
//! | | `A1 A2 B3 F` | `B1 B2 A3 -` | `B3` | 2 |
//! | | `A1 A2 B3 F` | `B1 B2 A3 -` | `B2` | 3 |
//! | | ... | ... | ... | ... |
//! | | `B1 B2 B3 F` | `A1 A2 A3 -` | `B1` | 8 |
//! | 5. revert and permanent: `image_ok`; then `copy_done` | `B1 B2 B3 F(done)` | `A1 A2 A3 -` | `B1` | |
//!
//! If the images reach into the first trailer sector, the primary trailer cannot be rewritten before the data in the
//! same sectors (`A3F` is one sector or a few). Then the scratch trailer holds the job and the first two records:
//!
//! | Step | Primary | Secondary | Scratch | Record |
//! |---|---|---|---|---|
//! | 1. as above | `A1 A2 A3F` | `B1 B2 B3F(magic)` | `F(job)` | |
//! | 4'. exchange | `A1 A2 A3F` | `B1 B2 B3F(magic)` | `B3F(job)` | 0, in scratch |
//! | | `A1 A2 A3F` | `B1 B2 A3-` | `B3F(job)` | 1, in scratch |
//! | data, records 0 and 1, the job, magic last | `A1 A2 B3F(job)` | `B1 B2 A3-` | `B3F(job)` | 2, in primary |
//! | erase the scratch area, highest sector first | `A1 A2 B3F(job)` | `B1 B2 A3-` | | |
//! | | `A1 A2 B3F(job)` | `B1 B2 A3-` | `B2` | 3 |
//! | | ... | ... | ... | ... |
//!
//! # Why a power cut cannot hurt
//! * **Step 4.** What is erased is also elsewhere: the scratch area is free, `B3` is in scratch, `A3` is in the
//!   secondary, each as its record says. So until its record is written, a unit is done again from a source that
//!   nothing changes. A torn record reads as written or as not written, and both are right.
//! * **Steps 1 to 3** change no image. After a cut they begin again from what asked for them: a request in the
//!   secondary, which stays until the second unit; or a revert that is due, which stays in the primary trailer until
//!   step 2 erases it. From that erase until the end of step 2, only the scratch trailer knows of a revert. So it is
//!   not erased then, and step 2 is done again. (MCUboot begins with step 1, and a cut there forgets the revert.)
//! * **Inside step 3** the torn erase may leave the magic of the scratch area and nothing else. So a complete job in
//!   the primary takes precedence over one in scratch, unless it is a job that is kept in scratch. (MCUboot believes
//!   the scratch area.)
//! * **Step 4'.** The scratch trailer counts, not the primary trailer, until record 2 is written in the primary by the
//!   third unit. If a cut comes just before that, the unit is done again, and its erase, if torn, may leave the job
//!   with random records. So while scratch holds the job and both of its records, the primary counts only if it has the
//!   first three records and no others, and every byte of them is what is written there. (MCUboot believes the scratch
//!   area as long as its magic is there, and erases the primary even if it has all three records. If that erase is torn
//!   and this boot stage goes on, the result may be the image before.)
//! * **Inside the last erase of step 4'** the magic of the scratch area may remain when its data are gone. As soon as
//!   the primary holds the job and these three records, the scratch area is no longer believed, but erased (again).
//!   MCUboot believes it, copies it over the primary and has no image left.
//! * **Step 1 after a cut in the first unit of step 4'** erases a complete scratch trailer. If torn, this can leave a
//!   record 0 although its data are gone, or random bytes in place of both records. A record 0 alone is believed in
//!   four cases: nothing asks for an install any more (the second unit has begun); the data in scratch equal those in
//!   the secondary; the secondary already holds the data of the primary; or the secondary holds no valid image (it has
//!   been changed). Two records that are both damaged are believed in all these cases but the second. Otherwise
//!   everything begins again.
//! * **The second unit** erases the secondary trailer. If the torn erase leaves the magic without its flags, it does
//!   not count, because there is a record by then.
//! * **Inside step 5** a torn `copy_done` is written again, as with swap using move.
//! * **Stale or foreign trailers.** A job is resumed only if it has a stored swap type, the number of this image, a
//!   size within the layout, no more records than units, and the header of the new image where those records put it.
//!
//! # Other differences from MCUboot
//! * After the first three records of step 4', a missing record means that it could not be written, not that the units
//!   after it are to be done again: the last record counts, as with the other swaps.
//! * A record that cannot be written stops step 4'. The primary is unchanged then, or its new data are still in
//!   scratch.
//! * A secondary slot may have larger write units than the primary: the last unit is padded with erased bytes.

use bledfu_slot::flash::{program_padded, read_bytes, Aligned, MAX_WRITE_SIZE};
use bledfu_slot::trailer::{erase_trailer, write_image_ok, write_magic, write_swap_info, write_swap_size};
use bledfu_slot::{Algorithm, Direction, Flag, Layout, Magic, SwapType, Trailer, TrailerLayout, Transform};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{
    is_equal, not_kept, rewrite, try_rewrite, At, Flash, Installer, Job, Progress, Slots, Status, SwapError,
    Through, AS_THEY_ARE,
};
use crate::decide;
use crate::job::{self, has_header, hashed_size, is_torn};
use crate::status::{read_record, record_bytes, records_until, write_record, ERASED_RECORD};
use crate::trust;

/// Swap using scratch.
pub struct SwapScratch;

/// Units of work, and records, for each region.
const STATES: u32 = 3;

/// The regions of a job.
#[derive(Clone, Copy)]
struct Plan {
    /// Trailer of the primary slot.
    primary: TrailerLayout,
    /// Trailer of the secondary slot.
    secondary: TrailerLayout,
    /// Trailer of the scratch area.
    scratch: TrailerLayout,
    /// End of the highest region: the first sector boundary after the images that both slots have in common.
    end: u32,
}

/// A part of both slots that is exchanged at once.
#[derive(Clone, Copy)]
struct Region {
    start: u32,
    end: u32,
    /// Number of bytes copied; less than the region if it contains a trailer.
    length: u32,
}

impl Plan {
    /// `None` if the layout has no scratch area.
    fn new(layout: &Layout, size: u32) -> Option<Self> {
        let (primary, secondary) = (layout.primary_trailer(), layout.secondary_trailer());
        let common = primary.sector_size().max(secondary.sector_size());
        Some(Self {
            primary,
            secondary,
            scratch: layout.spare_trailer()?,
            end: size.next_multiple_of(common).min(primary.slot_size()),
        })
    }

    fn units(&self) -> u32 {
        STATES * self.end.div_ceil(self.scratch.slot_size())
    }

    /// Whether the job is kept in scratch until the first region has been exchanged (MCUboot's `use_scratch`).
    fn kept_in_scratch(&self) -> bool {
        self.end > self.primary.first_sector()
    }

    fn region(&self, index: u32) -> Region {
        let area = self.scratch.slot_size();
        let end = self.end.saturating_sub(index.saturating_mul(area));
        let start = end.saturating_sub(area);
        let length = if index == 0 && self.kept_in_scratch() {
            let free = self.primary.status_start() - start;
            free.min(self.scratch.status_start())
        } else {
            end - start
        };
        Region { start, end, length }
    }

    /// Where the first three records of a job kept in scratch are in the primary. The two copied from scratch follow
    /// the data directly. That is at the start of the status region, or below it if the scratch area has less room for
    /// data.
    fn first_records(&self) -> [u32; 3] {
        let region = self.region(0);
        let (copied, unit) = (region.start + region.length, self.primary.status_unit());
        [copied, copied + unit, self.primary.status_start() + 2 * unit]
    }
}

fn is_written<F: Flash>(flash: &mut F, offset: u32) -> Result<bool, NorFlashErrorKind> {
    let mut first = [0];
    read_bytes(flash, offset, &mut first)?;
    Ok(first != [0xFF])
}

/// Whether the header of the new image is where it must be when `done` units of the job are recorded.
fn header_in_place<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
    done: u32,
) -> Result<bool, SwapError> {
    match plan.units().saturating_sub(done) {
        0 => has_header(slots.primary, 0).map_err(SwapError::Primary),
        // It is in the last region.
        1 | 2 => has_header(slots.spare, 0).map_err(SwapError::Spare),
        _ => has_header(slots.secondary, 0).map_err(SwapError::Secondary),
    }
}

/// Number of units recorded in the primary trailer; 0 if the job is kept in scratch and has not moved to the primary
/// yet. `is_moved` = it has, even if the record that says so is torn and reads as erased now.
fn recorded_in_primary<F: Flash>(
    flash: &mut F,
    plan: &Plan,
    is_moved: bool,
) -> Result<u32, NorFlashErrorKind> {
    let count = plan.primary.record_count();
    if !plan.kept_in_scratch() {
        return records_until(flash, &plan.primary, 0, count);
    }
    if !is_moved && !is_written(flash, plan.first_records()[2])? {
        return Ok(0);
    }
    records_until(flash, &plan.primary, STATES, count)
}

/// Whether the first three records in the primary are exactly as written, and not the remains of a torn erase. MCUboot
/// copies the first two as they are in scratch, even if they are torn there.
fn first_records_whole<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
) -> Result<bool, SwapError> {
    let unit = plan.primary.status_unit();
    for (offset, state) in plan.first_records().into_iter().zip(1..) {
        let record = read_record(slots.primary, offset, unit).map_err(SwapError::Primary)?;
        if record == record_bytes(state) {
            continue;
        }
        let index = u32::from(state) - 1;
        let copied = plan.scratch.status_start() + index * unit;
        if index > 1
            || record == ERASED_RECORD
            || record != read_record(slots.spare, copied, unit).map_err(SwapError::Spare)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Number of units recorded in the scratch trailer.
fn recorded_in_scratch<F: Flash>(flash: &mut F, plan: &Plan) -> Result<u32, NorFlashErrorKind> {
    let first = plan.scratch.status_start();
    if !plan.kept_in_scratch() || !is_written(flash, first)? {
        return Ok(0);
    }
    Ok(1 + u32::from(is_written(flash, first + plan.scratch.status_unit())?))
}

/// Whether both records in scratch differ from what is written there.
fn scratch_records_torn<F: Flash>(flash: &mut F, plan: &Plan) -> Result<bool, NorFlashErrorKind> {
    let (start, unit) = (plan.scratch.status_start(), plan.scratch.status_unit());
    Ok(read_record(flash, start, unit)? != record_bytes(1)
        && read_record(flash, start + unit, unit)? != record_bytes(2))
}

/// Whether the first region of the secondary equals that of the primary, as it does after the second unit.
fn first_region_moved<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
) -> Result<bool, SwapError> {
    let Region { start, length, .. } = plan.region(0);
    is_equal(
        At(slots.primary, start, SwapError::Primary),
        At(slots.secondary, start, SwapError::Secondary),
        length,
        Through(slots.transform, Direction::Outward, start),
    )
}

/// Whether a job can have `done` units recorded with these trailers and headers.
fn plausible<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
    done: u32,
    secondary: &Trailer,
) -> Result<bool, SwapError> {
    // The secondary trailer is erased before the second record is written.
    let requested = done > 1 && secondary.magic == Magic::Good;
    Ok(!requested && done <= plan.units() && header_in_place(slots, plan, done)?)
}

/// Whether a record 0 in scratch may be the remains of a torn erase. That is so if the secondary holds an image whose
/// bytes in the first region are neither those in scratch nor those in the primary.
fn doubtful<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
) -> Result<bool, SwapError> {
    let size = job::size_of(slots.secondary, 0, plan.secondary.slot_size()).map_err(SwapError::Secondary)?;
    if size == 0 {
        return Ok(false);
    }
    let Region { start, length, .. } = plan.region(0);
    // Not every policy covers the bytes after the hashed ones, so those are compared only if the region has no others.
    let hashed = hashed_size(slots.secondary, 0).map_err(SwapError::Secondary)?;
    let size = hashed.filter(|hashed| *hashed > start).unwrap_or(size);
    let length = size.saturating_sub(start).min(length);
    let secondary = SwapError::Secondary;
    let in_scratch = is_equal(
        At(slots.spare, 0, SwapError::Spare),
        At(slots.secondary, start, secondary),
        length,
        AS_THEY_ARE,
    )?;
    Ok(!in_scratch
        && !is_equal(
            At(slots.primary, start, SwapError::Primary),
            At(slots.secondary, start, secondary),
            length,
            Through(slots.transform, Direction::Outward, start),
        )?)
}

impl Installer for SwapScratch {
    const NAME: Algorithm = Algorithm::SwapScratch;
    const REVERTS: bool = true;
    const BOOTSTRAPS: bool = true;

    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, SwapError> {
        let layout = slots.layout;
        let job_in = |trailer: &Trailer| {
            let job = job::stored(trailer, &layout)?;
            Some((job, Plan::new(&layout, job.size)?))
        };
        let in_primary = job_in(primary);
        let mut unless_in_scratch = None;
        // The job in the primary is not the one that was begun last: a mark at its end is torn and reads as erased again.
        let is_past = in_primary.is_some_and(|(job, _)| trust::is_past(&slots.rules, &job));
        if let Some((job, plan)) = in_primary {
            let is_moved = trust::settle(&slots.rules, job, 0).done >= STATES;
            let recorded = recorded_in_primary(slots.primary, &plan, is_moved).map_err(SwapError::Primary)?;
            // A job without records here may be kept in scratch and have its records there.
            let done = match trust::settle(&slots.rules, job, recorded).done {
                done if recorded == 0 && plan.kept_in_scratch() && done < STATES => 0,
                done => done,
            };
            let torn = primary.copy_done == Flag::Bad;
            let mendable =
                done == plan.units() && is_torn(slots.primary, &plan.primary).map_err(SwapError::Primary)?;
            if done > 0 && (!torn || mendable) && plausible(slots, &plan, done, secondary)? {
                let status = Status::Underway(Job { done, ..job });
                let just_moved = done == STATES && !torn && first_records_whole(slots, &plan)?;
                if (!plan.kept_in_scratch() || just_moved) && !is_past {
                    return Ok(status);
                }
                // At this point scratch no longer holds a job, unless the trailer in the primary is the remains of a
                // torn erase.
                unless_in_scratch = Some(status);
            }
        }
        let Some(spare) = layout.spare_trailer() else {
            return Ok(Status::Idle);
        };
        let scratch = Trailer::read_twice(slots.spare, &spare).map_err(SwapError::Spare)?;
        let in_scratch = job_in(&scratch);
        let asked = decide(primary, secondary) != SwapType::None;
        if let Some((job, plan)) = in_scratch {
            let recorded = recorded_in_scratch(slots.spare, &plan).map_err(SwapError::Spare)?;
            let (done, noted) = match trust::settle(&slots.rules, job, recorded).done {
                // It has moved to the primary.
                done if done >= STATES || !plan.kept_in_scratch() => (0, false),
                done => (done, trust::is_noted(&slots.rules, &job)),
            };
            // Both records are in scratch before the job moves to the primary.
            let least = if unless_in_scratch.is_some() && !is_past {
                2
            } else {
                1
            };
            if done >= least && plausible(slots, &plan, done, secondary)? {
                let job = Job { done, ..job };
                let doubtful = match done {
                    _ if !asked || noted => false,
                    1 => doubtful(slots, &plan)?,
                    _ => {
                        scratch_records_torn(slots.spare, &plan).map_err(SwapError::Spare)?
                            && !first_region_moved(slots, &plan)?
                    }
                };
                return Ok(if doubtful {
                    Status::Doubtful(job)
                } else {
                    Status::Claimed(job)
                });
            }
        }
        if let Some(status) = unless_in_scratch {
            return Ok(status);
        }
        if let Some((job, plan)) = in_primary {
            let image_ok = job.swap_type == SwapType::Permanent;
            if !plan.kept_in_scratch()
                && recorded_in_primary(slots.primary, &plan, false).map_err(SwapError::Primary)? == 0
            {
                let status = job::untouched::<Self, _, _, _, _>(slots, job, primary, secondary, image_ok)?;
                if status != Status::Idle {
                    return Ok(status);
                }
            }
        }
        // A revert that was interrupted in step 2. If the job was refused before, both flags are set in the primary.
        if let Some((job, plan)) = in_scratch {
            if !asked
                && job.swap_type == SwapType::Revert
                && !plan.kept_in_scratch()
                && (primary.image_ok != Flag::Set || primary.copy_done == Flag::Unset)
                && has_header(slots.secondary, 0).map_err(SwapError::Secondary)?
            {
                return job::untouched::<Self, _, _, _, _>(slots, job, &scratch, secondary, false);
            }
        }
        Ok(Status::Idle)
    }

    fn units(layout: &Layout, size: u32) -> u32 {
        Plan::new(layout, size).map_or(0, |plan| plan.units())
    }

    fn spare_part(layout: &Layout, job: &Job) -> Option<u32> {
        Some(Plan::new(layout, job.size)?.region(0).start)
    }

    fn install_size(primary: u32, secondary: u32) -> u32 {
        primary.max(secondary)
    }

    fn forget<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
    ) -> Result<(), SwapError> {
        let Some(spare) = slots.layout.spare_trailer() else {
            return Ok(());
        };
        let scratch = Trailer::read(slots.spare, &spare).map_err(SwapError::Spare)?;
        if scratch.magic == Magic::Good {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.spare, &spare).map_err(SwapError::Spare)?;
        }
        Ok(())
    }

    fn install<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        job: &Job,
    ) -> Result<(), SwapError> {
        let Some(plan) = Plan::new(&slots.layout, job.size) else {
            return Err(SwapError::Spare(NorFlashErrorKind::OutOfBounds));
        };
        if !job.committed {
            erase_scratch(slots, &plan)?;
            write_job(slots.spare, &plan.scratch, job).map_err(SwapError::Spare)?;
        }
        if job.done == 0 && !plan.kept_in_scratch() {
            let found = Trailer::read(slots.primary, &plan.primary).map_err(SwapError::Primary)?;
            if job::stored(&found, &slots.layout) != Some(*job) {
                (slots.watch)(Progress::Erase);
                erase_trailer(slots.primary, &plan.primary)
                    .and_then(|()| write_job(slots.primary, &plan.primary, job))
                    .map_err(SwapError::Primary)?;
            }
            erase_scratch(slots, &plan)?;
        }
        if job.done > STATES || job.done > 0 && !plan.kept_in_scratch() {
            job::strengthen(slots, job.done - 1);
        }
        for unit in job.done..=plan.units() {
            if unit == STATES && plan.kept_in_scratch() {
                // The highest sector first, which has the magic.
                let mut end = plan.scratch.slot_size();
                while end > 0 {
                    let start = end - plan.scratch.sector_size();
                    (slots.watch)(Progress::Erase);
                    slots.spare.erase(start, end).map_err(SwapError::Spare)?;
                    end = start;
                }
            }
            if unit < plan.units() {
                do_unit(slots, unit, &plan, job)?;
                trust::unit_done(slots, unit)?;
            }
        }
        job::finish(slots.primary, &plan.primary, job.swap_type).map_err(SwapError::Primary)
    }
}

fn erase_scratch<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    plan: &Plan,
) -> Result<(), SwapError> {
    let bounds = (0, plan.scratch.slot_size(), plan.scratch.sector_size());
    erase(slots.spare, bounds, &mut || (slots.watch)(Progress::Erase)).map_err(SwapError::Spare)
}

/// Erases from `start` to `end`, one sector at a time.
fn erase<F: Flash>(
    flash: &mut F,
    (start, end, sector): (u32, u32, u32),
    tick: &mut dyn FnMut(),
) -> Result<(), NorFlashErrorKind> {
    let mut at = start;
    while at < end {
        tick();
        flash.erase(at, at + sector)?;
        at += sector;
    }
    Ok(())
}

/// Steps 1 and 2: writes the job into an erased trailer, and last the magic that makes it count.
fn write_job<F: Flash>(flash: &mut F, layout: &TrailerLayout, job: &Job) -> Result<(), NorFlashErrorKind> {
    write_swap_info(flash, layout, job.swap_type)?;
    if job.swap_type == SwapType::Permanent {
        write_image_ok(flash, layout)?;
    }
    write_swap_size(flash, layout, job.size)?;
    write_magic(flash, layout)
}

/// The end of step 4': writes two records and the job, in the order of MCUboot.
fn move_job<F: Flash>(flash: &mut F, plan: &Plan, job: &Job) -> Result<(), NorFlashErrorKind> {
    let (layout, [records, ..]) = (&plan.primary, plan.first_records());
    let unit = layout.status_unit() as usize;
    let mut bytes = Aligned::<{ 2 * MAX_WRITE_SIZE }>::erased();
    for (record, state) in bytes.0.chunks_mut(unit).zip([1, 2]) {
        for (cell, byte) in record.iter_mut().zip(record_bytes(state)) {
            *cell = byte;
        }
    }
    flash.write(records, bytes.0.get(..2 * unit).unwrap_or_default())?;
    if job.swap_type == SwapType::Permanent {
        write_image_ok(flash, layout)?;
    }
    write_swap_info(flash, layout, job.swap_type)?;
    write_swap_size(flash, layout, job.size)?;
    write_magic(flash, layout)
}

/// Step 4 or 4': copies one region to its next place and writes the record.
fn do_unit<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    unit: u32,
    plan: &Plan,
    job: &Job,
) -> Result<(), SwapError> {
    let (index, state) = (unit / STATES, unit % STATES);
    let Region { start, end, length } = plan.region(index);
    let first = index == 0;
    let in_scratch = first && plan.kept_in_scratch();
    let steps = plan.units();
    let Slots {
        primary,
        secondary,
        spare,
        transform,
        watch,
        failed_records,
        ..
    } = slots;
    let outward = |at| Through(*transform, Direction::Outward, at);
    let mut tick = || watch(Progress::Install { step: unit, steps });
    let area = plan.scratch.slot_size();
    match state {
        0 => {
            rewrite(
                At(*secondary, start, SwapError::Secondary),
                At(*spare, 0, SwapError::Spare),
                length,
                AS_THEY_ARE,
                // The first time, it is erased already and may hold the job.
                &mut |spare: &mut X, tick: &mut dyn FnMut()| {
                    let end = if first { 0 } else { area };
                    erase(spare, (0, end, plan.scratch.sector_size()), tick)
                },
                &mut tick,
            )?;
        }
        1 => {
            // If a trailer ends the region, its start need not be a multiple of the secondary's write unit.
            let tail = length % plan.secondary.write_size();
            let kept = try_rewrite(
                At(*primary, start, SwapError::Primary),
                At(*secondary, start, SwapError::Secondary),
                length - tail,
                outward(start),
                &mut |secondary: &mut S, tick: &mut dyn FnMut()| {
                    let mut erased = end;
                    if first {
                        tick();
                        erase_trailer(secondary, &plan.secondary)?;
                        erased = end.min(plan.secondary.first_sector());
                    }
                    erase(secondary, (start, erased, plan.secondary.sector_size()), tick)
                },
                &mut tick,
            )?;
            let at = start + length - tail;
            let tail = copy_tail(*primary, *secondary, (at, tail), &plan.secondary, outward(at))?;
            not_kept(failed_records, kept && tail);
        }
        _ => {
            rewrite(
                At(*spare, 0, SwapError::Spare),
                At(*primary, start, SwapError::Primary),
                length,
                Through(*transform, Direction::Inward, start),
                &mut |primary: &mut P, tick: &mut dyn FnMut()| {
                    let mut erased = end;
                    if in_scratch {
                        tick();
                        erase_trailer(primary, &plan.primary)?;
                        erased = plan.primary.first_sector();
                    }
                    erase(primary, (start, erased, plan.primary.sector_size()), tick)
                },
                &mut tick,
            )?;
            if in_scratch {
                move_job(*primary, plan, job).map_err(SwapError::Primary)?;
            }
        }
    }
    let number = state as u8 + 1;
    match (in_scratch, state) {
        (false, _) => {
            job::record(slots, unit, number);
            Ok(())
        }
        (true, 0 | 1) => match write_record(slots.spare, &plan.scratch, state, number) {
            // The boot that was cut wrote it, and not every flash takes it twice, nor does it read the same each time. Instead of
            // it the evidence tells that the unit is done.
            Err(_) if slots.in_doubt == Some(unit) && trust::pass(slots, unit) => Ok(()),
            outcome => outcome.map_err(SwapError::Spare),
        },
        (true, _) => write_record(slots.primary, &plan.primary, state, number).map_err(SwapError::Primary),
    }
}

/// Copies the last bytes of a region, fewer than a write unit of the secondary.
fn copy_tail<P: Flash, S: Flash, T: Transform>(
    primary: &mut P,
    secondary: &mut S,
    (at, length): (u32, u32),
    layout: &TrailerLayout,
    through: Through<'_, T>,
) -> Result<bool, SwapError> {
    let mut bytes = Aligned::<MAX_WRITE_SIZE>::erased();
    let bytes = bytes.0.get_mut(..length as usize).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(true);
    }
    read_bytes(primary, at, bytes).map_err(SwapError::Primary)?;
    through.apply(0, bytes);
    program_padded(secondary, at, bytes, layout.write_size()).map_err(SwapError::Secondary)?;
    let (from, to) = (
        At(primary, at, SwapError::Primary),
        At(secondary, at, SwapError::Secondary),
    );
    is_equal(from, to, length, through)
}
