// SPDX-License-Identifier: Apache-2.0
//! A packed update: what its file says, and whether it is for this device.
//!
//! The file is in flash and its signature is checked before anything in it is believed. What is checked here costs nothing
//! but reading; only afterwards may the area be erased into which it is expanded.

use bledfu_patch::record::{self, Header, Pack, PackError, HEADER_SIZE};
use bledfu_slot::tlv::{types, TlvReadError, TlvWalker};
use bledfu_slot::verify::{verify_not_bootable, Crypto, Digest, ImageInfo, ImagePolicy, VerifyError};
use bledfu_slot::{ImageHeader, Version};
use bledfu_text::{text, words, Hex, Line, Text};
use embedded_storage::nor_flash::ReadNorFlash;

/// Entries of this range belong to packed updates; those that are not known are of a later format.
const OURS: core::ops::RangeInclusive<u16> = 0xBFA0..=0xBFAF;
/// Bytes that are read at once: a digest, which is a multiple of the read unit of every flash.
const VALUE: usize = 32;

/// Why a file is not a packed update that this device can expand. What depends on the running image is [`BaseRefusal`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackedError<E> {
    /// The flash could not be read; this says nothing about the file.
    Flash(E),
    /// The first 32 bytes are not those of a packed update.
    Header(record::HeaderError),
    /// Digest, signature or the form of the entries.
    Image(VerifyError<E>),
    /// The entry that describes the packing.
    Pack(PackError),
    /// An entry is missing.
    Missing(u16),
    /// An entry is there twice, or has no place in this file.
    Unexpected(u16),
    /// An entry has another length than its type has.
    Length(u16),
}

impl<E> From<TlvReadError<E>> for PackedError<E> {
    fn from(error: TlvReadError<E>) -> Self {
        Self::Image(error.into())
    }
}

/// Without the flash's own error, which only [`Display`](core::fmt::Display) shows.
impl<E> Text for PackedError<E> {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Flash(_) => words!("the packed update cannot be read").put(line),
            Self::Header(error) => error.put(line),
            Self::Image(error) => error.put(line),
            Self::Pack(error) => error.put(line),
            Self::Missing(kind) => {
                text!("the packed update has no entry {}", Hex(u32::from(*kind), 4)).put(line)
            }
            Self::Unexpected(kind) => text!(
                "the packed update has an entry {} too many",
                Hex(u32::from(*kind), 4)
            )
            .put(line),
            Self::Length(kind) => text!(
                "the entry {} of the packed update has a wrong length",
                Hex(u32::from(*kind), 4)
            )
            .put(line),
        }
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for PackedError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        bledfu_text::format(self, f)?;
        match self {
            Self::Flash(error) => write!(f, ": {error:?}"),
            _ => Ok(()),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for PackedError<E> {}

/// What this device can expand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest image, in bytes.
    pub largest: u32,
    /// Entries of the table of the decoder.
    pub table: usize,
}

/// What a packed update says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// How the stream is to be expanded.
    pub pack: Pack,
    /// Bytes of the stream, which begins behind the header.
    pub stream_len: u32,
    /// Version of the image that is made.
    pub version: Version,
    /// SHA-256 of the whole file that is made.
    pub out_sha: [u8; 32],
    /// Digest of the image that is made.
    pub out_hash: Digest,
    /// Digest of the base; `None` if none is needed.
    pub base: Option<Digest>,
    /// Security counter of the image that is made, if it has one.
    pub security_counter: Option<u32>,
    /// Bytes of the whole file.
    pub file_len: u32,
}

/// The image that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its digest.
    pub digest: Digest,
    /// Bytes that the digest covers.
    pub hashed_len: u32,
    /// Address of its slot.
    pub address: u32,
}

/// Why a packed update is not for the image that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseRefusal {
    /// What it makes runs already: there is nothing to do.
    Runs,
    /// It needs another image.
    OtherImage,
    /// It is for a slot at another address.
    OtherAddress(u32),
}

impl Text for BaseRefusal {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Runs => words!("the image that the packed update makes runs already").put(line),
            Self::OtherImage => {
                words!("the packed update is for another image than the one that runs; send the full image")
                    .put(line)
            }
            Self::OtherAddress(address) => {
                text!("the packed update is for a slot at {}", Hex(*address, 8)).put(line)
            }
        }
    }
}

bledfu_text::display!(BaseRefusal);

impl core::error::Error for BaseRefusal {}

/// Lengths in bytes of the entries that a packed update may have: PACK, OUT_SHA, BASE and OUT_HASH, whose types follow each
/// other, and the security counter.
const LENGTHS: [u16; 5] = [Pack::SIZE as u16, VALUE as u16, VALUE as u16, VALUE as u16, 4];
const _: () = assert!(
    record::OUT_SHA == record::PACK + 1
        && record::BASE == record::PACK + 2
        && record::OUT_HASH == record::PACK + 3
);
/// Place of the security counter among them.
const COUNTER: usize = 4;
/// The entries that are always there, and the one that a delta has besides: a bit for each.
const NEEDED: u8 = 0b1011;
const BASE: u8 = 0b0100;

impl Packed {
    /// Reads the file of `file_len` bytes at `start`. Nothing is hashed: see [`Packed::verify`], which comes before.
    ///
    /// # Errors
    /// [`PackedError`]: the first thing in it that is not as it must be.
    #[inline(never)]
    pub fn read<F: ReadNorFlash>(
        flash: &mut F,
        start: u32,
        file_len: u32,
        limits: Limits,
    ) -> Result<Self, PackedError<F::Error>> {
        let mut first = [0; HEADER_SIZE as usize];
        bledfu_slot::flash::read_bytes(flash, start, &mut first).map_err(PackedError::Flash)?;
        let head = Header::decode(&first, file_len).map_err(PackedError::Header)?;
        let header = ImageHeader::parse(&first).map_err(|error| PackedError::Image(error.into()))?;
        let mut tlvs = TlvWalker::new(flash, start, &header, file_len)?;
        let sizes = tlvs.total_size();
        // One buffer for the value of each entry: code for each length would cost more than the bytes.
        let mut values = [[0; VALUE]; LENGTHS.len()];
        let mut seen = 0;
        while let Some(tlv) = tlvs.next(flash)? {
            if !tlv.protected {
                match OURS.contains(&tlv.kind) {
                    true => return Err(PackedError::Unexpected(tlv.kind)),
                    false => continue,
                }
            }
            let place = match tlv.kind {
                types::SECURITY_COUNTER => COUNTER,
                kind @ record::PACK..=record::OUT_HASH => usize::from(kind - record::PACK),
                kind => return Err(PackedError::Unexpected(kind)),
            };
            let (Some(value), Some(&length)) = (values.get_mut(place), LENGTHS.get(place)) else {
                return Err(PackedError::Unexpected(tlv.kind));
            };
            let before = seen;
            seen |= 1 << place;
            if seen == before {
                return Err(PackedError::Unexpected(tlv.kind));
            }
            let bytes = match tlv.length == length {
                true => value.get_mut(..usize::from(length)).unwrap_or_default(),
                false => return Err(wrong_length(tlv.kind)),
            };
            bledfu_slot::flash::read_bytes(flash, tlv.offset, bytes).map_err(PackedError::Flash)?;
        }
        all_of(NEEDED, seen)?;
        if sizes != file_len {
            return Err(PackedError::Header(record::HeaderError::Sizes));
        }
        let [pack, out_sha, base, out_hash, counter] = values;
        let pack = pack.get(..Pack::SIZE).unwrap_or_default();
        let pack = Pack::decode(pack, limits.largest, limits.table).map_err(PackedError::Pack)?;
        let has_base = seen & BASE != 0;
        match pack.method {
            bledfu_patch::Method::Delta => all_of(BASE, seen)?,
            bledfu_patch::Method::Full if has_base => return Err(PackedError::Unexpected(record::BASE)),
            bledfu_patch::Method::Full => {}
        }
        let has_counter = seen >> COUNTER != 0;
        let [a, b, c, d, ..] = counter;
        Ok(Self {
            pack,
            stream_len: head.stream_len,
            version: header.version,
            out_sha,
            out_hash,
            base: has_base.then_some(base),
            security_counter: has_counter.then_some(u32::from_le_bytes([a, b, c, d])),
            file_len,
        })
    }

    /// Checks the signature of the file at `start`, and returns what its entries say of it; `room` is the bytes that it may
    /// occupy, `digest` the one over header, stream and protected entries, computed while they arrived.
    ///
    /// # Errors
    /// [`PackedError::Image`], as for every image.
    pub fn verify<F: ReadNorFlash, C: Crypto>(
        flash: &mut F,
        start: u32,
        room: u32,
        policy: &ImagePolicy<'_>,
        crypto: &C,
        digest: &Digest,
    ) -> Result<ImageInfo, PackedError<F::Error>> {
        verify_not_bootable(flash, start, room, policy, crypto, digest).map_err(PackedError::Image)
    }

    /// Whether it is for the image that runs.
    ///
    /// # Errors
    /// [`BaseRefusal`]. [`BaseRefusal::Runs`] is a success without work.
    pub fn check_base(&self, running: &Running) -> Result<(), BaseRefusal> {
        if self.out_hash == running.digest {
            return Err(BaseRefusal::Runs);
        }
        let Some(base) = self.base else {
            return Ok(());
        };
        if base != running.digest || self.pack.base_len != running.hashed_len {
            return Err(BaseRefusal::OtherImage);
        }
        match self.pack.base_addr == running.address {
            true => Ok(()),
            false => Err(BaseRefusal::OtherAddress(self.pack.base_addr)),
        }
    }
}

/// The first of the entries `needed` that is not among those `seen`.
fn all_of<E>(needed: u8, seen: u8) -> Result<(), PackedError<E>> {
    match needed & !seen {
        0 => Ok(()),
        missing => Err(PackedError::Missing(
            record::PACK + missing.trailing_zeros() as u16,
        )),
    }
}

const fn wrong_length<E>(kind: u16) -> PackedError<E> {
    match kind {
        record::PACK => PackedError::Pack(PackError::Length),
        _ => PackedError::Length(kind),
    }
}

#[cfg(test)]
mod tests;
