// SPDX-License-Identifier: Apache-2.0
//! What `send` asks of a transport, and what SMP's transports without links share.

use std::time::Duration;

use bledfu_client::Characteristic;
use bledfu_wire::smp::{Header, HEADER_SIZE};

use crate::update::Protocol;

/// Why a transport failed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no such device now; it may be there later.
    #[error("{0}")]
    NotFound(String),
    /// The link was there and is gone.
    #[error("the link was lost: {0}")]
    Lost(String),
    /// It would fail in the same way the next time.
    #[error("{0}")]
    Unusable(String),
}

impl LinkError {
    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        !matches!(self, Self::Unusable(_))
    }
}

/// What an open link offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The protocols, the preferred one first.
    pub protocols: Vec<Protocol>,
    /// The device in words: its port or address, and its name.
    pub device: String,
    /// Secure DFU is offered by a bootloader that the device must enter first.
    pub enters_bootloader: bool,
}

/// A way to a device. Calls block, each with a limit.
pub trait Transport {
    /// Opens the link, and asks the device what it offers. `expected` is the protocol in use, if one is chosen already.
    ///
    /// # Errors
    /// [`LinkError`]
    fn open(&mut self, expected: Option<Protocol>) -> Result<Offer, LinkError>;

    /// Chooses a protocol that the device offers. Returns the number of bytes that one write carries.
    ///
    /// # Errors
    /// [`LinkError`]
    fn choose(&mut self, protocol: Protocol) -> Result<usize, LinkError>;

    /// Writes one value. Returns when the system has taken it.
    ///
    /// # Errors
    /// [`LinkError`]
    fn write(&mut self, to: Characteristic, bytes: &[u8]) -> Result<(), LinkError>;

    /// The next notification of the chosen protocol; `None` if none arrives within `patience`.
    ///
    /// # Errors
    /// [`LinkError`]
    fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, LinkError>;

    /// Closes the link, if it is open.
    fn close(&mut self);

    /// The device can close the link. Otherwise nobody notices that it resets.
    fn has_links(&self) -> bool;

    /// Limits of the transport on requests of SMP.
    fn smp_limits(&self) -> SmpLimits;

    /// The version that the device itself names as the running one, where the protocol in use cannot: the firmware revision
    /// of the Device Information Service.
    fn told_version(&mut self) -> Option<String> {
        None
    }
}

/// Limits of a transport on requests of SMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmpLimits {
    /// Longest frame in bytes, whatever the device accepts.
    pub frame_size: usize,
    /// Upload requests in flight, by default.
    pub window: u8,
    /// Bytes that the transport adds in the device's buffer.
    pub frame_margin: u8,
}

/// Collects the fragments that a client writes until they are a whole frame of SMP: for transports that carry only whole
/// ones.
#[derive(Debug, Default)]
pub struct Frames(Vec<u8>);

impl Frames {
    /// Adds a fragment; `Some` when the frame is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let length = Header::decode(&self.0)?.frame_length();
        (self.0.len() >= length).then(|| std::mem::take(&mut self.0))
    }

    /// Forgets a frame that was begun.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A request for the parameters of the transport: every server answers it, if only with a refusal, and it changes nothing.
pub const PROBE: [u8; HEADER_SIZE + 1] = [0x08, 0, 0, 1, 0, 0, 0xFE, 6, 0xA0];

/// Whether this frame is the answer to [`PROBE`].
pub fn answers_probe(frame: &[u8]) -> bool {
    Header::decode(frame)
        .zip(Header::decode(&PROBE))
        .is_some_and(|(answer, probe)| {
            (answer.group, answer.command, answer.sequence) == (probe.group, probe.command, probe.sequence)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_joined_to_frames() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(&PROBE[..3]), None);
        assert_eq!(frames.push(&PROBE[3..8]), None);
        assert_eq!(frames.push(&PROBE[8..]), Some(PROBE.to_vec()));
        assert_eq!(frames.push(&PROBE), Some(PROBE.to_vec()));
    }

    #[test]
    fn a_refusal_of_the_probe_counts_as_an_answer_and_another_answer_does_not() {
        assert!(answers_probe(b"\x09\0\0\x05\0\0\xfe\x06\xa1\x62rc\x08"));
        assert!(answers_probe(b"\x01\0\0\x05\0\0\xfe\x06\xa1\x62rc\x08"));
        assert!(!answers_probe(b"\x09\0\0\x05\0\0\xfd\x06\xa1\x62rc\x08"));
        assert!(!answers_probe(b"\x09\0"));
    }
}
