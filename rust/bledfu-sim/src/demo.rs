// SPDX-License-Identifier: Apache-2.0
//! The embedded demo packages, made by the real nrfutil around images signed by the real imgtool (`tests/vectors`, to
//! which `demo/` links so that they are part of the published crate).
//! Their images have the size of the case from which this project started: 475,384 bytes.

use crate::package::{Package, PackageError};

/// Image 1.0.0: the image of a new device.
const FACTORY: &[u8] = include_bytes!("../demo/demo-1.0.0.zip");
/// Image 2.0.0: the update.
const UPDATE: &[u8] = include_bytes!("../demo/demo-2.0.0.zip");

/// The image that the factory programs.
///
/// # Errors
/// None with the embedded file; it has the error type of an external package.
pub fn factory_image() -> Result<Vec<u8>, PackageError> {
    Ok(Package::read(FACTORY)?.application.firmware)
}

/// The demo update.
///
/// # Errors
/// Those of [`factory_image`].
pub fn update_package() -> Result<Package, PackageError> {
    Package::read(UPDATE)
}
