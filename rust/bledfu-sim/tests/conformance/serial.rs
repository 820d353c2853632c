// SPDX-License-Identifier: Apache-2.0
//! The serial transport, SLIP included.

use crate::harness::*;
use bledfu_sim::device::Setup;
use bledfu_sim::parts::Times;
use bledfu_transfer::ring::{Channel, MAX_FRAME};
use bledfu_wire::slip;

/// Length of an encoded frame with 64 bytes and their op code: what the reference's UART reports.
const MTU: u16 = slip::mtu_for_payload(64);

/// A device behind a serial line: bytes in, bytes out.
struct Line {
    peer: Peer,
    decoder: slip::Decoder<MAX_FRAME>,
}

impl Line {
    fn new() -> Self {
        Self {
            peer: Peer::serial(MTU),
            decoder: slip::Decoder::new(),
        }
    }

    /// Puts bytes on the line; returns the device's bytes.
    fn put(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut back = Vec::new();
        for &byte in bytes {
            if let Some(Ok(frame)) = self.decoder.push(byte) {
                self.peer.burst(Channel::Control, frame);
                self.peer.work();
                for answer in self.peer.answers() {
                    back.extend(slip::encode(&hex(&answer)));
                }
            }
        }
        back
    }

    #[track_caller]
    fn ask(&mut self, bytes: &str, answer: &str) {
        assert_eq!(
            show(&self.put(&hex(bytes))),
            show(&hex(answer)),
            "the answer to {bytes}"
        );
    }

    /// Sends one request as a frame; compares the content of the single answer frame.
    #[track_caller]
    fn request(&mut self, content: &str, answer: &str) {
        let frame: Vec<u8> = slip::encode(&hex(content)).collect();
        let expected: Vec<u8> = slip::encode(&hex(answer)).collect();
        assert_eq!(
            show(&self.put(&frame)),
            show(&expected),
            "the answer to {content}"
        );
    }

    /// Sends data in chunks; returns all bytes that the device sends.
    fn data(&mut self, bytes: &[u8], chunk: usize) -> Vec<u8> {
        let mut back = Vec::new();
        for chunk in bytes.chunks(chunk) {
            let content = [&[0x08], chunk].concat();
            let frame: Vec<u8> = slip::encode(&content).collect();
            back.extend(self.put(&frame));
        }
        back
    }
}

// secure-dfu case 90
#[test]
fn a_ping_comes_back_with_its_number() {
    let mut line = Line::new();
    line.ask("09 05 C0", "60 09 01 05 C0");
    line.ask("09 DB DC C0", "60 09 01 DB DC C0");
}

// secure-dfu case 91
#[test]
fn the_mtu_is_that_of_an_encoded_frame() {
    Line::new().ask("07 C0", "60 07 01 83 00 C0");
}

// secure-dfu case 92
#[test]
fn the_protocol_version_is_1() {
    Line::new().ask("00 C0", "60 00 01 01 C0");
}

// secure-dfu case 92
#[test]
fn hardware_and_firmware_version_are_reported() {
    let mut line = Line::new();
    line.ask(
        "0A C0",
        "60 0A 01 40 28 05 00 30 44 41 41 00 00 10 00 00 00 04 00 00 10 00 00 C0",
    );
    // The boot stage, the application (version 1, 9000 bytes), and then nothing.
    line.ask("0B 00 C0", "60 0B 01 02 01 00 00 00 00 00 00 00 00 D0 00 00 C0");
    line.ask("0B 01 C0", "60 0B 01 01 01 00 00 00 00 D0 00 00 28 23 00 00 C0");
    line.ask("0B 02 C0", "60 0B 01 FF 00 00 00 00 00 00 00 00 00 00 00 00 C0");
}

// secure-dfu case 93
#[test]
fn data_with_the_bytes_of_the_framing_survives() {
    let mut line = Line::new();
    line.request(&create_command(2), "60 01 01");
    line.ask("08 DB DC DB DD C0", "");
    line.request("03", &checksum(&[0xC0, 0xDB]));
}

// secure-dfu case 94
#[test]
fn a_bad_escape_costs_its_frame_only() {
    let mut line = Line::new();
    line.ask("DB 00 C0", "");
    line.ask("09 DB 00 05 C0", "");
    line.ask("09 05 C0", "60 09 01 05 C0");
    // Stray ENDs are not frames.
    line.ask("C0 C0 09 06 C0 C0", "60 09 01 06 C0");
    // A frame longer than the maximum is dropped, not cut.
    let mut long = vec![0x08; 2 * MAX_FRAME];
    long.push(0xC0);
    assert!(line.put(&long).is_empty());
    line.ask("09 07 C0", "60 09 01 07 C0");
}

/// As nrfutil does it: receipts, MTU, init packet, objects in chunks. `image` may be anything; returns the last answer.
fn whole_transfer(line: &mut Line, every: usize, init: &[u8], image: &[u8]) -> String {
    line.request("09 01", "60 09 01 01");
    line.request(&format!("02 {:02X} 00", every), "60 02 01");
    line.request("07", "60 07 01 83 00");
    let send = |line: &mut Line, bytes: &[u8], from: usize, to: usize| {
        let mut expected = Vec::new();
        for packet in (1..).take_while(|n| every > 0 && n * every <= (to - from).div_ceil(64)) {
            let held = (from + packet * every * 64).min(to);
            expected.extend(slip::encode(&hex(&checksum(&bytes[..held]))));
        }
        assert_eq!(
            show(&line.data(&bytes[from..to], 64)),
            show(&expected),
            "receipts"
        );
        line.request("03", &checksum(&bytes[..to]));
    };
    line.request("06 01", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00");
    line.request(&create_command(init.len()), "60 01 01");
    send(line, init, 0, init.len());
    line.request("04", "60 04 01");
    line.request("06 02", "60 06 01 00 10 00 00 00 00 00 00 00 00 00 00");
    line.request(&create_data(OBJECT), "60 01 01");
    send(line, image, 0, OBJECT);
    line.request("04", "60 04 01");
    line.request(&create_data(image.len() - OBJECT), "60 01 01");
    send(line, image, OBJECT, image.len());
    let frame: Vec<u8> = slip::encode(&[0x04]).collect();
    show(&line.put(&frame))
}

// secure-dfu case 95
#[test]
fn a_whole_transfer_in_chunks_of_64_bytes_with_every_answer_within_a_second() {
    let image = update_image();
    for times in [Times::Typical, Times::Maximum] {
        for every in [0, 4] {
            let mut line = Line::new();
            line.peer.board.external.set_times(times);
            // P gets as far as it can, ...
            let last = whole_transfer(&mut line, every, &packet_i(), &image_p());
            assert_eq!(last, "60 04 0B 0C C0");
            // ... the real image to its end. The peer reconnects, and the slot is no longer blank.
            line.peer.reconnect();
            let last = whole_transfer(&mut line, every, &init_for(image), image);
            assert_eq!(last, "60 04 01 C0");
            let slowest_ms = line.peer.slowest_ns / 1_000_000;
            assert!(
                slowest_ms < 1_000,
                "{times:?}, receipts every {every}: {slowest_ms} ms"
            );
            line.peer.install_and_confirm(image);
        }
    }
}

// secure-dfu case 95
#[test]
fn every_answer_comes_within_a_second_over_a_full_slot() {
    let image = update_image();
    for (idles, times) in [
        (true, Times::Typical),
        (true, Times::Maximum),
        (false, Times::Typical),
    ] {
        let setup = Setup { times, ..setup() };
        let mut peer = Peer::with(setup);
        peer.dirty_slot();
        peer.idles = idles;
        assert_eq!(peer.transfer(&init_for(image), image), "60 04 01");
        let slowest_ms = peer.slowest_ns / 1_000_000;
        assert!(
            slowest_ms < 1_000,
            "{times:?}, idle work {idles}: {slowest_ms} ms"
        );
    }
}
