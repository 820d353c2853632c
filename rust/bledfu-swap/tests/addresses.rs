// SPDX-License-Identifier: Apache-2.0
//! Images with real vector tables, made by imgtool (`tests/vectors/vectored`). An image that is linked for another slot
//! or another processor, or of a kind that cannot be started, is refused with the exact reason: by its first bytes and
//! by the boot stage.

mod common;

use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::{
    AddressRange, Algorithm, HeaderError, ImagePolicy, ImageStart, Layout, SwapType, VerifyError,
};
use bledfu_swap::{BootAction, BootConfig};
use bledfu_testkit::{Nor, Power, SECTOR};
use common::{boot_once, config, geometry};

/// The primary slot of an nRF52840.
const SLOT: AddressRange = AddressRange {
    start: 0xD000,
    size: 0xE8000,
};
const SECTORS: usize = SLOT.size as usize / SECTOR;

fn image(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/vectored/");
    std::fs::read(format!("{folder}{name}.signed.bin")).unwrap()
}

/// Each file, why it is refused, and how many bytes show it.
fn files() -> Vec<(&'static str, Option<(HeaderError, usize)>)> {
    let wrong = |reset_vector| {
        Some((
            HeaderError::WrongAddress {
                reset_vector,
                slot: SLOT,
            },
            0x208,
        ))
    };
    let linked_for = 0xF_5000;
    vec![
        ("application-1.0.0", None),
        ("application-2.0.0", None),
        ("application-3.0.0", None),
        ("last-word-2.0.0", None),
        ("rom-fixed-2.0.0", None),
        ("network-core-2.0.0", wrong(0x0100_8A01)),
        ("second-slot-2.0.0", wrong(0xF_5301)),
        (
            "rom-fixed-elsewhere-2.0.0",
            Some((
                HeaderError::WrongSlot {
                    linked_for,
                    slot: SLOT,
                },
                0x208,
            )),
        ),
        ("ram-load-2.0.0", Some((HeaderError::RamLoad, 0x208))),
        ("non-bootable-2.0.0", Some((HeaderError::NotBootable, 32))),
        ("compressed-2.0.0", Some((HeaderError::Compressed, 32))),
        ("compressed-thumb-2.0.0", Some((HeaderError::Compressed, 32))),
        ("encrypted-128-2.0.0", Some((HeaderError::Encrypted, 32))),
        ("encrypted-256-2.0.0", Some((HeaderError::Encrypted, 32))),
    ]
}

fn policy(address: Option<AddressRange>) -> ImagePolicy<'static> {
    ImagePolicy {
        unsigned: true,
        address,
        ..ImagePolicy::default()
    }
}

fn with_address(layout: Layout, address: Option<AddressRange>) -> BootConfig<'static> {
    config(layout, policy(address))
}

#[test]
fn the_first_bytes_of_a_file_name_what_is_wrong_with_it() {
    for (name, expected) in files() {
        let mut start = ImageStart::new();
        let mut known_at = None;
        for (count, byte) in (1..).zip(image(name)) {
            start.update(&[byte]);
            if let (Err(error), None) = (start.check(SLOT.size, Some(SLOT)), known_at) {
                known_at = Some((error, count));
            }
        }
        assert_eq!(known_at, expected, "{name}");
    }
}

#[test]
fn the_boot_stage_refuses_an_image_for_another_slot_and_keeps_the_one_that_runs() {
    for algorithm in [
        Algorithm::SwapOffset,
        Algorithm::SwapMove,
        Algorithm::Overwrite,
        Algorithm::Copy,
    ] {
        let spare = algorithm.has_spare().then(|| geometry(SECTORS));
        let layout =
            Layout::with_spare(algorithm, geometry(SECTORS), geometry(SECTORS), spare, 8, 256).unwrap();
        for (name, refused) in files() {
            let power = Power::new();
            let mut areas = ['p', 's', 'x'].map(|name| Nor::<4>::new(name, SECTORS, &power));
            let [primary, secondary, third] = &mut areas;
            let running = image("application-1.0.0");
            primary.load(0, &running);
            secondary.load(layout.upload_offset() as usize, &image(name));
            secondary.load(SLOT.size as usize - 16, &magic_bytes(8));
            let config = with_address(layout, Some(SLOT));
            let action = boot_once(primary, secondary, third, &config).unwrap().action;
            let swap_type = SwapType::Test;
            let Some((reason, _)) = refused else {
                assert_eq!(
                    action,
                    BootAction::Installed {
                        swap_type,
                        resumed: false
                    },
                    "{name}"
                );
                continue;
            };
            let reason = VerifyError::Header(reason);
            assert_eq!(
                action,
                BootAction::Rejected { swap_type, reason },
                "{algorithm:?} {name}"
            );
            assert!(primary.bytes.starts_with(&running));
            let action = boot_once(primary, secondary, third, &config).unwrap().action;
            assert_eq!(action, BootAction::None, "{algorithm:?} {name}");
        }
    }
}

#[test]
fn without_an_address_only_the_kind_of_an_image_counts() {
    let layout = Layout::new(Algorithm::Overwrite, geometry(SECTORS), geometry(SECTORS), 8, 256).unwrap();
    for (name, refused) in files() {
        let power = Power::new();
        let [mut primary, mut secondary] = ['p', 's'].map(|name| Nor::<4>::new(name, SECTORS, &power));
        primary.load(0, &image("application-1.0.0"));
        secondary.load(0, &image(name));
        secondary.load(SLOT.size as usize - 16, &magic_bytes(8));
        let config = with_address(layout, None);
        let report = boot_once(&mut primary, &mut secondary, &mut bledfu_swap::NoFlash, &config).unwrap();
        let by_kind = refused.is_some_and(|(_, bytes)| bytes == 32);
        assert_eq!(
            matches!(report.action, BootAction::Rejected { .. }),
            by_kind,
            "{name}"
        );
    }
}

#[test]
fn a_primary_that_another_processor_should_run_is_not_started() {
    let layout = Layout::new(Algorithm::SwapMove, geometry(SECTORS), geometry(SECTORS), 8, 256).unwrap();
    let power = Power::new();
    let [mut primary, mut secondary] = ['p', 's'].map(|name| Nor::<4>::new(name, SECTORS, &power));
    primary.load(0, &image("network-core-2.0.0"));
    secondary.load(0, &image("application-1.0.0"));
    let config = with_address(layout, Some(SLOT));
    let report = boot_once(&mut primary, &mut secondary, &mut bledfu_swap::NoFlash, &config).unwrap();
    assert_eq!(report.action, BootAction::Repaired);
    assert!(primary.bytes.starts_with(&image("application-1.0.0")));
}
