// SPDX-License-Identifier: Apache-2.0
//! `bledfu-wire`: requests and answers of SMP.
#![no_std]
#![no_main]

use bledfu_wire::smp::{decode, encode, Response};
use core::hint::black_box;

#[no_mangle]
extern "C" fn _start() -> ! {
    let frame: &[u8] = black_box(&[0; 210]);
    if let Some(message) = black_box(decode(frame)) {
        let mut out = [0; 320];
        // Behind the black box it may be any answer.
        let length = encode(&message.context, black_box(&Response::Empty), &mut out);
        black_box((out, length));
    }
    bledfu_size::halt()
}
