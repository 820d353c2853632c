// SPDX-License-Identifier: Apache-2.0
//! Flash that cannot be read or written, and cryptography that is not available.

use std::cell::Cell;

use bledfu_slot::trailer::{self, SwapType};
use bledfu_slot::{Algorithm, Crypto, Digest, Signature, SignatureCheck, SoftCrypto};
use bledfu_swap::{BootAction, BootError, SkipReason, SwapError};
use bledfu_testkit::Tear;

use crate::device::{installed, Device, SLOT};

#[test]
fn a_record_that_cannot_be_written_does_not_stop_a_swap() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.primary.refuse_writes = 0xF9D4..0xF9D5;
    let report = device.boot().unwrap();
    assert_eq!(
        (report.action, report.failed_records),
        (installed(SwapType::Test), 1)
    ); // mcuboot case 101
    assert!(device.runs_new() && device.secondary.bytes.starts_with(&device.old));
}

#[test]
fn a_dead_secondary_does_not_prevent_the_primary_from_starting() {
    for algorithm in [Algorithm::SwapMove, Algorithm::Overwrite] {
        let mut device = Device::pending(algorithm);
        device.secondary.broken = true;
        let report = device.boot().unwrap();
        let BootAction::Skipped {
            swap_type: SwapType::None,
            reason: SkipReason::SecondaryUnreadable(_),
        } = report.action
        else {
            panic!("{:?}", report.action); // mcuboot case 102
        };
        assert_eq!(report.secondary, None);
    }
    let mut device = Device::under_test();
    device.secondary.broken = true;
    let before = device.primary.bytes.clone();
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Skipped {
            swap_type: SwapType::Revert,
            ..
        }
    ));
    assert_eq!(device.primary.bytes, before);
    device.secondary.broken = false;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Revert));
}

#[test]
fn a_swap_that_loses_the_secondary_half_way_continues_when_it_is_back() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.power.cut_at(24, Tear::Before);
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.broken = true;
    assert!(matches!(
        device.boot(),
        Err(BootError::Flash(SwapError::Secondary(_)))
    ));
    device.secondary.broken = false;
    let (swap_type, resumed) = (SwapType::Test, true);
    assert_eq!(
        device.boot().unwrap().action,
        BootAction::Installed { swap_type, resumed }
    );
    assert!(device.runs_new());
}

#[test]
fn a_secondary_that_cannot_be_written_leaves_the_primary_running() {
    // The secondary trailer cannot be prepared for a revert, and nothing has been changed yet.
    let mut device = Device::under_test();
    device.secondary.refuse_writes = 0..SLOT as u32;
    let action = device.boot().unwrap().action;
    let BootAction::Skipped {
        swap_type: SwapType::Revert,
        reason: SkipReason::SecondaryFailed(_),
    } = action
    else {
        panic!("{action:?}");
    };
    assert!(device.runs_new());
}

#[test]
fn a_dead_scratch_area_does_not_prevent_the_primary_from_starting() {
    let mut device = Device::pending(Algorithm::SwapScratch);
    device.spare.broken = true;
    assert!(matches!(
        device.boot().unwrap().action,
        BootAction::Skipped {
            reason: SkipReason::SpareFailed(_),
            ..
        }
    ));
    assert!(device.runs_old());
    device.spare.broken = false;
    assert_eq!(device.boot().unwrap().action, installed(SwapType::Test));
}

/// A peripheral that fails one of its signature checks, counted from zero, and works before and after.
struct Flaky {
    left: Cell<i32>,
}

impl Crypto for Flaky {
    type Sha256 = <SoftCrypto as Crypto>::Sha256;

    fn verify(&self, key: &bledfu_slot::Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
        self.left.set(self.left.get() - 1);
        if self.left.get() == -1 {
            return SignatureCheck::Unavailable;
        }
        SoftCrypto.verify(key, digest, signature)
    }
}

#[test]
fn cryptography_that_is_not_available_erases_and_refuses_nothing() {
    let starts: [fn(Algorithm) -> Device; 3] = [Device::pending, Device::under_test_by, |algorithm| {
        let mut device = Device::under_test_by(algorithm);
        trailer::confirm(&mut device.primary, &device.layout).unwrap();
        device.primary.bytes[0x300] ^= 1; // to be repaired
        device
    }];
    for algorithm in [
        Algorithm::SwapOffset,
        Algorithm::SwapMove,
        Algorithm::SwapScratch,
        Algorithm::Overwrite,
    ] {
        for start in starts {
            let mut whole = start(algorithm);
            let checks = Flaky {
                left: Cell::new(i32::MAX),
            };
            let expected = whole.boot_with(&checks).map(|report| report.image);
            for failing in 0..i32::MAX - checks.left.get() {
                let mut device = start(algorithm);
                let flaky = Flaky {
                    left: Cell::new(failing),
                };
                match device.boot_with(&flaky) {
                    Ok(report) => assert!(
                        matches!(
                            report.action,
                            BootAction::Skipped {
                                reason: SkipReason::CryptoUnavailable,
                                ..
                            }
                        ),
                        "{:?}",
                        report.action
                    ),
                    Err(error) => assert_eq!(error, BootError::Flash(SwapError::Crypto)),
                }
                // Either nothing was done, or everything.
                let found = device.flashes();
                let untouched = found == start(algorithm).flashes();
                assert!(untouched || found == whole.flashes(), "{algorithm:?} {failing}");
                if untouched {
                    assert_eq!(device.boot().map(|report| report.image), expected);
                }
            }
        }
    }
}
