// SPDX-License-Identifier: Apache-2.0
//! The 27 pitfalls of the field, collected from the issue trackers of the phone libraries, other bootloaders and
//! Nordic's forum. Each is excluded by a test, or cannot happen.

mod harness;

use bledfu_sim::device::Setup;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::nor::Fault;
use bledfu_sim::package::PackageSpec;
use bledfu_sim::parts::{Part, TypMax, MX25R6435F};
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::{Then, INACTIVITY_MS};
use harness::*;

struct Pitfall {
    number: u8,
    /// What others observed.
    symptom: &'static str,
    /// Why it cannot happen here.
    excluded: &'static str,
    /// The names of the tests that show it; empty if there is nothing to run.
    tests: &'static [&'static str],
}

const fn pitfall(
    number: u8,
    symptom: &'static str,
    excluded: &'static str,
    tests: &'static [&'static str],
) -> Pitfall {
    Pitfall {
        number,
        symptom,
        excluded,
        tests,
    }
}

const PITFALLS: &[Pitfall] = &[
    pitfall(
        1,
        "the receive buffer is reused before the flash has read it",
        "The worker copies bytes from the ring into the writer's only page. A blocking flash call programs the page, and what reads back is compared, before the page is filled again. No completion callback can be missed.",
        &["a_missing_completion_or_a_single_failure_is_corrected"],
    ),
    pitfall(
        2,
        "the CRC is computed after the buffer was handed on",
        "CRC and page are fed from the same borrowed bytes, which nobody else can change meanwhile.",
        &["a_write_that_fails_is_answered_with_failure_and_the_object_can_be_sent_again"],
    ),
    pitfall(
        3,
        "packets that arrive during an erase are lost",
        "Create is answered only when the whole object is erased, and nothing is erased until its last packet is there, unless the ring holds a whole object.",
        &["a_whole_object_in_one_burst_waits_for_a_slow_erase_without_loss"],
    ),
    pitfall(
        4,
        "packets of 20 bytes exhaust a pool of packet buffers",
        "The ring counts bytes, with one byte of overhead for a short packet, and small objects are sized for packets of 20 bytes.",
        &["an_object_in_packets_of_20_bytes_never_finds_the_ring_full"],
    ),
    pitfall(
        5,
        "a slow erase blocks the link until the supervision timeout",
        "Only the worker touches flash. A request erases its object and at most the trailer, never the whole slot.",
        &["no_request_erases_more_than_its_object_and_the_trailer"],
    ),
    pitfall(
        6,
        "the inactivity timer fires while a request is in work",
        "The worker itself looks at the clock, between two frames. When it has been silent for too long, only the link is closed, and the transfer goes back to its last whole sector.",
        &["work_is_no_silence_and_silence_ends_the_link_only"],
    ),
    pitfall(
        7,
        "an interrupted update is restarted without resetting the write position",
        "Create of a command object resets everything in RAM, an accepted init packet resets the journal, and the writer checks every write against image and slot.",
        &[
            "a_new_command_object_forgets_the_image",
            "another_init_packet_after_half_a_transfer_starts_a_new_one",
        ],
    ),
    pitfall(
        8,
        "NOR flash is programmed again without an erase",
        "Create always ends with sectors that read blank. Sectors used since the last commit are erased even if they read blank. The simulated flash refuses to turn a bit from 0 to 1.",
        &["create_again_restarts_the_object_on_erased_flash"],
    ),
    pitfall(
        9,
        "Create was answered, the link broke, and Execute is refused on resume",
        "When the link is lost, an open object without a whole sector is forgotten. Execute at the end of an object succeeds and changes nothing.",
        &["a_link_lost_right_after_create_leaves_no_object_behind"],
    ),
    pitfall(
        10,
        "a stale receipt arrives between a request and its answer after a reconnect",
        "Receipts are off on every new connection, the ring is cleared with the link, and one worker answers all frames in order.",
        &["a_new_connection_starts_without_receipts"],
    ),
    pitfall(
        11,
        "a receipt says offset 0",
        "A receipt is the same message as the answer to Checksum, made from the same state, whether its packet was taken or dropped.",
        &[
            "receipts_are_for_the_init_packet_too_and_count_dropped_packets",
            "a_receipt_tells_the_true_offset_even_when_the_flash_has_failed",
        ],
    ),
    pitfall(
        12,
        "the receipt for the packet that ends the object is missing",
        "Receipts count packets, and the end of an object makes no difference. (The transport repeats a notification that finds the queue full.)",
        &["the_receipt_that_is_due_with_the_last_packet_of_the_object_is_sent"],
    ),
    pitfall(
        13,
        "the last answer is lost because the link is closed too early",
        "The service sends the answer, waits until it is delivered, waits LAST_ANSWER_MS, closes the link, and resets.",
        &["the_link_is_closed_after_the_last_answer_was_delivered_and_not_before"],
    ),
    pitfall(
        14,
        "the device resets without closing the link",
        "The service requests the reset only after `Step::Disconnect`.",
        &[
            "the_link_is_closed_after_the_last_answer_was_delivered_and_not_before",
            "abort_closes_the_link_within_a_second",
        ],
    ),
    pitfall(
        15,
        "the buttonless characteristic does not answer the name request",
        "By default there is no buttonless characteristic, and phones start at once. With it, each request has its answer, and a name is kept before it is answered.",
        &[],
    ),
    pitfall(
        16,
        "a stale GATT cache hides the service",
        "By default there is no separate update mode, so the GATT table never changes between application and update. The update mode of buttonless entry has another address, or tells bonded phones that the services changed.",
        &[],
    ),
    pitfall(
        17,
        "the packet characteristic is shorter than the MTU allows",
        "A frame may have any length that ATT allows, up to 512 bytes. A longer one is refused with an ATT error.",
        &["packets_of_every_usual_mtu_are_accepted"],
    ),
    pitfall(
        18,
        "Checksum says 0 although data was sent",
        "One field says which object Checksum, Execute and packets belong to, and only Select and Create set it.",
        &[
            "select_of_an_unknown_type_is_an_invalid_object_and_selects_nothing",
            "the_first_object_is_answered_from_create_to_execute",
        ],
    ),
    pitfall(
        19,
        "the QSPI driver cannot read its source from internal flash",
        "Slot pages and trailer fields are programmed from aligned buffers in RAM. The simulated flash refuses a source that is not word-aligned.",
        &["the_last_execute_of_an_image_marks_it_and_the_device_resets_after_the_answer"],
    ),
    pitfall(
        20,
        "packets are no multiple of the flash's write size",
        "Pages are filled from the stream of bytes, and only the last page of an image is padded.",
        &[
            "packets_of_every_usual_mtu_are_accepted",
            "packets_of_one_byte_are_accepted",
        ],
    ),
    pitfall(
        21,
        "the hash is over the copy in RAM, not over the flash",
        "The digest is computed over each page as it reads back. TLVs and signature are read from flash.",
        &["a_bit_that_fails_in_flash_is_found_before_the_object_is_executed"],
    ),
    pitfall(
        22,
        "a transfer is resumed with another image",
        "Progress in the journal carries the CRC-32 of its init packet, the bytes it claims are hashed again in the slot, and the init packet names the SHA-256 of the image.",
        &[
            "another_init_packet_after_a_reset_starts_a_new_one",
            "progress_is_rejected_when_the_slot_does_not_hold_it",
        ],
    ),
    pitfall(
        23,
        "the init packet comes in one burst and is dropped",
        "It goes through the same ring as data, which has room for eight of them.",
        &["the_longest_command_in_one_burst_of_packets_of_20_bytes"],
    ),
    pitfall(
        24,
        "the install takes so long that the device seems dead",
        "This cannot be avoided, but the time is known in advance: `bledfu update` reports it for every flash part.",
        &[],
    ),
    pitfall(
        25,
        "the same version is refused",
        "An equal firmware version is accepted, as in the reference. A lower one is refused with its own code (0B 05).",
        &[
            "an_older_firmware_is_refused_and_the_same_is_not",
            "the_same_package_twice_is_fine_and_is_installed_once",
        ],
    ),
    pitfall(
        26,
        "an answer leaves before the response to the write it answers",
        "The Bluetooth thread only puts the frame into the ring. Answers come from the worker, later.",
        &["a_whole_object_in_one_burst_waits_for_a_slow_erase_without_loss"],
    ),
    pitfall(
        27,
        "users see numbers like 4108 or 520 and no reason",
        "Every refusal has one code on the wire and one sentence in the log. Packages are padded to a multiple of 4, so 4108 cannot happen.",
        &["bad_init_packets_are_refused_with_the_reason_and_touch_nothing"],
    ),
];

const SOURCES: &[&str] = &[
    include_str!("pitfalls.rs"),
    include_str!("bad_input.rs"),
    include_str!("conformance/command.rs"),
    include_str!("conformance/data.rs"),
    include_str!("conformance/init.rs"),
    include_str!("conformance/link.rs"),
    include_str!("conformance/receipts.rs"),
    include_str!("conformance/resume.rs"),
    include_str!("conformance/serial.rs"),
];

#[test]
fn every_pitfall_has_a_sentence_and_its_tests_exist() {
    let numbers: Vec<u8> = PITFALLS.iter().map(|pitfall| pitfall.number).collect();
    assert_eq!(numbers, (1..=27).collect::<Vec<u8>>());
    for pitfall in PITFALLS {
        assert!(
            pitfall.symptom.contains(' ') && pitfall.excluded.ends_with(['.', ')']),
            "{}",
            pitfall.number
        );
        for test in pitfall.tests {
            let head = format!("#[test]\nfn {test}()");
            assert!(
                SOURCES.iter().any(|source| source.contains(&head)),
                "{}: {test}",
                pitfall.number
            );
        }
    }
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

#[test]
fn an_object_in_packets_of_20_bytes_never_finds_the_ring_full() {
    let p = image_p();
    let mut peer = Peer::with(Setup {
        part: &SLOW,
        ..setup()
    });
    peer.idles = false;
    peer.dirty_slot();
    assert_eq!(peer.send_init(&packet_i()), "60 04 01");
    let push = |peer: &mut Peer, channel, bytes: &[u8]| {
        assert_eq!(peer.device().receive(Frame { channel, bytes }), Ok(()));
    };
    push(&mut peer, Channel::Control, &hex(&create_data(OBJECT)));
    for packet in p[..OBJECT].chunks(20) {
        push(&mut peer, Channel::Packet, packet);
    }
    push(&mut peer, Channel::Control, &[0x03]);
    peer.work();
    assert_eq!(peer.answers(), ["60 01 01", "60 03 01 00 10 00 00 95 19 4E 5E"]);
}

#[test]
fn no_request_erases_more_than_its_object_and_the_trailer() {
    let image = update_image();
    let init = init_for(image);
    let mut peer = Peer::new();
    peer.idles = false;
    peer.dirty_slot();
    let trailer = peer.board.setup.layout().secondary_trailer();
    // The trailer, and the bytes in front of where an update starts.
    let around = trailer.slot_size() - trailer.first_sector() + peer.board.setup.layout().upload_offset();
    let allowed = 1 + u64::from(around) / 4096;
    let erases = |peer: &mut Peer, request: &str, answer: &str| {
        let before = peer.board.external.stats();
        peer.ask(request, answer);
        (peer.board.external.stats() - before).erases()
    };
    assert_eq!(erases(&mut peer, &create_command(init.len()), "60 01 01"), 0);
    peer.data(&init);
    // The journal may have to erase one sector of its own.
    assert!(erases(&mut peer, "04", "60 04 01") <= 1);
    // The first object of a file that may be a packed update has room made for it at both places: one of them now.
    let select = erases(&mut peer, "06 02", &selected(4096, &[]));
    let create = erases(&mut peer, &create_data(OBJECT), "60 01 01");
    assert_eq!(select + create, allowed + 1);
    assert!(select <= allowed && create <= allowed, "{select}, {create}");
    peer.data(&image[..OBJECT]);
    assert!(erases(&mut peer, "04", "60 04 01") <= 1);
    assert_eq!(erases(&mut peer, &create_data(904), "60 01 01"), 1);
    peer.data(&image[OBJECT..]);
    assert!(erases(&mut peer, "04", "60 04 01") <= 1);
    assert_eq!(peer.then, Then::Reset);
    let before = peer.board.external.stats();
    peer.idle();
    assert_eq!(
        (peer.board.external.stats() - before).erases(),
        0,
        "a staged update is left alone"
    );
}

#[test]
fn work_is_no_silence_and_silence_ends_the_link_only() {
    let image = update_image();
    let mut peer = Peer::with(Setup {
        part: &SLOW,
        ..setup()
    });
    peer.dirty_slot();
    assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
    assert_eq!(peer.wait(INACTIVITY_MS - 5_000), Then::Continue);
    peer.object(image, 0, OBJECT);
    assert_eq!(peer.wait(0), Then::Continue, "a request was in work");
    assert_eq!(peer.wait(INACTIVITY_MS - 5_000), Then::Continue);
    peer.ask("04", "60 04 01");
    assert_eq!(peer.wait(0), Then::Continue);
    assert_eq!(peer.wait(INACTIVITY_MS), Then::Disconnect);
    peer.reconnect();
    assert_eq!(peer.wait(0), Then::Continue);
    peer.ask("06 02", &selected(4096, &image[..OBJECT]));
    assert_eq!(peer.client(Phone::Ios, 0, &update_package()), Ok(()));
    peer.install_and_confirm(image);
}

#[test]
fn a_receipt_tells_the_true_offset_even_when_the_flash_has_failed() {
    let p = image_p();
    let mut peer = Peer::after_init(&packet_i());
    peer.ask("02 01 00", "60 02 01");
    peer.ask(&create_data(OBJECT), "60 01 01");
    let next = peer.board.external.ops();
    for op in next..next + 40 {
        peer.board.external.fail_at(op, Fault::Fail);
    }
    let receipts = peer.packets(&p[..OBJECT], PACKET);
    let expected: Vec<String> = (1..=17)
        .map(|n| checksum(&p[..(n * PACKET).min(OBJECT)]))
        .collect();
    assert_eq!(receipts, expected);
    peer.ask("04", "60 04 0A");
}

#[test]
fn a_bit_that_fails_in_flash_is_found_before_the_object_is_executed() {
    let payload: Vec<u8> = (0..8_000_u32).map(|i| (i * i / 3) as u8).collect();
    let image = &ImageSpec::new(version(2), payload, &image_key()).build();
    let mut seen = [0, 0];
    for page in 0..16 {
        let mut peer = Peer::after_init(&init_for(image));
        peer.ask(&create_data(OBJECT), "60 01 01");
        peer.board
            .external
            .fail_at(peer.board.external.ops() + page, Fault::WrongBit);
        peer.data(&image[..OBJECT]);
        // Either a second attempt succeeded, or the object is refused: never a success with a wrong bit.
        match peer.answer("04").as_str() {
            "60 04 01" => {
                seen[0] += 1;
                peer.assert_held(&image[..OBJECT]);
            }
            "60 04 0A" => {
                seen[1] += 1;
                assert_eq!(peer.image_from(image, 0), "60 04 01");
                peer.assert_held(image);
            }
            other => panic!("page {page}: {other}"),
        }
    }
    // A bit that should have become 0 is programmed again; a bit that wrongly became 0 needs an erase.
    assert!(seen[0] > 2 && seen[1] > 2, "{seen:?}");
}

// secure-dfu case 96
#[test]
fn the_same_package_twice_is_fine_and_is_installed_once() {
    let mut peer = Peer::new();
    peer.update_and_confirm();
    for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
        let (writes, boots) = (peer.board.internal.stats(), peer.board.primary.contents());
        peer.reconnect();
        assert_eq!(peer.client(phone, 0, &update_package()), Ok(()));
        peer.assert_ran_already(update_image());
        assert_eq!((peer.board.internal.stats() - writes).erases(), 0);
        assert!(peer.board.primary.contents() == boots);
    }
    peer.update_and_confirm();
}

// secure-dfu case 96
#[test]
fn a_phone_that_missed_the_last_answer_is_told_that_all_is_done_before_and_after_the_reset() {
    let (init, image) = (init_for(update_image()), update_image());
    for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
        let mut peer = Peer::new();
        assert_eq!(peer.transfer(&init, image), "60 04 01");
        // The link broke before the answer arrived, and the device has not reset yet.
        peer.reconnect();
        assert_eq!(peer.client(phone, 0, &update_package()), Ok(()), "staged");
        assert_eq!(peer.then, Then::Reset);
        peer.assert_pending(true);
        // After the reset the image is on trial, and then confirmed.
        assert_eq!(peer.reboot().image.header.version, version(2));
        for confirmed in [false, true] {
            if confirmed {
                peer.device().confirm().unwrap();
            }
            let kept = peer.board.secondary.contents();
            peer.reconnect();
            assert_eq!(peer.client(phone, 12, &update_package()), Ok(()), "{confirmed}");
            peer.assert_ran_already(image);
            if !confirmed {
                assert!(peer.board.secondary.contents() == kept, "the way back stays");
            }
        }
        assert_eq!(peer.reboot().image.header.version, version(2));
        peer.update_and_confirm();
    }
}

// secure-dfu case 96
#[test]
fn a_package_padded_to_words_is_known_by_the_image_in_it() {
    for behind in 1..4 {
        let mut odd = update_spec();
        odd.payload.truncate(odd.payload.len() - behind);
        let image = odd.build();
        let firmware = PackageSpec::padded(&image);
        let package = package(&init_for(&firmware), &firmware);
        let mut peer = Peer::new();
        assert_eq!(peer.client(Phone::Nrfutil, 0, &package), Ok(()));
        peer.install_and_confirm(&image);
        peer.reconnect();
        assert_eq!(peer.client(Phone::Nrfutil, 0, &package), Ok(()));
        peer.assert_ran_already(&image);
    }
}

// secure-dfu case 98
#[test]
fn another_package_of_the_running_version_is_installed() {
    let mut peer = Peer::new();
    peer.update_and_confirm();
    let mut other = update_spec();
    other.payload[100] ^= 1;
    let image = other.build();
    assert_eq!(peer.transfer(&init_for(&image), &image), "60 04 01");
    peer.install_and_confirm(&image);
}
