// SPDX-License-Identifier: Apache-2.0
//! Which images may be installed and started: versions, counters, signatures.

use bledfu_slot::evidence::Log;
use bledfu_slot::trailer::SwapType;
use bledfu_slot::{is_erased, Algorithm, VerifyError};
use bledfu_swap::{BootAction, Downgrade};
use bledfu_testkit::{Image, Key, Nor, Tear, SECTOR};

use crate::device::{installed, Device, KEY};

/// An image of this version, with a security counter if there is one.
fn versioned(major: u8, minor: u8, build: u32, counter: Option<u32>) -> Vec<u8> {
    let image = Image::bare(0x200, 5000, u64::from(minor)).version(major, minor, 0, build);
    match counter {
        Some(counter) => image.protect(&[(0x50, &counter.to_le_bytes())]),
        None => image,
    }
    .sign(KEY)
    .bytes()
}

/// Requests `update` on a device that runs `running`, and boots it.
fn outcome(downgrade: Downgrade, running: &[u8], update: &[u8]) -> BootAction {
    let mut device = Device::new(Algorithm::SwapOffset);
    device.downgrade = downgrade;
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, running);
    device.upload(update);
    let action = device.boot().unwrap().action;
    if let BootAction::Rejected { .. } = action {
        assert!(device.primary.bytes.starts_with(running));
        assert!(is_erased(&device.secondary.bytes), "a refused image is erased");
    }
    action
}

#[test]
fn an_older_version_is_refused_where_that_is_asked_for() {
    let running = versioned(2, 1, 5, None);
    let older = versioned(2, 0, 9, None);
    let refused = BootAction::Rejected {
        swap_type: SwapType::Test,
        reason: VerifyError::Older,
    };
    // mcuboot case 103: lower, equal; build numbers do not count.
    assert_eq!(outcome(Downgrade::ByVersion, &running, &older), refused);
    for update in [
        versioned(2, 1, 5, None),
        versioned(2, 1, 4, None),
        versioned(3, 0, 0, None),
    ] {
        assert_eq!(
            outcome(Downgrade::ByVersion, &running, &update),
            installed(SwapType::Test)
        );
    }
    assert_eq!(
        outcome(Downgrade::Allowed, &running, &older),
        installed(SwapType::Test)
    );
}

#[test]
fn a_lower_security_counter_is_refused_where_that_is_asked_for() {
    let refused = BootAction::Rejected {
        swap_type: SwapType::Test,
        reason: VerifyError::SecurityCounter,
    };
    let by_counter = |running, update| {
        outcome(
            Downgrade::BySecurityCounter,
            &versioned(2, 0, 0, running),
            &versioned(1, 0, 0, update),
        )
    };
    // mcuboot case 104: none in the primary; none or a lower one in the secondary; an equal one.
    assert_eq!(by_counter(None, None), installed(SwapType::Test));
    assert_eq!(by_counter(None, Some(0)), installed(SwapType::Test));
    assert_eq!(by_counter(Some(7), None), refused);
    assert_eq!(by_counter(Some(7), Some(6)), refused);
    assert_eq!(by_counter(Some(7), Some(7)), installed(SwapType::Test));
}

#[test]
fn a_revert_to_an_older_version_is_no_downgrade() {
    for downgrade in [Downgrade::ByVersion, Downgrade::BySecurityCounter] {
        let mut device = Device::under_test_by(Algorithm::SwapOffset);
        device.downgrade = downgrade;
        assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert)); // mcuboot case 103
        assert!(device.runs_old());
    }
}

#[test]
fn without_signatures_an_image_is_as_good_as_its_hash() {
    let image = Image::bare(0x200, 5000, 3).sign(Key(99)).bytes();
    for unsigned in [false, true] {
        let mut device = Device::new(Algorithm::SwapOffset);
        device.upload(&image);
        device.unsigned = unsigned;
        let action = device.boot().unwrap().action;
        assert_eq!(action == installed(SwapType::Test), unsigned);
    }
    let mut device = Device::new(Algorithm::SwapOffset);
    device.unsigned = true;
    let mut damaged = image;
    damaged[0x300] ^= 1;
    device.upload(&damaged);
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Rejected { .. }
    ));
}

#[test]
fn an_unverified_primary_starts_by_its_header_once_it_is_known_to_be_settled() {
    let mut device = Device::new(Algorithm::SwapOffset);
    device.verify_primary = false;
    let mut trust = Nor::<4>::new('t', 2, &device.power);
    let mut damaged = device.copy();
    damaged.primary.bytes[0x300] ^= 1;
    // Without a record, nobody knows whether it was ever checked.
    assert!(damaged.copy().boot().is_err());
    assert!(damaged.copy().boot_knowing(&mut Log::new(&mut trust)).is_err());

    // Now it was checked.
    device.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    let mut damaged = device.copy();
    damaged.primary.bytes[0x300] ^= 1;
    let report = damaged.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    assert_eq!(report.action, BootAction::None);
    assert_eq!(report.image.header.version.major, 1);
    damaged.primary.bytes[0] ^= 1;
    assert!(damaged.boot_knowing(&mut Log::new(&mut trust)).is_err());
}

#[test]
fn an_installed_image_is_checked_in_full() {
    let mut device = Device::pending(Algorithm::SwapOffset);
    device.verify_primary = false;
    let mut trust = Nor::<4>::new('t', 2, &device.power);
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot_knowing(&mut Log::new(&mut trust)).is_err());
    device.power.on();
    device.secondary.bytes[4 * SECTOR - 5] ^= 1;
    let report = device.boot_knowing(&mut Log::new(&mut trust)).unwrap();
    assert_ne!(report.action, installed(SwapType::Test));
}
