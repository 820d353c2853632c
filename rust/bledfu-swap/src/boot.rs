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
//! * An invalid primary that nothing can be reverted to is repaired with a valid image of another slot, if there is one.
//! * A read of an external flash may be wrong, and right later. An image outside is refused after three refusals in a row, and
//!   neither it nor its request is erased while the primary does not verify: it may be the last one.
//! * With a trust area ([`bledfu_slot::evidence`]) and a downgrade policy, the flash outside decides nothing by itself: what comes
//!   back is the image that ran before, and nothing starts that is below the floor.

pub use bledfu_slot::decide::Downgrade;
use bledfu_slot::decide::{interrupted, is_sound, Rules};
use bledfu_slot::evidence::{Floor, Store};
use bledfu_slot::flash::read_bytes;
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::{erase_trailer, repair_flag, write_copy_done, write_image_ok};
use bledfu_slot::verify::{read_header, read_info};
use bledfu_slot::{
    verify_image_through, Algorithm, Crypto, Direction, Flag, HeaderError, ImageInfo, ImagePolicy, Layout,
    Magic, Plain, SwapType, Trailer, Transform, VerifyError,
};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::algorithm::{
    erase_slot, is_equal, replace, taken, At, Flash, Installer, Job, Progress, Slots, Status, SwapError,
    Through,
};
use crate::copy;
use crate::job::{self, has_header};
use crate::overwrite::Overwrite;
use crate::swap_move::SwapMove;
use crate::swap_offset::SwapOffset;
use crate::swap_scratch::SwapScratch;
use crate::trust;

/// How often an image outside, or an erased header there, must be found wanting before that is believed.
const REFUSALS: u32 = 3;

/// What a boot needs to know about the device.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'k> {
    /// The slots and the algorithm.
    pub layout: Layout,
    /// Which images may start.
    pub policy: ImagePolicy<'k>,
    /// Which of them may replace the running one.
    pub downgrade: Downgrade,
    /// The image in the primary slot is checked in full before it starts. If not, only its header and TLV areas are, on
    /// boots that install nothing, and only if the evidence says that it was checked in full after the last write there.
    pub verify_primary: bool,
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
    /// No valid copy of the running image could be made: there would be no way back.
    NotKept,
    /// A flash failed on the way; the next boot tries again.
    PrimaryFailed(NorFlashErrorKind),
    /// A flash failed on the way; the next boot tries again.
    SecondaryFailed(NorFlashErrorKind),
    /// A flash failed on the way; the next boot tries again.
    SpareFailed(NorFlashErrorKind),
    /// The cryptography was not available; the next boot tries again.
    CryptoUnavailable,
    /// The request has its magic, but a flag that is neither set nor erased.
    DamagedRequest,
    /// The primary trailer holds a job that is not one of the images in the slots.
    StaleJob,
    /// The trust area does not take a record; without it nothing is begun.
    EvidenceFailed(NorFlashErrorKind),
    /// The image in the secondary slot is the one that runs.
    AlreadyRuns,
    /// Only the trailer outside asks for a revert, and no image is on trial.
    NotDue,
    /// The image to go back to is not the one that ran before; the trial goes on.
    NotTheImageBefore,
    /// The image to go back to is not valid now; it is looked at again at the next boot.
    WayBackInvalid,
    /// The image in the secondary slot is refused, but the one in the primary is not valid either: nothing is erased.
    PrimaryInvalid,
}

impl From<SwapError> for SkipReason {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Primary(kind) => Self::PrimaryFailed(kind),
            SwapError::Secondary(kind) => Self::SecondaryFailed(kind),
            SwapError::Spare(kind) => Self::SpareFailed(kind),
            SwapError::Crypto => Self::CryptoUnavailable,
        }
    }
}

impl core::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::SecondaryUnreadable(kind) => write!(f, "the secondary slot cannot be read: {kind:?}"),
            Self::PrimaryTooLarge => f.write_str("the image in the primary slot is too large to be kept"),
            Self::PrimaryEmpty => f.write_str("the primary slot holds no image"),
            Self::NotKept => f.write_str(
                "the running image could not be copied to the spare area, so there is no way back",
            ),
            Self::PrimaryFailed(kind) => SwapError::Primary(*kind).fmt(f),
            Self::SecondaryFailed(kind) => SwapError::Secondary(*kind).fmt(f),
            Self::SpareFailed(kind) => SwapError::Spare(*kind).fmt(f),
            Self::CryptoUnavailable => SwapError::Crypto.fmt(f),
            Self::DamagedRequest => f.write_str("the request is damaged"),
            Self::StaleJob => f.write_str("the interrupted install is not one of the images in the slots"),
            Self::EvidenceFailed(kind) => write!(f, "the trust area takes no record: {kind:?}"),
            Self::AlreadyRuns => f.write_str("it is the image that runs"),
            Self::NotDue => f.write_str("no image is on trial"),
            Self::NotTheImageBefore => f.write_str("the image to go back to is not the one that ran before"),
            Self::WayBackInvalid => f.write_str("the image to go back to is not valid now"),
            Self::PrimaryInvalid => f.write_str("neither slot holds a valid image now"),
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
    /// The image in the primary slot was invalid and was replaced with the one in the secondary slot or the spare area.
    Repaired,
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
    /// The request could not be carried out, now or on any later boot, and was taken down. The image in the secondary slot
    /// was left, but for what of it shares a sector with the trailer.
    Dropped {
        /// What was asked for; [`SwapType::None`] if that cannot be told.
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
            Self::Repaired => f.write_str("repaired the primary slot with another valid image"),
            Self::Rejected { swap_type, reason } => write!(f, "refused the update ({swap_type}): {reason}"),
            Self::Skipped { swap_type, reason } => write!(f, "left the update alone ({swap_type}): {reason}"),
            Self::Dropped { swap_type, reason } => write!(f, "took down the request ({swap_type}): {reason}"),
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
pub enum BootError {
    /// A flash is smaller than its slot, its units do not fit the layout, or this boot stage lacks the algorithm.
    Geometry,
    /// A flash failed: that of the primary slot, or another one while the images were in pieces. Or the cryptography did.
    Flash(SwapError),
    /// No valid image is left in the primary slot.
    NoValidImage {
        /// What is wrong with the one that is there.
        reason: VerifyError<NorFlashErrorKind>,
        /// What was done before.
        action: BootAction,
    },
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Geometry => f.write_str("the flashes do not fit the slot layout"),
            Self::Flash(error) => error.fmt(f),
            Self::NoValidImage { reason, action } => {
                write!(f, "no valid image to start: {reason} ({action})")
            }
        }
    }
}

impl core::error::Error for BootError {}

/// A driver that loses a completion must not leave an install half-way until the next reset, nor keep it from beginning: a
/// read that failed is tried once more, too. And whatever its errors are, here they are kinds.
pub(crate) struct Steady<'a, F>(Retry<&'a mut F>);

impl<'a, F> Steady<'a, F> {
    pub(crate) fn new(flash: &'a mut F) -> Self {
        Self(Retry(flash))
    }
}

impl<F> ErrorType for Steady<'_, F> {
    type Error = NorFlashErrorKind;
}

impl<F: ReadNorFlash> ReadNorFlash for Steady<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let again = match self.0.read(offset, bytes) {
            Ok(()) => return Ok(()),
            Err(_) => self.0.read(offset, bytes),
        };
        again.map_err(|error| error.kind())
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> NorFlash for Steady<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.erase(from, to).map_err(|error| error.kind())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes).map_err(|error| error.kind())
    }
}

fn fits<F: NorFlash>(flash: &F, area: bledfu_slot::Geometry) -> bool {
    flash.capacity() >= area.slot_size as usize
        && (area.sector_size as usize).is_multiple_of(F::ERASE_SIZE)
        && (area.write_size as usize).is_multiple_of(F::WRITE_SIZE)
}

/// Whether the flashes are what the layout says.
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

/// One boot: finds and finishes an interrupted install, else decides, verifies and installs; then verifies the image in
/// the primary slot and says what to start. `primary`, `secondary` and `spare` are the areas of the layout, each from its
/// own offset 0, `spare` being [`NoFlash`](crate::NoFlash) if it has none; `watch` is called before everything that takes
/// time. `evidence` is the trust area, or [`NoEvidence`](bledfu_slot::evidence::NoEvidence).
///
/// # Errors
/// [`BootError`]: there is nothing to start. After a flash error a reset is worth a try; the work is taken up again.
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

/// [`boot`] with one algorithm, for a boot stage that should contain no other; with copy that is [`copy::boot`], which
/// calls this one with each place in its role.
///
/// # Errors
/// As [`boot`]; [`BootError::Geometry`] also if the layout is of another algorithm.
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

/// [`boot_by`] for images that have another form outside than in the primary slot.
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

/// [`boot_by`], which only starts what is in the primary slot if one of the other areas could not be read.
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
    // Before anything outside is read.
    note_settled::<A, P, S, X, T, C>(slots, config, crypto);
    loop {
        let layout = slots.layout.primary_trailer();
        let primary = Trailer::read(slots.primary, &layout)
            .map_err(|kind| BootError::Flash(SwapError::Primary(kind)))?;
        let found = Trailer::read_twice(slots.secondary, &slots.layout.secondary_trailer());
        let found = unreadable.map_or(found, Err);
        let outcome = match &found {
            Ok(secondary) => act::<A, P, S, X, T, C>(slots, config, crypto, &primary, secondary),
            // What is asked for is not known, which is not the same as nothing. The primary alone may ask for a revert.
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
        let quick = !config.verify_primary && action == BootAction::None && trust::is_settled(slots);
        let mut checked = startable(slots, config, crypto, quick);
        if let (Err(reason), BootAction::Installed { .. }) = (&checked, &action) {
            // What was just written may have been read wrongly.
            if reason.is_about_image() {
                checked = startable(slots, config, crypto, false);
            }
        }
        let (image, action) = match checked {
            Ok(image) => {
                note_settled::<A, P, S, X, T, C>(slots, config, crypto);
                (image, drop_impossible::<A, P, S, X, T>(slots, action, found.ok()))
            }
            Err(reason) => {
                if let Err((_, error)) = outcome {
                    return Err(BootError::Flash(error));
                }
                // Only what is known to be invalid is replaced.
                silent(reason, SwapError::Primary).map_err(BootError::Flash)?;
                if let (Err(kind), false) = (found, A::KEEPS_COPY) {
                    // It may be in pieces, and the trailer that cannot be read may say how to go on.
                    return Err(BootError::Flash(SwapError::Secondary(kind)));
                }
                let test_failed = matches!(
                    action,
                    BootAction::Installed {
                        swap_type: SwapType::Test,
                        ..
                    }
                ) && A::REVERTS
                    // Here the roles of the places have changed by now; the spare is the way back.
                    && !A::KEEPS_COPY;
                if test_failed && !undone {
                    undone = true;
                    continue;
                }
                let repaired = repair::<A, P, S, X, T, C>(slots, config, crypto).map_err(BootError::Flash)?;
                match (repaired, found) {
                    (Some(image), _) => {
                        // The image is good in any case; what is left to do, the next boot does.
                        let _ = end_repair::<A, P, S, X, T>(slots);
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

/// Notes in the evidence what the primary slot says is over, if it is not noted yet.
#[inline(never)]
fn note_settled<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) {
    if slots.rules.is_kept && !trust::is_settled(slots) && check_primary(slots, config, crypto).is_ok() {
        trust::note_settled::<A, _, _, _, _>(slots);
    }
}

/// An error if `reason` says nothing about the image: its flash, which `flash` names, could not be read, or the cryptography
/// was not available. Nothing may be erased, replaced or taken down for such a reason.
fn silent(
    reason: VerifyError<NorFlashErrorKind>,
    flash: fn(NorFlashErrorKind) -> SwapError,
) -> Result<VerifyError<NorFlashErrorKind>, SwapError> {
    match reason {
        VerifyError::Flash(kind) => Err(flash(kind)),
        VerifyError::Unavailable => Err(SwapError::Crypto),
        reason => Ok(reason),
    }
}

/// Takes down what no boot can carry out, beside a primary that is valid: it would be asked for again on every boot, and keep
/// every update out. Nothing is lost if that fails; the next boot tries again.
#[inline(never)]
fn drop_impossible<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
    action: BootAction,
    secondary: Option<Trailer>,
) -> BootAction {
    let layout = slots.layout;
    let Some(secondary) = secondary else {
        return action;
    };
    let requested = secondary.magic == Magic::Good;
    // As it is now: the job of what was refused is closed already. What cannot be read is not known to be stale.
    let job = job_left::<A, P, S, X, T>(slots).unwrap_or(SwapType::None);
    let stale = job != SwapType::None;
    let (swap_type, reason) = match action {
        BootAction::Skipped {
            swap_type,
            reason:
                reason @ (SkipReason::PrimaryTooLarge
                | SkipReason::NotKept
                | SkipReason::AlreadyRuns
                | SkipReason::NotDue),
        } => (swap_type, reason),
        BootAction::None if stale => (job, SkipReason::StaleJob),
        BootAction::None if requested => (SwapType::None, SkipReason::DamagedRequest),
        BootAction::Rejected { .. } | BootAction::TrailerCleared if stale => {
            // That is said; the job behind it goes as well.
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
        // A job that is none, or a revert that would be tried for ever.
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

/// What the job is for that an earlier boot has written down; [`interrupted`], without what other algorithms write.
fn job_left<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
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

/// Closes the job in the primary trailer, or the revert that it asks for, and forgets the job elsewhere.
#[inline(never)]
fn end_job<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
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

/// Behind a repair no job goes on. Nor is there an image to go back to, unless the one on trial was repaired with its own copy:
/// what the trailers still ask for is taken down, for it would keep every update out until the next boot.
fn end_repair<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
    slots: &mut Slots<'_, P, S, X, T>,
) -> Result<(), SwapError> {
    let layout = slots.layout;
    let trailer = layout.primary_trailer();
    let primary = Trailer::read(slots.primary, &trailer).map_err(SwapError::Primary)?;
    let reverts = A::decide(&primary.settled(&trailer), &Trailer::ERASED) == SwapType::Revert;
    let job = job_left::<A, P, S, X, T>(slots).map_err(SwapError::Primary)?;
    if (reverts && A::REVERTS && !A::KEEPS_COPY) || job != SwapType::None {
        end_job::<A, P, S, X, T>(slots)?;
    }
    Ok(())
}

/// Checks the image at `start` of one of the areas, with the watch fed.
fn verify_at<F: ReadNorFlash<Error = NorFlashErrorKind>, C: Crypto, T: Transform>(
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

/// Checks the image in the primary slot in full, once for as long as nothing is written there.
#[inline(never)]
fn check_primary<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<(), VerifyError<NorFlashErrorKind>> {
    if slots.verified.is_some() {
        return Ok(());
    }
    // What a debugger programmed may reach up to the trailer; only what is to be swapped has a narrower limit.
    let size = slots.layout.primary().slot_size;
    let bounds = (0, size, size);
    let image = verify_at(slots.primary, &Plain, slots.watch, bounds, config, crypto)?;
    slots.verified = Some(image);
    Ok(())
}

/// The image in the primary slot, if it may start. `quick` = its header and TLV areas alone are looked at.
fn startable<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    quick: bool,
) -> Result<ImageInfo, VerifyError<NorFlashErrorKind>> {
    let quickly = if quick {
        let size = slots.layout.primary().slot_size;
        read_info(slots.primary, 0, size)?
    } else {
        check_primary(slots, config, crypto)?;
        slots.verified
    };
    let image = quickly.ok_or(VerifyError::NoHash)?;
    trust::below_floor(&slots.rules, &image).map_or(Ok(image), Err)
}

/// Whether the image in the primary slot is valid; an error if that cannot be told.
#[inline(never)]
fn primary_is_valid<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
) -> Result<bool, SwapError> {
    let checked = known(check_primary(slots, config, crypto), SwapError::Primary)?;
    Ok(checked.is_some())
}

/// Asks up to three times, until the answer is good: an image outside is not invalid because it was read wrongly once.
fn patiently<R>(
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
fn verify_secondary<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
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

/// An image of which the part from some offset on is in the spare area, and the rest in the secondary slot.
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
fn is_proven<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
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

/// Replaces an invalid primary with a valid image found elsewhere: the one that is to run, the one before, else the first of the
/// copy that an algorithm keeps, an update, the image before. The copy is taken page by page from a source that nothing touches,
/// so it may be cut and begun again as often as it takes. `None` if there is no valid image.
fn repair<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
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

/// [`repair`] with the image of this digest, or with any.
#[inline(never)]
fn repair_with<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    wanted: Option<[u8; 32]>,
) -> Result<Option<ImageInfo>, SwapError> {
    let layout = slots.layout;
    let sector = layout.primary().sector_size;
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
            slots.verified = None;
            taken(replace(
                At(slots.spare, 0, SwapError::Spare),
                At(slots.primary, 0, SwapError::Primary),
                (info.total_size, sector),
                Through(slots.transform, Direction::Inward, 0),
                None::<At<'_, X>>,
                slots.watch,
            )?)?;
            if primary_is_valid(slots, config, crypto)? {
                A::repaired(slots, true)?;
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
        slots.verified = None;
        taken(replace(
            At(slots.secondary, *start, SwapError::Secondary),
            At(slots.primary, 0, SwapError::Primary),
            (info.total_size, sector),
            Through(slots.transform, Direction::Inward, 0),
            None::<At<'_, X>>,
            slots.watch,
        )?)?;
        if !primary_is_valid(slots, config, crypto)? {
            return Ok(None);
        }
        // A request for it has been carried out, in a way.
        let trailer = layout.secondary_trailer();
        let found = Trailer::read(slots.secondary, &trailer).map_err(SwapError::Secondary)?;
        if found.magic != Magic::Unset {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.secondary, &trailer).map_err(SwapError::Secondary)?;
        }
        A::repaired(slots, false)?;
        return Ok(slots.verified);
    }
    Ok(None)
}

/// What there is, `None` if there is nothing of use; an error if that [cannot be told](silent).
fn known<T>(
    found: Result<T, VerifyError<NorFlashErrorKind>>,
    flash: fn(NorFlashErrorKind) -> SwapError,
) -> Result<Option<T>, SwapError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(reason) => silent(reason, flash).map(|_| None),
    }
}

/// Sees to it that a valid image in the primary slot has a valid copy in the spare area. `Some` = it has none, and why.
fn keep_copy<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
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
    // A request there would ask for the copy, now or behind the install.
    let take_request_down = |slots: &mut Slots<'_, P, S, X, T>| {
        let found = Trailer::read(slots.spare, &trailer)?;
        if found.magic == Magic::Good {
            (slots.watch)(Progress::Erase);
            erase_trailer(slots.spare, &trailer)?;
        }
        Ok(())
    };
    // Byte for byte: a policy that goes by digests would not see what is torn behind the hashed part.
    let is_kept = |slots: &mut Slots<'_, P, S, X, T>| {
        // A byte that was read wrongly is no reason to write a slot anew, nor to give an update up.
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
    // A copy that cannot be read may be gone; it is made again, of an image that is known to be good.
    if running.total_size <= layout.max_image_size() && matches!(is_kept(slots), Ok(true)) {
        take_request_down(slots).map_err(SwapError::Spare)?;
        return Ok(None);
    }
    if !primary_is_valid(slots, config, crypto)? {
        return Ok(None);
    }
    if running.total_size > layout.max_image_size() {
        return Ok(Some(SkipReason::PrimaryTooLarge));
    }
    take_request_down(slots).map_err(SwapError::Spare)?;
    let taken = replace(
        At(slots.primary, 0, SwapError::Primary),
        At(slots.spare, 0, SwapError::Spare),
        (running.total_size, area.sector_size),
        Through(slots.transform, Direction::Outward, 0),
        None::<At<'_, X>>,
        slots.watch,
    )?;
    Ok(match taken && is_kept(slots)? {
        true => None,
        false => Some(SkipReason::NotKept),
    })
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
        return Ok(None); // nothing that could be older
    };
    Ok(trust::older(downgrade, update, &Floor::of(&running)))
}

/// Everything but the verification of the primary. An error names what was being done.
#[inline(never)]
fn act<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    primary: &Trailer,
    secondary: &Trailer,
) -> Result<BootAction, (SwapType, SwapError)> {
    let stored = primary.swap_type();
    let found = A::find(slots, primary, secondary).map_err(|error| (stored, error))?;
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
        Status::Idle => {
            let settled = primary.settled(&slots.layout.primary_trailer());
            match trust::decide::<A, _, _, _, _>(slots, &settled, secondary) {
                Some(swap_type) => (swap_type, None),
                None => {
                    return Ok(BootAction::Skipped {
                        swap_type: SwapType::Revert,
                        reason: SkipReason::NotDue,
                    })
                }
            }
        }
    };
    if swap_type == SwapType::None {
        return clear_orphan(slots, config, crypto, secondary).map_err(|error| (swap_type, error));
    }
    let failed = |error| (swap_type, error);
    let skipped = |reason| Ok(BootAction::Skipped { swap_type, reason });
    if !A::BOOTSTRAPS && !has_header(slots.primary, 0).map_err(|kind| failed(SwapError::Primary(kind)))? {
        return skipped(SkipReason::PrimaryEmpty);
    }
    let checked = check_update::<A, P, S, X, T, C>(slots, config, crypto, swap_type, committed.is_some());
    let checked = checked.map_err(failed)?;
    // Only the evidence asks: that is for one image, and says nothing about another one that is there by now.
    let by_evidence =
        committed.is_none() && swap_type != SwapType::Revert && A::decide(primary, secondary) != swap_type;
    if by_evidence && !matches!(&checked, Ok(update) if slots.rules.is_for(&update.digest)) {
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
        // What comes is not older than what it replaces, and what it replaces may come back: so that must be known to be whole.
        primary_is_valid(slots, config, crypto).map_err(failed)?;
        // Beside damaged flags the image could not confirm itself; an install makes them anew.
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
        // A trailer that was torn may read as something else at the next boot. Both images are whole, and the evidence asks for
        // this one until the trailer is written anew.
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
        if let Some(reason) = keep_copy(slots, config, crypto).map_err(failed)? {
            return skipped(reason);
        }
    }
    if let Err(kind) = trust::begin(slots, &job, &update) {
        return skipped(SkipReason::EvidenceFailed(kind));
    }
    slots.verified = None;
    A::install(slots, &job).map_err(failed)?;
    Ok(BootAction::Installed {
        swap_type,
        resumed: job.committed,
    })
}

/// Is there an image to install, and may it be? The outer error is one that says nothing about that.
#[inline(never)]
fn check_update<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    swap_type: SwapType,
    committed: bool,
) -> Result<Result<ImageInfo, VerifyError<NorFlashErrorKind>>, SwapError> {
    let start = A::source(&slots.layout, swap_type);
    let fresh = swap_type != SwapType::Revert;
    // Once the job is written down, what stands at the start may be the first sector copied there, without its record.
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

/// Takes away a trailer that stands over an erased header.
#[inline(never)]
fn clear_orphan<P: Flash, S: Flash, X: Flash, T: Transform, C: Crypto>(
    slots: &mut Slots<'_, P, S, X, T>,
    config: &BootConfig<'_>,
    crypto: &C,
    secondary: &Trailer,
) -> Result<BootAction, SwapError> {
    let start = slots.layout.upload_offset();
    // In either place: swap using offset keeps the image before at the start of the slot.
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

/// Takes a refused image away: its trailer if there is no image at all, else the whole slot.
#[inline(never)]
fn reject<A: Installer, P: Flash, S: Flash, X: Flash, T: Transform>(
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
        // There is nothing to go back to: stop asking for it, or the next update would be taken for the image before. The
        // trailer of copy also says where the copy of the running image is; with swap using scratch that image may reach
        // into the trailer sector.
        let trailer = layout.primary_trailer();
        if A::KEEPS_COPY || running == 0 || running > trailer.first_sector() {
            return close(slots.primary, &layout).map_err(SwapError::Primary);
        }
        (slots.watch)(Progress::Erase);
        erase_trailer(slots.primary, &trailer).map_err(SwapError::Primary)?;
    }
    Ok(())
}

/// Closes a job that cannot be done: the image in the primary slot stays for good. Both marks are tried, whatever the flash says,
/// and what counts is what reads back: beside bytes that are not erased a driver may call a write failed that was done.
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
