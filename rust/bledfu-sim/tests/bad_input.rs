// SPDX-License-Identifier: Apache-2.0
//! Bad input of every kind, on a whole device: it gets the right code on the wire and a sentence in the log, it leaves
//! the running image and the journal unchanged, and a good update then succeeds.

mod harness;

use bledfu_sim::device::Setup;
use bledfu_sim::init_packet::{signed_packet, InitFields};
use bledfu_sim::keys::swap_halves;
use bledfu_sim::make::{demo_payload, Damage, Entry, ImageSpec};
use bledfu_sim::package::{read_parts, Package, PackageError};
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::phone::PhoneError;
use bledfu_slot::tlv::types;
use bledfu_transfer::secure_dfu::Then;
use bledfu_wire::secure_dfu::{op, ExtendedCode, ResultCode};
use harness::*;

/// All flash content, to check that nothing was touched.
struct Snapshot {
    primary: Vec<u8>,
    secondary: Vec<u8>,
    journal: Vec<u8>,
    operations: u64,
}

impl Snapshot {
    fn of(peer: &Peer) -> Self {
        Self {
            primary: peer.board.primary.contents(),
            secondary: peer.board.secondary.contents(),
            journal: peer.board.journal.contents(),
            operations: peer.board.power.ops(),
        }
    }

    /// The running image, byte for byte, and nothing staged.
    #[track_caller]
    fn assert_running_image(&self, peer: &Peer, what: &str) {
        assert!(
            peer.board.primary.contents() == self.primary,
            "{what}: the running image was changed"
        );
        peer.assert_pending(false);
    }

    /// No flash operation at all: a refused packet costs no wear either.
    #[track_caller]
    fn assert_untouched(&self, peer: &Peer, what: &str) {
        self.assert_running_image(peer, what);
        assert!(
            peer.board.journal.contents() == self.journal,
            "{what}: the journal was changed"
        );
        assert!(
            peer.board.secondary.contents() == self.secondary,
            "{what}: the slot was changed"
        );
        assert_eq!(
            peer.board.power.ops(),
            self.operations,
            "{what}: the flash was worked on"
        );
    }
}

/// Runs `act` on a fresh device, and checks that it touched nothing and that the device works.
#[track_caller]
fn touches_nothing(what: &str, act: impl FnOnce(&mut Peer)) {
    let mut peer = Peer::new();
    let before = Snapshot::of(&peer);
    listen();
    act(&mut peer);
    before.assert_untouched(&peer, what);
    assert_eq!(peer.then, Then::Continue, "{what}: the link stays");
    peer.update_and_confirm();
}

// ---- requests ----

#[test]
fn invalid_requests_are_refused_and_touch_nothing() {
    let cases = [
        ("05", "60 05 02", "op code 05 is not one of Secure DFU"),
        ("FF FF", "60 FF 02", "op code FF is not one of Secure DFU"),
        ("01 01", "60 01 03", "request 01 has 6 bytes, 2 came"),
        (
            "01 01 10 00 00 00 00",
            "60 01 03",
            "request 01 has 6 bytes, 7 came",
        ),
        ("02 01", "60 02 03", "request 02 has 3 bytes, 2 came"),
        ("03 00", "60 03 03", "request 03 has 1 bytes, 2 came"),
        ("04 01", "60 04 03", "request 04 has 1 bytes, 2 came"),
        ("06", "60 06 03", "request 06 has 2 bytes, 1 came"),
        ("06 00", "60 06 05", "request 06 names object type 0"),
        ("01 03 10 00 00 00", "60 01 05", "request 01 names object type 3"),
    ];
    for (request, answer, sentence) in cases {
        touches_nothing(request, |peer| {
            peer.ask(request, answer);
            assert_said(sentence);
        });
    }
    touches_nothing("an empty write", |peer| peer.ask_nothing(""));
    touches_nothing("512 bytes of nonsense", |peer| {
        assert_eq!(peer.control(&[0x01; 512]), ["60 01 03"]);
    });
}

#[test]
fn command_objects_of_impossible_size_are_refused_and_touch_nothing() {
    for (size, answer) in [(0, "60 01 03"), (513, "60 01 04"), (usize::MAX, "60 01 04")] {
        touches_nothing("create command", |peer| peer.ask(&create_command(size), answer));
    }
}

#[test]
fn data_without_an_init_packet_is_refused_and_touches_nothing() {
    touches_nothing("create data", |peer| {
        peer.ask(&create_data(OBJECT), "60 01 08");
        peer.data(update_image());
        peer.ask("03", "60 03 01 00 00 00 00 00 00 00 00");
        peer.ask("04", "60 04 08");
    });
    touches_nothing("packets out of the blue", |peer| {
        peer.data(update_image());
        peer.ask("04", "60 04 05");
    });
}

#[test]
fn bytes_beyond_the_command_object_are_dropped() {
    touches_nothing("a long init packet", |peer| {
        peer.ask(&create_command(100), "60 01 01");
        peer.data(&packet_i());
        peer.data(&[0; 244]);
        peer.ask("03", "60 03 01 00 00 00 00 00 00 00 00");
        peer.ask("04", "60 04 08");
    });
}

#[test]
fn data_objects_of_impossible_size_are_refused_in_an_open_transfer() {
    let image = update_image();
    let mut peer = Peer::after_init(&init_for(image));
    let before = Snapshot::of(&peer);
    for (size, answer) in [
        (0, "60 01 03"),
        (1, "60 01 03"),
        (904, "60 01 03"),
        (4095, "60 01 03"),
        (4097, "60 01 03"),
        (5000, "60 01 04"),
        (8192, "60 01 04"),
        (0x8000_0000, "60 01 04"),
        (0xFFFF_F000, "60 01 04"),
        (0xFFFF_FFFF, "60 01 03"),
    ] {
        peer.ask(&create_data(size), answer);
        peer.data(&image[..244]);
        peer.ask("03", "60 03 01 00 00 00 00 00 00 00 00");
    }
    before.assert_untouched(&peer, "refused data objects");
    peer.object(image, 0, OBJECT);
    // More data than the object has, in every length.
    listen();
    for length in [1, 20, 244, 512] {
        peer.packets(&vec![0xEE; length], length);
    }
    assert_said("a packet of 512 bytes is beyond the end of the object");
    peer.ask("03", &checksum(&image[..OBJECT]));
    peer.ask("04", "60 04 01");
    assert_eq!(peer.image_from(image, OBJECT), "60 04 01");
    peer.install_and_confirm(image);
}

// ---- init packets ----

/// One kind of bad init packet: what is wrong, the packet, the wire code, the message.
type BadInit = (&'static str, Vec<u8>, &'static str, String);

fn bad_init_packets() -> Vec<BadInit> {
    let image = update_image();
    let signed = |change: &dyn Fn(&mut InitFields)| {
        let mut fields = fields_for(image);
        change(&mut fields);
        fields.signed(&package_key())
    };
    let command = fields_for(image).init_command();
    let right = swap_halves(&package_key().sign(&command));
    let limit = setup().layout().max_image_size();
    let mut flipped = init_for(image);
    flipped[10] ^= 0x01; // the firmware version
    let case = |what, packet, code, sentence: &str| (what, packet, code, sentence.to_owned());
    vec![
        case(
            "garbage",
            vec![0xFF; 139],
            "05",
            "the init packet is not valid protobuf",
        ),
        case(
            "cut short",
            init_for(image)[..100].to_vec(),
            "05",
            "the init packet is not valid protobuf",
        ),
        case(
            "empty fields",
            vec![0x12, 0x00],
            "05",
            "the init packet lacks the field command",
        ),
        case(
            "plain and signed",
            [packet_u(), packet_i()].concat(),
            "05",
            "the init packet must hold either a command or a signed command",
        ),
        case(
            "unsigned",
            fields_for(image).unsigned(),
            "0B 08",
            "the init packet is not signed",
        ),
        case(
            "wrong key",
            fields_for(image).signed(&strange_key()),
            "05",
            "the init packet is not signed with this device's package key",
        ),
        case(
            "signed with the image key",
            fields_for(image).signed(&image_key()),
            "05",
            "the init packet is not signed with this device's package key",
        ),
        case(
            "wrong signature",
            signed_packet(&command, 0, &[0x55; 64]),
            "05",
            "the init packet is not signed with this device's package key",
        ),
        case(
            "changed after signing",
            flipped,
            "05",
            "the init packet is not signed with this device's package key",
        ),
        case(
            "signature of another type",
            signed_packet(&command, 1, &right),
            "0B 0B",
            "the init packet's signature has type 1",
        ),
        case(
            "short signature",
            signed_packet(&command, 0, &right[..60]),
            "0A",
            "the init packet's signature has 60 bytes, not 64",
        ),
        case(
            "no firmware type",
            signed(&|init| init.kind = None),
            "0B 04",
            "the init packet does not say what kind of firmware it is for",
        ),
        case(
            "softdevice",
            signed(&|init| init.kind = Some(1)),
            "0B 04",
            "firmware of type 1 is not an application, and only that can be updated",
        ),
        case(
            "bootloader",
            signed(&|init| init.kind = Some(2)),
            "0B 04",
            "firmware of type 2 is not an application, and only that can be updated",
        ),
        case(
            "no hash",
            signed(&|init| init.hash = None),
            "0B 09",
            "the init packet's firmware hash is missing or not SHA-256",
        ),
        case(
            "wrong hardware",
            signed(&|init| init.hw_version = Some(51)),
            "0B 06",
            "the package is for hardware version 51, this is 52",
        ),
        case(
            "no hardware",
            signed(&|init| init.hw_version = None),
            "0B 04",
            "the init packet names no hardware version",
        ),
        case(
            "softdevice required",
            signed(&|init| init.sd_req = vec![0x100]),
            "0B 07",
            "the package needs SoftDevice 0x0100, this device has none",
        ),
        case(
            "older",
            signed(&|init| init.fw_version = Some(0)),
            "0B 05",
            "the package has firmware version 0, but 1 is installed",
        ),
        case(
            "no version",
            signed(&|init| init.fw_version = None),
            "0B 04",
            "the init packet names no firmware version",
        ),
        case(
            "no size",
            signed(&|init| init.app_size = Some(0)),
            "0B 04",
            "the init packet names no firmware size",
        ),
        (
            "too large",
            signed(&|init| init.app_size = Some(limit + 1)),
            "04",
            format!("the firmware has {} bytes, the slot takes {limit}", limit + 1),
        ),
        (
            "as large as a number can be",
            signed(&|init| init.app_size = Some(u32::MAX)),
            "04",
            format!("the firmware has 4294967295 bytes, the slot takes {limit}"),
        ),
    ]
}

#[test]
fn bad_init_packets_are_refused_with_the_reason_and_touch_nothing() {
    for (what, packet, code, sentence) in bad_init_packets() {
        touches_nothing(what, |peer| {
            assert_eq!(peer.send_init(&packet), format!("60 04 {code}"), "{what}");
            assert_said(&sentence);
            peer.ask(&create_data(OBJECT), "60 01 08");
        });
    }
}

#[test]
fn a_bad_init_packet_does_not_cost_the_journal_an_interrupted_transfer() {
    // Create has dropped the transfer for this connection; the journal's record of it stays.
    let image = update_image();
    for (what, packet, code, _) in bad_init_packets() {
        let mut peer = Peer::after_init(&init_for(image));
        peer.object(image, 0, OBJECT);
        peer.ask("04", "60 04 01");
        peer.idle();
        let before = Snapshot::of(&peer);
        assert_eq!(peer.send_init(&packet), format!("60 04 {code}"), "{what}");
        before.assert_untouched(&peer, what);
        peer.reboot();
        peer.ask("06 02", &selected(4096, &image[..OBJECT]));
        assert_eq!(
            peer.client(Phone::Android, 0, &update_package()),
            Ok(()),
            "{what}"
        );
        peer.install_and_confirm(image);
    }
}

// ---- firmware that was not announced, or is not an image this device may run ----

/// Sends `firmware` under `init`, which is accepted. The last Execute must answer `code`.
#[track_caller]
fn refused_at_the_end(what: &str, init: &[u8], firmware: &[u8], code: &str, sentence: &str) {
    refused_behind(firmware.len(), what, init, firmware, code, sentence);
}

/// Like [`refused_at_the_end`], by the Execute after the first `length` bytes.
#[track_caller]
fn refused_behind(length: usize, what: &str, init: &[u8], firmware: &[u8], code: &str, sentence: &str) {
    let mut peer = Peer::new();
    let before = Snapshot::of(&peer);
    listen();
    assert_eq!(
        peer.transfer(init, &firmware[..length]),
        format!("60 04 {code}"),
        "{what}"
    );
    assert_said(sentence);
    before.assert_running_image(&peer, what);
    assert_eq!(peer.then, Then::Continue, "{what}: no reset");
    peer.ask("06 01", &selected(512, &[]));
    peer.ask("06 02", &selected(4096, &[]));
    // The reset that may follow does not bring it back.
    assert_eq!(peer.reboot().image.header.version, version(1), "{what}");
    before.assert_running_image(&peer, what);
    peer.ask("06 02", &selected(4096, &[]));
    peer.update_and_confirm();
}

const NO_IMAGE: &str = "the received firmware is not a signed image this device may run";
const OTHER_FIRMWARE: &str = "the SHA-256 of the received firmware differs from the one in the init packet";

#[test]
fn firmware_other_than_announced_is_refused_at_the_end() {
    let image = update_image();
    let mut other = image.to_vec();
    other[4999] ^= 0x80;
    refused_at_the_end("one bit", &init_for(image), &other, "0B 0C", OTHER_FIRMWARE);
    refused_at_the_end(
        "nothing like it",
        &init_for(image),
        &image_p(),
        "0B 0C",
        OTHER_FIRMWARE,
    );
    let wrong = InitFields::application(2, 52, &[0], P_SIZE as u32, &[0xA5; 32]).signed(&package_key());
    refused_at_the_end("wrong hash", &wrong, image, "0B 0C", OTHER_FIRMWARE);
}

#[test]
fn images_with_any_damage_are_refused_at_the_end() {
    let spec = ImageSpec::new(version(2), demo_payload(version(2), 5_300, 0), &image_key());
    for damage in Damage::ALL {
        let image = spec.damaged(*damage);
        let (length, sentence) = match damage {
            // The first object shows it.
            Damage::Encrypted => (OBJECT, "encrypted"),
            Damage::Compressed => (OBJECT, "compressed"),
            Damage::NotBootable => (OBJECT, "not bootable"),
            _ => (image.len(), NO_IMAGE),
        };
        let what = format!("{damage:?}");
        refused_behind(length, &what, &init_for(&image), &image, "0B 0C", sentence);
    }
}

/// A reset vector in the primary slot, behind the header; bit 0 says Thumb.
const INSIDE: u32 = bledfu_sim::device::PRIMARY_START + 0x201;

/// A device that checks for which slot images are linked.
fn addressed() -> Setup {
    Setup {
        check_address: true,
        ..setup()
    }
}

/// An image of two objects whose vector table has this reset vector, as a linker makes it for a Cortex-M.
fn linked(reset_vector: u32, major: u8) -> Vec<u8> {
    let mut payload = demo_payload(version(major), 5_300, 0);
    payload[..4].copy_from_slice(&0x2000_8000_u32.to_le_bytes());
    payload[4..8].copy_from_slice(&reset_vector.to_le_bytes());
    ImageSpec::new(version(major), payload, &image_key()).build()
}

// secure-dfu case 99
#[test]
fn an_image_linked_for_another_slot_is_refused_by_the_first_bytes_that_show_it() {
    let factory = linked(INSIDE, 1);
    let network_core = linked(0x0100_9A35, 2);
    let mut peer = Peer::with_factory(addressed(), &factory);
    listen();
    assert_eq!(peer.send_init(&init_for(&network_core)), "60 04 01");
    peer.object(&network_core, 0, OBJECT);
    peer.ask("04", "60 04 0B 0C");
    assert_said("its reset vector");
    peer.assert_pending(false);
    // Nothing of it is left, and an image for this slot is accepted.
    peer.ask("06 02", &selected(OBJECT, &[]));
    assert_eq!(peer.reboot().image.header.version, version(1));
    let good = linked(INSIDE, 2);
    assert_eq!(peer.transfer(&init_for(&good), &good), "60 04 01");
    peer.install_and_confirm(&good);
}

#[test]
fn the_boot_stage_does_not_install_an_image_that_is_linked_for_another_slot() {
    let factory = linked(INSIDE, 1);
    let network_core = linked(0x0100_9A35, 2);
    let mut peer = Peer::with_factory(
        Setup {
            check_address: false,
            ..addressed()
        },
        &factory,
    );
    assert_eq!(peer.transfer(&init_for(&network_core), &network_core), "60 04 01");
    peer.assert_pending(true);
    // An application without this check received it; the boot stage checks.
    peer.board.setup.check_address = true;
    assert_eq!(peer.reboot().image.header.version, version(1));
    peer.assert_pending(false);
    let good = linked(INSIDE, 2);
    assert_eq!(peer.transfer(&init_for(&good), &good), "60 04 01");
    peer.install_and_confirm(&good);
}

#[test]
fn images_with_a_strangers_signature_are_refused_at_the_end() {
    for (what, key) in [("a stranger", strange_key()), ("the package key", package_key())] {
        let image = ImageSpec::new(version(2), demo_payload(version(2), 5_300, 0), &key).build();
        refused_at_the_end(what, &init_for(&image), &image, "0B 0C", NO_IMAGE);
    }
}

#[test]
fn tlv_lengths_that_overflow_are_refused_at_the_end() {
    let good = ImageSpec::new(version(2), demo_payload(version(2), 5_300, 0), &image_key());
    let lying = |kind, length| Entry::Lying {
        kind,
        length,
        value: vec![0x11; 32],
    };
    for kind in [types::SHA256, types::KEY_HASH, types::ECDSA, 0x00FE] {
        for length in [0x0000, 0x0001, 0x001F, 0x0021, 0x7FFF, 0xFFFE, 0xFFFF] {
            for at in 0..good.unprotected.len() {
                let mut spec = good.clone();
                spec.unprotected.insert(at, lying(kind, length));
                let image = spec.build();
                let what = format!("{kind:#x} of {length:#x} bytes at {at}");
                refused_at_the_end(&what, &init_for(&image), &image, "0B 0C", NO_IMAGE);
            }
        }
    }
}

#[test]
fn a_header_cut_off_by_the_end_of_the_firmware_is_refused() {
    for length in [1, 4, 31, 32, 33, 511, 512] {
        let image = &update_image()[..length];
        let mut peer = Peer::new();
        let before = Snapshot::of(&peer);
        assert_eq!(peer.send_init(&init_for(image)), "60 04 01");
        peer.object(image, 0, length);
        peer.ask("04", "60 04 0B 0C");
        before.assert_running_image(&peer, "a stump");
        peer.update_and_confirm();
    }
}

// ---- the packages made by the real tools ----

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/");

fn vector(name: &str) -> Vec<u8> {
    std::fs::read(format!("{VECTORS}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The device for which the packages are made: demo keys, real slots.
fn demo_device() -> Peer {
    let small = Package::read(&vector("packages/small-1.0.0.zip")).expect("a good package");
    Peer::with_factory(
        Setup {
            full_chips: false,
            ..Setup::demo()
        },
        &small.application.firmware,
    )
}

/// The good update that must succeed afterwards.
#[track_caller]
fn update_demo_device(peer: &mut Peer, what: &str) {
    let good = Package::read(&vector("packages/small-2.0.0.zip")).expect("a good package");
    peer.reconnect();
    assert_eq!(peer.client(Phone::Nrfutil, 0, &good), Ok(()), "{what}");
    peer.install_and_confirm(&good.application.firmware);
}

/// The codes of `init 0B 06` and the like.
fn refusals(text: &str) -> Vec<ResultCode> {
    let code = |text: &str| match text {
        "03" => ResultCode::InvalidParameter,
        "04" => ResultCode::InsufficientResources,
        "05" => ResultCode::InvalidObject,
        "08" => ResultCode::OperationNotPermitted,
        "0B 04" => ResultCode::Extended(ExtendedCode::InitCommandInvalid),
        "0B 05" => ResultCode::Extended(ExtendedCode::FirmwareVersion),
        "0B 06" => ResultCode::Extended(ExtendedCode::HardwareVersion),
        "0B 07" => ResultCode::Extended(ExtendedCode::SoftDeviceVersion),
        "0B 08" => ResultCode::Extended(ExtendedCode::SignatureMissing),
        "0B 0C" => ResultCode::Extended(ExtendedCode::VerificationFailed),
        other => panic!("no such code: {other}"),
    };
    text.split(" or ").map(code).collect()
}

/// The parts of a package file as a phone reads them, unchecked; a system part alone is sent as an application.
fn parts_of(file: &[u8]) -> Package {
    Package::read_unchecked(file).unwrap_or_else(|_| {
        let (_, only) = read_parts(file).expect("a readable package").remove(0);
        Package {
            application: only,
            system: None,
        }
    })
}

#[test]
fn every_package_of_the_vectors_gets_the_listed_answer() {
    let list: serde_json::Value = serde_json::from_slice(&vector("packages.json")).expect("a list");
    let mut seen = 0;
    for entry in list.as_array().expect("a list") {
        let file = entry["file"].as_str().expect("a name");
        let expect = entry["expect"].as_str().expect("an answer");
        seen += 1;
        if expect == "file" {
            continue; // see `broken_files_are_refused_with_one_sentence`
        }
        let package = parts_of(&vector(file));
        let mut peer = demo_device();
        let before = Snapshot::of(&peer);
        let came = peer.client(Phone::Android, 0, &package);
        let (stage, codes) = expect.split_once(' ').unwrap_or((expect, ""));
        let opcode = match stage {
            "ok" => {
                assert_eq!(came, Ok(()), "{file}");
                let image = &package.application.firmware;
                if bledfu_sim::device::image_digest(image) == Some(peer.device().image().digest) {
                    peer.assert_ran_already(image);
                } else {
                    peer.install_and_confirm(image);
                }
                continue;
            }
            "init" if codes.ends_with(", then ok") => {
                // The client tolerates the refusal of the system part and continues.
                assert_eq!(came, Ok(()), "{file}");
                peer.install_and_confirm(&package.application.firmware);
                continue;
            }
            "create" => op::CREATE,
            "init" | "final" => op::EXECUTE,
            other => panic!("{file}: {other}"),
        };
        let refused = |code: &ResultCode| came == Err(PhoneError::Refused { opcode, code: *code });
        assert!(
            refusals(codes).iter().any(refused),
            "{file}: {expect}, but {came:?}"
        );
        if stage == "init" {
            before.assert_untouched(&peer, file);
        } else {
            before.assert_running_image(&peer, file);
        }
        assert_eq!(peer.reboot().image.header.version, version(1), "{file}");
        update_demo_device(&mut peer, file);
    }
    assert!(seen >= 39, "{seen} packages");
}

#[test]
fn a_system_part_is_refused_and_the_application_follows_on_the_same_connection() {
    let file = vector("packages/softdevice-application.zip");
    let package = Package::read(&file).expect("a good package");
    let (_, softdevice) = package.system.as_ref().expect("two parts");
    let mut peer = demo_device();
    let before = Snapshot::of(&peer);
    assert_eq!(peer.send_init(&softdevice.init), "60 04 0B 04");
    before.assert_untouched(&peer, "the softdevice");
    assert_eq!(peer.then, Then::Continue);
    assert_eq!(
        peer.transfer(&package.application.init, &package.application.firmware),
        "60 04 01"
    );
    peer.install_and_confirm(&package.application.firmware);
}

/// A tool's message about a file that no client should start to send.
const BROKEN: &[(&str, &str)] = &[
    (
        "broken-truncated",
        "the file is not a zip archive, or it is cut short",
    ),
    (
        "broken-empty",
        "the file is not a zip archive, or it is cut short",
    ),
    ("broken-text", "the file is not a zip archive, or it is cut short"),
    (
        "broken-crc",
        "the file small-2.0.0.signed.bin in the package cannot be unpacked: ",
    ),
    ("broken-no-manifest", "the package has no manifest.json"),
    (
        "broken-no-bin",
        "the package lacks the file small-2.0.0.signed.bin that its manifest.json names for application",
    ),
    (
        "broken-no-dat",
        "the package lacks the file small-2.0.0.signed.dat that its manifest.json names for application",
    ),
    ("broken-json", "the manifest.json of the package is damaged: "),
    (
        "broken-no-dat-entry",
        "the manifest.json of the package is damaged: application: missing field `dat_file`",
    ),
    (
        "broken-no-application",
        "the manifest.json of the package names no firmware",
    ),
    (
        "truncated",
        "the firmware of application has 12636 bytes, but its init packet says 13636",
    ),
    (
        "too-long",
        "the firmware of application has 13640 bytes, but its init packet says 13636",
    ),
    (
        "wrong-hash",
        "the firmware of application does not have the SHA-256 its init packet says",
    ),
    (
        "softdevice",
        "the package has no application, only softdevice: this device takes applications",
    ),
    (
        "bootloader",
        "the package has no application, only bootloader: this device takes applications",
    ),
    (
        "softdevice-bootloader",
        "the package has no application, only softdevice_bootloader: this device takes applications",
    ),
];

#[test]
fn broken_files_are_refused_with_one_sentence() {
    let list: serde_json::Value = serde_json::from_slice(&vector("packages.json")).expect("a list");
    for entry in list.as_array().expect("a list") {
        let file = entry["file"].as_str().expect("a name");
        let name = file.trim_start_matches("packages/").trim_end_matches(".zip");
        let listed = BROKEN.iter().any(|(other, _)| *other == name);
        assert!(entry["expect"] != "file" || listed, "{file} needs a sentence");
    }
    for (name, sentence) in BROKEN {
        let error = Package::read(&vector(&format!("packages/{name}.zip"))).expect_err(name);
        let said = error.to_string();
        assert!(said.starts_with(sentence), "{name}: {said}");
        assert!(!said.contains('\n'), "{name}: one line");
    }
    let missing = Package::open("no-such-file.zip".as_ref()).expect_err("no such file");
    assert!(matches!(missing, PackageError::Io { .. }), "{missing}");
}

#[test]
fn any_cut_or_changed_byte_of_a_package_file_is_refused_or_harmless() {
    let file = vector("packages/small-2.0.0.zip");
    let good = Package::read(&file).expect("a good package");
    for length in (0..file.len()).step_by(97) {
        assert!(Package::read(&file[..length]).is_err(), "cut at {length}");
    }
    for at in (0..file.len()).step_by(31) {
        let mut changed = file.clone();
        changed[at] ^= 0x55;
        // What is still readable has the same parts: only dates and the like may differ.
        if let Ok(package) = Package::read(&changed) {
            assert_eq!(
                package.application.firmware, good.application.firmware,
                "byte {at}"
            );
            assert_eq!(package.application.init, good.application.init, "byte {at}");
        }
    }
}
