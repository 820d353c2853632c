// SPDX-License-Identifier: Apache-2.0
//! The checks of an init packet. Each variant is signed again, unless the signature is what is tested.

use crate::harness::*;
use bledfu_sim::device::{Keys, Setup};
use bledfu_sim::init_packet::{signed_packet, InitFields};
use bledfu_sim::keys::swap_halves;
use bledfu_slot::verify::{Signature, SignatureCheck, SoftCrypto, SoftSha256};
use bledfu_slot::{Crypto, Key};
use bledfu_transfer::init_check::{check, InitPolicy, InitRefusal, SoftDevicePolicy};
use bledfu_transfer::secure_dfu::Then;
use bledfu_wire::init_packet::InitPacket;
use bledfu_wire::secure_dfu::ResultCode;

const NOTHING_HELD: &str = "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00";

/// Sends a packet that is refused at Execute; then nothing of it is left, the link stays, and I is accepted.
#[track_caller]
fn refused(packet: &[u8], answer: &str) {
    let mut peer = Peer::new();
    assert_eq!(peer.send_init(packet), answer);
    assert_eq!(peer.then, Then::Continue, "the link stays");
    peer.ask("06 01", NOTHING_HELD);
    peer.ask(&create_data(OBJECT), "60 01 08");
    assert_eq!(peer.send_init(&packet_i()), "60 04 01");
}

#[track_caller]
fn accepted(packet: &[u8]) -> Peer {
    Peer::after_init(packet)
}

fn fields() -> InitFields {
    fields_for(&image_p())
}

fn signed(change: impl FnOnce(&mut InitFields)) -> Vec<u8> {
    let mut fields = fields();
    change(&mut fields);
    fields.signed(&package_key())
}

/// Undecodable bytes stay, as in the reference, so that the peer can read them back.
#[track_caller]
fn malformed(packet: &[u8]) {
    let mut peer = Peer::new();
    assert_eq!(peer.send_init(packet), "60 04 05");
    peer.ask("06 01", &selected(512, packet));
    peer.ask(&create_data(OBJECT), "60 01 08");
    assert_eq!(peer.send_init(&packet_i()), "60 04 01");
}

// secure-dfu case 32
#[test]
fn garbage_is_an_invalid_object() {
    malformed(&[0xFF; 139]);
    malformed(&[0]);
    // A length that goes beyond the packet.
    malformed(&packet_i()[..138]);
    malformed(&hex("12 FF FF FF FF 0F"));
}

// secure-dfu case 33
#[test]
fn both_a_plain_and_a_signed_command_are_an_invalid_object() {
    let both = [packet_u(), packet_i()].concat();
    malformed(&both);
    let both = [packet_i(), packet_u()].concat();
    malformed(&both);
}

// secure-dfu case 34
#[test]
fn an_unsigned_packet_lacks_its_signature() {
    assert_eq!(fields().unsigned(), packet_u());
    refused(&packet_u(), "60 04 0B 08");
}

// secure-dfu case 35
#[test]
fn one_wrong_bit_of_the_signature_is_an_invalid_object() {
    let mut packet = packet_i();
    *packet.last_mut().unwrap() ^= 1;
    refused(&packet, "60 04 05");
}

// secure-dfu case 36
#[test]
fn a_signature_in_big_endian_is_an_invalid_object() {
    let command = fields().init_command();
    let big_endian = package_key().sign(&command);
    refused(&signed_packet(&command, 0, &big_endian), "60 04 05");
    refused(&signed_packet(&command, 0, &[0; 64]), "60 04 05");
}

// secure-dfu case 37
#[test]
fn another_type_of_signature_is_not_known() {
    let command = fields().init_command();
    let right = swap_halves(&package_key().sign(&command));
    assert_eq!(signed_packet(&command, 0, &right), packet_i());
    refused(&signed_packet(&command, 1, &right), "60 04 0B 0B");
}

// secure-dfu case 38
#[test]
fn a_signature_of_63_bytes_fails() {
    let command = fields().init_command();
    let right = swap_halves(&package_key().sign(&command));
    refused(&signed_packet(&command, 0, &right[..63]), "60 04 0A");
    refused(&signed_packet(&command, 0, &[]), "60 04 0A");
}

// secure-dfu case 39
#[test]
fn an_unknown_or_absent_firmware_type_is_an_invalid_init_command() {
    refused(&signed(|init| init.kind = Some(7)), "60 04 0B 04");
    refused(&signed(|init| init.kind = None), "60 04 0B 04");
}

// secure-dfu case 40
#[test]
fn softdevice_and_bootloader_are_refused_and_the_application_follows_on_the_same_link() {
    for kind in [1, 2, 3, 4] {
        let packet = signed(|init| {
            init.kind = Some(kind);
            init.sd_size = Some(3000);
            init.bl_size = Some(2000);
        });
        refused(&packet, "60 04 0B 04");
    }
}

// secure-dfu case 41
#[test]
fn only_sha256_is_accepted() {
    let hash = fields().hash.unwrap().1;
    for kind in [0, 1, 2, 4, 9] {
        refused(
            &signed(|init| init.hash = Some((kind, hash.clone()))),
            "60 04 0B 09",
        );
    }
    refused(&signed(|init| init.hash = None), "60 04 0B 09");
    refused(
        &signed(|init| init.hash = Some((3, hash[..31].to_vec()))),
        "60 04 0B 09",
    );
}

// secure-dfu case 42
#[test]
fn the_hardware_version_must_be_present_and_match() {
    refused(&signed(|init| init.hw_version = Some(51)), "60 04 0B 06");
    refused(&signed(|init| init.hw_version = None), "60 04 0B 04");
}

// secure-dfu case 43
#[test]
fn a_softdevice_is_required_unless_the_policy_says_otherwise() {
    let packet = signed(|init| init.sd_req = vec![0x100]);
    refused(&packet, "60 04 0B 07");
    for policy in [SoftDevicePolicy::Ignore, SoftDevicePolicy::ActAs(&[0x100])] {
        let mut peer = Peer::with(Setup {
            soft_device: policy,
            ..setup()
        });
        assert_eq!(peer.send_init(&packet), "60 04 01");
    }
    let other = Setup {
        soft_device: SoftDevicePolicy::ActAs(&[0x123]),
        ..setup()
    };
    assert_eq!(Peer::with(other).send_init(&packet), "60 04 0B 07");
    accepted(&signed(|init| init.sd_req = vec![]));
}

// secure-dfu case 44
#[test]
fn an_older_firmware_is_refused_and_the_same_is_not() {
    refused(&signed(|init| init.fw_version = Some(0)), "60 04 0B 05");
    refused(&signed(|init| init.fw_version = None), "60 04 0B 04");
    accepted(&signed(|init| init.fw_version = Some(1)));
    accepted(&signed(|init| init.fw_version = Some(u32::MAX)));
}

// secure-dfu case 45
#[test]
fn an_application_without_a_size_is_refused() {
    refused(&signed(|init| init.app_size = Some(0)), "60 04 0B 04");
    refused(&signed(|init| init.app_size = None), "60 04 0B 04");
}

// secure-dfu case 46
#[test]
fn an_application_larger_than_the_slot_does_not_fit() {
    let limit = setup().layout().max_image_size();
    for size in [limit + 1, setup().slot_size, 0x8000_0000, u32::MAX] {
        refused(&signed(|init| init.app_size = Some(size)), "60 04 04");
    }
    accepted(&signed(|init| init.app_size = Some(limit)));
}

// secure-dfu case 47
#[test]
fn a_debug_packet_gets_no_exceptions() {
    let packet = signed(|init| {
        init.is_debug = Some(true);
        init.hw_version = Some(51);
    });
    refused(&packet, "60 04 0B 06");
    accepted(&signed(|init| init.is_debug = Some(true)));
}

// secure-dfu case 48
#[test]
fn the_signature_is_checked_before_the_hardware_version() {
    let mut packet = signed(|init| init.hw_version = Some(51));
    *packet.last_mut().unwrap() ^= 1;
    refused(&packet, "60 04 05");
}

// secure-dfu case 49
#[test]
fn the_init_packet_of_the_field_log_is_accepted_with_its_key() {
    let packet = include_bytes!("../../../../tests/vectors/case/init-210.dat");
    let key = hex("6978f9c45649dddfdb9f6db57e2b0d8e96c997b6318301e604528eec68f46452\
                   28db6404bc87df52f371555450dfb1e9ca3589bacaedfdb895e75300f123c9f3");
    let device = Setup {
        keys: Keys::new(Key::from_bytes(&key).unwrap(), image_key().public(), Vec::new()),
        soft_device: SoftDevicePolicy::ActAs(&[0x100]),
        full_chips: false,
        ..Setup::demo()
    };
    let mut peer = Peer::with(device);
    assert_eq!(peer.send_init(packet), "60 04 01");
    peer.ask("06 01", "60 06 01 00 02 00 00 D2 00 00 00 29 C8 73 B4");

    // The announced size is the one that counts: 116 whole objects and one of 248 bytes.
    assert_eq!(InitPacket::decode(packet).unwrap().init.app_size, Some(475_384));
    let image: Vec<u8> = (0..475_384_usize).map(|i| (i * i / 7) as u8).collect();
    for (index, object) in image.chunks(OBJECT).enumerate() {
        if object.len() < OBJECT {
            peer.ask(&create_data(object.len() + 1), "60 01 03");
            peer.ask(&create_data(object.len() - 1), "60 01 03");
            peer.ask(&create_data(OBJECT), "60 01 08");
        }
        peer.object(&image, index * OBJECT, index * OBJECT + object.len());
        let last = index == 116;
        peer.ask("04", if last { "60 04 0B 0C" } else { "60 04 01" });
    }
    peer.assert_pending(false);
}

// secure-dfu case 50
#[test]
fn unknown_fields_are_skipped() {
    // Field 31 as a varint, field 30 as bytes, field 29 as 32 and field 28 as 64 bits.
    let unknown = hex("F8 01 05  F2 01 03 AA BB CC  ED 01 01 02 03 04  E1 01 01 02 03 04 05 06 07 08");
    accepted(&signed(|init| init.unknown = unknown));
}

#[test]
fn a_signature_that_cannot_be_checked_now_is_not_called_wrong() {
    /// The crypto accelerator does not respond.
    struct Busy;

    impl Crypto for Busy {
        type Sha256 = SoftSha256;

        fn verify(&self, _: &Key, _: &[u8; 32], _: &Signature) -> SignatureCheck {
            SignatureCheck::Unavailable
        }
    }

    let key = package_key().public();
    let policy = InitPolicy {
        package_keys: &[key],
        signature_required: true,
        hw_version: 52,
        soft_device: SoftDevicePolicy::Ignore,
        downgrade_allowed: false,
        same_version_allowed: true,
        debug_build: false,
    };
    let packet = packet_i();
    assert!(check(&packet, &policy, 0, u32::MAX, &SoftCrypto).is_ok());
    let refusal = check(&packet, &policy, 0, u32::MAX, &Busy).unwrap_err();
    assert_eq!(refusal, InitRefusal::CryptoUnavailable);
    assert_eq!(refusal.code(), ResultCode::OperationFailed);
    assert!(refusal.to_string().contains("could not be checked now"));
}
