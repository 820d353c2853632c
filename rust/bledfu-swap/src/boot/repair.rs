// SPDX-License-Identifier: Apache-2.0
//! Replaces an invalid image in the primary slot with a valid one from elsewhere.

use bledfu_slot::trailer::erase_trailer;
use bledfu_slot::verify::read_info;
use bledfu_slot::{Algorithm, Crypto, Direction, Flag, ImageInfo, Magic, SwapType, Trailer, Transform};

use super::check::{known, patiently, primary_is_valid, verify_at, verify_secondary};
use super::take_down::{complete, end_job, job_left};
use super::BootConfig;
use crate::algorithm::{replace, taken, At, Flash, Installer, Progress, Slots, SwapError, Through};
use crate::trust;

/// Replaces an invalid primary image with a valid one found elsewhere. The evidence names the preferred ones: the image
/// that is to run, then the one before it. Otherwise it is the first valid one of these: the copy that the algorithm
/// keeps, an update, the image before. It is copied page by page from a source that nothing changes, so a cut copy may
/// be begun again as often as needed. `None` if there is no valid image.
pub(super) fn repair<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<Option<ImageInfo>, SwapError> {
    let wanted = slots.rules.evidence.map(|evidence| [evidence.to, evidence.from]);
    for digest in wanted.into_iter().flatten().map(Some).chain([None]) {
        let image = repair_with::<A, P, S, X, T, C>(slots, config, crypto, digest)?;
        if image.is_some() {
            return Ok(image);
        }
    }
    Ok(None)
}

/// Writes the valid primary image once more if a boot was cut while it was copied there: a page that reads right now may
/// not do so at the next boot. If there is no place to copy it from, it stays as it is. An image on trial whose trailer was
/// lost is taken back.
pub(super) fn refresh<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    primary: &Trailer,
) -> Result<(), SwapError> {
    // A boot that is to be quick does not read all of an image that runs for good.
    let is_over = !slots.rules.is_underway() && !trust::is_in_doubt(slots);
    if is_over || !primary_is_valid(slots, config, crypto)? {
        return Ok(());
    }
    let is_lost = trust::has_lost_trial(slots, primary);
    let (Some(running), Some(evidence)) = (slots.verified, slots.rules.evidence) else {
        return Ok(());
    };
    if !is_lost && !trust::is_in_doubt(slots) {
        return Ok(());
    }
    // The image before, from wherever it is; if it is nowhere, this one stays.
    let wanted = if is_lost { evidence.from } else { running.digest };
    repair_with::<A, P, S, X, T, C>(slots, config, crypto, Some(wanted))?;
    if primary_is_valid(slots, config, crypto)? {
        if is_lost {
            trust::give_up(slots);
        }
        trust::copied(slots);
    }
    Ok(())
}

/// [`repair`] with the image that has this digest, or with any image.
#[inline(never)]
fn repair_with<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    wanted: Option<[u8; 32]>,
) -> Result<Option<ImageInfo>, SwapError> {
    let layout = slots.layout;
    let sector = layout.primary().sector_size;
    let begin = |slots: &mut Slots<'_, P, S, X, T>, image: &ImageInfo| {
        slots.verified = None;
        // What a cut leaves must not be taken for a good image because it reads right once.
        let resumed = A::KEEPS_COPY
            .then(|| trust::begin_repair(slots, &image.digest))
            .flatten();
        (resumed, resumed.filter(|_| slots.rules.is_for(&image.digest)))
    };
    let is_wanted = |info: Option<ImageInfo>| match wanted {
        Some(digest) => info.is_some_and(|info| info.digest == digest),
        None => true,
    };
    if let (true, Some(area)) = (A::KEEPS_COPY, layout.spare()) {
        let claimed = known(read_info(slots.spare, 0, area.slot_size), SwapError::Spare)?.flatten();
        let kept = if is_wanted(claimed) {
            let bounds = (0, area.slot_size, layout.max_image_size());
            let Slots {
                spare,
                transform,
                watch,
                ..
            } = slots;
            let kept = patiently(*watch, |watch| {
                verify_at(*spare, *transform, watch, bounds, config, crypto)
            });
            known(kept, SwapError::Spare)?
        } else {
            None
        };
        if let Some(info) = kept.filter(|info| trust::below_floor(&slots.rules, info).is_none()) {
            let (resumed, noted) = begin(slots, &info);
            let (store, rules) = (&mut *slots.evidence, &mut slots.rules);
            taken(replace(
                At(slots.spare, 0, SwapError::Spare),
                At(slots.primary, 0, SwapError::Primary),
                (info.total_size, sector),
                Through(slots.transform, Direction::Inward, 0),
                None::<At<'_, X>>,
                (resumed, &mut |step| trust::passed(store, rules, noted, step)),
                slots.watch,
            )?)?;
            if primary_is_valid(slots, config, crypto)? {
                // The image is good, whether a torn flag can be written or not: the next boot tries again.
                let _ = A::repaired(slots, true);
            }
            return Ok(slots.verified);
        }
    }
    let starts = [layout.upload_offset(), 0];
    let starts = if layout.upload_offset() == 0 {
        &starts[..1]
    } else {
        &starts[..]
    };
    for start in starts {
        let claimed = read_info(slots.secondary, *start, layout.secondary().slot_size);
        if !is_wanted(known(claimed, SwapError::Secondary)?.flatten()) {
            continue;
        }
        let found = verify_secondary(slots, *start, config, crypto);
        let Some(info) = known(found, SwapError::Secondary)? else {
            continue;
        };
        if trust::below_floor(&slots.rules, &info).is_some() {
            continue;
        }
        let (resumed, noted) = begin(slots, &info);
        let (store, rules) = (&mut *slots.evidence, &mut slots.rules);
        taken(replace(
            At(slots.secondary, *start, SwapError::Secondary),
            At(slots.primary, 0, SwapError::Primary),
            (info.total_size, sector),
            Through(slots.transform, Direction::Inward, 0),
            None::<At<'_, X>>,
            (resumed, &mut |step| trust::passed(store, rules, noted, step)),
            slots.watch,
        )?)?;
        if !primary_is_valid(slots, config, crypto)? {
            return Ok(None);
        }
        // If there was a request for this image, it is now fulfilled.
        let trailer = layout.secondary_trailer();
        let found = Trailer::read(slots.secondary, &trailer).map_err(SwapError::Secondary)?;
        if found.magic != Magic::Unset {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.secondary, &trailer).map_err(SwapError::Secondary)?;
        }
        let _ = A::repaired(slots, false);
        return Ok(slots.verified);
    }
    Ok(None)
}

/// After a repair no job goes on. Nor is there an image to go back to, unless the image on trial was repaired with its
/// own copy. So what the trailers still ask for is removed; it would block every update until the next boot.
pub(super) fn end_repair<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    found: &Trailer,
) -> Result<(), SwapError> {
    let layout = slots.layout;
    let trailer = layout.primary_trailer();
    let primary = Trailer::read(slots.primary, &trailer).map_err(SwapError::Primary)?;
    let reverts = A::decide(&primary.settled(&trailer), &Trailer::ERASED) == SwapType::Revert;
    // A torn `copy_done` that was read as set at first may read as erased now.
    let job = match found.copy_done == Flag::Set && A::NAME != Algorithm::SwapScratch {
        true => SwapType::None,
        false => job_left::<A, P, S, X, T>(slots).map_err(SwapError::Primary)?,
    };
    if job != SwapType::None && complete::<A, P, S, X, T>(slots)? {
        return Ok(());
    }
    if (reverts && A::REVERTS && !A::KEEPS_COPY) || job != SwapType::None {
        end_job::<A, P, S, X, T>(slots)?;
    }
    Ok(())
}
