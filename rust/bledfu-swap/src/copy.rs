// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image, our own algorithm: the update is copied over the primary slot, and the way back is
//! the copy of the running image that is still where it was received. An install needs no external erase and only one
//! external program operation.
//!
//! # What happens
//! `A` is the running image, `B` the update; `F` is the trailer sector. One external place holds the copy of `A`, the
//! other one received `B`; [`bledfu_slot::copy_roles`] tells which is which. Here the place of the new image is called
//! secondary and the other one spare.
//!
//! | Step | Primary | Secondary | Spare |
//! |---|---|---|---|
//! | a request was made | `A1 A2 F` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 0. only if the spare holds no copy of a valid primary image: make one | `A1 A2 F` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 1. erase the primary trailer, write role record and job, magic last: **the job is begun** | `A1 A2 F(job)` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 2. each page that differs: erase, program; lowest first | `B1 B2 F(job)` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 3. remove the request: its magic becomes zeros | `B1 B2 F(job)` | `B1 B2 F` | `A1 A2 F` |
//! | 4. write `copy_done`; the image is on trial, or stays for good if the job has `image_ok`. **The roles change** | `B1 B2 F(done)` | `A1 A2 F` | `B1 B2 F` |
//! | confirmed: the next update goes to the secondary | `B1 B2 F(done, ok)` | `C1 C2 F(magic)` | `B1 B2 F` |
//! | or not confirmed: 5. each page that differs: erase, program | `A1 A2 F(done)` | `A1 A2 F` | `B1 B2 F` |
//! | 6. write the mark: **the roles change back** | `A1 A2 F(done, mark)` | `B1 B2 F` | `A1 A2 F` |
//! | 7. write `image_ok` | `A1 A2 F(done, mark, ok)` | `B1 B2 F` | `A1 A2 F` |
//!
//! # Why a power cut cannot hurt
//! * **Step 0** changes only the spare, and after a cut the request starts it over. The copy is read back in full
//!   before step 1. Without a way back there is no step 1, unless the primary holds nothing worth keeping.
//! * **Step 1.** Whatever a torn erase or write leaves, the image `A` is complete and the request is still there. A
//!   request takes precedence over any role record, so `B` is installed, and everything is written anew. (So the order
//!   inside this step does not matter here; it is MCUboot's.) A torn erase may leave an old record or job without its
//!   `copy_done`. It is not resumed: it names another place, or an image with another digest, or does not agree with
//!   the request.
//! * **Step 2** reads a place that nothing writes to. Until step 4 is done, every boot does it again and skips the
//!   pages that are equal.
//! * **Step 3** comes before step 4. Otherwise the request would ask once more for the image that already runs, and a
//!   new copy would overwrite the image before. It is one program operation; if torn, the magic is either intact (and
//!   is removed again) or no magic any more. (Where nothing can be programmed twice, it is an erase. If torn, that may
//!   leave the magic with random flags. The primary holds all of `B` by then, so the record counts and not that
//!   request, which would have `B` copied over `A`.)
//! * **Step 4.** If `copy_done` was not written, record and job say that the install is under way, and steps 2 to 4
//!   find everything equal. If it was torn, the same holds, and it is written again (where the write unit allows that:
//!   up to four bytes).
//! * **Step 5** needs no job of its own: `copy_done` without `image_ok` asks for it until step 7. It reads a place that
//!   nothing writes to, since an application accepts no update while it is on trial.
//! * **Steps 6 and 7.** The mark is written when `A` is complete. If torn, it reads as written, and step 7 follows, or
//!   it does not, and step 5 finds everything equal. A torn `image_ok` is written again if the mark is there.
//! * **The next upload** erases the trailer in the place that held `A`. Even if that erase is torn, the zeros do not
//!   become a magic.
//! * **Stale or foreign trailers.** A record counts only with a correct CRC and with the magic of the trailer. Without
//!   a record, place 0 takes the update, and step 0 checks what the other place holds.
//! * **Cells that read differently each time** (`trust.rs`). A boot that resumes a copy, or repairs the primary, notes that
//!   its pages are in doubt. Until a boot has written all of them, an image that verifies is written again from its place, and
//!   does not count as settled. A job beside a settled image, or beside a later job, is over: its `copy_done` was torn. Once a
//!   revert was noted, the install before it was complete, which tells the roles. An image on trial whose magic is lost is
//!   taken back.
//! * **Verified afterwards.** If the primary is invalid in spite of all this, it is repaired from the spare. That is a
//!   copy of the running image, or of the image before if an install has just ended; in the latter case the mark is
//!   written, as after a revert.

use bledfu_slot::copy_roles::{self, Record};
use bledfu_slot::evidence::Store;
use bledfu_slot::trailer::{erase_trailer, write_image_ok, write_magic, write_swap_info, write_swap_size};
use bledfu_slot::verify::read_info;
use bledfu_slot::{
    Algorithm, Crypto, Direction, Flag, Magic, Plain, SwapType, Trailer, Transform, VerifyError,
};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};

use crate::algorithm::{
    replace, taken, At, Flash, Installer, Job, Progress, Slots, Status, SwapError, Through,
};
use crate::boot::{boot_unless, fit, BootConfig, BootError, BootReport, Steady};
use crate::decide::decide;
use crate::job;
use crate::trust;

/// Copy with a kept revert image. [`boot`] first finds out the roles of the places.
pub struct CopyKept;

/// [`crate::boot()`] with copy, for a boot stage that contains no other algorithm. `first` and `second` are the
/// external places as the layout names them: its secondary slot and its spare area.
///
/// # Errors
/// As [`boot_by`](crate::boot::boot_by).
pub fn boot<P: NorFlash, S: NorFlash, X: NorFlash, C: Crypto>(
    primary: &mut P,
    first: &mut S,
    second: &mut X,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    boot_through((primary, first, second), &Plain, config, crypto, evidence, watch)
}

/// [`boot`] for images that have another form in external flash than in the primary slot.
///
/// # Errors
/// As [`boot`].
pub fn boot_through<P: NorFlash, S: NorFlash, X: NorFlash, T: Transform, C: Crypto>(
    (primary, first, second): (&mut P, &mut S, &mut X),
    transform: &T,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    let layout = config.layout;
    if !fit(primary, first, second, &layout) {
        return Err(BootError::Geometry);
    }
    let last = evidence.last();
    let reverting = last
        .as_ref()
        .filter(|evidence| evidence.begun == Some(SwapType::Revert));
    // If one of the places cannot be read, the roles may be different, so nothing is installed.
    let (incoming, unreadable) = copy_roles::find_incoming(
        &mut Steady::new(primary),
        &mut Steady::new(first),
        &mut Steady::new(second),
        &layout,
        reverting.map(|evidence| &evidence.from),
    )
    .map_err(|kind| BootError::Flash(SwapError::Primary(kind)))?;
    let with_roles = layout.with_incoming(incoming);
    if with_roles == layout {
        let areas = (primary, first, second);
        return boot_unless::<CopyKept, _, _, _, T, C>(
            unreadable, areas, transform, config, crypto, evidence, watch,
        );
    }
    let config = BootConfig {
        layout: with_roles,
        ..*config
    };
    let areas = (primary, second, first);
    boot_unless::<CopyKept, _, _, _, T, C>(unreadable, areas, transform, &config, crypto, evidence, watch)
}

impl Installer for CopyKept {
    const NAME: Algorithm = Algorithm::Copy;
    const KEEPS_COPY: bool = true;
    const REVERTS: bool = true;
    const BOOTSTRAPS: bool = true;

    fn find<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        primary: &Trailer,
        secondary: &Trailer,
    ) -> Result<Status, SwapError> {
        let primary = &primary.settled(&slots.layout.primary_trailer());
        let Some(record) = record(slots, primary)? else {
            return Ok(Status::Idle);
        };
        let requested = secondary.magic == Magic::Good;
        let job = Job {
            swap_type: record.swap_type,
            size: record.size,
            committed: true,
            done: 0,
        };
        let job = trust::settle(&slots.rules, job, 0);
        let layout = slots.layout.primary_trailer();
        let reverted = copy_roles::is_reverted(slots.primary, &layout).map_err(SwapError::Primary)?;
        if primary.copy_done == Flag::Set {
            let unfinished = reverted && !requested && primary.image_ok != Flag::Set;
            return Ok(if unfinished {
                Status::Underway(Job {
                    swap_type: SwapType::Revert,
                    ..job
                })
            } else {
                Status::Idle
            });
        }
        let image_ok = match record.swap_type {
            SwapType::Permanent => Flag::Set,
            _ => Flag::Unset,
        };
        // No job begins without a note. This one is over: a torn flag reads differently now.
        if trust::is_settled(slots) || trust::is_past(&slots.rules, &job) {
            return Ok(Status::Idle);
        }
        let underway = !reverted
            && record.source == slots.layout.incoming()
            && (primary.swap_type(), primary.swap_size) == (record.swap_type, record.size)
            && primary.image_ok == image_ok
            && (!requested
                || decide(&Trailer::ERASED, secondary) == record.swap_type
                || !request_is_whole(slots)?
                || primary_is(slots, &record.digest)?)
            && digest_of(slots)? == Some(record.digest);
        Ok(if underway {
            Status::Underway(job)
        } else {
            Status::Idle
        })
    }

    fn install_size(_: u32, secondary: u32) -> u32 {
        secondary
    }

    fn install<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        job: &Job,
    ) -> Result<(), SwapError> {
        let layout = slots.layout.primary_trailer();
        let reverts = job.swap_type == SwapType::Revert;
        if reverts && job.committed {
            return job::finish(slots.primary, &layout, job.swap_type).map_err(SwapError::Primary);
        }
        if !reverts && !job.committed {
            begin(slots, job)?;
        }
        let resumed = trust::resumed(&slots.rules, job);
        let Slots {
            primary,
            secondary,
            spare,
            transform,
            watch,
            evidence,
            rules,
            ..
        } = slots;
        taken(replace(
            At(*secondary, 0, SwapError::Secondary),
            At(*primary, 0, SwapError::Primary),
            (job.size, layout.sector_size()),
            Through(*transform, Direction::Inward, 0),
            // The copy of what the primary slot held when this began.
            Some(At(*spare, 0, SwapError::Spare)),
            (resumed, &mut |step| {
                trust::passed(*evidence, rules, resumed, step)
            }),
            *watch,
        )?)?;
        if reverts {
            return end_revert(slots);
        }
        copy_roles::take_request_down(slots.secondary, &slots.layout.secondary_trailer(), job.committed)
            .map_err(SwapError::Secondary)?;
        job::finish(slots.primary, &layout, job.swap_type).map_err(SwapError::Primary)
    }

    fn repaired<P: Flash, S: Flash, X: Flash, T: Transform>(
        slots: &mut Slots<'_, P, S, X, T>,
        from_spare: bool,
    ) -> Result<(), SwapError> {
        let layout = slots.layout.primary_trailer();
        let trailer = Trailer::read(slots.primary, &layout)
            .map_err(SwapError::Primary)?
            .settled(&layout);
        let incoming = slots.layout.incoming();
        let place = if from_spare { incoming.other() } else { incoming };
        match record(slots, &trailer)? {
            Some(record) if trailer.copy_done == Flag::Set && record.source != place => end_revert(slots),
            _ => Ok(()),
        }
    }
}

/// The record in a primary trailer that has its magic, if the record can belong to this device.
fn record<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    primary: &Trailer,
) -> Result<Option<Record>, SwapError> {
    if primary.magic != Magic::Good {
        return Ok(None);
    }
    let limit = slots.layout.max_image_size();
    let record = Record::read(slots.primary, &slots.layout.primary_trailer()).map_err(SwapError::Primary)?;
    Ok(record.filter(|record| (1..=limit).contains(&record.size)))
}

/// Whether the request in the secondary slot is complete. If it is not, it is the remains of the request that led to
/// the job.
fn request_is_whole<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<bool, SwapError> {
    job::is_whole(slots.secondary, &slots.layout.secondary_trailer()).map_err(SwapError::Secondary)
}

/// Whether the primary slot holds the image with this digest up to its last page. If it does, nobody made a request
/// that differs from the record: it is the remains of a torn erase in step 3.
fn primary_is<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    digest: &[u8; 32],
) -> Result<bool, SwapError> {
    match read_info(slots.primary, 0, slots.layout.primary().slot_size) {
        Ok(info) => Ok(info.is_some_and(|info| info.digest == *digest)),
        Err(VerifyError::Flash(kind)) => Err(SwapError::Primary(kind)),
        Err(_) => Ok(false),
    }
}

/// The digest that the image in the secondary slot says it has.
fn digest_of<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<Option<[u8; 32]>, SwapError> {
    match read_info(slots.secondary, 0, slots.layout.secondary().slot_size) {
        Ok(info) => Ok(info.map(|info| info.digest)),
        Err(VerifyError::Flash(kind)) => Err(SwapError::Secondary(kind)),
        Err(_) => Ok(None),
    }
}

/// Step 1.
fn begin<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Result<(), SwapError> {
    // It was verified, so it has a digest, unless its flash now reads differently.
    let digest = digest_of(slots)?.ok_or(SwapError::Secondary(NorFlashErrorKind::Other))?;
    let record = Record {
        source: slots.layout.incoming(),
        swap_type: job.swap_type,
        size: job.size,
        digest,
    };
    let layout = slots.layout.primary_trailer();
    (slots.watch)(Progress::Erase);
    let flash = &mut *slots.primary;
    let mut write = || {
        erase_trailer(flash, &layout)?;
        record.write(flash, &layout)?;
        write_swap_info(flash, &layout, job.swap_type)?;
        if job.swap_type == SwapType::Permanent {
            write_image_ok(flash, &layout)?;
        }
        write_swap_size(flash, &layout, job.size)?;
        write_magic(flash, &layout)
    };
    write().map_err(SwapError::Primary)
}

/// Steps 6 and 7: the image before is back for good.
fn end_revert<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<(), SwapError> {
    let layout = slots.layout.primary_trailer();
    let flash = &mut *slots.primary;
    let mut write = || {
        if !copy_roles::is_reverted(flash, &layout)? {
            copy_roles::write_reverted(flash, &layout)?;
        }
        job::finish(flash, &layout, SwapType::Revert)
    };
    write().map_err(SwapError::Primary)
}
