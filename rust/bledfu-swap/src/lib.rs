// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! The boot stage: what do the trailers ask for, and how does it get done whatever was interrupted.
//!
//! | Module | Owns |
//! |---|---|
//! | [`mod@decide`] | the ordered table: two trailers in, a swap type out (it lives in `bledfu-slot`) |
//! | [`job`] | what the swaps with status records share |
//! | [`status`] | status records: how far a swap got |
//! | [`swap_move`] | MCUboot's swap using move, step by step, and why a power cut cannot hurt it |
//! | [`swap_offset`] | MCUboot's swap using offset, likewise |
//! | [`swap_scratch`] | MCUboot's swap using scratch, likewise |
//! | [`overwrite`] | MCUboot's overwrite only, likewise |
//! | [`copy`] | our own copy with a kept revert image, likewise |
//! | `trust` | what the evidence inside the processor adds to all of them |
//! | [`mod@boot`] | one boot: finish, decide, verify, install, verify what starts |
//!
//! An install algorithm answers the questions of [`algorithm::Installer`]: the seam at which others are added. Same flash
//! contents in, same flash contents out as MCUboot, so either boot stage may finish what the other one began; each
//! deliberate difference is named where it is made.
#![no_std]
#![forbid(unsafe_code)]
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

pub mod algorithm;
pub mod boot;
pub mod copy;
pub mod job;
pub mod overwrite;
pub mod status;
pub mod swap_move;
pub mod swap_offset;
pub mod swap_scratch;
mod trust;

pub use algorithm::{NoFlash, Progress, SwapError};
pub use bledfu_slot::decide::{self, decide};
pub use bledfu_slot::evidence::{NoEvidence, Store};
pub use boot::{
    boot, boot_by, boot_through, BootAction, BootConfig, BootError, BootReport, Downgrade, SkipReason,
};
