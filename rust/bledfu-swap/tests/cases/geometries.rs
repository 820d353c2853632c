// SPDX-License-Identifier: Apache-2.0
//! Sectors and write units of every size, and the calls of the watch.

use bledfu_slot::trailer::{self, magic_bytes, Magic, SwapType};
use bledfu_slot::{Algorithm, Geometry, Layout, SoftCrypto};
use bledfu_swap::{boot, BootAction, BootError, NoEvidence, NoFlash, Progress};
use bledfu_testkit::{Image, Nor, Power, Tear, SECTOR};

use crate::common::{boot_once, config, geometry, signed_by};
use crate::device::{installed, Device, KEY, SLOT};

#[test]
fn overwrite_installs_between_flashes_of_different_sectors() {
    let secondary = Geometry {
        slot_size: 0x20000,
        sector_size: 0x8000,
        write_size: 4,
    };
    let mut device = Device::new(Algorithm::Overwrite);
    device.layout = Layout::new(Algorithm::Overwrite, geometry(16), secondary, 8, 128).unwrap();
    device.secondary = Nor::new('s', 32, &device.power);
    device.secondary.load(0, &device.new.clone());
    device.secondary.load(0x20000 - 16, &magic_bytes(8));
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
    assert!(device.runs_new() && device.trailer().magic == Magic::Good);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

// mcuboot case 113
#[test]
fn overwrite_changes_no_sector_after_the_image() {
    // The image ends at the end of a sector, and older bytes in both slots go on after it.
    let mut device = Device::new(Algorithm::Overwrite);
    let image = Image::of_total(2 * SECTOR as u32, 5, KEY).bytes();
    device.upload(&image);
    for slot in [&mut device.primary, &mut device.secondary] {
        slot.load(2 * SECTOR, &[0x35; SECTOR]);
    }
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
    assert!(device.primary.bytes.starts_with(&image));
    assert_eq!(device.primary.bytes[2 * SECTOR..3 * SECTOR], [0x35; SECTOR]);
}

#[test]
fn flashes_that_do_not_fit_the_layout_are_refused() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary = Nor::new('s', 15, &device.power);
    assert_eq!(device.boot(), Err(BootError::Geometry));
}

// mcuboot case 118
#[test]
fn the_watch_is_told_before_every_erase_and_every_kibibyte() {
    let mut device = Device::pending(Algorithm::SwapMove);
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(device.layout, signed_by(&keys));
    let (mut verifying, mut erasing, mut last) = (0, 0, 0);
    boot(
        &mut device.primary,
        &mut device.secondary,
        &mut NoFlash,
        &config,
        &SoftCrypto,
        &mut NoEvidence,
        &mut |progress| match progress {
            Progress::Verify => verifying += 1,
            Progress::Erase => erasing += 1,
            Progress::Again => panic!("nothing was refused"),
            Progress::Install { step, steps } => {
                assert!(last <= step && step < steps);
                last = step;
            }
        },
    )
    .unwrap();
    assert_eq!((erasing, last), (2, 8));
    assert!(verifying >= 2 * 11000 / 512);
}

/// Upgrade and revert with other write units: `P` in the primary, `S` in the secondary.
fn swaps_with_write_units<const P: usize, const S: usize>(max_align: u32) {
    let geometry = |write_size| Geometry {
        slot_size: SLOT as u32,
        sector_size: SECTOR as u32,
        write_size,
    };
    let layout = Layout::new(
        Algorithm::SwapMove,
        geometry(P as u32),
        geometry(S as u32),
        max_align,
        128,
    )
    .unwrap();
    let (old, new) = (
        Image::bare(0x200, 6000, 1).sign(KEY),
        Image::bare(0x200, 11000, 2).sign(KEY),
    );
    let power = Power::new();
    let (mut primary, mut secondary) = (Nor::<P>::new('p', 16, &power), Nor::<S>::new('s', 16, &power));
    primary.load(0, &old.bytes());
    secondary.load(0, &new.bytes());
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let slot = bledfu_slot::Slot::new(&layout)
        .verify(&mut secondary, &config.policy, &SoftCrypto)
        .unwrap();
    trailer::request_test(&mut secondary, &slot).unwrap();
    for (swap_type, runs) in [(SwapType::Test, &new), (SwapType::Revert, &old)] {
        // Cut somewhere in the exchange, and resumed.
        power.on();
        power.cut_at(30, Tear::Inside { percent: 50, seed: 1 });
        assert!(boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).is_err());
        power.on();
        let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
        assert_eq!(
            report.action,
            BootAction::Installed {
                swap_type,
                resumed: true
            },
            "W={P}/{S}"
        );
        assert!(primary.bytes.starts_with(&runs.bytes()));
    }
    let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
    assert_eq!(report.action, BootAction::None);
}

#[test]
fn swaps_with_every_write_unit() {
    swaps_with_write_units::<1, 1>(8); // mcuboot case 80
    swaps_with_write_units::<2, 2>(8);
    swaps_with_write_units::<4, 4>(8);
    swaps_with_write_units::<4, 1>(8);
    swaps_with_write_units::<8, 8>(8);
    swaps_with_write_units::<8, 4>(16);
    swaps_with_write_units::<16, 4>(16);
    swaps_with_write_units::<16, 16>(32);
    swaps_with_write_units::<32, 32>(32);
}

/// The three areas of swap using scratch with write units of `W` bytes, and of `S` bytes in the secondary.
fn scratch_with_write_units<const W: usize, const S: usize>(max_align: u32, sectors: usize) {
    let geometry = |sectors, write_size| Geometry {
        write_size,
        ..geometry(sectors)
    };
    let layout = Layout::with_spare(
        Algorithm::SwapScratch,
        geometry(sectors, W as u32),
        geometry(sectors, S as u32),
        Some(geometry(1, W as u32)),
        max_align,
        127,
    )
    .unwrap();
    let power = Power::new();
    let mut primary = Nor::<W>::new('p', sectors, &power);
    let mut secondary = Nor::<S>::new('s', sectors, &power);
    let mut spare = Nor::<W>::new('x', 1, &power);
    let old = Image::bare(0x200, 6000, 1).sign(KEY).bytes();
    // mcuboot case 50: an image of the largest size, which reaches the trailer.
    let new = Image::of_total(layout.max_image_size(), 2, KEY).bytes();
    primary.load(0, &old);
    secondary.load(0, &new);
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let slot = bledfu_slot::Slot::new(&layout)
        .verify(&mut secondary, &config.policy, &SoftCrypto)
        .unwrap();
    trailer::request_test(&mut secondary, &slot).unwrap();
    for (swap_type, runs, kept) in [(SwapType::Test, &new, &old), (SwapType::Revert, &old, &new)] {
        // Cut somewhere in the exchange, and resumed.
        power.on();
        power.cut_at(40, Tear::Inside { percent: 50, seed: 1 });
        let mut once = || boot_once(&mut primary, &mut secondary, &mut spare, &config);
        assert!(once().is_err());
        power.on();
        let resumed = true;
        assert_eq!(
            once().unwrap().action,
            BootAction::Installed { swap_type, resumed },
            "W={W}/{S}"
        );
        assert!(primary.bytes.starts_with(runs) && secondary.bytes.starts_with(kept));
    }
}

#[test]
fn swap_using_scratch_works_with_every_write_unit() {
    scratch_with_write_units::<1, 1>(8, 16); // mcuboot case 80
    scratch_with_write_units::<2, 2>(8, 16);
    scratch_with_write_units::<4, 4>(8, 16);
    scratch_with_write_units::<4, 1>(8, 16);
    scratch_with_write_units::<4, 8>(8, 16);
    scratch_with_write_units::<8, 8>(8, 16);
    scratch_with_write_units::<8, 4>(16, 16);
    scratch_with_write_units::<16, 16>(16, 16);
    scratch_with_write_units::<16, 32>(32, 16);
    scratch_with_write_units::<32, 32>(32, 16);
}
