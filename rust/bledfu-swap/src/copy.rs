// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image, our own: the update is copied over the primary, and the way back is the copy of the
//! running image that is still where it was received. No external erase, and one external program operation per install.
//!
//! # What happens
//! `A` is the running image, `B` the update; `F` is the trailer sector. One external place holds the copy of `A`, the other
//! one received `B`; [`bledfu_slot::copy_roles`] tells which is which, and from then on the place of the image that comes is
//! called secondary here, the other one spare.
//!
//! | Step | Primary | Secondary | Spare |
//! |---|---|---|---|
//! | a request was made | `A1 A2 F` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 0. only if the spare holds no copy of a valid primary: make it | `A1 A2 F` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 1. erase the primary trailer, write role record and job, magic last: **the job is begun** | `A1 A2 F(job)` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 2. each page that differs: erase, program; lowest first | `B1 B2 F(job)` | `B1 B2 F(magic)` | `A1 A2 F` |
//! | 3. take the request down: its magic becomes zeros | `B1 B2 F(job)` | `B1 B2 F` | `A1 A2 F` |
//! | 4. `copy_done`; on trial, or for good if `image_ok` came with the job. **The roles change** | `B1 B2 F(done)` | `A1 A2 F` | `B1 B2 F` |
//! | confirmed: the next update goes to the secondary | `B1 B2 F(done, ok)` | `C1 C2 F(magic)` | `B1 B2 F` |
//! | or not confirmed: 5. each page that differs: erase, program | `A1 A2 F(done)` | `A1 A2 F` | `B1 B2 F` |
//! | 6. the mark: **the roles change back** | `A1 A2 F(done, mark)` | `B1 B2 F` | `A1 A2 F` |
//! | 7. `image_ok` | `A1 A2 F(done, mark, ok)` | `B1 B2 F` | `A1 A2 F` |
//!
//! # Why a power cut cannot hurt
//! * **Step 0** changes only the spare, and the request starts it over. It is read back in full before step 1; without a way
//!   back there is no step 1, unless the primary holds nothing worth keeping.
//! * **Step 1.** Whatever a torn erase or write leaves, the image `A` is whole and the request stands; a place with a
//!   request goes before any role record, so `B` is what comes, and all is written anew. (So the order inside this step does
//!   not matter here; it is that of MCUboot.) An old record or job that outlives a torn erase with its `copy_done` gone is
//!   not resumed: it names another place, or an image of another digest, or does not agree with the request.
//! * **Step 2** reads a place that nothing writes to. It is done again until step 4, each time skipping what is equal.
//! * **Step 3** comes before step 4, else the request would ask once more for what runs already, and the image before would
//!   be lost to a new copy. It is one program operation; torn, the magic is whole (and is taken down again) or it is none.
//!   (An erase, where nothing can be programmed twice. Torn, it may leave the magic with anything for flags. The primary holds
//!   all of `B` by then, so the record counts and not that request: it would have `B` copied over `A`.)
//! * **Step 4.** `copy_done` not written: record and job say the install is underway, and steps 2 to 4 find all equal. Torn:
//!   the same, and it is written again (where the write unit allows that: up to four bytes).
//! * **Step 5** needs no job of its own: `copy_done` without `image_ok` asks for it until step 7, and it reads a place that
//!   nothing writes to, since an application takes no update while it is on trial.
//! * **Steps 6 and 7.** The mark is written over a complete `A`. Torn, it reads as written (step 7 follows) or not (step 5
//!   finds all equal). A torn `image_ok` beside the mark is written again.
//! * **The next upload** erases the trailer over `A`, torn or not: zeros do not become a magic.
//! * **Stale or foreign trailers.** A record counts only with its CRC and the magic of the trailer. Without one, place 0
//!   takes the update, and step 0 looks what the other place holds.
//! * **Verified afterwards.** If the primary is invalid in spite of all, it is repaired with the spare: the running image, or
//!   the one before if that was the last install; the mark is written then, as after a revert.

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

/// Copy with a kept revert image. [`boot`] finds out the roles of the places first.
pub struct CopyKept;

/// [`crate::boot()`] with copy, for a boot stage that should contain nothing else. `first` and `second` are the external
/// places as the layout names them: its secondary slot and its spare area.
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

/// [`boot`] for images that have another form outside than in the primary slot.
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
    // With one of the places not readable the roles may be others: nothing is done then.
    let (incoming, unreadable) = copy_roles::find_incoming(
        &mut Steady::new(primary),
        &mut Steady::new(first),
        &mut Steady::new(second),
        &layout,
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
        taken(replace(
            At(slots.secondary, 0, SwapError::Secondary),
            At(slots.primary, 0, SwapError::Primary),
            (job.size, layout.sector_size()),
            Through(slots.transform, Direction::Inward, 0),
            // The copy of what the primary held when this began.
            Some(At(slots.spare, 0, SwapError::Spare)),
            slots.watch,
        )?)?;
        if reverts {
            return end_revert(slots);
        }
        copy_roles::take_request_down(slots.secondary, &slots.layout.secondary_trailer())
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

/// The record in a primary trailer with its magic, if it can be one of this device.
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

/// Whether the request in the secondary is whole. One that is not, is what is left of the request that made the job.
fn request_is_whole<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<bool, SwapError> {
    job::is_whole(slots.secondary, &slots.layout.secondary_trailer()).map_err(SwapError::Secondary)
}

/// Whether the primary holds the image with this digest, to the last page. A request for it that differs from the record was
/// not made by anybody then: it is left of a torn erase, in step 3.
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

/// What the image in the secondary says of itself.
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
    let layout = slots.layout.primary_trailer();
    // It was verified, so it has a digest unless its flash has changed its mind.
    let digest = digest_of(slots)?.ok_or(SwapError::Secondary(NorFlashErrorKind::Other))?;
    let record = Record {
        source: slots.layout.incoming(),
        swap_type: job.swap_type,
        size: job.size,
        digest,
    };
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
