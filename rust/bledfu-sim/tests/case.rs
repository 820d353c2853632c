// SPDX-License-Identifier: Apache-2.0
//! The case from which this project started, as tests: its init packet, its two logs replayed, and its cause (slow
//! external flash, a missing completion) on our device. Only the log of bank 1 shows the fault; the other one is of
//! bank 0, in internal flash.

use bledfu_sim::device::{Board, Device, Keys, Setup, OBJECT_SIZE};
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::Fault;
use bledfu_sim::package::Package;
use bledfu_sim::parts::Times;
use bledfu_sim::phone::secure_dfu::{crc32, Phone};
use bledfu_sim::phone::PhoneError;
use bledfu_sim::power::Power;
use bledfu_sim::world::{World, WorldError};
use bledfu_slot::verify::{Crypto, Key, Sha256, Signature, SignatureCheck, SoftCrypto};
use bledfu_transfer::init_check::SoftDevicePolicy;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;
use bledfu_wire::init_packet::InitPacket;
use bledfu_wire::secure_dfu::ResultCode;

const INIT: &[u8] = include_bytes!("../../../tests/vectors/case/init-210.dat");
const BANK_1_LOG: &str = include_str!("../../../tests/vectors/case/bank1-on-qspi.log");
const BANK_0_LOG: &str = include_str!("../../../tests/vectors/case/bank0-internal.log");
const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");
const DEMO: &[u8] = include_bytes!("../../../tests/vectors/packages/demo-2.0.0.zip");

/// The public key of the case's manufacturer, recovered from the two signatures in the packet.
const CASE_KEY: &str = "6978f9c45649dddfdb9f6db57e2b0d8e96c997b6318301e604528eec68f46452\
                        28db6404bc87df52f371555450dfb1e9ca3589bacaedfdb895e75300f123c9f3";

/// CRC-32 of the image after its first three objects, from the log.
const OBJECT_CRCS: [u32; 3] = [0x0A92_E37C, 0x3BF7_00BA, 0x39E2_76AC];
const OBJECT: usize = 4096;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn case_key() -> Key {
    Key::from_bytes(&hex(CASE_KEY)).unwrap()
}

#[test]
fn the_init_packet_has_the_crc_of_the_log_and_both_signatures_verify() {
    assert_eq!((INIT.len(), crc32(INIT)), (210, 0xB473_C829));
    let init = InitPacket::decode(INIT).unwrap();
    let mut hash = SoftCrypto.sha256();
    hash.update(init.init.signed_bytes());
    let digest = hash.finish();
    let packet_signature = Signature::from_le_halves(init.signature.unwrap().bytes.try_into().unwrap());
    assert_eq!(
        SoftCrypto.verify(&case_key(), &digest, &packet_signature),
        SignatureCheck::Good
    );

    // The second signature is over the image, which is not available; its SHA-256 is in the packet.
    let image_digest = init.init.firmware_sha256().unwrap();
    let validation = init.init.boot_validations().next().unwrap();
    let image_signature = Signature::from_le_halves(validation.bytes.try_into().unwrap());
    assert_eq!(
        SoftCrypto.verify(&case_key(), &image_digest, &image_signature),
        SignatureCheck::Good
    );
    assert!(
        SoftCrypto.verify(&case_key(), &image_digest, &packet_signature) == SignatureCheck::Bad,
        "and only where they belong"
    );
}

/// Image bytes that have the CRCs of the log: the last four bytes of each object are chosen for that.
fn made_up_image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..4 * OBJECT as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (object, wanted) in OBJECT_CRCS.into_iter().enumerate() {
        let end = (object + 1) * OBJECT;
        // Runs the register back from the wanted CRC over four zero bytes; the difference from its state before them
        // gives the bytes.
        let mut register = !wanted;
        for _ in 0..32 {
            register = if register & 0x8000_0000 != 0 {
                (register ^ 0xEDB8_8320) << 1 | 1
            } else {
                register << 1
            };
        }
        let before = !crc32(&image[..end - 4]);
        image[end - 4..end].copy_from_slice(&(before ^ register).to_le_bytes());
        assert_eq!(crc32(&image[..end]), wanted);
    }
    image
}

fn case_board() -> Board {
    let keys = Keys::new(
        case_key(),
        case_key(),
        vec![bledfu_sim::device::image_digest(OLD).unwrap()],
    );
    let setup = Setup {
        keys,
        soft_device: SoftDevicePolicy::ActAs(&[0x100]),
        object_size: 4096,
        ..Setup::demo()
    };
    let board = Board::new(setup, &Power::new()).unwrap();
    board.program_factory(OLD).unwrap();
    board
}

fn start(board: &Board) -> Device {
    let report = board.boot().unwrap();
    let mut device = board.start(&report.image).unwrap();
    device.link_up(Transport::Ble);
    device
}

/// Passes one write and returns the device's notifications. Packets have the size of the log's MTU.
fn exchange(device: &mut Device, channel: Channel, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut notified = Vec::new();
    for bytes in bytes.chunks(244) {
        device.receive(Frame { channel, bytes }).unwrap();
        loop {
            match device.step() {
                Some(Step::Send { bytes, .. }) => notified.push(bytes.to_vec()),
                Some(Step::Wait { .. }) => break,
                _ => {}
            }
        }
    }
    notified
}

/// Replays a log: for every write of the phone, `judge` gets the device's answer and the one in the log (`None` where
/// the log ends with a lost link).
fn replay(device: &mut Device, log: &str, mut judge: impl FnMut(&str, &[u8], Option<&[u8]>)) {
    let image = made_up_image();
    let mut object = 0;
    let mut answer: Option<(String, Vec<u8>)> = None;
    for line in log.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace().skip(1);
        let (what, value) = (words.next().unwrap(), words.next().unwrap_or_default());
        match what {
            "write" => {
                let notified = exchange(device, Channel::Control, &hex(value));
                assert_eq!(notified.len(), 1, "{line}: exactly one answer");
                answer = Some((line.to_owned(), notified[0].clone()));
                if value.starts_with("01-02") {
                    object += 1;
                }
            }
            "notify" | "lost" => {
                if let Some((request, got)) = answer.take() {
                    let logged = hex(value);
                    judge(&request, &got, (what == "notify").then_some(&logged));
                }
            }
            "init" => assert!(exchange(device, Channel::Packet, INIT).is_empty()),
            "packets" => {
                let bytes = &image[(object - 1) * OBJECT..object * OBJECT];
                exchange(device, Channel::Packet, bytes);
            }
            "phone" => {}
            other => panic!("{other}: not a line of the log"),
        }
    }
}

#[test]
fn the_log_of_bank_0_is_answered_byte_for_byte_including_its_unanswered_request() {
    let board = case_board();
    let mut answers = 0;
    replay(&mut start(&board), BANK_0_LOG, |request, got, logged| {
        answers += 1;
        match logged {
            Some(logged) => assert_eq!(got, logged, "{request}"),
            // The checksum of the fourth object: a debugger had stopped the device of the log.
            None => {
                assert_eq!(got[..7], hex("60 03 01 00 40 00 00"), "{request}");
                assert_eq!(got[7..], crc32(&made_up_image()).to_le_bytes(), "{request}");
            }
        }
    });
    assert_eq!(answers, 17);
}

#[test]
fn the_log_of_bank_1_is_answered_byte_for_byte_except_for_the_wrong_checksum() {
    let board = case_board();
    let mut device = start(&board);
    // The log's device held the init packet from an earlier connection.
    exchange(&mut device, Channel::Control, &hex("01 01 D2 00 00 00"));
    exchange(&mut device, Channel::Packet, INIT);
    assert_eq!(exchange(&mut device, Channel::Control, &[4]), [hex("60 04 01")]);
    device.link_down();
    device.link_up(Transport::Ble);

    let lie = hex("60 03 01 00 10 00 00 7C E3 92 0A");
    let mut checksums = 0;
    replay(&mut device, BANK_1_LOG, |request, got, logged| {
        checksums += u32::from(request.ends_with(" 03"));
        if checksums == 2 && request.ends_with(" 03") {
            assert_eq!(
                logged,
                Some(&lie[..]),
                "the log's device answers with the first object's checksum"
            );
            assert_eq!(
                got,
                hex("60 03 01 00 20 00 00 BA 00 F7 3B"),
                "ours with the second's"
            );
        } else if let Some(logged) = logged {
            assert_eq!(got, logged, "{request}");
        }
    });
    assert_eq!(checksums, 2);
}

#[test]
fn the_init_packet_survives_the_reset_that_the_log_shows() {
    let board = case_board();
    let mut device = start(&board);
    exchange(&mut device, Channel::Control, &hex("01 01 D2 00 00 00"));
    exchange(&mut device, Channel::Packet, INIT);
    exchange(&mut device, Channel::Control, &[4]);
    drop(device);
    replay(&mut start(&board), BANK_1_LOG, |request, got, logged| {
        if !request.ends_with(" 03") {
            assert_eq!(Some(got), logged, "{request}");
        }
    });
}

fn world(setup: Setup, factory: &[u8], link: LinkParams) -> World {
    World::new(setup, factory, link).unwrap()
}

/// A fast phone: the whole object arrives in one or two connection events.
const FAST: LinkParams = LinkParams {
    interval_us: 7_500,
    packets_per_event: 10,
    mtu: 247,
};

#[test]
fn with_flash_at_its_maximum_times_no_byte_is_lost_and_every_answer_comes_in_time() {
    // An object of 32 KiB is eight erases of 384 ms.
    for (object_size, limit_ms) in [(4096, 1_000), (OBJECT_SIZE, 3_100)] {
        updates_with_maximum_times(object_size, limit_ms, 0);
    }
}

/// A file of less than half a slot may be a packed update, so at first it has two places, and here both were used.
#[test]
fn a_file_of_less_than_half_a_slot_is_answered_in_the_same_time() {
    for (object_size, limit_ms) in [(4096, 1_000), (OBJECT_SIZE, 3_100)] {
        updates_with_maximum_times(object_size, limit_ms, 64);
    }
}

/// The slot is `sectors` longer than twice the image; the image before is at its start, and another file at its end.
fn updates_with_maximum_times(object_size: u32, limit_ms: u64, sectors: u32) {
    let package = Package::read(DEMO).unwrap();
    let demo = Setup::demo();
    let size = package.application.firmware.len() as u32;
    let slot_size = match sectors {
        0 => demo.slot_size,
        sectors => (2 * size).next_multiple_of(4096) + sectors * 4096,
    };
    let setup = Setup {
        times: Times::Maximum,
        object_size,
        slot_size,
        max_sectors: demo.max_sectors.max(slot_size / 4096),
        full_chips: sectors == 0,
        ..demo
    };
    let factory = bledfu_sim::demo::factory_image().unwrap();
    let mut world = world(setup, &factory, FAST);
    world.board.secondary.set_contents(0, &factory).unwrap();
    if sectors > 0 {
        let trailer = setup.layout().secondary_trailer().first_sector();
        let far = trailer - size.next_multiple_of(4096);
        let other = &factory[..factory.len().min(size as usize)];
        world.board.secondary.set_contents(far, other).unwrap();
    }
    let outcome = world.update(&package, Phone::Android, 0, &mut |_| ()).unwrap();
    assert_eq!(outcome.sessions, 1, "the link never broke");
    assert!(
        world.slowest_answer_ns < limit_ms * 1_000_000,
        "{} ns",
        world.slowest_answer_ns
    );
    assert_eq!(world.packets_lost, 0);
    world.confirm().unwrap();
    assert_eq!(world.device().unwrap().image().header.version.major, 2);
}

#[test]
fn while_objects_go_to_a_cleared_slot_nothing_is_erased() {
    let factory = bledfu_sim::demo::factory_image().unwrap();
    let mut world = world(Setup::demo(), &factory, LinkParams::default());
    world.settle();
    let package = Package::read(DEMO).unwrap();
    let chip = world.board.external.clone();
    let mut erases = Vec::new();
    let mut count = |_| erases.push(chip.stats().erases());
    world.update(&package, Phone::Android, 0, &mut count).unwrap();
    // The journal, too, is ready before the first object has arrived.
    assert!(erases.len() > 10, "one for each object");
    assert_eq!(erases.get(1), erases.last(), "{erases:?}");
}

#[test]
fn any_one_missing_completion_costs_time_but_no_byte() {
    let package = Package::read(NEW).unwrap();
    let setup = Setup {
        times: Times::Maximum,
        object_size: 4096,
        ..Setup::small(8)
    };
    let mut calm = world(setup, OLD, FAST);
    calm.board.secondary.set_contents(0, OLD).unwrap();
    let first = calm.board.external.ops();
    calm.connect();
    calm.update(&package, Phone::Android, 0, &mut |_| ()).unwrap();
    let operations = calm.board.external.ops() - first;

    for op in 0..operations {
        for work_done in [false, true] {
            let mut world = world(setup, OLD, FAST);
            world.board.secondary.set_contents(0, OLD).unwrap();
            world
                .board
                .external
                .fail_at(world.board.external.ops() + op, Fault::NoCompletion { work_done });
            let what = format!("completion {op} of {operations} never comes, work done: {work_done}");
            let outcome = world.update(&package, Phone::Android, 0, &mut |_| ());
            let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(outcome.sessions, 1, "{what}");
            // The driver's timeout, a second attempt, and the time the answer takes anyway.
            assert!(
                world.slowest_answer_ns < 2_000_000_000,
                "{what}: {} ns",
                world.slowest_answer_ns
            );
            world.confirm().unwrap();
            assert_eq!(world.device().unwrap().image().header.version.major, 2, "{what}");
        }
    }
}

#[test]
fn a_dead_flash_is_answered_with_operation_failed_and_nothing_else_breaks() {
    let package = Package::read(NEW).unwrap();
    let mut world = world(Setup::small(8), OLD, FAST);
    world.board.external.set_dead(true);
    let error = world
        .update(&package, Phone::Android, 0, &mut |_| ())
        .unwrap_err();
    let refused = PhoneError::Refused {
        opcode: 1,
        code: ResultCode::OperationFailed,
    };
    assert!(
        matches!(error, WorldError::Phone(error) if error == refused),
        "{error}"
    );

    world.board.external.set_dead(false);
    world.update(&package, Phone::Android, 0, &mut |_| ()).unwrap();
    world.confirm().unwrap();
    assert_eq!(world.device().unwrap().image().header.version.major, 2);
}
