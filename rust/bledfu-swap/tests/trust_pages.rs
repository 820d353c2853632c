// SPDX-License-Identifier: Apache-2.0
//! The trust area itself: blank, full of random bytes, worn out, or not written while another boot stage ran; and no
//! trust area at all.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::evidence::{Done, Evidence, Log, Store};
use bledfu_slot::trailer::{self, magic_bytes};
use bledfu_slot::{Algorithm, SwapType};
use bledfu_swap::{BootAction, Downgrade, SkipReason};
use bledfu_testkit::{Random, SECTOR};
use trust::{Claim, Device, POLICIES, REVERTING};

// boot-trust case 26
#[test]
fn a_confirmed_image_makes_the_first_record() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            let mut device = Device::fresh(algorithm, policy);
            assert_eq!(device.evidence(), None);
            assert_eq!(device.boots(), "A");
            let evidence = device.evidence().unwrap();
            assert_eq!((evidence.begun, device.floor()), (None, 8), "{algorithm:?}");
            assert_eq!(evidence.floor.security_counter, Some(80));
            // Only once.
            device.power.on();
            device.boot().unwrap();
            assert_eq!(device.power.ops(), 0, "{algorithm:?}");
        }
    }
}

// boot-trust case 27
#[test]
fn without_a_record_the_image_before_comes_back_only_if_it_may_replace_what_runs() {
    for (policy, back) in [(Downgrade::Allowed, "A"), (POLICIES[0], "B"), (POLICIES[1], "B")] {
        for algorithm in REVERTING {
            let mut device = Device::fresh(algorithm, policy);
            device.evidence = false;
            device.upload_b(Claim::Test);
            assert_eq!(device.boots(), "B");
            device.evidence = true;
            assert_eq!(device.resets(3), [back; 3], "{policy:?} {algorithm:?}");
        }
    }
}

// boot-trust case 28
#[test]
fn pages_full_of_anything_are_pages_without_a_record() {
    for seed in 0..20 {
        for algorithm in Algorithm::ALL {
            let mut device = Device::fresh(algorithm, POLICIES[0]);
            let mut random = Random::new(seed);
            device.trust.bytes.fill_with(|| random.byte());
            assert_eq!(device.boots(), "A");
            assert_eq!(device.floor(), 8, "{algorithm:?} {seed}");
            device.upload_b(Claim::Permanent);
            assert_eq!(device.boots(), "B");
            assert_eq!(device.floor(), 9, "{algorithm:?} {seed}");
        }
    }
}

// boot-trust case 31
#[test]
fn pages_that_take_no_record_let_no_install_begin() {
    for algorithm in Algorithm::ALL {
        for confirmed in [false, true] {
            let mut device = match confirmed {
                true => Device::new(algorithm, POLICIES[0]),
                false => Device::fresh(algorithm, POLICIES[0]),
            };
            device.trust.refuse_writes = 0..2 * SECTOR as u32;
            device.upload_b(Claim::Test);
            let outside = device.secondary.bytes.clone();
            for _ in 0..3 {
                let (runs, action) = device.boots_to();
                assert_eq!(runs, "A", "{algorithm:?}");
                let Some(BootAction::Skipped { reason, .. }) = action else {
                    panic!("{algorithm:?} {action:?}");
                };
                assert!(
                    matches!(reason, SkipReason::EvidenceFailed(_)),
                    "{algorithm:?} {reason:?}"
                );
                assert!(device.secondary.bytes == outside, "the request stands");
            }
            device.trust.refuse_writes = 0..0;
            assert_eq!(device.boots(), "B", "{algorithm:?}");
        }
    }
}

/// As if another boot stage had installed this image for good.
fn installed_by_another(device: &mut Device, image: &[u8]) {
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, image);
    let trailer = device.layout.primary_trailer();
    device
        .primary
        .load(trailer.magic() as usize, &magic_bytes(trailer.max_align()));
    device.primary.load(trailer.copy_done() as usize, &[1]);
    device.primary.load(trailer.image_ok() as usize, &[1]);
}

// boot-trust case 32
#[test]
fn what_another_boot_stage_installed_is_adopted_if_it_is_not_too_old() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::new(algorithm, policy);
            let (c, old) = (device.images.c.clone(), device.images.old.clone());
            installed_by_another(&mut device, &c);
            assert_eq!(device.resets(2), ["C"; 2], "{algorithm:?}");
            assert_eq!(device.floor(), 10, "{algorithm:?}");
            installed_by_another(&mut device, &old);
            assert_eq!(device.resets(2), ["nothing"; 2], "{algorithm:?}");
            assert_eq!(device.floor(), 10, "{algorithm:?}");
        }
    }
}

// boot-trust case 33
#[test]
fn with_any_image_allowed_the_slots_hold_the_same_bytes_as_without_a_trust_area() {
    for algorithm in Algorithm::ALL {
        for claim in [Claim::Test, Claim::Permanent] {
            for confirms in [true, false] {
                let lived = |evidence| {
                    let mut device = Device::fresh(algorithm, Downgrade::Allowed);
                    device.evidence = evidence;
                    device.upload_b(claim);
                    let mut found = Vec::new();
                    for reset in 0..4 {
                        let runs = device.boots();
                        if confirms && reset == 0 {
                            let _ = trailer::confirm(&mut device.primary, &device.layout);
                        }
                        let bytes = [&device.primary, &device.secondary, &device.spare]
                            .map(|area| area.bytes.clone());
                        found.push((runs, bytes));
                    }
                    found
                };
                let is_same = lived(true) == lived(false);
                assert!(is_same, "{algorithm:?} {claim:?} {confirms}");
            }
        }
    }
}

#[test]
fn a_record_with_the_largest_numbers_does_not_stop_a_boot() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::on_trial(algorithm, policy);
            note(&mut device, |evidence| Evidence {
                invalid_way_back: u8::MAX,
                taken_back: u8::MAX,
                ..evidence
            });
            // There is nothing to go back to.
            device.secondary.bytes.fill(0xFF);
            device.spare.bytes.fill(0xFF);
            assert_eq!(device.boots(), "B", "{algorithm:?}");
        }
    }
}

#[test]
fn a_record_of_more_units_than_a_job_has_is_not_the_end_of_that_job() {
    for algorithm in Algorithm::ALL {
        let mut device = Device::new(algorithm, POLICIES[0]);
        device.upload_b(Claim::Test);
        let cuts: Vec<_> = device.each_cut().collect();
        for (operation, mut device) in cuts {
            if device.evidence().is_none_or(|evidence| evidence.begun.is_none()) {
                continue;
            }
            note(&mut device, |evidence| Evidence {
                done: Done::Passed(u32::MAX >> 2),
                ..evidence
            });
            let runs = device.boots();
            assert!(
                ["A", "B", "nothing"].contains(&runs),
                "{algorithm:?} {operation}: {runs}"
            );
        }
    }
}

/// What was begun when a programmer writes an image that has nothing to do with it.
const BEGUN: [SwapType; 3] = [SwapType::Test, SwapType::Permanent, SwapType::Revert];

/// A device with image 9.1 from a programmer, while the record says that `begun` is under way between A and B.
fn programmed(algorithm: Algorithm, policy: Downgrade, begun: SwapType) -> Device {
    let mut device = Device::on_trial(algorithm, policy);
    let image = device.images.fixed.clone();
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, &image);
    note(&mut device, |evidence| match begun {
        SwapType::Revert => Evidence {
            begun: Some(begun),
            from: evidence.to,
            to: evidence.from,
            ..evidence
        },
        _ => Evidence {
            begun: Some(begun),
            ..evidence
        },
    });
    device
}

#[test]
fn an_image_from_a_programmer_ends_what_was_begun_with_others() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            for begun in BEGUN {
                let mut device = programmed(algorithm, policy, begun);
                assert_eq!(device.boots(), "9.1", "{algorithm:?} {begun}");
                assert_eq!(device.evidence().unwrap().begun, None, "{algorithm:?} {begun}");
                // The next update goes its usual way, and back.
                let c = device.images.c.clone();
                device.upload(&c, Claim::Test);
                assert_eq!(device.resets(2), ["C", "9.1"], "{algorithm:?} {begun}");
            }
        }
    }
}

#[test]
fn an_image_that_another_boot_stage_put_on_trial_is_not_taken_for_confirmed() {
    for algorithm in REVERTING {
        for begun in BEGUN {
            let mut device = programmed(algorithm, POLICIES[0], begun);
            let trailer = device.layout.primary_trailer();
            device
                .primary
                .load(trailer.magic() as usize, &magic_bytes(trailer.max_align()));
            device.primary.load(trailer.copy_done() as usize, &[1]);
            // Nothing it could go back to is there.
            device.secondary.bytes.fill(0xFF);
            device.spare.bytes.fill(0xFF);
            assert_eq!(device.boots(), "9.1", "{algorithm:?} {begun}");
            let evidence = device.evidence().unwrap();
            assert_eq!(evidence.begun, None, "{algorithm:?} {begun}");
            assert_eq!(
                evidence.floor.version.0, 8,
                "{algorithm:?} {begun}: the floor did not rise"
            );
        }
    }
}

#[test]
fn with_copy_an_image_that_is_back_stays_though_a_flag_cannot_be_repaired() {
    let mut device = Device::confirmed(Algorithm::Copy, POLICIES[0]);
    note(&mut device, |evidence| Evidence {
        begun: Some(SwapType::Revert),
        ..evidence
    });
    // No value that a program operation turns into the one of a flag.
    let trailer = device.layout.primary_trailer();
    device.primary.load(trailer.copy_done() as usize, &[0x18]);
    assert_eq!(device.boots(), "B");
    assert_eq!(device.evidence().unwrap().begun, None);
    let c = device.images.c.clone();
    device.upload(&c, Claim::Test);
    assert_eq!(device.boots(), "C");
}

/// Appends a record that is changed from the last one.
fn note(device: &mut Device, change: impl FnOnce(Evidence) -> Evidence) {
    let evidence = device.evidence().expect("a record");
    let changed = change(evidence);
    Log::new(&mut device.trust)
        .append(&changed)
        .expect("a trust area that works");
}
