// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! Simulates a device: the crates that run on a device, on simulated flashes, behind a simulated link and phone.
//! The command `bledfu` is in `bledfu-cli`.
//!
//! | Modules | What |
//! |---|---|
//! | [`world`] | one update from phone to confirmation in virtual time |
//! | [`device`], [`cost`] | the device: flashes, boot stage, application; what its arithmetic costs |
//! | [`link`], [`phone`] | Bluetooth timing, and the clients of Android, iOS, nrfutil and smpclient |
//! | [`nor`], [`parts`], [`power`] | NOR flash with its rules, times and faults; the power that may be cut |
//! | [`trace`] | what happened when in a run, for pictures |
//! | [`hostile`] | cells that an operation without power left weak, and reads that go wrong |
//! | [`plain`] | a slot as plain bytes with any units, where times do not matter |
//! | [`packed`], [`program`], [`random`] | packed updates, and programs between which they lead |
//! | [`package`], [`sdk_package`], [`init_packet`], [`make`], [`keys`], [`demo`] | packages, init packets, images, keys |
#![forbid(unsafe_code)]

pub mod cost;
pub mod demo;
pub mod device;
pub mod hostile;
pub mod init_packet;
pub mod keys;
pub mod link;
pub mod make;
pub mod nor;
pub mod package;
pub mod packed;
pub mod parts;
pub mod phone;
pub mod plain;
pub mod power;
pub mod program;
pub mod random;
pub mod sdk_package;
pub mod trace;
pub mod world;
