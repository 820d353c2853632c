// SPDX-License-Identifier: Apache-2.0
//! Packet receipts.

use crate::harness::*;

const AFTER_12: &str = "60 03 01 70 0B 00 00 F4 1B 61 84";
const FIRST_OBJECT: &str = "60 03 01 00 10 00 00 95 19 4E 5E";

/// I is executed, receipts come every `every` packets, object 1 is created.
fn with_receipts(every: &str) -> Peer {
    let mut peer = Peer::after_init(&packet_i());
    peer.ask(&format!("02 {every}"), "60 02 01");
    peer.ask(&create_data(OBJECT), "60 01 01");
    peer
}

// secure-dfu case 68
#[test]
fn a_receipt_every_12_packets() {
    let p = image_p();
    let mut peer = with_receipts("0C 00");
    assert_eq!(peer.packets(&p[..11 * PACKET], PACKET), [""; 0]);
    assert_eq!(peer.packets(&p[11 * PACKET..12 * PACKET], PACKET), [AFTER_12]);
    assert_eq!(peer.packets(&p[12 * PACKET..OBJECT], PACKET), [""; 0]);
    peer.ask("03", FIRST_OBJECT);
}

// secure-dfu case 69
#[test]
fn the_receipt_that_is_due_with_the_last_packet_of_the_object_is_sent() {
    let mut peer = with_receipts("11 00");
    assert_eq!(peer.packets(&image_p()[..OBJECT], PACKET), [FIRST_OBJECT]);
    peer.ask("03", FIRST_OBJECT);
}

// secure-dfu case 70
#[test]
fn receipts_count_packets_not_bytes() {
    let mut peer = with_receipts("0C 00");
    let receipts = peer.packets(&image_p()[..OBJECT], 20);
    assert_eq!(receipts.len(), 205 / 12);
    assert_eq!(receipts[0], "60 03 01 F0 00 00 00 45 A9 0C 9A");
}

// secure-dfu case 71
#[test]
fn a_receipt_for_every_packet_in_order() {
    let p = image_p();
    let mut peer = with_receipts("01 00");
    let receipts = peer.packets(&p[..OBJECT], PACKET);
    assert_eq!(receipts[0], "60 03 01 F4 00 00 00 B4 F1 28 D7");
    assert_eq!(receipts[1], "60 03 01 E8 01 00 00 42 6E 9E 09");
    let expected: Vec<String> = (1..=17)
        .map(|n| checksum(&p[..(n * PACKET).min(OBJECT)]))
        .collect();
    assert_eq!(receipts, expected);
}

// secure-dfu case 72
#[test]
fn create_restarts_the_count() {
    let p = image_p();
    let mut peer = with_receipts("0C 00");
    assert_eq!(peer.packets(&p[..5 * PACKET], PACKET), [""; 0]);
    peer.ask(&create_data(OBJECT), "60 01 01");
    assert_eq!(peer.packets(&p[..11 * PACKET], PACKET), [""; 0]);
    assert_eq!(peer.packets(&p[11 * PACKET..12 * PACKET], PACKET), [AFTER_12]);
}

// secure-dfu case 72
#[test]
fn receipts_are_for_the_init_packet_too_and_count_dropped_packets() {
    let mut peer = Peer::new();
    peer.ask("02 03 00", "60 02 01");
    peer.ask(&create_command(139), "60 01 01");
    let receipts = peer.packets(&packet_i(), 20);
    assert_eq!(receipts, [60, 120].map(|n| checksum(&packet_i()[..n])));
    // Two more until the receipt. Both exceed the object and are dropped; the offset is the true one.
    assert_eq!(peer.packets(&[1; 20], 20), [""; 0]);
    assert_eq!(peer.packets(&[2; 20], 20), ["60 03 01 8B 00 00 00 2B F2 BD DA"]);
}

// secure-dfu case 73
#[test]
fn receipts_are_sent_only_on_request() {
    let p = image_p();
    let mut peer = with_receipts("00 00");
    assert_eq!(peer.packets(&p[..OBJECT], 20), [""; 0]);
    // Nor when they were switched off.
    peer.ask("02 01 00", "60 02 01");
    peer.ask("02 00 00", "60 02 01");
    peer.ask(&create_data(OBJECT), "60 01 01");
    assert_eq!(peer.packets(&p[..OBJECT], 20), [""; 0]);
    peer.ask("03", FIRST_OBJECT);
}

// secure-dfu case 74
#[test]
fn a_new_connection_starts_without_receipts() {
    let p = image_p();
    let mut peer = with_receipts("0C 00");
    assert_eq!(peer.packets(&p[..5 * PACKET], PACKET), [""; 0]);
    peer.reconnect();
    peer.ask("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    peer.ask(&create_data(OBJECT), "60 01 01");
    assert_eq!(peer.packets(&p[..OBJECT], PACKET), [""; 0]);
    peer.ask("03", FIRST_OBJECT);
}
