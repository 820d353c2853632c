// SPDX-License-Identifier: Apache-2.0
//! Data objects of several sectors, which a ring of 8 KiB does not hold whole.

use crate::harness::*;
use bledfu_sim::device::{image_digest, Setup, OBJECT_SIZE};
use bledfu_sim::link::LinkParams;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::nor::Fault;
use bledfu_sim::parts::Times;
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::world::World;
use bledfu_transfer::ring::Channel;
use bledfu_transfer::secure_dfu::{Then, Transport};

const LARGE: usize = 4 * OBJECT;
const SIZE: usize = 40_000;

fn large() -> Setup {
    Setup {
        object_size: LARGE as u32,
        ..setup()
    }
}

fn image() -> Vec<u8> {
    ImageSpec::demo(version(2), SIZE, &image_key()).unwrap().build()
}

/// The init packet was accepted; the next object is number `object`.
fn before_object(image: &[u8], object: usize) -> Peer {
    let mut peer = Peer::with(large());
    assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
    for at in 0..object {
        peer.object(image, at * LARGE, (at + 1) * LARGE);
        peer.ask("04", "60 04 01");
    }
    peer
}

/// The second object is open, and holds `length` bytes.
fn inside_the_second_object(image: &[u8], length: usize) -> Peer {
    let mut peer = before_object(image, 1);
    peer.ask(&create_data(LARGE), "60 01 01");
    peer.data(&image[LARGE..LARGE + length]);
    peer
}

/// Sends the rest of the open object without Create, and then the rest of the image.
#[track_caller]
fn continue_from(peer: &mut Peer, image: &[u8], held: usize) -> String {
    peer.ask("06 01", &selected(512, &init_for(image)));
    peer.ask("04", "60 04 01");
    peer.ask("06 02", &selected(LARGE, &image[..held]));
    let end = held.next_multiple_of(LARGE).min(image.len());
    peer.data(&image[held..end]);
    peer.ask("03", &checksum(&image[..end]));
    peer.ask("04", "60 04 01");
    rest(peer, image, end)
}

/// The objects from `from` to the end of the image.
#[track_caller]
fn rest(peer: &mut Peer, image: &[u8], from: usize) -> String {
    let mut answer = String::new();
    for at in (from..image.len()).step_by(LARGE) {
        peer.object(image, at, (at + LARGE).min(image.len()));
        answer = peer.answer("04");
    }
    answer
}

// secure-dfu case 100
#[test]
fn after_a_lost_link_an_object_goes_on_at_its_last_whole_sector_without_create() {
    let image = image();
    for (length, sectors) in [(OBJECT, 1), (2 * OBJECT + 100, 2), (3 * OBJECT + 4095, 3)] {
        let mut peer = inside_the_second_object(&image, length);
        peer.reconnect();
        let held = LARGE + sectors * OBJECT;
        assert_eq!(continue_from(&mut peer, &image, held), "60 04 01", "{length}");
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 100
#[test]
fn after_a_reset_an_object_goes_on_at_its_last_whole_sector_without_create() {
    let image = image();
    for (length, sectors) in [(OBJECT, 1), (2 * OBJECT + 100, 2)] {
        let mut peer = inside_the_second_object(&image, length);
        peer.reboot();
        let held = LARGE + sectors * OBJECT;
        assert_eq!(continue_from(&mut peer, &image, held), "60 04 01", "{length}");
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 101
#[test]
fn a_complete_object_that_was_not_executed_lacks_its_last_sector_after_a_lost_link() {
    let image = image();
    let mut peer = inside_the_second_object(&image, LARGE);
    peer.reconnect();
    let held = 2 * LARGE - OBJECT;
    assert_eq!(continue_from(&mut peer, &image, held), "60 04 01");
    peer.install_and_confirm(&image);
}

// secure-dfu case 102
#[test]
fn a_client_may_begin_the_open_object_again_after_a_lost_link_or_a_reset() {
    let image = image();
    for reset in [false, true] {
        let mut peer = inside_the_second_object(&image, 2 * OBJECT + 100);
        if reset {
            peer.reboot();
        } else {
            peer.reconnect();
        }
        peer.ask("06 02", &selected(LARGE, &image[..LARGE + 2 * OBJECT]));
        assert_eq!(rest(&mut peer, &image, LARGE), "60 04 01");
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 102
#[test]
fn a_reset_after_an_object_was_begun_again_finds_the_end_of_the_object_before() {
    let image = image();
    let mut peer = inside_the_second_object(&image, 2 * OBJECT + 100);
    peer.ask(&create_data(LARGE), "60 01 01");
    peer.reboot();
    peer.ask("06 02", &selected(LARGE, &image[..LARGE]));
    peer.ask("04", "60 04 01");
    assert_eq!(rest(&mut peer, &image, LARGE), "60 04 01");
    peer.install_and_confirm(&image);
}

// secure-dfu case 103
#[test]
fn a_client_that_takes_a_sector_for_an_object_closes_the_open_one_with_execute() {
    let image = image();
    for reset in [false, true] {
        let mut peer = inside_the_second_object(&image, 2 * OBJECT + 100);
        peer.drop_link();
        peer.set_transport(Transport::Serial { mtu: 129 });
        if reset {
            peer.restart();
        }
        peer.connect();
        let held = LARGE + 2 * OBJECT;
        // Over a serial line objects stay small: nrfutil waits for one second.
        peer.payload = 64;
        peer.ask("06 02", &selected(OBJECT, &image[..held]));
        peer.ask("04", "60 04 01");
        peer.ask(&create_data(2 * OBJECT), "60 01 04");
        assert_eq!(peer.image_from(&image, held), "60 04 01");
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 108
#[test]
fn a_client_with_larger_objects_continues_what_one_with_smaller_objects_executed() {
    let image = image();
    for begins_again in [false, true] {
        let mut peer = before_object(&image, 1);
        for at in [LARGE, LARGE + OBJECT] {
            peer.object(&image, at, at + OBJECT);
            peer.ask("04", "60 04 01");
            // Between its own objects it may select as often as it likes.
            peer.ask("06 02", &selected(LARGE, &image[..at + OBJECT]));
        }
        peer.reconnect();
        let held = LARGE + 2 * OBJECT;
        if begins_again {
            peer.ask("06 02", &selected(LARGE, &image[..held]));
            assert_eq!(rest(&mut peer, &image, LARGE), "60 04 01");
        } else {
            assert_eq!(continue_from(&mut peer, &image, held), "60 04 01");
        }
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 103
#[test]
fn execute_does_not_close_an_object_to_which_the_client_has_written() {
    let image = image();
    let mut peer = inside_the_second_object(&image, 2 * OBJECT);
    peer.reconnect();
    let held = LARGE + 2 * OBJECT;
    peer.ask("06 02", &selected(LARGE, &image[..held]));
    peer.data(&image[held..held + 100]);
    peer.ask("04", "60 04 08");
    assert_eq!(peer.then, Then::Continue);
    peer.data(&image[held + 100..2 * LARGE]);
    peer.ask("04", "60 04 01");
}

/// Sends more than the ring holds, while the worker does nothing. Returns how many bytes were taken.
fn overrun(peer: &mut Peer, bytes: &[u8]) -> usize {
    let mut taken = 0;
    for packet in bytes.chunks(PACKET) {
        let frame = bledfu_transfer::ring::Frame {
            channel: Channel::Packet,
            bytes: packet,
        };
        if peer.device().receive(frame).is_ok() {
            taken += packet.len();
        }
    }
    peer.work();
    taken
}

// secure-dfu case 104
#[test]
fn after_a_loss_a_client_that_asks_goes_on_where_its_bytes_end() {
    let image = image();
    let mut peer = before_object(&image, 0);
    peer.ask(&create_data(LARGE), "60 01 01");
    let taken = overrun(&mut peer, &image[..LARGE]);
    assert!(taken < LARGE);
    // As Android-DFU-Library does: receipts for every packet, and the rest without Create.
    peer.ask("03", &checksum(&image[..taken]));
    peer.ask("02 01 00", "60 02 01");
    for at in (taken..LARGE).step_by(PACKET) {
        let end = (at + PACKET).min(LARGE);
        assert_eq!(
            peer.packets(&image[at..end], PACKET),
            [show(&hex(&checksum(&image[..end])))]
        );
    }
    peer.ask("02 00 00", "60 02 01");
    peer.ask("04", "60 04 01");
    assert_eq!(rest(&mut peer, &image, LARGE), "60 04 01");
}

// secure-dfu case 104
#[test]
fn a_client_that_executes_despite_a_loss_is_disconnected_and_goes_on_over_the_next_link() {
    let image = image();
    let mut peer = before_object(&image, 0);
    peer.ask(&create_data(LARGE), "60 01 01");
    let taken = overrun(&mut peer, &image[..LARGE]);
    peer.ask("03", &checksum(&image[..taken]));
    peer.ask("04", "60 04 08");
    assert_eq!(peer.then, Then::Disconnect);
    peer.reconnect();
    let held = taken / OBJECT * OBJECT;
    assert_eq!(continue_from(&mut peer, &image, held), "60 04 01");
    peer.install_and_confirm(&image);
}

// secure-dfu case 105
#[test]
fn nothing_is_erased_between_create_and_the_last_packet_of_an_object() {
    let image = image();
    let mut peer = Peer::with(large());
    peer.dirty_slot();
    assert_eq!(peer.send_init(&init_for(&image)), "60 04 01");
    for at in (0..SIZE).step_by(LARGE) {
        let end = (at + LARGE).min(SIZE);
        peer.ask(&create_data(end - at), "60 01 01");
        let erases = peer.board.external.stats().erases();
        // The last packet completes the object: from then on the next one may be erased.
        let open = (end - 1) / PACKET * PACKET;
        peer.data(&image[at..open.max(at)]);
        assert_eq!(peer.board.external.stats().erases(), erases, "object at {at}");
        peer.data(&image[open.max(at)..end]);
        peer.ask("04", "60 04 01");
    }
    peer.install_and_confirm(&image);
}

// secure-dfu case 105, when an earlier attempt has used up the room in the journal
#[test]
fn nothing_is_erased_inside_an_object_that_is_sent_again_after_a_restart_or_over_the_same_link() {
    let image = image();
    for is_restarted in [true, false] {
        let mut peer = before_object(&image, 0);
        for round in 0..20 {
            if is_restarted {
                peer.reboot();
                peer.ask("06 01", &selected(512, &init_for(&image)));
                peer.ask("04", "60 04 01");
                peer.control(&[6, 2]);
            }
            peer.ask(&create_data(LARGE), "60 01 01");
            let erases = peer.board.external.stats().erases();
            peer.data(&image[..LARGE - PACKET]);
            assert_eq!(
                peer.board.external.stats().erases(),
                erases,
                "{is_restarted}, {round}"
            );
        }
        assert_eq!(rest(&mut peer, &image, 0), "60 04 01");
        peer.install_and_confirm(&image);
    }
}

// secure-dfu case 106
#[test]
fn a_page_that_fails_in_a_large_object_costs_that_object_and_no_more() {
    let image = image();
    let mut peer = before_object(&image, 1);
    peer.ask(&create_data(LARGE), "60 01 01");
    peer.data(&image[LARGE..LARGE + 2 * OBJECT]);
    let next = peer.board.external.ops();
    peer.board.external.fail_at(next, Fault::Fail);
    peer.board.external.fail_at(next + 1, Fault::Fail);
    peer.board.external.fail_at(next + 2, Fault::Fail);
    peer.data(&image[LARGE + 2 * OBJECT..2 * LARGE]);
    peer.ask("04", "60 04 0A");
    assert_eq!(rest(&mut peer, &image, LARGE), "60 04 01");
    peer.install_and_confirm(&image);
}

// secure-dfu case 107
#[test]
fn every_client_finishes_with_thirty_lost_links_slow_flash_and_a_used_slot() {
    let image = ImageSpec::demo(version(2), 400_000, &image_key())
        .unwrap()
        .build();
    let package = package(&init_for(&image), &image);
    for object_size in [4096, OBJECT_SIZE, 2 * OBJECT_SIZE] {
        for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
            let setup = Setup {
                object_size,
                times: Times::Maximum,
                slot_size: 128 * 4096,
                max_sectors: 128,
                ..setup()
            };
            let mut world = World::new(setup, factory_image(), LinkParams::default()).unwrap();
            world
                .board
                .secondary
                .set_contents(0, &vec![0x5A; 128 * 4096])
                .unwrap();
            world.mishaps.drop_link_at = (1..=30).map(|drop| drop * 50_000).collect();
            world.mishaps.repeat_every = 100;
            let outcome = world.update(&package, phone, phone.settings().receipts, &mut |_| ());
            let outcome = outcome.unwrap_or_else(|error| panic!("{phone:?}, {object_size}: {error}"));
            assert_eq!(world.packets_lost, 0, "{phone:?}, {object_size}");
            let limit_ns = (object_size / 4096).max(4) as u64 * 390_000_000;
            assert!(
                world.slowest_answer_ns < limit_ns,
                "{} ns",
                world.slowest_answer_ns
            );
            assert_eq!(outcome.boot.report.image.digest, image_digest(&image).unwrap());
        }
    }
}
