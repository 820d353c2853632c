// SPDX-License-Identifier: Apache-2.0
//! What the [evidence](bledfu_slot::evidence) inside the processor adds to every algorithm: which image may come, which one may
//! come back, and which unit of an interrupted job is to be done again.
//!
//! # Cells that read differently
//! A record torn by a cut may read as written at one boot and as erased at the next. Only the last one can, and only until a
//! boot that takes the job up. So that boot notes its first unit *in doubt* before it erases anything; when the unit is done and
//! recorded, it notes the next one as *passed* before it begins that. At the boot after:
//!
//! | Noted | Records found | Goes on at | Because |
//! |---|---|---|---|
//! | nothing | n | n | this boot will note it |
//! | e in doubt | up to e + 1 | e | record e is the doubtful one, or of this unit done again; unit e + 1 has not begun |
//! | e passed | n | the higher of both | all below e are done; the last record may be doubtful, and is noted now |
//!
//! With one number instead of two kinds a unit would be done again whose source is gone.

use bledfu_slot::decide::{Downgrade, Rules};
use bledfu_slot::evidence::{Done, Evidence, Floor, NO_DIGEST};
use bledfu_slot::verify::read_info;
use bledfu_slot::{Flag, ImageInfo, Magic, SwapType, Trailer, Transform, VerifyError};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{Flash, Installer, Job, Slots};
use crate::boot::BootConfig;

/// How often an image may be taken back before it is not tried again.
const TAKE_BACKS: u8 = 3;

/// Boots at which the image to go back to may be invalid before going back is given up.
const WAY_BACK_TRIES: u8 = 2;

/// What the evidence says of the job in hand, if it is of that job.
fn of_job<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> Option<Evidence> {
    let evidence = slots.evidence.last()?;
    let begun = evidence.begun?;
    // With swap using move a revert that was cut early goes on as a permanent request for the image before.
    let same = begun == job.swap_type || (begun, job.swap_type) == (SwapType::Revert, SwapType::Permanent);
    (same && evidence.size == job.size).then_some(evidence)
}

/// The job with the unit at which it goes on, for one of which `recorded` units are recorded.
pub fn settle<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: Job,
    recorded: u32,
) -> Job {
    let done = match of_job(slots, &job).map(|evidence| evidence.done) {
        Some(Done::InDoubt(unit)) if recorded <= unit.saturating_add(1) => unit,
        Some(Done::Passed(unit)) => recorded.max(unit),
        _ => recorded,
    };
    Job { done, ..job }
}

/// Whether a boot before has taken this job up.
pub fn is_noted<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> bool {
    of_job(slots, job).is_some_and(|evidence| evidence.done != Done::Unknown)
}

/// Whether the evidence is of this job.
pub fn is_known<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
) -> bool {
    of_job(slots, job).is_some()
}

/// Notes where an interrupted job is taken up, before anything is erased. Without the note the job goes on all the same: the
/// images are in pieces.
pub fn take_up<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>, job: &Job) {
    let Some(evidence) = of_job(slots, job) else {
        return;
    };
    let noted = Evidence {
        done: Done::InDoubt(job.done),
        ..evidence
    };
    if slots.evidence.append(&noted).is_ok() {
        slots.in_doubt = Some(job.done);
    }
}

/// To be called when a unit is done and recorded.
pub fn unit_done<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>, unit: u32) {
    if slots.in_doubt != Some(unit) {
        return;
    }
    slots.in_doubt = None;
    if let Some(evidence) = slots.evidence.last() {
        let passed = Evidence {
            done: Done::Passed(unit.saturating_add(1)),
            ..evidence
        };
        if slots.evidence.append(&passed).is_err() {
            slots.failed_records = slots.failed_records.saturating_add(1);
        }
    }
}

/// The least an image must be, where the policy has a floor; `None` = anything goes.
fn floor<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
) -> Option<Floor> {
    match config.downgrade {
        Downgrade::Allowed => None,
        _ => slots.evidence.last().map(|evidence| evidence.floor),
    }
}

/// Why an image is older than the policy allows, compared with what it must at least be.
pub fn older(downgrade: Downgrade, image: &Floor, least: &Floor) -> Option<VerifyError<NorFlashErrorKind>> {
    match downgrade {
        Downgrade::ByVersion if image.version < least.version => Some(VerifyError::Older),
        // None is less than any counter.
        Downgrade::BySecurityCounter if image.security_counter < least.security_counter => {
            Some(VerifyError::SecurityCounter)
        }
        _ => None,
    }
}

/// Why an image may not be installed or started, if it is below the floor.
pub fn below_floor<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    image: &ImageInfo,
) -> Option<VerifyError<NorFlashErrorKind>> {
    let least = floor(slots, config)?;
    older(config.downgrade, &Floor::of(image), &least)
}

/// Whether this image has been taken back too often to be tried once more.
pub fn is_given_up<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    image: &ImageInfo,
) -> bool {
    slots.evidence.last().is_some_and(|evidence| {
        evidence.begun.is_none() && evidence.taken_back >= TAKE_BACKS && evidence.from == image.digest
    })
}

/// Whether a request for this image is how an interrupted revert goes on.
pub fn is_way_back<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    image: &ImageInfo,
) -> bool {
    slots
        .evidence
        .last()
        .is_some_and(|evidence| evidence.begun == Some(SwapType::Revert) && evidence.to == image.digest)
}

/// The digest of what is in the primary slot as its TLV says, with nothing checked.
fn claimed_digest<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Option<[u8; 32]> {
    let size = slots.layout.primary().slot_size;
    match read_info(slots.primary, 0, size) {
        Ok(info) => info.map(|info| info.digest),
        Err(_) => None,
    }
}

/// Whether the image in the primary slot is the one that runs for good: it was verified in full after the last write there.
pub fn is_settled<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>) -> bool {
    let evidence = slots.evidence.last();
    evidence.is_some_and(|evidence| evidence.begun.is_none() && claimed_digest(slots) == Some(evidence.to))
}

/// What the boot stage goes by beside the trailers.
fn rules<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
) -> Rules {
    Rules {
        downgrade: config.downgrade,
        is_kept: slots.evidence.is_kept(),
        evidence: slots.evidence.last(),
    }
}

/// Whether the image in the primary slot, which was verified, is this one; see [`Rules::already_runs`].
pub fn already_runs<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    update: &ImageInfo,
) -> bool {
    let running = slots.verified.map(|running| running.digest);
    rules(slots, config).already_runs(running, Some(update.digest))
}

/// What is asked for; see [`Rules::decide`].
pub fn decide<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    primary: &Trailer,
    secondary: &Trailer,
) -> Option<SwapType> {
    let running = claimed_digest(slots);
    rules(slots, config).decide(A::NAME, primary, secondary, running)
}

/// Whether the image outside is the one that ran before.
pub fn may_come_back<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    image: &ImageInfo,
) -> bool {
    let rules = rules(slots, config);
    if !rules.are_strict() {
        return true;
    }
    let older_than = |floor: &Floor| older(config.downgrade, &Floor::of(image), floor).is_some();
    match (rules.image_before(), rules.evidence) {
        (Some(before), Some(evidence)) => before == image.digest && !older_than(&evidence.floor),
        // The trial began before there was a trust area.
        _ => slots
            .verified
            .is_none_or(|running| !older_than(&Floor::of(&running))),
    }
}

/// Notes that the image to go back to is not valid; true if it is time to give it up.
pub fn way_back_is_invalid<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> bool {
    let Some(evidence) = slots.evidence.last() else {
        return true;
    };
    if evidence.invalid_way_back >= WAY_BACK_TRIES {
        return true;
    }
    let noted = Evidence {
        invalid_way_back: evidence.invalid_way_back + 1,
        ..evidence
    };
    slots.evidence.append(&noted).is_err()
}

/// Notes what is about to be installed, before anything is erased.
///
/// # Errors
/// The trust area does not take it; nothing may be installed then.
pub fn begin<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
    image: &ImageInfo,
) -> Result<(), NorFlashErrorKind> {
    if !slots.evidence.is_kept() {
        return Ok(());
    }
    let last = slots.evidence.last();
    let known = of_job(slots, job).is_some_and(|evidence| evidence.to == image.digest);
    let swap_type = if is_way_back(slots, image) {
        SwapType::Revert
    } else {
        job.swap_type
    };
    let in_doubt = job.committed && known;
    let evidence = Evidence {
        begun: Some(swap_type),
        invalid_way_back: 0,
        taken_back: last.map_or(0, |last| last.taken_back),
        size: job.size,
        done: if in_doubt { Done::InDoubt(0) } else { Done::Unknown },
        floor: last.map_or(Floor::default(), |last| last.floor),
        from: match (last, slots.verified) {
            // A revert that goes on: what it replaces may be in pieces by now.
            (Some(last), _) if swap_type == SwapType::Revert && last.begun == Some(SwapType::Revert) => {
                last.from
            }
            (_, Some(running)) => running.digest,
            (_, None) => NO_DIGEST,
        },
        to: image.digest,
    };
    slots.evidence.append(&evidence)?;
    if in_doubt {
        slots.in_doubt = Some(0);
    }
    Ok(())
}

/// Whether the primary slot says that the image in it is there for good, so that the evidence may say so, too. `digest` is that
/// image's.
fn is_over<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &Slots<'_, P, S, X, T>,
    reverts: bool,
    primary: &Trailer,
    last: Option<&Evidence>,
    digest: &[u8; 32],
) -> bool {
    let confirmed = primary.magic == Magic::Good && primary.image_ok == Flag::Set;
    match last {
        // What was begun must be over, to the letter.
        Some(Evidence {
            begun: Some(_), to, ..
        }) => {
            (confirmed && primary.copy_done == Flag::Set)
                // Overwrite only has no flags; its magic comes last.
                || (!reverts && to == digest && primary.magic == Magic::Good)
        }
        _ => primary.magic != Magic::Good || (confirmed && !primary.holds_job(&slots.layout)),
    }
}

/// Notes that the image in the primary slot, which was verified, runs for good, if that is so and not yet noted; the floor rises
/// to it. Nothing outside is read for that. A failure is tried again at the next boot.
pub fn note_settled<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    image: &ImageInfo,
) {
    let layout = slots.layout.primary_trailer();
    let Ok(primary) = Trailer::read(slots.primary, &layout) else {
        return;
    };
    let last = slots.evidence.last();
    let primary = primary.settled(&layout);
    if !is_over(slots, A::REVERTS, &primary, last.as_ref(), &image.digest)
        || below_floor(slots, config, image).is_some()
    {
        return;
    }
    let is_back = |last: &Evidence| last.begun == Some(SwapType::Revert) && last.to == image.digest;
    let settled = Evidence {
        begun: None,
        invalid_way_back: 0,
        taken_back: match &last {
            Some(last) if is_back(last) => last.taken_back.saturating_add(1),
            _ => 0,
        },
        size: 0,
        done: Done::Unknown,
        floor: last
            .map_or(Floor::default(), |last| last.floor)
            .raised(Floor::of(image)),
        from: last.map_or(NO_DIGEST, |last| last.from),
        to: image.digest,
    };
    let _ = slots.evidence.append(&settled);
}
