// SPDX-License-Identifier: Apache-2.0
//! One encoded message.

use super::MAX_REPLY;

/// The bytes of one encoded message, at most [`MAX_REPLY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; MAX_REPLY],
    len: usize,
}

impl Encoded {
    /// The message.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    // The longest message and the buffer have the same length, so nothing is ever cut here.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    pub(super) fn push_u32(&mut self, value: u32) {
        self.extend(&value.to_le_bytes());
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.push(byte);
        }
    }
}
