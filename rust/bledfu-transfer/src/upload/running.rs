// SPDX-License-Identifier: Apache-2.0
//! The running image.

use bledfu_slot::layout::Layout;
use bledfu_slot::trailer::Trailer;
use bledfu_slot::verify::read_info;
use embedded_storage::nor_flash::ReadNorFlash;

/// The running image, as the application found it at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// First 8 bytes of its digest, by which the journal finds its version number.
    pub digest: [u8; 8],
    /// The version number built into it: the minimum, whatever the journal says.
    pub fw_version: u32,
    /// It is confirmed. While it is not, the secondary slot holds the image to go back to, and updates are refused.
    pub confirmed: bool,
}

impl Running {
    /// Reads the running image from the primary slot. `fw_version` is the built-in version; it counts only if there is
    /// an image, because without one no boot stage has started this. The boot stage has verified the image, so its
    /// header and TLVs are trusted.
    ///
    /// # Errors
    /// When the trailer cannot be read.
    pub fn read<F: ReadNorFlash>(
        primary: &mut F,
        layout: &Layout,
        fw_version: u32,
    ) -> Result<Self, F::Error> {
        let confirmed = Trailer::read(primary, &layout.primary_trailer())?.is_confirmed(layout);
        let image = read_info(primary, 0, layout.primary().slot_size).ok().flatten();
        let (digest, fw_version) = match image {
            Some(image) => (image.digest, fw_version),
            None => ([0; 32], 0),
        };
        Ok(Self {
            digest: digest_prefix(&digest),
            fw_version,
            confirmed,
        })
    }
}

/// The first bytes of a digest, which identify an image.
pub fn digest_prefix(digest: &[u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *digest;
    [a, b, c, d, e, f, g, h]
}
