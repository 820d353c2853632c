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
//! Every parameter is optional. There is one image, so entries do not give its number. Source: Zephyr `img_mgmt.c`,
//! `img_mgmt_state.c`, `smp_group_1.rst`.

use crate::cbor::{Fields, Writer};
use crate::smp::{op, Code, HEADER_SIZE};
use bledfu_text::{words, Line, Text};
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
    /// List the images.
    ReadState,
    /// Choose the image that runs after the next reset.
    WriteState {
        /// Hash of the image, of any length; `None`: the running one.
        hash: Option<&'a [u8]>,
        /// Permanently; otherwise for one boot.
        confirm: bool,
    },
    /// A piece of an image.
    Upload(Upload<'a>),
    /// Erase a slot.
    Erase {
        /// Which one; `None`: the slot whose image is not running.
        slot: Option<u32>,
    },
    /// Report the sizes of the slots.
    SlotInfo,
}

/// A piece of an image. Numbers are those that the peer sent, up to 2⁶⁴ − 1; they are not checked here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upload<'a> {
    /// Number of the image, 0 if omitted.
    pub image: u32,
    /// Offset of the piece in the image, in bytes.
    pub offset: Option<u64>,
    /// Length of the whole image in bytes; sent with the first piece.
    pub length: Option<u64>,
    /// SHA-256 of the whole file, or any other identifier of any length; sent with the first piece.
    pub sha: Option<&'a [u8]>,
    /// Accept only a version above that of the running image.
    pub upgrade: bool,
    /// The bytes; empty if omitted.
    pub data: &'a [u8],
}

/// Length of a CBOR head in bytes, for this number, or for a string or map of this length.
const fn head(number: u64) -> usize {
    match number {
        0..=23 => 1,
        24..=0xFF => 2,
        0x100..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

impl Upload<'_> {
    /// How many bytes of data fit into a frame of `frame_size` bytes beside the other fields; 0 if not even those fit.
    /// [`Upload::data`] is ignored.
    pub const fn room(&self, frame_size: usize) -> usize {
        // The head of a key of up to 23 letters has one byte; so has the map's.
        let mut taken = HEADER_SIZE + 1 + (1 + "data".len());
        if self.image != 0 {
            taken += 1 + "image".len() + head(self.image as u64);
        }
        if let Some(offset) = self.offset {
            taken += 1 + "off".len() + head(offset);
        }
        if let Some(length) = self.length {
            taken += 1 + "len".len() + head(length);
        }
        if let Some(sha) = self.sha {
            taken += 1 + "sha".len() + head(sha.len() as u64) + sha.len();
        }
        if self.upgrade {
            taken += 1 + "upgrade".len() + 1;
        }
        let room = frame_size.saturating_sub(taken);
        let data = room.saturating_sub(head(room as u64));
        // Just below the limit for a longer head, the shorter head leaves room for one more byte.
        if data + 1 + head(data as u64 + 1) <= room {
            data + 1
        } else {
            data
        }
    }

    /// The order of RFC 8949 §4.2.3, shorter keys first, as smpclient writes it.
    fn write(&self, to: &mut Writer<'_>) {
        let entries = [
            self.length.is_some(),
            self.offset.is_some(),
            self.sha.is_some(),
            self.image != 0,
            self.upgrade,
        ];
        to.map(1 + entries.into_iter().filter(|&there| there).count());
        if let Some(length) = self.length {
            to.text("len").long(length);
        }
        if let Some(offset) = self.offset {
            to.text("off").long(offset);
        }
        if let Some(sha) = self.sha {
            to.text("sha").bytes(sha);
        }
        to.text("data").bytes(self.data);
        if self.image != 0 {
            to.text("image").number(self.image);
        }
        if self.upgrade {
            to.text("upgrade").flag(true);
        }
    }
}

impl Request<'_> {
    /// Operation and command of a frame with this request.
    pub(crate) const fn operation(&self) -> (u8, u8) {
        match self {
            Self::ReadState => (op::READ, command::STATE),
            Self::WriteState { .. } => (op::WRITE, command::STATE),
            Self::Upload(_) => (op::WRITE, command::UPLOAD),
            Self::Erase { .. } => (op::WRITE, command::ERASE),
            Self::SlotInfo => (op::READ, command::SLOT_INFO),
        }
    }

    /// Writes the parameters and omits default values.
    pub(crate) fn write(&self, to: &mut Writer<'_>) {
        match *self {
            Self::ReadState | Self::SlotInfo | Self::Erase { slot: None } => {
                to.map(0);
            }
            Self::WriteState { hash, confirm } => {
                to.map(1 + usize::from(hash.is_some()));
                if let Some(hash) = hash {
                    to.text("hash").bytes(hash);
                }
                to.text("confirm").flag(confirm);
            }
            Self::Upload(ref piece) => piece.write(to),
            Self::Erase { slot: Some(slot) } => {
                to.map(1).text("slot").number(slot);
            }
        }
    }
}

/// Decodes the payload of a request; `op` is the operation in its header.
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

/// Errors of the group (Zephyr `img_mgmt.h`, `enum img_mgmt_err_code_t`). Some clients accept only these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Error {
    /// 1: unspecified failure.
    Unknown = 1,
    /// 2: the flash layout could not be read.
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
    /// 9: no slot may be written.
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
    /// 23: the image header has the wrong magic.
    InvalidImageHeaderMagic = 23,
    /// 24: the hash is invalid.
    InvalidHash = 24,
    /// 25: the image is made for another address.
    InvalidFlashAddress = 25,
    /// 26: the version of the running image is unknown.
    VersionGetFailed = 26,
    /// 27: the running image is not older.
    CurrentVersionIsNewer = 27,
    /// 28: an image is already pending.
    ImageAlreadyPending = 28,
    /// 29: the vector table of the image is invalid.
    InvalidImageVectorTable = 29,
    /// 30: the image does not fit into the slot.
    InvalidImageTooLarge = 30,
    /// 31: more data than announced.
    InvalidImageDataOverrun = 31,
    /// 32: this image may not be confirmed.
    ConfirmationDenied = 32,
    /// 33: the running image cannot be tested.
    SettingTestToActiveDenied = 33,
    /// 34: it is unknown which slot runs.
    ActiveSlotNotKnown = 34,
}

impl Error {
    /// All errors, from number 1 on.
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

    /// The error with this number, for clients.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL
            .get(usize::try_from(number.checked_sub(1)?).ok()?)
            .copied()
    }

    /// The code for version 1 of the protocol, which has no counterpart for most errors.
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

impl Text for Error {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Unknown => words!("unknown error (image 1)"),
            Self::FlashConfigQuery => words!("the flash layout could not be read (image 2)"),
            Self::NoImage => words!("there is no image (image 3)"),
            Self::NoTlvs => words!("the image has no TLVs (image 4)"),
            Self::InvalidTlv => words!("a TLV of the image is damaged (image 5)"),
            Self::MultipleHashTlvs => words!("the image has more than one hash (image 6)"),
            Self::InvalidTlvSize => words!("a TLV of the image has the wrong size (image 7)"),
            Self::HashNotFound => words!("no image on the device has this hash (image 8)"),
            Self::NoFreeSlot => words!("no slot may be written now (image 9)"),
            Self::FlashOpenFailed => words!("the flash could not be opened (image 10)"),
            Self::FlashReadFailed => words!("the flash could not be read (image 11)"),
            Self::FlashWriteFailed => words!("the flash could not be written (image 12)"),
            Self::FlashEraseFailed => words!("the flash could not be erased (image 13)"),
            Self::InvalidSlot => words!("there is no such slot (image 14)"),
            Self::NoMemory => words!("no memory (image 15)"),
            Self::FlashContextAlreadySet => words!("the flash is already in use (image 16)"),
            Self::FlashContextNotSet => words!("the flash is not in use (image 17)"),
            Self::FlashAreaDeviceNull => words!("there is no flash (image 18)"),
            Self::InvalidPageOffset => words!("not a page of the flash (image 19)"),
            Self::InvalidOffset => words!("the offset is missing (image 20)"),
            Self::InvalidLength => words!("the length is missing (image 21)"),
            Self::InvalidImageHeader => {
                words!("the image header is cut, or its kind cannot be started on this device (image 22)")
            }
            Self::InvalidImageHeaderMagic => {
                words!("the file does not begin with the MCUboot image magic (image 23)")
            }
            Self::InvalidHash => words!("the hash has the wrong length (image 24)"),
            Self::InvalidFlashAddress => words!("the image is made for another address (image 25)"),
            Self::VersionGetFailed => words!("the version of the running image is unknown (image 26)"),
            Self::CurrentVersionIsNewer => words!("the running image is not older (image 27)"),
            Self::ImageAlreadyPending => words!("an image is already pending (image 28)"),
            Self::InvalidImageVectorTable => words!(
                "the image is linked for another slot: its reset vector lies outside this one (image 29)"
            ),
            Self::InvalidImageTooLarge => words!("the image does not fit into the slot (image 30)"),
            Self::InvalidImageDataOverrun => words!("more data than announced (image 31)"),
            Self::ConfirmationDenied => words!("this image may not be confirmed (image 32)"),
            Self::SettingTestToActiveDenied => words!("the running image cannot be tested (image 33)"),
            Self::ActiveSlotNotKnown => words!("it is unknown which slot runs (image 34)"),
        };
        words.put(line);
    }
}

bledfu_text::display!(Error);

impl core::error::Error for Error {}

/// An image in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageState<'a> {
    /// 0 or 1.
    pub slot: u8,
    /// `major.minor.revision`, followed by `.build` unless that is 0.
    pub version: &'a str,
    /// The hash in the image's TLVs (not the file's).
    pub hash: [u8; 32],
    /// The boot loader can start it.
    pub bootable: bool,
    /// It is swapped in at the next reset.
    pub pending: bool,
    /// It is confirmed.
    pub confirmed: bool,
    /// It is running.
    pub active: bool,
    /// It is swapped in at the next reset and stays.
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
    /// The value of `image` in an upload to this slot; `None` if the slot takes no upload.
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
    /// The images, slot 0 first.
    State(&'a [ImageState<'a>]),
    /// Progress of an upload.
    Upload {
        /// The next byte expected.
        offset: u32,
        /// The image is complete; whether it matches the peer's `sha`.
        matches: Option<bool>,
    },
    /// The slots of the one image.
    SlotInfo {
        /// The slots, slot 0 first.
        slots: &'a [SlotInfo],
        /// Length in bytes of the longest image that can be installed.
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

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::smp::{self, encode, Context, Failure, Header, IMAGE_GROUP};
    use crate::testing::{frame, hex};
    use std::vec;
    use std::vec::Vec;

    fn asked(operation: u8, command: u8, payload: &[u8], expected: Result<Request<'_>, Code>) {
        let frame = frame(operation, IMAGE_GROUP, command, payload);
        let got = smp::decode(&frame).unwrap().request;
        assert_eq!(got, expected.map(smp::Request::Image), "{payload:02x?}");
    }

    fn answered(response: Response<'_>) -> Vec<u8> {
        let request = Header::decode(&frame(op::READ, IMAGE_GROUP, 0, &[])).unwrap();
        let mut out = vec![0; 3000];
        let length = encode(&Context::of(&request), &smp::Response::Image(response), &mut out);
        out[smp::HEADER_SIZE..length].to_vec()
    }

    // smp case 20
    #[test]
    fn a_missing_payload_is_accepted_where_no_parameter_is_needed() {
        for payload in ["", "a0", "bf ff", "a1", "05"] {
            asked(op::READ, command::STATE, &hex(payload), Ok(Request::ReadState));
            asked(op::READ, command::SLOT_INFO, &hex(payload), Ok(Request::SlotInfo));
        }
        for command in [command::STATE, command::UPLOAD, command::ERASE] {
            asked(op::WRITE, command, &[], Err(Code::Invalid));
        }
    }

    #[test]
    fn the_chosen_image_may_be_named_or_not() {
        let hash = [7; 33];
        for (payload, expected, confirm) in [
            (hex("a0"), None, false),
            (hex("a1 67 636f6e6669726d f5"), None, true),
            (
                hex("bf 67 636f6e6669726d f4 64 68617368 40 ff"),
                Some(&hash[..0]),
                false,
            ),
            (
                [&hex("a1 64 68617368 58 1f")[..], &hash[..31]].concat(),
                Some(&hash[..31]),
                false,
            ),
            (
                [&hex("a2 67 636f6e6669726d f5 64 68617368 58 21")[..], &hash].concat(),
                Some(&hash[..]),
                true,
            ),
        ] {
            let request = Request::WriteState {
                hash: expected,
                confirm,
            };
            asked(op::WRITE, command::STATE, &payload, Ok(request));
        }
        for payload in [
            "a1 64 68617368 62 6869",
            "a1 67 636f6e6669726d 01",
            "a1 64 68617368 f6",
        ] {
            asked(op::WRITE, command::STATE, &hex(payload), Err(Code::Invalid));
        }
    }

    // smp case 47
    #[test]
    fn missing_fields_of_a_first_piece_are_decoded_as_absent() {
        let piece = |upload| Ok(Request::Upload(upload));
        asked(op::WRITE, command::UPLOAD, &hex("a0"), piece(Upload::default()));
        let sha = [9; 33];
        let payload = [
            &hex("a5 64 64617461 41 ff 65 696d616765 01 63 736861 58 21")[..],
            &sha,
            &hex("67 75706772616465 f5 63 6c656e 00"),
        ]
        .concat();
        let upload = Upload {
            image: 1,
            offset: None,
            length: Some(0),
            sha: Some(&sha),
            upgrade: true,
            data: &[0xFF],
        };
        asked(op::WRITE, command::UPLOAD, &payload, piece(upload));
    }

    #[test]
    fn a_slot_to_erase_may_be_named_or_not() {
        for (payload, slot) in [
            ("a0", None),
            ("a1 64 736c6f74 00", Some(0)),
            ("bf 64 736c6f74 18 01 ff", Some(1)),
            ("a1 64 736c6f74 1a ffffffff", Some(u32::MAX)),
        ] {
            asked(
                op::WRITE,
                command::ERASE,
                &hex(payload),
                Ok(Request::Erase { slot }),
            );
        }
        for value in ["20", "f5", "61 31", "1b 0000000100000000"] {
            let payload = hex(&std::format!("a1 64 736c6f74 {value}"));
            asked(op::WRITE, command::ERASE, &payload, Err(Code::Invalid));
        }
    }

    #[test]
    fn the_longest_list_of_two_images_is_shorter_than_320_bytes() {
        let image = ImageState {
            slot: 1,
            version: "255.255.65535.4294967295",
            hash: [0xA5; 32],
            bootable: true,
            pending: true,
            confirmed: true,
            active: true,
            permanent: true,
        };
        let list = answered(Response::State(&[image, image]));
        assert!(smp::HEADER_SIZE + list.len() <= 320, "{} bytes", list.len());
        assert_eq!(list.iter().filter(|&&byte| byte == 0xF5).count(), 10);
        let empty = answered(Response::State(&[]));
        assert_eq!(empty, hex("a2 66 696d61676573 80 6b 73706c6974537461747573 00"));
    }

    #[test]
    fn match_is_sent_only_when_it_is_known() {
        for (matches, tail) in [
            (None, ""),
            (Some(true), "65 6d61746368 f5"),
            (Some(false), "65 6d61746368 f4"),
        ] {
            let upload = Response::Upload {
                offset: u32::MAX,
                matches,
            };
            let entries = 1 + u8::from(matches.is_some());
            let head = [vec![0xA0 | entries], hex("63 6f6666 1a ffffffff")].concat();
            assert_eq!(answered(upload), [head, hex(tail)].concat());
        }
    }

    // smp case 70
    #[test]
    fn slot_info_reports_sizes_and_upload_numbers() {
        let slots = [
            SlotInfo {
                slot: 0,
                size: 0xE8000,
                upload_image_id: None,
            },
            SlotInfo {
                slot: 1,
                size: 0xE8000,
                upload_image_id: Some(1),
            },
        ];
        let response = Response::SlotInfo {
            slots: &slots,
            max_image_size: 0xE6000,
        };
        assert_eq!(
            answered(response),
            hex("a1 66 696d61676573 81 a3 65 696d616765 00
                 65 736c6f7473 82
                    a2 64 736c6f74 00 64 73697a65 1a 000e8000
                    a3 64 736c6f74 01 64 73697a65 1a 000e8000 6f 75706c6f61645f696d6167655f6964 01
                 6e 6d61785f696d6167655f73697a65 1a 000e6000")
        );
    }

    #[test]
    fn every_error_has_a_number_and_a_version_1_code() {
        let with_counterpart = [
            (3, Code::NoEntry),
            (4, Code::NoEntry),
            (9, Code::BadState),
            (14, Code::Invalid),
            (15, Code::NoMemory),
            (19, Code::Invalid),
            (20, Code::Invalid),
            (21, Code::Invalid),
            (22, Code::Invalid),
            (24, Code::Invalid),
            (25, Code::Invalid),
            (27, Code::BadState),
            (28, Code::BadState),
        ];
        for number in 1..=34 {
            let error = Error::from_number(number).unwrap();
            let found = with_counterpart.iter().find(|(known, _)| *known == number);
            let code = found.map_or(Code::Unknown, |(_, code)| *code);
            assert_eq!((error as u64, error.code()), (number, code));
            assert!(std::format!("{}", Failure::Image(error)).ends_with(&std::format!("(image {number})")));
        }
        for number in [0, 35, u64::MAX] {
            assert_eq!(Error::from_number(number), None);
        }
    }
}
