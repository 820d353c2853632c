// SPDX-License-Identifier: Apache-2.0
//! Data objects, and the end of a transfer.

use crate::harness::*;
use bledfu_sim::device::Setup;
use bledfu_sim::init_packet::InitFields;
use bledfu_sim::keys::swap_halves;
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::Fault;
use bledfu_sim::parts::{Part, TypMax, MX25R6435F};
use bledfu_sim::phone::secure_dfu::{Client, Phone};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_sim::world::World;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::{Then, LAST_ANSWER_MS};

const FIRST_OBJECT: &str = "60 03 01 00 10 00 00 95 19 4E 5E";
const WHOLE_IMAGE: &str = "60 03 01 88 13 00 00 D4 04 BD 1A";
const NOTHING: &str = "60 03 01 00 00 00 00 00 00 00 00";

fn with_init() -> Peer {
    Peer::after_init(&packet_i())
}

// secure-dfu case 51
#[test]
fn no_data_object_without_an_init_packet() {
    let mut peer = Peer::new();
    peer.ask("01 02 00 10 00 00", "60 01 08");
    peer.data(&image_p()[..244]);
    peer.ask("03", NOTHING);
    peer.ask("04", "60 04 08");
    // An init packet that was received but not executed does not count.
    peer.ask(&create_command(139), "60 01 01");
    peer.data(&packet_i());
    peer.ask("01 02 00 10 00 00", "60 01 08");
}

// secure-dfu case 52
#[test]
fn a_data_object_of_no_bytes_is_an_invalid_parameter() {
    with_init().ask("01 02 00 00 00 00", "60 01 03");
}

// secure-dfu case 53
#[test]
fn a_data_object_not_a_multiple_of_the_page_is_an_invalid_parameter() {
    with_init().ask("01 02 04 10 00 00", "60 01 03");
}

// secure-dfu case 54
#[test]
fn a_data_object_above_the_largest_size_does_not_fit() {
    with_init().ask("01 02 00 20 00 00", "60 01 04");
}

// secure-dfu case 55
#[test]
fn a_short_object_is_accepted_only_at_the_end() {
    let mut peer = with_init();
    peer.ask("01 02 88 03 00 00", "60 01 03");
    peer.ask("01 02 FF FF FF FF", "60 01 03");
    peer.ask("01 02 00 F0 FF FF", "60 01 04");
}

// secure-dfu cases 56, 57, 58, 59
#[test]
fn the_first_object_is_answered_from_create_to_execute() {
    let p = image_p();
    let mut peer = with_init();
    peer.ask("01 02 00 10 00 00", "60 01 01");
    peer.ask("03", NOTHING);
    peer.data(&p[..244]);
    peer.ask("03", "60 03 01 F4 00 00 00 B4 F1 28 D7");
    peer.ask("04", "60 04 08");
    peer.ask("03", "60 03 01 F4 00 00 00 B4 F1 28 D7");
    peer.data(&p[244..OBJECT]);
    peer.ask("03", FIRST_OBJECT);
    // One byte more, one packet more: dropped.
    peer.data(&[0xAA]);
    peer.data(&p[OBJECT..OBJECT + 244]);
    peer.ask("03", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
    peer.ask("04", "60 04 01");
    peer.ask("03", FIRST_OBJECT);
    // No object is open now: the packet is dropped.
    peer.data(&p[OBJECT..OBJECT + 244]);
    peer.ask("03", FIRST_OBJECT);
    peer.assert_held(&p[..OBJECT]);
}

// secure-dfu case 59
#[test]
fn a_packet_that_crosses_the_end_of_the_object_is_dropped_whole() {
    let p = image_p();
    let mut peer = with_init();
    peer.ask("01 02 00 10 00 00", "60 01 01");
    peer.data(&p[..4000]);
    peer.data(&p[4000..4097]);
    peer.ask("03", &checksum(&p[..4000]));
    peer.data(&p[4000..OBJECT]);
    peer.ask("03", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
}

// secure-dfu case 57
#[test]
fn select_and_receipts_in_the_middle_of_an_object_do_not_close_it() {
    // Android does so when it believes that bytes were lost: receipts for every packet, and the rest without Create.
    let p = image_p();
    let mut peer = with_init();
    peer.ask("01 02 00 10 00 00", "60 01 01");
    peer.data(&p[..244]);
    peer.ask("06 01", "60 06 01 00 02 00 00 8B 00 00 00 2B F2 BD DA");
    peer.ask("06 02", &selected(4096, &p[..244]));
    peer.ask("02 01 00", "60 02 01");
    assert_eq!(
        peer.packets(&p[244..488], 244),
        ["60 03 01 E8 01 00 00 42 6E 9E 09"]
    );
    peer.ask("02 00 00", "60 02 01");
    // A refused Create does not close it either.
    peer.ask("01 02 00 20 00 00", "60 01 04");
    peer.data(&p[488..OBJECT]);
    peer.ask("03", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
}

// secure-dfu case 60
#[test]
fn the_last_object_ends_exactly_at_the_end_of_the_image() {
    let mut peer = Peer::after_first_object();
    peer.ask("01 02 00 10 00 00", "60 01 08");
    peer.ask("01 02 89 03 00 00", "60 01 03");
    peer.ask("01 02 88 03 00 00", "60 01 01");
}

// secure-dfu case 61
#[test]
fn the_last_object_of_p_is_complete_but_not_an_image() {
    let p = image_p();
    let mut peer = Peer::after_first_object();
    peer.ask("01 02 88 03 00 00", "60 01 01");
    peer.data(&p[OBJECT..]);
    peer.ask("03", WHOLE_IMAGE);
    // P has no MCUboot header: this target reports that here, where the list's target would go on to reset.
    listen();
    // The worker clears an unneeded slot as soon as it idles: check before that.
    peer.idles = false;
    peer.ask("04", "60 04 0B 0C");
    assert_said("the received firmware is not a signed image this device may run");
    peer.assert_held(&p);
    peer.assert_pending(false);
    assert_eq!(peer.then, Then::Continue);
}

// secure-dfu case 61
#[test]
fn the_last_execute_of_an_image_marks_it_and_the_device_resets_after_the_answer() {
    let image = update_image();
    let mut peer = Peer::after_init(&init_for(image));
    peer.object(image, 0, OBJECT);
    peer.ask("04", "60 04 01");
    peer.object(image, OBJECT, P_SIZE);
    peer.assert_pending(false);
    peer.ask("04", "60 04 01");
    peer.assert_pending(true);
    peer.assert_held(image);
    assert_eq!(peer.then, Then::Reset);
    // Some clients execute again when they missed the answer.
    peer.ask("04", "60 04 01");
    peer.install_and_confirm(image);
}

// secure-dfu case 61
#[test]
fn the_link_is_closed_after_the_last_answer_was_delivered_and_not_before() {
    let mut world = World::new(setup(), factory_image(), LinkParams::default()).unwrap();
    world.connect();
    Client::new(&mut world, Phone::Android, 0)
        .update(&update_package(), &mut |_| ())
        .unwrap();
    let answered = world.now_ns();
    assert_eq!(
        world.wait_ms(2_000),
        Err(PhoneError::LinkLost),
        "the device closes the link"
    );
    let kept_ms = (world.now_ns() - answered) / 1_000_000;
    assert!(
        (LAST_ANSWER_MS - 20..1_000).contains(&kept_ms),
        "closed {kept_ms} ms after the answer"
    );
    assert!(world.board.is_pending().unwrap());
    let report = world.power_up().unwrap().report;
    assert_eq!(report.image.header.version, version(2));
}

// secure-dfu case 62
#[test]
fn create_again_restarts_the_object_on_erased_flash() {
    let p = image_p();
    let mut peer = with_init();
    peer.ask("01 02 00 10 00 00", "60 01 01");
    peer.data(&vec![0x00; 500]);
    peer.ask("03", &checksum(&[0x00; 500]));
    let before = peer.board.external.stats();
    peer.ask("01 02 00 10 00 00", "60 01 01");
    assert!(
        (peer.board.external.stats() - before).erases() > 0,
        "the page with the wrong bytes is erased"
    );
    peer.ask("03", NOTHING);
    peer.data(&p[..OBJECT]);
    peer.ask("03", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
    peer.assert_held(&p[..OBJECT]);
}

// secure-dfu case 63
#[test]
fn create_again_of_a_full_object_that_was_not_executed_restarts_it() {
    let p = image_p();
    let mut peer = Peer::after_first_object();
    peer.object(&p, OBJECT, P_SIZE);
    peer.ask("03", WHOLE_IMAGE);
    peer.ask("01 02 88 03 00 00", "60 01 01");
    peer.ask("03", FIRST_OBJECT);
    peer.data(&p[OBJECT..]);
    peer.ask("03", WHOLE_IMAGE);
    // The worker clears an unneeded slot as soon as it idles: check before that.
    peer.idles = false;
    peer.ask("04", "60 04 0B 0C"); // P is no image
    peer.assert_held(&p);
}

// secure-dfu case 64
#[test]
fn an_image_that_differs_in_one_bit_is_refused_at_the_end() {
    let mut wrong = update_image().to_vec();
    wrong[3000] ^= 0x08;
    let mut peer = Peer::new();
    listen();
    assert_eq!(peer.transfer(&init_for(update_image()), &wrong), "60 04 0B 0C");
    assert_said("the SHA-256 of the received firmware differs");
    peer.assert_pending(false);
    peer.ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    peer.ask("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
    assert_eq!(peer.reboot().image.header.version, version(1));

    let mut wrong = image_p();
    wrong[4500] ^= 1;
    listen();
    assert_eq!(peer.transfer(&packet_i(), &wrong), "60 04 0B 0C");
    assert_said("the SHA-256 of the received firmware differs");
    peer.update_and_confirm();
}

/// A part that takes 900 ms to erase a sector.
static SLOW: Part = Part {
    name: "slow",
    erase: &[(
        4096,
        TypMax {
            typ_ns: 900_000_000,
            max_ns: 900_000_000,
        },
    )],
    ..MX25R6435F
};

// secure-dfu case 65
#[test]
fn a_whole_object_in_one_burst_waits_for_a_slow_erase_without_loss() {
    let p = image_p();
    let mut peer = Peer::with(Setup {
        part: &SLOW,
        ..setup()
    });
    assert_eq!(peer.send_init(&packet_i()), "60 04 01");
    peer.idle();
    // The sector holds an old image, so it must be erased; no idle time erases it beforehand.
    peer.idles = false;
    let start = peer.board.setup.layout().upload_offset();
    peer.board.secondary.set_contents(start, &[0x42; 4096]).unwrap();
    peer.reconnect();
    peer.ask("06 01", "60 06 01 00 02 00 00 8B 00 00 00 2B F2 BD DA");

    // After its start the application does not know which sectors are erased.
    peer.reboot();
    let arrived = peer.board.power.now_ns();
    let frame = |channel, bytes| Frame { channel, bytes };
    let create = hex("01 02 00 10 00 00");
    assert_eq!(peer.device().receive(frame(Channel::Control, &create)), Ok(()));
    let packets: Vec<&[u8]> = p[..OBJECT].chunks(PACKET).collect();
    assert_eq!(packets.len(), 17);
    for packet in packets {
        assert_eq!(peer.device().receive(frame(Channel::Packet, packet)), Ok(()));
    }
    assert_eq!(peer.device().receive(frame(Channel::Control, &[0x03])), Ok(()));
    assert_eq!(
        peer.board.power.now_ns(),
        arrived,
        "the Bluetooth thread does not wait for the flash"
    );

    let before = peer.board.external.stats();
    peer.work();
    // The trailer's sector, though it is blank, the object's, and the one where a packed update of this size would go.
    assert_eq!((peer.board.external.stats() - before).erases(), 3);
    assert_eq!(peer.answers(), ["60 01 01", FIRST_OBJECT]);
    assert!(peer.slowest_ns > 2_700_000_000, "all erases are in Create");
    assert!(
        peer.slowest_ns < 2_850_000_000,
        "Create took {} ns",
        peer.slowest_ns
    );
    peer.ask("04", "60 04 01");
    peer.assert_held(&p[..OBJECT]);
}

// secure-dfu case 65
#[test]
fn an_update_over_the_air_with_a_slow_erase_needs_one_connection() {
    let mut world = World::new(
        Setup {
            part: &SLOW,
            ..setup()
        },
        factory_image(),
        LinkParams::default(),
    )
    .unwrap();
    let old = vec![0x42; world.board.secondary.size() as usize - 4096];
    world.board.secondary.set_contents(0, &old).unwrap();
    let outcome = world
        .update(&update_package(), Phone::Android, 0, &mut |_| ())
        .unwrap();
    assert_eq!(outcome.sessions, 1);
    assert_eq!(outcome.boot.report.image.header.version, version(2));
}

// secure-dfu case 66
#[test]
fn a_write_that_fails_is_answered_with_failure_and_the_object_can_be_sent_again() {
    let image = update_image();
    for fault in [
        Fault::Fail,
        Fault::NoCompletion { work_done: false },
        Fault::WrongBit,
    ] {
        let mut peer = Peer::after_init(&init_for(image));
        peer.ask(&create_data(OBJECT), "60 01 01");
        // Two in a row: a single failure is corrected by a second attempt.
        let next = peer.board.external.ops();
        peer.board.external.fail_at(next + 3, fault);
        peer.board.external.fail_at(next + 4, fault);
        peer.data(&image[..OBJECT]);
        // The bytes have arrived; Execute reports that they are not in flash, never 01.
        peer.ask("03", &checksum(&image[..OBJECT]));
        peer.ask("04", "60 04 0A");
        peer.ask("03", NOTHING);
        assert_eq!(peer.image_from(image, 0), "60 04 01");
        peer.assert_held(image);
        peer.install_and_confirm(image);
    }
}

// secure-dfu case 66
#[test]
fn a_missing_completion_or_a_single_failure_is_corrected() {
    let image = update_image();
    for fault in [
        Fault::Fail,
        Fault::NoCompletion { work_done: false },
        Fault::NoCompletion { work_done: true },
    ] {
        let mut peer = Peer::after_init(&init_for(image));
        peer.ask(&create_data(OBJECT), "60 01 01");
        peer.board.external.fail_at(peer.board.external.ops() + 3, fault);
        peer.data(&image[..OBJECT]);
        peer.ask("03", &checksum(&image[..OBJECT]));
        peer.ask("04", "60 04 01");
        peer.assert_held(&image[..OBJECT]);
        assert_eq!(peer.image_from(image, OBJECT), "60 04 01");
        peer.install_and_confirm(image);
    }
}

// secure-dfu case 66
#[test]
fn an_erase_that_fails_is_answered_at_create() {
    let image = update_image();
    let mut peer = Peer::new();
    peer.idles = false;
    peer.dirty_slot();
    assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
    let next = peer.board.external.ops();
    for op in next..next + 4 {
        peer.board.external.fail_at(op, Fault::Fail);
    }
    peer.ask(&create_data(OBJECT), "60 01 0A");
    peer.data(&image[..244]);
    peer.ask("03", NOTHING);
    peer.board.external.clear_faults();
    assert_eq!(peer.image_from(image, 0), "60 04 01");
    peer.install_and_confirm(image);
}

// secure-dfu case 66
#[test]
fn a_swap_request_that_does_not_read_back_is_rewritten() {
    let image = update_image();
    let ready = || {
        let mut peer = Peer::after_init(&init_for(image));
        peer.object(image, 0, OBJECT);
        peer.ask("04", "60 04 01");
        peer.object(image, OBJECT, P_SIZE);
        peer
    };
    let operations = {
        let mut peer = ready();
        let before = peer.board.external.ops();
        peer.ask("04", "60 04 01");
        peer.board.external.ops() - before
    };
    let lost = |work_done| Fault::NoCompletion { work_done };
    for fault in [Fault::Fail, Fault::WrongBit, lost(false), lost(true)] {
        for operation in 0..operations {
            let mut peer = ready();
            peer.board
                .external
                .fail_at(peer.board.external.ops() + operation, fault);
            match peer.answer("04").as_str() {
                "60 04 01" => {}
                // The last page may have a bit that only an erase can set.
                "60 04 0A" if fault == Fault::WrongBit => {
                    assert_eq!(
                        peer.image_from(image, OBJECT),
                        "60 04 01",
                        "{fault:?} at {operation}"
                    );
                }
                other => panic!("{fault:?} at {operation}: {other}"),
            }
            peer.install_and_confirm(image);
        }
    }
}

// secure-dfu case 67
#[test]
fn a_signature_over_the_whole_image_is_verified_when_there_is_one() {
    let image = update_image();
    let with = |kind, bytes: Vec<u8>| {
        let fields = InitFields {
            boot_validation: vec![(kind, bytes)],
            ..fields_for(image)
        };
        fields.signed(&package_key())
    };
    let right = swap_halves(&package_key().sign(image));
    let other = swap_halves(&package_key().sign(&image[1..]));
    let stranger = swap_halves(&strange_key().sign(image));

    let mut peer = Peer::new();
    for bytes in [
        other.to_vec(),
        stranger.to_vec(),
        vec![0; 64],
        right[..63].to_vec(),
        vec![],
    ] {
        // Not 05: Android-DFU-Library would repeat the last Execute and ignore every further answer.
        assert_eq!(peer.transfer(&with(3, bytes), image), "60 04 0B 0C");
        peer.assert_pending(false);
        peer.ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    }
    // An unknown type.
    assert_eq!(peer.transfer(&with(4, vec![]), image), "60 04 0B 0C");
    peer.assert_pending(false);
    for kind in [0, 1, 2] {
        let mut peer = Peer::new();
        assert_eq!(peer.transfer(&with(kind, vec![]), image), "60 04 01");
        peer.assert_pending(true);
    }
    assert_eq!(peer.transfer(&with(3, right.to_vec()), image), "60 04 01");
    peer.install_and_confirm(image);
}
