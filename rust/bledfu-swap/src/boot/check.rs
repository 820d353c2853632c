// SPDX-License-Identifier: Apache-2.0
//! Checks of images: whether one is valid, and whether it may be installed or started.

use bledfu_slot::evidence::Floor;
use bledfu_slot::flash::read_bytes;
use bledfu_slot::verify::read_info;
use bledfu_slot::{verify_image_through, Crypto, ImageInfo, Plain, SwapType, Transform, VerifyError};
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};

use super::{BootConfig, Downgrade};
use crate::algorithm::{Flash, Installer, Job, Progress, Slots, SwapError};
use crate::job::has_header;
use crate::trust;

/// How many checks in a row must fail before an image in external flash counts as invalid, or a header there as erased.
pub(super) const REFUSALS: u32 = 3;

/// Returns an error if `reason` says nothing about the image, because its flash could not be read or the cryptography
/// was not available. `flash` says which flash it is. Nothing may be erased, replaced or removed for such a reason.
pub(super) fn silent(
    reason: VerifyError<NorFlashErrorKind>,
    flash: fn(NorFlashErrorKind) -> SwapError,
) -> Result<VerifyError<NorFlashErrorKind>, SwapError> {
    match reason {
        VerifyError::Flash(kind) => Err(flash(kind)),
        VerifyError::Unavailable => Err(SwapError::Crypto),
        reason => Ok(reason),
    }
}

/// Checks the image at `start` of one of the areas, and reports progress to the watch.
pub(super) fn verify_at<F: ReadNorFlash<Error = NorFlashErrorKind>, C: Crypto, T: Transform>(
    flash: &mut F,
    transform: &T,
    watch: &mut dyn FnMut(Progress),
    (start, slot_size, limit): (u32, u32, u32),
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    verify_image_through(
        flash,
        start,
        (slot_size, limit),
        &config.policy,
        crypto,
        transform,
        &mut || watch(Progress::Verify),
    )
}

/// Checks the image in the primary slot in full, and only once as long as nothing is written there. The signature of an
/// image in the evidence was checked before it was noted there: its digest is enough.
#[inline(never)]
pub(super) fn check_primary<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<(), VerifyError<NorFlashErrorKind>> {
    if slots.verified.is_some() {
        return Ok(());
    }
    // An image that a debugger programmed may reach up to the trailer; only an image that is to be swapped has a lower
    // limit.
    let size = slots.layout.primary().slot_size;
    let bounds = (0, size, size);
    let claimed = trust::claimed_digest(slots);
    let noted = claimed.filter(|claimed| slots.rules.is_for(claimed));
    let mut config = *config;
    if let Some(noted) = &noted {
        config.policy.trusted_digests = core::slice::from_ref(noted);
    }
    let image = verify_at(slots.primary, &Plain, slots.watch, bounds, &config, crypto)?;
    slots.verified = Some(image);
    Ok(())
}

/// The image in the primary slot, if it may start. With `quick`, only its header and TLV areas are read.
pub(super) fn startable<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    quick: bool,
) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    let quickly = if quick {
        let size = slots.layout.primary().slot_size;
        // The caller has compared a digest with that of the evidence; here it is read and compared once more.
        read_info(slots.primary, 0, size)?.filter(|image| slots.rules.is_settled(Some(&image.digest)))
    } else {
        None
    };
    let image = match quickly {
        Some(image) => image,
        None => {
            check_primary(slots, config, crypto)?;
            slots.verified.ok_or(VerifyError::NoHash)?
        }
    };
    trust::below_floor(&slots.rules, &image).map_or(Ok(image), Err)
}

/// Whether the image in the primary slot is valid; an error if that cannot be told.
#[inline(never)]
pub(super) fn primary_is_valid<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<bool, SwapError> {
    let checked = known(check_primary(slots, config, crypto), SwapError::Primary)?;
    Ok(checked.is_some())
}

/// Repeats a check up to three times, until it succeeds: an image in external flash is not invalid because it was read
/// wrongly once.
pub(super) fn patiently<R>(
    watch: &mut dyn FnMut(Progress),
    mut ask: impl FnMut(&mut dyn FnMut(Progress)) -> Result<R, VerifyError<NorFlashErrorKind>>,
) -> Result<R, VerifyError<NorFlashErrorKind>> {
    let mut outcome = ask(watch);
    for _ in 1..REFUSALS {
        match &outcome {
            Err(reason) if reason.is_about_image() => watch(Progress::Again),
            _ => break,
        }
        outcome = ask(watch);
    }
    outcome
}

#[inline(never)]
pub(super) fn verify_secondary<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    start: u32,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    let bounds = (
        start,
        slots.layout.secondary().slot_size,
        slots.layout.max_image_size(),
    );
    let Slots {
        secondary,
        transform,
        watch,
        ..
    } = slots;
    patiently(*watch, |watch| {
        verify_at(*secondary, *transform, watch, bounds, config, crypto)
    })
}

/// An image in two parts: from `spare_from` on it is in the spare area, and below that in the secondary slot.
struct Parts<'a, S, X> {
    secondary: &'a mut S,
    spare: &'a mut X,
    spare_from: u32,
}

impl<S: Flash, X: Flash> ErrorType for Parts<'_, S, X> {
    type Error = NorFlashErrorKind;
}

impl<S: Flash, X: Flash> ReadNorFlash for Parts<'_, S, X> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let in_secondary = (self.spare_from.saturating_sub(offset) as usize).min(bytes.len());
        let (low, high) = bytes.split_at_mut(in_secondary);
        read_bytes(self.secondary, offset, low)?;
        let from = offset.max(self.spare_from) - self.spare_from;
        read_bytes(self.spare, from, high)
    }

    fn capacity(&self) -> usize {
        self.secondary.capacity()
    }
}

/// Whether a job that only the spare area claims is to be believed.
pub(super) fn is_proven<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    job: &Job,
) -> Result<bool, SwapError> {
    let layout = slots.layout;
    let (Some(spare_from), false) = (A::spare_part(&layout, job), trust::is_known(&slots.rules, job)) else {
        return Ok(true);
    };
    let bounds = (0, layout.secondary().slot_size, layout.max_image_size());
    let Slots {
        secondary,
        spare,
        transform,
        watch,
        ..
    } = slots;
    let found = patiently(*watch, |watch| {
        let mut parts = Parts {
            secondary: &mut **secondary,
            spare: &mut **spare,
            spare_from,
        };
        verify_at(&mut parts, *transform, watch, bounds, config, crypto)
    });
    let image = known(found, SwapError::Secondary)?;
    Ok(image.is_some_and(|image| trust::below_floor(&slots.rules, &image).is_none()))
}

/// `None` if the check failed because of the image; an error if it [says nothing about the image](silent).
pub(super) fn known<T>(
    found: Result<T, VerifyError<NorFlashErrorKind>>,
    flash: fn(NorFlashErrorKind) -> SwapError,
) -> Result<Option<T>, SwapError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(reason) => silent(reason, flash).map(|_| None),
    }
}

/// Why `update` may not replace the image in the primary slot, if so.
fn check_downgrade<F: Flash>(
    primary: &mut F,
    slot_size: u32,
    downgrade: Downgrade,
    update: &ImageInfo,
) -> Result<Option<VerifyError<NorFlashErrorKind>>, SwapError> {
    if downgrade == Downgrade::Allowed {
        return Ok(None);
    }
    let running = known(read_info(primary, 0, slot_size), SwapError::Primary)?;
    let Some(running) = running.flatten() else {
        return Ok(None); // there is no image to compare with
    };
    Ok(trust::older(downgrade, update, &Floor::of(&running)))
}

/// The image to install, or why it is refused. The outer error says nothing about the image.
#[inline(never)]
pub(super) fn check_update<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    swap_type: SwapType,
    committed: bool,
) -> Result<Result<ImageInfo, VerifyError<NorFlashErrorKind>>, SwapError> {
    let start = A::source(&slots.layout, swap_type);
    let fresh = swap_type != SwapType::Revert;
    // Once the job is written down, a header at the start may be the first sector that was copied there, without its
    // record.
    if fresh && !committed && start != 0 && has_header(slots.secondary, 0).map_err(SwapError::Secondary)? {
        return Ok(Err(VerifyError::Misplaced));
    }
    let update = match verify_secondary(slots, start, config, crypto) {
        Ok(update) => update,
        Err(reason) => return silent(reason, SwapError::Secondary).map(Err),
    };
    if fresh && !trust::is_way_back(&slots.rules, &update) {
        let slot_size = slots.layout.primary().slot_size;
        if let Some(reason) = check_downgrade(slots.primary, slot_size, config.downgrade, &update)? {
            return Ok(Err(reason));
        }
        if !committed && trust::is_given_up(&slots.rules, &update) {
            return Ok(Err(VerifyError::TakenBack));
        }
    }
    // A revert goes to the image before, or nowhere.
    if let (true, Some(reason)) = (fresh, trust::below_floor(&slots.rules, &update)) {
        return Ok(Err(reason));
    }
    Ok(Ok(update))
}
