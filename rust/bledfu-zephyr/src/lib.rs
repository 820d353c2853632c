// SPDX-License-Identifier: Apache-2.0
//! Zephyr, as much of it as the update service needs: flash areas, the Bluetooth peer, the worker, the log.
//!
//! ```text
//!  logic crates (safe, no Zephyr)
//!        │ NorFlash, bytes, milliseconds
//!  this crate ── abi.rs ── bledfu_shim_* / bledfu_rs_* ── zephyr/shim/*.c ── Zephyr
//! ```
//! All unsafe code of the project is here, and all of it is a call over the ABI of `zephyr/shim/bledfu_shim.h`:
//! integers, and pointers with lengths. C decides nothing; what it is asked, it does, within a bound, and says how it
//! went.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![warn(missing_docs)]

#[cfg(any(test, feature = "fake"))]
extern crate std;

mod abi;
pub mod app;
pub mod ble;
pub mod boot;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod flash;
pub mod log;
pub mod worker;

/// Why Zephyr did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZephyrError {
    /// The call was not done within its bound.
    TimedOut,
    /// An earlier call has not come back yet.
    Busy,
    /// There is no peer, or it has not turned notifications on.
    NotConnected,
    /// No buffer now; may be tried again.
    NoBuffer,
    /// Any other errno, positive, as the C library of the build counts.
    Errno(i32),
}

impl ZephyrError {
    /// `Err` for a negative status.
    fn check(status: i32) -> Result<(), Self> {
        match status {
            0.. => Ok(()),
            abi::TIMED_OUT => Err(Self::TimedOut),
            abi::BUSY => Err(Self::Busy),
            abi::NOT_CONNECTED => Err(Self::NotConnected),
            abi::NO_BUFFER => Err(Self::NoBuffer),
            other => Err(Self::Errno(abi::OTHER.saturating_sub(other))),
        }
    }
}

impl core::fmt::Display for ZephyrError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("it was not done in time"),
            Self::Busy => f.write_str("an earlier call has not come back yet"),
            Self::NotConnected => f.write_str("no peer is subscribed"),
            Self::NoBuffer => f.write_str("no buffer is free"),
            Self::Errno(errno) => write!(f, "Zephyr error {errno}"),
        }
    }
}

impl core::error::Error for ZephyrError {}
