// SPDX-License-Identifier: Apache-2.0
//! The files in the folder of a device of `bledfu serve`: their names, and what is in the small ones.

use anyhow::{Context, Result};
use bledfu_sim::device::Setup;
use bledfu_slot::decide::Downgrade;
use bledfu_slot::Algorithm;
use serde::{Deserialize, Serialize};

/// The processor's flash.
pub const INTERNAL: &str = "internal.bin";
/// The external flash.
pub const EXTERNAL: &str = "external.bin";
/// Parameters of the last `bledfu serve`: [`Settings`] as JSON.
pub const SETTINGS: &str = "device.json";
/// The digest of the factory image, in hexadecimal.
pub const RECORD: &str = "factory.sha256";

/// Which images may not replace the running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prevent {
    /// Everything may be installed.
    None,
    /// No lower version.
    Version,
    /// No lower security counter.
    SecurityCounter,
}

impl From<Prevent> for Downgrade {
    fn from(prevent: Prevent) -> Self {
        match prevent {
            Prevent::None => Self::Allowed,
            Prevent::Version => Self::ByVersion,
            Prevent::SecurityCounter => Self::BySecurityCounter,
        }
    }
}

impl From<Downgrade> for Prevent {
    fn from(downgrade: Downgrade) -> Self {
        match downgrade {
            Downgrade::Allowed => Self::None,
            Downgrade::ByVersion => Self::Version,
            Downgrade::BySecurityCounter => Self::SecurityCounter,
        }
    }
}

/// What cannot be read from the flashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Name of the processor's flash.
    pub internal: String,
    /// Its write unit in bytes.
    pub write_unit: u32,
    /// Name of the external flash part.
    pub part: String,
    /// How the boot stage installs.
    pub install: String,
    /// Size of each slot in bytes.
    pub slot_size: u32,
    /// Which images may not replace the running one; a folder without this has no trust area either.
    pub prevent_downgrade: Option<Prevent>,
}

impl Settings {
    /// Those of a device with this setup.
    pub fn of(setup: &Setup) -> Self {
        Self {
            internal: setup.internal.name.to_owned(),
            write_unit: setup.write_unit,
            part: setup.part.name.to_owned(),
            install: setup.algorithm.as_str().to_owned(),
            slot_size: setup.slot_size,
            prevent_downgrade: setup.has_trust_area.then(|| setup.downgrade.into()),
        }
    }

    /// How the boot stage installs.
    ///
    /// # Errors
    /// A sentence, if there is no such algorithm.
    pub fn algorithm(&self) -> Result<Algorithm> {
        let found = Algorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == self.install);
        found.with_context(|| format!("{SETTINGS} names an unknown install algorithm"))
    }
}

/// The digest in a [`RECORD`].
pub fn read_digest(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}
