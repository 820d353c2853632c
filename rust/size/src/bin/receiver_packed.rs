// SPDX-License-Identifier: Apache-2.0
//! The receiver with SMP beside Secure DFU, SHA-256 and P-256 in Rust, and packed updates: the feature `packed` is on.
#![no_std]
#![no_main]

#[path = "../receiver.rs"]
mod receiver;

#[no_mangle]
extern "C" fn _start() -> ! {
    receiver::run::<_, 2475, true>(bledfu_slot::SoftCrypto)
}
