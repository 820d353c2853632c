// SPDX-License-Identifier: Apache-2.0
//! The digests of a file and of the image in it, computed while the bytes arrive.

use super::{Digest, Sha256};
use crate::header::{ImageHeader, ImageStart};

/// Digests of a file and of the image in it, computed in one pass while the bytes arrive in order.
///
/// The first 32 bytes say where the hashed part of the image ends; the running hash is forked there. A clone is a
/// snapshot to which the caller can roll back.
#[derive(Clone, Debug)]
pub struct StreamDigest<H: Sha256> {
    file: H,
    start: ImageStart,
    position: u32,
    /// Where the image digest is taken. `u32::MAX`, which no file reaches, until the header is known, or if it is not a
    /// valid one.
    fork_at: u32,
    image: Option<Digest>,
}

impl<H: Sha256> StreamDigest<H> {
    /// Starts at position 0 with a fresh hash.
    pub fn new(hash: H) -> Self {
        Self {
            file: hash,
            start: ImageStart::new(),
            position: 0,
            fork_at: u32::MAX,
            image: None,
        }
    }

    /// Appends the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = self.position as usize;
            // Stop where there is something to do: after the header, and at the fork.
            let stop = if at < ImageHeader::SIZE {
                ImageHeader::SIZE
            } else {
                self.fork_at as usize
            };
            let length = match stop.checked_sub(at) {
                Some(room) if room > 0 => room.min(rest.len()),
                _ => rest.len(),
            };
            let (now, later) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            self.start.update(now);
            self.file.update(now);
            self.position = self.position.saturating_add(now.len() as u32);
            rest = later;
            if self.position as usize == ImageHeader::SIZE {
                self.fork_at = self
                    .start
                    .header()
                    .and_then(|header| header.hashed_size())
                    .unwrap_or(u32::MAX);
            }
            if self.position == self.fork_at && self.image.is_none() {
                self.image = Some(self.file.clone().finish());
            }
        }
    }

    /// Number of bytes so far.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// What the first bytes of the image say.
    pub fn start(&self) -> &ImageStart {
        &self.start
    }

    /// SHA-256 of all bytes so far.
    pub fn file_digest(&self) -> Digest {
        self.file.clone().finish()
    }

    /// SHA-256 of header, payload and protected TLVs, once all of them have passed.
    pub fn image_digest(&self) -> Option<Digest> {
        self.image
    }
}
