// SPDX-License-Identifier: Apache-2.0
//! Why an update over SMP fails.

use super::MAX_ROUNDS;
use bledfu_wire::smp_answer::ServerError;
use core::fmt;

/// Why an update failed. Requests have the names that a user would give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The link was lost, and the client does not reconnect by itself.
    LinkLost,
    /// The device did not answer before the client's timeout.
    Silent(&'static str),
    /// The device refused.
    Refused {
        /// The request.
        request: &'static str,
        /// The reason.
        error: ServerError,
    },
    /// The client does not accept the device's answer.
    OddAnswer(&'static str),
    /// The SHA-256 of the received bytes differs from the announced one.
    WrongDigest,
    /// The device asks for the same offset again and again.
    Stuck {
        /// The offset.
        offset: u32,
    },
    /// A frame that the device accepts has no room for a piece of the image.
    FrameTooSmall,
    /// The device did not close the link after it had answered a reset.
    LinkStaysOpen,
    /// The device was reset again and again, and another image is still being installed or on trial.
    NeverSettles,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkLost => write!(f, "the link was lost"),
            Self::Silent(request) => write!(f, "the device did not answer {request} in time"),
            Self::Refused { request, error } => write!(f, "the device refused {request}: {error}"),
            Self::OddAnswer(request) => write!(f, "the device answered {request} with something else"),
            Self::WrongDigest => write!(f, "the device says that it received other bytes than were sent"),
            Self::Stuck { offset } => write!(f, "the device does not get beyond byte {offset} of the image"),
            Self::FrameTooSmall => write!(f, "a frame of this device has no room for a piece of the image"),
            Self::LinkStaysOpen => write!(f, "the device did not close the link after the reset"),
            Self::NeverSettles => write!(
                f,
                "the device was reset {MAX_ROUNDS} times and is still not ready"
            ),
        }
    }
}

impl core::error::Error for Error {}
