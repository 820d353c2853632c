// SPDX-License-Identifier: Apache-2.0
//! The power is cut, and an attacker writes the external flash before it comes back, or returns other bytes when it is
//! read.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::Algorithm;
use bledfu_swap::Downgrade;
use bledfu_testkit::{Nor, NorError, Tear, SECTOR};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use trust::{is_installed, is_refused_as_older, Claim, Device, POLICIES, REVERTING};

/// B was received, and a test of it is requested.
fn requested(algorithm: Algorithm, policy: Downgrade, claim: Claim) -> Device {
    let mut device = Device::new(algorithm, policy);
    device.upload_b(claim);
    device
}

/// Puts the old image into every external place, with each of these claims.
#[track_caller]
fn never_starts_the_old_image(cut: &Device, claims: [Claim; 3], what: &str) {
    for place in cut.places() {
        for claim in claims {
            let mut device = cut.fork();
            let old = device.images.old.clone();
            device.rewrite(place, &old, claim);
            for runs in device.resets(3) {
                assert!(
                    ["A", "B", "nothing"].contains(&runs),
                    "{what} {place:#x} {claim:?}: {runs}"
                );
            }
        }
    }
}

// boot-trust case 6
#[test]
fn an_old_image_put_outside_during_an_install_never_starts() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            for (operation, cut) in requested(algorithm, policy, Claim::Test).each_cut() {
                let what = format!("{policy:?} {algorithm:?} {operation}");
                never_starts_the_old_image(&cut, [Claim::None, Claim::Test, Claim::Permanent], &what);
            }
        }
    }
}

// boot-trust case 7
#[test]
fn an_unsigned_image_put_outside_during_an_install_never_starts() {
    for algorithm in Algorithm::ALL {
        for verify_primary in [true, false] {
            for (operation, mut cut) in requested(algorithm, POLICIES[0], Claim::Permanent).each_cut() {
                cut.forge();
                cut.verify_primary = verify_primary;
                for (second, mut device) in cut.each_cut() {
                    let what = format!("{algorithm:?} {verify_primary} {operation} {second}");
                    for runs in device.resets(2) {
                        assert!(["A", "B", "nothing"].contains(&runs), "{what}: {runs}");
                    }
                }
                for runs in cut.resets(2) {
                    assert!(
                        ["A", "B", "nothing"].contains(&runs),
                        "{algorithm:?} {operation}: {runs}"
                    );
                }
            }
        }
    }
}

// boot-trust case 8
#[test]
fn an_old_image_put_outside_during_a_revert_never_starts() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            for (operation, cut) in Device::on_trial(algorithm, policy).each_cut() {
                let what = format!("{policy:?} {algorithm:?} {operation}");
                never_starts_the_old_image(&cut, [Claim::None, Claim::Permanent, Claim::Revert], &what);
            }
        }
    }
}

// boot-trust case 9
#[test]
fn a_revert_that_is_cut_brings_the_image_before_back() {
    for policy in [POLICIES[0], POLICIES[1], Downgrade::Allowed] {
        for algorithm in REVERTING {
            let mut cuts = 0;
            for (operation, mut device) in Device::on_trial(algorithm, policy).each_cut() {
                let what = format!("{policy:?} {algorithm:?} {operation}");
                assert_eq!(device.resets(3), ["A"; 3], "{what}");
                cuts += 1;
            }
            assert!(cuts > 10, "{algorithm:?}: {cuts}");
        }
    }
}

// boot-trust case 15
#[test]
fn a_primary_damaged_beside_a_cut_install_is_not_replaced_by_a_mixture() {
    for algorithm in Algorithm::ALL {
        for (operation, mut device) in requested(algorithm, POLICIES[0], Claim::Test).each_cut() {
            let was_done = device.runs() == "B";
            device.damage_primary();
            let runs = device.resets(3);
            let what = format!("{algorithm:?} {operation}: {runs:?}");
            for runs in &runs {
                assert!(["A", "B", "nothing"].contains(runs), "{what}");
            }
            // These algorithms copy, and their source stays complete; with overwrite, until the update is complete.
            let has_source = algorithm == Algorithm::Copy || algorithm == Algorithm::Overwrite && !was_done;
            if has_source {
                assert_ne!(runs[2], "nothing", "{what}");
            }
        }
    }
}

// boot-trust case 20
#[test]
fn a_raise_of_the_floor_that_is_cut_is_done_by_the_next_boot() {
    let inside = |percent, seed| Tear::Inside { percent, seed };
    let tears = [
        Tear::Before,
        Tear::Prefix { bytes: 1, next: 0 },
        Tear::Prefix {
            bytes: 127,
            next: 0xFF,
        },
        inside(10, 1),
        inside(50, 2),
        inside(100, 3),
    ];
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut start = Device::on_trial(algorithm, policy);
            start.confirm();
            let mut cuts = 0;
            for tear in tears {
                for operation in 0.. {
                    let mut device = start.fork();
                    if !device.is_cut_at(operation, tear) {
                        break;
                    }
                    cuts += 1;
                    device.power.on();
                    assert!([8, 9].contains(&device.floor()), "{algorithm:?} {tear:?}");
                    assert_eq!(device.resets(2), ["B"; 2], "{algorithm:?} {tear:?}");
                    assert_eq!(device.floor(), 9, "{algorithm:?} {tear:?}");
                }
            }
            assert!(cuts >= tears.len(), "{algorithm:?}: {cuts}");
        }
    }
}

// boot-trust case 21
#[test]
fn the_floor_is_raised_before_anything_outside_is_looked_at() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let start = Device::on_trial(algorithm, policy);
            for image in [&start.images.old, &start.images.a, &start.images.between] {
                for claim in [Claim::Test, Claim::Permanent, Claim::Revert] {
                    let mut device = start.fork();
                    device.confirm();
                    device.rewrite(device.layout.upload_offset() as usize, image, claim);
                    let (runs, action) = device.boots_to();
                    let what = format!("{algorithm:?} {claim:?} {action:?}");
                    assert_eq!((runs, device.floor()), ("B", 9), "{what}");
                    if matches!(claim, Claim::Test | Claim::Permanent) && algorithm != Algorithm::Copy {
                        assert!(is_refused_as_older(action), "{what}");
                    }
                    assert_eq!(device.resets(2), ["B"; 2], "{what}");
                }
            }
        }
    }
}

// boot-trust case 22
#[test]
fn a_test_that_is_never_confirmed_does_not_raise_the_floor() {
    for policy in POLICIES {
        for algorithm in REVERTING {
            let mut device = Device::on_trial(algorithm, policy);
            assert_eq!(device.floor(), 8);
            assert_eq!(device.resets(3), ["A"; 3]);
            assert_eq!(device.floor(), 8);
        }
    }
}

// boot-trust case 23
#[test]
fn an_install_for_good_raises_the_floor_in_the_same_boot() {
    for policy in POLICIES {
        for algorithm in Algorithm::ALL {
            let mut device = requested(algorithm, policy, Claim::Permanent);
            let (runs, action) = device.boots_to();
            assert_eq!(runs, "B", "{algorithm:?}");
            let wanted = match algorithm {
                Algorithm::Overwrite => bledfu_slot::SwapType::Test,
                _ => bledfu_slot::SwapType::Permanent,
            };
            let is_permanent = is_installed(action, bledfu_slot::SwapType::Permanent);
            assert!(
                is_permanent || is_installed(action, wanted),
                "{algorithm:?} {action:?}"
            );
            assert_eq!(device.floor(), 9, "{algorithm:?}");
        }
    }
}

/// An external flash with an attacker on its bus: from some read on, another image is read.
struct Interposer<'a> {
    inner: &'a mut Nor<4>,
    /// Offset and bytes of the image that is read then.
    shown: (u32, &'a [u8]),
    reads: u64,
    from: u64,
    /// Whether it was read.
    seen: bool,
}

impl ErrorType for Interposer<'_> {
    type Error = NorError;
}

impl ReadNorFlash for Interposer<'_> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        self.inner.read(offset, bytes)?;
        self.reads += 1;
        if self.reads > self.from {
            let (start, image) = self.shown;
            for (at, byte) in (offset..).zip(bytes) {
                let shown = at.checked_sub(start).and_then(|at| image.get(at as usize));
                if let Some(shown) = shown {
                    self.seen = true;
                    *byte = *shown;
                }
            }
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }
}

impl NorFlash for Interposer<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        self.inner.erase(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        self.inner.write(offset, bytes)
    }
}

/// For each read: from that one on, this image is read instead of B. Checks which images start then.
fn interposed(algorithm: Algorithm, shown: impl Fn(&Device) -> Vec<u8>) {
    let start = requested(algorithm, POLICIES[0], Claim::Permanent);
    let shown = shown(&start);
    let mut attempts = 0;
    for from in 0.. {
        let mut device = start.fork();
        device.power.on();
        let nothing = || Nor::new('-', 0, &start.power);
        let mut secondary = std::mem::replace(&mut device.secondary, nothing());
        let mut spare = std::mem::replace(&mut device.spare, nothing());
        let mut between = Interposer {
            inner: &mut secondary,
            shown: (start.layout.upload_offset(), &shown),
            reads: 0,
            from,
            seen: false,
        };
        let started = device.boot_with(&mut between, &mut spare).is_ok();
        let seen = between.seen;
        (device.secondary, device.spare) = (secondary, spare);
        let runs = device.runs();
        let what = format!("{algorithm:?} from read {from}");
        assert!(!started || runs == "A" || runs == "B", "{what}: {runs} starts");
        for runs in device.resets(2) {
            assert!(["A", "B", "nothing"].contains(&runs), "{what}: {runs}");
        }
        attempts += 1;
        if !seen {
            break;
        }
    }
    assert!(attempts > 20, "{algorithm:?}: {attempts}");
}

// boot-trust case 24
#[test]
fn an_old_image_shown_to_the_copy_and_not_to_the_check_never_starts() {
    for algorithm in Algorithm::ALL {
        interposed(algorithm, |device| device.images.old.clone());
    }
}

// boot-trust case 25
#[test]
fn an_unsigned_image_shown_to_the_copy_and_not_to_the_check_never_starts() {
    for algorithm in Algorithm::ALL {
        interposed(algorithm, |device| device.images.unsigned.clone());
    }
}
