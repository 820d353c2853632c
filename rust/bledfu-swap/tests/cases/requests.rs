// SPDX-License-Identifier: Apache-2.0
//! A request for an update: when it is carried out, when it is refused, and what is left behind.

use bledfu_slot::trailer::{self, magic_bytes, Flag, Magic, SwapType};
use bledfu_slot::{is_erased, Algorithm, Geometry, HeaderError, Layout, Obstacle, Outlook, VerifyError};
use bledfu_swap::{BootAction, NoFlash, SkipReason};
use bledfu_testkit::{Image, Nor, Power, SECTOR};

use crate::common::{boot_once, config, signed_by};
use crate::device::{installed, Device, KEY, SLOT, SWAPS};

#[test]
fn a_test_update_swaps_confirms_and_stays() {
    let mut device = Device::under_test();
    assert!(device.runs_new() && device.secondary.bytes.starts_with(&device.old)); // mcuboot case 1
    assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
    let found = device.trailer();
    assert_eq!(
        (found.magic, found.copy_done, found.image_ok),
        (Magic::Good, Flag::Set, Flag::Unset)
    );
    assert_eq!(found.swap_info, 2);
    trailer::confirm(&mut device.primary, &device.layout).unwrap();
    let report = device.boot().unwrap();
    assert_eq!(report.action, BootAction::None); // mcuboot case 60
    assert!(device.runs_new());
}

#[test]
fn a_permanent_update_is_confirmed_at_once() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.secondary.load(SLOT - 24, &[1]);
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Permanent)); // mcuboot case 2, 53
    let found = device.trailer();
    assert_eq!(
        (found.image_ok, found.copy_done, found.swap_info),
        (Flag::Set, Flag::Set, 3)
    );
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn an_invalid_update_is_erased_and_the_primary_untouched() {
    let broken: [(usize, u8); 4] = [(0, 0x3C), (0x300, 0x00), (20, 9), (11000 + 0x200 + 4 + 4 + 3, 0)]; // 3, 19, 21, hash
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        for (at, byte) in broken {
            let mut device = Device::pending(algorithm);
            device.secondary.bytes[at] = byte;
            let before = device.primary.bytes.clone();
            let action = device.boot().unwrap().action;
            assert!(
                matches!(
                    action,
                    BootAction::Rejected {
                        swap_type: SwapType::Test,
                        ..
                    }
                ),
                "{action:?}"
            );
            assert!(is_erased(&device.secondary.bytes));
            assert_eq!(device.primary.bytes, before);
        }
    }
}

#[test]
fn a_request_without_a_bootable_image_is_cleared_and_nothing_else() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.secondary.bytes[..32].fill(0xFF);
        let mut expected = device.secondary.bytes.clone();
        expected[SLOT - SECTOR..].fill(0xFF);
        let reason = VerifyError::Header(HeaderError::Erased);
        let swap_type = SwapType::Test;
        assert_eq!(
            device.boot().unwrap().action,
            BootAction::Rejected { swap_type, reason }
        ); // mcuboot cases 4, 100
        assert!(device.secondary.bytes == expected && device.runs_old());

        let mut device = Device::new(algorithm);
        device.upload(&Image::bare(0x200, 100, 1).flags(0x10).sign(KEY).bytes());
        let reason = VerifyError::Header(HeaderError::NotBootable);
        assert_eq!(
            device.boot().unwrap().action,
            BootAction::Rejected { swap_type, reason }
        ); // mcuboot case 17
        assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
        assert!(!is_erased(&device.secondary.bytes[..SECTOR]));
    }
}

// mcuboot case 113
#[test]
fn an_image_of_the_largest_size_is_swapped_and_one_byte_more_is_refused() {
    for (algorithm, limit) in [(Algorithm::SwapMove, 0xE000), (Algorithm::Overwrite, 0xFFD8)] {
        let mut device = Device::new(algorithm);
        let image = Image::of_total(limit, 3, KEY).bytes();
        device.upload(&image);
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 50
        assert!(device.primary.bytes.starts_with(&image));
        let found = device.trailer();
        assert_eq!(found.magic, Magic::Good);
    }
    let mut device = Device::new(Algorithm::SwapMove);
    device.upload(&Image::of_total(0xE001, 3, KEY).bytes());
    let (swap_type, reason) = (SwapType::Test, VerifyError::TooLarge);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    ); // mcuboot case 78
    assert!(is_erased(&device.secondary.bytes) && device.runs_old());
}

// mcuboot case 116
#[test]
fn a_primary_image_too_large_to_be_kept_is_not_swapped_away() {
    for algorithm in SWAPS {
        for revert in [false, true] {
            let mut device = Device::pending(algorithm);
            // One byte more than can be kept, but not so much that it reaches the fields of the trailer.
            let size = (device.layout.max_image_size() + 1).min(0xF9D1);
            let large = Image::of_total(size, 3, KEY).bytes();
            device.primary.load(0, &large);
            if revert {
                let (of_primary, of_secondary) =
                    (device.layout.primary_trailer(), device.layout.secondary_trailer());
                trailer::erase_trailer(&mut device.secondary, &of_secondary).unwrap();
                device.secondary.load(0, &device.new.clone());
                trailer::write_copy_done(&mut device.primary, &of_primary).unwrap();
                trailer::write_magic(&mut device.primary, &of_primary).unwrap();
            }
            let swap_type = if revert { SwapType::Revert } else { SwapType::Test };
            let found = device.outlook();
            assert_eq!(
                found,
                Outlook::Impossible(Obstacle::PrimaryTooLarge),
                "{algorithm:?}"
            );
            let image = device.secondary.bytes[..20_000].to_vec();
            let reason = SkipReason::PrimaryTooLarge;
            assert_eq!(
                device.boot().unwrap().action,
                BootAction::Dropped { swap_type, reason },
                "{algorithm:?}"
            );
            assert!(device.primary.bytes.starts_with(&large));
            // The request is gone but the image is not, so nothing is tried again at every boot.
            assert!(device.secondary.bytes.starts_with(&image));
            assert!(is_erased(&device.secondary.bytes[SLOT - SECTOR..]));
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
            assert!(device.trailer().is_confirmed(&device.layout));
            assert_eq!(device.boot().unwrap().action, BootAction::None, "{algorithm:?}");
        }
    }
}

#[test]
fn an_invalid_primary_too_large_to_be_kept_does_not_lose_the_request_before_it_is_repaired() {
    let mut device = Device::pending(Algorithm::SwapMove);
    let mut large = Image::of_total(0xE800, 3, KEY).bytes();
    large[0x300] ^= 1;
    device.primary.load(0, &large);
    assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
    assert!(device.runs_new());
}

#[test]
fn a_request_with_a_damaged_magic_is_left_alone() {
    for algorithm in Algorithm::ALL {
        if algorithm == Algorithm::Copy {
            continue; // there a damaged magic marks a request that was carried out
        }
        let mut device = Device::pending(algorithm);
        device.secondary.bytes[SLOT - 16] = 0x76;
        let before = device.secondary.bytes.clone();
        assert_eq!(device.outlook(), Outlook::Nothing);
        assert_eq!(device.boot().unwrap().action, BootAction::None); // mcuboot case 52
        assert_eq!(device.secondary.bytes, before);
    }
}

#[test]
fn a_request_with_a_damaged_flag_is_removed_and_its_image_kept() {
    for algorithm in [
        Algorithm::SwapOffset,
        Algorithm::SwapMove,
        Algorithm::SwapScratch,
        Algorithm::Overwrite,
    ] {
        for byte in [0x02, 0x00, 0x5B] {
            let mut device = Device::pending(algorithm);
            device.secondary.bytes[SLOT - 24] = byte;
            let mut expected = device.secondary.bytes.clone();
            expected[SLOT - SECTOR..].fill(0xFF);
            assert_eq!(device.outlook(), Outlook::Impossible(Obstacle::DamagedRequest));
            let (swap_type, reason) = (SwapType::None, SkipReason::DamagedRequest);
            assert_eq!(
                device.boot().unwrap().action,
                BootAction::Dropped { swap_type, reason }
            ); // mcuboot case 54: MCUboot leaves it, and it blocks every later request
            assert!(device.secondary.bytes == expected && device.runs_old());
            assert_eq!(device.outlook(), Outlook::Nothing);
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
    }
}

#[test]
fn a_damaged_trailer_without_an_image_is_cleared() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary.load(SLOT - 16, &[0x76, 0x12]);
    assert_eq!(device.boot().unwrap().action, BootAction::TrailerCleared);
    assert!(is_erased(&device.secondary.bytes));
}

#[test]
fn a_factory_image_with_a_trailer_of_imgtool_boots_and_can_be_updated() {
    for image_ok in [0x01, 0xFF] {
        let mut device = Device::new(Algorithm::SwapMove);
        device.primary.load(SLOT - 16, &magic_bytes(8));
        device.primary.load(SLOT - 24, &[image_ok]);
        assert_eq!(device.boot().unwrap().action, BootAction::None); // mcuboot case 58
        device.upload(&device.new.clone());
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 67
        assert_eq!(device.trailer().image_ok, Flag::Unset);
    }
}

// mcuboot case 115
#[test]
fn an_update_at_the_wrong_place_is_refused_and_erased() {
    let mut device = Device::pending(Algorithm::SwapOffset);
    device.secondary.bytes.copy_within(SECTOR..4 * SECTOR, 0);
    let (swap_type, reason) = (SwapType::Test, VerifyError::Misplaced);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    );
    assert!(is_erased(&device.secondary.bytes));
}

#[test]
fn a_refused_image_is_erased_in_a_slot_of_large_sectors() {
    const LARGE: usize = 128 * 1024;
    let power = Power::new();
    let mut primary = Nor::<8, LARGE>::with_erase_size('p', 2, &power);
    let mut secondary = Nor::<8, LARGE>::with_erase_size('s', 3, &power);
    let slot = |sectors| Geometry::of::<Nor<8, LARGE>>(sectors * LARGE as u32);
    let layout = Layout::new(Algorithm::Overwrite, slot(2), slot(3), 8, 16).unwrap();
    let running = Image::bare(0x200, 6000, 1).sign(KEY).bytes();
    primary.load(0, &running);
    secondary.bytes.fill(0x5A);
    let mut broken = Image::bare(0x200, 6000, 2).sign(KEY).bytes();
    broken[0x300] ^= 1;
    secondary.load(0, &broken);
    secondary.bytes[layout.secondary_trailer().image_ok() as usize] = 0xFF;
    secondary.load(layout.secondary_trailer().magic() as usize, &magic_bytes(8));
    let keys = [bledfu_slot::Key::new(KEY.public())];
    let config = config(layout, signed_by(&keys));
    let report = boot_once(&mut primary, &mut secondary, &mut NoFlash, &config).unwrap();
    assert!(
        matches!(report.action, BootAction::Rejected { .. }),
        "{:?}",
        report.action
    );
    assert!(is_erased(&secondary.bytes) && primary.bytes.starts_with(&running));
}
