// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! From a received frame to a staged update.
//!
//! ```text
//! Bluetooth thread   ring::Ring::push      copies the write and returns; a full ring is said
//! worker thread      ring::Ring::pop       one frame at a time, in order
//!                    target                one upload, two front ends:
//!                    secure_dfu, smp       frame -> request -> upload operation -> reply, one table of wire codes each
//!                    init_check            what an init packet must be
//!                    upload                begin / prepare / write / commit / finish on the secondary slot
//! ```
//! Everything is synchronous and sans-I/O: frames, time and flash are arguments, answers are return values. The
//! caller is one worker that owns the flash; it delivers each [`secure_dfu::Answer`] before it asks for the next.
//!
//! Functions with buffers of their own are `inline(never)`: merged into the worker's loop, their frames would add up, and
//! the stack that a signature check needs would come on top of all of them.
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

pub mod init_check;
pub mod note;
pub mod ring;
pub mod secure_dfu;
pub mod smp;
pub mod target;
pub mod upload;
