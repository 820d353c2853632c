// SPDX-License-Identifier: Apache-2.0
//! Why an update over SMP fails.

use super::MAX_ROUNDS;
use bledfu_wire::smp_answer::ServerError;
use core::fmt;

/// Why an update has failed. Requests are called what their user would call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The link was lost, and the client does not connect again by itself.
    LinkLost,
    /// The device did not answer for as long as this client waits.
    Silent(&'static str),
    /// The device refused.
    Refused {
        /// What was asked.
        request: &'static str,
        /// Why.
        error: ServerError,
    },
    /// The device answered with what this client does not take.
    OddAnswer(&'static str),
    /// The SHA-256 over what the device has received is another.
    WrongDigest,
    /// The device asks for the same byte again and again.
    Stuck {
        /// Which byte.
        offset: u32,
    },
    /// A frame as the device takes it has no room for a piece of the image.
    FrameTooSmall,
    /// The device did not close the link after it had answered a reset.
    LinkStaysOpen,
    /// The device was reset again and again and still has something to do first.
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
            Self::NeverSettles => write!(f, "the device was reset {MAX_ROUNDS} times and is not ready"),
        }
    }
}

impl core::error::Error for Error {}
