// SPDX-License-Identifier: Apache-2.0
//! The keys that a device trusts.

use bledfu_slot::verify::Key;

use crate::keys::{public_key_only_from_pem, KeyError};

/// The demo keys of `tests/vectors`. Their private halves are public: they protect nothing.
const DEMO_PACKAGE_KEY: &str = include_str!("../../demo/package.pub.pem");
const DEMO_IMAGE_KEY: &str = include_str!("../../demo/image.pub.pem");

/// The trusted keys, and the factory image. They live as long as the process: logic crates borrow keys, and on a device
/// they are constants.
#[derive(Clone, Copy)]
pub struct Keys {
    /// For init packets.
    pub package: &'static [Key],
    /// For images.
    pub image: &'static [Key],
    /// Images that are trusted by their digest.
    pub trusted_digests: &'static [[u8; 32]],
}

impl Keys {
    /// These keys; the factory image is trusted by its digest.
    pub fn new(package: Key, image: Key, trusted_digests: Vec<[u8; 32]>) -> Self {
        Self {
            package: Box::leak(Box::new([package])),
            image: Box::leak(Box::new([image])),
            trusted_digests: trusted_digests.leak(),
        }
    }

    /// The keys of the demo packages.
    pub fn demo() -> Self {
        let [package, image] = demo_keys().unwrap_or_else(|error| unreachable!("embedded key: {error}"));
        Self::new(package, image, Vec::new())
    }
}

/// The public demo keys: for packages, for images.
///
/// # Errors
/// None with the embedded files; it has the error type of an external key.
pub fn demo_keys() -> Result<[Key; 2], KeyError> {
    Ok([
        public_key_only_from_pem("the demo package key", DEMO_PACKAGE_KEY)?,
        public_key_only_from_pem("the demo image key", DEMO_IMAGE_KEY)?,
    ])
}
