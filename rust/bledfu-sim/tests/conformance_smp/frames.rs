// SPDX-License-Identifier: Apache-2.0
//! Frames and CBOR.

use crate::smp_client::raw;
use bledfu_sim::power::Random;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_wire::image_group;
use bledfu_wire::os_group;
use bledfu_wire::smp::{op, Code, Failure, Request, Version};

use crate::harness::{hex, sha256, update_image};
use crate::{first, Manager, BUF_SIZE};

const E1: &str = "0a 00 00 06 00 00 42 00 a1 61 64 62 68 69";
const E1_ANSWER: &str = "0b 00 00 06 00 00 42 00 a1 61 72 62 68 69";

/// Runs with fragments of the usual sizes.
fn with_every_fragment(test: impl Fn(&mut Manager)) {
    for payload in [20, 182, 244, 495] {
        let mut manager = Manager {
            payload,
            ..Manager::default()
        };
        test(&mut manager);
        manager.is_alive();
    }
}

fn smp(code: Code) -> Option<Failure> {
    Some(Failure::Smp(code))
}

// smp cases 1, 2, 4, 5
#[test]
fn an_echo_comes_back_in_its_version_with_its_sequence_and_without_flags() {
    with_every_fragment(|manager| {
        assert_eq!(manager.exchange(&hex(E1)), hex(E1_ANSWER));
        let (mut request, mut answer) = (hex(E1), hex(E1_ANSWER));
        (request[0], answer[0]) = (0x02, 0x03);
        assert_eq!(manager.exchange(&request), answer);
        for sequence in [0, 254, 255] {
            (request[6], answer[6]) = (sequence, sequence);
            assert_eq!(manager.exchange(&request), answer);
        }
        (request[0], request[1]) = (0xE2, 0xFF);
        assert_eq!(manager.exchange(&request), answer);
    });
}

// smp case 3
#[test]
fn versions_that_do_not_exist_are_too_new() {
    with_every_fragment(|manager| {
        for version in [2, 3] {
            let mut request = hex(E1);
            request[0] = version << 3 | 2;
            let answer = manager.exchange(&request);
            assert_eq!(answer, hex("0b 00 00 05 00 00 42 00 a1 62 72 63 0d"));
        }
    });
}

// smp case 6
#[test]
fn less_than_a_header_is_dropped_and_the_next_frame_works() {
    for length in 0..8 {
        let mut manager = Manager::default();
        let answers = manager.send(&hex(E1)[..length]);
        assert!(answers.is_empty(), "{length} bytes");
        assert_eq!(manager.exchange(&hex(E1)), hex(E1_ANSWER));
    }
}

// smp cases 7, 18
#[test]
fn half_a_frame_waits_until_a_disconnect_or_the_timeout() {
    with_every_fragment(|manager| {
        let mut long = hex(E1);
        long[3] = 200;
        assert!(manager.send(&long).is_empty());
        manager.peer.reconnect();
        assert_eq!(manager.exchange(&hex(E1)), hex(E1_ANSWER));
        assert!(manager.send(&long).is_empty());
        manager.peer.board.power.advance_ns(2_100_000_000);
        assert_eq!(manager.exchange(&hex(E1)), hex(E1_ANSWER));
    });
}

// smp case 8
#[test]
fn a_fragment_with_more_than_its_frame_is_dropped() {
    let mut manager = Manager::default();
    let two = [hex(E1), hex(E1)].concat();
    assert!(manager.send(&two).is_empty());
    assert_eq!(manager.exchange(&hex(E1)), hex(E1_ANSWER));
}

/// An upload's first piece that makes a frame of `length` bytes.
fn piece_of(manager: &mut Manager, length: usize) -> (Vec<u8>, usize) {
    let image = [update_image(), &[0; 4096]].concat();
    let sha = sha256(&image);
    let frame = |manager: &mut Manager, data| {
        let request = Request::Image(first(&image, Some(&sha), data));
        manager.frame(&request)
    };
    let around = frame(manager, 1000).len() - 1000;
    let data = length - around;
    (frame(manager, data), data)
}

// smp cases 10, 11, 17
#[test]
fn the_longest_frame_is_taken_and_a_longer_one_dropped_and_a_long_answer_refused() {
    with_every_fragment(|manager| {
        let (frame, data) = piece_of(manager, BUF_SIZE);
        assert_eq!(frame.len(), BUF_SIZE);
        assert_eq!(manager.raw(&frame).offset(), Some(data as u64));
        let (frame, _) = piece_of(manager, BUF_SIZE + 1);
        assert!(manager.send(&frame).is_empty());
        manager.is_alive();
        let endless = raw(Version::V2, 1, op::WRITE, 1, 1, &[0xA0; 0xFFFF]);
        assert!(manager.send(&endless).is_empty());
        manager.is_alive();
        let text = "y".repeat(600);
        let answer = manager.os(os_group::Request::Echo(&text));
        assert_eq!(answer.failure, smp(Code::MessageSize));
    });
}

// smp cases 12, 13, 14, 15, 16
#[test]
fn unknown_groups_commands_and_operations_are_not_supported() {
    let mut manager = Manager::default();
    for operation in [1, 3, 4, 5, 6, 7] {
        let frame = raw(Version::V2, 1, operation, 0, 0, &[0xA0]);
        assert_eq!(
            manager.failure(&frame),
            smp(Code::NotSupported),
            "operation {operation}"
        );
    }
    for group in [9, 8, 2, 3, 63, 64, 128] {
        for version in [Version::V1, Version::V2] {
            let frame = raw(version, 1, op::READ, group, 0, &[0xA0]);
            assert_eq!(manager.failure(&frame), smp(Code::NotSupported), "group {group}");
        }
    }
    for (operation, group, command) in [
        (op::READ, 0, 99),
        (op::READ, 1, 2),
        (op::READ, 1, 3),
        (op::WRITE, 1, 4),
        (op::WRITE, 0, 6),
        (op::READ, 1, 1),
        (op::READ, 1, 5),
        (op::READ, 0, 5),
        (op::READ, 0, 4),
        (op::WRITE, 0, 4),
    ] {
        let frame = raw(Version::V2, 1, operation, group, command, &[0xA0]);
        assert_eq!(
            manager.failure(&frame),
            smp(Code::NotSupported),
            "operation {operation} of {group}/{command}"
        );
    }
    assert_eq!(manager.peer.then, bledfu_transfer::secure_dfu::Then::Continue);
    manager.is_alive();
}

// smp cases 19, 20
#[test]
fn missing_parameters_are_an_empty_map_in_any_form_or_no_payload() {
    let mut manager = Manager::default();
    for (operation, group, command) in [(op::READ, 0, 6), (op::READ, 1, 0)] {
        let [map, open, nothing] = [&[0xA0][..], &[0xBF, 0xFF], &[]].map(|payload| {
            let answer = manager.raw(&raw(Version::V2, 1, operation, group, command, payload));
            assert_eq!(answer.failure, None);
            answer.map
        });
        assert!(map == open && map == nothing);
    }
    for (group, command) in [(0, 0), (1, 1)] {
        let frame = raw(Version::V2, 1, op::WRITE, group, command, &[]);
        assert_eq!(manager.failure(&frame), smp(Code::Invalid));
    }
}

/// Uploads half, sends `payload` as an upload request, and sees that the upload goes on where it was.
#[track_caller]
fn in_an_upload(payload: &str, expected: Result<u64, Code>) {
    let mut manager = Manager::default();
    let image = update_image();
    manager.begin(image, Some(&sha256(image)), 1000);
    let ops = manager.peer.board.power.ops();
    let answer = manager.raw(&raw(Version::V2, 1, op::WRITE, 1, 1, &hex(payload)));
    match expected {
        Ok(offset) => assert_eq!(answer.offset(), Some(offset), "{payload}"),
        Err(code) => assert_eq!(answer.failure, smp(code), "{payload}"),
    }
    assert_eq!(
        manager.peer.board.power.ops(),
        ops,
        "{payload}: the flash is not touched"
    );
    assert_eq!(
        manager.piece(image, 1000, 2000).offset(),
        Some(2000),
        "{payload}: it goes on"
    );
}

// smp cases 21, 23, 24, 26, 27, 30
#[test]
fn bad_cbor_is_invalid_and_leaves_the_upload_alone() {
    for payload in [
        "a1 63 6f 66 66",
        "80",
        "00",
        "a1 01 00",
        "a2 63 6f 66 66 19 03 e8 63 6f 66 66 19 03 e8",
        "a1 63 6f 66 66 61 31",
        "a1 63 6f 66 66 20",
        "a1 63 6f 66 66 fa 44 7a 00 00",
        "a2 63 6f 66 66 19 03 e8 64 64 61 74 61 61 31",
        "a2 63 6f 66 66 19 03 e8 64 64 61 74 61 5f 41 31 ff",
        "bb ff ff ff ff ff ff ff ff 63 6f 66 66 00",
        "a1 61 78 9b 80 00 00 00 00 00 00 00",
        "a1 64 64 61 74 61 5b 80 00 00 00 00 00 00 00",
    ] {
        in_an_upload(payload, Err(Code::Invalid));
    }
    let deep = format!("a1 61 78 {} 00", "81".repeat(100));
    in_an_upload(&deep, Err(Code::Invalid));
}

// smp cases 22, 28, 29
#[test]
fn skippable_items_are_skipped() {
    // At the expected offset without data: nothing changes, and the offset is returned.
    for payload in [
        "a2 61 78 a1 80 c1 fb 40 09 21 fb 54 44 2d 18 63 6f 66 66 19 03 e8",
        "a2 61 78 7f 61 61 61 62 ff 63 6f 66 66 19 03 e8",
        "bf 63 6f 66 66 1b 00 00 00 00 00 00 03 e8 ff",
        "a1 63 6f 66 66 19 03 e8 de ad be ef",
    ] {
        let payload = payload.replace("a1 80", "a1 61 79 82 00 a0");
        in_an_upload(&payload.replace("a0 c1", "c1"), Ok(1000));
    }
}

// smp case 25
#[test]
fn offsets_far_beyond_the_image_are_answered_with_the_expected_one() {
    in_an_upload("a1 63 6f 66 66 1b 00 00 00 01 00 00 00 00", Ok(1000));
    in_an_upload("a1 63 6f 66 66 1b ff ff ff ff ff ff ff ff", Ok(1000));
}

// smp case 53
#[test]
fn three_frames_at_once_are_answered_in_order() {
    let mut manager = Manager::default();
    let image = update_image();
    manager.begin(image, Some(&sha256(image)), 500);
    let mut sequences = Vec::new();
    for from in [500, 1500, 2500] {
        let request = Request::Image(image_group::Request::Upload(image_group::Upload {
            offset: Some(from as u64),
            data: &image[from..from + 1000],
            ..image_group::Upload::default()
        }));
        let frame = manager.frame(&request);
        sequences.push((frame[6], from as u64 + 1000));
        for bytes in frame.chunks(244) {
            let channel = Channel::Smp;
            manager.peer.device().receive(Frame { channel, bytes }).unwrap();
        }
    }
    manager.peer.work();
    let answers = manager.peer.answers();
    let got: Vec<(u8, u64)> = answers
        .iter()
        .map(|answer| crate::smp_client::Answer::decode(&hex(answer)).unwrap())
        .map(|answer| (answer.header.sequence, answer.offset().unwrap()))
        .collect();
    assert_eq!(got, sequences);
}

// smp case 75
#[test]
fn each_of_ten_thousand_random_frames_gets_at_most_one_answer() {
    let mut manager = Manager::default();
    let mut random = Random::new(75);
    let image = update_image();
    let template = manager.frame(&Request::Image(first(image, Some(&sha256(image)), 200)));
    for round in 0..10_000 {
        let mut frame = if round % 2 == 0 {
            template.clone()
        } else {
            let length = random.bits() as usize % 80;
            let payload: Vec<u8> = (0..length).map(|_| random.byte()).collect();
            let command = random.byte() % 9;
            // No reset: another test covers it.
            let command = if command == 5 { 1 } else { command };
            raw(
                Version::V2,
                7,
                random.byte() % 4,
                u16::from(random.byte() % 2),
                command,
                &payload,
            )
        };
        for _ in 0..random.byte() % 4 {
            let at = random.bits() as usize % frame.len();
            frame[at] ^= 1 << (random.byte() % 8);
        }
        // A frame left unfinished by a flipped length ends with the link.
        if random.byte().is_multiple_of(8) {
            manager.peer.reconnect();
        }
        let answers = manager.send(&frame);
        assert!(answers.len() <= 1, "{frame:02x?}");
        if manager.peer.then != bledfu_transfer::secure_dfu::Then::Continue {
            manager.peer.reboot();
        }
        if round % 100 == 0 {
            manager.peer.reconnect();
            manager.is_alive();
        }
    }
    manager.peer.reconnect();
    manager.is_alive();
    assert_eq!(
        manager.peer.reboot().image.header.version,
        crate::harness::version(1)
    );
}
