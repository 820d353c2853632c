// SPDX-License-Identifier: Apache-2.0
//! Trailers and records of a job: when it is resumed, and when it is not believed.

use bledfu_slot::trailer::{self, magic_bytes, Flag, Magic, SwapType, Trailer};
use bledfu_slot::{is_erased, Algorithm, Outlook, VerifyError};
use bledfu_swap::{BootAction, SkipReason};
use bledfu_testkit::{Image, Tear, SECTOR};

use crate::device::{installed, Device, KEY, SLOT, SWAPS};

#[test]
fn records_found_with_a_request_do_not_belong_to_its_swap() {
    for algorithm in SWAPS {
        for records in 2..=9 {
            let mut device = Device::pending(algorithm);
            device.load_foreign_job(11_000, records);
            let what = format!("{algorithm:?} {records}");
            assert_eq!(device.boot().unwrap().action, installed(SwapType::Test), "{what}");
            assert!(
                device.runs_new() && device.secondary.bytes.starts_with(&device.old),
                "{what}"
            );
        }
    }
}

#[test]
fn records_of_a_swap_whose_images_are_not_there_are_not_believed() {
    for algorithm in SWAPS {
        for records in 1..9 {
            let mut device = Device::new(algorithm);
            device.load_foreign_job(11_000, records);
            let report = device.boot().unwrap();
            assert_eq!(report.image.header.version.major, 1);
            assert!(device.runs_old(), "{algorithm:?} {records}");
            assert!(is_erased(&device.secondary.bytes), "{algorithm:?} {records}");
        }
    }
}

#[test]
fn a_job_kept_in_scratch_is_not_resumed_if_scratch_does_not_hold_it() {
    for records in 0..3 {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.secondary.load(0, &device.new.clone());
        // The job is so large that the trailer's sector is exchanged as well.
        device.load_foreign_job(0xF800, records);
        let mut expected = [device.primary.bytes.clone(), device.secondary.bytes.clone()];
        assert_eq!(device.boot().unwrap().image.header.version.major, 1);
        // The job is closed, so that it does not block updates.
        let layout = device.layout.primary_trailer();
        for flag in [layout.copy_done(), layout.image_ok()] {
            expected[0][flag as usize] = 1;
        }
        assert!(
            [&device.primary.bytes, &device.secondary.bytes] == [&expected[0], &expected[1]],
            "{records} records"
        );
        assert_eq!(device.outlook(), Outlook::Nothing);
    }
}

#[test]
fn a_job_of_other_images_is_closed_after_a_refused_request() {
    for algorithm in SWAPS {
        // Without an image, and with a damaged one.
        for damaged in [false, true] {
            let mut device = Device::pending(algorithm);
            let at = device.layout.upload_offset() as usize;
            if damaged {
                device.secondary.bytes[at + 0x400] ^= 1;
            } else {
                device.secondary.bytes[at..SLOT - SECTOR].fill(0xFF);
            }
            device.load_foreign_job(5000, 0);
            assert!(device.outlook().needs_secondary(), "{algorithm:?}");
            let action = device.boot().unwrap().action;
            assert!(
                matches!(action, BootAction::Rejected { .. }),
                "{algorithm:?}: {action}"
            );
            assert_eq!(device.outlook(), Outlook::Nothing, "{algorithm:?}");
            assert!(device.runs_old());
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
    }
}

#[test]
fn a_job_that_only_scratch_claims_is_removed_when_there_is_nothing_to_do() {
    let mut device = Device::new(Algorithm::SwapScratch);
    device.spare.load(SECTOR - 16, &magic_bytes(8));
    device.spare.load(SECTOR - 40, &[2]);
    let size = device.layout.max_image_size();
    device.spare.load(SECTOR - 48, &size.to_le_bytes());
    let status = device.layout.spare_trailer().unwrap().status_start();
    device.spare.load(status as usize, &[3]);
    assert!(device.outlook().needs_secondary());
    device.boot().unwrap();
    assert_eq!(device.outlook(), Outlook::Nothing);
    assert!(device.runs_old());
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn records_of_a_finished_swap_are_ignored() {
    let mut device = Device::under_test();
    trailer::confirm(&mut device.primary, &device.layout).unwrap();
    assert!(!is_erased(&device.primary.bytes[0xF9D0..0xF9D8])); // mcuboot case 68: the records are still there
    let operations = device.power.ops();
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    assert_eq!(device.power.ops(), operations);
}

/// The trailer of a swap under way, while the image is complete.
fn live_trailer(device: &mut Device, info: u8, size: u32, records: &[u32]) {
    device.primary.load(SLOT - 16, &magic_bytes(8));
    device.primary.load(SLOT - 40, &[info]);
    device.primary.load(SLOT - 48, &size.to_le_bytes());
    for record in records {
        device.primary.load(0xF9D0 + 4 * *record as usize, &[1]);
    }
}

#[test]
fn phantom_swaps_are_not_run() {
    let size = 11000;
    let impossible: [(u8, u32, &[u32]); 9] = [
        (2, 0, &[0, 1]), // mcuboot case 107
        (2, u32::MAX, &[0, 1]),
        (2, 0x10001, &[0, 1]),
        (2, 0xE001, &[0, 1]),
        (0xFF, size, &[0, 1]),          // no type: mcuboot case 111
        (2, size, &[0, 1, 2, 3]),       // more moves than sectors
        (2, size, &[0, 1, 2, 128 + 6]), // more exchanges than sectors
        (2, size, &[0, 1, 2, 50, 128]), // a move that no boot stage makes
        (2, size, &[0, 1, 2, 383]),
    ];
    let (swap_type, reason) = (SwapType::Test, SkipReason::StaleJob);
    let dropped = BootAction::Dropped { swap_type, reason };
    for (info, job_size, records) in impossible {
        let mut device = Device::new(Algorithm::SwapMove);
        device.secondary.load(0, &device.new.clone());
        live_trailer(&mut device, info, job_size, records);
        let mut expected = (device.primary.bytes.clone(), device.secondary.bytes.clone());
        // A trailer that reads like a job is closed with image_ok and copy_done, so that it does not block updates.
        let is_job = (info, job_size) == (2, size);
        if is_job {
            expected.0[SLOT - 24] = 1;
            expected.0[SLOT - 32] = 1;
        }
        let action = if is_job { dropped } else { BootAction::None };
        assert_eq!(
            device.boot().unwrap().action,
            action,
            "{info} {job_size} {records:?}"
        );
        assert!(expected == (device.primary.bytes.clone(), device.secondary.bytes.clone()));
        assert_eq!(device.outlook(), Outlook::Nothing);
        assert_eq!(device.boot().unwrap().action, BootAction::None);
    }
    // Headers are not where such a swap has them: the secondary is empty.
    let mut device = Device::new(Algorithm::SwapMove);
    live_trailer(&mut device, 2, size, &[0, 1, 2, 128]);
    assert_eq!(device.boot().unwrap().action, dropped);
    assert!(device.runs_old());
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    // An upload without a request, and a job for fewer bytes than it needs.
    let mut device = Device::new(Algorithm::SwapMove);
    device.secondary.load(0, &device.new.clone());
    live_trailer(&mut device, 2, 7000, &[]);
    assert_eq!(device.boot().unwrap().action, dropped);
    assert!(device.runs_old());
}

#[test]
fn a_job_whose_image_was_damaged_before_it_began_is_closed() {
    let mut device = Device::pending(Algorithm::SwapMove);
    device.power.cut_at(5, Tear::Before); // after the erase of the secondary trailer
    assert!(device.boot().is_err());
    device.power.on();
    device.secondary.bytes[0x400] ^= 1;
    let action = device.boot().unwrap().action;
    assert_eq!(
        action,
        BootAction::Rejected {
            swap_type: SwapType::Test,
            reason: VerifyError::HashMismatch
        }
    );
    assert!(is_erased(&device.secondary.bytes) && device.runs_old());
    let found = device.trailer(); // mcuboot case 108; MCUboot leaves copy_done erased
    assert_eq!((found.image_ok, found.copy_done), (Flag::Set, Flag::Set));
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn phantom_swaps_using_scratch_are_not_run() {
    // A live trailer in scratch: magic, type, size, and two records (mcuboot case 107).
    for (info, size) in [
        (2, 0),
        (2, u32::MAX),
        (2, 0x10001),
        (2, 0xF9D1),
        (0xFF, 0xF900),
        (0x12, 0xF900),
    ] {
        let mut device = Device::new(Algorithm::SwapScratch);
        device.secondary.load(0, &device.new.clone());
        device.spare.load(SECTOR - 16, &magic_bytes(8));
        device.spare.load(SECTOR - 40, &[info]);
        device.spare.load(SECTOR - 48, &u32::to_le_bytes(size));
        device.spare.load(SECTOR - 60, &[1, 0xFF, 0xFF, 0xFF, 2]);
        let before = device.primary.bytes.clone();
        assert_eq!(device.boot().unwrap().action, BootAction::None, "{info} {size:x}");
        assert!(device.primary.bytes == before);
    }
}

#[test]
fn a_job_in_scratch_is_resumed_for_the_image_whose_number_it_names() {
    for (number, resumed) in [(0, true), (1, false)] {
        // The power is cut while only scratch holds the job, as the images reach into the trailer sector.
        let mut device = Device::new(Algorithm::SwapScratch);
        let large = Image::of_total(device.layout.max_image_size() - 8, 3, KEY).bytes();
        device.upload(&large);
        let mut whole = device.copy();
        whole.boot().unwrap();
        let ops = whole.power.ops();
        let spare = device.layout.spare_trailer().unwrap();
        let cut = (0..ops).find_map(|op| {
            let mut device = device.copy();
            device.power.cut_at(op, Tear::Before);
            assert!(device.boot().is_err());
            device.power.on();
            let scratch = Trailer::read(&mut device.spare, &spare).unwrap();
            let moved = device.secondary.bytes[..SECTOR] != large[..SECTOR]
                || is_erased(&device.secondary.bytes[SLOT - 16..]);
            (scratch.magic == Magic::Good && moved).then_some(device)
        });
        let mut cut = cut.unwrap();
        cut.layout = cut.layout.with_image_number(number);
        let action = cut.boot().map(|report| report.action);
        let swap_type = SwapType::Test;
        let taken_up = action
            == Ok(BootAction::Installed {
                swap_type,
                resumed: true,
            });
        assert_eq!(taken_up, resumed, "{number}: {action:?}");
    }
}
