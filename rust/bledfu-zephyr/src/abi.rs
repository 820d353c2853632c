// SPDX-License-Identifier: Apache-2.0
//! C's half of the ABI of `zephyr/shim/bledfu_shim.h`. Rust's half is [`crate::export_entry_points`], and
//! [`crate::export_boot`] for the boot stage.
//!
//! Times are in milliseconds, lengths and offsets in bytes. An `i32` result is 0 or one of the statuses below, because
//! errnos differ between C libraries.

pub const TIMED_OUT: i32 = -1;
pub const BUSY: i32 = -2;
pub const NOT_CONNECTED: i32 = -3;
pub const NO_BUFFER: i32 = -4;
pub const TOO_LONG: i32 = -5;
pub const NO_CHANNEL: i32 = -6;
pub const LOST: i32 = -7;
/// Any other errno `e` is `OTHER - e`.
pub const OTHER: i32 = -100;

/// Maximum length in bytes of a flash read or write, which must stay within one block of this size.
pub const PAGE: usize = 256;

/// Answers of `bledfu_shim_verify`.
#[cfg(any(test, feature = "psa"))]
pub const GOOD: i32 = 0x3C5A_A5C3;
#[cfg(any(test, feature = "psa"))]
pub const BAD: i32 = 0;

extern "C" {
    /// Size of the area, its start on the device, erase unit and write unit; `sector` is 0 when erase units differ.
    pub fn bledfu_shim_flash_open(
        area: u8,
        size: *mut u32,
        start: *mut u32,
        sector: *mut u32,
        unit: *mut u32,
    ) -> i32;
    /// At most [`PAGE`] bytes, like a write.
    pub fn bledfu_shim_flash_read(area: u8, offset: u32, bytes: *mut u8, length: u32) -> i32;
    pub fn bledfu_shim_flash_write(area: u8, offset: u32, bytes: *const u8, length: u32) -> i32;
    pub fn bledfu_shim_flash_erase(area: u8, offset: u32, length: u32) -> i32;
    /// The processor's address of the primary slot.
    pub fn bledfu_shim_primary_address() -> u32;

    /// Queues one notification for the peer; `channel` is 0 (control point) or 2 (SMP). Waits up to 50 ms for a buffer.
    pub fn bledfu_shim_notify(channel: u8, bytes: *const u8, length: u32) -> i32;
    /// Maximum length in bytes of a notification to the peer; 0 without a peer.
    pub fn bledfu_shim_payload() -> u32;
    /// Waits until every queued notification was sent.
    pub fn bledfu_shim_delivered(timeout_ms: u32) -> i32;
    /// Copies one SMP frame for Zephyr's MCUmgr; 0, or a status: not taken.
    pub fn bledfu_shim_smp_forward(bytes: *const u8, length: u32) -> i32;
    /// The next answer of it; returns its length, 0 without one. It stays until the next call.
    pub fn bledfu_shim_smp_answer(bytes: *mut *const u8) -> u32;
    pub fn bledfu_shim_disconnect();
    /// Asks the peer for a short connection interval.
    pub fn bledfu_shim_hurry();

    /// Zephyr functions and the public API of `bledfu.h`, for a Rust application. They return negative errnos.
    pub fn bt_enable(ready: *const core::ffi::c_void) -> i32;
    pub fn bt_is_ready() -> bool;
    pub fn bledfu_advertising_start() -> i32;
    pub fn bledfu_confirm() -> i32;
    pub fn bledfu_allow_updates() -> i32;
    /// Returns in the application only.
    pub fn bledfu_update_mode_run();

    /// Indicates an answer to the peer that wrote to the buttonless characteristic.
    pub fn bledfu_shim_indicate(bytes: *const u8, length: u32) -> i32;
    /// Stores what the update mode finds after the next reset.
    pub fn bledfu_shim_retain(bytes: *const u8, length: u32) -> i32;
    /// Closes the link of that peer, and resets.
    pub fn bledfu_shim_leave() -> !;
    /// Whether the device was started in update mode.
    pub fn bledfu_is_update_mode() -> bool;

    /// Takes the spin lock between the Bluetooth thread and the worker; the key is passed back to `unlock`.
    pub fn bledfu_shim_lock() -> u32;
    pub fn bledfu_shim_unlock(key: u32);
    /// Sleeps until something is pushed, or for `timeout_ms`.
    pub fn bledfu_shim_wait(timeout_ms: u32);
    pub fn bledfu_shim_wake();
    /// There is room in the ring again.
    pub fn bledfu_shim_made_room();
    pub fn bledfu_shim_uptime_ms() -> u64;
    /// The first byte of a text that ends with a zero byte.
    pub static bledfu_shim_kernel_version: core::ffi::c_char;
    pub fn bledfu_shim_sleep_ms(ms: u32);
    pub fn bledfu_shim_reset() -> !;

    /// Tells the product; its answer is a number of `enum bledfu_answer`.
    pub fn bledfu_shim_event(event: u8, first: u32, second: u32) -> u32;
    /// Public keys of one kind, 64 bytes each; returns how many.
    pub fn bledfu_shim_keys(kind: u8, bytes: *mut *const u8) -> u32;
    /// The boot stage feeds a running watchdog.
    pub fn bledfu_shim_boot_feed();
    /// Waits this many milliseconds, in the boot stage.
    pub fn bledfu_shim_boot_wait();
    /// P-256 by PSA Crypto: [`GOOD`], [`BAD`], or anything else if it could not be checked. 64, 32 and 64 bytes.
    #[cfg(any(test, feature = "psa"))]
    pub fn bledfu_shim_verify(key: *const u8, digest: *const u8, signature: *const u8) -> i32;
    /// `line` ends with a zero byte.
    pub fn bledfu_shim_log(level: u8, line: *const u8);
    pub fn bledfu_shim_panic(file: *const u8, length: u32, line: u32) -> !;
}
