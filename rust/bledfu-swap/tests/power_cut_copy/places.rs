// SPDX-License-Identifier: Apache-2.0
//! What an install costs, and what happens with places that do not hold what their roles say.

use bledfu_slot::copy_roles::{Place, Record};
use bledfu_slot::trailer::{self, Magic, SwapType};
use bledfu_swap::{BootAction, Downgrade, SkipReason};
use bledfu_testkit::{sha256, Image, Op, Random, Tear, SECTOR};

use crate::common::campaign::{campaign, finish_story, live, Ends, Story, Subject};
use crate::common::{boot_once, config, trusted};
use crate::device::{layout, plain, Device, KEY, PAGE, SIZES};

/// Programs and erases of a chip.
fn count(ops: &[Op], wanted: char) -> (usize, usize, usize) {
    let (mut erases, mut writes, mut programmed) = (0, 0, 0);
    for op in ops {
        match op {
            Op::Erase { chip, .. } if *chip == wanted => erases += 1,
            Op::Write { chip, bytes, .. } if *chip == wanted => {
                writes += 1;
                programmed += bytes.len();
            }
            _ => {}
        }
    }
    (erases, writes, programmed)
}

#[test]
fn copy_costs_one_erase_and_one_program_per_page_and_no_external_erase() {
    // Images of exactly eight pages.
    let sizes = [0, 1, 2].map(|seed| 8 * PAGE - Image::of_total(8 * PAGE, seed, KEY).bytes().len() as u32);
    assert_eq!(sizes, [0; 3]);
    let mut device = Device::new(layout([10, 10, 10], PAGE, 8), &[100]);
    for number in 0..4 {
        let image = Image::of_total(8 * PAGE, 100 + number, KEY);
        device.digests.push(image.digest());
        device.images.push(image.bytes());
    }
    device.update(1, Story::Confirm);
    for (image, story) in [(2, Story::Confirm), (3, Story::Confirm), (4, Story::Revert)] {
        device.request(image, story);
        let copied = device.incoming();
        let number = |place: Place| char::from(b'0' + place.number());
        device.power.record();
        device.boot().unwrap();
        let ops = device.power.recorded();
        let (erases, _, programmed) = count(&ops, 'p');
        // The trailer: one erase; record, type, size, magic, copy_done.
        assert_eq!((erases, programmed), (8 + 1, 8 * SECTOR + 48 + 4 + 4 + 16 + 4));
        assert_eq!(
            count(&ops, number(copied)),
            (0, 1, 16),
            "the request is taken down"
        );
        assert_eq!(count(&ops, number(copied.other())), (0, 0, 0));
        if story == Story::Revert {
            device.power.record();
            device.boot().unwrap();
            let ops = device.power.recorded();
            let (erases, _, programmed) = count(&ops, 'p');
            assert_eq!((erases, programmed), (8, 8 * SECTOR + 4 + 4)); // mark and image_ok
            assert_eq!((count(&ops, '0'), count(&ops, '1')), ((0, 0, 0), (0, 0, 0)));
        }
        finish_story(&mut device, story);
    }
}

#[test]
fn pages_that_are_equal_are_neither_erased_nor_programmed() {
    let mut device = Device::new(layout([10, 10, 10], PAGE, 8), &[20000]);
    let mut next = Image::bare(0x200, 20000, 1);
    next.body[0x200 + 9000] ^= 1; // the third page
    let next = next.sign(KEY);
    device.digests.push(next.digest());
    device.images.push(next.bytes());
    device.request(1, Story::Confirm);
    device.power.record();
    device.boot().unwrap();
    let ops = device.power.recorded();
    let erased: Vec<u32> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Erase { chip: 'p', sector } => Some(*sector),
            _ => None,
        })
        .collect();
    assert_eq!(erased, [9, 2, 5]); // the trailer, the page, and the one with hash and signature
    assert!(device.runs_new());
}

#[test]
fn the_copy_of_the_running_image_is_made_once() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Confirm);
    assert!(!device.holds(Place::Second, 0));
    finish_story(&mut device, Story::Confirm);
    assert!(device.holds(Place::Second, 0) && device.holds(Place::First, 1));
    device.power.on();
    device.request(2, Story::Confirm);
    assert!(device.holds(Place::Second, 2), "over the image before");
    device.power.record();
    device.boot().unwrap();
    assert_eq!(count(&device.power.recorded(), '0'), (0, 0, 0));
}

#[test]
fn a_damaged_copy_is_made_anew_before_anything_else() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    device.request(2, Story::Revert);
    let copy = device.incoming().other();
    device.place(copy).bytes[3000] ^= 0x10;
    device.power.record();
    device.boot().unwrap();
    let ops = device.power.recorded();
    assert_eq!(ops[0], Op::Erase { chip: '0', sector: 0 });
    assert!(device.runs_new() && device.holds(copy, 1));
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 1);
    let mut again = Device::new(plain(), &SIZES);
    again.update(1, Story::Confirm);
    again.request(2, Story::Revert);
    again.place(copy).bytes[3000] ^= 0x10;
    campaign(&again, Story::Revert);
}

#[test]
fn without_a_way_back_nothing_is_installed() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Confirm);
    device.places[1].refuse_writes = 0..20000;
    let report = device.boot().unwrap();
    assert!(matches!(
        report.action,
        BootAction::Skipped {
            swap_type: SwapType::Test,
            reason: SkipReason::SpareFailed(_)
        }
    ));
    assert_eq!(device.running(), 0);
    device.places[1].refuse_writes = 0..0;
    finish_story(&mut device, Story::Confirm);
    assert_eq!(device.running(), 1);
}

#[test]
fn an_image_that_is_too_large_to_be_kept_is_not_replaced() {
    let mut device = Device::new(layout([8, 5, 5], PAGE, 8), &[20000, 3000]);
    device.request(1, Story::Confirm);
    let report = device.boot().unwrap();
    let reason = SkipReason::PrimaryTooLarge;
    let swap_type = SwapType::Test;
    assert_eq!(report.action, BootAction::Dropped { swap_type, reason });
    assert_eq!(device.running(), 0);
    assert!(device.holds(Place::First, 1), "the update is left");
    assert_eq!(device.boot().unwrap().action, BootAction::None);
}

#[test]
fn an_empty_or_broken_primary_takes_an_update_and_the_copy_is_left_alone() {
    for broken in [false, true] {
        let mut device = Device::new(plain(), &SIZES);
        device.update(1, Story::Confirm);
        device.request(2, Story::Confirm);
        let spare = device.incoming().other();
        if broken {
            device.primary.bytes[100] ^= 1;
        } else {
            device.primary.bytes.fill(0xFF);
        }
        device.boot().unwrap();
        assert!(device.runs_new() && device.holds(spare, 1));
        // Not confirmed: the image before is still in the other place.
        device.boot().unwrap();
        assert_eq!(device.running(), 1);
    }
}

#[test]
fn a_broken_primary_is_repaired_with_the_copy_of_it() {
    for history in [
        &[(1, Story::Confirm)][..],
        &[(1, Story::Confirm), (2, Story::Revert)],
    ] {
        let mut device = Device::new(plain(), &SIZES);
        for (image, story) in history {
            device.update(*image, *story);
        }
        for at in [0, 5, 600, 4096, 7530] {
            device.primary.bytes[at] ^= 4;
            assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
            assert_eq!(device.running(), 1);
            assert_eq!(device.boot().unwrap().action, BootAction::None);
        }
        // The copy is lost as well: the other place has the only image left.
        let incoming = device.incoming();
        let other = (0..3).find(|n| device.holds(incoming, *n)).unwrap();
        device.primary.bytes[700] ^= 4;
        device.place(incoming.other()).bytes[700] ^= 4;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert_eq!(device.running(), other);
        device.update(3, Story::Confirm);
    }
}

#[test]
fn an_update_that_turns_out_to_be_broken_after_its_install_is_reverted_at_once() {
    for story in [Story::Revert, Story::Permanent] {
        let mut device = Device::new(plain(), &SIZES);
        device.update(1, Story::Confirm);
        device.request(2, story);
        // Cut after the job was written; then the source changes.
        device.power.cut_at(7, Tear::Before);
        assert!(!live(&mut device, story));
        device.power.on();
        assert_eq!(device.primary_trailer().magic, Magic::Good);
        let incoming = device.incoming();
        device.place(incoming).bytes[700] ^= 4;
        assert_eq!(device.boot().unwrap().action, BootAction::Repaired);
        assert_eq!(device.running(), 1);
        assert_eq!(device.incoming(), incoming, "it takes the next update");
        assert!(device.primary_trailer().is_confirmed(&device.layout));
        assert_eq!(device.boot().unwrap().action, BootAction::None);
        device.update(3, Story::Confirm);
    }
}

#[test]
fn a_damaged_revert_image_leaves_the_new_one_running() {
    let mut device = Device::new(plain(), &SIZES);
    device.request(1, Story::Revert);
    device.boot().unwrap();
    let incoming = device.incoming();
    device.place(incoming).bytes[700] ^= 4;
    let report = device.boot().unwrap(); // mcuboot case 109
    assert!(matches!(
        report.action,
        BootAction::Rejected {
            swap_type: SwapType::Revert,
            ..
        }
    ));
    for _ in 0..3 {
        device.boot().unwrap();
        assert!(device.runs_new());
    }
    assert!(device.primary_trailer().is_confirmed(&device.layout));
    assert_eq!(
        device.incoming(),
        incoming,
        "the copy of the running image is not given away"
    );
    device.update(2, Story::Confirm);
}

#[test]
fn an_image_that_a_debugger_left_over_an_old_record_is_kept() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    let image = device.images[2].clone();
    device.primary.load(0, &image);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    device.request(3, Story::Revert);
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 2);
    // And with the trailer erased as well.
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm);
    device.primary.bytes.fill(0xFF);
    device.primary.load(0, &image);
    assert_eq!(device.boot().unwrap().action, BootAction::None);
    device.request(3, Story::Revert);
    finish_story(&mut device, Story::Revert);
    assert_eq!(device.running(), 2);
}

#[test]
fn requests_in_both_places_are_done_one_after_the_other() {
    let mut device = Device::new(plain(), &SIZES);
    device.update(1, Story::Confirm); // from place 0
    device.request(2, Story::Confirm); // in place 1
    let trailer = device.layout.secondary_trailer();
    trailer::write_image_ok(&mut device.places[0], &trailer).unwrap();
    device.places[0].bytes[trailer.magic() as usize..].copy_from_slice(&trailer::magic_bytes(8));
    device.new = 2;
    for _ in 0..4 {
        device.boot().unwrap();
    }
    for place in [Place::First, Place::Second] {
        assert_ne!(device.trailer_of(place).magic, Magic::Good);
    }
    assert!(device.primary_trailer().is_confirmed(&device.layout));
}

#[test]
fn downgrades_are_judged_before_the_install_and_not_when_it_is_resumed() {
    let mut device = Device::new(plain(), &SIZES);
    let newer = Image::bare(0x200, 7000, 9).version(9, 0, 0, 0).sign(KEY);
    device.digests.push(newer.digest());
    device.images.push(newer.bytes());
    device.request(4, Story::Permanent);
    let ops = Ends::of(&device, Story::Permanent).ops;
    for op in 0..ops {
        for seed in 0..6 {
            let mut device = device.fork();
            let boot = |device: &mut Device| {
                let digests = device.digests.clone();
                let mut config = config(device.layout, trusted(&digests));
                config.downgrade = Downgrade::ByVersion;
                let [first, second] = &mut device.places;
                boot_once(&mut device.primary, first, second, &config)
            };
            device.power.cut_at(op, Tear::Inside { percent: 50, seed });
            let _ = boot(&mut device);
            device.power.on();
            boot(&mut device).unwrap();
            assert_eq!(device.running(), 4);
        }
    }
}

#[test]
fn random_trailers_and_records_start_no_invalid_image() {
    let mut start = Device::new(plain(), &SIZES[..3]);
    start.update(1, Story::Confirm);
    start.request(2, Story::Confirm);
    let mut random = Random::new(0xC0B1);
    let mut pick = |n: usize| random.next() as usize % n;
    for round in 0..3000 {
        let mut device = start.fork();
        let layout = device.layout.primary_trailer();
        let from = layout.status_start() as usize;
        for chip in [&mut device.primary].into_iter().chain(&mut device.places) {
            match pick(4) {
                0 => {}
                1 => chip.bytes[from..].fill(0xFF),
                2 => (from..chip.bytes.len()).for_each(|at| chip.bytes[at] = pick(256) as u8),
                _ => {
                    for _ in 0..pick(12) {
                        let at = from + pick(chip.bytes.len() - from);
                        chip.bytes[at] = [0, 1, 2, 3, 4, 0xFF][pick(6)];
                    }
                }
            }
            if pick(2) == 0 {
                let magic = layout.magic() as usize;
                chip.bytes[magic..].copy_from_slice(&trailer::magic_bytes(8));
            }
            if pick(6) == 0 {
                let at = pick(from);
                chip.bytes[at] ^= 1 << pick(8);
            }
        }
        if pick(2) == 0 {
            // A complete record with random values.
            device.primary.bytes[from..from + 96].fill(0xFF);
            let record = Record {
                source: [Place::First, Place::Second][pick(2)],
                swap_type: [SwapType::Test, SwapType::Permanent][pick(2)],
                size: [0, 1, 5000, 7624, 16384, 16385, u32::MAX][pick(7)],
                digest: device.digests[pick(3)],
            };
            record.write(&mut device.primary, &layout).unwrap();
        }
        let images_left = [&device.primary, &device.places[0], &device.places[1]]
            .iter()
            .filter(|chip| device.images.iter().any(|image| chip.bytes.starts_with(image)))
            .count();
        for _ in 0..4 {
            match device.boot() {
                Ok(report) => {
                    // Not all bytes are compared: the signature of an image that is trusted by its digest is not
                    // checked.
                    let hashed = report.image.header.hashed_size().unwrap() as usize;
                    let digest = sha256(&device.primary.bytes[..hashed]);
                    assert_eq!(digest, report.image.digest, "round {round}");
                    assert!(device.digests.contains(&digest), "round {round}");
                }
                Err(error) => assert_eq!(images_left, 0, "round {round}: {error}"),
            }
        }
    }
}
