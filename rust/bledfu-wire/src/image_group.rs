// SPDX-License-Identifier: Apache-2.0
//! Group 1 of SMP: images.
//!
//! ```text
//! command  op     parameters                                  answer
//! 0        read   none                                        images: [ image… ], splitStatus: 0
//! 0        write  hash: bytes, confirm: bool                  as a read
//! 1        write  off, len: uint, data, sha: bytes,           off: uint, match: bool
//!                 image: uint, upgrade: bool
//! 5        write  slot: uint                                  nothing
//! 6        read   none                                        images: [ { image: 0, slots: [ slot… ],
//!                                                                         max_image_size: uint } ]
//!
//! image    slot: uint, version: text, hash: 32 bytes, bootable, pending, confirmed, active, permanent: bool
//! slot     slot, size, upload_image_id: uint
//! ```
//! Every parameter may be absent. There is one image, so no entry names its number. Source: Zephyr `img_mgmt.c`,
//! `img_mgmt_state.c`, `smp_group_1.rst`.

use crate::cbor::{Fields, Writer};
use crate::smp::{op, Code};
use core::fmt;
use minicbor::Decoder;

/// Command numbers.
#[allow(missing_docs)]
pub mod command {
    pub const STATE: u8 = 0;
    pub const UPLOAD: u8 = 1;
    pub const ERASE: u8 = 5;
    pub const SLOT_INFO: u8 = 6;
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which images are there?
    ReadState,
    /// Choose what runs after the next reset.
    WriteState {
        /// Hash of the image, of any length; `None`: the running one.
        hash: Option<&'a [u8]>,
        /// For good; else for one boot.
        confirm: bool,
    },
    /// A piece of an image.
    Upload(Upload<'a>),
    /// Erase a slot.
    Erase {
        /// Which one; `None`: the one that is not running.
        slot: Option<u32>,
    },
    /// How large are the slots?
    SlotInfo,
}

/// A piece of an image. Numbers are what the peer sent, up to 2⁶⁴ − 1: whether they make sense is not known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upload<'a> {
    /// Number of the image, 0 if none came.
    pub image: u32,
    /// Where the piece lies in the image, in bytes.
    pub offset: Option<u64>,
    /// Length of the whole image in bytes; comes with the first piece.
    pub length: Option<u64>,
    /// SHA-256 of the whole file, or another name for it of any length; comes with the first piece.
    pub sha: Option<&'a [u8]>,
    /// Only if the version is above that of the running image.
    pub upgrade: bool,
    /// The bytes; empty if none came.
    pub data: &'a [u8],
}

/// Decodes the payload of a request; `op` is that of the header.
pub(crate) fn decode(operation: u8, command: u8, payload: &[u8]) -> Result<Request<'_>, Code> {
    match (operation, command) {
        (op::READ, command::STATE) => Ok(Request::ReadState),
        (op::WRITE, command::STATE) => decode_write_state(payload),
        (op::WRITE, command::UPLOAD) => decode_upload(payload).map(Request::Upload),
        (op::WRITE, command::ERASE) => decode_erase(payload),
        (op::READ, command::SLOT_INFO) => Ok(Request::SlotInfo),
        _ => Err(Code::NotSupported),
    }
}

fn decode_write_state(payload: &[u8]) -> Result<Request<'_>, Code> {
    let (mut hash, mut confirm) = (None, None);
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        match key {
            "hash" => fields.once(&mut hash, Decoder::bytes)?,
            "confirm" => fields.once(&mut confirm, Decoder::bool)?,
            _ => fields.skip()?,
        }
    }
    let confirm = confirm.unwrap_or_default();
    Ok(Request::WriteState { hash, confirm })
}

fn decode_upload(payload: &[u8]) -> Result<Upload<'_>, Code> {
    let (mut image, mut offset, mut length) = (None, None, None);
    let (mut sha, mut upgrade, mut data) = (None, None, None);
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        match key {
            "image" => fields.once_u32(&mut image)?,
            "off" => fields.once(&mut offset, Decoder::u64)?,
            "len" => fields.once(&mut length, Decoder::u64)?,
            "sha" => fields.once(&mut sha, Decoder::bytes)?,
            "upgrade" => fields.once(&mut upgrade, Decoder::bool)?,
            "data" => fields.once(&mut data, Decoder::bytes)?,
            _ => fields.skip()?,
        }
    }
    Ok(Upload {
        image: image.unwrap_or_default(),
        offset,
        length,
        sha,
        upgrade: upgrade.unwrap_or_default(),
        data: data.unwrap_or_default(),
    })
}

fn decode_erase(payload: &[u8]) -> Result<Request<'_>, Code> {
    let mut slot = None;
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        match key {
            "slot" => fields.once_u32(&mut slot)?,
            _ => fields.skip()?,
        }
    }
    Ok(Request::Erase { slot })
}

/// Errors of the group (Zephyr `img_mgmt.h`, `enum img_mgmt_err_code_t`). Some clients accept no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Error {
    /// 1: something failed.
    Unknown = 1,
    /// 2: the layout of the flash could not be asked.
    FlashConfigQuery = 2,
    /// 3: there is no image.
    NoImage = 3,
    /// 4: the image has no TLVs.
    NoTlvs = 4,
    /// 5: a TLV is damaged.
    InvalidTlv = 5,
    /// 6: the image has more than one hash.
    MultipleHashTlvs = 6,
    /// 7: a TLV has the wrong size.
    InvalidTlvSize = 7,
    /// 8: no image has this hash.
    HashNotFound = 8,
    /// 9: there is no slot that may be written.
    NoFreeSlot = 9,
    /// 10: the flash could not be opened.
    FlashOpenFailed = 10,
    /// 11: the flash could not be read.
    FlashReadFailed = 11,
    /// 12: the flash could not be written.
    FlashWriteFailed = 12,
    /// 13: the flash could not be erased.
    FlashEraseFailed = 13,
    /// 14: there is no such slot.
    InvalidSlot = 14,
    /// 15: no memory.
    NoMemory = 15,
    /// 16: the flash is already in use.
    FlashContextAlreadySet = 16,
    /// 17: the flash is not in use.
    FlashContextNotSet = 17,
    /// 18: there is no flash.
    FlashAreaDeviceNull = 18,
    /// 19: not a page of the flash.
    InvalidPageOffset = 19,
    /// 20: `off` is missing.
    InvalidOffset = 20,
    /// 21: `len` is missing.
    InvalidLength = 21,
    /// 22: the first piece is shorter than the header of an image.
    InvalidImageHeader = 22,
    /// 23: the header does not begin as that of an image.
    InvalidImageHeaderMagic = 23,
    /// 24: the hash is no hash.
    InvalidHash = 24,
    /// 25: the image is made for another address.
    InvalidFlashAddress = 25,
    /// 26: the version of the running image is not known.
    VersionGetFailed = 26,
    /// 27: the running image is not older.
    CurrentVersionIsNewer = 27,
    /// 28: an image is already pending.
    ImageAlreadyPending = 28,
    /// 29: the vector table of the image makes no sense.
    InvalidImageVectorTable = 29,
    /// 30: the image does not fit into the slot.
    InvalidImageTooLarge = 30,
    /// 31: more data than announced.
    InvalidImageDataOverrun = 31,
    /// 32: this image may not be confirmed.
    ConfirmationDenied = 32,
    /// 33: the running image cannot be tested.
    SettingTestToActiveDenied = 33,
    /// 34: which slot runs is not known.
    ActiveSlotNotKnown = 34,
}

impl Error {
    /// All errors; number 1 comes first.
    const ALL: [Self; 34] = [
        Self::Unknown,
        Self::FlashConfigQuery,
        Self::NoImage,
        Self::NoTlvs,
        Self::InvalidTlv,
        Self::MultipleHashTlvs,
        Self::InvalidTlvSize,
        Self::HashNotFound,
        Self::NoFreeSlot,
        Self::FlashOpenFailed,
        Self::FlashReadFailed,
        Self::FlashWriteFailed,
        Self::FlashEraseFailed,
        Self::InvalidSlot,
        Self::NoMemory,
        Self::FlashContextAlreadySet,
        Self::FlashContextNotSet,
        Self::FlashAreaDeviceNull,
        Self::InvalidPageOffset,
        Self::InvalidOffset,
        Self::InvalidLength,
        Self::InvalidImageHeader,
        Self::InvalidImageHeaderMagic,
        Self::InvalidHash,
        Self::InvalidFlashAddress,
        Self::VersionGetFailed,
        Self::CurrentVersionIsNewer,
        Self::ImageAlreadyPending,
        Self::InvalidImageVectorTable,
        Self::InvalidImageTooLarge,
        Self::InvalidImageDataOverrun,
        Self::ConfirmationDenied,
        Self::SettingTestToActiveDenied,
        Self::ActiveSlotNotKnown,
    ];

    /// The error of that number, for the client's side.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
            .copied()
    }

    /// What version 1 of the protocol says instead; most errors have no counterpart there.
    pub const fn code(self) -> Code {
        match self {
            Self::NoImage | Self::NoTlvs => Code::NoEntry,
            Self::NoFreeSlot | Self::CurrentVersionIsNewer | Self::ImageAlreadyPending => Code::BadState,
            Self::NoMemory => Code::NoMemory,
            Self::InvalidSlot
            | Self::InvalidPageOffset
            | Self::InvalidOffset
            | Self::InvalidLength
            | Self::InvalidImageHeader
            | Self::InvalidHash
            | Self::InvalidFlashAddress => Code::Invalid,
            _ => Code::Unknown,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown error (image 1)",
            Self::FlashConfigQuery => "the layout of the flash could not be asked (image 2)",
            Self::NoImage => "there is no image (image 3)",
            Self::NoTlvs => "the image has no TLVs (image 4)",
            Self::InvalidTlv => "a TLV of the image is damaged (image 5)",
            Self::MultipleHashTlvs => "the image has more than one hash (image 6)",
            Self::InvalidTlvSize => "a TLV of the image has the wrong size (image 7)",
            Self::HashNotFound => "no image on the device has this hash (image 8)",
            Self::NoFreeSlot => "no slot may be written now (image 9)",
            Self::FlashOpenFailed => "the flash could not be opened (image 10)",
            Self::FlashReadFailed => "the flash could not be read (image 11)",
            Self::FlashWriteFailed => "the flash could not be written (image 12)",
            Self::FlashEraseFailed => "the flash could not be erased (image 13)",
            Self::InvalidSlot => "there is no such slot (image 14)",
            Self::NoMemory => "no memory (image 15)",
            Self::FlashContextAlreadySet => "the flash is already in use (image 16)",
            Self::FlashContextNotSet => "the flash is not in use (image 17)",
            Self::FlashAreaDeviceNull => "there is no flash (image 18)",
            Self::InvalidPageOffset => "not a page of the flash (image 19)",
            Self::InvalidOffset => "the offset is missing (image 20)",
            Self::InvalidLength => "the length is missing (image 21)",
            Self::InvalidImageHeader => "the first piece is shorter than the header of an image (image 22)",
            Self::InvalidImageHeaderMagic => "the file does not begin as an image for MCUboot (image 23)",
            Self::InvalidHash => "the hash has the wrong length (image 24)",
            Self::InvalidFlashAddress => "the image is made for another address (image 25)",
            Self::VersionGetFailed => "the version of the running image is not known (image 26)",
            Self::CurrentVersionIsNewer => "the running image is not older (image 27)",
            Self::ImageAlreadyPending => "an image is already pending (image 28)",
            Self::InvalidImageVectorTable => "the vector table of the image makes no sense (image 29)",
            Self::InvalidImageTooLarge => "the image does not fit into the slot (image 30)",
            Self::InvalidImageDataOverrun => "more data than announced (image 31)",
            Self::ConfirmationDenied => "this image may not be confirmed (image 32)",
            Self::SettingTestToActiveDenied => "the running image cannot be tested (image 33)",
            Self::ActiveSlotNotKnown => "which slot runs is not known (image 34)",
        })
    }
}

impl core::error::Error for Error {}

/// An image in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageState<'a> {
    /// 0 or 1.
    pub slot: u8,
    /// `major.minor.revision`, with `.build` behind it unless that is 0.
    pub version: &'a str,
    /// The hash in the image's TLVs (not that of the file).
    pub hash: [u8; 32],
    /// The boot loader may start it.
    pub bootable: bool,
    /// It is swapped in at the next reset.
    pub pending: bool,
    /// It stays.
    pub confirmed: bool,
    /// It runs.
    pub active: bool,
    /// It is swapped in at the next reset, and stays.
    pub permanent: bool,
}

impl ImageState<'_> {
    fn write(&self, to: &mut Writer<'_>) {
        to.map(8).text("slot").number(self.slot.into());
        to.text("version").text(self.version);
        to.text("hash").bytes(&self.hash);
        for (key, flag) in [
            ("bootable", self.bootable),
            ("pending", self.pending),
            ("confirmed", self.confirmed),
            ("active", self.active),
            ("permanent", self.permanent),
        ] {
            to.text(key).flag(flag);
        }
    }
}

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// 0 or 1.
    pub slot: u8,
    /// Size in bytes.
    pub size: u32,
    /// The `image` that an upload into this slot names; `None` if nothing can be uploaded into it.
    pub upload_image_id: Option<u32>,
}

impl SlotInfo {
    fn write(&self, to: &mut Writer<'_>) {
        to.map(2 + usize::from(self.upload_image_id.is_some()));
        to.text("slot").number(self.slot.into());
        to.text("size").number(self.size);
        if let Some(id) = self.upload_image_id {
            to.text("upload_image_id").number(id);
        }
    }
}

/// An answer; an erase is answered with [`crate::smp::Response::Empty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// The images, that of slot 0 first.
    State(&'a [ImageState<'a>]),
    /// Where an upload is.
    Upload {
        /// The next wanted byte.
        offset: u32,
        /// The image is complete and is, or is not, what the peer's `sha` announced.
        matches: Option<bool>,
    },
    /// The slots of the one image.
    SlotInfo {
        /// That of slot 0 first.
        slots: &'a [SlotInfo],
        /// Bytes of the longest image that can be installed.
        max_image_size: u32,
    },
}

impl Response<'_> {
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match *self {
            Self::State(images) => {
                to.map(2).text("images").array(images.len());
                for image in images {
                    image.write(to);
                }
                to.text("splitStatus").number(0);
            }
            Self::Upload { offset, matches } => {
                to.map(1 + usize::from(matches.is_some()))
                    .text("off")
                    .number(offset);
                if let Some(matches) = matches {
                    to.text("match").flag(matches);
                }
            }
            Self::SlotInfo {
                slots,
                max_image_size,
            } => {
                to.map(1).text("images").array(1);
                to.map(3).text("image").number(0);
                to.text("slots").array(slots.len());
                for slot in slots {
                    slot.write(to);
                }
                to.text("max_image_size").number(max_image_size);
            }
        }
    }
}
