// SPDX-License-Identifier: Apache-2.0
//! The parts of Zephyr that the update service needs: flash areas, the Bluetooth peer, the worker, the log.
//!
//! ```text
//!  logic crates (safe, no Zephyr)
//!        │ NorFlash, bytes, milliseconds
//!  this crate ── abi.rs ── bledfu_shim_* / bledfu_rs_* ── zephyr/shim/*.c ── Zephyr
//! ```
//! All unsafe code of the project is here, and all of it calls the ABI of `zephyr/shim/bledfu_shim.h`: integers, and
//! pointers with lengths. C decides nothing: it does what it is asked within a time limit and reports the result.
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
pub mod buttonless;
#[cfg(any(test, feature = "psa"))]
pub mod crypto;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod flash;
pub mod log;
pub mod worker;

use bledfu_text::{text, words, Line, Text};

/// Why Zephyr did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZephyrError {
    /// The call timed out.
    TimedOut,
    /// An earlier call has not returned yet.
    Busy,
    /// There is no peer, or it has not turned notifications on.
    NotConnected,
    /// No buffer is free now; the call may be retried.
    NoBuffer,
    /// The bytes do not fit the buffer that they are for.
    TooLong,
    /// Any other errno as a positive number, as the C library of the build numbers it.
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
            abi::TOO_LONG => Err(Self::TooLong),
            other => Err(Self::Errno(abi::OTHER.saturating_sub(other))),
        }
    }
}

impl Text for ZephyrError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::TimedOut => words!("the call timed out").put(line),
            Self::Busy => words!("an earlier call has not returned yet").put(line),
            Self::NotConnected => words!("no peer is subscribed").put(line),
            Self::NoBuffer => words!("no buffer is free").put(line),
            Self::TooLong => words!("the bytes do not fit the buffer").put(line),
            Self::Errno(errno) => text!("Zephyr error {}", errno).put(line),
        }
    }
}

bledfu_text::display!(ZephyrError);

impl core::error::Error for ZephyrError {}
