// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! | Module | What |
//! |---|---|
//! | [`record`] | what a packed file says about itself: header, entry `PACK`, and the bounds they must keep |
//! | [`decode`] | the decoder: a page of the image with each call |
//! | `model` | the events of a stream and their probabilities, for both directions |
//! | `table` | how far which part of the image has moved |
//! | `thumb` | branches of the Thumb instruction set |
//! | `coder` | the adaptive binary range coder |
//! | `pack` (feature `std`) | the packer |
//!
//! The format is described in `doc/conformance/packed-format.md` of the repository.
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

#[cfg(any(test, feature = "std"))]
extern crate std;

mod coder;
pub mod decode;
mod model;
#[cfg(feature = "std")]
#[allow(clippy::indexing_slicing)] // The packer reads files of its own user, on a PC.
pub mod pack;
pub mod record;
mod table;
mod thumb;

pub use decode::{DecodeError, Decoder, Source, StreamError};
pub use record::{Method, Pack, PackError, RamRange};

/// Entries of the table of displacements that a decoder has room for, unless its type says otherwise.
pub const TABLE: usize = 96;
