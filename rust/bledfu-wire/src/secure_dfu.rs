// SPDX-License-Identifier: Apache-2.0
//! Control point messages of Nordic's Secure DFU, as on the air and, unchanged, inside SLIP frames.
//!
//! ```text
//! request   op │ parameters                   reply   60 │ op │ result │ data (only with result 01 or 0B)
//!
//! 00        Protocol version (serial)                 60 00 01  version u8
//! 01 t s s s s   Create object t, size u32            60 01 01
//! 02 n n    Packet receipt every n packets            60 02 01
//! 03        Checksum                                  60 03 01  offset u32  crc32 u32      also the receipt itself
//! 04        Execute                                   60 04 01
//! 06 t      Select object t                           60 06 01  max_size u32  offset u32  crc32 u32
//! 07        MTU (serial)                              60 07 01  mtu u16
//! 08 data…  Write (serial)                            nothing
//! 09 id     Ping (serial)                             60 09 01  id u8
//! 0A        Hardware version (serial)                 60 0A 01  part, variant, rom, ram, rom page: 5 × u32
//! 0B i      Firmware version (serial)                 60 0B 01  type u8  version, address, length: 3 × u32
//! 0C        Abort                                     nothing: the target drops the link
//! ```
//! All integers are little-endian. Clients read replies by offset and some reject any other length, so lengths
//! are exact. Source: nRF5 SDK `nrf_dfu_req_handler.h`, `nrf_dfu_ble.c`, `nrf_dfu_serial.c`.

use crate::{u16_at, u32_at};
use core::fmt;

/// First byte of every reply.
pub const RESPONSE: u8 = 0x60;
/// Length in bytes of the longest reply (hardware version).
pub const MAX_REPLY: usize = 23;
/// Length in bytes of the longest request that is not a write.
pub const MAX_REQUEST: usize = 6;

/// Request op codes.
#[allow(missing_docs)]
pub mod op {
    pub const PROTOCOL_VERSION: u8 = 0x00;
    pub const CREATE: u8 = 0x01;
    pub const SET_RECEIPTS: u8 = 0x02;
    pub const CHECKSUM: u8 = 0x03;
    pub const EXECUTE: u8 = 0x04;
    pub const SELECT: u8 = 0x06;
    pub const MTU: u8 = 0x07;
    pub const WRITE: u8 = 0x08;
    pub const PING: u8 = 0x09;
    pub const HARDWARE_VERSION: u8 = 0x0A;
    pub const FIRMWARE_VERSION: u8 = 0x0B;
    pub const ABORT: u8 = 0x0C;
}

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectType {
    /// The init packet.
    Command = 1,
    /// A piece of the firmware image.
    Data = 2,
}

impl ObjectType {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Command),
            2 => Some(Self::Data),
            _ => None,
        }
    }
}

/// A request of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Which version of the protocol is spoken?
    ProtocolVersion,
    /// Begin an object of `size` bytes; what the open object held is dropped.
    Create {
        /// Command or data.
        object: ObjectType,
        /// Announced size in bytes.
        size: u32,
    },
    /// Send a receipt after every `every` packets; 0 turns receipts off.
    SetReceipts {
        /// Number of packets, 0 to 65535.
        every: u16,
    },
    /// Report offset and CRC-32 of what was received.
    Checksum,
    /// Make the finished object durable.
    Execute,
    /// Make `object` the current one and report how far it is.
    Select {
        /// Command or data.
        object: ObjectType,
    },
    /// How long may an encoded serial frame be?
    Mtu,
    /// Bytes of the current object (serial form; over Bluetooth they arrive on the packet characteristic).
    Write(&'a [u8]),
    /// Are you there?
    Ping {
        /// Comes back in the reply.
        id: u8,
    },
    /// Describe the chip.
    HardwareVersion,
    /// Describe installed image number `image`.
    FirmwareVersion {
        /// 0 is the first image.
        image: u8,
    },
    /// Drop the link.
    Abort,
}

/// Why bytes are not a request. Each has the reply the peer expects: [`DecodeError::refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A write of no bytes: there is no op code to answer.
    Empty,
    /// The op code is not one of the protocol.
    UnknownOpcode(u8),
    /// Fewer or more bytes than the request has.
    WrongLength {
        /// The op code.
        opcode: u8,
        /// Bytes the request has, with the op code.
        expected: usize,
        /// Bytes that came.
        got: usize,
    },
    /// The object type is neither command nor data.
    UnknownObjectType {
        /// The op code: Create or Select.
        opcode: u8,
        /// The type byte that came.
        object: u8,
    },
}

impl DecodeError {
    /// The reply the peer expects; `None` for an empty write, which has no op code to answer.
    pub fn refusal(&self) -> Option<Reply> {
        let (opcode, code) = match *self {
            Self::Empty => return None,
            Self::UnknownOpcode(opcode) => (opcode, ResultCode::OpCodeNotSupported),
            Self::WrongLength { opcode, .. } => (opcode, ResultCode::InvalidParameter),
            Self::UnknownObjectType { opcode, .. } => (opcode, ResultCode::InvalidObject),
        };
        Some(Reply::Refused { opcode, code })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "the request is empty"),
            Self::UnknownOpcode(opcode) => write!(f, "op code {opcode:02X} is not one of Secure DFU"),
            Self::WrongLength {
                opcode,
                expected,
                got,
            } => {
                let (expected, got) = (expected as u32, got as u32);
                write!(f, "request {opcode:02X} has {expected} bytes, {got} came")
            }
            Self::UnknownObjectType { opcode, object } => {
                let object = u32::from(object);
                write!(f, "request {opcode:02X} names object type {object}, which is neither command (1) nor data (2)")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

impl<'a> Request<'a> {
    /// Decodes one control point write, or the content of one SLIP frame.
    ///
    /// The reference does not check lengths and reads stale bytes behind a short request; here a request is
    /// either whole or refused with *invalid parameter*.
    ///
    /// # Errors
    /// [`DecodeError`] names what is wrong and knows the reply.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((&opcode, parameters)) = bytes.split_first() else {
            return Err(DecodeError::Empty);
        };
        let whole = |expected: usize| {
            if bytes.len() == expected {
                Ok(())
            } else {
                Err(DecodeError::WrongLength {
                    opcode,
                    expected,
                    got: bytes.len(),
                })
            }
        };
        let object = || {
            let byte = parameters.first().copied().unwrap_or_default();
            ObjectType::from_byte(byte).ok_or(DecodeError::UnknownObjectType { opcode, object: byte })
        };
        match opcode {
            op::PROTOCOL_VERSION => whole(1).map(|()| Self::ProtocolVersion),
            op::CREATE => {
                whole(6)?;
                let size = u32_at(parameters, 1).unwrap_or_default();
                Ok(Self::Create {
                    object: object()?,
                    size,
                })
            }
            op::SET_RECEIPTS => {
                whole(3)?;
                Ok(Self::SetReceipts {
                    every: u16_at(parameters, 0).unwrap_or_default(),
                })
            }
            op::CHECKSUM => whole(1).map(|()| Self::Checksum),
            op::EXECUTE => whole(1).map(|()| Self::Execute),
            op::SELECT => {
                whole(2)?;
                Ok(Self::Select { object: object()? })
            }
            op::MTU => whole(1).map(|()| Self::Mtu),
            op::WRITE => Ok(Self::Write(parameters)),
            op::PING => {
                whole(2)?;
                Ok(Self::Ping {
                    id: parameters.first().copied().unwrap_or_default(),
                })
            }
            op::HARDWARE_VERSION => whole(1).map(|()| Self::HardwareVersion),
            op::FIRMWARE_VERSION => {
                whole(2)?;
                Ok(Self::FirmwareVersion {
                    image: parameters.first().copied().unwrap_or_default(),
                })
            }
            op::ABORT => whole(1).map(|()| Self::Abort),
            _ => Err(DecodeError::UnknownOpcode(opcode)),
        }
    }

    /// The op code of this request.
    pub const fn opcode(&self) -> u8 {
        match self {
            Self::ProtocolVersion => op::PROTOCOL_VERSION,
            Self::Create { .. } => op::CREATE,
            Self::SetReceipts { .. } => op::SET_RECEIPTS,
            Self::Checksum => op::CHECKSUM,
            Self::Execute => op::EXECUTE,
            Self::Select { .. } => op::SELECT,
            Self::Mtu => op::MTU,
            Self::Write(_) => op::WRITE,
            Self::Ping { .. } => op::PING,
            Self::HardwareVersion => op::HARDWARE_VERSION,
            Self::FirmwareVersion { .. } => op::FIRMWARE_VERSION,
            Self::Abort => op::ABORT,
        }
    }

    /// Encodes a request as a client sends it. The bytes of [`Request::Write`] do not fit here: a client puts
    /// [`op::WRITE`] in front of them itself.
    pub fn encode(&self) -> Encoded {
        let mut out = Encoded::default();
        out.push(self.opcode());
        match *self {
            Self::Create { object, size } => {
                out.push(object as u8);
                out.push_u32(size);
            }
            Self::SetReceipts { every } => out.extend(&every.to_le_bytes()),
            Self::Select { object } => out.push(object as u8),
            Self::Ping { id } => out.push(id),
            Self::FirmwareVersion { image } => out.push(image),
            _ => {}
        }
        out
    }
}

/// Result byte of a reply (nRF5 SDK `nrf_dfu_req_handler.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultCode {
    /// 02: the op code is unknown, or not offered on this transport.
    OpCodeNotSupported,
    /// 03: a size, a length or a position that cannot be.
    InvalidParameter,
    /// 04: the object or the image does not fit.
    InsufficientResources,
    /// 05: the object type is unknown, or the object is damaged or wrongly signed.
    InvalidObject,
    /// 07: the type cannot be created; in the reference's tables, never sent by it or by us.
    UnsupportedType,
    /// 08: not now: no init packet yet, object incomplete, image already complete.
    OperationNotPermitted,
    /// 0A: the device could not do it (flash, signature of the wrong length).
    OperationFailed,
    /// 0B and one byte more.
    Extended(ExtendedCode),
}

impl ResultCode {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::OpCodeNotSupported => 0x02,
            Self::InvalidParameter => 0x03,
            Self::InsufficientResources => 0x04,
            Self::InvalidObject => 0x05,
            Self::UnsupportedType => 0x07,
            Self::OperationNotPermitted => 0x08,
            Self::OperationFailed => 0x0A,
            Self::Extended(_) => 0x0B,
        }
    }

    fn from_bytes(code: u8, extended: Option<u8>) -> Option<Self> {
        Some(match code {
            0x02 => Self::OpCodeNotSupported,
            0x03 => Self::InvalidParameter,
            0x04 => Self::InsufficientResources,
            0x05 => Self::InvalidObject,
            0x07 => Self::UnsupportedType,
            0x08 => Self::OperationNotPermitted,
            0x0A => Self::OperationFailed,
            0x0B => Self::Extended(ExtendedCode::from_byte(extended?)?),
            _ => return None,
        })
    }
}

impl fmt::Display for ResultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpCodeNotSupported => "op code not supported (02)",
            Self::InvalidParameter => "invalid parameter (03)",
            Self::InsufficientResources => "insufficient resources (04)",
            Self::InvalidObject => "invalid object (05)",
            Self::UnsupportedType => "unsupported type (07)",
            Self::OperationNotPermitted => "operation not permitted (08)",
            Self::OperationFailed => "operation failed (0A)",
            Self::Extended(code) => return code.fmt(f),
        })
    }
}

/// The byte behind result 0B. Only codes both phone libraries can read are here (the iOS library fails on 01 and
/// on anything above 0D). The reference never sends 02, 03 and 0A, nor do we; a client must know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExtendedCode {
    /// 02: the format of the command is wrong.
    WrongCommandFormat = 0x02,
    /// 03: the command is unknown.
    UnknownCommand = 0x03,
    /// 04: a required field of the init packet is missing or makes no sense.
    InitCommandInvalid = 0x04,
    /// 05: the firmware is older than what runs.
    FirmwareVersion = 0x05,
    /// 06: made for other hardware.
    HardwareVersion = 0x06,
    /// 07: wants a SoftDevice that is not here.
    SoftDeviceVersion = 0x07,
    /// 08: a signature is required and absent.
    SignatureMissing = 0x08,
    /// 09: the hash is not SHA-256, or absent.
    WrongHashType = 0x09,
    /// 0A: the hash could not be computed.
    HashFailed = 0x0A,
    /// 0B: the signature is not ECDSA P-256.
    WrongSignatureType = 0x0B,
    /// 0C: the received image is not the announced one, or is no image this device may run.
    VerificationFailed = 0x0C,
    /// 0D: no room.
    InsufficientSpace = 0x0D,
}

impl ExtendedCode {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x02 => Self::WrongCommandFormat,
            0x03 => Self::UnknownCommand,
            0x04 => Self::InitCommandInvalid,
            0x05 => Self::FirmwareVersion,
            0x06 => Self::HardwareVersion,
            0x07 => Self::SoftDeviceVersion,
            0x08 => Self::SignatureMissing,
            0x09 => Self::WrongHashType,
            0x0A => Self::HashFailed,
            0x0B => Self::WrongSignatureType,
            0x0C => Self::VerificationFailed,
            0x0D => Self::InsufficientSpace,
            _ => return None,
        })
    }
}

impl fmt::Display for ExtendedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongCommandFormat => "wrong command format (0B 02)",
            Self::UnknownCommand => "unknown command (0B 03)",
            Self::InitCommandInvalid => "init command invalid (0B 04)",
            Self::FirmwareVersion => "firmware version too low (0B 05)",
            Self::HardwareVersion => "wrong hardware version (0B 06)",
            Self::SoftDeviceVersion => "wrong SoftDevice version (0B 07)",
            Self::SignatureMissing => "signature missing (0B 08)",
            Self::WrongHashType => "wrong hash type (0B 09)",
            Self::HashFailed => "hash failed (0B 0A)",
            Self::WrongSignatureType => "wrong signature type (0B 0B)",
            Self::VerificationFailed => "verification failed (0B 0C)",
            Self::InsufficientSpace => "insufficient space (0B 0D)",
        })
    }
}

/// What an installed image is, in the answer to *Firmware version*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FirmwareType {
    /// A SoftDevice; no device of ours has one.
    SoftDevice = 0x00,
    /// The application.
    Application = 0x01,
    /// The boot stage.
    Bootloader = 0x02,
    /// There is no image of that number.
    Unknown = 0xFF,
}

/// A reply, or a packet receipt (which is a [`Reply::Checksum`] nobody asked for).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reply {
    /// The protocol version, which is 1.
    ProtocolVersion(u8),
    /// The object is open and its flash is erased.
    Created,
    /// Receipts are set.
    ReceiptsSet,
    /// Bytes of the selected object that the device holds, from byte 0 of the init packet or of the whole image,
    /// and their CRC-32.
    Checksum { offset: u32, crc: u32 },
    /// The object is durable.
    Executed,
    /// As [`Reply::Checksum`], with the largest size an object may have.
    Selected { max_size: u32, offset: u32, crc: u32 },
    /// Longest encoded serial frame in bytes.
    Mtu(u16),
    /// The id of the ping.
    Pong(u8),
    /// Chip description; memory sizes in bytes.
    HardwareVersion {
        part: u32,
        variant: u32,
        rom_size: u32,
        ram_size: u32,
        rom_page_size: u32,
    },
    /// Description of one installed image; sizes in bytes.
    FirmwareVersion {
        kind: FirmwareType,
        version: u32,
        address: u32,
        length: u32,
    },
    /// The request was not done.
    Refused { opcode: u8, code: ResultCode },
}

impl Reply {
    /// The op code this replies to.
    pub const fn opcode(&self) -> u8 {
        match *self {
            Self::ProtocolVersion(_) => op::PROTOCOL_VERSION,
            Self::Created => op::CREATE,
            Self::ReceiptsSet => op::SET_RECEIPTS,
            Self::Checksum { .. } => op::CHECKSUM,
            Self::Executed => op::EXECUTE,
            Self::Selected { .. } => op::SELECT,
            Self::Mtu(_) => op::MTU,
            Self::Pong(_) => op::PING,
            Self::HardwareVersion { .. } => op::HARDWARE_VERSION,
            Self::FirmwareVersion { .. } => op::FIRMWARE_VERSION,
            Self::Refused { opcode, .. } => opcode,
        }
    }

    /// The exact bytes of the notification or frame content.
    pub fn encode(&self) -> Encoded {
        let mut out = Encoded::default();
        out.push(RESPONSE);
        out.push(self.opcode());
        match *self {
            Self::Refused { code, .. } => {
                out.push(code.byte());
                if let ResultCode::Extended(extended) = code {
                    out.push(extended as u8);
                }
                return out;
            }
            _ => out.push(0x01),
        }
        match *self {
            Self::ProtocolVersion(byte) | Self::Pong(byte) => out.push(byte),
            Self::Checksum { offset, crc } => {
                out.push_u32(offset);
                out.push_u32(crc);
            }
            Self::Selected {
                max_size,
                offset,
                crc,
            } => {
                out.push_u32(max_size);
                out.push_u32(offset);
                out.push_u32(crc);
            }
            Self::Mtu(mtu) => out.extend(&mtu.to_le_bytes()),
            Self::HardwareVersion {
                part,
                variant,
                rom_size,
                ram_size,
                rom_page_size,
            } => {
                for word in [part, variant, rom_size, ram_size, rom_page_size] {
                    out.push_u32(word);
                }
            }
            Self::FirmwareVersion {
                kind,
                version,
                address,
                length,
            } => {
                out.push(kind as u8);
                for word in [version, address, length] {
                    out.push_u32(word);
                }
            }
            Self::Created | Self::ReceiptsSet | Self::Executed | Self::Refused { .. } => {}
        }
        out
    }

    /// Reads a reply as a client does: fields by their place, whatever comes behind them. A client that wants exact
    /// lengths, as pc-nrf-dfu-js does, compares the bytes with [`Reply::encode`].
    ///
    /// # Errors
    /// [`ReplyError`] names what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReplyError> {
        let &[RESPONSE, opcode, result, ref data @ ..] = bytes else {
            return Err(ReplyError::NotAReply);
        };
        if result != 0x01 {
            let extended = data.first().copied();
            let code = ResultCode::from_bytes(result, extended).ok_or(ReplyError::UnknownResult {
                opcode,
                result,
                extended,
            })?;
            return Ok(Self::Refused { opcode, code });
        }
        Self::decode_success(opcode, data).ok_or(ReplyError::Malformed(opcode))
    }

    /// `None` if the data are too few, or say what has no meaning, or the op code is none that is replied to.
    fn decode_success(opcode: u8, data: &[u8]) -> Option<Self> {
        let byte = data.first().copied();
        let word = |index: usize| u32_at(data, index * 4);
        Some(match opcode {
            op::PROTOCOL_VERSION => Self::ProtocolVersion(byte?),
            op::CREATE => Self::Created,
            op::SET_RECEIPTS => Self::ReceiptsSet,
            op::CHECKSUM => Self::Checksum {
                offset: word(0)?,
                crc: word(1)?,
            },
            op::EXECUTE => Self::Executed,
            op::SELECT => Self::Selected {
                max_size: word(0)?,
                offset: word(1)?,
                crc: word(2)?,
            },
            op::MTU => Self::Mtu(u16_at(data, 0)?),
            op::PING => Self::Pong(byte?),
            op::HARDWARE_VERSION => Self::HardwareVersion {
                part: word(0)?,
                variant: word(1)?,
                rom_size: word(2)?,
                ram_size: word(3)?,
                rom_page_size: word(4)?,
            },
            op::FIRMWARE_VERSION => Self::FirmwareVersion {
                kind: match byte? {
                    0x00 => FirmwareType::SoftDevice,
                    0x01 => FirmwareType::Application,
                    0x02 => FirmwareType::Bootloader,
                    0xFF => FirmwareType::Unknown,
                    _ => return None,
                },
                version: u32_at(data, 1)?,
                address: u32_at(data, 5)?,
                length: u32_at(data, 9)?,
            },
            _ => return None,
        })
    }
}

/// Why bytes are not a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Fewer than three bytes, or the first is not [`RESPONSE`].
    NotAReply,
    /// The op code is none that is replied to, or what belongs to it is cut or has no meaning.
    Malformed(u8),
    /// The result is none the protocol knows; 0B without a known extended code is one, too.
    UnknownResult {
        /// The op code.
        opcode: u8,
        /// The result byte.
        result: u8,
        /// The byte behind it, if there is one.
        extended: Option<u8>,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAReply => write!(f, "the bytes are no reply of Secure DFU"),
            Self::Malformed(opcode) => write!(f, "the reply to request {opcode:02X} is malformed"),
            Self::UnknownResult {
                opcode,
                result,
                extended: None,
            } => write!(
                f,
                "request {opcode:02X} was refused with the unknown result {result:02X}"
            ),
            Self::UnknownResult {
                opcode,
                result,
                extended: Some(extended),
            } => write!(
                f,
                "request {opcode:02X} was refused with the unknown result {result:02X} {extended:02X}"
            ),
        }
    }
}

impl core::error::Error for ReplyError {}

/// The bytes of one encoded message, at most [`MAX_REPLY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; MAX_REPLY],
    len: usize,
}

impl Encoded {
    /// The message.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    // Longest message and buffer are the same constant, so nothing is ever cut here.
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn push_u32(&mut self, value: u32) {
        self.extend(&value.to_le_bytes());
    }

    fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    fn refusal(bytes: &[u8]) -> Encoded {
        Request::decode(bytes).unwrap_err().refusal().unwrap().encode()
    }

    #[test]
    fn create_carries_type_and_little_endian_size() {
        let request = Request::decode(&[0x01, 0x02, 0x00, 0x10, 0x00, 0x00]).unwrap();
        assert_eq!(
            request,
            Request::Create {
                object: ObjectType::Data,
                size: 4096
            }
        );
    }

    // secure-dfu cases 5, 6
    #[test]
    fn unknown_opcodes_are_answered_with_not_supported() {
        assert_eq!(refusal(&[0x05]).as_bytes(), [0x60, 0x05, 0x02]);
        assert_eq!(refusal(&[0xFF]).as_bytes(), [0x60, 0xFF, 0x02]);
    }

    // secure-dfu case 7
    #[test]
    fn the_response_opcode_is_no_request() {
        assert_eq!(refusal(&[0x60]).as_bytes(), [0x60, 0x60, 0x02]);
    }

    // secure-dfu cases 10, 12
    #[test]
    fn unknown_object_types_are_invalid_objects() {
        assert_eq!(refusal(&[0x06, 0x00]).as_bytes(), [0x60, 0x06, 0x05]);
        assert_eq!(
            refusal(&[0x01, 0x03, 0x10, 0, 0, 0]).as_bytes(),
            [0x60, 0x01, 0x05]
        );
    }

    // secure-dfu case 13
    #[test]
    fn a_short_create_is_an_invalid_parameter() {
        assert_eq!(refusal(&[0x01, 0x01]).as_bytes(), [0x60, 0x01, 0x03]);
    }

    // secure-dfu case 14
    #[test]
    fn an_empty_write_has_no_reply() {
        assert_eq!(Request::decode(&[]), Err(DecodeError::Empty));
        assert_eq!(DecodeError::Empty.refusal(), None);
    }

    #[test]
    fn every_length_but_the_right_one_is_refused_for_every_opcode() {
        let lengths = [
            (0x00, 1),
            (0x01, 6),
            (0x02, 3),
            (0x03, 1),
            (0x04, 1),
            (0x06, 2),
            (0x07, 1),
            (0x09, 2),
            (0x0A, 1),
        ];
        for (opcode, right) in lengths.into_iter().chain([(0x0B, 2), (0x0C, 1)]) {
            for length in 1..16 {
                let mut bytes = [1u8; 16];
                bytes[0] = opcode;
                let decoded = Request::decode(&bytes[..length]);
                assert_eq!(
                    decoded.is_ok(),
                    length == right,
                    "op {opcode:02X} with {length} bytes: {decoded:?}"
                );
                if length != right {
                    assert_eq!(refusal(&bytes[..length]).as_bytes(), [0x60, opcode, 0x03]);
                }
            }
        }
    }

    #[test]
    fn requests_survive_encoding_and_decoding() {
        let requests = [
            Request::ProtocolVersion,
            Request::Create {
                object: ObjectType::Command,
                size: 210,
            },
            Request::SetReceipts { every: 12 },
            Request::Checksum,
            Request::Execute,
            Request::Select {
                object: ObjectType::Data,
            },
            Request::Mtu,
            Request::Ping { id: 7 },
            Request::HardwareVersion,
            Request::FirmwareVersion { image: 1 },
            Request::Abort,
        ];
        for request in requests {
            assert_eq!(Request::decode(request.encode().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn replies_have_exactly_the_bytes_of_the_log_of_the_case() {
        let selected = Reply::Selected {
            max_size: 512,
            offset: 210,
            crc: 0xB473_C829,
        };
        assert_eq!(
            selected.encode().as_bytes(),
            [0x60, 0x06, 0x01, 0x00, 0x02, 0x00, 0x00, 0xD2, 0, 0, 0, 0x29, 0xC8, 0x73, 0xB4]
        );
        let checksum = Reply::Checksum {
            offset: 4096,
            crc: 0x0A92_E37C,
        };
        assert_eq!(
            checksum.encode().as_bytes(),
            [0x60, 3, 1, 0, 0x10, 0, 0, 0x7C, 0xE3, 0x92, 0x0A]
        );
        assert_eq!(Reply::Executed.encode().as_bytes(), [0x60, 0x04, 0x01]);
    }

    #[test]
    fn an_extended_refusal_has_exactly_one_byte_more() {
        let code = ResultCode::Extended(ExtendedCode::HardwareVersion);
        let reply = Reply::Refused {
            opcode: op::EXECUTE,
            code,
        };
        assert_eq!(reply.encode().as_bytes(), [0x60, 0x04, 0x0B, 0x06]);
        assert_eq!(
            Reply::decode(&[0x60, 0x04, 0x0B]),
            Err(ReplyError::UnknownResult {
                opcode: op::EXECUTE,
                result: 0x0B,
                extended: None
            }),
            "the library would read past the end"
        );
    }

    #[test]
    fn results_no_client_knows_are_errors_that_name_the_byte() {
        for result in [0x00, 0x06, 0x09, 0x0C, 0xFF] {
            let error = ReplyError::UnknownResult {
                opcode: op::CREATE,
                result,
                extended: None,
            };
            assert_eq!(Reply::decode(&[0x60, 0x01, result]), Err(error));
        }
        for extended in [0x00, 0x01, 0x0E, 0xFF] {
            let error = ReplyError::UnknownResult {
                opcode: op::EXECUTE,
                result: 0x0B,
                extended: Some(extended),
            };
            assert_eq!(Reply::decode(&[0x60, 0x04, 0x0B, extended]), Err(error));
        }
        assert_eq!(Reply::decode(&[0x61, 0x01, 0x01]), Err(ReplyError::NotAReply));
        assert_eq!(Reply::decode(&[]), Err(ReplyError::NotAReply));
        assert_eq!(
            Reply::decode(&[0x60, 0x0C, 0x01]),
            Err(ReplyError::Malformed(op::ABORT))
        );
    }

    #[test]
    fn every_result_survives_encoding_and_decoding() {
        for result in 0..=0xFF {
            for extended in [None, Some(0x02), Some(0x0A), Some(0x0D)] {
                if let Some(code) = ResultCode::from_bytes(result, extended) {
                    let reply = Reply::Refused {
                        opcode: op::EXECUTE,
                        code,
                    };
                    assert_eq!(Reply::decode(reply.encode().as_bytes()), Ok(reply));
                }
            }
        }
    }

    #[test]
    fn replies_survive_encoding_and_decoding_and_fit() {
        let replies = [
            Reply::ProtocolVersion(1),
            Reply::Created,
            Reply::ReceiptsSet,
            Reply::Checksum { offset: 1, crc: 2 },
            Reply::Executed,
            Reply::Selected {
                max_size: 1,
                offset: 2,
                crc: 3,
            },
            Reply::Mtu(131),
            Reply::Pong(9),
            Reply::HardwareVersion {
                part: 1,
                variant: 2,
                rom_size: 3,
                ram_size: 4,
                rom_page_size: 5,
            },
            Reply::FirmwareVersion {
                kind: FirmwareType::Application,
                version: 1,
                address: 2,
                length: 3,
            },
            Reply::Refused {
                opcode: 4,
                code: ResultCode::OperationFailed,
            },
            Reply::Refused {
                opcode: 4,
                code: ResultCode::Extended(ExtendedCode::VerificationFailed),
            },
        ];
        for reply in replies {
            let encoded = reply.encode();
            assert_eq!(Reply::decode(encoded.as_bytes()), Ok(reply));
            let longer = [encoded.as_bytes(), &[0xAA, 0xBB]].concat();
            assert_eq!(Reply::decode(&longer), Ok(reply), "clients read by place");
            for cut in 0..encoded.as_bytes().len() {
                let decoded = Reply::decode(&encoded.as_bytes()[..cut]);
                assert!(decoded.is_err(), "{reply:?} cut to {cut} bytes is {decoded:?}");
            }
        }
        let longest = replies.iter().map(|reply| reply.encode().as_bytes().len()).max();
        assert_eq!(longest, Some(MAX_REPLY));
    }
}
