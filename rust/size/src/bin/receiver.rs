// SPDX-License-Identifier: Apache-2.0
//! The receiver: ring, Secure DFU, upload, slot writer, verification, trailer, journal; cryptography elsewhere.
#![no_std]
#![no_main]

#[path = "../receiver.rs"]
mod receiver;

#[no_mangle]
extern "C" fn _start() -> ! {
    receiver::run::<_, 0, false>(bledfu_size::Elsewhere)
}
