// SPDX-License-Identifier: Apache-2.0
//! Answers of an SMP server, as a client reads them.
//!
//! Servers differ more than clients do: maps and strings with or without a length in front (Zephyr's have none), keys
//! in any order, keys of later versions, `rc: 0` beside a success, flags omitted when they are false. All of that is
//! accepted here, as by the clients in the field. An invalid answer is an [`AnswerError`]; a refusal by the device is a
//! [`ServerError`] in a valid answer.
//!
//! ```
//! use bledfu_wire::smp_answer::Answer;
//!
//! let frame = *b"\x0b\x00\x00\x07\x00\x01\x08\x01\xa1\x63off\x18\x20";
//! let answer = Answer::decode(&frame)?;
//! assert_eq!(answer.error, None);
//! assert_eq!(answer.upload()?.offset, Some(32));
//! # Ok::<(), bledfu_wire::smp_answer::AnswerError>(())
//! ```

use crate::cbor::{self, Fields, Items};
use crate::image_group;
use crate::os_group;
use crate::smp::{op, Code, Failure, Header, HEADER_SIZE, IMAGE_GROUP, OS_GROUP};
use core::fmt;
use minicbor::decode::Error;
use minicbor::Decoder;

/// Why bytes are not an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerError {
    /// The frame is shorter than its header says, or has no header.
    Short,
    /// The header is a request's.
    NotAnAnswer,
    /// The payload is not a CBOR map, is cut, or nests deeper than 16.
    Malformed,
    /// A known key has a value of the wrong type.
    WrongType,
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "the answer is shorter than its header says",
            Self::NotAnAnswer => "the frame is a request",
            Self::Malformed => "the answer does not contain a whole CBOR map",
            Self::WrongType => "a value in the answer has the wrong type",
        })
    }
}

impl core::error::Error for AnswerError {}

/// An error returned by the server. Any number is possible: servers define their own errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The group that defines the error; `None`: a protocol error.
    pub group: Option<u16>,
    /// The error number, not 0.
    pub number: i64,
}

impl ServerError {
    /// The named error, if this crate knows it.
    pub fn known(&self) -> Option<Failure> {
        let number = u64::try_from(self.number).ok()?;
        match self.group {
            None => Code::from_number(number).map(Failure::Smp),
            Some(OS_GROUP) => os_group::Error::from_number(number).map(Failure::Os),
            Some(IMAGE_GROUP) => image_group::Error::from_number(number).map(Failure::Image),
            Some(_) => None,
        }
    }
}

impl From<Failure> for ServerError {
    fn from(failure: Failure) -> Self {
        let (group, number) = match failure {
            Failure::Smp(code) => (None, code as u8),
            Failure::Os(error) => (Some(OS_GROUP), error as u8),
            Failure::Image(error) => (Some(IMAGE_GROUP), error as u8),
        };
        Self {
            group,
            number: number.into(),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.known(), self.group) {
            (Some(failure), _) => failure.fmt(f),
            (None, Some(group)) => write!(f, "error {} of group {group}", self.number),
            (None, None) => write!(f, "error rc {}", self.number),
        }
    }
}

impl core::error::Error for ServerError {}

/// One whole frame from a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The header, as received.
    pub header: Header,
    /// Why the request failed; `None`: it succeeded.
    pub error: Option<ServerError>,
    payload: &'a [u8],
}

/// Limits of a server's transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Longest frame in bytes, with its header.
    pub buf_size: u64,
    /// Number of such frames that the server buffers; not every server reports it.
    pub buf_count: Option<u64>,
}

/// Progress of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadAnswer {
    /// The next byte that the server expects; some errors omit it.
    pub offset: Option<u64>,
    /// After the last piece: whether the received file matches the announced `sha`; `None`: the server does not say.
    pub matches: Option<bool>,
}

/// How a server's boot loader installs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootloaderMode {
    /// The mode as MCUboot's `boot_status.h` numbers it; see [`os_group::Response::Mode`].
    pub mode: i64,
    /// Older versions are refused.
    pub no_downgrade: bool,
}

impl<'a> Answer<'a> {
    /// Decodes one frame. Bytes after it, flags and reserved header bits are ignored.
    ///
    /// # Errors
    /// [`AnswerError`] if the bytes are not an answer. A refusal by the server is in [`Answer::error`].
    pub fn decode(frame: &'a [u8]) -> Result<Self, AnswerError> {
        let header = Header::decode(frame).ok_or(AnswerError::Short)?;
        let payload = frame
            .get(HEADER_SIZE..header.frame_length())
            .ok_or(AnswerError::Short)?;
        if !matches!(header.op, op::READ_RESPONSE | op::WRITE_RESPONSE) {
            return Err(AnswerError::NotAnAnswer);
        }
        let mut answer = Self {
            header,
            error: None,
            payload,
        };
        answer.error = answer.find_error()?;
        Ok(answer)
    }

    /// Whether this answers the request with that header. The version may differ: some servers know only one.
    pub fn is_to(&self, request: &Header) -> bool {
        let key = |header: &Header| (header.group, header.command, header.sequence);
        key(&self.header) == key(request)
    }

    /// The text of an echo.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`]; the same for all following methods.
    pub fn echo(&self) -> Result<Option<&'a str>, AnswerError> {
        self.find("r", cbor::text)
    }

    /// The limits of the transport; `None` if the server does not report them.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn parameters(&self) -> Result<Option<Parameters>, AnswerError> {
        let buf_count = self.find("buf_count", Decoder::u64)?;
        let buf_size = self.find("buf_size", Decoder::u64)?;
        Ok(buf_size.map(|buf_size| Parameters { buf_size, buf_count }))
    }

    /// The description of the system.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn info(&self) -> Result<Option<&'a str>, AnswerError> {
        self.find("output", cbor::text)
    }

    /// The name of the boot loader.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn bootloader(&self) -> Result<Option<&'a str>, AnswerError> {
        self.find("bootloader", cbor::text)
    }

    /// How the boot loader installs.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn bootloader_mode(&self) -> Result<Option<BootloaderMode>, AnswerError> {
        let no_downgrade = self.find("no-downgrade", Decoder::bool)?.unwrap_or(false);
        let mode = self.find("mode", Decoder::i64)?;
        Ok(mode.map(|mode| BootloaderMode { mode, no_downgrade }))
    }

    /// The progress of an upload.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn upload(&self) -> Result<UploadAnswer, AnswerError> {
        Ok(UploadAnswer {
            offset: self.find("off", Decoder::u64)?,
            matches: self.find("match", Decoder::bool)?,
        })
    }

    /// The images on the device; `None` if the answer has no list at all.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn images(&self) -> Result<Option<Images<'a>>, AnswerError> {
        let items = self.find_array("images")?;
        Ok(items.map(|items| Images { items }))
    }

    /// The slots of all images of the device; `None` if the answer has no list.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn slots(&self) -> Result<Option<Slots<'a>>, AnswerError> {
        let images = self.find_array("images")?;
        Ok(images.map(|images| Slots {
            images,
            image: 0,
            items: Items::none(),
        }))
    }

    /// The text value of that key, for commands without a method here.
    ///
    /// # Errors
    /// [`AnswerError::WrongType`].
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, AnswerError> {
        self.find(key, cbor::text)
    }

    /// Walks the whole map, so that later lookups can only fail with a wrong type.
    fn find_error(&self) -> Result<Option<ServerError>, AnswerError> {
        // Some servers answer plain success without any payload.
        if self.payload.is_empty() {
            return Ok(None);
        }
        let malformed = |_: Code| AnswerError::Malformed;
        let (mut rc, mut err) = (None, None);
        let mut fields = Fields::of(self.payload).map_err(malformed)?;
        while let Some(key) = fields.next_key().map_err(malformed)? {
            let value = fields.decoder();
            fields.skip().map_err(malformed)?;
            match key {
                "rc" => rc = Some(value),
                "err" => err = Some(value),
                _ => {}
            }
        }
        let (group, number) = match (err, rc) {
            (Some(value), _) => {
                let (group, number) = read_err(value).map_err(|_| AnswerError::WrongType)?;
                (Some(group), number)
            }
            (None, Some(mut value)) => (None, value.i64().map_err(|_| AnswerError::WrongType)?),
            (None, None) => return Ok(None),
        };
        Ok((number != 0).then_some(ServerError { group, number }))
    }

    /// The value of the last entry with that key.
    fn find<T>(
        &self,
        name: &str,
        read: impl FnOnce(&mut Decoder<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, AnswerError> {
        let Some(mut value) = self.place(name)? else {
            return Ok(None);
        };
        read(&mut value).map(Some).map_err(|_| AnswerError::WrongType)
    }

    fn find_array(&self, name: &str) -> Result<Option<Items<'a>>, AnswerError> {
        let Some(value) = self.place(name)? else {
            return Ok(None);
        };
        Items::open(value).map(Some).map_err(|_| AnswerError::WrongType)
    }

    fn place(&self, name: &str) -> Result<Option<Decoder<'a>>, AnswerError> {
        if self.payload.is_empty() {
            return Ok(None);
        }
        place(self.payload, name).map_err(|_| AnswerError::Malformed)
    }
}

fn place<'a>(payload: &'a [u8], name: &str) -> Result<Option<Decoder<'a>>, Code> {
    let mut found = None;
    let mut fields = Fields::of(payload)?;
    while let Some(key) = fields.next_key()? {
        if key == name {
            found = Some(fields.decoder());
        }
        fields.skip()?;
    }
    Ok(found)
}

/// `{"group": g, "rc": n}`; a missing number is 0.
fn read_err(value: Decoder<'_>) -> Result<(u16, i64), Code> {
    let (mut group, mut number) = (0, 0);
    let mut fields = Fields::open(value)?;
    while let Some(key) = fields.next_key()? {
        match key {
            "group" => group = fields.value(Decoder::u16)?,
            "rc" => number = fields.value(Decoder::i64)?,
            _ => fields.skip()?,
        }
    }
    Ok((group, number))
}

/// One image of the device, as far as the server describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageEntry<'a> {
    /// The number of the image on the device; 0 if omitted.
    pub image: u32,
    /// The slot it is in.
    pub slot: u32,
    /// Its version; empty if omitted.
    pub version: &'a str,
    /// Its hash, of any length.
    pub hash: Option<&'a [u8]>,
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

/// The images of a device, in the server's order. The iteration ends at the first invalid one.
#[derive(Clone, Debug)]
pub struct Images<'a> {
    items: Items<'a>,
}

impl<'a> Iterator for Images<'a> {
    type Item = Result<ImageEntry<'a>, AnswerError>;

    fn next(&mut self) -> Option<Self::Item> {
        next_of(&mut self.items, |fields| {
            let mut entry = ImageEntry::default();
            while let Some(key) = fields.next_key()? {
                match key {
                    "image" => entry.image = fields.value(Decoder::u32)?,
                    "slot" => entry.slot = fields.value(Decoder::u32)?,
                    "version" => entry.version = fields.value(cbor::text)?,
                    "hash" => entry.hash = Some(fields.value(cbor::bytes)?),
                    "bootable" => entry.bootable = fields.value(Decoder::bool)?,
                    "pending" => entry.pending = fields.value(Decoder::bool)?,
                    "confirmed" => entry.confirmed = fields.value(Decoder::bool)?,
                    "active" => entry.active = fields.value(Decoder::bool)?,
                    "permanent" => entry.permanent = fields.value(Decoder::bool)?,
                    _ => fields.skip()?,
                }
            }
            Ok(entry)
        })
    }
}

/// One slot of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotEntry {
    /// The number of its image on the device.
    pub image: u32,
    /// Its number.
    pub slot: u32,
    /// Its size in bytes; `None`: the server could not open it.
    pub size: Option<u64>,
    /// The value of `image` in an upload to this slot.
    pub upload_image_id: Option<u32>,
}

/// The slots of a device. The iteration ends at the first invalid one.
#[derive(Clone, Debug)]
pub struct Slots<'a> {
    images: Items<'a>,
    /// The image whose slots are being iterated.
    image: u32,
    items: Items<'a>,
}

impl Iterator for Slots<'_> {
    type Item = Result<SlotEntry, AnswerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let image = self.image;
            let slot = next_of(&mut self.items, |fields| {
                let mut entry = SlotEntry {
                    image,
                    ..SlotEntry::default()
                };
                while let Some(key) = fields.next_key()? {
                    match key {
                        "slot" => entry.slot = fields.value(Decoder::u32)?,
                        "size" => entry.size = Some(fields.value(Decoder::u64)?),
                        "upload_image_id" => entry.upload_image_id = Some(fields.value(Decoder::u32)?),
                        _ => fields.skip()?,
                    }
                }
                Ok(entry)
            });
            if slot.is_some() {
                return slot;
            }
            let image = next_of(&mut self.images, |fields| {
                let (mut image, mut slots) = (0, Items::none());
                while let Some(key) = fields.next_key()? {
                    match key {
                        "image" => image = fields.value(Decoder::u32)?,
                        "slots" => {
                            slots = Items::open(fields.decoder())?;
                            fields.skip()?;
                        }
                        _ => fields.skip()?,
                    }
                }
                Ok((image, slots))
            })?;
            match image {
                Ok((image, slots)) => (self.image, self.items) = (image, slots),
                Err(error) => {
                    self.images.give_up();
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The next item of an array of maps, read by `read`.
fn next_of<'a, T>(
    items: &mut Items<'a>,
    read: impl FnOnce(&mut Fields<'a>) -> Result<T, Code>,
) -> Option<Result<T, AnswerError>> {
    if !items.next() {
        return None;
    }
    let taken = Fields::open(items.decoder.clone()).and_then(|mut fields| {
        let value = read(&mut fields)?;
        Ok((value, fields.close()?))
    });
    Some(match taken {
        Ok((value, behind)) => {
            items.decoder = behind;
            Ok(value)
        }
        Err(_) => {
            items.give_up();
            Err(AnswerError::WrongType)
        }
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::smp;
    use crate::testing::{frame, hex};
    use std::string::ToString;
    use std::vec::Vec;

    /// An answer to an image group read with that map.
    fn answered(map: &str) -> Vec<u8> {
        frame(op::READ_RESPONSE, IMAGE_GROUP, 0, &hex(map))
    }

    fn error_of(map: &str) -> Result<Option<ServerError>, AnswerError> {
        Answer::decode(&answered(map)).map(|answer| answer.error)
    }

    #[test]
    fn errors_of_both_versions_are_read() {
        let large = Failure::Image(image_group::Error::InvalidImageTooLarge);
        let v2 = hex("0b 00 00 12 00 01 09 01 | a1 63 65 72 72 a2 65 67 72 6f 75 70 01 62 72 63 18 1e");
        assert_eq!(Answer::decode(&v2).unwrap().error, Some(large.into()));
        let v1 = hex("03 00 00 05 00 01 09 01 | a1 62 72 63 01");
        let unknown = Failure::Smp(Code::Unknown);
        assert_eq!(Answer::decode(&v1).unwrap().error, Some(unknown.into()));
        assert_eq!(ServerError::from(large).known(), Some(large));
    }

    #[test]
    fn an_rc_of_0_is_a_success() {
        assert_eq!(error_of("a1 62 7263 00"), Ok(None));
        assert_eq!(error_of("a1 63 657272 a2 65 67726f7570 01 62 7263 00"), Ok(None));
        assert_eq!(error_of("a0"), Ok(None));
        assert_eq!(error_of("bf ff"), Ok(None));
        assert_eq!(error_of(""), Ok(None), "no payload at all");
    }

    #[test]
    fn an_unknown_error_is_shown_by_its_number() {
        let own = error_of("a1 63 657272 bf 62 7263 19 03e8 65 67726f7570 18 40 ff")
            .unwrap()
            .unwrap();
        assert_eq!((own.group, own.number, own.known()), (Some(64), 1000, None));
        assert_eq!(own.to_string(), "error 1000 of group 64");
        let own = error_of("a1 62 7263 38 63").unwrap().unwrap();
        assert_eq!(own.to_string(), "error rc -100");
        let busy = error_of("a2 62 7263 0a 63 6f6666 18 20").unwrap().unwrap();
        assert_eq!(busy.known(), Some(Failure::Smp(Code::Busy)));
    }

    #[test]
    fn each_kind_of_invalid_answer_has_its_error() {
        for (bytes, error) in [
            ("", AnswerError::Short),
            ("0b 00 00 05 00 01 09", AnswerError::Short),
            ("0b 00 00 05 00 01 09 01 a1 62 72 63", AnswerError::Short),
            ("0a 00 00 01 00 01 09 01 a0", AnswerError::NotAnAnswer),
            ("0f 00 00 01 00 01 09 01 a0", AnswerError::NotAnAnswer),
            ("0b 00 00 01 00 01 09 01 80", AnswerError::Malformed),
            ("0b 00 00 02 00 01 09 01 a1 61", AnswerError::Malformed),
            ("0b 00 00 05 00 01 09 01 a1 62 72 63 60", AnswerError::WrongType),
        ] {
            assert_eq!(Answer::decode(&hex(bytes)).err(), Some(error), "{bytes}");
        }
    }

    #[test]
    fn flags_reserved_bits_and_bytes_after_the_frame_are_ignored() {
        let odd = hex("eb 5a 00 07 00 01 08 01 a1 63 6f6666 18 20 ff ff");
        assert_eq!(Answer::decode(&odd).unwrap().upload().unwrap().offset, Some(32));
    }

    #[test]
    fn an_answer_matches_the_request_with_its_numbers() {
        let request = Header::decode(&frame(op::WRITE, IMAGE_GROUP, 1, &[])).unwrap();
        let answer = |sequence| {
            let header = Header {
                op: op::WRITE_RESPONSE,
                version: 0,
                sequence,
                ..request
            };
            [&header.encode()[..], &[]].concat()
        };
        assert!(Answer::decode(&answer(request.sequence)).unwrap().is_to(&request));
        assert!(!Answer::decode(&answer(2)).unwrap().is_to(&request));
    }

    #[test]
    fn the_list_of_zephyr_without_lengths_is_read() {
        // Zephyr's encoder writes no lengths in front; it omits `image` and flags that are false.
        let list = answered(
            "bf 66 696d61676573 9f
               bf 64 736c6f74 00 67 76657273696f6e 7f 65 312e322e33 ff 64 68617368 5f 44 01020304 ff
                  66 616374697665 f5 69 636f6e6669726d6564 f5 ff
               bf 65 696d616765 01 64 736c6f74 01 67 76657273696f6e 60 6a 636f6d70726573736564 f4
                  67 70656e64696e67 f5 ff ff
             6b 73706c6974537461747573 00 ff",
        );
        let images = Answer::decode(&list).unwrap().images().unwrap().unwrap();
        let images: Vec<_> = images.map(Result::unwrap).collect();
        let running = ImageEntry {
            version: "1.2.3",
            hash: Some(&[1, 2, 3, 4]),
            active: true,
            confirmed: true,
            ..ImageEntry::default()
        };
        let waiting = ImageEntry {
            image: 1,
            slot: 1,
            pending: true,
            ..ImageEntry::default()
        };
        assert_eq!(images, [running, waiting]);
    }

    #[test]
    fn a_missing_list_differs_from_an_empty_one() {
        for (map, count) in [
            ("a0", None),
            ("a1 66 696d61676573 80", Some(0)),
            ("a1 66 696d61676573 9f ff", Some(0)),
            ("a1 66 696d61676573 82 a0 bf ff", Some(2)),
        ] {
            let frame = answered(map);
            let images = Answer::decode(&frame).unwrap().images().unwrap();
            assert_eq!(images.map(Iterator::count), count, "{map}");
        }
        let frame = answered("a1 66 696d61676573 00");
        assert_eq!(
            Answer::decode(&frame).unwrap().images().err(),
            Some(AnswerError::WrongType)
        );
    }

    #[test]
    fn the_list_ends_at_an_invalid_image() {
        let frame = answered("a1 66 696d61676573 83 a0 a1 64 736c6f74 60 a0");
        let images = Answer::decode(&frame).unwrap().images().unwrap().unwrap();
        let images: Vec<_> = images.collect();
        assert_eq!(images, [Ok(ImageEntry::default()), Err(AnswerError::WrongType)]);
    }

    #[test]
    fn slots_of_several_images_are_listed_one_after_the_other() {
        let frame = answered(
            "a1 66 696d61676573 82
               a2 65 696d616765 00 65 736c6f7473 82
                  a2 64 736c6f74 00 64 73697a65 1a 000e8000 a2 64 736c6f74 01 62 7263 0a
               bf 65 736c6f7473 9f bf 6f 75706c6f61645f696d6167655f6964 03 64 736c6f74 01 ff ff 65 696d616765 01 ff",
        );
        let slots = Answer::decode(&frame).unwrap().slots().unwrap().unwrap();
        let slots: Vec<_> = slots.map(Result::unwrap).collect();
        let sized = SlotEntry {
            size: Some(0xE8000),
            ..SlotEntry::default()
        };
        let closed = SlotEntry {
            slot: 1,
            ..SlotEntry::default()
        };
        let second = SlotEntry {
            image: 1,
            slot: 1,
            size: None,
            upload_image_id: Some(3),
        };
        assert_eq!(slots, [sized, closed, second]);
    }

    #[test]
    fn a_string_in_several_pieces_has_the_wrong_type() {
        let two = frame(op::READ_RESPONSE, OS_GROUP, 0, &hex("a1 61 72 7f 61 68 61 69 ff"));
        assert_eq!(Answer::decode(&two).unwrap().echo(), Err(AnswerError::WrongType));
        let one = frame(
            op::READ_RESPONSE,
            OS_GROUP,
            0,
            &hex("a1 61 72 7f 60 62 6869 60 ff"),
        );
        assert_eq!(Answer::decode(&one).unwrap().echo(), Ok(Some("hi")));
    }

    #[test]
    fn the_parameters_of_the_worked_example_are_read() {
        let frame = hex(
            "01 00 00 18 00 00 ff 06 | a2 68 62 75 66 5f 73 69 7a 65 19 09 ab 69 62 75 66 5f 63 6f 75 6e 74 04",
        );
        let parameters = Answer::decode(&frame).unwrap().parameters().unwrap();
        let expected = Parameters {
            buf_size: 2475,
            buf_count: Some(4),
        };
        assert_eq!(parameters, Some(expected));
        let small = frame_of_parameters_without_count();
        let parameters = Answer::decode(&small).unwrap().parameters().unwrap();
        assert_eq!(parameters.map(|parameters| parameters.buf_count), Some(None));
    }

    fn frame_of_parameters_without_count() -> Vec<u8> {
        frame(
            op::READ_RESPONSE,
            OS_GROUP,
            6,
            &hex("a1 68 6275665f73697a65 18 80"),
        )
    }

    #[test]
    fn requests_encode_to_the_bytes_of_the_worked_examples() {
        let encoded = |version, sequence, request| {
            let mut out = [0; 200];
            let length = smp::encode_request(version, sequence, &request, &mut out).unwrap();
            out[..length].to_vec()
        };
        let os = smp::Request::Os;
        let image = smp::Request::Image;
        assert_eq!(
            encoded(smp::Version::V2, 0x42, os(os_group::Request::Echo("hi"))),
            hex("0a 00 00 06 00 00 42 00 | a1 61 64 62 68 69")
        );
        assert_eq!(
            encoded(smp::Version::V1, 0xFF, os(os_group::Request::Parameters)),
            hex("00 00 00 01 00 00 ff 06 a0")
        );
        assert_eq!(
            encoded(smp::Version::V2, 7, image(image_group::Request::ReadState)),
            hex("08 00 00 01 00 01 07 00 a0")
        );
        let sha = hex("9c8fc6ba94d11d78c336851 2c344373280e642a61e4e5061b3df9d63b88452de");
        let data = hex("3db8f3960000000020000000200000000000000002000000 0000000000000000");
        let first = image_group::Upload {
            offset: Some(0),
            length: Some(104),
            sha: Some(&sha),
            data: &data,
            ..image_group::Upload::default()
        };
        let expected = "0a 00 00 59 00 01 08 01 | a4 63 6c 65 6e 18 68 63 6f 66 66 00 63 73 68 61 58 20
            9c8fc6ba94d11d78c336851 2c344373280e642a61e4e5061b3df9d63b88452de 64 64 61 74 61 58 20
            3db8f3960000000020000000200000000000000002000000 0000000000000000";
        assert_eq!(
            encoded(smp::Version::V2, 8, image(image_group::Request::Upload(first))),
            hex(expected)
        );
        let mark = image_group::Request::WriteState {
            hash: Some(&sha),
            confirm: false,
        };
        let marked = encoded(smp::Version::V2, 10, image(mark));
        let expected = "0a 00 00 31 00 01 0a 00 | a2 64 68 61 73 68 58 20
            9c8fc6ba94d11d78c336851 2c344373280e642a61e4e5061b3df9d63b88452de 67 63 6f 6e 66 69 72 6d f4";
        assert_eq!(marked, hex(expected));
        let mut short = [0; 50];
        let request = smp::Request::Image(mark);
        assert_eq!(
            smp::encode_request(smp::Version::V2, 10, &request, &mut short),
            None
        );
    }
}
