// SPDX-License-Identifier: Apache-2.0
//! Uploads.

use bledfu_sim::device::Setup;
use bledfu_sim::make::{demo_payload, Damage, ImageSpec};
use bledfu_sim::nor::Fault;
use bledfu_sim::parts::Times;
use bledfu_sim::power::Tear;
use bledfu_slot::journal::{session_id, Journal, Progress};
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_wire::image_group::{Error, Request, Upload};
use bledfu_wire::smp::Failure;

use crate::harness::{factory_image, hex, image_key, setup, sha256, update_image, version, Peer};
use crate::{first, hash_of, Manager};

fn matched(answer: &crate::smp_client::Answer) -> Option<bool> {
    answer.map.get("match").and_then(|value| value.as_bool())
}

/// A device with slots of 16 sectors, and an image that nearly fills one.
fn large_image() -> Vec<u8> {
    ImageSpec::demo(version(3), 50_001, &image_key()).unwrap().build()
}

// smp case 45
#[test]
fn the_worked_example_is_answered_byte_by_byte() {
    let mut header = hex(
        "3d b8 f3 96 00 00 00 00 20 00 00 00 20 00 00 00 00 00 00 00 02 00 00 00 00 00 00 00 00 00 00 00",
    );
    header.resize(64, 0);
    let digest = sha256(&header);
    let image = [&header[..], &hex("07 69 28 00 10 00 20 00"), &digest].concat();
    assert_eq!(image.len(), 104);
    let mut manager = Manager::default();
    let sha = sha256(&image);
    let chunk_0 = [
        hex("0a 00 00 59 00 01 08 01 a4 63 6c 65 6e 18 68 63 6f 66 66 00 63 73 68 61 58 20"),
        sha.to_vec(),
        hex("64 64 61 74 61 58 20"),
        image[..32].to_vec(),
    ]
    .concat();
    assert_eq!(
        manager.exchange(&chunk_0),
        hex("0b 00 00 07 00 01 08 01 a1 63 6f 66 66 18 20")
    );
    let chunk_1 = [
        hex("0a 00 00 56 00 01 09 01 a2 63 6f 66 66 18 20 64 64 61 74 61 58 48"),
        image[32..].to_vec(),
    ]
    .concat();
    assert_eq!(
        manager.exchange(&chunk_1),
        hex("0b 00 00 0e 00 01 09 01 a2 63 6f 66 66 18 68 65 6d 61 74 63 68 f5")
    );
    manager.peer.assert_held(&image);
    assert_eq!(manager.state()[1].hash, digest);
}

// smp case 46
#[test]
fn pieces_of_every_size_are_taken_whole() {
    let odd = ImageSpec::demo(version(2), 5003, &image_key()).unwrap().build();
    for image in [update_image(), &odd] {
        for length in [32, 33, 255, 1000, 2392 - 14] {
            let mut manager = Manager::default();
            assert_eq!(matched(&manager.upload(image, length)), Some(true), "{length}");
            manager.peer.assert_held(image);
        }
    }
    let mut manager = Manager::default();
    manager.begin(&odd, Some(&sha256(&odd)), 32);
    for at in 32..odd.len() {
        manager.piece(&odd, at, at + 1);
    }
    manager.peer.assert_held(&odd);
    assert_eq!(manager.try_out(&odd).image.header.version, version(2));
}

// smp case 47
#[test]
fn incomplete_first_pieces_have_their_own_errors_and_leave_the_slot() {
    let mut manager = Manager::default();
    let image = update_image();
    let good = Upload {
        offset: Some(0),
        length: Some(image.len() as u64),
        data: &image[..1000],
        ..Upload::default()
    };
    let mut wrong_magic = image[..1000].to_vec();
    wrong_magic[0] ^= 1;
    let limit = u64::from(manager.peer.board.setup.layout().max_image_size());
    let contents = manager.peer.board.external.contents();
    for (piece, error) in [
        (
            Upload {
                data: &image[..31],
                ..good
            },
            Error::InvalidImageHeader,
        ),
        (Upload { data: &[], ..good }, Error::InvalidImageHeader),
        (Upload { length: None, ..good }, Error::InvalidLength),
        (Upload { offset: None, ..good }, Error::InvalidOffset),
        (
            Upload {
                data: &wrong_magic,
                ..good
            },
            Error::InvalidImageHeaderMagic,
        ),
        (
            Upload {
                sha: Some(&[1; 33]),
                ..good
            },
            Error::InvalidHash,
        ),
        (
            Upload {
                length: Some(limit + 1),
                ..good
            },
            Error::InvalidImageTooLarge,
        ),
        (
            Upload {
                length: Some(u64::MAX),
                ..good
            },
            Error::InvalidImageTooLarge,
        ),
        (
            Upload {
                length: Some(999),
                ..good
            },
            Error::InvalidImageDataOverrun,
        ),
        (
            Upload {
                upgrade: true,
                length: Some(factory_image().len() as u64),
                data: &factory_image()[..1000],
                ..good
            },
            Error::CurrentVersionIsNewer,
        ),
    ] {
        manager.refused(Request::Upload(piece), error);
    }
    assert!(
        manager.peer.board.external.contents() == contents,
        "the flash is not touched"
    );
    let newer = Upload {
        upgrade: true,
        ..good
    };
    assert_eq!(
        manager.image(Request::Upload(newer)).offset(),
        Some(1000),
        "a newer one is taken"
    );
}

// smp case 48
#[test]
fn the_same_first_piece_resumes_and_another_one_restarts() {
    let mut manager = Manager::default();
    let image = update_image();
    let sha = sha256(image);
    manager.begin(image, Some(&sha), 1000);
    manager.piece(image, 1000, 3000);
    let ops = manager.peer.board.power.ops();
    assert_eq!(manager.begin(image, Some(&sha), 1000).offset(), Some(3000));
    assert_eq!(
        manager.peer.board.power.ops(),
        ops,
        "nothing is erased or written"
    );
    assert_eq!(
        manager.begin(image, None, 1000).offset(),
        Some(1000),
        "without a name: from the start"
    );
    assert_eq!(manager.begin(image, None, 1000).offset(), Some(1000));
    manager.piece(image, 1000, 3000);
    assert_eq!(
        manager.begin(image, Some(&[9; 32]), 500).offset(),
        Some(500),
        "another name"
    );
    let longer = [image, &[0; 8]].concat();
    manager.piece(image, 500, 2500);
    assert_eq!(
        manager.begin(&longer, Some(&[9; 32]), 600).offset(),
        Some(600),
        "another length"
    );
}

// smp cases 49, 50, 52, 54
#[test]
fn pieces_at_another_offset_are_answered_with_the_expected_one() {
    let mut manager = Manager::default();
    let image = update_image();
    assert_eq!(
        manager.piece(image, 1000, 2000).offset(),
        Some(0),
        "no upload is open"
    );
    manager.begin(image, Some(&sha256(image)), 1000);
    let contents = manager.peer.board.external.contents();
    assert_eq!(manager.piece(image, 500, 1500).offset(), Some(1000), "twice");
    assert_eq!(
        manager.piece(image, 2000, 3000).offset(),
        Some(1000),
        "the first of three is lost"
    );
    assert_eq!(manager.piece(image, 3000, 4000).offset(), Some(1000));
    assert_eq!(manager.piece(image, 1000, 1000).offset(), Some(1000), "no data");
    assert!(manager.peer.board.external.contents() == contents);
    assert_eq!(manager.piece(image, 1000, 3000).offset(), Some(3000));
    let answer = manager.piece(image, 3000, image.len());
    assert_eq!(matched(&answer), Some(true));
}

// smp case 51
#[test]
fn more_data_than_announced_ends_the_upload() {
    let mut manager = Manager::default();
    let image = update_image();
    manager.begin(image, Some(&sha256(image)), 1000);
    manager.piece(image, 1000, 3000);
    manager.piece(image, 3000, 4000);
    let rest = [&image[4000..], &[0]].concat();
    let answer = manager.image(Request::Upload(Upload {
        offset: Some(4000),
        data: &rest,
        ..Upload::default()
    }));
    assert_eq!(
        answer.failure,
        Some(Failure::Image(Error::InvalidImageDataOverrun))
    );
    assert_eq!(manager.piece(image, 4000, 5000).offset(), Some(0));
}

// smp cases 55, 56
#[test]
fn a_finished_upload_stays_finished() {
    let mut manager = Manager::default();
    let image = update_image();
    let size = image.len() as u64;
    manager.upload(image, 1000);
    let ops = manager.peer.board.power.ops();
    let started = manager.peer.board.power.now_ns();
    let last = manager.piece(image, 4000, image.len());
    assert_eq!(
        (last.offset(), matched(&last)),
        (Some(size), Some(true)),
        "the last piece again"
    );
    let again = manager.begin(image, Some(&sha256(image)), 1000);
    assert_eq!(
        (again.offset(), matched(&again)),
        (Some(size), Some(true)),
        "the whole file again"
    );
    assert_eq!(manager.peer.board.power.ops(), ops);
    assert!(manager.peer.board.power.now_ns() - started < 1_000_000_000);
    manager.peer.reconnect();
    let again = manager.begin(image, Some(&sha256(image)), 1000);
    assert_eq!(again.offset(), Some(size), "after a reconnection, too");
    assert_eq!(manager.try_out(image).image.header.version, version(2));
}

// smp cases 57, 58, 59
#[test]
fn match_is_sent_only_for_a_whole_sha_and_is_true() {
    let image = update_image();
    for (sha, expected) in [
        (None, None),
        (Some(&[1; 32][..]), Some(false)),
        (Some(&[1; 16][..]), None),
        (Some(&[][..]), None),
    ] {
        let mut manager = Manager::default();
        manager.begin(image, sha, 1000);
        manager.piece(image, 1000, 3000);
        if sha.is_some_and(|sha| sha.len() == 16) {
            assert_eq!(
                manager.begin(image, sha, 1000).offset(),
                Some(3000),
                "it is a name all the same"
            );
        }
        let answer = manager.piece(image, 3000, image.len());
        assert_eq!(
            (answer.offset(), matched(&answer)),
            (Some(image.len() as u64), expected),
            "{sha:02x?}"
        );
        manager.peer.assert_pending(false);
    }
}

// smp case 58
#[test]
fn an_upload_with_a_wrong_digest_ends_and_the_next_restarts() {
    let image = update_image();
    let wrong = [1; 32];
    let mut manager = Manager::default();
    manager.begin(image, Some(&wrong), 1000);
    manager.piece(image, 1000, 3000);
    assert_eq!(matched(&manager.piece(image, 3000, image.len())), Some(false));
    assert_eq!(manager.piece(image, 3000, image.len()).offset(), Some(0));
    assert_eq!(manager.begin(image, Some(&wrong), 1000).offset(), Some(1000));
    manager.peer.reconnect();
    assert_eq!(matched(&manager.upload(image, 1000)), Some(true));
    assert_eq!(manager.try_out(image).image.header.version, version(2));
}

// smp case 60
#[test]
fn image_numbers_0_and_1_are_the_application_and_others_are_refused_before_anything_is_erased() {
    let image = update_image();
    for number in [2, 3, 15, u32::MAX] {
        let mut manager = Manager::default();
        manager.upload(image, 1000);
        let held = manager.peer.board.secondary.contents();
        for offset in [0, 1000] {
            manager.refused(
                Request::Upload(Upload {
                    image: number,
                    offset: Some(offset),
                    length: (offset == 0).then_some(image.len() as u64),
                    data: &image[..1000],
                    ..Upload::default()
                }),
                Error::InvalidSlot,
            );
        }
        manager.peer.idle();
        assert!(manager.peer.board.secondary.contents() == held);
    }
    for number in [0, 1] {
        let mut manager = Manager::default();
        for (from, to) in [(0, 1000), (1000, 3000), (3000, image.len())] {
            let answer = manager.image(Request::Upload(Upload {
                image: number,
                offset: Some(from as u64),
                length: (from == 0).then_some(image.len() as u64),
                data: &image[from..to],
                ..Upload::default()
            }));
            assert_eq!(answer.offset(), Some(to as u64));
        }
    }
}

// smp cases 61, 76
#[test]
fn an_upload_survives_a_disconnection_to_the_byte() {
    let mut manager = Manager::default();
    let image = large_image();
    manager.begin(&image, Some(&sha256(&image)), 2000);
    let mut at = 2000;
    while at < 25_000 {
        manager.piece(&image, at, at + 1111);
        at += 1111;
    }
    manager.peer.reconnect();
    assert_eq!(
        manager.begin(&image, Some(&sha256(&image)), 2000).offset(),
        Some(at as u64)
    );
    manager.peer.reconnect();
    let next = at + 1000;
    assert_eq!(
        manager.piece(&image, at, next).offset(),
        Some(next as u64),
        "without a first piece"
    );
    manager.try_out(&image);
}

// smp case 62
#[test]
fn an_upload_survives_a_power_cut_up_to_its_last_whole_sector() {
    let image = large_image();
    for cut in [3, 40, 90, 150] {
        let mut manager = Manager::default();
        let power = manager.peer.board.power.clone();
        let tear = Tear::Inside {
            fraction: 0.5,
            seed: cut,
        };
        power.cut_at(power.ops() + cut, tear);
        let sha = sha256(&image);
        let mut at = 0;
        while !power.is_off() && at < image.len() {
            let end = (at + 1000).min(image.len());
            let request = if at == 0 {
                first(&image, Some(&sha), end)
            } else {
                Request::Upload(Upload {
                    offset: Some(at as u64),
                    data: &image[at..end],
                    ..Upload::default()
                })
            };
            let frame = manager.frame(&bledfu_wire::smp::Request::Image(request));
            manager.send(&frame);
            at = end;
        }
        assert!(power.is_off(), "the cut came");
        let report = manager.peer.reboot();
        assert_eq!(report.image.header.version, version(1));
        let resumed = manager.begin(&image, Some(&sha), 1000).offset().unwrap() as usize;
        assert!(
            resumed + 4096 + 1000 >= at,
            "cut {cut}: {at} bytes were sent, it goes on at {resumed}"
        );
        assert!(resumed <= at);
        assert_eq!(matched(&manager.upload(&image, 1000)), Some(true));
        assert_eq!(manager.try_out(&image).image.header.version, version(3));
    }
}

// smp case 62
#[test]
fn an_upload_reset_before_its_first_whole_sector_restarts() {
    let image = large_image();
    let sha = sha256(&image);
    for sent in [32, 1000, 4095] {
        let mut manager = Manager::default();
        for first in (0..sent).step_by(1000) {
            let end = (first + 1000).min(sent);
            match first {
                0 => manager.begin(&image, Some(&sha), end),
                _ => manager.piece(&image, first, end),
            };
        }
        manager.peer.reboot();
        let answer = manager.begin(&image, Some(&sha), 1000);
        assert_eq!(answer.offset(), Some(1000), "{sent} bytes were sent");
        assert_eq!(manager.try_out(&image).image.header.version, version(3));
    }
}

// smp cases 63, 64
#[test]
fn nothing_is_uploaded_over_an_image_that_is_needed() {
    let image = large_image();
    let mut manager = Manager::default();
    manager.upload(update_image(), 1000);
    manager.choose(Some(&hash_of(update_image())), false);
    manager.refused(first(&image, None, 1000), Error::NoFreeSlot);
    assert_eq!(manager.reset().image.header.version, version(2));
    manager.refused(first(&image, None, 1000), Error::NoFreeSlot);
    assert_eq!(
        manager.peer.reboot().image.header.version,
        version(1),
        "the way back was not harmed"
    );
    assert_eq!(
        manager.begin(&image, None, 1000).offset(),
        Some(1000),
        "now it is free"
    );
}

// smp case 65
#[test]
fn flash_failures_have_their_own_errors_and_end_the_upload() {
    let image = large_image();
    // A program operation is tried twice, so it must fail twice; the slot is used, so that there is something to erase.
    let fails = |what: &str| {
        let mut manager = Manager::default();
        manager.peer.idles = false;
        manager.peer.dirty_slot();
        manager.peer.reboot();
        let external = manager.peer.board.external.clone();
        manager.begin(&image, Some(&sha256(&image)), 2000);
        let mut at = 2000;
        loop {
            let before = external.stats();
            let ops = external.ops();
            if what == "erase" {
                external.set_dead(true);
            } else {
                (0..4).for_each(|op| external.fail_at(ops + op, Fault::WrongBit));
            }
            let end = (at + 1000).min(image.len());
            let answer = manager.piece(&image, at, end);
            external.set_dead(false);
            external.clear_faults();
            if let Some(failure) = answer.failure {
                return (manager, failure, external.stats() - before);
            }
            at = end;
        }
    };
    let (mut manager, failure, _) = fails("write");
    assert!(
        matches!(
            failure,
            Failure::Image(Error::FlashWriteFailed | Error::FlashEraseFailed)
        ),
        "{failure}"
    );
    assert_eq!(
        manager.piece(&image, 4000, 5000).offset(),
        Some(0),
        "the upload is over"
    );
    manager.peer.idles = true;
    assert_eq!(
        manager.try_out(&image).image.header.version,
        version(3),
        "the next one works"
    );
    let (mut manager, failure, _) = fails("erase");
    assert!(matches!(failure, Failure::Image(_)), "{failure}");
    assert_eq!(manager.peer.reboot().image.header.version, version(1));
}

// smp case 66
#[test]
fn an_image_of_the_limit_fits_and_its_trailer_too() {
    let limit = setup().layout().max_image_size() as usize;
    let image = ImageSpec::demo(version(4), limit, &image_key()).unwrap().build();
    let mut manager = Manager::default();
    assert_eq!(matched(&manager.upload(&image, 2000)), Some(true));
    let hash = hash_of(&image);
    assert_eq!(manager.choose(Some(&hash), false).failure, None);
    assert_eq!(manager.reset().image.header.version, version(4));
    assert_eq!(manager.peer.reboot().image.header.version, version(1), "and back");
    let mut manager = Manager::default();
    let longer = [&image[..], &[0]].concat();
    manager.refused(first(&longer, None, 1000), Error::InvalidImageTooLarge);
}

#[test]
fn a_used_slot_and_maximum_flash_times_keep_the_first_piece_within_2_seconds_and_others_within_1() {
    let image = large_image();
    let mut manager = Manager::on(Peer::with(Setup {
        times: Times::Maximum,
        ..setup()
    }));
    manager.peer.dirty_slot();
    manager.peer.reboot();
    manager.peer.slowest_ns = 0;
    manager.begin(&image, Some(&sha256(&image)), 2300);
    let first_ms = std::mem::take(&mut manager.peer.slowest_ns) / 1_000_000;
    assert!(
        first_ms < 2_000,
        "{first_ms} ms; the first piece erases trailer and header"
    );
    manager.upload(&image, 2300);
    let slowest_ms = manager.peer.slowest_ns / 1_000_000;
    assert!(slowest_ms < 1_000, "{slowest_ms} ms");
    assert_eq!(manager.try_out(&image).image.header.version, version(3));
}

#[test]
fn both_protocols_install_in_turn_and_neither_takes_the_slot_from_a_busy_one() {
    let mut manager = Manager::of_any_version();
    // During an object of Secure DFU, SMP has to wait.
    let init = crate::harness::init_for(update_image());
    assert_eq!(manager.peer.send_init(&init), "60 04 01");
    manager.peer.ask(&crate::harness::create_data(4096), "60 01 01");
    manager.peer.data(&update_image()[..2000]);
    let image = large_image();
    manager.refused(first(&image, None, 1000), Error::NoFreeSlot);
    manager.refused(Request::Erase { slot: None }, Error::NoFreeSlot);
    manager.is_alive();
    manager.peer.data(&update_image()[2000..4096]);
    manager.peer.ask("04", "60 04 01");
    let rest = manager.peer.image_from(update_image(), 4096);
    assert_eq!(rest, "60 04 01");
    manager.peer.install_and_confirm(update_image());
    // SMP next: meanwhile Execute over Secure DFU is refused.
    manager.begin(&image, Some(&sha256(&image)), 1000);
    let refused = manager.peer.answer(&crate::harness::create_command(init.len()));
    assert_eq!(refused, "60 01 08", "the slot belongs to the upload");
    assert_eq!(
        manager.piece(&image, 1000, 2000).offset(),
        Some(2000),
        "which goes on"
    );
    manager.upload(&image, 1000);
    assert_eq!(manager.choose(Some(&hash_of(&image)), false).failure, None);
    assert_eq!(manager.reset().image.header.version, version(3));
    assert_eq!(manager.choose(None, true).failure, None);
    manager.peer.reboot();
    // And Secure DFU again: an image that arrived over SMP has the previous image's firmware version.
    manager.peer.update_and_confirm();
}

#[test]
fn fragments_of_an_upload_and_secure_dfu_requests_may_interleave() {
    let mut manager = Manager::default();
    let image = update_image();
    let sha = sha256(image);
    let request = bledfu_wire::smp::Request::Image(first(image, Some(&sha), 1000));
    let frame = manager.frame(&request);
    for (number, bytes) in frame.chunks(244).enumerate() {
        let channel = Channel::Smp;
        manager.peer.device().receive(Frame { channel, bytes }).unwrap();
        if number == 1 {
            let channel = Channel::Control;
            manager
                .peer
                .device()
                .receive(Frame {
                    channel,
                    bytes: &[0x06, 0x01],
                })
                .unwrap();
        }
    }
    manager.peer.work();
    let answers = manager.peer.answers();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].starts_with("60 06 01"));
    assert!(answers[1].starts_with("0B 00"));
}

/// A program as a linker makes it for a Cortex-M, with this reset vector.
fn linked(reset_vector: u32, major: u8) -> ImageSpec {
    let mut payload = demo_payload(version(major), 5_300, 0);
    payload[4..8].copy_from_slice(&reset_vector.to_le_bytes());
    ImageSpec::new(version(major), payload, &image_key())
}

// smp case 77
#[test]
fn an_image_that_cannot_run_here_is_refused_at_the_first_piece_and_nothing_is_erased() {
    let spec = ImageSpec::new(version(2), demo_payload(version(2), 5_300, 0), &image_key());
    for damage in [Damage::Encrypted, Damage::Compressed, Damage::NotBootable] {
        let image = spec.damaged(damage);
        let mut manager = Manager::default();
        // An unused slot is cleared in idle time.
        manager.peer.idles = false;
        manager.peer.dirty_slot();
        let kept = manager.peer.board.secondary.contents();
        // Its first 32 bytes show it.
        manager.refused(first(&image, None, 32), Error::InvalidImageHeader);
        assert!(manager.peer.board.secondary.contents() == kept, "{damage:?}");
    }
}

/// A reset vector in the primary slot, behind the header; bit 0 says Thumb.
const INSIDE: u32 = bledfu_sim::device::PRIMARY_START + 0x201;

// smp case 78
#[test]
fn an_image_linked_for_another_slot_is_refused_by_the_piece_that_shows_it() {
    let (factory, network_core) = (linked(INSIDE, 1).build(), linked(0x0100_9A35, 2).build());
    let addressed = Setup {
        check_address: true,
        ..setup()
    };
    let device = || Manager::on(Peer::with_factory(addressed, &factory));
    // The vector table follows a header of 0x200 bytes: in the first piece,
    let mut manager = device();
    manager.refused(first(&network_core, None, 1000), Error::InvalidImageVectorTable);
    // or in a later one, which ends the upload.
    let mut manager = device();
    manager.begin(&network_core, None, 100);
    let failure = manager.piece(&network_core, 100, 1000).failure;
    assert_eq!(failure, Some(Failure::Image(Error::InvalidImageVectorTable)));
    assert_eq!(
        manager.piece(&network_core, 1000, 2000).offset(),
        Some(0),
        "it is over"
    );
    let good = linked(INSIDE, 2).build();
    assert_eq!(matched(&manager.upload(&good, 1000)), Some(true));
    assert_eq!(manager.choose(Some(&hash_of(&good)), false).failure, None);
    assert_eq!(manager.reset().image.header.version, version(2));
}

/// The journal says that all `held` bytes of an upload were received, and that `image` was announced.
fn journal_upload(manager: &Manager, image: &[u8], held: &[u8]) {
    let (area, layout) = manager.peer.board.receiving().unwrap();
    area.set_contents(layout.upload_offset(), held).unwrap();
    let session = [&[0], &(image.len() as u32).to_le_bytes()[..], &sha256(image)[..]].concat();
    let [a, b, c, d, ..] = sha256(held);
    let progress = Progress {
        offset: held.len() as u32,
        check: u32::from_le_bytes([a, b, c, d]),
    };
    let mut journal = Journal::new(manager.peer.board.journal.clone());
    journal.begin(&session).unwrap();
    journal.progress(session_id(&session), progress).unwrap();
}

#[test]
fn an_upload_with_a_wrong_digest_stays_ended_after_a_reset() {
    let image = update_image();
    let mut wrong = image.to_vec();
    wrong[3000] ^= 1;
    let mut manager = Manager::default();
    journal_upload(&manager, image, &wrong);
    manager.peer.reboot();
    assert_eq!(matched(&manager.upload(image, 1000)), Some(true));
    assert_eq!(manager.try_out(image).image.digest, hash_of(image));
}

#[test]
fn a_resumed_upload_does_not_touch_what_the_next_boot_installs() {
    let image = update_image();
    let mut manager = Manager::default();
    manager.upload(image, 1000);
    assert_eq!(manager.choose(Some(&hash_of(image)), false).failure, None);
    // The application restarts without a boot stage.
    journal_upload(&manager, factory_image(), &image[..4096]);
    let (area, layout) = manager.peer.board.receiving().unwrap();
    area.set_contents(layout.upload_offset(), image).unwrap();
    let before = area.contents();
    let info = *manager.peer.device().image();
    let mut device = manager.peer.board.start(&info).unwrap();
    while device.step().is_none() {}
    assert!(area.contents() == before);
}

#[test]
fn a_resumed_upload_is_dropped_when_nothing_can_be_installed() {
    let setup = setup();
    let limit = setup.layout().max_image_size() as usize;
    let large = ImageSpec::demo(version(1), limit + 16, &image_key())
        .unwrap()
        .build();
    let mut manager = Manager::on(Peer::with_factory(setup, &large));
    let image = update_image();
    journal_upload(&manager, image, image);
    manager.peer.reboot();
    manager.refused(first(image, Some(&sha256(image)), 1000), Error::NoFreeSlot);
    // The slot's image is not marked either.
    let hash = hash_of(image);
    let test = Request::WriteState {
        hash: Some(&hash),
        confirm: false,
    };
    manager.refused(test, Error::NoFreeSlot);
}

#[test]
fn an_image_on_trial_without_a_way_back_stays_when_the_next_upload_begins() {
    let image = update_image();
    for erases in [false, true] {
        let mut manager = Manager::of_any_version();
        manager.try_out(image);
        assert!(!manager.peer.device().is_confirmed());
        let (area, layout) = manager.peer.board.receiving().unwrap();
        area.set_contents(0, &vec![0xFF; layout.secondary().slot_size as usize])
            .unwrap();
        if erases {
            assert_eq!(manager.image(Request::Erase { slot: None }).failure, None);
        }
        manager.upload(factory_image(), 1000);
        assert!(manager.peer.device().is_confirmed());
        let old = hash_of(factory_image());
        assert_eq!(manager.choose(Some(&old), false).failure, None);
        assert_eq!(manager.reset().image.digest, old);
        assert_eq!(manager.choose(None, true).failure, None);
    }
}

#[test]
fn an_upload_is_refused_if_the_running_image_is_too_large_to_swap_and_erase_works() {
    let setup = setup();
    let limit = setup.layout().max_image_size() as usize;
    let large = ImageSpec::demo(version(1), limit + 16, &image_key())
        .unwrap()
        .build();
    let mut manager = Manager::on(Peer::with_factory(setup, &large));
    crate::harness::listen();
    manager.refused(first(update_image(), None, 1000), Error::NoFreeSlot);
    crate::harness::assert_said("program a smaller one");
    assert_eq!(manager.image(Request::Erase { slot: None }).failure, None);
}
