// SPDX-License-Identifier: Apache-2.0
//! Frames of SMP, the Simple Management Protocol of mcumgr, versions 1 and 2.
//!
//! ```text
//! byte  0          1      2..3     4..5    6         7        8…
//!       version,op flags  length   group   sequence  command  one CBOR map of `length` bytes
//!          ││
//!          │└ bits 2..0: 0 read, 1 answer to a read, 2 write, 3 answer to a write
//!          └─ bits 4..3: 0 version 1, 1 version 2
//! ```
//! Numbers are big-endian. An answer repeats version, group, sequence and command of its request; its map is `{}` on
//! plain success. Errors of the protocol are `{"rc": n}`. Errors of a group are `{"err": {"group": g, "rc": n}}` in
//! version 2 and `{"rc": n}` with the nearest protocol error in version 1, whose clients cannot read the header of
//! version 2. Source: Zephyr `smp.c` and `smp_protocol.rst`.

use crate::cbor::Writer;
use crate::{image_group, os_group};
use core::fmt;

/// Length in bytes of the header of a frame.
pub const HEADER_SIZE: usize = 8;
/// Group number of [`os_group`].
pub const OS_GROUP: u16 = 0;
/// Group number of [`image_group`].
pub const IMAGE_GROUP: u16 = 1;
/// Bytes that an answer needs at least: the header and `{"rc": 7}`.
pub const MIN_ANSWER: usize = HEADER_SIZE + MESSAGE_SIZE_ANSWER.len();

/// `{"rc": 7}`: what is sent instead of an answer that does not fit.
const MESSAGE_SIZE_ANSWER: [u8; 5] = [0xA1, 0x62, b'r', b'c', Code::MessageSize as u8];

/// Version of the protocol; it decides how errors of a group look.
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

/// The header of a frame, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version field, 0 to 3: 0 is version 1, 1 is version 2, the others are reserved.
    pub version: u8,
    /// Operation field, 0 to 7; see [`op`].
    pub op: u8,
    /// Bytes behind the header.
    pub length: u16,
    /// Group of commands.
    pub group: u16,
    /// Number that the answer repeats.
    pub sequence: u8,
    /// Command in the group.
    pub command: u8,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if they are fewer than [`HEADER_SIZE`]. Reserved bits and
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

/// Results of the protocol itself (Zephyr `mgmt_defines.h`, `enum mcumgr_err_t`). Some clients accept no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// 0: done. An answer never carries it: success is the map without `rc`.
    Ok = 0,
    /// 1: something failed.
    Unknown = 1,
    /// 2: no memory.
    NoMemory = 2,
    /// 3: the request makes no sense.
    Invalid = 3,
    /// 4: it took too long.
    Timeout = 4,
    /// 5: there is no such thing.
    NoEntry = 5,
    /// 6: not in this state.
    BadState = 6,
    /// 7: the answer is longer than a frame may be.
    MessageSize = 7,
    /// 8: the device has no such group, command or operation.
    NotSupported = 8,
    /// 9: the frame is damaged.
    Corrupt = 9,
    /// 10: not now.
    Busy = 10,
    /// 11: not allowed.
    AccessDenied = 11,
    /// 12: version 1 is not spoken here.
    TooOld = 12,
    /// 13: only versions 1 and 2 are spoken here.
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

    /// The code of that number, for the client's side; `None` above 13.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "done (rc 0)",
            Self::Unknown => "unknown error (rc 1)",
            Self::NoMemory => "no memory (rc 2)",
            Self::Invalid => "invalid request (rc 3)",
            Self::Timeout => "it took too long (rc 4)",
            Self::NoEntry => "there is no such entry (rc 5)",
            Self::BadState => "not possible in this state (rc 6)",
            Self::MessageSize => "the answer is longer than a frame may be (rc 7)",
            Self::NotSupported => "not supported by the device (rc 8)",
            Self::Corrupt => "the frame is damaged (rc 9)",
            Self::Busy => "the device is busy (rc 10)",
            Self::AccessDenied => "access denied (rc 11)",
            Self::TooOld => "the device does not speak version 1 of SMP (rc 12)",
            Self::TooNew => "the device speaks only versions 1 and 2 of SMP (rc 13)",
        })
    }
}

/// What an answer takes from its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The request's version; version 2 if that was a later one.
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
    /// For the answer to a request with this header.
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

/// What a peer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// A command of the operating system.
    Os(os_group::Request<'a>),
    /// A command for images.
    Image(image_group::Request<'a>),
}

/// One whole frame of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What the answer needs.
    pub context: Context,
    /// What is asked, or with what it must be refused.
    pub request: Result<Request<'a>, Code>,
}

/// Decodes one frame. `None` if the bytes are fewer than a header: no answer is possible. Bytes behind the frame are
/// ignored; cutting several frames apart is up to the caller ([`Header::frame_length`]).
///
/// The refusals are: [`Code::Corrupt`], fewer bytes than the header says; [`Code::TooNew`], neither version 1 nor 2;
/// [`Code::NotSupported`], an unknown group or command, or one that has no such operation; [`Code::Invalid`], the
/// payload is not a map in CBOR, is cut, holds a known key twice or with the wrong type, or nests arrays and maps
/// deeper than 16. Strings of indefinite length are read over in unknown keys and refused elsewhere, as a value must
/// lie in one piece.
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

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error of the protocol.
    Smp(Code),
    /// An error of the group of the operating system.
    Os(os_group::Error),
    /// An error of the group of images.
    Image(image_group::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smp(code) => code.fmt(f),
            Self::Os(error) => error.fmt(f),
            Self::Image(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Failure {}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// Done, and nothing to tell.
    Empty,
    /// Not done.
    Failed(Failure),
    /// Done; an answer of the group of the operating system.
    Os(os_group::Response<'a>),
    /// Done; an answer of the group of images.
    Image(image_group::Response<'a>),
}

/// Encodes the answer to the request of `context` into `out` and returns the length of the frame.
///
/// Maps are definite, integers the shortest, the keys those of Zephyr in its order: the strictest clients refuse any
/// other. An answer that does not fit is replaced by the error [`Code::MessageSize`]; 0 is returned only if `out` is
/// shorter than [`MIN_ANSWER`].
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

/// Length of the map, `None` if it does not fit.
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
