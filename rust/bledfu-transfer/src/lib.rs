// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! Handles an update from the received frame to the staged image.
//!
//! ```text
//! Bluetooth thread   inbox::Inbox::push     copies the write and returns; what finds no room is counted in its place
//! worker thread      service::Service::step the one loop: next thing out of the inbox -> front end -> Step
//!                    secure_dfu, smp        frame -> request -> upload operation -> answer, one table of wire codes each
//!                    buttonless             how a phone starts the update mode, and when that ends
//!                    doors                  who may do what, and how often
//!                    init_check             what an init packet must be
//!                    upload                 begin / prepare / write / commit / finish on the secondary slot
//!                    payload                where received bytes go
//! ```
//! Everything is synchronous and sans-I/O: frames, time and flash are arguments, and actions are return values. The
//! caller is one worker that owns the flash; it performs each [`service::Step`] before it asks for the next.
//!
//! Functions with buffers of their own are `inline(never)`: if they were merged into the worker's loop, their frames
//! would add up, and the stack of a signature check would come on top.
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

#[cfg(feature = "alloc")]
extern crate alloc;

pub mod buttonless;
pub mod doors;
pub mod event;
pub mod inbox;
pub mod init_check;
pub mod lent;
pub mod note;
pub mod payload;
pub mod ring;
pub mod secure_dfu;
pub mod service;
pub mod smp;
pub mod upload;
