// SPDX-License-Identifier: Apache-2.0
//! Why an image is refused, or cannot be judged.

use embedded_storage::nor_flash::{NorFlashError, NorFlashErrorKind};

use crate::header::HeaderError;
use crate::tlv::{TlvError, TlvReadError};

/// Why an image is refused.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError<E> {
    /// The flash could not be read; the image may be good.
    Flash(E),
    /// The signature could not be checked; the image may be good.
    Unavailable,
    /// The header is not that of an image this device can start.
    Header(HeaderError),
    /// The TLV areas are malformed.
    Tlv(TlvError),
    /// An unprotected TLV has a type that no tool puts there.
    UnexpectedTlv(u16),
    /// There are more than [`super::MAX_SIGNATURES`] signatures by known keys, more than [`crate::tlv::MAX_ENTRIES`]
    /// TLVs, or more than [`crate::tlv::MAX_UNPROTECTED_SIZE`] bytes in the unprotected area.
    TooManyTlvs,
    /// The whole image is larger than the install algorithm can handle.
    TooLarge,
    /// There is no SHA-256 in the image.
    NoHash,
    /// The SHA-256 in the image does not have 32 bytes.
    HashLength,
    /// The SHA-256 in the image is not that of its bytes.
    HashMismatch,
    /// The image is not signed with a key of this device.
    NotSigned,
    /// The signature that decides is malformed or wrong.
    BadSignature,
    /// The image is older than the running one.
    Older,
    /// The security counter is missing, or lower than that of the running image.
    SecurityCounter,
    /// There is an image where the install algorithm does not look for one: at the start of a slot in which updates
    /// begin at the second sector.
    Misplaced,
    /// The image was installed and reverted three times, and no other image was confirmed since.
    TakenBack,
}

impl<E: core::fmt::Debug> core::fmt::Display for VerifyError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "the flash could not be read: {error:?}"),
            Self::Unavailable => f.write_str("the cryptography was not available"),
            Self::Header(error) => error.fmt(f),
            Self::Tlv(error) => error.fmt(f),
            Self::UnexpectedTlv(kind) => write!(f, "unexpected unprotected TLV {kind:#06x}"),
            Self::TooManyTlvs => {
                f.write_str("the image carries more TLVs or signatures than any signing tool writes")
            }
            Self::TooLarge => f.write_str("the image is larger than can be installed"),
            Self::NoHash => f.write_str("the image carries no SHA-256"),
            Self::HashLength => f.write_str("the SHA-256 entry has a wrong length"),
            Self::HashMismatch => f.write_str("the SHA-256 does not match the image"),
            Self::NotSigned => f.write_str("the image is not signed with a key of this device"),
            Self::BadSignature => f.write_str("the signature is wrong"),
            Self::Older => f.write_str("the image is older than the running one"),
            Self::SecurityCounter => {
                f.write_str("the security counter is missing, or lower than that of the running image")
            }
            Self::TakenBack => f.write_str("the image was taken back three times"),
            Self::Misplaced => f.write_str("the image must be stored from the second sector of the slot on"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for VerifyError<E> {}

impl<E> From<HeaderError> for VerifyError<E> {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl<E> From<TlvReadError<E>> for VerifyError<E> {
    fn from(error: TlvReadError<E>) -> Self {
        match error {
            TlvReadError::Flash(error) => Self::Flash(error),
            TlvReadError::Header(error) => Self::Header(error),
            TlvReadError::Format(error) => Self::Tlv(error),
            TlvReadError::TooMany => Self::TooManyTlvs,
        }
    }
}

impl<E> VerifyError<E> {
    /// Whether this says something about the image. If not (the flash could not be read, or the cryptography was not
    /// available), nothing may be erased or refused because of it: the next check may find a good image.
    pub const fn is_about_image(&self) -> bool {
        !matches!(self, Self::Flash(_) | Self::Unavailable)
    }
}

impl<E: NorFlashError> VerifyError<E> {
    /// The same reason without the driver's own error type: for reports that outlive the driver.
    pub fn kind(self) -> VerifyError<NorFlashErrorKind> {
        match self {
            Self::Flash(error) => VerifyError::Flash(error.kind()),
            Self::Unavailable => VerifyError::Unavailable,
            Self::Header(error) => VerifyError::Header(error),
            Self::Tlv(error) => VerifyError::Tlv(error),
            Self::UnexpectedTlv(kind) => VerifyError::UnexpectedTlv(kind),
            Self::TooManyTlvs => VerifyError::TooManyTlvs,
            Self::TooLarge => VerifyError::TooLarge,
            Self::NoHash => VerifyError::NoHash,
            Self::HashLength => VerifyError::HashLength,
            Self::HashMismatch => VerifyError::HashMismatch,
            Self::NotSigned => VerifyError::NotSigned,
            Self::BadSignature => VerifyError::BadSignature,
            Self::Older => VerifyError::Older,
            Self::SecurityCounter => VerifyError::SecurityCounter,
            Self::Misplaced => VerifyError::Misplaced,
            Self::TakenBack => VerifyError::TakenBack,
        }
    }
}
