// SPDX-License-Identifier: Apache-2.0
//! An image on trial: when the image before comes back, and when it does not.

use bledfu_slot::trailer::{Flag, SwapType};
use bledfu_slot::{is_erased, Algorithm, HeaderError, Layout, VerifyError};
use bledfu_swap::BootAction;
use bledfu_testkit::{Image, Tear, SECTOR};

use crate::common::geometry;
use crate::device::{installed, Device, KEY, SLOT};

#[test]
fn a_test_update_that_is_not_confirmed_is_reverted_for_good() {
    let mut device = Device::under_test();
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert)); // mcuboot case 59
    assert!(device.runs_old() && device.secondary.bytes.starts_with(&device.new));
    let found = device.trailer();
    assert_eq!(
        (found.image_ok, found.copy_done, found.swap_info),
        (Flag::Set, Flag::Set, 4)
    );
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn an_update_received_by_a_test_image_takes_precedence_over_its_revert() {
    let mut device = Device::under_test();
    let third = Image::bare(0x200, 3000, 5).sign(KEY).bytes();
    device.upload(&third);
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test)); // mcuboot case 62
    assert!(device.primary.bytes.starts_with(&third) && device.secondary.bytes.starts_with(&device.new));
}

#[test]
fn a_revert_with_nothing_to_go_back_to_is_given_up() {
    let mut device = Device::under_test();
    device.secondary.bytes.fill(0xFF);
    let (swap_type, reason) = (SwapType::Revert, VerifyError::Header(HeaderError::Erased));
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Rejected { swap_type, reason }
    ); // mcuboot case 65
    assert!(device.runs_new());
    assert!(is_erased(&device.primary.bytes[SLOT - SECTOR..]) && is_erased(&device.secondary.bytes));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_revert_to_a_damaged_image_keeps_the_new_one() {
    let mut device = Device::under_test();
    device.secondary.bytes[0x400] ^= 1;
    let before = device.primary.bytes.clone();
    let action = device.boot().unwrap().action;
    assert_eq!(
        action,
        BootAction::Rejected {
            swap_type: SwapType::Revert,
            reason: VerifyError::HashMismatch
        }
    );
    assert!(is_erased(&device.secondary.bytes)); // mcuboot case 109
    let trailer = device.layout.primary_trailer().first_sector() as usize;
    assert_eq!(device.primary.bytes[..trailer], before[..trailer]);
    // MCUboot closes the trial one boot later. An update that is received before that boot would be taken for the image before.
    assert!(device.trailer().is_confirmed(&device.layout));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn a_corrupt_test_image_is_reverted() {
    let mut device = Device::under_test();
    device.primary.bytes[0x300] ^= 1;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert));
    assert!(device.runs_old());
}

#[test]
fn a_test_image_that_arrives_damaged_is_reverted_in_the_same_boot() {
    let mut device = Device::pending(Algorithm::SwapMove);
    // Cut after the first exchanged sector, then damage a sector that is still to be copied.
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.bytes[2 * SECTOR + 5] ^= 1;
    let report = device.boot().unwrap();
    assert_eq!(report.action, installed(SwapType::Revert));
    assert!(device.runs_old());
}

#[test]
fn a_due_revert_of_another_boot_stage_is_not_done_by_overwrite() {
    let mut device = Device::under_test();
    device.layout = Layout::new(Algorithm::Overwrite, geometry(16), geometry(16), 8, 128).unwrap();
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    assert!(device.runs_new());
}
