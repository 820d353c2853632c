// SPDX-License-Identifier: Apache-2.0
//! The application: brings Bluetooth up, advertises, tests itself, confirms. Updates are taken by the worker of
//! `bledfu-firmware`, which C starts.
#![no_std]

use bledfu_firmware as _;
use bledfu_zephyr::{app, ZephyrError};
// Brings the panic handler.
use zephyr as _;

/// A new image must prove itself before it is kept: Bluetooth, by which the next update comes, works.
fn self_test() -> bool {
    app::is_bluetooth_ready()
}

fn start() -> Result<(), ZephyrError> {
    app::enable_bluetooth()?;
    app::advertise()?;
    if self_test() {
        app::confirm()?;
    }
    Ok(())
}

#[no_mangle]
extern "C" fn rust_main() {
    if let Err(error) = start() {
        // A new image that does not work is taken back at the next reset.
        log::error!("not confirmed: {error}");
    }
}
