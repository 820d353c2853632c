// SPDX-License-Identifier: Apache-2.0
//! The boot stage of a device: partitions, keys and options in, one boot, what to start and a report out. Nothing here
//! formats a text: that would be a tenth of the boot partition.
#![no_std]
#![forbid(unsafe_code)]

mod report;
mod options {
    include!(concat!(env!("OUT_DIR"), "/options.rs"));
}

use bledfu_slot::evidence::Log;
use bledfu_slot::verify::{ImagePolicy, Key, SoftCrypto};
use bledfu_slot::{AddressRange, Algorithm, Geometry, Layout};
use bledfu_swap::overwrite::Overwrite;
use bledfu_swap::swap_move::SwapMove;
use bledfu_swap::swap_offset::SwapOffset;
use bledfu_swap::swap_scratch::SwapScratch;
use bledfu_swap::{
    algorithm, boot_by, copy, BootConfig, BootError, BootReport, Downgrade, NoEvidence, NoFlash, Progress,
    Store,
};
use bledfu_zephyr::boot::{self, Outcome, Stage};
use bledfu_zephyr::export_boot;
use bledfu_zephyr::flash::{primary_address, Area, Partition, SECTOR_SIZE, WRITE_SIZE};
use bledfu_zephyr::worker::{self, Keys};
use embedded_storage::nor_flash::NorFlash;

/// As many keys as an application may have (`zephyr/keys.py`).
const MAX_KEYS: usize = 4;

struct Boot;

export_boot!(Boot);

impl Stage for Boot {
    fn boot() -> Outcome {
        let result = run();
        Outcome {
            start: result
                .as_ref()
                .ok()
                .map(|report| report.image.header.header_size.into()),
            report: report::of(&result),
        }
    }
}

fn run() -> Result<BootReport, BootError> {
    if options::TRUST {
        let mut area = open(Partition::Trust)?;
        return run_with(&mut Log::new(&mut area));
    }
    run_with(&mut NoEvidence)
}

fn run_with(evidence: &mut dyn Store) -> Result<BootReport, BootError> {
    let mut keys = [Key::new([0; 64]); MAX_KEYS];
    let built_in = worker::keys(Keys::Image);
    for (key, bytes) in keys.iter_mut().zip(built_in) {
        *key = Key::new(*bytes);
    }
    let policy = ImagePolicy {
        keys: keys.get(..built_in.len()).unwrap_or(&keys),
        trusted_digests: &[],
        unsigned: !options::BOOT_SIGNATURE,
        address: None, // `slots` knows it
    };
    match options::ALGORITHM {
        Algorithm::SwapOffset => swap::<SwapOffset, _>(policy, &mut NoFlash, None, evidence),
        Algorithm::SwapMove => swap::<SwapMove, _>(policy, &mut NoFlash, None, evidence),
        Algorithm::Overwrite => swap::<Overwrite, _>(policy, &mut NoFlash, None, evidence),
        Algorithm::SwapScratch => {
            let mut scratch = open(Partition::Spare)?;
            let area = geometry(&scratch);
            swap::<SwapScratch, _>(policy, &mut scratch, Some(area), evidence)
        }
        // Finds out first which of two places is the secondary.
        Algorithm::Copy => {
            let mut spare = open(Partition::Spare)?;
            let (mut primary, mut secondary, config) = slots(policy, Some(geometry(&spare)))?;
            copy::boot(
                &mut primary,
                &mut secondary,
                &mut spare,
                &config,
                &SoftCrypto,
                evidence,
                &mut feed,
            )
        }
        _ => Err(BootError::Geometry),
    }
}

fn swap<A: algorithm::Installer, X: NorFlash>(
    policy: ImagePolicy<'_>,
    spare: &mut X,
    area: Option<Geometry>,
    evidence: &mut dyn Store,
) -> Result<BootReport, BootError> {
    let (mut primary, mut secondary, config) = slots(policy, area)?;
    boot_by::<A, _, _, _, _>(
        &mut primary,
        &mut secondary,
        spare,
        &config,
        &SoftCrypto,
        evidence,
        &mut feed,
    )
}

/// Both slots, and what the options say about them and a spare area.
fn slots(policy: ImagePolicy<'_>, area: Option<Geometry>) -> Result<(Area, Area, BootConfig<'_>), BootError> {
    let primary = open(Partition::Primary)?;
    let secondary = open(Partition::Secondary)?;
    let layout = Layout::with_spare(
        options::ALGORITHM,
        geometry(&primary),
        geometry(&secondary),
        area,
        options::MAX_ALIGN,
        options::MAX_IMG_SECTORS,
    );
    let layout = layout.map_err(|_| BootError::Geometry)?;
    let policy = ImagePolicy {
        address: options::CHECK_IMAGE_ADDRESS.then(|| AddressRange {
            start: primary_address(),
            size: primary.size(),
        }),
        ..policy
    };
    let config = BootConfig {
        layout: if options::BOOT_TRAILER_MCUBOOT_2_2 {
            layout.without_tlv_sizes()
        } else {
            layout
        },
        policy,
        downgrade: if options::BOOT_DOWNGRADE_VERSION {
            Downgrade::ByVersion
        } else if options::BOOT_DOWNGRADE_COUNTER {
            Downgrade::BySecurityCounter
        } else {
            Downgrade::Allowed
        },
        verify_primary: options::BOOT_VALIDATE_PRIMARY,
    };
    Ok((primary, secondary, config))
}

fn feed(progress: Progress) {
    if progress == Progress::Again {
        boot::wait();
    }
    boot::feed();
}

fn open(partition: Partition) -> Result<Area, BootError> {
    Area::open(partition).map_err(|_| BootError::Geometry)
}

fn geometry(area: &Area) -> Geometry {
    Geometry {
        slot_size: area.size(),
        sector_size: SECTOR_SIZE,
        write_size: WRITE_SIZE,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    boot::stop()
}
