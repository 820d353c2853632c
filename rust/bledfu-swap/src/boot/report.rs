// SPDX-License-Identifier: Apache-2.0
//! What a boot reports: [`BootReport`] and [`BootAction`] say what it did, [`SkipReason`] and [`BootError`] what it
//! could not do.

use bledfu_slot::{ImageInfo, SwapType, Trailer, VerifyError};
use embedded_storage::nor_flash::NorFlashErrorKind;

use crate::algorithm::SwapError;

/// Why a requested install was not begun or not finished, while the request stays.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The secondary slot cannot be read.
    SecondaryUnreadable(NorFlashErrorKind),
    /// The image in the primary slot is too large for the algorithm to keep.
    PrimaryTooLarge,
    /// The primary slot holds no image header, and this algorithm needs one.
    PrimaryEmpty,
    /// No valid copy of the running image could be made, so there would be no way back.
    NotKept,
    /// A flash failed; the next boot tries again.
    PrimaryFailed(NorFlashErrorKind),
    /// A flash failed; the next boot tries again.
    SecondaryFailed(NorFlashErrorKind),
    /// A flash failed; the next boot tries again.
    SpareFailed(NorFlashErrorKind),
    /// The cryptography was not available; the next boot tries again.
    CryptoUnavailable,
    /// The request has its magic, but a flag that is neither set nor erased.
    DamagedRequest,
    /// The primary trailer holds a job that does not belong to the images in the slots.
    StaleJob,
    /// The trust area does not take a record, and without one no install is begun.
    EvidenceFailed(NorFlashErrorKind),
    /// The image in the secondary slot is the one that already runs.
    AlreadyRuns,
    /// Only the trailer in external flash asks for a revert, and no image is on trial.
    NotDue,
    /// The image to go back to is not the one that ran before; the trial goes on.
    NotTheImageBefore,
    /// The image to go back to is not valid now; the next boot checks it again.
    WayBackInvalid,
    /// The image in the secondary slot is refused, but the one in the primary slot is not valid either, so nothing is
    /// erased.
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
            Self::StaleJob => f.write_str("the interrupted install belongs to other images"),
            Self::EvidenceFailed(kind) => write!(f, "the trust area takes no record: {kind:?}"),
            Self::AlreadyRuns => f.write_str("the image already runs"),
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
    /// The image in the secondary slot was refused. It was erased, if there was one, and so was the request.
    Rejected {
        /// What was asked for.
        swap_type: SwapType,
        /// What is wrong with the image.
        reason: VerifyError<NorFlashErrorKind>,
    },
    /// Nothing was installed. The request stays, and the next boot tries again.
    Skipped {
        /// What was asked for.
        swap_type: SwapType,
        /// What stood in the way.
        reason: SkipReason,
    },
    /// The request could not be carried out, now or at any later boot, and was removed. The image in the secondary slot
    /// was left, except for the part that shares a sector with the trailer.
    Dropped {
        /// What was asked for; [`SwapType::None`] if that cannot be told.
        swap_type: SwapType,
        /// What stood in the way.
        reason: SkipReason,
    },
    /// The secondary slot held a trailer but no image; the trailer was erased.
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
            Self::Dropped { swap_type, reason } => write!(f, "removed the request ({swap_type}): {reason}"),
            Self::TrailerCleared => f.write_str("erased a trailer that had no image"),
        }
    }
}

/// The image to start, and what was done before.
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
    /// Number of status records that the flash refused.
    pub failed_records: u32,
}

/// Why there is nothing to start.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// A flash is smaller than its slot, its units do not fit the layout, or this boot stage lacks the algorithm.
    Geometry,
    /// A flash failed: that of the primary slot, or another one while the images were in pieces. Or the cryptography
    /// was not available.
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
