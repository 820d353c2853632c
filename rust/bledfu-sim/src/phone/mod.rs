// SPDX-License-Identifier: Apache-2.0
//! The other end: phones and tools, as a device sees them.
//!
//! The clients themselves are in `bledfu-client`; a phone here is a value of their settings. [`world`](crate::world)
//! runs them in virtual time; [`secure_dfu::Client`] runs one on any [`DfuLink`].

pub mod secure_dfu;
pub mod smp;

use bledfu_client::secure_dfu::{request_name, Error as DfuError};
use bledfu_client::smp::Error as SmpError;
use bledfu_client::{Progress, Stage};
use bledfu_wire::secure_dfu::ResultCode;
use bledfu_wire::smp_answer::ServerError;

/// Times of one session, in ns on the link's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Image bytes that the device held already.
    pub resumed_at: u32,
    /// The session (over SMP: the upload) began.
    pub started_ns: u64,
    /// Everything was received: the last Execute was sent, or the last piece answered.
    pub received_ns: u64,
    /// Everything was verified: the last Execute was answered, or the image marked.
    pub verified_ns: u64,
}

impl Session {
    /// Records the progress of a client since the last call, when it was at `before`.
    pub(crate) fn note(&mut self, before: Progress, now: Progress, now_ns: u64) {
        if now.stage > Stage::Preparing {
            self.resumed_at = now.resumed_at;
        }
        if now.stage >= Stage::Sent && before.stage < Stage::Sent && before.stage > Stage::Preparing {
            self.received_ns = now_ns;
        }
        if now.stage == Stage::Verified && before.stage < Stage::Verified {
            self.verified_ns = now_ns;
        }
    }
}

/// The link as a client's library sees it.
pub trait DfuLink {
    /// Maximum number of bytes in a packet.
    fn payload(&self) -> usize;

    /// Writes to the control point.
    ///
    /// # Errors
    /// [`PhoneError::LinkLost`].
    fn control(&mut self, request: &[u8]) -> Result<(), PhoneError>;

    /// Writes a packet of image or init packet; returns when the phone's stack has accepted it.
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
    /// The device did not answer before the client's timeout.
    #[error("the device did not answer {name} in time", name = request_name(*.0))]
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
    /// The device reports other bytes than were sent, after every attempt of this client.
    #[error("the device holds other bytes than were sent (offset {offset})")]
    BytesLost {
        /// What the device reported.
        offset: u32,
    },
    /// Another failure of a Secure DFU client.
    #[error(transparent)]
    SecureDfu(DfuError),
    /// The device refused an SMP request.
    #[error("the device refused {request}: {error}")]
    SmpRefused {
        /// What was asked.
        request: &'static str,
        /// Why.
        error: ServerError,
    },
    /// Another failure of an SMP client.
    #[error(transparent)]
    Smp(SmpError),
    /// The file has no MCUboot header, or no digest after it.
    #[error("the file is not an image for MCUboot; sign it with imgtool first")]
    NotAnImage,
}

impl PhoneError {
    /// Whether the user would simply try again.
    pub(crate) fn is_of_the_link(self) -> bool {
        matches!(self, Self::LinkLost | Self::Smp(SmpError::Silent(_)))
    }
}

impl From<DfuError> for PhoneError {
    fn from(error: DfuError) -> Self {
        match error {
            DfuError::LinkLost => Self::LinkLost,
            DfuError::NoAnswer(opcode) => Self::NoAnswer(opcode),
            DfuError::Refused { opcode, code } => Self::Refused { opcode, code },
            DfuError::Unexpected(opcode) => Self::Unexpected(opcode),
            DfuError::BytesLost { offset } => Self::BytesLost { offset },
            other => Self::SecureDfu(other),
        }
    }
}

impl From<SmpError> for PhoneError {
    fn from(error: SmpError) -> Self {
        match error {
            SmpError::LinkLost => Self::LinkLost,
            SmpError::Refused { request, error } => Self::SmpRefused { request, error },
            other => Self::Smp(other),
        }
    }
}
