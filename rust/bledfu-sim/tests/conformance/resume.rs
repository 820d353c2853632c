// SPDX-License-Identifier: Apache-2.0
//! Broken links, power cuts, aborts.
//!
//! This target rolls back to the last executed object when the link is lost, and keeps the init packet, even a partial
//! one.

use crate::harness::*;
use bledfu_sim::device::{image_digest, Board};
use bledfu_sim::link::LinkParams;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::phone::secure_dfu::{crc32, Phone};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_sim::power::{Power, Tear};
use bledfu_sim::world::World;
use bledfu_slot::journal::{session_id, Journal, Progress};
use bledfu_transfer::secure_dfu::Then;
use bledfu_wire::secure_dfu::Reply;

const INIT_HELD: &str = "60 06 01 00 02 00 00 8B 00 00 00 2B F2 BD DA";
const FIRST_OBJECT: &str = "60 06 01 00 10 00 00 00 10 00 00 95 19 4E 5E";
const NO_OBJECT: &str = "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00";

/// How clients continue after a broken link; each variant says what it sends.
#[derive(Clone, Copy, Debug)]
enum Resume {
    /// AND, IOS, NU, JS: Execute the init packet again; Execute again at an object boundary; Create the next object.
    ExecuteThenCreate,
    /// WEB: an equal init packet is not executed again; Create at the offset, rounded down.
    CreateOnly,
    /// Seen in the field: it executes the init packet again, then goes straight to Create.
    ExecuteInitThenCreate,
}

const RESUMES: [Resume; 3] = [
    Resume::ExecuteThenCreate,
    Resume::CreateOnly,
    Resume::ExecuteInitThenCreate,
];

/// A fresh connection of such a client; the device holds `init` and all executed objects, `held` bytes. Returns the
/// answer to the last Execute.
#[track_caller]
fn finish(peer: &mut Peer, resume: Resume, init: &[u8], image: &[u8], held: usize) -> String {
    peer.ask("06 01", &selected(512, init));
    if !matches!(resume, Resume::CreateOnly) {
        peer.ask("04", "60 04 01");
    }
    peer.ask("06 02", &selected(4096, &image[..held]));
    if matches!(resume, Resume::ExecuteThenCreate) {
        peer.ask("04", "60 04 01");
    }
    peer.image_from(image, held)
}

/// The real image, init packet accepted, first object executed.
fn after_first_object_of(image: &[u8]) -> Peer {
    let mut peer = Peer::after_init(&init_for(image));
    peer.object(image, 0, OBJECT);
    peer.ask("04", "60 04 01");
    peer
}

// secure-dfu cases 75, 76
#[test]
fn a_link_lost_in_the_second_object_goes_back_to_its_start() {
    let p = image_p();
    let mut peer = Peer::after_first_object();
    peer.ask(&create_data(904), "60 01 01");
    peer.data(&p[OBJECT..OBJECT + 100]);
    peer.reconnect();
    peer.ask("06 01", INIT_HELD);
    peer.ask("04", "60 04 01");
    peer.ask("06 02", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
    peer.ask("01 02 88 03 00 00", "60 01 01");
    peer.data(&p[OBJECT..]);
    peer.ask("03", "60 03 01 88 13 00 00 D4 04 BD 1A");
    peer.assert_held(&p[..OBJECT]);
}

// secure-dfu case 75
#[test]
fn every_kind_of_client_finishes_after_a_link_lost_in_the_second_object() {
    let image = update_image();
    for resume in RESUMES {
        let mut peer = after_first_object_of(image);
        peer.ask(&create_data(904), "60 01 01");
        peer.data(&image[OBJECT..OBJECT + 600]);
        peer.reconnect();
        assert_eq!(
            finish(&mut peer, resume, &init_for(image), image, OBJECT),
            "60 04 01",
            "{resume:?}"
        );
        peer.install_and_confirm(image);
    }
    for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
        let mut peer = after_first_object_of(image);
        peer.ask(&create_data(904), "60 01 01");
        peer.data(&image[OBJECT..OBJECT + 600]);
        peer.reconnect();
        assert_eq!(peer.client(phone, 0, &update_package()), Ok(()), "{phone:?}");
        peer.install_and_confirm(image);
    }
}

// secure-dfu case 77
#[test]
fn a_link_lost_right_after_create_leaves_no_object_behind() {
    let image = update_image();
    for resume in RESUMES {
        let mut peer = after_first_object_of(image);
        peer.ask(&create_data(904), "60 01 01");
        peer.reconnect();
        assert_eq!(
            finish(&mut peer, resume, &init_for(image), image, OBJECT),
            "60 04 01",
            "{resume:?}"
        );
        peer.install_and_confirm(image);
    }
    let mut peer = Peer::after_first_object();
    peer.ask(&create_data(904), "60 01 01");
    peer.reconnect();
    peer.ask("06 02", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
}

// secure-dfu case 78
#[test]
fn a_complete_object_that_was_not_executed_is_sent_again() {
    let image = update_image();
    for resume in RESUMES {
        let mut peer = Peer::after_init(&init_for(image));
        peer.object(image, 0, OBJECT);
        peer.reconnect();
        assert_eq!(
            finish(&mut peer, resume, &init_for(image), image, 0),
            "60 04 01",
            "{resume:?}"
        );
        peer.install_and_confirm(image);
    }
}

// secure-dfu case 78
#[test]
fn a_complete_last_object_that_was_not_executed_is_sent_again() {
    let image = update_image();
    for resume in RESUMES {
        let mut peer = after_first_object_of(image);
        peer.object(image, OBJECT, P_SIZE);
        peer.reconnect();
        assert_eq!(
            finish(&mut peer, resume, &init_for(image), image, OBJECT),
            "60 04 01",
            "{resume:?}"
        );
        peer.install_and_confirm(image);
    }
}

// secure-dfu case 79
#[test]
fn a_part_of_the_init_packet_is_kept_and_may_be_continued_or_sent_anew() {
    let init = packet_i();
    let broken = || {
        let mut peer = Peer::new();
        peer.ask(&create_command(139), "60 01 01");
        peer.data(&init[..100]);
        peer.reconnect();
        peer.ask("06 01", "60 06 01 00 02 00 00 64 00 00 00 63 52 C6 15");
        peer
    };
    let mut peer = broken();
    peer.ask("02 00 00", "60 02 01");
    peer.data(&init[100..]);
    peer.ask("03", "60 03 01 8B 00 00 00 2B F2 BD DA");
    peer.ask("04", "60 04 01");
    assert_eq!(broken().send_init(&init), "60 04 01");
    // After a reset it is gone: nothing was executed, so nothing is in the journal.
    let mut peer = broken();
    peer.reboot();
    peer.ask("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
}

// secure-dfu case 80
#[test]
fn a_client_that_does_not_execute_the_init_packet_again_may_create() {
    let mut peer = Peer::after_first_object();
    peer.reconnect();
    peer.ask("06 01", INIT_HELD);
    peer.ask("06 02", FIRST_OBJECT);
    peer.ask(&create_data(904), "60 01 01");
    let mut peer = Peer::after_init(&packet_i());
    peer.reconnect();
    peer.ask("06 01", INIT_HELD);
    peer.ask("06 02", NO_OBJECT);
    peer.ask(&create_data(OBJECT), "60 01 01");
}

/// Sends the real image up to the answer to the last Execute, or until the power fails. Returns how many bytes the
/// device has reported as executed.
fn send_until_cut(peer: &mut Peer) -> usize {
    let image = update_image();
    let mut executed = 0;
    let package = update_package();
    let progress = &mut |bytes: u32| executed = bytes as usize;
    let end = bledfu_sim::phone::secure_dfu::Client::new(peer, Phone::Nrfutil, 0).update(&package, progress);
    match end {
        Ok(_) => executed = image.len(),
        Err(error) => assert!(peer.board.power.is_off(), "{error}"),
    }
    executed
}

/// A device whose slot holds an old image, so that every erase is needed.
fn worn_device() -> Peer {
    let board = Board::new(setup(), &Power::new()).unwrap();
    board.program_factory(factory_image()).unwrap();
    let size = board.secondary.size() as usize;
    let old: Vec<u8> = (0..size).map(|i| (i / 64 + 5 * i) as u8 & 0x5B).collect();
    board.secondary.set_contents(0, &old).unwrap();
    Peer::on(board)
}

// secure-dfu case 81
#[test]
fn a_power_cut_in_any_flash_operation_leaves_a_valid_state_and_the_update_can_be_finished() {
    let image = update_image();
    let wanted = image_digest(image).unwrap();
    let whole = {
        let mut peer = worn_device();
        let first = peer.board.power.ops();
        assert_eq!(send_until_cut(&mut peer), image.len());
        first..peer.board.power.ops()
    };
    assert!(whole.clone().count() > 30, "erases, 20 pages, journal, trailer");

    for number in whole {
        let torn = |fraction| Tear::Inside {
            fraction,
            seed: number,
        };
        for tear in [Tear::Before, torn(0.0), torn(0.4), torn(0.9), torn(1.0)] {
            let mut peer = worn_device();
            peer.board.power.cut_at(number, tear);
            let executed = send_until_cut(&mut peer);
            let power = peer.board.power.clone();
            let place = format!("{tear:?} {}", power.last_op().unwrap());
            assert!(power.is_off(), "{place}");

            let report = peer.reboot();
            if report.image.digest == wanted {
                // The cut came after the mark. The image runs unconfirmed; nothing that happens now may destroy the
                // image to go back to.
                assert!(executed >= OBJECT, "{place}");
                peer.idle();
                peer.drop_link();
                peer.idle();
                let back = peer.restart().image.digest;
                assert_eq!(back, image_digest(factory_image()).unwrap(), "{place}: reverted");
                peer.connect();
            } else {
                let select = Reply::decode(&hex(&peer.answer("06 02")));
                let Ok(Reply::Selected { offset, crc, .. }) = select else {
                    panic!("{place}: {select:?}");
                };
                let offset = offset as usize;
                // Executed bytes are kept; an object whose answer was cut off may be.
                let next = (executed + OBJECT).min(image.len());
                assert!(
                    offset == executed || offset == next,
                    "{place}: {executed} executed, {offset} held"
                );
                let held = peer.board.received();
                assert_eq!(crc32(&held[..offset]), crc, "{place}");
                assert_eq!(held[..offset], image[..offset], "{place}");
                peer.assert_pending(false);
            }
            assert_eq!(
                peer.client(Phone::Nrfutil, 0, &update_package()),
                Ok(()),
                "{place}"
            );
            assert_eq!(peer.then, Then::Reset, "{place}");
            assert_eq!(peer.reboot().image.digest, wanted, "{place}");
        }
    }
}

// secure-dfu case 82
#[test]
fn another_init_packet_after_half_a_transfer_starts_a_new_one() {
    let mut peer = Peer::after_first_object();
    peer.ask(&create_data(904), "60 01 01");
    peer.data(&image_p()[OBJECT..OBJECT + 300]);
    peer.reconnect();
    let image = update_image();
    let init = init_for(image);
    peer.ask("06 01", INIT_HELD);
    peer.ask(&create_command(init.len()), "60 01 01");
    peer.ask("06 02", NO_OBJECT);
    assert_eq!(peer.transfer(&init, image), "60 04 01");
    peer.install_and_confirm(image);
}

// secure-dfu case 82
#[test]
fn another_init_packet_after_a_reset_starts_a_new_one() {
    let mut peer = Peer::after_first_object();
    peer.reboot();
    peer.ask("06 01", INIT_HELD);
    peer.ask("06 02", FIRST_OBJECT);
    assert_eq!(peer.client(Phone::Ios, 4, &update_package()), Ok(()));
    peer.install_and_confirm(update_image());
}

// secure-dfu case 83
#[test]
fn abort_has_no_answer_and_closes_the_link_in_every_state() {
    let image = update_image();
    let init = init_for(image);
    type Step<'s> = (&'s str, Box<dyn Fn(&mut Peer) + 's>);
    let steps: [Step<'_>; 9] = [
        (
            "create command",
            Box::new(|peer| peer.ask(&create_command(init.len()), "60 01 01")),
        ),
        ("half the init packet", Box::new(|peer| peer.data(&init[..70]))),
        ("the rest of it", Box::new(|peer| peer.data(&init[70..]))),
        ("execute", Box::new(|peer| peer.ask("04", "60 04 01"))),
        (
            "create data",
            Box::new(|peer| peer.ask(&create_data(OBJECT), "60 01 01")),
        ),
        ("half an object", Box::new(|peer| peer.data(&image[..2000]))),
        ("the rest of it", Box::new(|peer| peer.data(&image[2000..OBJECT]))),
        ("execute", Box::new(|peer| peer.ask("04", "60 04 01"))),
        (
            "the last object",
            Box::new(|peer| assert_eq!(peer.image_from(image, OBJECT), "60 04 01")),
        ),
    ];
    for done in 0..=steps.len() {
        let mut peer = Peer::new();
        for (_, step) in &steps[..done] {
            step(&mut peer);
        }
        peer.ask_nothing("0C");
        let last = done.checked_sub(1).map_or("connect", |index| steps[index].0);
        assert_eq!(peer.then, Then::Disconnect, "abort after {last}");
        let staged = done == steps.len();
        peer.reconnect();
        peer.assert_pending(staged);
        if !staged {
            let held = if done == 8 { OBJECT } else { 0 };
            peer.ask("06 02", &selected(4096, &image[..held]));
            assert_eq!(
                peer.client(Phone::Nrfutil, 0, &update_package()),
                Ok(()),
                "after {last}"
            );
        }
        assert_eq!(peer.reboot().image.header.version, version(2), "after {last}");
    }
}

// secure-dfu case 83
#[test]
fn abort_closes_the_link_within_a_second() {
    let mut world = World::new(setup(), factory_image(), LinkParams::default()).unwrap();
    world.connect();
    world.control(&[0x06, 0x01]).unwrap();
    assert_eq!(world.notification().map(|bytes| bytes.len()), Ok(15));
    let began = world.now_ns();
    world.control(&[0x0C]).unwrap();
    assert_eq!(world.wait_ms(1_000), Err(PhoneError::LinkLost));
    assert!(world.now_ns() - began < 1_000_000_000);
    let outcome = world
        .update(&update_package(), Phone::Android, 0, &mut |_| ())
        .unwrap();
    assert_eq!(outcome.sessions, 1);
}

#[test]
fn a_reset_keeps_exactly_what_was_executed() {
    let p = image_p();
    let mut peer = Peer::after_first_object();
    peer.ask(&create_data(904), "60 01 01");
    peer.data(&p[OBJECT..]);
    peer.ask("03", "60 03 01 88 13 00 00 D4 04 BD 1A");
    peer.reboot();
    peer.ask("06 01", INIT_HELD);
    peer.ask("04", "60 04 01");
    peer.ask("06 02", FIRST_OBJECT);
    peer.ask("04", "60 04 01");
}

#[test]
fn progress_is_rejected_when_the_slot_does_not_hold_it() {
    let image = update_image();
    let mut peer = after_first_object_of(image);
    let start = peer.board.setup.layout().upload_offset();
    peer.board.secondary.set_contents(start + 700, &[0x00]).unwrap();
    // Meanwhile another image was staged: its trailer is erased before the first byte is written.
    let trailer = peer.board.setup.layout().secondary_trailer();
    peer.board
        .secondary
        .set_contents(trailer.swap_info(), &[0x02])
        .unwrap();
    peer.reboot();
    peer.ask("06 01", &selected(512, &init_for(image)));
    peer.ask("06 02", NO_OBJECT);
    peer.ask(&create_data(OBJECT), "60 01 01");
    let contents = peer.board.secondary.contents();
    assert!(
        contents[trailer.first_sector() as usize..]
            .iter()
            .all(|&byte| byte == 0xFF),
        "no trailer is left"
    );
    assert_eq!(peer.image_from(image, 0), "60 04 01");
    peer.install_and_confirm(image);
}

// secure-dfu case 97
#[test]
fn the_image_to_go_back_to_survives_whatever_peer_and_journal_say() {
    let image = update_image();
    let mut peer = Peer::new();
    assert_eq!(peer.transfer(&init_for(image), image), "60 04 01");
    let before_close = {
        // The same up to the mark, then a cut: the session is still in the journal. The last operation closes it.
        let mut other = Peer::new();
        let total = peer.board.power.ops();
        other.board.power.cut_at(total - 1, Tear::Before);
        send_until_cut(&mut other);
        assert!(other.board.power.is_off());
        other.board.power.power_on();
        other.assert_pending(true);
        other
    };
    for mut peer in [peer, before_close] {
        assert_eq!(peer.reboot().image.header.version, version(2));
        assert!(!peer.device().is_confirmed());
        let kept = peer.board.secondary.contents();
        peer.idle();
        // An init packet is checked, because it may be the running image's; any other is refused.
        let other = init_for(factory_image());
        assert_eq!(peer.send_init(&other), "60 04 08");
        peer.control(&hex("06 01"));
        peer.control(&hex("04"));
        peer.ask("01 02 00 10 00 00", "60 01 08");
        peer.idle();
        peer.drop_link();
        peer.idle();
        assert!(
            peer.board.secondary.contents() == kept,
            "the image to go back to is untouched"
        );
        assert_eq!(
            peer.reboot().image.header.version,
            version(1),
            "and the device goes back to it"
        );
    }
}

/// A device whose journal says that `held` bytes of the update were executed.
fn journaled(held: &[u8]) -> Peer {
    journaled_of(update_image(), held)
}

/// A device whose journal says that `held` bytes of this image were executed.
fn journaled_of(image: &[u8], held: &[u8]) -> Peer {
    let mut peer = Peer::new();
    let init = init_for(image);
    let start = peer.board.setup.layout().upload_offset();
    peer.board.secondary.set_contents(start, held).unwrap();
    let mut journal = Journal::new(peer.board.journal.clone());
    journal.begin(&init).unwrap();
    let progress = Progress {
        offset: held.len() as u32,
        check: crc32(held),
    };
    journal.progress(session_id(&init), progress).unwrap();
    peer.reboot();
    peer
}

/// The update with a different byte in its first object.
fn wrong_update() -> Vec<u8> {
    let mut image = update_image().to_vec();
    image[700] ^= 1;
    image
}

#[test]
fn a_complete_session_of_another_file_is_closed() {
    let mut peer = journaled(&wrong_update());
    peer.ask("06 01", &selected(512, &[]));
    peer.ask("06 02", NO_OBJECT);
    assert_eq!(
        peer.transfer(&init_for(update_image()), update_image()),
        "60 04 01"
    );
    peer.install_and_confirm(update_image());
    // The right one is not sent again.
    let mut peer = journaled(update_image());
    peer.ask("06 02", &selected(4096, update_image()));
}

#[test]
fn a_session_whose_peer_goes_back_by_an_object_is_closed() {
    for phone in [Phone::Android, Phone::Nrfutil] {
        let mut peer = journaled(&wrong_update()[..OBJECT]);
        listen();
        assert!(peer.client(phone, 0, &update_package()).is_err(), "{phone:?}");
        assert_said("send it again");
        peer.update_and_confirm();
    }
    // A peer that has accepted the stored bytes may make a mistake.
    let image = update_image();
    let mut peer = journaled(&image[..OBJECT]);
    peer.object(image, OBJECT, image.len());
    peer.reconnect();
    peer.ask("06 02", &selected(4096, &image[..OBJECT]));
}

#[test]
fn a_session_of_other_bytes_is_closed_when_its_next_object_is_begun_twice() {
    // Long enough that the object to go back to looks like the next one.
    let image = ImageSpec::demo(version(2), 5 * OBJECT, &image_key())
        .expect("room for TLVs")
        .build();
    let mut wrong = image.clone();
    wrong[700] ^= 1;
    for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
        let mut peer = journaled_of(&image, &wrong[..2 * OBJECT]);
        let package = package(&init_for(&image), &image);
        listen();
        // The client that finds it may give up; the next one finds nothing of it.
        if peer.client(phone, 0, &package).is_err() {
            assert_said("send it again");
            peer.reconnect();
            assert_eq!(peer.client(phone, 0, &package), Ok(()), "{phone:?}");
        }
        peer.install_and_confirm(&image);
    }
}

#[test]
fn a_foreign_trailer_is_erased_before_the_next_byte_of_a_session() {
    let image = update_image();
    let mut peer = journaled(&image[..OBJECT]);
    let layout = peer.board.setup.layout();
    let trailer = layout.secondary_trailer();
    let magic = bledfu_slot::trailer::magic_bytes(8);
    // With an invalid flag: no boot stage takes it for a request.
    peer.board
        .secondary
        .set_contents(trailer.magic(), &magic[..8])
        .unwrap();
    peer.board
        .secondary
        .set_contents(trailer.copy_done(), &[1])
        .unwrap();
    peer.reboot();
    peer.ask("06 02", &selected(4096, &image[..OBJECT]));
    peer.ask(&create_data(image.len() - OBJECT), "60 01 01");
    let from = trailer.first_sector() as usize;
    assert!(peer.board.secondary.contents()[from..]
        .iter()
        .all(|&byte| byte == 0xFF));
    peer.data(&image[OBJECT..]);
    peer.ask("04", "60 04 01");
    peer.install_and_confirm(image);
}

#[test]
fn a_session_that_nobody_can_continue_is_closed() {
    let mut stored = [0; bledfu_slot::journal::MAX_SESSION];
    for session in [&[0xFE, 1, 2][..], &[0, 1, 2]] {
        let mut peer = Peer::new();
        let mut journal = Journal::new(peer.board.journal.clone());
        journal.begin(session).unwrap();
        peer.reboot();
        assert_eq!(journal.session(&mut stored), Ok(None), "{session:02x?}");
        peer.update_and_confirm();
    }
}
