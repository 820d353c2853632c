// SPDX-License-Identifier: Apache-2.0
//! Why an update over Secure DFU fails.

use bledfu_wire::secure_dfu::{op, ResultCode};
use core::fmt;

/// Why an update failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The link was lost, and the client does not reconnect by itself.
    LinkLost,
    /// The device did not answer this request in time.
    NoAnswer(u8),
    /// A receipt that was due did not arrive: the device counted fewer packets than were sent.
    NoReceipt {
        /// Bytes of the image that were sent so far.
        sent: u32,
    },
    /// The device refused.
    Refused {
        /// The request.
        opcode: u8,
        /// Why.
        code: ResultCode,
    },
    /// The device answered this request with something else.
    Unexpected(u8),
    /// The device holds other bytes than were sent, after every attempt.
    BytesLost {
        /// The offset that it reports.
        offset: u32,
    },
    /// Bytes were lost in an object that is not full: Android's arithmetic does not cover this case (its error 0x100F).
    ProgressLost {
        /// The offset that the device reports.
        offset: u32,
    },
    /// The device did not close the link after the update.
    LinkStaysOpen,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LinkLost => write!(f, "the link was lost"),
            Self::NoAnswer(opcode) => {
                write!(f, "the device did not answer {} in time", request_name(opcode))
            }
            Self::NoReceipt { sent } => {
                write!(
                    f,
                    "the device sent no receipt for the first {sent} bytes of the image"
                )
            }
            Self::Refused { opcode, code } => {
                write!(f, "the device refused {}: {code}", request_name(opcode))
            }
            Self::Unexpected(opcode) => {
                let name = request_name(opcode);
                write!(f, "the device answered {name} with something else")
            }
            Self::BytesLost { offset } => {
                write!(f, "the device holds other bytes than were sent (offset {offset})")
            }
            Self::ProgressLost { offset } => {
                write!(
                    f,
                    "bytes were lost in the last object (offset {offset}), which this client cannot repair"
                )
            }
            Self::LinkStaysOpen => write!(f, "the device did not close the link after the update"),
        }
    }
}

impl core::error::Error for Error {}

/// The name of a request in the specification.
pub const fn request_name(opcode: u8) -> &'static str {
    match opcode {
        op::CREATE => "Create",
        op::SET_RECEIPTS => "Set packet receipts",
        op::CHECKSUM => "Checksum",
        op::EXECUTE => "Execute",
        op::SELECT => "Select",
        op::ABORT => "Abort",
        _ => "an unknown request",
    }
}
