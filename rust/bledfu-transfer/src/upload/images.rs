// SPDX-License-Identifier: Apache-2.0
//! The images in the slots, as a peer asks about them.

use super::Upload;
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::crc32;
use bledfu_slot::decide::Outlook;
use bledfu_slot::flash::Aligned;
use bledfu_slot::read_bytes;
use bledfu_slot::verify::{read_info, Crypto, ImageInfo, Sha256};
use embedded_storage::nor_flash::ReadNorFlash;

/// Packages are padded to a multiple of this many bytes: nrfutil does it, and Android requires it.
const PACKAGE_WORD: u32 = 4;

/// An image that a peer need not send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// CRC-32 of the file.
    pub crc: u32,
    /// It waits for the next boot; otherwise it is running.
    pub is_staged: bool,
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Whether a file of `size` bytes with this SHA-256 is running already, or waits for the next boot. A file may be longer
    /// than its image: packages are padded with FF to words, as the flash behind the image is.
    ///
    /// A higher `fw_version` than the running one is another release. Nothing is hashed for it: that would take half a second.
    #[inline(never)]
    pub fn find(&mut self, size: u32, sha256: &[u8; 32], fw_version: u32) -> Option<Present> {
        let packed = self.find_packed(size, sha256);
        if packed.is_some() {
            return packed;
        }
        let layout = self.setup.layout;
        let running = read_info(&mut self.primary(), 0, layout.primary().slot_size);
        let is_padded = |total: u32| matches!(size.checked_sub(total), Some(0..PACKAGE_WORD));
        let may_run = matches!(running, Ok(Some(info)) if is_padded(info.total_size));
        if may_run && fw_version <= self.running_version() {
            let hash = self.crypto.sha256();
            let (digest, crc) = sum(&mut self.primary(), (0, size), hash)?;
            if digest == *sha256 {
                let is_staged = false;
                return Some(Present { crc, is_staged });
            }
        }
        let waits = self.is_staged() || matches!(self.outlook(), Outlook::Install(_));
        if !waits || size > self.limit() {
            return None;
        }
        let hash = self.crypto.sha256();
        let (digest, crc) = sum(&mut self.secondary(), (layout.upload_offset(), size), hash)?;
        let is_staged = true;
        (digest == *sha256).then_some(Present { crc, is_staged })
    }

    /// What the image in the primary slot says about itself, unverified; `None` when there is none.
    #[inline(never)]
    pub fn primary_image(&mut self) -> Option<ImageInfo> {
        let size = self.setup.layout.primary().slot_size;
        read_info(&mut self.primary(), 0, size).ok().flatten()
    }

    /// What the image in the secondary slot says about itself, unverified; `None` when there is none. `outlook` is the
    /// result of [`Upload::outlook`].
    ///
    /// Swap using offset leaves the previous image at the start of the slot, and stores an update one sector after it.
    /// The previous image counts only while the device can still go back to it: later it cannot be requested, and a
    /// client that finds it in a list would not send it (Zephyr `boot_get_image_start_offset`).
    #[inline(never)]
    pub fn secondary_image(&mut self, outlook: Outlook) -> Option<ImageInfo> {
        let size = self.setup.layout.secondary().slot_size;
        let start = match outlook {
            Outlook::Revert => 0,
            _ => self.setup.layout.upload_offset(),
        };
        read_info(&mut self.secondary(), start, size).ok().flatten()
    }
}

/// SHA-256 and CRC-32 of `length` bytes from `start`; `None` if they cannot be read.
fn sum<F: ReadNorFlash, H: Sha256>(
    flash: &mut F,
    (start, length): (u32, u32),
    mut hash: H,
) -> Option<([u8; 32], u32)> {
    let mut crc = crc32();
    let mut chunk = Aligned([0; 256]);
    let mut at = 0;
    while at < length {
        let part = chunk.0.get_mut(..(length - at).min(256) as usize)?;
        read_bytes(flash, start.checked_add(at)?, part).ok()?;
        hash.update(part);
        crc.update(part);
        at += part.len() as u32;
    }
    Some((hash.finish(), crc.finalize()))
}
