// SPDX-License-Identifier: Apache-2.0
//! Why an image is refused, or cannot be judged.

use bledfu_text::{text, words, Hex, Line, Text};
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

/// Without the flash's own error, which only [`Display`](core::fmt::Display) shows.
impl<E> Text for VerifyError<E> {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Flash(_) => words!("the flash could not be read").put(line),
            Self::Unavailable => words!("the cryptography was not available").put(line),
            Self::Header(error) => error.put(line),
            Self::Tlv(error) => error.put(line),
            Self::UnexpectedTlv(kind) => {
                text!("unexpected unprotected TLV {}", Hex(u32::from(*kind), 4)).put(line)
            }
            Self::TooManyTlvs => {
                words!("the image carries more TLVs or signatures than any signing tool writes").put(line)
            }
            Self::TooLarge => words!("the image is larger than can be installed").put(line),
            Self::NoHash => words!("the image carries no SHA-256").put(line),
            Self::HashLength => words!("the SHA-256 entry has a wrong length").put(line),
            Self::HashMismatch => words!("the SHA-256 does not match the image").put(line),
            Self::NotSigned => words!("the image is not signed with a key of this device").put(line),
            Self::BadSignature => words!("the signature is wrong").put(line),
            Self::Older => words!("the image is older than the running one").put(line),
            Self::SecurityCounter => {
                words!("the security counter is missing, or lower than that of the running image").put(line)
            }
            Self::TakenBack => words!("the image was taken back three times").put(line),
            Self::Misplaced => {
                words!("the image must be stored from the second sector of the slot on").put(line)
            }
        }
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for VerifyError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        bledfu_text::format(self, f)?;
        match self {
            Self::Flash(error) => write!(f, ": {error:?}"),
            _ => Ok(()),
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
