// SPDX-License-Identifier: Apache-2.0
//! The boot stage of a device: partitions, keys and options in, one boot, what to start and a report out. Nothing here
//! formats a text: that would be a tenth of the boot partition.
#![no_std]
#![forbid(unsafe_code)]

mod options {
    include!(concat!(env!("OUT_DIR"), "/options.rs"));
}

use bledfu_slot::verify::{ImagePolicy, PublicKey, SoftCrypto, VerifyError};
use bledfu_slot::{Algorithm, Geometry, Layout, SwapType};
use bledfu_swap::by_move::ByMove;
use bledfu_swap::by_offset::ByOffset;
use bledfu_swap::by_overwrite::ByOverwrite;
use bledfu_swap::by_scratch::ByScratch;
use bledfu_swap::{
    boot_by, steps, BootAction, BootConfig, BootError, BootReport, Downgrade, NoFlash, SkipReason,
};
use bledfu_zephyr::boot::{self, Action, Outcome, Reason, Report, Stage};
use bledfu_zephyr::export_boot;
use bledfu_zephyr::flash::{Area, Partition, SECTOR_SIZE, WRITE_SIZE};
use bledfu_zephyr::worker::{self, Keys};
use embedded_storage::nor_flash::NorFlash;

/// As many keys as an application may have (`zephyr/keys.py`).
const MAX_KEYS: usize = 4;

struct Boot;

export_boot!(Boot);

impl Stage for Boot {
    fn boot() -> Outcome {
        match run() {
            Ok(report) => Outcome {
                start: Some(report.image.header.header_size.into()),
                report: Report {
                    failed_records: report.failed_records.min(u32::from(u8::MAX)) as u8,
                    ..told(&report.action)
                },
            },
            Err(error) => Outcome {
                start: None,
                report: match error {
                    BootError::NoValidImage { reason, .. } => nothing(refused(&reason)),
                    BootError::Flash(_) => nothing(Reason::Flash),
                    _ => nothing(Reason::Layout),
                },
            },
        }
    }
}

fn run() -> Result<BootReport, BootError> {
    let mut keys = [PublicKey::new([0; 64]); MAX_KEYS];
    let built_in = worker::keys(Keys::Image);
    for (key, bytes) in keys.iter_mut().zip(built_in) {
        *key = PublicKey::new(*bytes);
    }
    let policy = ImagePolicy {
        keys: keys.get(..built_in.len()).unwrap_or(&keys),
        trusted_digests: &[],
        unsigned: !options::BOOT_SIGNATURE,
    };
    match options::ALGORITHM {
        Algorithm::SwapOffset => two::<ByOffset>(policy),
        Algorithm::SwapMove => two::<ByMove>(policy),
        Algorithm::Overwrite => two::<ByOverwrite>(policy),
        Algorithm::SwapScratch => {
            let mut scratch = open(Partition::Spare)?;
            let area = geometry(&scratch);
            by::<ByScratch, _>(policy, &mut scratch, Some(area))
        }
        // Copy finds out which of two areas is the secondary first.
        _ => Err(BootError::Geometry),
    }
}

fn two<A: steps::Algorithm>(policy: ImagePolicy<'_>) -> Result<BootReport, BootError> {
    by::<A, _>(policy, &mut NoFlash, None)
}

fn by<A: steps::Algorithm, X: NorFlash>(
    policy: ImagePolicy<'_>,
    spare: &mut X,
    area: Option<Geometry>,
) -> Result<BootReport, BootError> {
    let mut primary = open(Partition::Primary)?;
    let mut secondary = open(Partition::Secondary)?;
    let layout = Layout::with_spare(
        A::NAME,
        geometry(&primary),
        geometry(&secondary),
        area,
        options::MAX_ALIGN,
        options::MAX_IMG_SECTORS,
    );
    let config = BootConfig {
        layout: layout.map_err(|_| BootError::Geometry)?,
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
    let feed = &mut |_| boot::feed();
    boot_by::<A, _, _, _, _>(&mut primary, &mut secondary, spare, &config, &SoftCrypto, feed)
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

fn nothing(reason: Reason) -> Report {
    Report {
        action: Action::NothingToStart,
        reason,
        ..Report::default()
    }
}

fn told(action: &BootAction) -> Report {
    let (action, swap_type, reason) = match action {
        BootAction::None => (Action::None, SwapType::None, Reason::None),
        BootAction::Installed { swap_type, resumed } => {
            let action = if *resumed {
                Action::Resumed
            } else {
                Action::Installed
            };
            (action, *swap_type, Reason::None)
        }
        BootAction::Repaired => (Action::Repaired, SwapType::None, Reason::None),
        BootAction::Rejected { swap_type, reason } => (Action::Rejected, *swap_type, refused(reason)),
        BootAction::Skipped { swap_type, reason } => {
            let reason = match reason {
                SkipReason::PrimaryTooLarge => Reason::TooLarge,
                SkipReason::PrimaryEmpty => Reason::NoImage,
                _ => Reason::Flash,
            };
            (Action::Skipped, *swap_type, reason)
        }
        BootAction::TrailerCleared => (Action::TrailerCleared, SwapType::None, Reason::None),
    };
    Report {
        action,
        swap_type: swap_type as u8,
        reason,
        failed_records: 0,
    }
}

fn refused<E>(error: &VerifyError<E>) -> Reason {
    match error {
        VerifyError::Flash(_) => Reason::Flash,
        VerifyError::Header(_) | VerifyError::Misplaced => Reason::NoImage,
        VerifyError::TooLarge => Reason::TooLarge,
        VerifyError::NotSigned | VerifyError::BadSignature => Reason::Signature,
        VerifyError::Older | VerifyError::SecurityCounter => Reason::Older,
        _ => Reason::Damaged,
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    boot::stop()
}
