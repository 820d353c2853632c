// SPDX-License-Identifier: Apache-2.0
//! Swap using scratch: its area holds the job for a while, and after a torn erase it may hold anything.

use bledfu_slot::trailer::{Magic, Trailer};
use bledfu_slot::{Algorithm, Layout};
use bledfu_testkit::{Op, Tear, SECTOR};

use crate::common::campaign::{
    assert_recovers, campaign_of, campaign_of_repeated_cuts, failures_of, finish_story, live, tears, Ends,
    Story, Subject,
};
use crate::device::{geometry, pending, Device};

/// Both ways in which an update ends; a confirmed update is the first half of a reverted one.
const STORIES: [Story; 2] = [Story::Revert, Story::Permanent];

/// Few tears for the many copied kibibytes, all tears for everything else.
fn fewer_tears(op: u64, what: &Op) -> Vec<Tear> {
    let mut tears = tears::<Device>(op);
    if matches!(what, Op::Write { bytes, .. } if bytes.len() > 64) {
        tears.truncate(2);
    }
    tears
}

/// Layouts of swap using scratch: with the sectors of the slots and of the scratch area, and M.
fn scratch_layouts() -> Vec<Layout> {
    [
        (geometry(8, 1), geometry(8, 1), geometry(1, 1), 128),
        (geometry(8, 1), geometry(8, 1), geometry(3, 1), 128),
        (geometry(8, 1), geometry(8, 1), geometry(1, 2), 128),
        // The whole image is one region.
        (geometry(8, 1), geometry(8, 1), geometry(8, 1), 128),
        (geometry(8, 1), geometry(2, 4), geometry(4, 1), 128),
        (geometry(4, 2), geometry(8, 1), geometry(2, 1), 128),
        // A trailer of two sectors; the scratch trailer is larger than the part of it in the first one.
        (geometry(9, 1), geometry(9, 1), geometry(1, 1), 341),
        (geometry(9, 1), geometry(9, 1), geometry(2, 1), 341),
        (geometry(10, 1), geometry(5, 2), geometry(2, 1), 360),
    ]
    .map(|(primary, secondary, scratch, m)| {
        Layout::with_spare(Algorithm::SwapScratch, primary, secondary, Some(scratch), 8, m).unwrap()
    })
    .into()
}

/// Sizes of payloads: a small one and the largest one, which reaches into the first trailer sector.
fn scratch_sizes(layout: &Layout) -> [(u32, u32); 2] {
    let largest = layout.max_image_size() - 0x200 - 160;
    [(3000, largest), (largest, 3000)]
}

// mcuboot case 97
#[test]
fn scratch_survives_cuts_with_every_geometry() {
    for (number, layout) in scratch_layouts().into_iter().enumerate() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                println!("layout {number}, {old} and {new} bytes");
                assert!(campaign_of(&pending(layout, story, old, new), story, fewer_tears) > 300);
            }
        }
    }
}

#[test]
fn scratch_survives_repeated_cuts_with_every_geometry() {
    for (number, layout) in scratch_layouts().into_iter().enumerate() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                println!("layout {number}, {old} and {new} bytes");
                campaign_of_repeated_cuts(&pending(layout, story, old, new), story, 7);
            }
        }
    }
}

#[test]
fn scratch_does_not_believe_a_record_that_a_torn_erase_left_without_its_data() {
    for layout in scratch_layouts() {
        let area = layout.spare().unwrap();
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                let mut cut_once = start.fork();
                // In the first unit: erase the scratch area, four or five writes of a job, the first kibibytes.
                let first =
                    u64::from(area.slot_size) / SECTOR as u64 + 4 + u64::from(story == Story::Permanent);
                cut_once.power.cut_at(first, Tear::Before);
                assert!(!live(&mut cut_once, story));
                cut_once.power.on();
                let records = layout.spare_trailer().unwrap().status_start() as usize % SECTOR;
                for next in [0x00, 0x01, 0x7F] {
                    let mut device = cut_once.fork();
                    let last = u64::from(area.slot_size) / SECTOR as u64 - 1;
                    let tear = Tear::Prefix { bytes: records, next };
                    device.power.cut_at(last, tear);
                    assert!(!live(&mut device, story));
                    device.power.on();
                    let what = format!("{story:?} {old} {new} {area:?} {tear:?}");
                    assert!(live(&mut device, story), "{what}");
                    device.check_kept(&what);
                    finish_story(&mut device, story);
                    device.check_end(&ends, false, story, &what);
                }
            }
        }
    }
}

/// `start`, cut this many operations after the first one of its boot that is `wanted`, with the power on again.
fn cut_behind(start: &Device, story: Story, wanted: impl Fn(&Op) -> bool, behind: u64) -> Device {
    let mut whole = start.fork();
    whole.power.record();
    assert!(live(&mut whole, story));
    let op = whole.power.recorded().iter().position(wanted).unwrap() as u64;
    let mut device = start.fork();
    device.power.cut_at(op + behind, Tear::Before);
    assert!(!live(&mut device, story));
    device.power.on();
    device
}

/// Devices that keep the job in scratch, cut when the primary lacks only the third record; with the place of that
/// record and the ends of the story.
fn cut_before_the_third_record() -> Vec<(Device, usize, Ends<Device>, Story)> {
    let mut found = Vec::new();
    for layout in scratch_layouts() {
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                let trailer = layout.primary_trailer();
                let third = trailer.status_start() + 2 * trailer.status_unit();
                let is_third =
                    |op: &Op| matches!(op, Op::Write { chip: 'p', offset, .. } if *offset == third);
                let device = cut_behind(&start, story, is_third, 0);
                found.push((device, third as usize, ends, story));
            }
        }
    }
    assert!(found.len() > 30);
    found
}

#[test]
fn scratch_continues_from_its_area_when_the_erase_of_a_primary_with_the_job_was_torn() {
    let mut torn = 0;
    for (device, third, ends, story) in cut_before_the_third_record() {
        let sector = third / SECTOR * SECTOR;
        if (device.layout.primary_trailer().magic() as usize) >= sector + SECTOR {
            continue; // the magic is erased first
        }
        let unit = device.layout.primary_trailer().status_unit() as usize;
        let record = |state: u8, rest: u8| [vec![state], vec![rest; unit - 1]].concat();
        for left in [
            // The third record alone.
            [vec![0xFF; 2 * unit], vec![0x7F]].concat(),
            // All three with random bytes, and then more of them.
            vec![0x7F; 3 * unit],
            vec![0x7F; 9 * unit],
            // Some of them as they should be, by chance.
            [vec![0x7F; 2 * unit], record(3, 0xFF)].concat(),
            [record(1, 0x7F), record(2, 0x7F), record(3, 0x7F)].concat(),
        ] {
            let erased = third - 2 * unit;
            let mut device = device.fork();
            device.primary.bytes[sector..erased].fill(0xFF);
            device.primary.bytes[erased..erased + left.len()].copy_from_slice(&left);
            let what = format!("{story:?} torn at {erased:#x}, {left:02x?}");
            assert_recovers(device, &ends, story, &what);
            torn += 1;
        }
    }
    assert!(torn > 100, "{torn}");
}

/// MCUboot erases the primary even if the third record is there; a trailer of two sectors from the upper one down.
#[test]
fn scratch_continues_from_its_area_when_mcuboot_has_torn_the_upper_sector_of_the_trailer() {
    let mut torn = 0;
    for (mut device, third, ends, story) in cut_before_the_third_record() {
        let upper = (third / SECTOR + 1) * SECTOR;
        if (device.layout.primary_trailer().magic() as usize) < upper {
            continue;
        }
        device.primary.bytes[third] = 3;
        let first = (upper - third).next_multiple_of(device.layout.primary_trailer().status_unit() as usize);
        device.primary.bytes[third + first] = 0x7F;
        let what = format!("{story:?} torn at {:#x}", third + first);
        assert_recovers(device, &ends, story, &what);
        torn += 1;
    }
    assert!(torn > 0, "{torn}");
}

#[test]
fn scratch_does_not_finish_the_update_before_when_its_trailer_was_torn_in_the_next() {
    for layout in scratch_layouts() {
        let largest = scratch_sizes(&layout)[0].1;
        let mut start = pending(layout, Story::Permanent, largest, largest);
        finish_story(&mut start, Story::Permanent);
        std::mem::swap(&mut start.old, &mut start.new);
        start.upload(true);
        start.power.on();
        let ends = Ends::of(&start, Story::Permanent);
        let is_erase = |op: &Op| matches!(op, Op::Erase { chip: 'p', .. });
        let mut device = cut_behind(&start, Story::Permanent, is_erase, 0);
        device.primary.bytes[layout.primary_trailer().copy_done() as usize] = 0x7F;
        let what = format!("{layout:?}");
        assert_recovers(device, &ends, Story::Permanent, &what);
    }
}

#[test]
fn scratch_is_not_resumed_when_mcuboot_has_copied_a_torn_record_from_it() {
    for (device, third, ends, story) in cut_before_the_third_record() {
        let (primary, spare) = (
            device.layout.primary_trailer(),
            device.layout.spare_trailer().unwrap(),
        );
        let unit = primary.status_unit() as usize;
        let first = spare.status_start() as usize;
        let copied = (0..third)
            .rev()
            .find(|at| device.primary.bytes[*at] == 1 && device.primary.bytes[at + unit] == 2)
            .unwrap();
        // The last erase of the scratch area has not begun, has begun, has left one of its records, or has left only
        // its magic.
        for erased in [
            0,
            1,
            first,
            first + unit,
            first + 2 * unit,
            spare.slot_size() as usize,
        ] {
            let mut device = device.fork();
            device.spare.bytes[first] = 0x7F;
            device.primary.bytes[copied] = 0x7F;
            device.primary.bytes[third] = 3;
            device.spare.bytes[..erased].fill(0xFF);
            let what = format!("{story:?}, {erased:#x} bytes of scratch erased");
            assert!(live(&mut device, story), "{what}");
            device.check_kept(&what);
            finish_story(&mut device, story);
            // The record is still torn; a revert has written its own.
            device.primary.bytes[copied] = ends.as_told.primary.bytes[copied];
            device.check_end(&ends, false, story, &what);
        }
    }
}

#[test]
fn scratch_with_its_first_record_alone_is_older_than_a_primary_with_the_third() {
    for (mut device, third, ends, story) in cut_before_the_third_record() {
        let spare = device.layout.spare_trailer().unwrap();
        let second = (spare.status_start() + spare.status_unit()) as usize;
        // It is torn, so that not every byte is as written.
        device.primary.bytes[third] = 0x07;
        device.spare.bytes[second..second + spare.status_unit() as usize].fill(0xFF);
        device.spare.bytes[..second - spare.status_unit() as usize].fill(0xFF);
        assert!(live(&mut device, story));
        finish_story(&mut device, story);
        device.check_end(&ends, false, story, "one record left in scratch");
    }
}

/// The request or the revert is still there, so the area is erased, and everything begins again.
#[test]
fn scratch_does_not_believe_two_records_that_a_torn_erase_left_without_their_data() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = spare.status_start() as usize;
        for (old, new) in scratch_sizes(&layout) {
            // With a request, and with a revert that is due; the secondary trailer does not show the latter.
            for (story, resets) in [(Story::Revert, 0), (Story::Permanent, 0), (Story::Revert, 1)] {
                let mut start = pending(layout, story, old, new);
                let ends = Ends::of(&start, story);
                for _ in 0..resets {
                    assert!(live(&mut start, story));
                }
                start.power.on();
                let is_magic =
                    |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == spare.magic());
                let mut device = cut_behind(&start, story, is_magic, 1);
                device.spare.bytes[records..records + 2 * spare.status_unit() as usize].fill(0x7F);
                let what = format!("{story:?} {old} {new} {layout:?}");
                assert_recovers(device, &ends, story, &what);
            }
        }
    }
}

/// A revert is asked for until the primary trailer is erased; after that, only the data distinguish these records from
/// garbage.
#[test]
fn scratch_continues_after_both_its_records_were_torn() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = [spare.status_start(), spare.status_start() + spare.status_unit()];
        let largest = scratch_sizes(&layout)[0].1;
        let start = pending(layout, Story::Revert, largest, largest);
        let ends = Ends::of(&start, Story::Revert);
        let mut under_test = start.fork();
        assert!(live(&mut under_test, Story::Revert));
        let is_second = |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == records[1]);
        let mut device = cut_behind(&under_test, Story::Revert, is_second, 0);
        device.spare.bytes[records[0] as usize] = 0x15;
        device.spare.bytes[records[1] as usize] = 0xEA;
        let what = format!("{layout:?}");
        assert_recovers(device, &ends, Story::Revert, &what);
    }
}

/// As long as its magic is there, MCUboot believes the scratch area and copies it over the primary.
// mcuboot case 97
#[test]
fn scratch_keeps_its_data_as_long_as_its_magic() {
    let mut states = 0;
    for layout in scratch_layouts() {
        if layout.spare().unwrap().sector_size > SECTOR as u32 {
            continue; // in these chips, one erase of it is several erases
        }
        for (old, new) in scratch_sizes(&layout) {
            for story in STORIES {
                let start = pending(layout, story, old, new);
                let mut whole = start.fork();
                assert!(live(&mut whole, story));
                let spare = layout.spare_trailer().unwrap();
                let record = spare.status_start() as usize;
                let mut data: Option<Vec<u8>> = None;
                for op in 0..whole.power.ops() {
                    let mut device = start.fork();
                    device.power.cut_at(op, Tear::Before);
                    assert!(!live(&mut device, story));
                    device.power.on();
                    let trailer = Trailer::read(&mut device.spare, &spare).unwrap();
                    if trailer.magic != Magic::Good || device.spare.bytes[record] == 0xFF {
                        continue;
                    }
                    let found = &device.spare.bytes[..record];
                    let data = data.get_or_insert_with(|| found.to_vec());
                    assert!(found == data, "{layout:?} {story:?} cut before {op}");
                    states += 1;
                }
            }
        }
    }
    assert!(states > 100, "{states}");
}

/// A job in scratch that may not be one: only the data can tell.
#[test]
fn a_doubtful_job_survives_failures_of_the_driver() {
    for layout in scratch_layouts() {
        let spare = layout.spare_trailer().unwrap();
        let records = spare.status_start() as usize;
        let (old, new) = scratch_sizes(&layout)[0];
        for story in STORIES {
            let start = pending(layout, story, old, new);
            let is_magic =
                |op: &Op| matches!(op, Op::Write { chip: 'x', offset, .. } if *offset == spare.magic());
            let mut device = cut_behind(&start, story, is_magic, 1);
            device.spare.bytes[records] = 0x7F;
            assert!(failures_of(&device, story, "doubtful") > 100);
        }
    }
}
