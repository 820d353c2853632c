// SPDX-License-Identifier: Apache-2.0
//! One boot (MCUboot `loader.c`): finish what was interrupted, else do what the trailers ask for, then verify what is to
//! start.
//!
//! The secondary slot may be missing, unreadable or full of anything: that never keeps a valid primary from starting.
//! Deliberate differences from MCUboot, beside those of the algorithms:
//! * A job that was written down, but whose image turns out invalid before anything was touched, is closed with
//!   `copy_done` as well as `image_ok`; MCUboot leaves a trailer that could still be mistaken for a job.
//! * A trailer over an erased secondary header is erased whatever its flags say: it would only block the next upload.
//! * If a test image is found invalid after its installation, the revert that the next reset would bring is done at once.

use bledfu_slot::persistent::Persistent;
use bledfu_slot::trailer::{erase_trailer, repair_flag, write_copy_done, write_image_ok};
use bledfu_slot::verify::{image_size, read_header};
use bledfu_slot::{
    verify_image, Algorithm as AlgorithmName, Crypto, Flag, HeaderError, ImageInfo, ImagePolicy, Layout,
    SwapType, Trailer, VerifyError,
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::by_move::ByMove;
use crate::by_overwrite::ByOverwrite;
use crate::decide::decide;
use crate::steps::{erase_slot, Algorithm, Job, Progress, Slots, Status, StepError, SwapError};

/// What a boot needs to know about the device.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'k> {
    /// The slots and the algorithm.
    pub layout: Layout,
    /// Which images may start.
    pub policy: ImagePolicy<'k>,
}

/// Why an install that was asked for was not begun, or not finished, with the request left as it is.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The secondary slot cannot be read.
    SecondaryUnreadable(NorFlashErrorKind),
    /// The image in the primary slot is too large to be kept.
    PrimaryTooLarge,
    /// The primary slot holds no image header, and this algorithm needs one.
    PrimaryEmpty,
    /// A flash failed on the way; the next boot tries again.
    PrimaryFailed(NorFlashErrorKind),
    /// A flash failed on the way; the next boot tries again.
    SecondaryFailed(NorFlashErrorKind),
}

impl core::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SecondaryUnreadable(kind) => write!(f, "the secondary slot cannot be read: {kind:?}"),
            Self::PrimaryTooLarge => f.write_str("the image in the primary slot is too large to be kept"),
            Self::PrimaryEmpty => f.write_str("the primary slot holds no image"),
            Self::PrimaryFailed(kind) => write!(f, "the flash of the primary slot failed: {kind:?}"),
            Self::SecondaryFailed(kind) => write!(f, "the flash of the secondary slot failed: {kind:?}"),
        }
    }
}

/// What a boot did, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootAction {
    /// Nothing was asked for.
    None,
    /// An image was installed.
    Installed {
        /// Test, permanent or revert.
        swap_type: SwapType,
        /// True if an earlier boot had begun it.
        resumed: bool,
    },
    /// The image in the secondary slot was refused, and erased if there was one; so was the request.
    Rejected {
        /// What was asked for.
        swap_type: SwapType,
        /// What is wrong with the image.
        reason: VerifyError<NorFlashErrorKind>,
    },
    /// The request stays, and will be looked at again on the next boot.
    Skipped {
        /// What was asked for.
        swap_type: SwapType,
        /// What stood in the way.
        reason: SkipReason,
    },
    /// The secondary slot held a trailer over no image; it was erased.
    TrailerCleared,
}

impl core::fmt::Display for BootAction {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::None => f.write_str("nothing to do"),
            Self::Installed {
                swap_type,
                resumed: false,
            } => write!(f, "installed ({swap_type})"),
            Self::Installed {
                swap_type,
                resumed: true,
            } => write!(f, "finished an interrupted install ({swap_type})"),
            Self::Rejected { swap_type, reason } => write!(f, "refused the update ({swap_type}): {reason}"),
            Self::Skipped { swap_type, reason } => write!(f, "left the update alone ({swap_type}): {reason}"),
            Self::TrailerCleared => f.write_str("erased a trailer without an image"),
        }
    }
}

/// What there is to start, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootReport {
    /// The image in the primary slot, verified.
    pub image: ImageInfo,
    /// What was done.
    pub action: BootAction,
    /// The primary trailer as this boot found it.
    pub primary: Trailer,
    /// The secondary trailer as this boot found it; `None` if it could not be read.
    pub secondary: Option<Trailer>,
    /// Status records that the flash refused.
    pub failed_records: u32,
}

/// Why there is nothing to start.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError<P, S> {
    /// A flash is smaller than its slot, or its units do not fit the layout.
    Geometry,
    /// The flash of the primary slot failed.
    Primary(P),
    /// The flash of the secondary slot failed while the images were in pieces.
    Secondary(S),
    /// No valid image is left in the primary slot.
    NoValidImage {
        /// What is wrong with the one that is there.
        reason: VerifyError<P>,
        /// What was done before.
        action: BootAction,
    },
}

impl<P: core::fmt::Debug, S: core::fmt::Debug> core::fmt::Display for BootError<P, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Geometry => f.write_str("the flashes do not fit the slot layout"),
            Self::Primary(error) => write!(f, "the flash of the primary slot failed: {error:?}"),
            Self::Secondary(error) => write!(f, "the flash of the secondary slot failed: {error:?}"),
            Self::NoValidImage { reason, action } => {
                write!(f, "no valid image to start: {reason} ({action})")
            }
        }
    }
}

impl<P: core::fmt::Debug, S: core::fmt::Debug> core::error::Error for BootError<P, S> {}

impl<P, S> From<SwapError<P, S>> for BootError<P, S> {
    fn from(error: SwapError<P, S>) -> Self {
        match error {
            SwapError::Primary(error) => Self::Primary(error),
            SwapError::Secondary(error) => Self::Secondary(error),
        }
    }
}

/// A flash that tells the watch about every read: verifying a large image takes longer than a watchdog waits.
struct Watched<'a, F> {
    flash: &'a mut F,
    watch: &'a mut dyn FnMut(Progress),
}

impl<F: ErrorType> ErrorType for Watched<'_, F> {
    type Error = F::Error;
}

impl<F: ReadNorFlash> ReadNorFlash for Watched<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        (self.watch)(Progress::Verify);
        self.flash.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.flash.capacity()
    }
}

fn fits<F: NorFlash>(flash: &F, slot: bledfu_slot::Geometry) -> bool {
    flash.capacity() >= slot.slot_size as usize
        && (slot.sector_size as usize).is_multiple_of(F::ERASE_SIZE)
        && (slot.write_size as usize).is_multiple_of(F::WRITE_SIZE)
}

/// One boot: finds and finishes an interrupted install, else decides, verifies and installs; then verifies the image in
/// the primary slot and says what to start. `primary` and `secondary` are the slots, each from its own offset 0; `watch`
/// is called before everything that takes time.
///
/// # Errors
/// [`BootError`]: there is nothing to start. After a flash error a reset is worth a try; the work is taken up again.
pub fn boot<P: NorFlash, S: NorFlash, C: Crypto>(
    primary: &mut P,
    secondary: &mut S,
    config: &BootConfig<'_>,
    crypto: &C,
    watch: &mut dyn FnMut(Progress),
) -> Result<BootReport, BootError<P::Error, S::Error>> {
    if !fits(primary, config.layout.primary()) || !fits(secondary, config.layout.secondary()) {
        return Err(BootError::Geometry);
    }
    // A driver that loses a completion must not leave an install half-way until the next reset.
    let (mut primary, mut secondary) = (Persistent(primary), Persistent(secondary));
    let mut slots = Slots {
        primary: &mut primary,
        secondary: &mut secondary,
        layout: config.layout,
        watch,
        failed_records: 0,
    };
    match config.layout.algorithm() {
        AlgorithmName::SwapMove => boot_by::<ByMove, _, _, C>(&mut slots, config, crypto),
        AlgorithmName::Overwrite => boot_by::<ByOverwrite, _, _, C>(&mut slots, config, crypto),
        // A layout of an algorithm this boot stage was not built with.
        _ => Err(BootError::Geometry),
    }
}

fn boot_by<A: Algorithm, P: NorFlash, S: NorFlash, C: Crypto>(
    slots: &mut Slots<'_, P, S>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<BootReport, BootError<P::Error, S::Error>> {
    let mut undone = false;
    loop {
        let primary =
            Trailer::read(slots.primary, &slots.layout.primary_trailer()).map_err(BootError::Primary)?;
        let found = Trailer::read(slots.secondary, &slots.layout.secondary_trailer());
        // An unreadable secondary asks for nothing.
        let secondary = found.as_ref().ok().copied();
        let outcome = act::<A, P, S, C>(
            slots,
            config,
            crypto,
            &primary,
            &secondary.unwrap_or(Trailer::ERASED),
        );
        let action = match &outcome {
            Ok(action) => *action,
            Err((swap_type, SwapError::Primary(error))) => BootAction::Skipped {
                swap_type: *swap_type,
                reason: SkipReason::PrimaryFailed(error.kind()),
            },
            Err((swap_type, SwapError::Secondary(error))) => BootAction::Skipped {
                swap_type: *swap_type,
                reason: SkipReason::SecondaryFailed(error.kind()),
            },
        };
        match verify_primary(slots, config, crypto) {
            Ok(image) => {
                let action = match (action, found) {
                    (BootAction::None, Err(error)) => BootAction::Skipped {
                        swap_type: SwapType::None,
                        reason: SkipReason::SecondaryUnreadable(error.kind()),
                    },
                    _ => action,
                };
                let failed_records = slots.failed_records;
                return Ok(BootReport {
                    image,
                    action,
                    primary,
                    secondary,
                    failed_records,
                });
            }
            Err(reason) => {
                if let Err((_, error)) = outcome {
                    return Err(error.into());
                }
                let test_failed = matches!(
                    action,
                    BootAction::Installed {
                        swap_type: SwapType::Test,
                        ..
                    }
                ) && A::REVERTS;
                if undone || !test_failed {
                    return Err(match (reason, found) {
                        (VerifyError::Flash(error), _) => BootError::Primary(error),
                        (_, Err(error)) => BootError::Secondary(error),
                        (reason, _) => BootError::NoValidImage { reason, action },
                    });
                }
                undone = true;
            }
        }
    }
}

fn verify_primary<P: NorFlash, S: NorFlash, C: Crypto>(
    slots: &mut Slots<'_, P, S>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<ImageInfo, VerifyError<P::Error>> {
    let size = slots.layout.primary().slot_size;
    let mut flash = Watched {
        flash: &mut *slots.primary,
        watch: &mut *slots.watch,
    };
    // What a debugger programmed may reach up to the trailer; only what is to be swapped has a narrower limit.
    verify_image(&mut flash, 0, size, size, &config.policy, crypto)
}

fn verify_secondary<P: NorFlash, S: NorFlash, C: Crypto>(
    slots: &mut Slots<'_, P, S>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<ImageInfo, VerifyError<S::Error>> {
    let layout = slots.layout;
    let mut flash = Watched {
        flash: &mut *slots.secondary,
        watch: &mut *slots.watch,
    };
    let size = layout.secondary().slot_size;
    verify_image(
        &mut flash,
        layout.upload_offset(),
        size,
        layout.max_image_size(),
        &config.policy,
        crypto,
    )
}

/// Everything but the verification of the primary. An error names what was being done.
fn act<A: Algorithm, P: NorFlash, S: NorFlash, C: Crypto>(
    slots: &mut Slots<'_, P, S>,
    config: &BootConfig<'_>,
    crypto: &C,
    primary: &Trailer,
    secondary: &Trailer,
) -> Result<BootAction, (SwapType, StepError<P, S>)> {
    let stored = primary.swap_type();
    let (swap_type, committed) = match A::find(slots, primary, secondary).map_err(|error| (stored, error))? {
        Status::Underway(job) => {
            A::install(slots, &job).map_err(|error| (job.swap_type, error))?;
            return Ok(BootAction::Installed {
                swap_type: job.swap_type,
                resumed: true,
            });
        }
        Status::Committed(job) => (job.swap_type, Some(job)),
        Status::Idle => match decide(primary, secondary) {
            SwapType::Revert if !A::REVERTS => (SwapType::None, None),
            decided => (decided, None),
        },
    };
    if swap_type == SwapType::None {
        return clear_orphan(slots, secondary).map_err(|error| (swap_type, error));
    }
    let skipped = |reason| Ok(BootAction::Skipped { swap_type, reason });
    if !A::BOOTSTRAPS {
        match read_header(slots.primary, 0) {
            Ok(_) => {}
            Err(VerifyError::Flash(error)) => return skipped(SkipReason::PrimaryFailed(error.kind())),
            Err(_) => return skipped(SkipReason::PrimaryEmpty),
        }
    }
    let update = match verify_secondary(slots, config, crypto) {
        Ok(update) => update,
        Err(VerifyError::Flash(error)) => return skipped(SkipReason::SecondaryUnreadable(error.kind())),
        Err(reason) => {
            let reason = reason.kind();
            reject(slots, swap_type, committed.is_some(), reason).map_err(|error| (swap_type, error))?;
            return Ok(BootAction::Rejected { swap_type, reason });
        }
    };
    let job = match committed {
        Some(job) => job,
        None => {
            let kept = image_size(slots.primary, 0, slots.layout.primary().slot_size).unwrap_or(0);
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
    A::install(slots, &job).map_err(|error| (swap_type, error))?;
    Ok(BootAction::Installed {
        swap_type,
        resumed: job.committed,
    })
}

/// Takes away a trailer that stands over an erased header.
fn clear_orphan<P: NorFlash, S: NorFlash>(
    slots: &mut Slots<'_, P, S>,
    secondary: &Trailer,
) -> Result<BootAction, StepError<P, S>> {
    let start = slots.layout.upload_offset();
    let orphan = *secondary != Trailer::ERASED
        && matches!(
            read_header(slots.secondary, start),
            Err(VerifyError::Header(HeaderError::Erased))
        );
    if !orphan {
        return Ok(BootAction::None);
    }
    (slots.watch)(Progress::Erase);
    erase_trailer(slots.secondary, &slots.layout.secondary_trailer()).map_err(SwapError::Secondary)?;
    Ok(BootAction::TrailerCleared)
}

/// Takes a refused image away: its trailer if there is no image at all, else the whole slot.
fn reject<P: NorFlash, S: NorFlash>(
    slots: &mut Slots<'_, P, S>,
    swap_type: SwapType,
    committed: bool,
    reason: VerifyError<NorFlashErrorKind>,
) -> Result<(), StepError<P, S>> {
    let layout = slots.layout;
    if matches!(
        reason,
        VerifyError::Header(HeaderError::Erased | HeaderError::NotBootable)
    ) {
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.secondary, &layout.secondary_trailer()).map_err(SwapError::Secondary)?;
        if swap_type == SwapType::Revert && !committed {
            // There is nothing to go back to: stop asking for it on every boot.
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.primary, &layout.primary_trailer()).map_err(SwapError::Primary)?;
        }
    } else {
        erase_slot(slots.secondary, layout.secondary().slot_size, slots.watch)
            .map_err(SwapError::Secondary)?;
    }
    if committed {
        close(slots.primary, &layout).map_err(SwapError::Primary)?;
    }
    Ok(())
}

/// Closes a job that cannot be done: the image in the primary slot stays for good.
fn close<F: NorFlash>(flash: &mut F, layout: &Layout) -> Result<(), F::Error> {
    let layout = layout.primary_trailer();
    let trailer = Trailer::read(flash, &layout)?;
    match trailer.image_ok {
        Flag::Set => {}
        Flag::Unset => write_image_ok(flash, &layout)?,
        Flag::Bad => {
            repair_flag(flash, &layout, layout.image_ok())?;
        }
    }
    if trailer.copy_done == Flag::Unset {
        write_copy_done(flash, &layout)?;
    }
    Ok(())
}
