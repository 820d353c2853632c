// SPDX-License-Identifier: Apache-2.0
//! Cuts, and failures of the driver, after histories that leave every kind of record behind.

use bledfu_slot::Layout;

use crate::common::campaign::{
    campaign, campaign_of, campaign_of_failures, campaign_of_repeated_cuts, live, tears, Story, Subject,
};
use crate::device::{layout, layout_of, plain, Board, Device, PAGE, SIZES};

/// [`campaign`] with every `stride`-th tear; the first one differs from operation to operation.
fn campaign_with<const W: usize>(start: &Board<W>, story: Story, stride: usize) -> u64 {
    campaign_of(start, story, |op, _| {
        let tears = tears::<Board<W>>(op).into_iter();
        tears.skip(op as usize % stride).step_by(stride).collect()
    })
}

/// Devices with a request, after histories that leave every kind of record and trailer behind.
fn starts(layout: Layout, story: Story) -> Vec<Device> {
    starts_of(layout, story)
}

fn starts_of<const W: usize>(layout: Layout, story: Story) -> Vec<Board<W>> {
    use Story::{Confirm, Permanent, Revert};
    let histories: [&[(usize, Story)]; 6] = [
        // The very first install makes a copy.
        &[],
        &[(1, Confirm)],
        &[(1, Permanent), (2, Confirm)],
        // A new try with the image that was reverted, and with another one.
        &[(3, Revert)],
        &[(1, Revert), (2, Revert)],
        &[(1, Confirm), (2, Confirm), (1, Revert)],
    ];
    let with = |history: &[(usize, Story)]| {
        let mut device = Board::new(layout, &SIZES);
        for (image, story) in history {
            device.update(*image, *story);
        }
        device.request(3, story);
        device
    };
    histories.into_iter().map(with).collect()
}

fn survives(story: Story, least: u64) {
    for (history, start) in starts(plain(), story).iter().enumerate() {
        let cuts = campaign(start, story);
        assert!(cuts > least, "history {history}: {cuts}");
    }
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_confirmed_update() {
    survives(Story::Confirm, 1000);
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_reverted_update() {
    survives(Story::Revert, 1500);
}

#[test]
fn copy_survives_a_cut_anywhere_in_a_permanent_update() {
    survives(Story::Permanent, 1000);
}

#[test]
fn copy_survives_repeated_cuts() {
    for story in Story::ALL {
        for start in starts(plain(), story) {
            assert!(campaign_of_repeated_cuts(&start, story, 1) > 200);
        }
    }
}

#[test]
fn copy_survives_cuts_with_other_geometries() {
    // Slots of unequal sizes, large external sectors, and the wider spacing of trailer fields.
    for (layout, stride) in [
        (layout([5, 6, 8], PAGE, 8), 2),
        (layout([5, 32, 48], 16 * PAGE, 8), 10),
        (layout([5, 5, 5], PAGE, 16), 2),
        (layout([5, 5, 5], PAGE, 32), 2),
    ] {
        for story in Story::ALL {
            let starts = starts(layout, story);
            for history in [0, 5] {
                assert!(campaign_with(&starts[history], story, stride) > 30);
            }
        }
    }
}

fn survives_with_write_units_of<const W: usize>(max_align: u32) {
    for story in Story::ALL {
        let starts = starts_of::<W>(layout_of::<W>([5, 5, 5], PAGE, max_align), story);
        for history in [0, 1, 5] {
            let cuts = campaign_with(&starts[history], story, 3);
            assert!(cuts > 200, "W={W} {story:?}, history {history}: {cuts}");
        }
        assert!(campaign_of_repeated_cuts(&starts[5], story, 1) > 200);
    }
}

#[test]
fn copy_survives_cuts_with_write_units_that_cannot_be_written_twice() {
    survives_with_write_units_of::<8>(8);
    survives_with_write_units_of::<16>(16);
    survives_with_write_units_of::<32>(32);
}

#[test]
fn copy_survives_cuts_with_write_units_of_one_and_two_bytes() {
    survives_with_write_units_of::<1>(8);
    survives_with_write_units_of::<2>(8);
}

/// The power is cut while the application receives the next update: no earlier image comes back by itself. The update
/// is requested or not; accordingly it is installed, or the running image stays.
#[test]
fn copy_survives_a_cut_anywhere_in_an_upload_and_the_next_one_arrives() {
    use Story::{Confirm, Permanent, Revert};
    for history in [
        &[(1, Confirm)][..],
        &[(1, Permanent), (2, Permanent)],
        &[(1, Confirm), (2, Revert)],
    ] {
        let mut start = Device::new(plain(), &SIZES);
        for (image, story) in history {
            start.update(*image, *story);
        }
        let running = start.running();
        start.old = running;
        start.new = 3;
        for permanent in [false, true] {
            let mut whole = start.fork();
            assert!(whole.upload(3, permanent));
            for op in 0..whole.power.ops() {
                for tear in tears::<Device>(op) {
                    let what = format!("{history:?} op {op}, {tear:?}");
                    let mut device = start.fork();
                    device.power.cut_at(op, tear);
                    assert!(!device.upload(3, permanent));
                    device.power.on();
                    assert!(live(&mut device, Confirm), "{what}");
                    assert!(
                        device.holds(device.fork().incoming().other(), device.running()),
                        "{what}"
                    );
                    device.old = device.running();
                    device.update(if device.old == 3 { 1 } else { 3 }, Confirm);
                }
            }
        }
    }
}

#[test]
fn copy_survives_failures_of_the_driver_anywhere() {
    for story in Story::ALL {
        for start in starts(plain(), story) {
            assert!(campaign_of_failures(&start, story, 3) > 500);
        }
    }
}
