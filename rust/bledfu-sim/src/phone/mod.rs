// SPDX-License-Identifier: Apache-2.0
//! The other end: what phones and tools do, as far as a device can see it.
//!
//! A phone is straight-line code on a [`DfuLink`] or [`smp::SmpLink`]: it sends, waits for answers, and returns when it is done
//! or the link is gone. Who implements the link decides what time is: the world runs it in virtual time.

pub mod secure_dfu;
pub mod smp;

use bledfu_wire::secure_dfu::{op, ResultCode};
use bledfu_wire::smp::Failure;

/// Times of one session, in ns on the link's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Image bytes the device already had.
    pub resumed_at: u32,
    /// The session began; with SMP, the upload.
    pub started_ns: u64,
    /// The last Execute was sent, or the last piece answered: everything is received.
    pub received_ns: u64,
    /// The last Execute was answered, or the image marked: everything is verified.
    pub verified_ns: u64,
}

/// The link as a client's library sees it.
pub trait DfuLink {
    /// Bytes one packet may carry.
    fn payload(&self) -> usize;

    /// Writes to the control point.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn control(&mut self, request: &[u8]) -> Result<(), PhoneError>;

    /// Writes a packet of image or init packet; returns when the phone's stack has taken it.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn packet(&mut self, bytes: &[u8]) -> Result<(), PhoneError>;

    /// The next notification.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`], [`PhoneError::NoAnswer`] when none comes within a minute.
    fn notification(&mut self) -> Result<Vec<u8>, PhoneError>;

    /// Lets time pass.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn wait_ms(&mut self, ms: u64) -> Result<(), PhoneError>;

    /// Time in ns, for reports.
    fn now_ns(&self) -> u64;
}

/// Why the phone stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhoneError {
    /// The link is gone: dropped, or the device lost power.
    #[error("the link was lost")]
    LinkLost,
    /// The device did not answer within a minute.
    #[error("the device did not answer {name} within a minute", name = request_name(*.0))]
    NoAnswer(u8),
    /// The device refused.
    #[error("the device refused {name}: {code}", name = request_name(*opcode))]
    Refused {
        /// The request.
        opcode: u8,
        /// Why.
        code: ResultCode,
    },
    /// The device answered something else.
    #[error("the device answered {name} with something else", name = request_name(*.0))]
    Unexpected(u8),
    /// The device did not answer an SMP request for as long as this client waits.
    #[error("the device did not answer {0} in time")]
    Silent(&'static str),
    /// The device refused an SMP request.
    #[error("the device refused {request}: {failure}")]
    SmpRefused {
        /// What was asked.
        request: &'static str,
        /// Why.
        failure: Failure,
    },
    /// The device answered an SMP request with what this client does not take.
    #[error("the device answered {0} with something else")]
    OddAnswer(&'static str),
    /// The SHA-256 over what the device has received is another.
    #[error("the device says that it received other bytes than were sent")]
    WrongDigest,
    /// The device asks for the same byte again and again.
    #[error("the device does not get beyond byte {offset} of the image")]
    Stuck {
        /// Which byte.
        offset: u32,
    },
    /// The file has no MCUboot header or no digest behind it.
    #[error("the file is not an image for MCUboot; sign it with imgtool first")]
    NotAnImage,
    /// The device reports other bytes than were sent, three times.
    #[error("the device holds other bytes than were sent (offset {offset}), three times")]
    BytesLost {
        /// What the device reported.
        offset: u32,
    },
}

/// What the specification calls a request.
fn request_name(opcode: u8) -> &'static str {
    match opcode {
        op::CREATE => "Create",
        op::SET_RECEIPTS => "Set packet receipts",
        op::CHECKSUM => "Checksum",
        op::EXECUTE => "Execute",
        op::SELECT => "Select",
        _ => "an unexpected request",
    }
}
