// SPDX-License-Identifier: Apache-2.0
//! One boot (MCUboot `loader.c`): finish what was interrupted, or else do what the trailers ask for; then verify the
//! image that is to start.
//!
//! The secondary slot may be missing, unreadable or full of random bytes: that never prevents a valid primary image
//! from starting. Deliberate differences from MCUboot, besides those of the algorithms:
//! * A job that was written down, but whose image turns out to be invalid before anything was changed, is closed with
//!   `copy_done` as well as `image_ok`; MCUboot leaves a trailer that could still be mistaken for a job.
//! * If the secondary header is erased, the trailer is erased whatever its flags say: it would only block the next
//!   upload.
//! * If a test image is found invalid after its install, the revert that the next reset would bring is done at once.
//! * If the primary image is invalid and there is nothing to revert to, it is repaired with a valid image from another
//!   slot, if there is one.
//! * A read of external flash may be wrong once and right later. So an image there is refused only after three failed
//!   checks in a row. Neither it nor its request is erased while the primary image does not verify: it may be the last
//!   good image.
//! * With a trust area ([`bledfu_slot::evidence`]) and a downgrade policy, the external flash decides nothing by
//!   itself: a revert brings back only the image that ran before, and no image below the floor starts.

mod check;
mod kept_copy;
mod repair;
mod report;
mod steady;
mod take_down;

pub use bledfu_slot::decide::Downgrade;
use bledfu_slot::decide::{is_sound, Rules};
use bledfu_slot::evidence::Store;
use bledfu_slot::trailer::erase_trailer;
use bledfu_slot::verify::read_info;
use bledfu_slot::{Algorithm, Crypto, Flag, ImagePolicy, Layout, Magic, Plain, SwapType, Trailer, Transform};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};

use crate::algorithm::{Flash, Installer, Job, Progress, Slots, Status, SwapError};
use crate::copy;
use crate::job::{self, has_header};
use crate::overwrite::Overwrite;
use crate::swap_move::SwapMove;
use crate::swap_offset::SwapOffset;
use crate::swap_scratch::SwapScratch;
use crate::trust;

use check::{
    check_primary, check_update, is_proven, known, primary_is_valid, silent, startable, verify_secondary,
};
use kept_copy::keep_copy;
use repair::{end_repair, refresh, repair};
pub use report::{BootAction, BootError, BootReport, SkipReason};
pub(crate) use steady::Steady;
use take_down::{clear_orphan, drop_impossible, reject};

/// What a boot needs to know about the device.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'k> {
    /// The slots and the algorithm.
    pub layout: Layout,
    /// Which images may start.
    pub policy: ImagePolicy<'k>,
    /// Which of them may replace the running image.
    pub downgrade: Downgrade,
    /// Whether the image in the primary slot is checked in full at every boot. If false, a boot that installs nothing
    /// checks only its header and TLV areas, and does so only if the evidence says that the image was checked in full
    /// after the last write there.
    pub verify_primary: bool,
}

fn fits<F: NorFlash>(flash: &F, area: bledfu_slot::Geometry) -> bool {
    flash.capacity() >= area.slot_size as usize
        && (area.sector_size as usize).is_multiple_of(F::ERASE_SIZE)
        && (area.write_size as usize).is_multiple_of(F::WRITE_SIZE)
}

/// Whether the flashes match the layout.
pub(crate) fn fit<P: NorFlash, S: NorFlash, X: NorFlash>(
    primary: &P,
    secondary: &S,
    spare: &X,
    layout: &Layout,
) -> bool {
    fits(primary, layout.primary())
        && fits(secondary, layout.secondary())
        && layout.spare().is_none_or(|area| fits(spare, area))
}

/// One boot: finds and finishes an interrupted install, or else decides, verifies and installs; then verifies the image
/// in the primary slot and reports what to start. `primary`, `secondary` and `spare` are the areas of the layout, each
/// from its own offset 0, `spare` being [`NoFlash`](crate::NoFlash) if it has none; `watch` is called before everything
/// that takes time. `evidence` is the trust area, or [`NoEvidence`](bledfu_slot::evidence::NoEvidence).
///
/// # Errors
/// [`BootError`]: there is nothing to start. After a flash error a reset may help; the work is then resumed.
pub fn boot<P: NorFlash, S: NorFlash, X: NorFlash, C: Crypto>(
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    match config.layout.algorithm() {
        Algorithm::SwapOffset => {
            boot_by::<SwapOffset, _, _, _, C>(primary, secondary, spare, config, crypto, evidence, watch)
        }
        Algorithm::SwapMove => {
            boot_by::<SwapMove, _, _, _, C>(primary, secondary, spare, config, crypto, evidence, watch)
        }
        Algorithm::SwapScratch => {
            boot_by::<SwapScratch, _, _, _, C>(primary, secondary, spare, config, crypto, evidence, watch)
        }
        Algorithm::Overwrite => {
            boot_by::<Overwrite, _, _, _, C>(primary, secondary, spare, config, crypto, evidence, watch)
        }
        Algorithm::Copy => copy::boot(primary, secondary, spare, config, crypto, evidence, watch),
        _ => Err(BootError::Geometry),
    }
}

/// [`boot`] with one algorithm, for a boot stage that contains no other. For copy use [`copy::boot`], which finds out
/// the roles of the places first.
///
/// # Errors
/// As [`boot`]; [`BootError::Geometry`] also if the layout is for another algorithm.
pub fn boot_by<A: Installer, P: NorFlash, S: NorFlash, X: NorFlash, C: Crypto>(
    primary: &mut P,
    secondary: &mut S,
    spare: &mut X,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    boot_through::<A, _, _, _, Plain, C>(
        (primary, secondary, spare),
        &Plain,
        config,
        crypto,
        evidence,
        watch,
    )
}

/// [`boot_by`] for images that have another form in external flash than in the primary slot.
///
/// # Errors
/// As [`boot_by`].
pub fn boot_through<A: Installer, P: NorFlash, S: NorFlash, X: NorFlash, T: Transform, C: Crypto>(
    areas: (&mut P, &mut S, &mut X),
    transform: &T,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    boot_unless::<A, _, _, _, T, C>(None, areas, transform, config, crypto, evidence, watch)
}

/// [`boot_by`], but if `unreadable` says that one of the other areas could not be read, nothing is installed: the image
/// in the primary slot is checked and started.
pub(crate) fn boot_unless<A: Installer, P: NorFlash, S: NorFlash, X: NorFlash, T: Transform, C: Crypto>(
    unreadable: Option<NorFlashErrorKind>,
    (primary, secondary, spare): (&mut P, &mut S, &mut X),
    transform: &T,
    config: &BootConfig<'_>,
    crypto: &C,
    evidence: &mut dyn Store,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError> {
    let layout = config.layout;
    if layout.algorithm() != A::NAME || !fit(primary, secondary, spare, &layout) {
        return Err(BootError::Geometry);
    }
    let (mut primary, mut secondary, mut spare) =
        (Steady::new(primary), Steady::new(secondary), Steady::new(spare));
    let mut slots = Slots {
        primary: &mut primary,
        secondary: &mut secondary,
        spare: &mut spare,
        layout,
        transform,
        watch,
        failed_records: 0,
        rules: Rules {
            downgrade: config.downgrade,
            is_kept: evidence.is_kept(),
            evidence: evidence.last(),
        },
        evidence,
        in_doubt: None,
        is_whole: false,
        verified: None,
    };
    run::<A, _, _, _, T, C>(&mut slots, config, crypto, unreadable)
}

fn run<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    unreadable: Option<NorFlashErrorKind>,
) -> Result<BootReport, BootError> {
    let mut undone = false;
    // Before any external flash is read.
    note_settled::<A, P, S, X, T, C>(slots, config, crypto);
    loop {
        let layout = slots.layout.primary_trailer();
        let primary = Trailer::read(slots.primary, &layout)
            .map_err(|kind| BootError::Flash(SwapError::Primary(kind)))?;
        let found = Trailer::read_twice(slots.secondary, &slots.layout.secondary_trailer());
        let found = unreadable.map_or(found, Err);
        let outcome = match &found {
            Ok(secondary) => {
                let had_begun = slots.rules.is_underway();
                let action = act::<A, P, S, X, T, C>(slots, config, crypto, &primary, secondary);
                match had_begun && !slots.rules.is_underway() && action == Ok(BootAction::None) {
                    // What the evidence asked for is given up; now to what the trailers ask for.
                    true => act::<A, P, S, X, T, C>(slots, config, crypto, &primary, secondary),
                    false => action,
                }
            }
            // It is not known what the secondary trailer asks for, which is not the same as nothing. The primary
            // trailer alone may ask for a revert.
            Err(kind) => Ok(BootAction::Skipped {
                swap_type: match primary.settled(&layout) {
                    Trailer {
                        magic: Magic::Good,
                        copy_done: Flag::Set,
                        image_ok: Flag::Unset,
                        ..
                    } if A::REVERTS => SwapType::Revert,
                    _ => SwapType::None,
                },
                reason: SkipReason::SecondaryUnreadable(*kind),
            }),
        };
        let action = match outcome {
            Ok(action) => action,
            Err((swap_type, error)) => BootAction::Skipped {
                swap_type,
                reason: error.into(),
            },
        };
        if A::KEEPS_COPY {
            match action {
                // A revert is begun again, not resumed, unless only its flags are missing.
                BootAction::Installed { swap_type, resumed }
                    if !(resumed && swap_type == SwapType::Revert) =>
                {
                    trust::copied(slots);
                }
                // An image that verifies starts, also if it cannot be written once more.
                _ => {
                    let _ = refresh::<A, P, S, X, T, C>(slots, config, crypto, &primary);
                }
            }
        }
        let quick = !config.verify_primary && action == BootAction::None && trust::is_settled(slots);
        let mut checked = startable(slots, config, crypto, quick);
        if let (Err(reason), BootAction::Installed { .. }) = (&checked, &action) {
            // The image was just written and may have been read wrongly.
            if reason.is_about_image() {
                checked = startable(slots, config, crypto, false);
            }
        }
        let (image, action) = match checked {
            Ok(image) => {
                note_settled::<A, P, S, X, T, C>(slots, config, crypto);
                (
                    image,
                    drop_impossible::<A, P, S, X, T>(slots, action, &primary, found.ok()),
                )
            }
            Err(reason) => {
                if let Err((_, error)) = outcome {
                    return Err(BootError::Flash(error));
                }
                // Only an image that is known to be invalid is replaced.
                silent(reason, SwapError::Primary).map_err(BootError::Flash)?;
                if let (Err(kind), false) = (found, A::KEEPS_COPY) {
                    // The images may be in pieces, and the trailer that cannot be read may say how to go on.
                    return Err(BootError::Flash(SwapError::Secondary(kind)));
                }
                let test_failed = matches!(
                    action,
                    BootAction::Installed {
                        swap_type: SwapType::Test,
                        ..
                    }
                ) && A::REVERTS
                    // With copy, the roles of the places have changed by now; the spare is the way back.
                    && !A::KEEPS_COPY;
                if test_failed && !undone {
                    undone = true;
                    continue;
                }
                let repaired = repair::<A, P, S, X, T, C>(slots, config, crypto).map_err(BootError::Flash)?;
                match (repaired, found) {
                    (Some(image), _) => {
                        // The image is good in any case; the next boot does what is left to do.
                        let _ = end_repair::<A, P, S, X, T>(slots, &primary);
                        if !slots.rules.is_bringing(&image.digest) && slots.rules.is_underway() {
                            trust::give_up(slots);
                        }
                        if A::KEEPS_COPY {
                            trust::copied(slots);
                        }
                        (image, BootAction::Repaired)
                    }
                    (None, Err(kind)) => return Err(BootError::Flash(SwapError::Secondary(kind))),
                    (None, _) => return Err(BootError::NoValidImage { reason, action }),
                }
            }
        };
        return Ok(BootReport {
            image,
            action,
            primary,
            secondary: found.ok(),
            failed_records: slots.failed_records,
        });
    }
}

/// Notes in the evidence that an install is over, if the primary slot says so and it is not noted yet.
#[inline(never)]
fn note_settled<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) {
    let running = trust::claimed_digest(slots);
    let is_stale = running.is_some_and(|running| slots.rules.is_stale(&running, slots.is_whole));
    let is_in_doubt = A::KEEPS_COPY && trust::is_in_doubt(slots);
    if slots.rules.is_kept
        && (is_stale || !is_in_doubt && !slots.rules.is_settled(running.as_ref()))
        && check_primary(slots, config, crypto).is_ok()
    {
        trust::note_settled::<A, _, _, _, _>(slots);
    }
}

/// Everything except the verification of the primary image. An error comes with the swap type of what was being done.
#[inline(never)]
fn act<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    primary: &Trailer,
    secondary: &Trailer,
) -> Result<BootAction, (SwapType, SwapError)> {
    let stored = primary.swap_type();
    let running = trust::claimed_digest(slots);
    let is_begun_again = slots.rules.is_begun_again(A::NAME, running.as_ref());
    let found = match is_begun_again {
        true => Status::Idle,
        false => A::find(slots, primary, secondary).map_err(|error| (stored, error))?,
    };
    let found = match found {
        // The install is over: the evidence says so, and the image is in place. Only cells that were torn at the end still read
        // as if they were erased. The last unit must not be done again: they may read as written at the next boot.
        Status::Underway(job)
            if slots.rules.is_settled(running.as_ref())
                && A::units(&slots.layout, job.size).checked_sub(1) == Some(job.done)
                && primary_is_valid(slots, config, crypto).map_err(|error| (stored, error))? =>
        {
            Status::Underway(Job {
                done: job.done + 1,
                ..job
            })
        }
        found => found,
    };
    let doubtful = match found {
        Status::Doubtful(job) => {
            let source = A::source(&slots.layout, job.swap_type);
            let found = verify_secondary(slots, source, config, crypto);
            known(found, SwapError::Secondary)
                .map_err(|error| (stored, error))?
                .is_some()
        }
        _ => false,
    };
    let status = match found {
        Status::Doubtful(_) if doubtful => Status::Idle,
        Status::Doubtful(job) | Status::Claimed(job) => {
            match is_proven::<A, P, S, X, T, C>(slots, config, crypto, &job) {
                Ok(true) => Status::Underway(job),
                Ok(false) => Status::Idle,
                Err(error) => return Err((stored, error)),
            }
        }
        status => status,
    };
    let settled = primary.settled(&slots.layout.primary_trailer());
    let (swap_type, committed) = match status {
        Status::Underway(job) | Status::Claimed(job) | Status::Doubtful(job) => {
            trust::take_up(slots, &job);
            slots.verified = None;
            A::install(slots, &job).map_err(|error| (job.swap_type, error))?;
            return Ok(BootAction::Installed {
                swap_type: job.swap_type,
                resumed: true,
            });
        }
        Status::Committed(job) => (job.swap_type, Some(job)),
        Status::Idle => match slots.rules.decide(A::NAME, &settled, secondary, running.as_ref()) {
            Some(swap_type) => (swap_type, None),
            None => {
                return Ok(BootAction::Skipped {
                    swap_type: SwapType::Revert,
                    reason: SkipReason::NotDue,
                })
            }
        },
    };
    if swap_type == SwapType::None {
        return clear_orphan(slots, config, crypto, secondary).map_err(|error| (swap_type, error));
    }
    let failed = |error| (swap_type, error);
    let skipped = |reason| Ok(BootAction::Skipped { swap_type, reason });
    if !A::BOOTSTRAPS && !has_header(slots.primary, 0).map_err(|kind| failed(SwapError::Primary(kind)))? {
        return skipped(SkipReason::PrimaryEmpty);
    }
    // Only the evidence asks for this install. It is about one image and says nothing about another one that may be
    // there by now.
    let reverts = swap_type == SwapType::Revert;
    let by_evidence =
        committed.is_none() && (is_begun_again || !reverts && A::decide(primary, secondary) != swap_type);
    let was_begun = committed.is_some() || by_evidence;
    let checked =
        check_update::<A, P, S, X, T, C>(slots, config, crypto, swap_type, was_begun).map_err(failed)?;
    // A way back that is not valid now may be valid at the next boot.
    let is_another = match &checked {
        Ok(update) => !slots.rules.is_for(&update.digest),
        // Unless there is a request by now, which would wait for it.
        Err(_) => {
            !reverts
                || matches!(
                    A::decide(&Trailer::ERASED, secondary),
                    SwapType::Test | SwapType::Permanent
                )
        }
    };
    // The image to go back to was replaced with another one, which nothing but a peer can have done.
    let is_replaced = reverts
        && committed.is_none()
        && checked.is_ok()
        && A::decide(&settled, secondary) != SwapType::Revert;
    if (by_evidence || is_replaced) && is_another {
        if primary_is_valid(slots, config, crypto).map_err(failed)? {
            trust::give_up(slots);
        }
        return Ok(BootAction::None);
    }
    let update = match checked {
        Ok(update) => update,
        Err(reason) => {
            if !primary_is_valid(slots, config, crypto).map_err(failed)? {
                return skipped(SkipReason::PrimaryInvalid);
            }
            if swap_type == SwapType::Revert && !trust::way_back_is_invalid(slots) {
                return skipped(SkipReason::WayBackInvalid);
            }
            reject::<A, P, S, X, T>(slots, swap_type, committed.is_some(), reason).map_err(failed)?;
            if swap_type == SwapType::Revert {
                trust::give_up(slots);
            }
            return Ok(BootAction::Rejected { swap_type, reason });
        }
    };
    if slots.rules.is_kept {
        // The new image is not older than the one it replaces, and the replaced one may come back. So that one must be
        // known to be valid. With copy, if it was checked after its install, its equal copy outside says so.
        let was_checked = running.is_some_and(|running| {
            let is_confirmed = primary.copy_done == Flag::Set && primary.image_ok == Flag::Set;
            slots.rules.is_settled(Some(&running)) || is_confirmed && slots.rules.is_for(&running)
        });
        if A::KEEPS_COPY && !reverts && was_checked && !slots.rules.is_for(&update.digest) {
            let size = slots.layout.primary().slot_size;
            let running = known(read_info(slots.primary, 0, size), SwapError::Primary).map_err(failed)?;
            slots.verified = running.flatten();
        } else {
            primary_is_valid(slots, config, crypto).map_err(failed)?;
        }
        // With damaged flags the image could not confirm itself; an install writes them anew.
        let is_sound = is_sound(primary)
            && job::flags_can_be_written(slots.primary, &slots.layout.primary_trailer())
                .map_err(|kind| failed(SwapError::Primary(kind)))?;
        match (swap_type, committed) {
            (SwapType::Revert, _) if !trust::may_come_back(slots, &update) => {
                return skipped(SkipReason::NotTheImageBefore);
            }
            (SwapType::Test | SwapType::Permanent, None)
                if is_sound && trust::already_runs::<A, _, _, _, _>(slots, primary, &update) =>
            {
                return skipped(SkipReason::AlreadyRuns);
            }
            _ => {}
        }
    }
    let job = match committed {
        // A torn trailer may read differently at the next boot. Both images are complete, and the evidence asks for
        // this install until the trailer is written anew.
        Some(job) if !trust::is_known(&slots.rules, &job) => job,
        _ => {
            let kept = job::size_of(slots.primary, 0, slots.layout.primary().slot_size)
                .map_err(|kind| failed(SwapError::Primary(kind)))?;
            let size = A::install_size(kept, update.total_size);
            if size > slots.layout.max_image_size() {
                return skipped(SkipReason::PrimaryTooLarge);
            }
            Job {
                swap_type,
                size,
                committed: false,
                done: 0,
            }
        }
    };
    if A::KEEPS_COPY && swap_type != SwapType::Revert {
        if committed.is_none() && slots.rules.is_bringing(&update.digest) {
            // A torn job may show once more; it must not, while the copy is not whole.
            (slots.watch)(Progress::Erase);
            let trailer = slots.layout.primary_trailer();
            erase_trailer(slots.primary, &trailer).map_err(|kind| failed(SwapError::Primary(kind)))?;
        }
        if let Some(reason) = keep_copy(slots, config, crypto).map_err(failed)? {
            return skipped(reason);
        }
    }
    if let Err(kind) = trust::begin::<A, _, _, _, _>(slots, &job, &update) {
        return skipped(SkipReason::EvidenceFailed(kind));
    }
    slots.verified = None;
    A::install(slots, &job).map_err(failed)?;
    Ok(BootAction::Installed {
        swap_type,
        resumed: job.committed,
    })
}
