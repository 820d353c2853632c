// SPDX-License-Identifier: Apache-2.0
//! Assembles frames from Bluetooth fragments.

use bledfu_wire::smp::{self, Header};
use heapless::Vec;

/// A frame is dropped if its next fragment does not arrive in this time. Clients wait 2.5 s for an answer, then send
/// another frame.
pub const FRAGMENT_MS: u64 = 2_000;

/// The position of a connection's fragments in a frame. Only the length in a frame's header tells where it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FragmentRun {
    /// Bytes of the current frame that are still missing.
    left: usize,
    /// Length of its first fragment.
    first: usize,
}

impl FragmentRun {
    pub const fn new() -> Self {
        Self { left: 0, first: 0 }
    }

    /// Takes the next fragment; true if it starts a frame. It does when no bytes are missing, and when a whole request
    /// of another length arrives in place of a fragment: the client has given up. Clients cut all fragments of a frame
    /// but the last to one length, so image bytes that look like a request are not taken for one.
    pub fn begins(&mut self, fragment: &[u8]) -> bool {
        let length = fragment.len();
        let head = Header::decode(fragment);
        let is_whole = head.is_some_and(|head| {
            matches!(head.op, smp::op::READ | smp::op::WRITE) && head.frame_length() == length
        });
        let begins = self.left == 0 || (is_whole && length != self.first.min(self.left));
        if begins {
            self.left = head.map_or(0, |head| head.frame_length());
            self.first = length;
        }
        self.left = self.left.saturating_sub(length);
        begins
    }
}

/// Assembles the fragments of one connection. RAM: `N` bytes, the longest frame.
#[derive(Debug)]
pub struct Reassembly<const N: usize> {
    bytes: Vec<u8, N>,
    run: FragmentRun,
    /// The frame is invalid: the rest of it is dropped.
    skips: bool,
    last_ms: u64,
}

impl<const N: usize> Default for Reassembly<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Reassembly<N> {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            run: FragmentRun::new(),
            skips: false,
            last_ms: 0,
        }
    }

    /// The peer has disconnected, or turned notifications off.
    pub fn reset(&mut self) {
        self.bytes.clear();
        self.run = FragmentRun::new();
        self.skips = false;
    }

    /// Takes one fragment; returns the frame when this is the last one. A fragment that fits no frame is dropped
    /// silently, as in Zephyr (`smp_reassembly.c`): the client sends its request again.
    pub fn push(&mut self, fragment: &[u8], now_ms: u64) -> Option<&[u8]> {
        if now_ms.saturating_sub(self.last_ms) > FRAGMENT_MS {
            self.reset();
        }
        self.last_ms = now_ms;
        if self.run.begins(fragment) {
            self.bytes.clear();
            self.skips = Header::decode(fragment).is_none();
        }
        if self.skips {
            return None;
        }
        let collected = self.bytes.extend_from_slice(fragment).is_ok();
        let length = Header::decode(&self.bytes).map_or(0, |head| head.frame_length());
        self.skips = !collected || length > N || self.bytes.len() > length;
        (!self.skips && self.bytes.len() == length).then_some(self.bytes.as_slice())
    }

    /// The frame that [`Reassembly::push`] returned last, until the next fragment.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    /// An echo request with `text` after its header.
    fn frame(text: &[u8]) -> std::vec::Vec<u8> {
        let [high, low] = (text.len() as u16).to_be_bytes();
        let mut bytes = std::vec![0x0A, 0, high, low, 0, 0, 0x42, 0];
        bytes.extend_from_slice(text);
        bytes
    }

    #[test]
    fn fragments_of_every_length_are_assembled() {
        let whole = frame(&[0x5A; 500]);
        for payload in [8, 20, 182, 244, 495, 508] {
            let mut collected = Reassembly::<600>::new();
            let mut fragments = whole.chunks(payload).peekable();
            while let Some(fragment) = fragments.next() {
                let found = collected.push(fragment, 0);
                let expected = fragments.peek().is_none().then_some(whole.as_slice());
                assert_eq!(found, expected, "{payload}");
            }
            assert!(collected.push(&frame(b""), 0).is_some(), "the next one");
        }
    }

    #[test]
    fn a_frame_of_the_maximum_size_is_accepted_and_a_longer_one_is_dropped_whole() {
        let mut collected = Reassembly::<108>::new();
        let largest = frame(&[1; 100]);
        assert_eq!(collected.push(&largest, 0), Some(largest.as_slice()));
        for fragment in frame(&[1; 101]).chunks(20) {
            assert_eq!(collected.push(fragment, 0), None);
        }
        assert_eq!(collected.push(&largest, 0), Some(largest.as_slice()));
    }

    #[test]
    fn a_length_of_65535_does_not_swallow_the_next_frame() {
        let mut collected = Reassembly::<108>::new();
        let mut bad = frame(&[1; 10]);
        bad[2..4].fill(0xFF);
        assert_eq!(collected.push(&bad, 0), None);
        assert!(collected.push(&frame(b"hi"), 0).is_some());
    }

    #[test]
    fn a_fragment_beyond_the_end_drops_the_frame_and_a_short_one_is_ignored() {
        let mut collected = Reassembly::<108>::new();
        let mut bad = frame(&[1; 30]);
        bad[3] = 10;
        assert_eq!(collected.push(&bad, 0), None, "longer than it says");
        assert_eq!(collected.push(&bad[..12], 0), None, "two of eighteen bytes");
        assert_eq!(collected.push(&[0; 20], 0), None, "and four too many");
        assert_eq!(collected.push(&[0x0A, 0, 0], 0), None, "no whole header");
        assert!(collected.push(&frame(b"hi"), 0).is_some());
    }

    #[test]
    fn an_unfinished_frame_is_dropped_after_two_seconds_and_at_a_disconnect() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        assert_eq!(collected.push(&whole[..200], 0), None);
        assert_eq!(collected.push(&whole[..200], 2_001), None);
        assert_eq!(collected.push(&whole[200..], 4_001), Some(whole.as_slice()));
        assert_eq!(collected.push(&whole[..200], 4_002), None);
        collected.reset();
        assert_eq!(collected.push(&whole, 4_003), Some(whole.as_slice()));
    }

    #[test]
    fn after_two_seconds_even_a_frame_of_65535_bytes_is_forgotten() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        let mut bad = whole.clone();
        bad[2..4].fill(0xFF);
        assert_eq!(collected.push(&bad[..100], 0), None);
        assert_eq!(collected.push(&whole[..100], 2_001), None);
        assert_eq!(collected.push(&whole[100..200], 2_002), None);
        assert_eq!(collected.push(&whole[200..], 2_003), Some(whole.as_slice()));
    }

    #[test]
    fn a_whole_request_in_the_middle_of_a_frame_is_taken_and_the_frame_dropped() {
        let mut collected = Reassembly::<600>::new();
        let whole = frame(&[7; 300]);
        assert_eq!(collected.push(&whole[..100], 0), None);
        let next = frame(b"hi");
        assert_eq!(collected.push(&next, 1), Some(next.as_slice()));
        assert_eq!(collected.push(&whole[..200], 2), None);
        assert_eq!(collected.push(&whole[200..], 3), Some(whole.as_slice()));
    }

    #[test]
    fn image_bytes_that_look_like_a_whole_request_stay_in_their_frame() {
        let mut whole = frame(&[7; 300]);
        let looks_like_one = frame(&[1; 92]);
        whole[100..200].copy_from_slice(&looks_like_one);
        whole[208..308].copy_from_slice(&looks_like_one);
        let mut collected = Reassembly::<600>::new();
        assert_eq!(collected.push(&whole[..100], 0), None);
        assert_eq!(collected.push(&whole[100..200], 0), None);
        assert_eq!(collected.push(&whole[200..300], 0), None);
        assert_eq!(collected.push(&whole[300..], 0), Some(whole.as_slice()));
    }
}
