// SPDX-License-Identifier: Apache-2.0
//! The command object.

use crate::harness::*;
use bledfu_transfer::ring::Channel;

// secure-dfu case 17
#[test]
fn a_command_of_no_bytes_is_an_invalid_parameter() {
    Peer::new().ask("01 01 00 00 00 00", "60 01 03");
}

// secure-dfu case 18
#[test]
fn the_longest_command_is_taken() {
    Peer::new().ask("01 01 00 02 00 00", "60 01 01");
}

// secure-dfu case 19
#[test]
fn a_longer_command_does_not_fit() {
    let mut peer = Peer::new();
    peer.ask("01 01 01 02 00 00", "60 01 04");
    peer.ask("01 01 FF FF FF FF", "60 01 04");
}

// secure-dfu case 20
#[test]
fn execute_of_nothing_is_an_invalid_object() {
    Peer::new().ask("04", "60 04 05");
}

// secure-dfu case 21
#[test]
fn execute_right_after_create_is_not_permitted() {
    let mut peer = Peer::new();
    peer.ask("01 01 8B 00 00 00", "60 01 01");
    peer.ask("04", "60 04 08");
}

// secure-dfu case 22
#[test]
fn execute_of_a_part_of_the_command_is_not_permitted() {
    let mut peer = Peer::new();
    peer.ask(&create_command(139), "60 01 01");
    peer.data(&packet_i()[..100]);
    peer.ask("03", "60 03 01 64 00 00 00 63 52 C6 15");
    peer.ask("04", "60 04 08");
    peer.ask("03", "60 03 01 64 00 00 00 63 52 C6 15");
}

// secure-dfu cases 23, 24, 25
#[test]
fn the_rest_of_the_command_completes_it_and_execute_may_be_repeated() {
    let mut peer = Peer::new();
    peer.ask(&create_command(139), "60 01 01");
    peer.data(&packet_i()[..100]);
    peer.ask("04", "60 04 08");
    peer.data(&packet_i()[100..]);
    peer.ask("03", "60 03 01 8B 00 00 00 2B F2 BD DA");
    peer.ask("04", "60 04 01");
    peer.ask("04", "60 04 01");
    peer.ask("06 01", "60 06 01 00 02 00 00 8B 00 00 00 2B F2 BD DA");
}

// secure-dfu case 26
#[test]
fn a_packet_longer_than_the_object_is_dropped_whole() {
    let mut peer = Peer::new();
    peer.ask(&create_command(139), "60 01 01");
    let mut longer = packet_i();
    longer.push(0);
    peer.data(&longer);
    peer.ask("03", "60 03 01 00 00 00 00 00 00 00 00");
    peer.data(&packet_i());
    peer.ask("04", "60 04 01");
}

// secure-dfu case 27
#[test]
fn one_byte_more_than_the_object_is_dropped() {
    let mut peer = Peer::new();
    peer.ask(&create_command(139), "60 01 01");
    peer.data(&packet_i());
    peer.data(&[0xAA]);
    peer.ask("03", "60 03 01 8B 00 00 00 2B F2 BD DA");
    peer.ask("04", "60 04 01");
}

// secure-dfu case 28
#[test]
fn receipts_may_be_set_before_or_after_create() {
    for order in [
        ["02 00 00", "01 01 8B 00 00 00"],
        ["01 01 8B 00 00 00", "02 00 00"],
    ] {
        let mut peer = Peer::new();
        for request in order {
            peer.ask(request, &format!("60 {} 01", &request[..2]));
        }
        peer.data(&packet_i());
        peer.ask("03", "60 03 01 8B 00 00 00 2B F2 BD DA");
        peer.ask("04", "60 04 01");
    }
}

// secure-dfu case 29
#[test]
fn a_new_command_object_forgets_the_image() {
    let mut peer = Peer::after_first_object();
    peer.ask("06 02", "60 06 01 00 10 00 00 00 10 00 00 95 19 4E 5E");
    peer.ask("01 01 8B 00 00 00", "60 01 01");
    peer.ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    peer.ask(&create_data(OBJECT), "60 01 08");
}

// secure-dfu case 30
#[test]
fn a_small_command_object_wipes_everything_as_the_javascript_client_wants() {
    let mut peer = Peer::after_first_object();
    peer.ask("01 01 10 00 00 00", "60 01 01");
    peer.ask("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
    peer.ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    assert_eq!(
        peer.transfer(&init_for(update_image()), update_image()),
        "60 04 01"
    );
}

// secure-dfu case 31
#[test]
fn the_longest_command_in_one_burst_of_packets_of_20_bytes() {
    let mut peer = Peer::new();
    let command: Vec<u8> = (0..512_usize).map(|i| (i * 31 % 251) as u8).collect();
    peer.burst(Channel::Control, &hex("01 01 00 02 00 00"));
    for packet in command.chunks(20) {
        peer.burst(Channel::Packet, packet);
    }
    peer.burst(Channel::Control, &hex("03"));
    peer.work();
    assert_eq!(peer.answers(), ["60 01 01".to_owned(), checksum(&command)]);
}
