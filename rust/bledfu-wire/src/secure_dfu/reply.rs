// SPDX-License-Identifier: Apache-2.0
//! What the target answers.

use super::{op, Encoded, RESPONSE};
use crate::{u16_at, u32_at};
use core::fmt;

/// Result byte of a reply (nRF5 SDK `nrf_dfu_req_handler.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultCode {
    /// 02: the op code is unknown, or not offered on this transport.
    OpCodeNotSupported,
    /// 03: a size, length or position is impossible.
    InvalidParameter,
    /// 04: the object or the image is too large.
    InsufficientResources,
    /// 05: the object type is unknown, or the object is damaged or has a wrong signature.
    InvalidObject,
    /// 07: this type cannot be created; listed by the reference, but never sent by it or by us.
    UnsupportedType,
    /// 08: not now: no init packet yet, object incomplete, or image already complete.
    OperationNotPermitted,
    /// 0A: the device failed (flash, or a signature of the wrong length).
    OperationFailed,
    /// 0B, followed by an extended code.
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

    pub(super) fn from_bytes(code: u8, extended: Option<u8>) -> Option<Self> {
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

/// The byte after result 0B. These are the codes that both phone libraries can read (the iOS library fails on 01 and on
/// anything above 0D). Neither the reference nor we send 02, 03 and 0A, but a client must know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExtendedCode {
    /// 02: the format of the command is wrong.
    WrongCommandFormat = 0x02,
    /// 03: the command is unknown.
    UnknownCommand = 0x03,
    /// 04: a required field of the init packet is missing or invalid.
    InitCommandInvalid = 0x04,
    /// 05: the firmware is older than the running one.
    FirmwareVersion = 0x05,
    /// 06: the firmware is for other hardware.
    HardwareVersion = 0x06,
    /// 07: the firmware needs a SoftDevice that is not installed.
    SoftDeviceVersion = 0x07,
    /// 08: a signature is required and missing.
    SignatureMissing = 0x08,
    /// 09: the hash is missing or not SHA-256.
    WrongHashType = 0x09,
    /// 0A: the hash could not be computed.
    HashFailed = 0x0A,
    /// 0B: the signature is not ECDSA P-256.
    WrongSignatureType = 0x0B,
    /// 0C: the received image differs from the announced one, or this device may not run it.
    VerificationFailed = 0x0C,
    /// 0D: the firmware does not fit.
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

/// The type of an installed image, in the answer to *Firmware version*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FirmwareType {
    /// A SoftDevice; our devices have none.
    SoftDevice = 0x00,
    /// The application.
    Application = 0x01,
    /// The boot stage.
    Bootloader = 0x02,
    /// No image has this number.
    Unknown = 0xFF,
}

/// A reply, or a packet receipt (an unsolicited [`Reply::Checksum`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reply {
    /// The protocol version: 1.
    ProtocolVersion(u8),
    /// The object is open and its flash is erased.
    Created,
    /// The receipt interval is set.
    ReceiptsSet,
    /// The bytes of the selected object that the device holds, counted from byte 0 of the init packet or of the whole
    /// image, and their CRC-32.
    Checksum { offset: u32, crc: u32 },
    /// The object is durable.
    Executed,
    /// Like [`Reply::Checksum`], with the maximum size of an object.
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
    /// The request was refused.
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

    /// Reads a reply as a client does: by field offset, ignoring further bytes. A client that requires exact lengths,
    /// like pc-nrf-dfu-js, compares the bytes with [`Reply::encode`].
    ///
    /// # Errors
    /// [`ReplyError`] says what is wrong.
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

    /// `None` if the data is too short or invalid, or if the op code has no reply.
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
    /// The op code has no reply, or its data is cut or invalid.
    Malformed(u8),
    /// The result is unknown, or 0B comes without a known extended code.
    UnknownResult {
        /// The op code.
        opcode: u8,
        /// The result byte.
        result: u8,
        /// The byte after it, if there is one.
        extended: Option<u8>,
    },
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotAReply => write!(f, "the bytes are not a Secure DFU reply"),
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
