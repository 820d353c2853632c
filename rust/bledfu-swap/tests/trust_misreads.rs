// SPDX-License-Identifier: Apache-2.0
//! Wrong reads of the external flash, programs that leave a wrong bit, stuck cells: one error is no reason to erase
//! anything, and what was copied wrongly is copied again.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::trailer::{erase_trailer, write_image_ok};
use bledfu_slot::{is_erased, Algorithm};
use bledfu_swap::{BootAction, SkipReason};
use bledfu_testkit::{Misreads, Op};
use trust::{is_rejected, Claim, Device, FIELD, POLICIES, REVERTING};

/// B was received, and a test of it is requested.
fn requested(algorithm: Algorithm) -> Device {
    let mut device = Device::new(algorithm, POLICIES[0]);
    device.upload_b(Claim::Test);
    device
}

/// One boot with these wrong reads of external flash; returns what started.
fn misread(device: &mut Device, secondary: Misreads, spare: Misreads) -> &'static str {
    device.secondary.misreads = secondary;
    device.spare.misreads = spare;
    let runs = device.boots();
    device.secondary.misreads = Misreads::none();
    device.spare.misreads = Misreads::none();
    runs
}

/// Number of devices for each algorithm and rate.
const DEVICES: u64 = 40;

/// Boots of many devices in which one read in so many is wrong.
fn unsteady(start: &Device, mut test: impl FnMut(Device, String)) {
    for one_in in [30, 60, 120, 240] {
        for seed in 0..DEVICES {
            let mut device = start.fork();
            let (secondary, spare) = (
                Misreads::one_in(one_in, seed),
                Misreads::one_in(one_in, seed + 1000),
            );
            let runs = misread(&mut device, secondary, spare);
            let what = format!("{:?} 1 in {one_in}, {seed}", start.layout.algorithm());
            assert!(["A", "B", "nothing"].contains(&runs), "{what}: {runs}");
            test(device, what);
        }
    }
}

// boot-trust case 37
#[test]
fn one_boot_of_wrong_reads_stops_no_device() {
    for algorithm in Algorithm::ALL {
        unsteady(&requested(algorithm), |mut device, what| {
            for runs in device.resets(3) {
                assert!(runs == "A" || runs == "B", "{what}: {runs}");
            }
        });
    }
}

// boot-trust case 38
#[test]
fn wrong_reads_during_a_revert_lose_no_way_back() {
    for algorithm in REVERTING {
        unsteady(&Device::on_trial(algorithm, POLICIES[0]), |mut device, what| {
            let a = device.images.a.clone();
            for runs in device.resets(3) {
                assert!(
                    runs == "A" || runs == "B" && device.is_outside(&a),
                    "{what}: {runs}"
                );
            }
        });
    }
}

// boot-trust case 39
#[test]
fn a_boot_in_which_everything_reads_erased_erases_nothing() {
    for algorithm in Algorithm::ALL {
        let mut device = requested(algorithm);
        let blank = || Misreads {
            blank: 0..u64::MAX,
            ..Misreads::none()
        };
        let outside = device.secondary.bytes.clone();
        assert_eq!(misread(&mut device, blank(), blank()), "A", "{algorithm:?}");
        assert!(device.secondary.bytes == outside, "{algorithm:?}");
        assert_eq!(device.boots(), "B", "{algorithm:?}");
    }
}

/// Number of reads of the secondary that start at the header, in a boot that finds it erased every time.
fn readings_of_the_header(start: &Device) -> u64 {
    let mut device = start.fork();
    let at = start.layout.upload_offset() as usize;
    device.secondary.bytes[at..at + 32].fill(0xFF);
    device.boots();
    device.secondary.misreads.reads
}

// boot-trust case 40
#[test]
fn a_request_is_taken_down_when_its_header_reads_erased_three_times_and_not_twice() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let at = start.layout.upload_offset() as usize;
        // It is really erased, as three reads show.
        let mut device = start.fork();
        device.secondary.bytes[at..at + 32].fill(0xFF);
        let (runs, action) = device.boots_to();
        assert_eq!(runs, "A", "{algorithm:?}");
        assert!(is_rejected(action), "{algorithm:?} {action:?}");
        assert_eq!(device.secondary_trailer(), bledfu_slot::Trailer::ERASED);
        // Any two reads in a row.
        let reads = readings_of_the_header(&start);
        assert!(reads > 3, "{algorithm:?}: {reads}");
        for first in 0..reads {
            let mut device = start.fork();
            let blank = Misreads {
                blank: first..first + 2,
                ..Misreads::none()
            };
            misread(&mut device, blank, Misreads::none());
            let ran = device.runs() == "B";
            assert!(
                ran || device.boots() == "B",
                "{algorithm:?}: reads {first} and the next one took the request down"
            );
        }
    }
}

// boot-trust case 41
#[test]
fn a_damaged_primary_beside_wrong_reads_erases_nothing() {
    for algorithm in Algorithm::ALL {
        for seed in 0..DEVICES {
            let mut device = requested(algorithm);
            device.damage_primary();
            let outside = device.secondary.bytes.clone();
            // So many wrong reads that no read of the whole image is right.
            let wrong = || Misreads::one_in(2, seed);
            let runs = misread(&mut device, wrong(), wrong());
            if runs == "nothing" {
                assert!(device.secondary.bytes == outside, "{algorithm:?} {seed}");
            }
            assert_eq!(device.boots(), "B", "{algorithm:?} {seed}: {runs} before");
        }
    }
}

/// B outside, not requested, but with a flag: what an abandoned install may leave.
fn with_a_flag_outside(algorithm: Algorithm) -> Device {
    let mut device = Device::new(algorithm, POLICIES[0]);
    device.upload_b(Claim::Test);
    let trailer = device.layout.secondary_trailer();
    erase_trailer(&mut device.secondary, &trailer).unwrap();
    write_image_ok(&mut device.secondary, &trailer).unwrap();
    device
}

// Rules M1 and M3 of boot-trust
#[test]
fn the_trailer_of_an_image_is_left_when_its_header_reads_erased_twice() {
    for algorithm in Algorithm::ALL {
        let start = with_a_flag_outside(algorithm);
        let outside = start.secondary.bytes.clone();
        for first in 0..readings_of_the_header(&start) {
            let mut device = start.fork();
            let blank = Misreads {
                blank: first..first + 2,
                ..Misreads::none()
            };
            assert_eq!(
                misread(&mut device, blank, Misreads::none()),
                "A",
                "{algorithm:?}"
            );
            assert!(
                device.secondary.bytes == outside,
                "{algorithm:?}: reads {first} and next"
            );
        }
    }
}

// Rule M1 of boot-trust
#[test]
fn while_the_primary_does_not_verify_a_trailer_without_an_image_is_left() {
    for algorithm in Algorithm::ALL {
        let mut device = with_a_flag_outside(algorithm);
        for at in [0, device.layout.upload_offset() as usize] {
            device.secondary.bytes[at..at + 32].fill(0xFF);
        }
        let mut damaged = device.fork();
        damaged.damage_primary();
        let outside = damaged.secondary.bytes.clone();
        assert_eq!(damaged.boots(), "nothing", "{algorithm:?}");
        assert!(damaged.secondary.bytes == outside, "{algorithm:?}");
        assert_eq!(device.boots(), "A", "{algorithm:?}");
        assert!(
            device.secondary.bytes != outside,
            "{algorithm:?}: it is removed beside a good one"
        );
    }
}

// Rule M3 of boot-trust
#[test]
fn one_read_that_is_erased_hides_no_request() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let mut device = start.fork();
        device.boots();
        for number in 0..device.secondary.misreads.reads {
            let mut device = start.fork();
            let blank = Misreads {
                blank: number..number + 1,
                ..Misreads::none()
            };
            device.secondary.misreads = blank;
            let (runs, action) = device.boots_to();
            // A header that changes while it is copied ends this try, and the next boot installs.
            let is_put_off = matches!(
                action,
                Some(BootAction::Skipped {
                    reason: SkipReason::SecondaryFailed(_),
                    ..
                })
            );
            assert!(
                runs == "B" || is_put_off,
                "{algorithm:?} read {number}: {action:?}"
            );
        }
    }
}

// Rule M7 of boot-trust
#[test]
fn one_wrong_read_of_what_was_just_installed_does_not_undo_it() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let mut device = start.fork();
        assert_eq!(device.boots(), "B", "{algorithm:?}");
        let reads = device.primary.misreads.reads;
        // The last ones are those of the check before the start.
        for number in reads - 12..reads {
            let mut device = start.fork();
            device.primary.misreads = Misreads {
                flipped: number..number + 1,
                seed: number,
                ..Misreads::none()
            };
            assert_eq!(device.boots(), "B", "{algorithm:?} read {number} of {reads}");
        }
    }
}

// Rule M8 of boot-trust
#[test]
fn a_damaged_image_does_not_replace_a_copy_of_it_that_reads_wrongly() {
    for seed in 0..DEVICES {
        let mut device = requested(Algorithm::Copy);
        let a = device.images.a.clone();
        device.spare.load(0, &a);
        device.damage_primary();
        let runs = misread(&mut device, Misreads::none(), Misreads::one_in(2, seed));
        assert!(device.spare.bytes.starts_with(&a), "{seed}: {runs}");
        assert!(["A", "B"].contains(&device.boots()), "{seed}");
    }
}

// boot-trust case 42
#[test]
fn whichever_read_is_wrong_what_is_installed_is_what_was_received() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let mut device = start.fork();
        device.boots();
        let reads = [device.secondary.misreads.reads, device.spare.misreads.reads];
        for (area, reads) in reads.into_iter().enumerate() {
            for number in 0..reads {
                let mut device = start.fork();
                let wrong = Misreads {
                    flipped: number..number + 1,
                    seed: number,
                    ..Misreads::none()
                };
                let what = format!("{algorithm:?} area {area} read {number}");
                match area {
                    0 => misread(&mut device, wrong, Misreads::none()),
                    _ => misread(&mut device, Misreads::none(), wrong),
                };
                let ran = device.runs() == "B";
                assert!(ran || device.boots() == "B", "{what}");
                let a = device.images.a.clone();
                assert!(
                    algorithm == Algorithm::Overwrite || device.is_outside(&a),
                    "{what}: the way back is whole"
                );
            }
        }
    }
}

// boot-trust case 43
#[test]
fn a_program_of_the_primary_that_leaves_a_wrong_bit_is_done_again() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let copies = start.operations().into_iter().enumerate();
        let copies = copies.filter(
            |(_, operation)| matches!(operation, Op::Write { chip: 'p', bytes, .. } if bytes.len() > FIELD),
        );
        let mut tried = 0;
        for (number, _) in copies {
            let mut device = start.fork();
            device.power.on();
            device.power.spoil(number as u64);
            let _ = device.boot();
            let b = device.images.b.clone();
            let ran = device.runs() == "B";
            assert!(
                ran || device.is_outside(&b) || algorithm != Algorithm::Overwrite,
                "{algorithm:?}: the source of operation {number} is gone"
            );
            assert!(ran || device.boots() == "B", "{algorithm:?} operation {number}");
            tried += 1;
        }
        assert!(tried > 5, "{algorithm:?}: {tried}");
    }
}

// boot-trust case 44
#[test]
fn a_bit_outside_that_is_stuck_stops_no_device() {
    for algorithm in Algorithm::ALL {
        let start = requested(algorithm);
        let at = start.layout.upload_offset() as usize;
        // If B has a zero at this bit, the fault is not noticed until A is to be kept there.
        for offset in (0x210..start.images.b.len() - 200).step_by(777) {
            let mut device = start.fork();
            let address = (at + offset) as u32;
            let bit = start.images.b[offset].trailing_ones() % 8;
            device.secondary.misreads.stuck = vec![(address, 1 << bit)];
            for runs in device.resets(3) {
                assert!(runs == "A" || runs == "B", "{algorithm:?} {address:#x}: {runs}");
            }
            let mut device = start.fork();
            let bit = start.images.b[offset].trailing_zeros() % 8;
            device.secondary.misreads.stuck = vec![(address, 1 << bit)];
            if start.images.b[offset] != 0 {
                assert_eq!(device.resets(3), ["A"; 3], "{algorithm:?} {address:#x}");
            }
        }
    }
}

// boot-trust case 45
#[test]
fn an_update_that_is_wrong_at_every_reading_is_refused_and_erased() {
    for algorithm in Algorithm::ALL {
        let mut device = requested(algorithm);
        let at = device.layout.upload_offset() as usize + 0x300;
        device.secondary.bytes[at] ^= 1;
        let (runs, action) = device.boots_to();
        assert_eq!(runs, "A", "{algorithm:?}");
        assert!(is_rejected(action), "{algorithm:?} {action:?}");
        assert!(is_erased(&device.secondary.bytes), "{algorithm:?}");
    }
}
