// SPDX-License-Identifier: Apache-2.0
//! Swaps and overwrite-only, with every story.

use bledfu_slot::trailer::{self, Flag, Magic, Trailer};
use bledfu_slot::Algorithm;
use bledfu_testkit::{Tear, SECTOR};

use crate::common::campaign::{
    campaign, campaign_of_failures, campaign_of_repeated_cuts, finish_story, live, Story, Subject,
};
use crate::device::{layout, pending, plain, Device, SIZES, SWAPS};

fn survives(story: Story, least: u64) {
    for algorithm in SWAPS {
        for (old, new) in SIZES {
            let cuts = campaign(&pending(plain(algorithm), story, old, new), story);
            assert!(cuts > least, "{algorithm:?}: {cuts}");
        }
    }
}

// mcuboot cases 83-84, 86-94
#[test]
fn swaps_survive_a_cut_anywhere_in_a_confirmed_update() {
    survives(Story::Confirm, 300);
}

// mcuboot cases 83-96
#[test]
fn swaps_survive_a_cut_anywhere_in_a_reverted_update() {
    survives(Story::Revert, 600);
}

// mcuboot cases 83-94
#[test]
fn swaps_survive_a_cut_anywhere_in_a_permanent_update() {
    survives(Story::Permanent, 300);
}

// mcuboot case 99
#[test]
fn swaps_survive_repeated_cuts() {
    for algorithm in SWAPS {
        for story in Story::ALL {
            campaign_of_repeated_cuts(&pending(plain(algorithm), story, 5000, 9000), story, 2);
        }
    }
}

#[test]
fn swaps_survive_cuts_with_a_trailer_of_two_sectors() {
    for algorithm in SWAPS {
        let layout = layout(algorithm, (9, 9), 8, 768);
        assert!(layout.primary_trailer().first_sector() < 8 * SECTOR as u32); // mcuboot case 79
        for story in Story::ALL {
            campaign(&pending(layout, story, 5000, 9000), story);
        }
    }
}

#[test]
fn swaps_survive_cuts_with_other_geometries() {
    // One more sector in the slot that needs it, with the largest image; and the wider spacing of trailer fields.
    for (layout, new) in [
        (layout(Algorithm::SwapOffset, (5, 6), 8, 128), 15000),
        (layout(Algorithm::SwapOffset, (8, 8), 16, 128), 9000),
        (layout(Algorithm::SwapOffset, (8, 8), 32, 16), 9000),
        (plain(Algorithm::SwapOffset).without_tlv_sizes(), 9000),
        (layout(Algorithm::SwapMove, (6, 5), 8, 128), 15000),
        (layout(Algorithm::SwapMove, (8, 8), 16, 128), 9000),
        (layout(Algorithm::SwapMove, (8, 8), 32, 16), 9000),
    ] {
        for story in Story::ALL {
            campaign(&pending(layout, story, 5000, new), story);
        }
    }
}

/// Both slots without their trailer sectors, and the flags.
fn without_trailers(device: &mut Device) -> (Vec<u8>, Vec<u8>, [Magic; 2], [Flag; 2]) {
    let layouts = (device.layout.primary_trailer(), device.layout.secondary_trailer());
    let primary = device.primary_trailer();
    let secondary = Trailer::read(&mut device.secondary, &layouts.1).unwrap();
    (
        device.primary.bytes[..layouts.0.first_sector() as usize].to_vec(),
        device.secondary.bytes[..layouts.1.first_sector() as usize].to_vec(),
        [primary.magic, secondary.magic],
        [primary.image_ok, primary.copy_done],
    )
}

// mcuboot cases 87, 114
#[test]
fn a_swap_using_offset_is_finished_with_either_trailer() {
    // MCUboot 2.2 has no field for TLV sizes, 2.3 has one: a build for one of them begins the swap, and a build for the
    // other finishes it.
    let newer = plain(Algorithm::SwapOffset);
    let older = newer.without_tlv_sizes();
    for (begun, finished) in [(older, newer), (newer, older)] {
        for story in [Story::Revert, Story::Permanent] {
            for (old, new) in SIZES {
                let start = pending(begun, story, old, new);
                let mut whole = start.fork();
                finish_story(&mut whole, story);
                for op in 0..whole.power.ops() {
                    let mut device = start.fork();
                    device.power.cut_at(op, Tear::Before);
                    while live(&mut device, story) {}
                    device.power.on();
                    device.layout = finished;
                    finish_story(&mut device, story);
                    device.layout = begun;
                    assert!(
                        without_trailers(&mut device) == without_trailers(&mut whole),
                        "{story:?} cut at {op}, {:?}",
                        begun.primary_trailer().tlv_sizes()
                    );
                }
            }
        }
    }
}

#[test]
fn swaps_survive_cuts_of_a_second_update_over_the_trailers_of_the_first() {
    for algorithm in SWAPS {
        for story in Story::ALL {
            let mut device = pending(plain(algorithm), Story::Permanent, 5000, 9000);
            finish_story(&mut device, Story::Permanent);
            std::mem::swap(&mut device.old, &mut device.new);
            device.upload(story == Story::Permanent);
            device.power.on();
            campaign(&device, story);
        }
    }
}

#[test]
fn swaps_survive_cuts_of_a_request_made_by_imgtool() {
    for algorithm in SWAPS {
        // Magic and image_ok, no swap type.
        let mut device = Device::new(plain(algorithm), 5000, 9000);
        let image = device.new.clone();
        let trailer = device.layout.secondary_trailer();
        device
            .secondary
            .load(device.layout.upload_offset() as usize, &image);
        device.secondary.load(trailer.image_ok() as usize, &[1]);
        device
            .secondary
            .load(trailer.magic() as usize, &trailer::magic_bytes(8));
        campaign(&device, Story::Permanent);
    }
}

// mcuboot case 98
#[test]
fn overwrite_survives_a_cut_anywhere() {
    for (old, new) in SIZES {
        for story in [Story::Permanent, Story::Revert] {
            assert!(campaign(&pending(plain(Algorithm::Overwrite), story, old, new), story) > 50);
        }
    }
}

// mcuboot cases 98, 99
#[test]
fn overwrite_survives_repeated_cuts() {
    campaign_of_repeated_cuts(
        &pending(plain(Algorithm::Overwrite), Story::Permanent, 5000, 9000),
        Story::Permanent,
        3,
    );
}

#[test]
fn swaps_survive_failures_of_the_driver_anywhere() {
    for algorithm in SWAPS {
        for story in Story::ALL {
            let failures = campaign_of_failures(&pending(plain(algorithm), story, 5000, 9000), story, 3);
            assert!(failures > 1000, "{algorithm:?}: {failures}");
        }
    }
}

#[test]
fn swaps_survive_failures_of_the_driver_where_images_reach_into_the_trailer_sector() {
    let layout = plain(Algorithm::SwapScratch);
    let size = layout.max_image_size() - 700;
    for story in Story::ALL {
        campaign_of_failures(&pending(layout, story, 9000, size), story, 7);
    }
}

#[test]
fn overwrite_survives_failures_of_the_driver_anywhere() {
    let layout = plain(Algorithm::Overwrite);
    campaign_of_failures(
        &pending(layout, Story::Permanent, 5000, 9000),
        Story::Permanent,
        3,
    );
}
