// SPDX-License-Identifier: Apache-2.0
//! Control point messages of Nordic's Secure DFU: the same bytes over Bluetooth and inside SLIP frames.
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
//! All integers are little-endian. Lengths are exact: clients read replies by offset, and some reject any other length.
//! Source: nRF5 SDK `nrf_dfu_req_handler.h`, `nrf_dfu_ble.c`, `nrf_dfu_serial.c`.

mod encoded;
mod reply;

pub use encoded::Encoded;
pub use reply::{ExtendedCode, FirmwareType, Reply, ReplyError, ResultCode};

use crate::{u16_at, u32_at};
use bledfu_text::{text, words, Line, Octet, Text};
/// First byte of every reply.
pub const RESPONSE: u8 = 0x60;
/// Length in bytes of the longest reply (hardware version).
pub const MAX_REPLY: usize = 23;
/// Length in bytes of the longest request other than a write.
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

/// What an object contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ObjectType {
    /// The init packet.
    Command = 1,
    /// A part of the firmware image.
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

/// A request from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Report the protocol version.
    ProtocolVersion,
    /// Begin an object of `size` bytes and drop the content of the open one.
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
    /// Report offset and CRC-32 of the received bytes.
    Checksum,
    /// Make the finished object durable.
    Execute,
    /// Make `object` the current one and report its progress.
    Select {
        /// Command or data.
        object: ObjectType,
    },
    /// Report the longest encoded serial frame.
    Mtu,
    /// Bytes of the current object (serial only; over Bluetooth they arrive on the packet characteristic).
    Write(&'a [u8]),
    /// Ping.
    Ping {
        /// Returned in the reply.
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

/// Why bytes are not a request. [`DecodeError::refusal`] gives the reply that the peer expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// An empty write: there is no op code to answer.
    Empty,
    /// The op code is not part of the protocol.
    UnknownOpcode(u8),
    /// The request is too short or too long.
    WrongLength {
        /// The op code.
        opcode: u8,
        /// Expected length in bytes, including the op code.
        expected: usize,
        /// Received length in bytes.
        got: usize,
    },
    /// The object type is neither command nor data.
    UnknownObjectType {
        /// The op code, Create or Select.
        opcode: u8,
        /// The received type byte.
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

impl Text for DecodeError {
    fn put(&self, line: &mut dyn Line) {
        match *self {
            Self::Empty => words!("the request is empty").put(line),
            Self::UnknownOpcode(opcode) => {
                text!("op code {} is not one of Secure DFU", Octet(opcode)).put(line)
            }
            Self::WrongLength {
                opcode,
                expected,
                got,
            } => {
                let (expected, got) = (expected as u32, got as u32);
                text!("request {} has {} bytes, {} came", Octet(opcode), expected, got).put(line)
            }
            Self::UnknownObjectType { opcode, object } => {
                let object = u32::from(object);
                text!(
                    "request {} names object type {}, which is neither command (1) nor data (2)",
                    Octet(opcode),
                    object
                )
                .put(line)
            }
        }
    }
}

bledfu_text::display!(DecodeError);

impl core::error::Error for DecodeError {}

impl<'a> Request<'a> {
    /// Decodes one control point write, or the content of one SLIP frame.
    ///
    /// The reference does not check lengths and reads stale bytes after a short request. Here a request of the wrong
    /// length is refused with *invalid parameter*.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong and gives the reply.
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

    /// Encodes a request as a client sends it. The data of [`Request::Write`] does not fit here: a client writes
    /// [`op::WRITE`] in front of it itself.
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

#[cfg(test)]
mod tests;
