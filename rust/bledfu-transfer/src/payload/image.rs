// SPDX-License-Identifier: Apache-2.0
//! The payload is the image: every received byte is a byte of the slot.

use bledfu_slot::layout::Layout;
use bledfu_slot::verify::{Sha256, StreamDigest};
use bledfu_slot::writer::{SlotWriter, WriteError};
use embedded_storage::nor_flash::NorFlash;

/// Writes received bytes through into the secondary slot. RAM: as [`SlotWriter`].
pub struct Image<H: Sha256> {
    writer: SlotWriter<H>,
}

impl<H: Sha256> Image<H> {
    /// A payload that does not know the slot's content yet.
    pub fn new(layout: Layout, digest: H) -> Self {
        Self {
            writer: SlotWriter::new(layout, digest),
        }
    }

    /// Received bytes of the file that the peer sends.
    pub fn received(&self) -> u32 {
        self.writer.position()
    }

    /// Received bytes that are in flash, were read back, and will not be rolled back.
    pub fn committed(&self) -> u32 {
        self.writer.committed()
    }

    /// Received bytes up to the start of the open object; see [`SlotWriter::mark`].
    pub fn marked(&self) -> u32 {
        self.writer.marked()
    }

    /// Bytes of the image in the slot: all of them when the payload is complete.
    pub fn image_bytes(&self) -> u32 {
        self.writer.committed()
    }

    /// Whether received bytes in flash are not hashed yet; see [`SlotWriter::catch_up`].
    pub fn is_behind(&self) -> bool {
        self.writer.is_behind()
    }

    /// The digests over the received bytes in flash.
    pub fn digest(&self) -> &StreamDigest<H> {
        self.writer.digest()
    }

    /// The writer, for everything that is the same for both counts.
    pub(crate) fn writer(&mut self) -> &mut SlotWriter<H> {
        &mut self.writer
    }

    /// Received bytes from here on that can be written without an erase; see [`SlotWriter::erased_ahead`].
    pub fn erased_ahead(&self) -> u32 {
        self.writer.erased_ahead()
    }

    /// Starts a file of `size` bytes.
    ///
    /// # Errors
    /// As for [`SlotWriter::begin`].
    pub fn begin<E>(&mut self, size: u32, digest: H) -> Result<(), WriteError<E>> {
        self.writer.begin(size, digest)
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// As for [`SlotWriter::accept`].
    pub fn accept<F: NorFlash>(&mut self, slot: &mut F, bytes: &[u8]) -> Result<(), WriteError<F::Error>> {
        self.writer.accept(slot, bytes)
    }
}
