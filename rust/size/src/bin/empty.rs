// SPDX-License-Identifier: Apache-2.0
//! Nothing: what the others are compared with.
#![no_std]
#![no_main]

#[no_mangle]
extern "C" fn _start() -> ! {
    bledfu_size::halt()
}
