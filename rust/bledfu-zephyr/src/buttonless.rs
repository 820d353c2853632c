// SPDX-License-Identifier: Apache-2.0
//! Buttonless entry: the peer of that characteristic, and what outlives a reset.

use crate::{abi, ZephyrError};

fn pass(bytes: &[u8], to: unsafe extern "C" fn(*const u8, u32) -> i32) -> Result<(), ZephyrError> {
    let length = u32::try_from(bytes.len()).map_err(|_| ZephyrError::NoBuffer)?;
    // SAFETY: both functions of the shim read `length` bytes and copy them before they return.
    ZephyrError::check(unsafe { to(bytes.as_ptr(), length) })
}

/// Indicates an answer to the peer that asked.
///
/// # Errors
/// [`ZephyrError::NotConnected`], or an errno of the host.
pub fn indicate(answer: &[u8]) -> Result<(), ZephyrError> {
    pass(answer, abi::bledfu_shim_indicate)
}

/// Stores what the update mode finds after the next reset.
///
/// # Errors
/// Those of the retained memory.
pub fn retain(record: &[u8]) -> Result<(), ZephyrError> {
    pass(record, abi::bledfu_shim_retain)
}

/// Closes the link of the peer that asked, and resets.
pub fn leave() -> ! {
    // SAFETY: no arguments; C does not return.
    unsafe { abi::bledfu_shim_leave() }
}

/// Whether the device was started in update mode.
pub fn is_update_mode() -> bool {
    // SAFETY: no arguments.
    unsafe { abi::bledfu_is_update_mode() }
}
