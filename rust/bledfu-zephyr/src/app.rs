// SPDX-License-Identifier: Apache-2.0
//! What an application in Rust asks of Zephyr and of the service's public C API (`bledfu.h`).

use crate::{abi, ZephyrError};

/// Brings Bluetooth up.
///
/// # Errors
/// Of `bt_enable`.
pub fn enable_bluetooth() -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    ZephyrError::check(unsafe { abi::bledfu_shim_bluetooth_enable() })
}

/// Bluetooth is up.
pub fn is_bluetooth_ready() -> bool {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_shim_bluetooth_ready() != 0 }
}

/// Advertises the service, now and after every disconnect.
///
/// # Errors
/// Of `bt_le_adv_start`.
pub fn advertise() -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    ZephyrError::check(unsafe { abi::bledfu_shim_advertise() })
}

/// Confirms the running image: the boot stage will not take it back. Waits for the worker.
///
/// # Errors
/// The flash's, or [`ZephyrError::TimedOut`] when the worker has failed.
pub fn confirm() -> Result<(), ZephyrError> {
    // SAFETY: no arguments.
    ZephyrError::check(unsafe { abi::bledfu_shim_confirm() })
}
