// SPDX-License-Identifier: Apache-2.0
//! At rest, an attacker has written the external flash: no image is installed or brought back that must not be.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::{Algorithm, SwapType};
use bledfu_swap::{BootAction, SkipReason};
use trust::{is_installed, is_refused_as_older, is_skipped, Claim, Device, POLICIES, REVERTING};

// boot-trust case 1
#[test]
fn a_trailer_outside_alone_asks_for_no_revert() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            for place in Device::new(algorithm, policy).places() {
                let mut device = Device::new(algorithm, policy);
                let old = device.images.old.clone();
                device.rewrite(place, &old, Claim::Revert);
                assert_eq!(device.resets(3), ["A"; 3], "{algorithm:?} at {place:#x}");
                if algorithm == Algorithm::SwapOffset {
                    let trailer = device.secondary_trailer();
                    assert_eq!(trailer, bledfu_slot::Trailer::ERASED, "it is taken down");
                }
            }
        }
    }
}

// boot-trust case 2
#[test]
fn an_old_image_that_is_requested_is_refused() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            for claim in [Claim::Test, Claim::Permanent] {
                let mut device = Device::new(algorithm, policy);
                let old = device.images.old.clone();
                device.upload(&old, claim);
                let (runs, action) = device.boots_to();
                assert_eq!(runs, "A", "{algorithm:?} {claim:?}");
                assert!(is_refused_as_older(action), "{algorithm:?} {action:?}");
            }
        }
    }
}

/// B is on trial, and all external flash holds O.
fn with_old_outside(test: impl Fn(Device, &str)) {
    for policy in POLICIES {
        for algorithm in REVERTING {
            for place in Device::new(algorithm, policy).places() {
                let mut device = Device::on_trial(algorithm, policy);
                let old = device.images.old.clone();
                device.rewrite(place, &old, Claim::None);
                test(device, &format!("{policy:?} {algorithm:?} at {place:#x}"));
            }
        }
    }
}

// boot-trust case 3
#[test]
fn an_image_that_did_not_run_before_is_not_gone_back_to() {
    with_old_outside(|mut device, what| {
        for reset in 0..5 {
            let (runs, action) = device.boots_to();
            assert_eq!(runs, "B", "{what}, reset {reset}");
            // If there is no image at the place of the way back, there is none to name.
            let is_told = is_skipped(action, SkipReason::NotTheImageBefore);
            let at_start = what.ends_with("at 0x0");
            assert!(is_told || !at_start, "{what}, reset {reset}: {action:?}");
        }
    });
}

// boot-trust case 4
#[test]
fn the_image_before_may_come_back_although_another_one_stood_there() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::on_trial(algorithm, policy);
            let kept = (device.secondary.bytes.clone(), device.spare.bytes.clone());
            let old = device.images.old.clone();
            device.rewrite(0, &old, Claim::None);
            assert_eq!(device.resets(2), ["B"; 2], "{algorithm:?}");
            (device.secondary.bytes, device.spare.bytes) = kept;
            let (runs, action) = device.boots_to();
            assert_eq!(runs, "A", "{algorithm:?} {action:?}");
            assert!(is_installed(action, SwapType::Revert), "{algorithm:?} {action:?}");
            assert_eq!(device.resets(2), ["A"; 2], "{algorithm:?}");
        }
    }
}

// boot-trust case 5
#[test]
fn a_trial_that_is_confirmed_beside_an_old_image_raises_the_floor() {
    with_old_outside(|mut device, what| {
        assert_eq!(device.boots(), "B", "{what}");
        device.confirm();
        assert_eq!(device.boots(), "B", "{what}");
        assert_eq!(device.floor(), 9, "{what}");
        let a = device.images.a.clone();
        for place in device.places() {
            for claim in [Claim::None, Claim::Revert, Claim::Permanent] {
                device.rewrite(place, &a, claim);
                assert_eq!(device.resets(2), ["B"; 2], "{what}, A at {place:#x} {claim:?}");
            }
        }
    });
}

// boot-trust case 10
#[test]
fn the_image_before_is_too_old_once_the_new_one_is_confirmed() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            let mut device = Device::confirmed(algorithm, policy);
            let a = device.images.a.clone();
            device.upload(&a, Claim::Permanent);
            let (runs, action) = device.boots_to();
            assert_eq!(runs, "B", "{algorithm:?}");
            assert!(
                is_refused_as_older(action) || algorithm == Algorithm::Copy,
                "{algorithm:?} {action:?}"
            );
            assert_eq!(device.resets(2), ["B"; 2]);
        }
    }
}

// boot-trust case 11
#[test]
fn between_the_image_before_and_the_one_on_trial_nothing_is_installed() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::on_trial(algorithm, policy);
            let between = device.images.between.clone();
            let spare = device.spare.bytes.clone();
            device.rewrite(device.layout.upload_offset() as usize, &between, Claim::Test);
            device.spare.bytes = spare;
            for _ in 0..4 {
                let (runs, action) = device.boots_to();
                assert!(runs == "A" || runs == "B", "{algorithm:?} {runs} {action:?}");
            }
            // Only with copy does the way back have a place of its own.
            if algorithm == Algorithm::Copy {
                assert_eq!(device.boots(), "A");
            }
        }
    }
}

// boot-trust case 12
#[test]
fn a_damaged_trial_is_repaired_with_the_image_before() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::on_trial(algorithm, policy);
            device.damage_primary();
            assert_eq!(device.resets(3), ["A"; 3], "{algorithm:?}");
            assert_eq!(device.floor(), 8);
        }
    }
}

// boot-trust case 13
#[test]
fn a_damaged_image_is_not_repaired_with_one_below_the_floor() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            for place in Device::new(algorithm, policy).places() {
                let mut device = Device::confirmed(algorithm, policy);
                let a = device.images.a.clone();
                device.rewrite(place, &a, Claim::None);
                device.damage_primary();
                let outside = (device.secondary.bytes.clone(), device.spare.bytes.clone());
                assert_eq!(device.resets(3), ["nothing"; 3], "{algorithm:?}");
                assert_eq!(
                    (device.secondary.bytes, device.spare.bytes),
                    outside,
                    "{algorithm:?}: nothing is erased"
                );
            }
        }
    }
}

// boot-trust case 14
#[test]
fn a_damaged_device_waits_for_an_image_that_is_not_too_old() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            let mut device = Device::new(algorithm, policy);
            let old = device.images.old.clone();
            device.rewrite(device.layout.upload_offset() as usize, &old, Claim::Permanent);
            device.damage_primary();
            assert_eq!(device.resets(3), ["nothing"; 3], "{algorithm:?}");
            device.upload_b(Claim::Permanent);
            device.spare.bytes.fill(0xFF);
            assert_eq!(device.resets(2), ["B"; 2], "{algorithm:?}");
        }
    }
}

// boot-trust case 35
#[test]
fn the_image_that_runs_is_not_installed_again() {
    for algorithm in Algorithm::ALL {
        for claim in [Claim::Test, Claim::Permanent] {
            let mut device = Device::new(algorithm, POLICIES[0]);
            let a = device.images.a.clone();
            device.upload(&a, claim);
            device.power.on();
            device.power.record();
            let report = device.boot().unwrap();
            let operations = device.power.recorded();
            let (BootAction::Dropped { reason, .. } | BootAction::Skipped { reason, .. }) = report.action
            else {
                panic!("{algorithm:?} {:?}", report.action);
            };
            assert_eq!(reason, SkipReason::AlreadyRuns, "{algorithm:?}");
            let erases = operations
                .iter()
                .filter(|op| matches!(op, bledfu_testkit::Op::Erase { chip: 'p', .. }));
            assert_eq!(erases.count(), 0, "{algorithm:?}");
            let trailer = device.secondary_trailer();
            assert_eq!(trailer, bledfu_slot::Trailer::ERASED, "the request is gone");
            let (runs, action) = device.boots_to();
            assert_eq!((runs, action), ("A", Some(BootAction::None)), "{algorithm:?}");
        }
    }
}

// boot-trust case 36
#[test]
fn an_image_that_was_taken_back_three_times_is_not_tried_again() {
    for algorithm in REVERTING {
        let mut device = Device::new(algorithm, POLICIES[0]);
        let install = |device: &mut Device, image: Vec<u8>| {
            // With copy the other place may be the next one: it takes what the application puts there.
            if algorithm == Algorithm::Copy {
                use bledfu_slot::copy_roles::{incoming, Place};
                let Device {
                    primary,
                    secondary,
                    spare,
                    layout,
                    ..
                } = device;
                assert_eq!(incoming(primary, secondary, spare, layout), Ok(Place::First));
            }
            device.upload(&image, Claim::Test);
            device.boots_to()
        };
        let (b, fixed) = (device.images.b.clone(), device.images.fixed.clone());
        for time in 1..=3 {
            assert_eq!(install(&mut device, b.clone()).0, "B", "{algorithm:?} {time}");
            assert_eq!(device.boots(), "A", "{algorithm:?} {time}");
            assert_eq!(device.evidence().unwrap().taken_back, time, "{algorithm:?}");
        }
        let (runs, action) = install(&mut device, b);
        assert_eq!(runs, "A", "{algorithm:?}");
        assert!(trust::is_rejected(action), "{algorithm:?} {action:?}");
        assert_eq!(install(&mut device, fixed).0, "9.1", "{algorithm:?}");
    }
}
