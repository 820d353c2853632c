// SPDX-License-Identifier: Apache-2.0
//! The copy of the running image, made before an install so that there is a way back.

use bledfu_slot::trailer::erase_trailer;
use bledfu_slot::verify::read_info;
use bledfu_slot::{Crypto, Direction, Magic, Trailer, Transform};

use super::check::{known, primary_is_valid, REFUSALS};
use super::report::SkipReason;
use super::BootConfig;
use crate::algorithm::{is_equal, replace, At, Flash, Progress, Slots, SwapError, Through};
use crate::trust;

/// Makes sure that a valid image in the primary slot has a valid copy in the spare area. `Some` says why it has none.
pub(super) fn keep_copy<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<Option<SkipReason>, SwapError> {
    let layout = slots.layout;
    let (Some(area), Some(trailer)) = (layout.spare(), layout.spare_trailer()) else {
        return Ok(None);
    };
    let running = read_info(slots.primary, 0, layout.primary().slot_size);
    let Some(running) = known(running, SwapError::Primary)?.flatten() else {
        return Ok(None); // nothing to keep
    };
    // An install of this very image was begun: the copy is of the image before it.
    if slots.rules.is_bringing(&running.digest) {
        return Ok(None);
    }
    // A request there would ask to install the copy, now or after the install.
    let take_request_down = |slots: &mut Slots<'_, P, S, X, T>| {
        let found = Trailer::read(slots.spare, &trailer)?;
        if found.magic == Magic::Good {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.spare, &trailer)?;
        }
        Ok(())
    };
    // Compares byte for byte: a policy with digests only would not notice torn bytes after the hashed part.
    let is_kept = |slots: &mut Slots<'_, P, S, X, T>| {
        // A byte that was read wrongly is no reason to write a slot anew, or to give up an update.
        for _ in 0..REFUSALS {
            let kept = is_equal(
                At(slots.primary, 0, SwapError::Primary),
                At(slots.spare, 0, SwapError::Spare),
                running.total_size,
                Through(slots.transform, Direction::Outward, 0),
            )?;
            if kept {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let is_too_large = running.total_size > layout.max_image_size();
    // A copy that cannot be read may be lost. It is made again, but only of an image that is known to be valid.
    let is_there = !is_too_large && matches!(is_kept(slots), Ok(true));
    if !is_there {
        slots.verified = None;
        if !primary_is_valid(slots, config, crypto)? {
            return Ok(None);
        }
    }
    if is_too_large {
        return Ok(Some(SkipReason::PrimaryTooLarge));
    }
    take_request_down(slots).map_err(SwapError::Spare)?;
    let resumed = trust::begin_copy(slots, running.total_size, is_there);
    if is_there {
        if resumed != Some(0) {
            return Ok(None);
        }
        slots.verified = None;
        if !primary_is_valid(slots, config, crypto)? {
            return Ok(None);
        }
    }
    let taken = replace(
        At(slots.primary, 0, SwapError::Primary),
        At(slots.spare, 0, SwapError::Spare),
        (running.total_size, area.sector_size),
        Through(slots.transform, Direction::Outward, 0),
        None::<At<'_, X>>,
        (resumed, &mut |_| {}),
        slots.watch,
    )?;
    Ok(match taken && is_kept(slots)? {
        true => None,
        false => Some(SkipReason::NotKept),
    })
}
