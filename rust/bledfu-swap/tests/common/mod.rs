// SPDX-License-Identifier: Apache-2.0
//! What the test programs of the boot stage share: areas, policies, and one boot.
#![allow(dead_code)] // each test program uses its part

pub mod campaign;

use bledfu_slot::{Geometry, ImagePolicy, Key, Layout, SoftCrypto};
use bledfu_swap::{boot, BootConfig, BootError, BootReport, Downgrade, NoEvidence};
use bledfu_testkit::SECTOR;
use embedded_storage::nor_flash::NorFlash;

pub type BootResult = Result<BootReport, BootError>;

/// An area of this many 4 KiB sectors with write units of 4 bytes.
pub fn geometry(sectors: usize) -> Geometry {
    Geometry {
        slot_size: (sectors * SECTOR) as u32,
        sector_size: SECTOR as u32,
        write_size: 4,
    }
}

/// Accepts images that one of these keys signed.
pub fn signed_by(keys: &[Key]) -> ImagePolicy<'_> {
    ImagePolicy {
        keys,
        trusted_digests: &[],
        unsigned: false,
        address: None,
    }
}

/// Accepts images by digest, so that campaigns need not check thousands of signatures.
pub fn trusted(digests: &[[u8; 32]]) -> ImagePolicy<'_> {
    ImagePolicy {
        keys: &[],
        trusted_digests: digests,
        unsigned: false,
        address: None,
    }
}

/// A boot stage that allows downgrades and checks the primary at every boot.
pub fn config(layout: Layout, policy: ImagePolicy<'_>) -> BootConfig<'_> {
    BootConfig {
        layout,
        policy,
        downgrade: Downgrade::Allowed,
        verify_primary: true,
    }
}

/// One boot without a watch.
pub fn boot_once(
    primary: &mut impl NorFlash,
    secondary: &mut impl NorFlash,
    spare: &mut impl NorFlash,
    config: &BootConfig<'_>,
) -> BootResult {
    boot(
        primary,
        secondary,
        spare,
        config,
        &SoftCrypto,
        &mut NoEvidence,
        &mut |_| {},
    )
}
