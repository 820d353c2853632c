// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! The boot stage: what the trailers ask for, and how it gets done no matter where an earlier boot was interrupted.
//!
//! | Module | Owns |
//! |---|---|
//! | [`mod@decide`] | the ordered table: two trailers in, a swap type out (it lives in `bledfu-slot`) |
//! | [`algorithm`] | what all install algorithms have in common, and the trait they implement |
//! | [`job`] | what the swaps with status records share |
//! | [`status`] | status records: how far a swap got |
//! | [`swap_move`] | MCUboot's swap using move, step by step, and why power cuts are safe |
//! | [`swap_offset`] | MCUboot's swap using offset, likewise |
//! | [`swap_scratch`] | MCUboot's swap using scratch, likewise |
//! | [`overwrite`] | MCUboot's overwrite only, likewise |
//! | [`copy`] | our own copy with a kept revert image, likewise |
//! | `trust` | what the evidence in internal flash adds to all of them |
//! | [`mod@boot`] | one boot: finish what was interrupted, decide, verify, install, verify the image that starts |
//!
//! An install algorithm implements [`algorithm::Installer`]; that is where another one is added. From the same flash
//! contents, MCUboot and this crate produce the same flash contents, so either boot stage may finish what the other one
//! began. Each deliberate difference is named where it is made.
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
