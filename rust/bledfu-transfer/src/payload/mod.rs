// SPDX-License-Identifier: Apache-2.0
//! Where received bytes go.
//!
//! Bytes received and bytes of the image are two numbers: a payload may be the image itself ([`Image`]), written
//! straight into the slot, or later something from which the image is made. [`Upload`](crate::upload::Upload) only
//! counts received bytes; the payload decides what is in the slot.

pub mod image;
#[cfg(feature = "packed")]
pub mod packed;

pub use image::Image;
