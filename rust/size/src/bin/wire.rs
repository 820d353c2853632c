// SPDX-License-Identifier: Apache-2.0
//! `bledfu-wire`: requests, replies, init packet, SLIP.
#![no_std]
#![no_main]

use bledfu_wire::{init_packet::InitPacket, secure_dfu::Request, slip};
use core::hint::black_box;

#[no_mangle]
extern "C" fn _start() -> ! {
    let bytes: &[u8] = black_box(&[0; 210]);
    if let Err(Some(refusal)) = black_box(Request::decode(bytes)).map_err(|error| error.refusal()) {
        black_box(refusal.encode());
    }
    let _ = black_box(InitPacket::decode(bytes));
    let mut decoder = slip::Decoder::<131>::new();
    for byte in slip::encode(bytes) {
        let _ = black_box(decoder.push(byte));
    }
    bledfu_size::halt()
}
