// SPDX-License-Identifier: Apache-2.0
//! The embedded demo packages, made by the real nrfutil around images signed by the real imgtool (`tests/vectors`, to
//! which `demo/` links so that they are part of the published crate).
//! Their images have the size of the case from which this project started: 475,384 bytes.

use bledfu_patch::pack::Options;
use bledfu_patch::RamRange;
use bledfu_slot::Version;
use sha2::{Digest, Sha256};

use crate::device::{Keys, PRIMARY_START};
use crate::init_packet::InitFields;
use crate::keys::SigningKey;
use crate::make::{ImageSpec, DEFAULT_HEADER_SIZE};
use crate::package::{Package, PackageError, Part};
use crate::packed::{self, PackedError};
use crate::program::{Program, RAM};

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

/// Two releases that differ as releases do: functions were added, others have grown, constants have changed, and everything
/// behind them has moved.
pub struct Releases {
    /// The keys of the device; their private halves are in this file, and protect nothing.
    pub keys: Keys,
    /// Version 1.0.0: what runs.
    pub old: Vec<u8>,
    /// The package of 2.0.0 as a whole.
    pub full: Package,
    /// The package of the packed update from 1.0.0 to 2.0.0.
    pub small: Package,
}

/// Functions of the program of the demo, for an image of the size of the others.
const FUNCTIONS: u32 = 5_420;

/// Makes the releases; with fewer functions they are smaller, by 87 bytes each.
///
/// # Errors
/// None with these images; it has the error type of the packer.
pub fn releases(functions: Option<u32>) -> Result<Releases, PackedError> {
    let functions = functions.unwrap_or(FUNCTIONS);
    let key = |number: u8| {
        SigningKey::from_scalar(&[number; 32]).unwrap_or_else(|| unreachable!("a number below the order"))
    };
    let (image_key, package_key) = (key(0x33), key(0x44));
    let at = |part: u32| (functions / 16 * part) as usize;
    let old = Program::new(7, functions);
    let mut new = old.clone();
    for part in 1..15 {
        match part % 3 {
            0 => new.add_function(at(part), part.into()),
            1 => new.grow(at(part), 3 + part as usize),
            _ => {}
        }
    }
    new.change_constant();
    let image = |major: u8, program: &Program| {
        let version = Version {
            major,
            minor: 0,
            revision: 0,
            build: 0,
        };
        let payload = program.link(PRIMARY_START + u32::from(DEFAULT_HEADER_SIZE));
        ImageSpec::new(version, payload, &image_key).build()
    };
    let (old, new) = (image(1, &old), image(2, &new));
    let options = Options {
        base_addr: PRIMARY_START,
        ram: RamRange {
            start: RAM.0,
            len: RAM.1,
        },
        ..Options::default()
    };
    let packed = packed::spec(Some(&old), &new, &options, &image_key)?.build();
    let package = |firmware: Vec<u8>| {
        let sha256: [u8; 32] = Sha256::digest(&firmware).into();
        let fields = InitFields::application(2, 52, &[0], firmware.len() as u32, &sha256);
        Package {
            application: Part {
                init: fields.signed(&package_key),
                firmware,
                dat_file: "app.dat".into(),
                bin_file: "app.bin".into(),
            },
            system: None,
        }
    };
    Ok(Releases {
        keys: Keys::new(package_key.public(), image_key.public(), Vec::new()),
        old,
        full: package(new),
        small: package(packed),
    })
}
