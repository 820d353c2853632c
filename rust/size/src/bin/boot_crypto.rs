// SPDX-License-Identifier: Apache-2.0
//! The boot stage (decision, swap using move, verification) with SHA-256 and P-256 in Rust.
#![no_std]
#![no_main]

#[path = "../boot.rs"]
mod boot;

#[no_mangle]
extern "C" fn _start() -> ! {
    boot::run(bledfu_slot::SoftCrypto)
}
