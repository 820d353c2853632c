// SPDX-License-Identifier: Apache-2.0
//! Why an update cannot be staged, or cannot begin.

use bledfu_slot::decide;
use bledfu_text::{text, words, Line, Text};
/// Why an update could not be staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferError {
    /// Nothing is being received.
    NotReceiving,
    /// The bytes could not be written to the slot.
    Write,
    /// The slot could not be erased for the bytes.
    Erase,
    /// The slot's SHA-256 differs from the announced one.
    WrongHash,
    /// The signature over the file matches none of the package keys, or its type is not supported.
    WrongFileSignature,
    /// This device may not run the image: MCUboot header, TLVs, digest, or signature.
    NotAnImage,
    /// The image is older than the boot stage accepts ([`OldestAccepted`](super::OldestAccepted)).
    Older,
    /// The trailer could not be written.
    NotMarked,
    /// The packed update is for another image than the running one.
    OtherBase,
    /// The image of the packed update runs already.
    Runs,
    /// The slot has no room for the packed update and its image.
    NoRoom,
}

impl Text for TransferError {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::NotReceiving => words!("no transfer is open"),
            Self::Write => words!("the object could not be written to the secondary slot; send it again"),
            Self::Erase => words!("the secondary slot could not be erased for the next bytes; try again"),
            Self::WrongHash => {
                words!("the SHA-256 of the received firmware differs from the one in the init packet")
            }
            Self::WrongFileSignature => words!("the firmware's boot validation signature is wrong"),
            Self::NotAnImage => words!("the received firmware is not a signed image this device may run"),
            Self::Older => words!("the received firmware is older than the oldest one this device accepts"),
            Self::NotMarked => words!("the update could not be marked for installation"),
            Self::OtherBase => {
                words!("the packed update is for another image than the one that runs; send the full image")
            }
            Self::Runs => words!("the image of the packed update is what runs already"),
            Self::NoRoom => {
                words!("the slot has no room for the packed update and its image; send the full image")
            }
        };
        words.put(line);
    }
}

bledfu_text::display!(TransferError);

impl core::error::Error for TransferError {}

/// Why no new image can be received now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The next boot installs the slot's image.
    Staged,
    /// The running image is on trial: the slot holds the image to go back to.
    OnTrial,
    /// The other protocol is receiving one.
    OtherTransfer,
    /// The image of a packed update is being made; a peer was told that it will be installed.
    Expanding,
    /// A stranger began too often, or images were taken back; it may begin again after this time.
    TooSoon {
        /// In ms.
        wait_ms: u64,
    },
    /// No image can be installed over the running one.
    Never(decide::Obstacle),
}

impl Text for Obstacle {
    fn put(&self, line: &mut dyn Line) {
        let words = match self {
            Self::Staged => words!("no new transfer: an update is staged; a reset installs it"),
            Self::OnTrial => words!("no new transfer: the running image is not confirmed, and the slot holds the one to go back to; \
                 confirm it, or reset to go back"),
            Self::OtherTransfer => words!("no new transfer: the other protocol is receiving an image; try again 10 s after its last bytes"),
            Self::Expanding => words!("no new transfer: a packed update is being expanded; it is staged within seconds, and a reset installs it"),
            Self::TooSoon { wait_ms } => {
                let minutes = wait_ms.div_ceil(60_000) as usize;
                return text!("refused for {} min: peers that have not paired began or repeated too much, or images were taken back; \
                     a paired peer or the button of the product need not wait", minutes).put(line);
            }
            Self::Never(reason) => {
                return text!("no update can be installed on this device: {}; program a smaller one", reason).put(line)
            }
        };
        words.put(line);
    }
}

bledfu_text::display!(Obstacle);
