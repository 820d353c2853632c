// SPDX-License-Identifier: Apache-2.0
//! How the bytes of an image change between an external area and the primary slot: not at all, or through a cipher.
//!
//! In external flash an image may have another form than in the primary slot (MCUboot's encrypted images: the payload
//! goes through AES-CTR, header and TLVs do not). The external form is never hashed or started. So the same hook is in
//! the copy between the slots, in the reader that hashes an image in external flash, and in the comparison of pages.
//! Between two external areas, and within the primary slot, bytes are moved unchanged.

/// Which way bytes go, and so which image they belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From external flash into the primary slot: bytes of the image that is installed.
    Inward,
    /// Out of the primary slot: bytes of the image that is replaced.
    Outward,
}

/// Changes bytes on their way. It must work on any part of an image and give the same result each time, because a copy
/// that was cut is begun again.
pub trait Transform {
    /// Changes `bytes`, which start at `offset` in the image, counted from the start of its header. They may extend
    /// from the header into the payload, and beyond the end of the image; bytes that are not payload stay unchanged.
    fn apply(&self, direction: Direction, offset: u32, bytes: &mut [u8]);
}

/// Images have the same form everywhere. The compiler removes this transform completely.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transform for Plain {
    #[inline(always)]
    fn apply(&self, _: Direction, _: u32, _: &mut [u8]) {}
}
