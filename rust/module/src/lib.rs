// SPDX-License-Identifier: Apache-2.0
//! `bledfu-firmware` as a static library: its entry points, and what ends a device that panics.
#![no_std]

use bledfu_firmware as _;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    bledfu_zephyr::worker::panic(info)
}
