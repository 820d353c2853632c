// SPDX-License-Identifier: Apache-2.0
//! The TLV areas after the payload (MCUboot `tlv.c`).
//!
//! ```text
//! header | payload | [ 08 69 total | entry | entry ... ] | 07 69 total | entry | entry ...
//!                    protected area, if the header has one   unprotected area, mandatory
//! entry: type u16 | length u16 | value            total: u16, counts its own four bytes
//! ```
//! Little-endian, no padding. Every length is checked against the area it lies in before it is used. The number of entries and
//! the size of the unprotected area are bounded, which MCUboot does not do: both can be changed without breaking a signature.

use bledfu_text::{words, Line, Text};
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};

use crate::flash::read_bytes;
use crate::header::{HeaderError, ImageHeader};

/// Entry types this crate reads, and those it tolerates in the unprotected area.
pub mod types {
    /// SHA-256 of the public key that signed.
    pub const KEY_HASH: u16 = 0x01;
    /// The whole public key.
    pub const PUBLIC_KEY: u16 = 0x02;
    /// SHA-256 of the image.
    pub const SHA256: u16 = 0x10;
    /// SHA-384 of the image.
    pub const SHA384: u16 = 0x11;
    /// SHA-512 of the image.
    pub const SHA512: u16 = 0x12;
    /// ECDSA signature, DER.
    pub const ECDSA: u16 = 0x22;
    /// Required version of another image (protected).
    pub const DEPENDENCY: u16 = 0x40;
    /// Security counter (protected).
    pub const SECURITY_COUNTER: u16 = 0x50;
}

/// Highest number of entries in both areas together. `imgtool` writes fewer than ten.
pub const MAX_ENTRIES: u8 = 64;

/// Largest unprotected area, in bytes. `imgtool` writes about 110 bytes for each key, and 36 for the digest.
pub const MAX_UNPROTECTED_SIZE: u16 = 2048;

const INFO_SIZE: u32 = 4;
const INFO_UNPROTECTED: u16 = 0x6907;
const INFO_PROTECTED: u16 = 0x6908;

/// Why the TLV areas of an image cannot be read.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlvError {
    /// The header announces a protected area, but there is none of that size.
    ProtectedArea,
    /// There is a protected area that the header does not announce, or no TLV area at all.
    InfoMagic,
    /// The total of an area is smaller than its own info header.
    AreaTooSmall,
    /// An area extends beyond the end of the slot.
    AreaTooLarge,
    /// An entry extends beyond the end of its area.
    EntryOverrun,
}

impl Text for TlvError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::ProtectedArea => words!("the protected TLV area is not as the header says"),
            Self::InfoMagic => words!("there is no TLV area where the header says"),
            Self::AreaTooSmall => words!("the TLV area is smaller than its own header"),
            Self::AreaTooLarge => words!("the TLV area ends behind the end of the slot"),
            Self::EntryOverrun => words!("a TLV reaches over the end of its area"),
        };
        words.put(line);
    }
}

bledfu_text::display!(TlvError);

impl core::error::Error for TlvError {}

/// Why TLVs could not be read: because of the flash, or because of its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlvReadError<E> {
    /// The flash could not be read.
    Flash(E),
    /// The sizes in the header are impossible.
    Header(HeaderError),
    /// The TLV areas are malformed.
    Format(TlvError),
    /// There are more than [`MAX_ENTRIES`] entries, or the unprotected area is larger than [`MAX_UNPROTECTED_SIZE`].
    TooMany,
}

/// One entry, with its value still in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv {
    /// One of [`types`], or anything else.
    pub kind: u16,
    /// Length of the value, in bytes.
    pub length: u16,
    /// Where the value starts, in bytes from the start of the flash.
    pub offset: u32,
    /// True if the entry is covered by the image digest.
    pub protected: bool,
}

/// The TLV areas of one image, with a read position.
///
/// Offsets are bytes from the start of the image.
#[derive(Clone, Debug)]
pub struct TlvWalker {
    image_start: u32,
    next: u32,
    protected_end: u32,
    end: u32,
    entries_left: u8,
}

fn read_pair<F: ReadNorFlash>(flash: &mut F, offset: u32) -> Result<(u16, u16), F::Error> {
    let mut bytes = [0; INFO_SIZE as usize];
    read_bytes(flash, offset, &mut bytes)?;
    let [a, b, c, d] = bytes;
    Ok((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])))
}

impl TlvWalker {
    /// Finds the areas of the image at `image_start` and checks their sizes; `room` is the space the image may occupy.
    ///
    /// # Errors
    /// The flash's error, or the first rule the areas break.
    pub fn new<F: ReadNorFlash>(
        flash: &mut F,
        image_start: u32,
        header: &ImageHeader,
        room: u32,
    ) -> Result<Self, TlvReadError<F::Error>> {
        let first = header.tlv_offset().map_err(TlvReadError::Header)?;
        let protected_end = header.hashed_size().map_err(TlvReadError::Header)?;
        let info_end = protected_end
            .checked_add(INFO_SIZE)
            .ok_or(TlvReadError::Header(HeaderError::Overflow))?;
        if info_end > room || image_start.checked_add(room).is_none() {
            return Err(TlvReadError::Format(TlvError::AreaTooLarge));
        }
        if header.protected_tlv_size != 0 {
            let info = read_pair(flash, image_start + first).map_err(TlvReadError::Flash)?;
            if u32::from(header.protected_tlv_size) < INFO_SIZE
                || info != (INFO_PROTECTED, header.protected_tlv_size)
            {
                return Err(TlvReadError::Format(TlvError::ProtectedArea));
            }
        }
        let (magic, total) = read_pair(flash, image_start + protected_end).map_err(TlvReadError::Flash)?;
        if magic != INFO_UNPROTECTED {
            return Err(TlvReadError::Format(TlvError::InfoMagic));
        }
        if u32::from(total) < INFO_SIZE {
            return Err(TlvReadError::Format(TlvError::AreaTooSmall));
        }
        match protected_end.checked_add(u32::from(total)) {
            Some(end) if end <= room && total > MAX_UNPROTECTED_SIZE => Err(TlvReadError::TooMany),
            Some(end) if end <= room => Ok(Self {
                image_start,
                // Without a protected area this is the unprotected info header, which `next` skips as well.
                next: if header.protected_tlv_size == 0 {
                    protected_end
                } else {
                    first + INFO_SIZE
                },
                protected_end,
                end,
                entries_left: MAX_ENTRIES,
            }),
            _ => Err(TlvReadError::Format(TlvError::AreaTooLarge)),
        }
    }

    /// Size of the whole image: header, payload and both areas, in bytes.
    pub fn total_size(&self) -> u32 {
        self.end
    }

    /// The next entry: first those of the protected area, then those of the unprotected one. `None` after the last.
    ///
    /// # Errors
    /// The flash's error, [`TlvError::EntryOverrun`], or [`TlvReadError::TooMany`].
    pub fn next<F: ReadNorFlash>(&mut self, flash: &mut F) -> Result<Option<Tlv>, TlvReadError<F::Error>> {
        if self.next == self.protected_end {
            self.next += INFO_SIZE;
        }
        let protected = self.next < self.protected_end;
        let area_end = if protected { self.protected_end } else { self.end };
        let left = area_end.saturating_sub(self.next);
        if left == 0 {
            return Ok(None);
        }
        if left < INFO_SIZE {
            return Err(TlvReadError::Format(TlvError::EntryOverrun));
        }
        self.entries_left = self.entries_left.checked_sub(1).ok_or(TlvReadError::TooMany)?;
        let (kind, length) = read_pair(flash, self.image_start + self.next).map_err(TlvReadError::Flash)?;
        if u32::from(length) > left - INFO_SIZE {
            return Err(TlvReadError::Format(TlvError::EntryOverrun));
        }
        let value = self.next + INFO_SIZE;
        self.next = value + u32::from(length);
        Ok(Some(Tlv {
            kind,
            length,
            offset: self.image_start + value,
            protected,
        }))
    }
}

/// Bytes in RAM, read like a flash: lets host tools inspect a file with the code that judges a slot.
#[derive(Clone, Copy, Debug)]
pub struct SliceFlash<'a>(pub &'a [u8]);

impl ErrorType for SliceFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for SliceFlash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let start = offset as usize;
        let end = start
            .checked_add(bytes.len())
            .ok_or(NorFlashErrorKind::OutOfBounds)?;
        let source = self.0.get(start..end).ok_or(NorFlashErrorKind::OutOfBounds)?;
        bytes.copy_from_slice(source);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}
