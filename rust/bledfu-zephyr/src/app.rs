// SPDX-License-Identifier: Apache-2.0
//! What an application in Rust asks of Zephyr and of the service's public C API (`bledfu.h`).

use crate::{abi, ZephyrError};

/// A function of C returns 0 or a negative errno.
fn done(status: i32) -> Result<(), ZephyrError> {
    match status {
        0.. => Ok(()),
        errno => Err(ZephyrError::Errno(errno.saturating_neg())),
    }
}

/// Brings Bluetooth up.
///
/// # Errors
/// Of `bt_enable`.
pub fn enable_bluetooth() -> Result<(), ZephyrError> {
    // SAFETY: no callback, so it returns when Bluetooth is up.
    done(unsafe { abi::bt_enable(core::ptr::null()) })
}

/// Bluetooth is up.
pub fn is_bluetooth_ready() -> bool {
    // SAFETY: no arguments.
    unsafe { abi::bt_is_ready() }
}

/// Advertises the service, now and after every disconnect.
///
/// # Errors
/// Of `bt_le_adv_start`.
pub fn advertise() -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    done(unsafe { abi::bledfu_advertising_start() })
}

/// Confirms the running image: the boot stage will not take it back. Waits for the worker.
///
/// # Errors
/// The errnos of `bledfu_confirm` (`bledfu.h`).
pub fn confirm() -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    done(unsafe { abi::bledfu_confirm() })
}

/// Somebody at the device wants an update, by a button: peers that have not paired need not wait.
pub fn allow_updates() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_allow_updates() }
}
