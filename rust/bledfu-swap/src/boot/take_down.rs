// SPDX-License-Identifier: Apache-2.0
//! Removes requests and jobs that are refused, impossible or stale.

use bledfu_slot::copy_roles::Record;
use bledfu_slot::decide::interrupted;
use bledfu_slot::trailer::{erase_trailer, repair_flag, write_copy_done, write_image_ok};
use bledfu_slot::verify::read_header;
use bledfu_slot::{
    Algorithm, Crypto, Flag, HeaderError, Layout, Magic, SwapType, Trailer, Transform, VerifyError,
};
use embedded_storage::nor_flash::NorFlashErrorKind;

use super::check::{primary_is_valid, REFUSALS};
use super::report::{BootAction, SkipReason};
use super::BootConfig;
use crate::algorithm::{erase_slot, Flash, Installer, Progress, Slots, SwapError};
use crate::job;

/// Removes a request or job that no boot can carry out, when the primary image is valid. Left in place, it would be
/// tried again at every boot and block every update. If this fails, nothing is lost: the next boot tries again.
#[inline(never)]
pub(super) fn drop_impossible<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    action: BootAction,
    primary: &Trailer,
    secondary: Option<Trailer>,
) -> BootAction {
    let layout = slots.layout;
    let Some(secondary) = secondary else {
        return action;
    };
    let requested = secondary.magic == Magic::Good;
    // The job as it is now: that of a refused image is closed already. A job that cannot be read is not known to be
    // stale.
    let job = job_left::<A, P, S, X, T>(slots).unwrap_or(SwapType::None);
    let stale = job != SwapType::None;
    // A torn `copy_done` that was read as set at first; with copy that is when the roles of the places were found.
    let was_done = match A::NAME {
        Algorithm::SwapScratch => false,
        Algorithm::Copy if !requested => Record::read(slots.primary, &layout.primary_trailer())
            .is_ok_and(|record| record.is_some_and(|record| record.source != layout.incoming())),
        _ => primary.copy_done == Flag::Set,
    };
    let (swap_type, reason) = match action {
        BootAction::Skipped {
            swap_type,
            reason:
                reason @ (SkipReason::PrimaryTooLarge
                | SkipReason::NotKept
                | SkipReason::AlreadyRuns
                | SkipReason::NotDue),
        } => (swap_type, reason),
        BootAction::None if stale && was_done => return action,
        BootAction::None if stale && matches!(complete::<A, P, S, X, T>(slots), Ok(true)) => return action,
        BootAction::None if stale => (job, SkipReason::StaleJob),
        BootAction::None if requested => (SwapType::None, SkipReason::DamagedRequest),
        BootAction::Rejected { .. } | BootAction::TrailerCleared if stale => {
            // The action reports that already; the stale job is removed as well.
            let _ = end_job::<A, P, S, X, T>(slots);
            return action;
        }
        _ => return action,
    };
    let mut take_down = || {
        if requested {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.secondary, &layout.secondary_trailer()).map_err(SwapError::Secondary)?;
        }
        // A job that is not valid, or a revert that would be tried for ever.
        if stale || swap_type == SwapType::Revert {
            return end_job::<A, P, S, X, T>(slots);
        }
        A::forget(slots)
    };
    match take_down() {
        Ok(()) => BootAction::Dropped { swap_type, reason },
        Err(_) => action,
    }
}

/// The swap type of a job that an earlier boot wrote down. Like [`interrupted`], but without the code for other
/// algorithms.
pub(super) fn job_left<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<SwapType, NorFlashErrorKind> {
    if matches!(A::NAME, Algorithm::SwapScratch | Algorithm::SwapOffset) {
        return interrupted(&slots.layout, slots.primary, slots.spare);
    }
    let trailer = Trailer::read(slots.primary, &slots.layout.primary_trailer())?;
    Ok(match trailer.holds_job(&slots.layout) {
        true => trailer.swap_type(),
        false => SwapType::None,
    })
}

/// Closes the job in the primary trailer, or the revert that this trailer asks for, and removes what is kept about the
/// job elsewhere.
#[inline(never)]
pub(super) fn end_job<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<(), SwapError> {
    let layout = slots.layout;
    let trailer = layout.primary_trailer();
    let primary = Trailer::read(slots.primary, &trailer).map_err(SwapError::Primary)?;
    let reverts = A::decide(&primary.settled(&trailer), &Trailer::ERASED) == SwapType::Revert;
    if reverts || primary.holds_job(&layout) {
        close(slots.primary, &layout).map_err(SwapError::Primary)?;
    }
    A::forget(slots)
}

/// If the image that was to be installed runs, writes the flags that complete its install, and returns true: it is on trial
/// then, if it was to be, and the way back is there. Only with an algorithm that keeps a copy, and with evidence: after a
/// torn `copy_done` the trailer alone says one thing at one read and another at the next.
pub(super) fn complete<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<bool, SwapError> {
    let layout = slots.layout.primary_trailer();
    let begun = slots.rules.evidence.and_then(|evidence| evidence.begun);
    let is_there = slots
        .verified
        .is_some_and(|running| slots.rules.is_bringing(&running.digest));
    match begun.filter(|begun| A::KEEPS_COPY && is_there && *begun != SwapType::Revert) {
        Some(begun) => {
            job::finish(slots.primary, &layout, begun).map_err(SwapError::Primary)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Erases the secondary trailer if there is no image: its header is erased.
#[inline(never)]
pub(super) fn clear_orphan<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    secondary: &Trailer,
) -> Result<BootAction, SwapError> {
    let start = slots.layout.upload_offset();
    // At both offsets: swap using offset keeps the image before at the start of the slot.
    let mut blank = |start| {
        (0..REFUSALS).all(|_| {
            matches!(
                read_header(slots.secondary, start),
                Err(VerifyError::Header(HeaderError::Erased))
            )
        })
    };
    let orphan = *secondary != Trailer::ERASED && blank(start) && blank(0);
    if !orphan || !primary_is_valid(slots, config, crypto)? {
        return Ok(BootAction::None);
    }
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.secondary, &slots.layout.secondary_trailer()).map_err(SwapError::Secondary)?;
    Ok(BootAction::TrailerCleared)
}

/// Erases a refused image: only the trailer if there is no image at all, else the whole slot.
#[inline(never)]
pub(super) fn reject<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    swap_type: SwapType,
    committed: bool,
    reason: VerifyError<NorFlashErrorKind>,
) -> Result<(), SwapError> {
    let layout = slots.layout;
    let running = job::size_of(slots.primary, 0, layout.primary().slot_size).map_err(SwapError::Primary)?;
    if matches!(
        reason,
        VerifyError::Header(HeaderError::Erased | HeaderError::NotBootable)
    ) {
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.secondary, &layout.secondary_trailer()).map_err(SwapError::Secondary)?;
    } else {
        erase_slot(slots.secondary, layout.secondary(), slots.watch).map_err(SwapError::Secondary)?;
    }
    if committed {
        return close(slots.primary, &layout).map_err(SwapError::Primary);
    }
    if swap_type == SwapType::Revert {
        // There is nothing to go back to, so the trailer must stop asking for it: the next update would be taken for
        // the image before. The trailer is closed, not erased, where it holds more: with copy it says where the copy of
        // the running image is, and with swap using scratch the image may reach into its sector.
        let trailer = layout.primary_trailer();
        if A::KEEPS_COPY || running == 0 || running > trailer.first_sector() {
            return close(slots.primary, &layout).map_err(SwapError::Primary);
        }
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.primary, &trailer).map_err(SwapError::Primary)?;
    }
    Ok(())
}

/// Closes a job that cannot be done: the image in the primary slot stays for good. Both flags are written even if the
/// flash reports an error, and only what reads back counts: next to bytes that are not erased, a driver may report a
/// write as failed that was done.
fn close<F: Flash>(flash: &mut F, layout: &Layout) -> Result<(), NorFlashErrorKind> {
    let slots = layout;
    let layout = layout.primary_trailer();
    let trailer = Trailer::read(flash, &layout)?;
    let marked = match trailer.image_ok {
        Flag::Set => Ok(()),
        Flag::Unset => write_image_ok(flash, &layout),
        Flag::Bad => repair_flag(flash, &layout, layout.image_ok()).map(drop),
    };
    let done = match trailer.copy_done {
        Flag::Unset => write_copy_done(flash, &layout),
        _ => Ok(()),
    };
    let trailer = Trailer::read(flash, &layout)?;
    if trailer.holds_job(slots) || !trailer.is_confirmed(slots) {
        marked.and(done)?;
    }
    Ok(())
}
