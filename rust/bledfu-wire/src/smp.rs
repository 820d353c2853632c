// SPDX-License-Identifier: Apache-2.0
//! Frames of SMP, mcumgr's Simple Management Protocol, versions 1 and 2.
//!
//! ```text
//! byte  0          1      2..3     4..5    6         7        8…
//!       version,op flags  length   group   sequence  command  one CBOR map of `length` bytes
//!          ││
//!          │└ bits 2..0: 0 read, 1 answer to a read, 2 write, 3 answer to a write
//!          └─ bits 4..3: 0 version 1, 1 version 2
//! ```
//! Numbers are big-endian. An answer repeats version, group, sequence and command of its request; its map is `{}` on
//! plain success. Protocol errors are `{"rc": n}`. Group errors are `{"err": {"group": g, "rc": n}}` in version 2; in
//! version 1, whose clients do not know that form, they are `{"rc": n}` with the nearest protocol error. Clients read
//! answers with [`crate::smp_answer`]. Source: Zephyr `smp.c` and `smp_protocol.rst`.

use crate::cbor::Writer;
use crate::{image_group, os_group};
use bledfu_text::{words, Line, Text};
/// Length of a frame header in bytes.
pub const HEADER_SIZE: usize = 8;
/// Group number of [`os_group`].
pub const OS_GROUP: u16 = 0;
/// Group number of [`image_group`].
pub const IMAGE_GROUP: u16 = 1;
/// Length in bytes of the shortest answer: the header and `{"rc": 7}`.
pub const MIN_ANSWER: usize = HEADER_SIZE + MESSAGE_SIZE_ANSWER.len();

/// `{"rc": 7}`: sent instead of an answer that does not fit.
const MESSAGE_SIZE_ANSWER: [u8; 5] = [0xA1, 0x62, b'r', b'c', Code::MessageSize as u8];

/// Version of the protocol; determines the form of group errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 1, also called legacy.
    V1,
    /// Version 2.
    V2,
}

/// Operations in the header.
#[allow(missing_docs)]
pub mod op {
    pub const READ: u8 = 0;
    pub const READ_RESPONSE: u8 = 1;
    pub const WRITE: u8 = 2;
    pub const WRITE_RESPONSE: u8 = 3;
}

/// The header of a frame, as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version field, 0 to 3: 0 is version 1, 1 is version 2, the others are reserved.
    pub version: u8,
    /// Operation field, 0 to 7; see [`op`].
    pub op: u8,
    /// Length in bytes of the payload after the header.
    pub length: u16,
    /// Command group.
    pub group: u16,
    /// Sequence number, repeated by the answer.
    pub sequence: u8,
    /// Command in the group.
    pub command: u8,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if there are fewer than [`HEADER_SIZE`]. Reserved bits and
    /// flags are ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[first, _flags, length_high, length_low, group_high, group_low, sequence, command] =
            bytes.first_chunk()?;
        Some(Self {
            version: first >> 3 & 0b11,
            op: first & 0b111,
            length: u16::from_be_bytes([length_high, length_low]),
            group: u16::from_be_bytes([group_high, group_low]),
            sequence,
            command,
        })
    }

    /// Length in bytes of the whole frame.
    pub const fn frame_length(&self) -> usize {
        HEADER_SIZE + self.length as usize
    }

    /// The bytes of the header; reserved bits and flags are 0.
    pub const fn encode(&self) -> [u8; HEADER_SIZE] {
        let [length_high, length_low] = self.length.to_be_bytes();
        let [group_high, group_low] = self.group.to_be_bytes();
        let first = (self.version & 0b11) << 3 | self.op & 0b111;
        [
            first,
            0,
            length_high,
            length_low,
            group_high,
            group_low,
            self.sequence,
            self.command,
        ]
    }
}

/// Results of the protocol itself (Zephyr `mgmt_defines.h`, `enum mcumgr_err_t`). Some clients accept only these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// 0: success. An answer never carries it: success is a map without `rc`.
    Ok = 0,
    /// 1: unspecified failure.
    Unknown = 1,
    /// 2: no memory.
    NoMemory = 2,
    /// 3: the request is invalid.
    Invalid = 3,
    /// 4: timeout.
    Timeout = 4,
    /// 5: no such entry.
    NoEntry = 5,
    /// 6: not possible in this state.
    BadState = 6,
    /// 7: the answer does not fit into a frame.
    MessageSize = 7,
    /// 8: the device has no such group, command or operation.
    NotSupported = 8,
    /// 9: the frame is damaged.
    Corrupt = 9,
    /// 10: busy.
    Busy = 10,
    /// 11: not allowed.
    AccessDenied = 11,
    /// 12: this device does not support version 1.
    TooOld = 12,
    /// 13: this device supports only versions 1 and 2.
    TooNew = 13,
}

impl Code {
    const ALL: [Self; 14] = [
        Self::Ok,
        Self::Unknown,
        Self::NoMemory,
        Self::Invalid,
        Self::Timeout,
        Self::NoEntry,
        Self::BadState,
        Self::MessageSize,
        Self::NotSupported,
        Self::Corrupt,
        Self::Busy,
        Self::AccessDenied,
        Self::TooOld,
        Self::TooNew,
    ];

    /// The code with this number, for clients; `None` above 13.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl Text for Code {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Ok => words!("done (rc 0)"),
            Self::Unknown => words!("unknown error (rc 1)"),
            Self::NoMemory => words!("no memory (rc 2)"),
            Self::Invalid => words!("invalid request (rc 3)"),
            Self::Timeout => words!("the request timed out (rc 4)"),
            Self::NoEntry => words!("there is no such entry (rc 5)"),
            Self::BadState => words!("not possible in this state (rc 6)"),
            Self::MessageSize => words!("the answer is longer than a frame may be (rc 7)"),
            Self::NotSupported => words!("not supported by the device (rc 8)"),
            Self::Corrupt => words!("the frame is damaged (rc 9)"),
            Self::Busy => words!("the device is busy (rc 10)"),
            Self::AccessDenied => words!("access denied (rc 11)"),
            Self::TooOld => words!("the device does not speak version 1 of SMP (rc 12)"),
            Self::TooNew => words!("the device speaks only versions 1 and 2 of SMP (rc 13)"),
        };
        words.put(line);
    }
}

bledfu_text::display!(Code);

/// What an answer takes over from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The request's version, at most version 2.
    pub version: Version,
    /// Operation of the answer: [`op::READ_RESPONSE`] to a read, [`op::WRITE_RESPONSE`] to everything else.
    pub op: u8,
    /// Group of the request.
    pub group: u16,
    /// Sequence number of the request.
    pub sequence: u8,
    /// Command of the request.
    pub command: u8,
}

impl Context {
    /// The context for the answer to a request with this header.
    pub const fn of(request: &Header) -> Self {
        Self {
            version: match request.version {
                0 => Version::V1,
                _ => Version::V2,
            },
            op: match request.op {
                op::READ => op::READ_RESPONSE,
                _ => op::WRITE_RESPONSE,
            },
            group: request.group,
            sequence: request.sequence,
            command: request.command,
        }
    }

    const fn header(&self, length: u16) -> Header {
        Header {
            version: self.version as u8,
            op: self.op,
            length,
            group: self.group,
            sequence: self.sequence,
            command: self.command,
        }
    }
}

/// A peer's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A command of the OS group.
    Os(os_group::Request<'a>),
    /// A command of the image group.
    Image(image_group::Request<'a>),
}

/// One whole frame from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What the answer takes over.
    pub context: Context,
    /// The request, or the code to refuse it with.
    pub request: Result<Request<'a>, Code>,
}

/// Decodes one frame. `None` if it is shorter than a header: no answer is possible then. Bytes after the frame are
/// ignored; a caller that may receive several frames at once splits them ([`Header::frame_length`]).
///
/// Refusals: [`Code::Corrupt`] if the frame is shorter than its header says; [`Code::TooNew`] for versions other than 1
/// and 2; [`Code::NotSupported`] for an unknown group or command, or an operation that the command does not have;
/// [`Code::Invalid`] if the payload is not a CBOR map, is cut, has a known key twice or with the wrong type, or nests
/// arrays and maps deeper than 16. Strings of indefinite length are skipped in unknown keys and refused elsewhere,
/// because a value must be contiguous.
pub fn decode(frame: &[u8]) -> Option<Message<'_>> {
    let header = Header::decode(frame)?;
    let context = Context::of(&header);
    let request = decode_request(&header, frame);
    Some(Message { context, request })
}

fn decode_request<'a>(header: &Header, frame: &'a [u8]) -> Result<Request<'a>, Code> {
    let payload = frame
        .get(HEADER_SIZE..header.frame_length())
        .ok_or(Code::Corrupt)?;
    if header.version > Version::V2 as u8 {
        return Err(Code::TooNew);
    }
    match header.group {
        OS_GROUP => os_group::decode(header.op, header.command, payload).map(Request::Os),
        IMAGE_GROUP => image_group::decode(header.op, header.command, payload).map(Request::Image),
        _ => Err(Code::NotSupported),
    }
}

/// Encodes a request as a client sends it into `out` and returns the length of the frame; `None` if it does not fit.
/// Default values are omitted: `image: 0`, `upgrade: false`, `force: false`.
pub fn encode_request(
    version: Version,
    sequence: u8,
    request: &Request<'_>,
    out: &mut [u8],
) -> Option<usize> {
    let (group, (op, command)) = match request {
        Request::Os(request) => (OS_GROUP, request.operation()),
        Request::Image(request) => (IMAGE_GROUP, request.operation()),
    };
    let (head, body) = out.split_first_chunk_mut::<HEADER_SIZE>()?;
    let mut writer = Writer::new(body);
    match request {
        Request::Os(request) => request.write(&mut writer),
        Request::Image(request) => request.write(&mut writer),
    }
    let header = Header {
        version: version as u8,
        op,
        length: u16::try_from(writer.finish()?).ok()?,
        group,
        sequence,
        command,
    };
    *head = header.encode();
    Some(header.frame_length())
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A protocol error.
    Smp(Code),
    /// An error of the OS group.
    Os(os_group::Error),
    /// An error of the image group.
    Image(image_group::Error),
}

impl Text for Failure {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Smp(code) => code.put(line),
            Self::Os(error) => error.put(line),
            Self::Image(error) => error.put(line),
        }
    }
}

bledfu_text::display!(Failure);

impl core::error::Error for Failure {}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Success without data.
    Empty,
    /// Failure.
    Failed(Failure),
    /// Success; an answer of the OS group.
    Os(os_group::Response<'a>),
    /// Success; an answer of the image group.
    Image(image_group::Response<'a>),
}

/// Encodes the answer to the request of `context` into `out` and returns the length of the frame.
///
/// Maps are definite, integers have their shortest form, and the keys are Zephyr's in Zephyr's order: the strictest
/// clients accept nothing else. An answer that does not fit is replaced by the error [`Code::MessageSize`]; 0 is
/// returned only if `out` is shorter than [`MIN_ANSWER`].
pub fn encode(context: &Context, response: &Response<'_>, out: &mut [u8]) -> usize {
    let Some((header, body)) = out.split_first_chunk_mut::<HEADER_SIZE>() else {
        return 0;
    };
    let length = match encode_body(context, response, body) {
        Some(length) => length,
        None => match body.first_chunk_mut() {
            Some(start) => {
                *start = MESSAGE_SIZE_ANSWER;
                MESSAGE_SIZE_ANSWER.len() as u16
            }
            None => return 0,
        },
    };
    let head = context.header(length);
    *header = head.encode();
    head.frame_length()
}

/// Length of the encoded map; `None` if it does not fit.
fn encode_body(context: &Context, response: &Response<'_>, body: &mut [u8]) -> Option<u16> {
    let mut writer = Writer::new(body);
    match response {
        Response::Empty | Response::Failed(Failure::Smp(Code::Ok)) => {
            writer.map(0);
        }
        Response::Failed(failure) => write_failure(context.version, *failure, &mut writer),
        Response::Os(response) => response.write(&mut writer),
        Response::Image(response) => response.write(&mut writer),
    }
    u16::try_from(writer.finish()?).ok()
}

fn write_failure(version: Version, failure: Failure, to: &mut Writer<'_>) {
    let (group, number, code) = match failure {
        Failure::Smp(code) => (None, code as u8, code),
        Failure::Os(error) => (Some(OS_GROUP), error as u8, error.code()),
        Failure::Image(error) => (Some(IMAGE_GROUP), error as u8, error.code()),
    };
    let number = match (version, group) {
        (Version::V2, Some(group)) => {
            to.map(1).text("err").map(2).text("group").number(group.into());
            number
        }
        _ => {
            to.map(1);
            code as u8
        }
    };
    to.text("rc").number(number.into());
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::testing::{frame, hex};
    use image_group::{ImageState, Upload};
    use std::vec;
    use std::vec::Vec;

    const ECHO: &str = "0a 00 00 06 00 00 42 00 | a1 61 64 62 68 69";

    fn request(bytes: &[u8]) -> Result<Request<'_>, Code> {
        decode(bytes).unwrap().request
    }

    fn answer(request: &[u8], response: &Response<'_>) -> Vec<u8> {
        let mut out = [0xEE; 400];
        let length = encode(&decode(request).unwrap().context, response, &mut out);
        assert!(out[length..].iter().all(|&byte| byte == 0xEE));
        out[..length].to_vec()
    }

    fn refusal(request: &[u8]) -> Vec<u8> {
        let code = decode(request).unwrap().request.unwrap_err();
        answer(request, &Response::Failed(Failure::Smp(code)))
    }

    // smp case 1
    #[test]
    fn an_echo_comes_back() {
        let asked = hex(ECHO);
        assert_eq!(request(&asked), Ok(Request::Os(os_group::Request::Echo("hi"))));
        assert_eq!(
            answer(&asked, &Response::Os(os_group::Response::Echo("hi"))),
            hex("0b 00 00 06 00 00 42 00 | a1 61 72 62 68 69")
        );
    }

    // smp case 2
    #[test]
    fn a_request_of_version_1_is_answered_in_version_1() {
        let asked = hex("02 00 00 06 00 00 42 00 | a1 61 64 62 68 69");
        assert_eq!(request(&asked), Ok(Request::Os(os_group::Request::Echo("hi"))));
        assert_eq!(
            answer(&asked, &Response::Os(os_group::Response::Echo("hi"))),
            hex("03 00 00 06 00 00 42 00 | a1 61 72 62 68 69")
        );
    }

    // smp case 3
    #[test]
    fn later_versions_are_refused_as_too_new_in_version_2() {
        for first in ["12", "1a"] {
            let mut asked = hex(ECHO);
            asked[0] = hex(first)[0];
            assert_eq!(request(&asked), Err(Code::TooNew));
            assert_eq!(refusal(&asked), hex("0b 00 00 05 00 00 42 00 | a1 62 72 63 0d"));
        }
    }

    // smp case 4
    #[test]
    fn every_sequence_number_comes_back() {
        let mut asked = hex(ECHO);
        for sequence in 0..=255 {
            asked[6] = sequence;
            assert_eq!(answer(&asked, &Response::Empty)[6], sequence);
        }
    }

    // smp case 5
    #[test]
    fn flags_and_reserved_bits_are_ignored() {
        let mut asked = hex(ECHO);
        asked[0] |= 0b1110_0000;
        asked[1] = 0xFF;
        assert_eq!(request(&asked), Ok(Request::Os(os_group::Request::Echo("hi"))));
        assert_eq!(answer(&asked, &Response::Empty)[..2], [0x0B, 0]);
    }

    // smp case 6
    #[test]
    fn less_than_a_header_has_no_answer() {
        let asked = hex(ECHO);
        for length in 0..HEADER_SIZE {
            assert_eq!(decode(&asked[..length]), None);
        }
    }

    // smp case 7
    #[test]
    fn a_frame_shorter_than_its_header_says_is_corrupt() {
        let asked = hex(ECHO);
        for length in HEADER_SIZE..asked.len() {
            assert_eq!(request(&asked[..length]), Err(Code::Corrupt));
        }
        assert_eq!(
            refusal(&asked[..10]),
            hex("0b 00 00 05 00 00 42 00 | a1 62 72 63 09")
        );
        let mut longest = asked;
        longest[2..4].fill(0xFF);
        assert_eq!(request(&longest), Err(Code::Corrupt));
    }

    // smp cases 8, 9
    #[test]
    fn a_second_frame_behind_the_first_is_left_to_the_caller() {
        let both = [hex(ECHO), hex("08 00 00 01 00 01 07 00 | a0")].concat();
        assert_eq!(request(&both), Ok(Request::Os(os_group::Request::Echo("hi"))));
        let second = &both[Header::decode(&both).unwrap().frame_length()..];
        assert_eq!(
            request(second),
            Ok(Request::Image(image_group::Request::ReadState))
        );
    }

    // smp cases 12, 13
    #[test]
    fn response_and_unknown_operations_are_not_supported() {
        for operation in [1, 3, 4, 5, 6, 7] {
            for command in 0..=255 {
                for group in [OS_GROUP, IMAGE_GROUP] {
                    let asked = frame(operation, group, command, &[0xA0]);
                    assert_eq!(request(&asked), Err(Code::NotSupported));
                    assert_eq!(refusal(&asked)[0], 0x0B);
                }
            }
        }
    }

    // smp case 14
    #[test]
    fn unknown_groups_are_not_supported() {
        for group in (2..=200).chain([0x0100, 0xFFFF]) {
            assert_eq!(
                request(&frame(op::READ, group, 0, &[0xA0])),
                Err(Code::NotSupported)
            );
        }
        assert_eq!(
            refusal(&hex("08 00 00 01 00 09 0a 00 | a0")),
            hex("09 00 00 05 00 09 0a 00 | a1 62 72 63 08")
        );
    }

    // smp cases 15, 16
    #[test]
    fn every_command_takes_the_operations_it_has_and_no_other() {
        let known = [
            (op::READ, OS_GROUP, 0),
            (op::WRITE, OS_GROUP, 0),
            (op::WRITE, OS_GROUP, 5),
            (op::READ, OS_GROUP, 6),
            (op::READ, OS_GROUP, 7),
            (op::READ, OS_GROUP, 8),
            (op::READ, IMAGE_GROUP, 0),
            (op::WRITE, IMAGE_GROUP, 0),
            (op::WRITE, IMAGE_GROUP, 1),
            (op::WRITE, IMAGE_GROUP, 5),
            (op::READ, IMAGE_GROUP, 6),
        ];
        for operation in [op::READ, op::WRITE] {
            for group in [OS_GROUP, IMAGE_GROUP] {
                for command in 0..=255 {
                    let asked = frame(operation, group, command, &[0xA0]);
                    let known = known.contains(&(operation, group, command));
                    assert_eq!(request(&asked).is_ok(), known, "{operation} {group} {command}");
                    if !known {
                        assert_eq!(request(&asked), Err(Code::NotSupported));
                    }
                }
            }
        }
    }

    // smp case 17
    #[test]
    fn an_answer_that_does_not_fit_is_the_error_message_size() {
        let context = decode(&hex(ECHO)).unwrap().context;
        let text = "0123456789";
        let response = Response::Os(os_group::Response::Echo(text));
        let whole = HEADER_SIZE + 1 + 2 + 1 + text.len();
        for room in 0..=whole {
            let mut out = vec![0xEE; room];
            let length = encode(&context, &response, &mut out);
            let expected = match room {
                room if room < MIN_ANSWER => 0,
                room if room < whole => MIN_ANSWER,
                _ => whole,
            };
            assert_eq!(length, expected, "{room} bytes of room");
            if length == MIN_ANSWER {
                assert_eq!(out[..length], hex("0b 00 00 05 00 00 42 00 | a1 62 72 63 07"));
            }
        }
    }

    // smp case 17
    #[test]
    fn an_answer_too_long_for_the_length_field_is_the_error_message_size() {
        let context = decode(&hex(ECHO)).unwrap().context;
        let mut out = vec![0; 70_000];
        // After the 3 + 3 bytes in front of the text.
        for (length, expected) in [(65_529, HEADER_SIZE + 65_535), (65_530, MIN_ANSWER)] {
            let text = "x".repeat(length);
            let response = Response::Os(os_group::Response::Echo(&text));
            assert_eq!(encode(&context, &response, &mut out), expected);
        }
    }

    #[test]
    fn the_first_request_of_android_is_answered_with_the_parameters() {
        let asked = hex("00 00 00 01 00 00 ff 06 | a0");
        assert_eq!(request(&asked), Ok(Request::Os(os_group::Request::Parameters)));
        let response = Response::Os(os_group::Response::Parameters {
            buf_size: 2475,
            buf_count: 4,
        });
        assert_eq!(
            answer(&asked, &response),
            hex("01 00 00 18 00 00 ff 06 | a2 68 62 75 66 5f 73 69 7a 65 19 09 ab
                 69 62 75 66 5f 63 6f 75 6e 74 04")
        );
    }

    #[test]
    fn a_list_of_one_image_has_139_bytes() {
        let asked = hex("08 00 00 01 00 01 07 00 | a0");
        assert_eq!(
            request(&asked),
            Ok(Request::Image(image_group::Request::ReadState))
        );
        let images = [ImageState {
            slot: 0,
            version: "1.2.3",
            hash: core::array::from_fn(|i| 0xA0 + i as u8),
            bootable: true,
            pending: false,
            confirmed: true,
            active: true,
            permanent: false,
        }];
        let got = answer(&asked, &Response::Image(image_group::Response::State(&images)));
        assert_eq!(got.len(), 139);
        assert_eq!(
            got,
            hex(
                "09 00 00 83 00 01 07 00 | a2 66 69 6d 61 67 65 73 81 a8 64 73 6c 6f 74 00
                 67 76 65 72 73 69 6f 6e 65 31 2e 32 2e 33
                 64 68 61 73 68 58 20 a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf
                 68 62 6f 6f 74 61 62 6c 65 f5 67 70 65 6e 64 69 6e 67 f4
                 69 63 6f 6e 66 69 72 6d 65 64 f5 66 61 63 74 69 76 65 f5
                 69 70 65 72 6d 61 6e 65 6e 74 f4 6b 73 70 6c 69 74 53 74 61 74 75 73 00"
            )
        );
    }

    // smp case 45
    #[test]
    fn an_upload_in_two_pieces_and_a_test_request_are_answered() {
        let file_sha = hex("9c8fc6ba94d11d78c3368512c344373280e642a61e4e5061b3df9d63b88452de");
        let header = hex(
            "3d b8 f3 96 00 00 00 00 20 00 00 00 20 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00
                          00 00 00 00",
        );
        let hash = hex("48388378e48ad9fbb9538c0489a91eb09f892c0bfad7969cad78278e6896a4b8");
        let rest = [&[0; 32], &hex("07 69 28 00 10 00 20 00")[..], &hash].concat();

        let first = [
            &hex("0a 00 00 59 00 01 08 01 | a4 63 6c 65 6e 18 68 63 6f 66 66 00 63 73 68 61 58 20")[..],
            &file_sha,
            &hex("64 64 61 74 61 58 20"),
            &header,
        ]
        .concat();
        assert_eq!(first.len(), 97);
        assert_eq!(
            request(&first),
            Ok(Request::Image(image_group::Request::Upload(Upload {
                offset: Some(0),
                length: Some(104),
                sha: Some(&file_sha),
                data: &header,
                ..Upload::default()
            })))
        );
        let response = image_group::Response::Upload {
            offset: 32,
            matches: None,
        };
        assert_eq!(
            answer(&first, &Response::Image(response)),
            hex("0b 00 00 07 00 01 08 01 | a1 63 6f 66 66 18 20")
        );

        let second = [
            &hex("0a 00 00 56 00 01 09 01 | a2 63 6f 66 66 18 20 64 64 61 74 61 58 48")[..],
            &rest,
        ]
        .concat();
        assert_eq!(second.len(), 94);
        assert_eq!(
            request(&second),
            Ok(Request::Image(image_group::Request::Upload(Upload {
                offset: Some(32),
                data: &rest,
                ..Upload::default()
            })))
        );
        let response = image_group::Response::Upload {
            offset: 104,
            matches: Some(true),
        };
        assert_eq!(
            answer(&second, &Response::Image(response)),
            hex("0b 00 00 0e 00 01 09 01 | a2 63 6f 66 66 18 68 65 6d 61 74 63 68 f5")
        );

        let mark = [
            &hex("0a 00 00 31 00 01 0a 00 | a2 64 68 61 73 68 58 20")[..],
            &hash,
            &hex("67 63 6f 6e 66 69 72 6d f4"),
        ]
        .concat();
        assert_eq!(
            request(&mark),
            Ok(Request::Image(image_group::Request::WriteState {
                hash: Some(&hash),
                confirm: false,
            }))
        );
    }

    #[test]
    fn an_error_of_a_group_is_a_map_in_version_2_and_a_code_in_version_1() {
        let too_large = Response::Failed(Failure::Image(image_group::Error::InvalidImageTooLarge));
        assert_eq!(
            answer(&hex("0a 00 00 01 00 01 09 01 | a0"), &too_large),
            hex("0b 00 00 12 00 01 09 01 | a1 63 65 72 72 a2 65 67 72 6f 75 70 01 62 72 63 18 1e")
        );
        assert_eq!(
            answer(&hex("02 00 00 01 00 01 09 01 | a0"), &too_large),
            hex("03 00 00 05 00 01 09 01 | a1 62 72 63 01")
        );
        let format = Response::Failed(Failure::Os(os_group::Error::InvalidFormat));
        assert_eq!(
            answer(&hex("08 00 00 01 00 00 09 07 | a0"), &format),
            hex("09 00 00 11 00 00 09 07 | a1 63 65 72 72 a2 65 67 72 6f 75 70 00 62 72 63 02")
        );
        assert_eq!(
            answer(&hex("00 00 00 01 00 00 09 07 | a0"), &format),
            hex("01 00 00 05 00 00 09 07 | a1 62 72 63 03")
        );
    }

    #[test]
    fn success_is_an_empty_map_and_never_a_code_of_0() {
        for response in [Response::Empty, Response::Failed(Failure::Smp(Code::Ok))] {
            assert_eq!(
                answer(&hex("0a 00 00 00 00 00 03 05"), &response),
                hex("0b 00 00 01 00 00 03 05 | a0")
            );
        }
    }

    #[test]
    fn every_code_keeps_its_number() {
        for number in 0..14 {
            assert_eq!(Code::from_number(number).map(|code| code as u64), Some(number));
        }
        for number in [14, 256, u64::MAX] {
            assert_eq!(Code::from_number(number), None);
        }
    }

    #[test]
    fn headers_survive_encoding_and_decoding() {
        for first in 0..32 {
            let bytes = [first, 0, 0x12, 0x34, 0x56, 0x78, 0x9A, 0xBC];
            let header = Header::decode(&bytes).unwrap();
            assert_eq!(header.encode(), bytes);
            assert_eq!(header.frame_length(), 8 + 0x1234);
        }
    }
}
