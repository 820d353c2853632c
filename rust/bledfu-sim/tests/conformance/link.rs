// SPDX-License-Identifier: Apache-2.0
//! Framing, op codes, packet sizes.

use crate::harness::*;
use bledfu_transfer::secure_dfu::Then;

// secure-dfu case 2
#[test]
fn select_command_on_a_fresh_device_reports_512_and_nothing_received() {
    Peer::new().ask("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
}

// secure-dfu case 3
#[test]
fn select_data_works_before_the_init_packet() {
    Peer::new().ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
}

// secure-dfu cases 5, 6, 7
#[test]
fn unknown_op_codes_are_not_supported() {
    let mut peer = Peer::new();
    peer.ask("05", "60 05 02");
    peer.ask("FF", "60 FF 02");
    peer.ask("60", "60 60 02");
    for op in 0x0D..=0xFF_u8 {
        let op = show(&[op]);
        peer.ask(&op, &format!("60 {op} 02"));
        peer.ask(&format!("{op} 01 02 03 04 05"), &format!("60 {op} 02"));
    }
}

// secure-dfu case 8
#[test]
fn op_codes_of_the_serial_transport_are_not_supported_over_bluetooth() {
    let mut peer = Peer::new();
    for request in ["00", "07", "09 01", "0A", "0B 00"] {
        peer.ask(request, &format!("60 {} 02", &request[..2]));
    }
}

// secure-dfu case 9
#[test]
fn a_write_object_request_over_bluetooth_changes_nothing() {
    let mut peer = Peer::new();
    peer.ask(&create_command(139), "60 01 01");
    peer.data(&packet_i()[..100]);
    peer.ask("08 AA", "60 08 02");
    peer.ask("08", "60 08 02");
    peer.ask("03", "60 03 01 64 00 00 00 63 52 C6 15");
}

// secure-dfu cases 10, 11
#[test]
fn select_of_an_unknown_type_is_an_invalid_object_and_selects_nothing() {
    let mut peer = Peer::new();
    peer.ask("06 00", "60 06 05");
    peer.ask("06 03", "60 06 05");
    peer.ask("03", "60 03 05");
    peer.ask("04", "60 04 05");
    peer.ask("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
    peer.ask("03", "60 03 01 00 00 00 00 00 00 00 00");
}

// secure-dfu case 12
#[test]
fn create_of_an_unknown_type_is_an_invalid_object() {
    let mut peer = Peer::new();
    peer.ask("01 03 10 00 00 00", "60 01 05");
    peer.ask("01 00 10 00 00 00", "60 01 05");
    peer.ask("03", "60 03 05");
}

// secure-dfu case 13
#[test]
fn a_request_of_the_wrong_length_is_an_invalid_parameter_and_does_nothing() {
    let mut peer = Peer::after_first_object();
    peer.ask("01 01", "60 01 03");
    peer.ask("01 01 10 00 00", "60 01 03");
    peer.ask("01 01 10 00 00 00 00", "60 01 03");
    peer.ask("01", "60 01 03");
    peer.ask("02", "60 02 03");
    peer.ask("02 01", "60 02 03");
    peer.ask("03 00", "60 03 03");
    peer.ask("04 00", "60 04 03");
    peer.ask("06", "60 06 03");
    peer.ask("06 01 00", "60 06 03");
    peer.ask("0C 00", "60 0C 03");
    assert_eq!(peer.then, Then::Continue);
    peer.ask("03", "60 03 01 00 10 00 00 95 19 4E 5E");
}

// secure-dfu case 14
#[test]
fn an_empty_write_has_no_answer_and_changes_nothing() {
    let mut peer = Peer::after_init(&packet_i());
    peer.ask_nothing("");
    peer.ask("06 01", "60 06 01 00 02 00 00 8B 00 00 00 2B F2 BD DA");
    peer.ask(&create_data(OBJECT), "60 01 01");
    peer.data(&image_p()[..244]);
    assert_eq!(peer.packets(&[], 20), [""; 0]);
    peer.burst(bledfu_transfer::ring::Channel::Packet, &[]);
    peer.work();
    peer.ask("03", "60 03 01 F4 00 00 00 B4 F1 28 D7");
}

/// Both objects of P up to the last Execute, which refuses P as not an image; then the same with a real one.
fn transfer_with_packets_of(payload: usize) {
    let mut peer = Peer::new();
    peer.payload = payload;
    let (p, image) = (image_p(), update_image());
    assert_eq!(peer.send_init(&packet_i()), "60 04 01");
    peer.object(&p, 0, OBJECT);
    peer.ask("04", "60 04 01");
    peer.object(&p, OBJECT, P_SIZE);
    peer.ask("03", "60 03 01 88 13 00 00 D4 04 BD 1A");
    // The worker clears an unneeded slot as soon as it idles: check before that.
    peer.idles = false;
    peer.ask("04", "60 04 0B 0C");
    peer.assert_held(&p);
    peer.assert_pending(false);
    peer.idles = true;

    assert_eq!(peer.transfer(&init_for(image), image), "60 04 01");
    peer.assert_held(image);
    peer.install_and_confirm(image);
}

// secure-dfu case 15
#[test]
fn packets_of_every_usual_mtu_are_accepted() {
    // MTU 23, the reference's 185, our preferred 247, and 498; 182 is what AND sends at MTU 185.
    for payload in [20, 180, 182, 244, 495, 512] {
        transfer_with_packets_of(payload);
    }
}

// secure-dfu case 16
#[test]
fn packets_of_one_byte_are_accepted() {
    transfer_with_packets_of(1);
}
