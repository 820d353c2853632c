// SPDX-License-Identifier: Apache-2.0
//! What the [evidence](bledfu_slot::evidence) in internal flash adds to every algorithm: which image may be installed,
//! which one a revert may bring back, and which unit of an interrupted job is to be done again.
//!
//! # Cells that read differently
//! A status record torn by a cut may read as written at one boot and as erased at the next. This can happen only to the
//! last record, and only until a boot resumes the job. So the boot that resumes it notes its first unit as *in doubt*
//! before it erases anything. When that unit is done and recorded, the boot notes all units below the next one as
//! *passed*, before it begins the next one. At the boot after that:
//!
//! | Noted | Records found | Goes on at | Because |
//! |---|---|---|---|
//! | nothing | n | n | this boot will note it |
//! | e in doubt | up to e + 1 | e | record e is the doubtful one, or unit e was done again; unit e + 1 has not begun |
//! | e passed | n | the higher of both | all units below e are done; the last record may be doubtful, so this boot notes it |
//!
//! A job that is found without any record is begun again: its first unit is noted as in doubt before its trailer is
//! erased, because the record of that unit may show once more if the erase is torn.
//!
//! If there were only one kind of note, a unit might be done again whose source is gone.

use bledfu_slot::decide::{Downgrade, Rules};
use bledfu_slot::evidence::{Done, Evidence, Floor, Store, NO_DIGEST};
use bledfu_slot::trailer::{erase_trailer, write_copy_done, write_magic};
use bledfu_slot::verify::{read_info, Digest};
use bledfu_slot::{Flag, ImageInfo, Layout, Magic, SwapType, Trailer, Transform, VerifyError};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::{Flash, Installer, Job, Slots, SwapError};

/// After this many reverts an image is not tried again.
const TAKE_BACKS: u8 = 3;

/// At this many boots the image to go back to may be invalid; at the next one the revert is given up.
const WAY_BACK_TRIES: u8 = 2;

/// Appends a record, which counts from now on.
///
/// # Errors
/// The trust area does not take the record.
fn note<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    evidence: Evidence,
) -> Result<(), NorFlashErrorKind> {
    append(slots.evidence, &mut slots.rules, evidence)
}

/// [`note`], where the flashes of the slots are in use.
fn append(store: &mut dyn Store, rules: &mut Rules, evidence: Evidence) -> Result<(), NorFlashErrorKind> {
    store.append(&evidence)?;
    rules.evidence = Some(evidence);
    Ok(())
}

/// The evidence, if it is about this job.
fn of_job<'r>(rules: &'r Rules, job: &Job) -> Option<&'r Evidence> {
    let evidence = rules.evidence.as_ref()?;
    let begun = evidence.begun?;
    // With swap using move, a revert that was cut early continues as a permanent request for the image before.
    let same = begun == job.swap_type || (begun, job.swap_type) == (SwapType::Revert, SwapType::Permanent);
    (same && evidence.size == job.size).then_some(evidence)
}

/// The job with the unit at which it continues, if `recorded` units are recorded.
pub fn settle(rules: &Rules, job: Job, recorded: u32) -> Job {
    let done = match of_job(rules, &job).map(|evidence| evidence.done) {
        Some(Done::InDoubt(unit)) if recorded <= unit.saturating_add(1) => unit,
        Some(Done::Passed(unit)) => recorded.max(unit),
        _ => recorded,
    };
    Job { done, ..job }
}

/// Whether an earlier boot has resumed this job behind its first unit.
pub fn is_noted(rules: &Rules, job: &Job) -> bool {
    of_job(rules, job).is_some_and(|evidence| !matches!(evidence.done, Done::Unknown | Done::InDoubt(0)))
}

/// Whether another job was begun after this one.
pub fn is_past(rules: &Rules, job: &Job) -> bool {
    rules.is_underway() && !is_known(rules, job)
}

/// Whether the evidence is about this job.
pub fn is_known(rules: &Rules, job: &Job) -> bool {
    of_job(rules, job).is_some()
}

/// Notes where an interrupted job is resumed, before anything is erased. If the note fails, the job goes on all the
/// same, because the images are in pieces.
pub fn take_up<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>, job: &Job) {
    if of_job(&slots.rules, job).is_some() && note_done(slots, Done::InDoubt(job.done)) {
        slots.in_doubt = Some(job.done);
    }
}

/// How often a flag is read that may read differently each time.
const READINGS: u32 = 3;

/// How often a resumed copy notes how far it has come, in sectors: enough to end between two cuts, and some records a copy.
const NOTED_SECTORS: u32 = 16;

/// The sectors of a copy that are as earlier boots left them, for [`replace`](crate::algorithm::replace).
pub fn resumed(rules: &Rules, job: &Job) -> Option<u32> {
    of_job(rules, job).map(|evidence| match evidence.done {
        Done::Unknown if !job.committed => u32::MAX,
        Done::Unknown => 0,
        Done::InDoubt(sector) | Done::Passed(sector) => sector,
    })
}

/// Whether the power went while the primary slot was written from a place that nothing changes, and no boot has written
/// all of it since. Its bytes may be right now and wrong at the next boot.
pub fn is_in_doubt<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &Slots<'_, P, S, X, T>) -> bool {
    !slots.is_whole
        && slots.rules.evidence.is_some_and(|evidence| {
            // A revert ends with `image_ok`, which a cut confirmation may have torn before.
            evidence.done != Done::Unknown || evidence.begun == Some(SwapType::Revert)
        })
}

/// Notes that the primary slot is about to be written with this image once more; returns what of it is as earlier boots
/// left it, for [`replace`](crate::algorithm::replace).
pub fn begin_repair<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    image: &Digest,
) -> Option<u32> {
    let done = slots.rules.evidence?.done;
    match done {
        Done::Passed(sector) if slots.rules.is_for(image) => return Some(sector),
        Done::InDoubt(0) => {}
        // Even without the note it is better than what is there.
        _ => {
            note_done(slots, Done::InDoubt(0));
        }
    }
    Some(0)
}

/// To be called when all of the primary slot was written or compared in this boot.
pub fn copied<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>) {
    let is_noted = slots
        .rules
        .evidence
        .is_some_and(|evidence| evidence.done != Done::Unknown);
    if is_noted {
        note_done(slots, Done::Unknown);
    }
    slots.is_whole = true;
}

/// To be called when a resumed copy has written sectors up to `step`. Without the note a boot behind the next cut begins
/// further below.
pub fn passed(store: &mut dyn Store, rules: &mut Rules, resumed: Option<u32>, step: u32) {
    let Some(evidence) = rules.evidence else {
        return;
    };
    if resumed.is_none_or(|resumed| step <= resumed) || !step.is_multiple_of(NOTED_SECTORS) {
        return;
    }
    let done = Done::Passed(step);
    let _ = append(store, rules, Evidence { done, ..evidence });
}

/// Notes that a copy of the running image is about to be written outside, unless it `is_there`; returns what of it is as
/// earlier boots left it, for [`replace`](crate::algorithm::replace). A size beside an image that runs for good says that.
pub fn begin_copy<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    size: u32,
    is_there: bool,
) -> Option<u32> {
    let evidence = slots.rules.evidence?;
    // If an install was begun, the copy was complete before, unless this is another one.
    let was_cut = evidence.begun.is_none() && evidence.size != 0;
    if is_there && !was_cut {
        return Some(u32::MAX);
    }
    // Once more, too: if the record behind this one was torn, it must not show beside half a copy.
    let noted = match evidence.begun {
        None => Evidence { size, ..evidence },
        Some(_) => evidence,
    };
    let is_noted = note(slots, noted).is_ok();
    let is_first = evidence.begun.is_none() && !was_cut && is_noted;
    Some(if is_first { u32::MAX } else { 0 })
}

/// To be called when a unit is done and recorded.
///
/// # Errors
/// The trust area does not take the note behind the first unit. Up to there both images are whole; behind it nothing would
/// tell that a job was begun only once.
pub fn unit_done<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    unit: u32,
) -> Result<(), SwapError> {
    if slots.in_doubt != Some(unit) {
        return Ok(());
    }
    if pass(slots, unit) {
        return Ok(());
    }
    if unit == 0 {
        return Err(SwapError::Primary(NorFlashErrorKind::Other));
    }
    slots.failed_records = slots.failed_records.saturating_add(1);
    Ok(())
}

/// Notes that the unit in doubt is done; returns true if that was possible.
pub fn pass<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    unit: u32,
) -> bool {
    slots.in_doubt = None;
    note_done(slots, Done::Passed(unit.saturating_add(1)))
}

/// Notes how far the job has come; returns true if that was possible.
fn note_done<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    done: Done,
) -> bool {
    let Some(evidence) = slots.rules.evidence else {
        return false;
    };
    note(slots, Evidence { done, ..evidence }).is_ok()
}

/// The reason to refuse an image that is below `least`; `None` if the policy allows it.
pub fn older(
    downgrade: Downgrade,
    image: &ImageInfo,
    least: &Floor,
) -> Option<VerifyError<NorFlashErrorKind>> {
    downgrade.refuses(image, least).then_some(match downgrade {
        Downgrade::BySecurityCounter => VerifyError::SecurityCounter,
        _ => VerifyError::Older,
    })
}

/// The reason to refuse an image that is below the floor; `None` if it is not.
pub fn below_floor(rules: &Rules, image: &ImageInfo) -> Option<VerifyError<NorFlashErrorKind>> {
    older(rules.downgrade, image, &rules.evidence.as_ref()?.floor)
}

/// Whether this image was reverted too often to be tried once more.
pub fn is_given_up(rules: &Rules, image: &ImageInfo) -> bool {
    rules.evidence.as_ref().is_some_and(|evidence| {
        evidence.begun.is_none() && evidence.taken_back >= TAKE_BACKS && evidence.from == image.digest
    })
}

/// Whether a request for this image is the continuation of an interrupted revert.
pub fn is_way_back(rules: &Rules, image: &ImageInfo) -> bool {
    rules
        .evidence
        .as_ref()
        .is_some_and(|evidence| evidence.begun == Some(SwapType::Revert) && evidence.to == image.digest)
}

/// The digest that the image in the primary slot has in its TLV, unchecked. `None` also if there is no evidence,
/// because it would be compared with nothing.
#[inline(never)]
pub fn claimed_digest<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Option<Digest> {
    slots.rules.evidence.as_ref()?;
    let size = slots.layout.primary().slot_size;
    let info = read_info(slots.primary, 0, size).ok().flatten()?;
    Some(info.digest)
}

/// Whether the image in the primary slot is the one that runs for good. That also means that it was fully verified
/// after the last write there.
pub fn is_settled<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>) -> bool {
    let running = claimed_digest(slots);
    slots.rules.is_settled(running.as_ref())
}

/// Whether `update` is the verified image in the primary slot; see [`Rules::already_runs`].
pub fn already_runs<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &Slots<'_, P, S, X, T>,
    primary: &Trailer,
    update: &ImageInfo,
) -> bool {
    let running = slots.verified.as_ref().map(|running| &running.digest);
    slots
        .rules
        .already_runs(A::NAME, primary, running, Some(&update.digest))
}

/// Whether this image in external flash may be brought back; see [`Rules::may_come_back`].
pub fn may_come_back<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &Slots<'_, P, S, X, T>,
    image: &ImageInfo,
) -> bool {
    slots.rules.may_come_back(slots.verified.as_ref(), image)
}

/// Notes that the image to go back to is not valid; returns true if it is time to give the revert up.
pub fn way_back_is_invalid<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> bool {
    let Some(evidence) = slots.rules.evidence else {
        return true;
    };
    let invalid_way_back = evidence.invalid_way_back.saturating_add(1);
    let noted = Evidence {
        invalid_way_back,
        ..evidence
    };
    invalid_way_back > WAY_BACK_TRIES || note(slots, noted).is_err()
}

/// Notes that what was begun cannot be done: the image in the primary slot stays. It was not confirmed, so the floor
/// does not rise.
pub fn give_up<P: Flash, S: Flash, X: Flash, T: Transform>(slots: &mut Slots<'_, P, S, X, T>) {
    if let (Some(mut evidence), Some(running)) = (slots.rules.evidence, slots.verified) {
        evidence.end(running.digest);
        // Without the note, the next boot tries once more, with the same result.
        let _ = note(slots, evidence);
    }
}

/// Notes what is about to be installed, before anything is erased.
///
/// # Errors
/// The trust area does not take it; nothing may be installed then.
#[inline(never)]
pub fn begin<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    job: &Job,
    image: &ImageInfo,
) -> Result<(), NorFlashErrorKind> {
    if !slots.rules.is_kept {
        return Ok(());
    }
    let is_way_back = is_way_back(&slots.rules, image);
    let mut evidence = slots.rules.evidence.unwrap_or(Evidence::NONE);
    // Not for the first time: the torn record of unit 0 may show once more, if the erase of its trailer is torn.
    let is_in_doubt = evidence.begun.is_some() && evidence.to == image.digest;
    let running = slots.verified.as_ref().map(|running| running.digest);
    // What goes on keeps its `from`, as the image that it replaces may be in pieces by now.
    if !is_way_back {
        evidence.begun = Some(job.swap_type);
        if !is_in_doubt || running.is_some_and(|running| running != image.digest) {
            evidence.from = running.unwrap_or(NO_DIGEST);
        }
    }
    evidence.invalid_way_back = 0;
    evidence.size = job.size;
    evidence.done = match evidence.done {
        // A copy goes on where it was.
        done @ Done::Passed(_) if is_in_doubt && A::KEEPS_COPY => done,
        _ if is_in_doubt => Done::InDoubt(0),
        _ => Done::Unknown,
    };
    evidence.to = image.digest;
    note(slots, evidence)?;
    slots.in_doubt = is_in_doubt.then_some(0);
    Ok(())
}

/// Whether the primary slot shows that its image stays for good, so that the evidence may record it.
fn is_over(
    layout: &Layout,
    rules: &Rules,
    (reverts, is_stale): (bool, bool),
    primary: &Trailer,
    image: &ImageInfo,
) -> bool {
    let confirmed = |primary: &Trailer| primary.magic == Magic::Good && primary.image_ok == Flag::Set;
    let settled = primary.settled(&layout.primary_trailer());
    match &rules.evidence {
        // Overwrite only has no flags. There the magic is written last and completes the install, unless this is not the first
        // boot that tries: then the magic, and the image too, may be torn and read right by chance.
        Some(Evidence {
            begun: Some(_),
            to,
            done,
            ..
        }) if *to == image.digest && !reverts => match done {
            Done::Unknown => primary.magic == Magic::Good,
            Done::InDoubt(_) => false,
            Done::Passed(_) => true,
        },
        // The image that was being installed is in place: a flag that stays torn counts as set.
        Some(Evidence {
            begun: Some(_), to, ..
        }) if *to == image.digest => {
            (confirmed(&settled) && settled.copy_done == Flag::Set)
                // If the magic was lost again, the image can be neither reverted nor confirmed, so it stays.
                || primary.magic != Magic::Good
        }
        // It is not in place: what looks like the end of another job may be the remains of a torn erase of the trailer.
        Some(Evidence {
            begun: Some(begun), ..
        }) if !is_stale => *begun != SwapType::Revert && confirmed(primary) && primary.copy_done == Flag::Set,
        _ => primary.magic != Magic::Good || (confirmed(&settled) && !settled.holds_job(layout)),
    }
}

/// Whether the verified image in the primary slot is on trial, and the magic that tells so does not read as written: it was
/// torn. The image can be neither confirmed nor reverted.
pub fn has_lost_trial<P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &Slots<'_, P, S, X, T>,
    primary: &Trailer,
) -> bool {
    let (Some(image), Some(evidence)) = (&slots.verified, &slots.rules.evidence) else {
        return false;
    };
    primary.magic != Magic::Good
        && primary.image_ok != Flag::Set
        && evidence.begun == Some(SwapType::Test)
        && evidence.to == image.digest
}

/// If the verified image in the primary slot stays for good, notes that, and raises the floor to it. No external flash
/// is read for that. If the note fails, the next boot tries again.
#[inline(never)]
pub fn note_settled<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) {
    let layout = slots.layout.primary_trailer();
    let (Some(image), Ok(mut primary)) = (slots.verified, Trailer::read(slots.primary, &layout)) else {
        return;
    };
    if A::REVERTS && primary.swap_type() != SwapType::None && slots.rules.is_bringing(&image.digest) {
        // A torn magic that reads as erased again would end the trial. What counts is whether it reads as written then.
        if primary.magic != Magic::Good {
            let _ = write_magic(slots.primary, &layout);
            primary = Trailer::read(slots.primary, &layout).unwrap_or(primary);
        }
        // A torn `copy_done` is written behind a complete install only: so it can be completed.
        for _ in 0..READINGS {
            if Trailer::read(slots.primary, &layout).is_ok_and(|read| read.copy_done != primary.copy_done) {
                let _ = write_copy_done(slots.primary, &layout);
            }
        }
    }
    let mut evidence = slots.rules.evidence.unwrap_or(Evidence::NONE);
    let is_stale = slots.rules.is_stale(&image.digest, slots.is_whole);
    // The image is back, all of it. A revert begins behind `copy_done` and does not write it, so nothing would ever repair it,
    // and the roles of the places would be those of an install.
    let is_back = A::KEEPS_COPY
        && is_way_back(&slots.rules, &image)
        && primary.magic == Magic::Good
        && primary.copy_done != Flag::Set
        && erase_trailer(slots.primary, &layout).is_ok();
    if A::KEEPS_COPY && has_lost_trial(slots, &primary)
        || !is_back
            && !is_over(
                &slots.layout,
                &slots.rules,
                (A::REVERTS, is_stale),
                &primary,
                &image,
            )
        || below_floor(&slots.rules, &image).is_some()
    {
        if is_stale {
            // Another boot stage may have put it on trial. What ran before is what was to be replaced.
            evidence.end(evidence.from);
            let _ = note(slots, evidence);
        }
        return;
    }
    evidence.taken_back = match evidence.begun {
        Some(SwapType::Revert) if evidence.to == image.digest => evidence.taken_back.saturating_add(1),
        _ => 0,
    };
    evidence.floor = evidence.floor.raised(Floor::of(&image));
    evidence.end(image.digest);
    let _ = note(slots, evidence);
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_slot::tlv::SliceFlash;
    use bledfu_slot::{Algorithm, Geometry};
    use bledfu_testkit::{Image, Key};

    extern crate std;

    /// An image as the boot stage has verified it.
    fn image(seed: u64) -> ImageInfo {
        let bytes = Image::bare(0x200, 1000, seed).sign(Key(1)).bytes();
        read_info(&mut SliceFlash(&bytes), 0, bytes.len() as u32)
            .unwrap()
            .unwrap()
    }

    /// The result of `is_over` on a device with wide write units, while `begun` is under way from image 2 to image 1.
    fn over(begun: SwapType, primary: Trailer, image: &ImageInfo) -> bool {
        let geometry = Geometry {
            slot_size: 0x10000,
            sector_size: 4096,
            write_size: 16,
        };
        let layout = Layout::new(Algorithm::SwapMove, geometry, geometry, 16, 32).unwrap();
        let rules = Rules {
            downgrade: Downgrade::ByVersion,
            is_kept: true,
            evidence: Some(Evidence {
                begun: Some(begun),
                from: self::image(2).digest,
                to: self::image(1).digest,
                ..Evidence::NONE
            }),
        };
        is_over(&layout, &rules, (true, false), &primary, image)
    }

    #[test]
    fn a_torn_trailer_of_the_image_that_goes_does_not_end_what_was_begun() {
        let torn = Trailer {
            magic: Magic::Good,
            image_ok: Flag::Bad,
            copy_done: Flag::Bad,
            ..Trailer::ERASED
        };
        let done = Trailer {
            image_ok: Flag::Set,
            copy_done: Flag::Set,
            ..torn
        };
        for begun in [SwapType::Test, SwapType::Permanent, SwapType::Revert] {
            assert!(!over(begun, torn, &image(2)), "{begun}");
            // Where a flag cannot be written twice, a torn one counts as set for the image that is in place.
            assert!(over(begun, torn, &image(1)), "{begun}");
            assert!(over(begun, done, &image(1)), "{begun}");
        }
        // Torn bytes that by chance look like both flags do not end a revert either.
        assert!(!over(SwapType::Revert, done, &image(2)));
    }
}
