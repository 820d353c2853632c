// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! Every byte that bledfu keeps in flash. No other crate knows where they are.
//!
//! | Module | Owns |
//! |---|---|
//! | [`areas`] | the flash areas of a device, each with its own units |
//! | [`mod@decide`] | what the next boot does, from the trailers and the images |
//! | [`flash`] | unaligned reads and word-aligned RAM on any `NorFlash` |
//! | [`retry`] | after a driver lost a completion: read, and try once more if need be |
//! | [`layout`] | where image, trailer and status records are, for each install algorithm |
//! | [`header`] | the 32-byte image header |
//! | [`tlv`] | the TLV areas after the payload |
//! | [`verify`] | whether an image may be started; [`Slot<Verified>`](verify::Slot) is the proof |
//! | [`trailer`] | the trailer: requests, confirmation, swap state |
//! | [`transform`] | how bytes change between external flash and the primary slot |
//! | [`copy_roles`] | for copy: which external place takes the next update, and which holds the copy of the running image |
//! | [`writer`] | storing an arriving image |
//! | [`evidence`] | what the boot stage remembers in internal flash |
//! | [`journal`] | how far an upload got |
//! | [`crc32`] | the CRC-32 of upload and journal |
//!
//! The formats are MCUboot's. This crate knows where an algorithm keeps things, not its steps: those are in
//! `bledfu-swap`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod areas;
pub mod copy_roles;
pub mod crc32;
pub mod decide;
pub mod evidence;
pub mod flash;
pub mod header;
#[cfg(feature = "journal")]
pub mod journal;
pub mod layout;
pub mod retry;
pub mod tlv;
pub mod trailer;
pub mod transform;
pub mod verify;
pub mod writer;

pub use areas::{Areas, Location, NoFlash};
pub use decide::{outlook, Obstacle, Outlook};
pub use flash::{is_erased, read_bytes, Aligned};
pub use header::{AddressRange, HeaderError, ImageHeader, ImageStart, Version};
pub use layout::{Algorithm, Geometry, Layout, LayoutError, TrailerLayout};
pub use trailer::{confirm, request_permanent, request_test, Flag, Magic, SwapType, Trailer, TrailerError};
pub use transform::{Direction, Plain, Transform};
#[cfg(feature = "soft-crypto")]
pub use verify::SoftCrypto;
pub use verify::{
    verify_image, verify_image_through, verify_image_with_digest, Crypto, Digest, HashAlgorithm, ImageInfo,
    ImagePolicy, Key, Sha256, Signature, SignatureCheck, Slot, StreamDigest, Verified, VerifyError, Written,
};
