// SPDX-License-Identifier: Apache-2.0
//! A primary slot without a valid image: what it is repaired with.

use bledfu_slot::trailer::{self, Flag, Magic, SwapType};
use bledfu_slot::{Algorithm, HeaderError, Outlook, VerifyError};
use bledfu_swap::{BootAction, BootError};
use bledfu_testkit::{Image, Tear};

use crate::device::{installed, Device, KEY};

#[test]
fn a_repair_leaves_nothing_that_blocks_an_update() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch] {
        // A job of images that are not there, and an image on trial that is the one to go back to as well.
        for trial in [false, true] {
            let mut device = Device::new(algorithm);
            device.secondary.load(0, &device.new.clone());
            device.primary.bytes[0x300] ^= 1;
            if trial {
                let layout = device.layout.primary_trailer();
                trailer::write_magic(&mut device.primary, &layout).unwrap();
                trailer::write_copy_done(&mut device.primary, &layout).unwrap();
                trailer::write_image_ok(&mut device.primary, &layout).unwrap();
            } else {
                device.load_foreign_job(5000, 0);
            }
            device.boot().unwrap();
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }
}

#[test]
fn an_empty_primary_is_filled_with_a_pending_image() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.primary.bytes.fill(0xFF);
        let action = match algorithm {
            Algorithm::Overwrite => installed(SwapType::Test),
            // There is nothing to swap with (mcuboot case 69); MCUboot does not boot then.
            _ => BootAction::Repaired,
        };
        assert_eq!(device.boot().unwrap().action, action);
        assert!(device.runs_new());
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
}

// mcuboot case 117
#[test]
fn a_corrupt_primary_is_repaired_with_the_image_before() {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove] {
        let mut device = Device::under_test_by(algorithm);
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert!(device.runs_old());
        assert!(device.trailer().is_confirmed(&device.layout));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
}

#[test]
fn a_repair_can_be_cut_anywhere() {
    for cut in 1.. {
        let mut device = Device::under_test();
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1;
        let before = device.power.ops();
        device.power.cut_at(before + cut, Tear::Before);
        let done = device.boot().is_ok();
        device.power.on();
        assert!(device.boot().is_ok());
        assert!(device.runs_old(), "cut before operation {cut}");
        if done {
            break;
        }
    }
}

#[test]
fn a_corrupt_primary_is_replaced_by_a_pending_image() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.primary.bytes[0x300] ^= 1;
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 70
        assert!(device.runs_new());
    }
}

#[test]
fn a_corrupt_primary_with_nothing_pending_does_not_boot() {
    let mut device = Device::new(Algorithm::SwapMove);
    device.primary.bytes[0x300] ^= 1;
    device.secondary.load(0, &device.new.clone()[..9000]);
    let (reason, action) = (VerifyError::HashMismatch, BootAction::None);
    assert_eq!(device.boot(), Err(BootError::NoValidImage { reason, action })); // mcuboot case 71
}

#[test]
fn swap_using_scratch_fills_an_empty_primary() {
    for size in [11000, 0xF9D0 - 0x200 - 160] {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.new = Image::bare(0x200, size, 2).sign(KEY).bytes();
        device.upload(&device.new.clone());
        device.primary.bytes.fill(0xFF);
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 69
        assert!(device.runs_new());
        let found = device.trailer();
        assert_eq!(
            (found.magic, found.copy_done, found.image_ok),
            (Magic::Good, Flag::Set, Flag::Unset)
        );
        // There is nothing to go back to: mcuboot case 65.
        assert!(matches!(
            device.boot().unwrap().action,
            BootAction::Rejected {
                swap_type: SwapType::Revert,
                reason: VerifyError::Header(HeaderError::Erased)
            }
        ));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
        assert!(device.runs_new());
    }
}
