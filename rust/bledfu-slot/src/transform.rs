// SPDX-License-Identifier: Apache-2.0
//! What happens to the bytes of an image between an area outside and the primary slot: nothing, or what a cipher does.
//!
//! An image may be stored in another form outside than it has in the primary slot (MCUboot's encrypted images: the payload
//! goes through AES-CTR, header and TLVs do not). The form outside is never the one that is hashed, or started. So the
//! same hook stands in the copy between the slots, in the reader that hashes an image outside, and in the comparison of
//! pages. Between two areas outside, and within the primary slot, bytes are moved as they are.

/// Which way bytes go, and so which image they are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From outside into the primary slot: bytes of the image that comes.
    Inward,
    /// Out of the primary slot: bytes of the image that goes.
    Outward,
}

/// The change of bytes on their way. It must work on any part of an image, and give the same bytes each time: a cut copy is
/// begun again.
pub trait Transform {
    /// Changes `bytes`, which are those at `offset` of the image, counted from the start of its header. They may reach from the
    /// header into the payload, and behind the end of the image; what is not payload stays as it is.
    fn apply(&self, direction: Direction, offset: u32, bytes: &mut [u8]);
}

/// Images have one form everywhere. No code remains of this one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Transform for Plain {
    #[inline(always)]
    fn apply(&self, _: Direction, _: u32, _: &mut [u8]) {}
}
