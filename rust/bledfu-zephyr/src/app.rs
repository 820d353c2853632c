// SPDX-License-Identifier: Apache-2.0
//! What a Rust application needs of Zephyr and of the service's public C API (`bledfu.h`).

use crate::{abi, ZephyrError};

/// Converts a C result: 0 or a negative errno.
fn done(status: i32) -> Result<(), ZephyrError> {
    match status {
        0.. => Ok(()),
        errno => Err(ZephyrError::Errno(errno.saturating_neg())),
    }
}

/// Enables Bluetooth.
///
/// # Errors
/// The errnos of `bt_enable`.
pub fn enable_bluetooth() -> Result<(), ZephyrError> {
    // SAFETY: without a callback it returns when Bluetooth is enabled.
    done(unsafe { abi::bt_enable(core::ptr::null()) })
}

/// Whether Bluetooth is enabled.
pub fn is_bluetooth_ready() -> bool {
    // SAFETY: no arguments.
    unsafe { abi::bt_is_ready() }
}

/// In update mode, which a phone has asked for (`CONFIG_BLEDFU_BUTTONLESS`): serves updates and does not return. In the
/// application it returns at once. Call it first.
pub fn run_update_mode() {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_update_mode_run() }
}

/// Advertises the service, as soon as it takes requests, and after every disconnect.
///
/// # Errors
/// The errnos of `bledfu_advertising_start` (`bledfu.h`).
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

/// A person at the device wants an update and has pressed a button: unpaired peers no longer have to wait.
pub fn allow_updates() {
    // SAFETY: no arguments. It fails only on a user thread, which Rust's main is not.
    let _ = unsafe { abi::bledfu_allow_updates() };
}
