// SPDX-License-Identifier: Apache-2.0
//! The client's side of SMP: requests as bytes, answers as values, as strict as the strictest client.
//!
//! Written independently of `bledfu-wire`, so that a mistake there cannot hide.

use bledfu_wire::image_group::{self, Upload};
use bledfu_wire::os_group;
use bledfu_wire::smp::{op, Code, Failure, Header, Request, Version, HEADER_SIZE, IMAGE_GROUP, OS_GROUP};
use minicbor::data::Type;
use minicbor::encode::write::Cursor;
use minicbor::{Decoder, Encoder};

/// Longest request in bytes that [`encode`] makes.
const MAX_REQUEST: usize = 64 * 1024;
/// Maximum nesting of maps and arrays in answers.
const MAX_DEPTH: u8 = 8;

/// A whole request frame.
///
/// # Panics
/// If it is longer than its length field can express: sizes are chosen by phones and tests.
pub fn encode(version: Version, sequence: u8, request: &Request<'_>) -> Vec<u8> {
    let mut buffer = vec![0; MAX_REQUEST];
    let mut map = Map::new(&mut buffer);
    let (operation, group, command) = match request {
        Request::Os(request) => {
            let (operation, command) = encode_os(request, &mut map);
            (operation, OS_GROUP, command)
        }
        Request::Image(request) => {
            let (operation, command) = encode_image(request, &mut map);
            (operation, IMAGE_GROUP, command)
        }
    };
    raw(version, sequence, operation, group, command, &map.finish())
}

/// A frame with any content.
///
/// # Panics
/// If `payload` is longer than the length field can express.
pub fn raw(
    version: Version,
    sequence: u8,
    operation: u8,
    group: u16,
    command: u8,
    payload: &[u8],
) -> Vec<u8> {
    let header = Header {
        version: version as u8,
        op: operation,
        length: u16::try_from(payload.len()).expect("a request of at most 65,535 bytes"),
        group,
        sequence,
        command,
    };
    [&header.encode()[..], payload].concat()
}

fn encode_os(request: &os_group::Request<'_>, map: &mut Map<'_>) -> (u8, u8) {
    use os_group::command;
    match *request {
        os_group::Request::Echo(text) => {
            map.text("d", text);
            (op::WRITE, command::ECHO)
        }
        os_group::Request::Reset { force, boot_mode } => {
            if force {
                map.bool("force", true);
            }
            if let Some(mode) = boot_mode {
                map.uint("boot_mode", mode.into());
            }
            (op::WRITE, command::RESET)
        }
        os_group::Request::Parameters => (op::READ, command::PARAMETERS),
        os_group::Request::Info { format } => {
            if !format.is_empty() {
                map.text("format", format);
            }
            (op::READ, command::INFO)
        }
        os_group::Request::BootloaderInfo { query } => {
            if let Some(query) = query {
                map.text("query", query);
            }
            (op::READ, command::BOOTLOADER_INFO)
        }
    }
}

fn encode_image(request: &image_group::Request<'_>, map: &mut Map<'_>) -> (u8, u8) {
    use image_group::command;
    match *request {
        image_group::Request::ReadState => (op::READ, command::STATE),
        image_group::Request::WriteState { hash, confirm } => {
            if let Some(hash) = hash {
                map.bytes("hash", hash);
            }
            map.bool("confirm", confirm);
            (op::WRITE, command::STATE)
        }
        image_group::Request::Upload(ref piece) => {
            encode_upload(piece, map);
            (op::WRITE, command::UPLOAD)
        }
        image_group::Request::Erase { slot } => {
            if let Some(slot) = slot {
                map.uint("slot", slot.into());
            }
            (op::WRITE, command::ERASE)
        }
        image_group::Request::SlotInfo => (op::READ, command::SLOT_INFO),
    }
}

fn encode_upload(piece: &Upload<'_>, map: &mut Map<'_>) {
    map.bytes("data", piece.data);
    if piece.image > 0 {
        map.uint("image", piece.image.into());
    }
    if let Some(length) = piece.length {
        map.uint("len", length);
    }
    if let Some(offset) = piece.offset {
        map.uint("off", offset);
    }
    if let Some(sha) = piece.sha {
        map.bytes("sha", sha);
    }
    if piece.upgrade {
        map.bool("upgrade", true);
    }
}

/// Writes entries, and finally the map around them.
struct Map<'b> {
    entries: Encoder<Cursor<&'b mut [u8]>>,
    count: u64,
}

impl<'b> Map<'b> {
    fn new(buffer: &'b mut [u8]) -> Self {
        Self {
            entries: Encoder::new(Cursor::new(buffer)),
            count: 0,
        }
    }

    fn key(&mut self, key: &str) -> &mut Encoder<Cursor<&'b mut [u8]>> {
        self.count += 1;
        self.entries.str(key).expect(ROOM)
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key).str(value).expect(ROOM);
    }

    fn bytes(&mut self, key: &str, value: &[u8]) {
        self.key(key).bytes(value).expect(ROOM);
    }

    fn bool(&mut self, key: &str, value: bool) {
        self.key(key).bool(value).expect(ROOM);
    }

    fn uint(&mut self, key: &str, value: u64) {
        self.key(key).u64(value).expect(ROOM);
    }

    fn finish(self) -> Vec<u8> {
        let mut head = [0; 9];
        let mut encoder = Encoder::new(Cursor::new(&mut head[..]));
        encoder.map(self.count).expect("a head has at most 9 bytes");
        let head_length = encoder.writer().position();
        let cursor = self.entries.into_writer();
        let length = cursor.position();
        [&head[..head_length], &cursor.into_inner()[..length]].concat()
    }
}

const ROOM: &str = "a request of at most 65,535 bytes";

/// A value in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    Int(i128),
    Bool(bool),
    Text(String),
    Bytes(Vec<u8>),
    Array(Vec<Value>),
    /// Keys in the order of the answer.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The value of that key, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The number, if it is one of at most 64 bits without a sign.
    pub fn as_uint(&self) -> Option<u64> {
        match self {
            Self::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Whether it is true, if it is a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if it is a string of them.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The keys, if it is a map.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Map(entries) => entries.iter().map(|(key, _)| key.as_str()).collect(),
            _ => Vec::new(),
        }
    }
}

/// Why a strict client refuses the bytes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The answer is shorter than a header, or its length differs from the header's.
    #[error("the answer has another length than its header says")]
    Length,
    /// Flags or reserved bits are set, or it is not an answer.
    #[error("the answer's header is not that of an answer")]
    Header,
    /// It is not one CBOR map with text keys.
    #[error("the answer is not one map in CBOR")]
    Cbor,
    /// An unknown error number, or an error together with results.
    #[error("the answer holds an error that clients do not know")]
    Failure,
}

/// One image of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Image {
    pub slot: u64,
    pub version: String,
    pub hash: [u8; 32],
    pub bootable: bool,
    pub pending: bool,
    pub confirmed: bool,
    pub active: bool,
    pub permanent: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The header, as received.
    pub header: Header,
    /// Its map.
    pub map: Value,
    /// The error in it.
    pub failure: Option<Failure>,
}

impl Answer {
    /// Reads one whole frame.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn decode(frame: &[u8]) -> Result<Self, AnswerError> {
        let header = Header::decode(frame).ok_or(AnswerError::Length)?;
        if header.frame_length() != frame.len() {
            return Err(AnswerError::Length);
        }
        let is_answer = matches!(header.op, op::READ_RESPONSE | op::WRITE_RESPONSE) && header.version <= 1;
        if frame[..HEADER_SIZE] != header.encode() || !is_answer {
            return Err(AnswerError::Header);
        }
        let mut decoder = Decoder::new(&frame[HEADER_SIZE..]);
        let map = read(&mut decoder, 0).ok_or(AnswerError::Cbor)?;
        if decoder.position() + HEADER_SIZE != frame.len() || !matches!(map, Value::Map(_)) {
            return Err(AnswerError::Cbor);
        }
        let failure = failure(&map)?;
        Ok(Self { header, map, failure })
    }

    /// The next byte of an upload that the device expects.
    pub fn offset(&self) -> Option<u64> {
        self.map.get("off")?.as_uint()
    }

    /// The images, if the answer lists any, each with all its keys.
    pub fn images(&self) -> Option<Vec<Image>> {
        let Some(Value::Array(images)) = self.map.get("images") else {
            return None;
        };
        let image = |entry: &Value| {
            let flag = |key| entry.get(key)?.as_bool();
            Some(Image {
                slot: entry.get("slot")?.as_uint()?,
                version: entry.get("version")?.as_text()?.to_owned(),
                hash: entry.get("hash")?.as_bytes()?.try_into().ok()?,
                bootable: flag("bootable")?,
                pending: flag("pending")?,
                confirmed: flag("confirmed")?,
                active: flag("active")?,
                permanent: flag("permanent")?,
            })
        };
        images.iter().map(image).collect()
    }
}

/// `{"rc": n}` or `{"err": {"group": g, "rc": n}}`; an error is never 0 and comes alone.
fn failure(map: &Value) -> Result<Option<Failure>, AnswerError> {
    let (rc, err) = (map.get("rc"), map.get("err"));
    let number = |value: &Value| {
        value
            .as_uint()
            .filter(|&number| number != 0)
            .ok_or(AnswerError::Failure)
    };
    let found = match (rc, err) {
        (None, None) => return Ok(None),
        (Some(rc), None) => Code::from_number(number(rc)?).map(Failure::Smp),
        (None, Some(err)) if err.keys() == ["group", "rc"] => {
            let code = number(err.get("rc").ok_or(AnswerError::Failure)?)?;
            match err.get("group").and_then(Value::as_uint) {
                Some(group) if group == u64::from(OS_GROUP) => {
                    os_group::Error::from_number(code).map(Failure::Os)
                }
                Some(group) if group == u64::from(IMAGE_GROUP) => {
                    image_group::Error::from_number(code).map(Failure::Image)
                }
                _ => None,
            }
        }
        _ => None,
    };
    match found {
        Some(failure) if map.keys().len() == 1 => Ok(Some(failure)),
        _ => Err(AnswerError::Failure),
    }
}

fn read(decoder: &mut Decoder<'_>, depth: u8) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    match decoder.datatype().ok()? {
        Type::Bool => decoder.bool().ok().map(Value::Bool),
        Type::String => decoder.str().ok().map(|text| Value::Text(text.to_owned())),
        Type::Bytes => decoder.bytes().ok().map(|bytes| Value::Bytes(bytes.to_vec())),
        Type::Array => {
            let count = decoder.array().ok()??;
            (0..count)
                .map(|_| read(decoder, depth + 1))
                .collect::<Option<_>>()
                .map(Value::Array)
        }
        Type::Map => {
            let count = decoder.map().ok()??;
            let entry = |_| Some((decoder.str().ok()?.to_owned(), read(decoder, depth + 1)?));
            (0..count).map(entry).collect::<Option<_>>().map(Value::Map)
        }
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::Int => decoder.int().ok().map(|number| Value::Int(number.into())),
        // Answers contain nothing else; some clients refuse strings and maps of indefinite length.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    #[test]
    fn requests_encode_to_the_bytes_of_the_worked_examples() {
        let echo = Request::Os(os_group::Request::Echo("hi"));
        assert_eq!(
            encode(Version::V2, 0x42, &echo),
            hex("0a 00 00 06 00 00 42 00 a1 61 64 62 68 69")
        );
        let parameters = Request::Os(os_group::Request::Parameters);
        assert_eq!(
            encode(Version::V1, 0xFF, &parameters),
            hex("00 00 00 01 00 00 ff 06 a0")
        );
        let piece = Request::Image(image_group::Request::Upload(Upload {
            offset: Some(32),
            data: &[0; 72],
            ..Upload::default()
        }));
        assert_eq!(encode(Version::V2, 9, &piece).len(), 94);
    }

    #[test]
    fn errors_are_read_in_both_forms() {
        let large = hex("0b 00 00 12 00 01 09 01 a1 63 65 72 72 a2 65 67 72 6f 75 70 01 62 72 63 18 1e");
        assert_eq!(
            Answer::decode(&large).unwrap().failure,
            Some(Failure::Image(image_group::Error::InvalidImageTooLarge))
        );
        let legacy = hex("03 00 00 05 00 01 09 01 a1 62 72 63 01");
        assert_eq!(
            Answer::decode(&legacy).unwrap().failure,
            Some(Failure::Smp(Code::Unknown))
        );
    }

    #[test]
    fn answers_that_a_strict_client_refuses_are_refused() {
        for (bytes, error) in [
            ("0b 00 00 05 00 01 09 01 a1 62 72 63 00", AnswerError::Failure), // success carries no rc
            ("0b 00 00 05 00 01 09 01 a1 62 72 63", AnswerError::Length),
            ("0b 01 00 01 00 01 09 01 a0", AnswerError::Header),
            ("0a 00 00 01 00 01 09 01 a0", AnswerError::Header),
            ("0b 00 00 02 00 01 09 01 a0 a0", AnswerError::Cbor),
            ("0b 00 00 02 00 01 09 01 bf ff", AnswerError::Cbor),
            (
                "0b 00 00 09 00 01 09 01 a2 62 72 63 01 63 6f 66 66 00",
                AnswerError::Length,
            ),
            (
                "0b 00 00 0a 00 01 09 01 a2 62 72 63 01 63 6f 66 66 00",
                AnswerError::Failure,
            ),
        ] {
            assert_eq!(Answer::decode(&hex(bytes)), Err(error), "{bytes}");
        }
    }
}
