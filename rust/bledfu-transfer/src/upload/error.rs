// SPDX-License-Identifier: Apache-2.0
//! Why an update cannot be staged, or cannot begin.

use bledfu_slot::decide;
use core::fmt;

/// Why an update could not be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Nothing is being received.
    NotReceiving,
    /// The bytes could not be written to the slot.
    Write,
    /// The slot could not be erased for them.
    Erase,
    /// What is in the slot has another SHA-256 than was announced.
    WrongHash,
    /// The signature over the file is of none of the package keys, or of a kind this device does not know.
    WrongFileSignature,
    /// It is no image this device may run: MCUboot header, TLVs, digest, or signature.
    NotAnImage,
    /// It is older than the boot stage takes ([`Floor`](super::Floor)).
    Older,
    /// The trailer could not be written.
    NotMarked,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReceiving => "no transfer is open",
            Self::Write => "the object could not be written to the secondary slot; send it again",
            Self::Erase => "the secondary slot could not be erased for the next bytes; try again",
            Self::WrongHash => {
                "the received firmware is not the one the init packet announces (SHA-256 differs)"
            }
            Self::WrongFileSignature => "the firmware's boot validation signature is wrong",
            Self::NotAnImage => "the received firmware is not a signed image this device may run",
            Self::Older => "the received firmware is older than the oldest one that this device still starts",
            Self::NotMarked => "the update could not be marked for installation",
        })
    }
}

impl core::error::Error for TransferError {}

/// Why no new image can be received now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The next boot installs what is in the slot.
    Staged,
    /// The running image is on trial: the slot holds the one to go back to.
    OnTrial,
    /// The other protocol is receiving one.
    OtherTransfer,
    /// A stranger has begun too often, or images were taken back; it may begin again after so many ms.
    TooSoon {
        /// In ms.
        wait_ms: u64,
    },
    /// No image can be installed over the one that runs.
    Never(decide::Obstacle),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Staged => "no new transfer: an update is staged; a reset installs it",
            Self::OnTrial => {
                "no new transfer: the running image is not confirmed, and the slot holds the one to go back to; \
                 confirm it, or reset to go back"
            }
            Self::OtherTransfer => {
                "no new transfer: the other protocol is receiving an image; it may be taken over 10 s after its last bytes"
            }
            Self::TooSoon { wait_ms } => {
                let minutes = wait_ms.div_ceil(60_000);
                return write!(
                    f,
                    "refused for {minutes} min: peers that have not paired began or repeated too much, or images were taken back; \
                     a paired peer or the button of the product need not wait"
                );
            }
            Self::Never(reason) => {
                return write!(f, "no update can be installed on this device: {reason}; program a smaller one")
            }
        })
    }
}
