// SPDX-License-Identifier: Apache-2.0
//! Any bytes as a serial stream, SLIP and console. A good frame behind them must arrive.
#![no_main]

use bledfu_wire::{slip, smp_console};
use libfuzzer_sys::fuzz_target;

const FRAME: [u8; 5] = [0xC0, 0xDB, b'\n', 0x06, 0x09];
const LONGEST: usize = 96;

fuzz_target!(|bytes: &[u8]| {
    let mut decoder = slip::Decoder::<LONGEST>::new();
    let stream = bytes.iter().copied().chain([0xC0]).chain(slip::encode(&FRAME));
    let mut last = None;
    for byte in stream {
        if let Some(frame) = decoder.push(byte) {
            last = Some(frame.map(<[u8]>::to_vec));
        }
    }
    assert_eq!(last, Some(Ok(FRAME.to_vec())));

    let mut decoder = smp_console::Decoder::<LONGEST>::new();
    let mut line = [0; smp_console::MAX_LINE];
    let mut encoder = smp_console::Encoder::new(&FRAME).expect("short enough");
    let frame = encoder.next_line(&mut line).expect("one line");
    let stream = bytes.iter().chain(b"\n").chain(frame);
    let mut last = None;
    for &byte in stream {
        if let Some(frame) = decoder.push(byte) {
            last = Some(frame.map(<[u8]>::to_vec));
        }
    }
    assert_eq!(last, Some(Ok(FRAME.to_vec())));
});
