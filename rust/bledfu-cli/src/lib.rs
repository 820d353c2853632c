// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! The subcommands of `bledfu`. A library only so that tests reach them; programs use `bledfu-sim`.
//!
//! | Modules | What |
//! |---|---|
//! | [`update`] | one update from phone to confirmation in virtual time |
//! | `serve` | the device in real time, for real clients; it has terminals, so not on Windows |
//! | [`send`] | an update of a real device, from this computer |
//! | [`inspect`] | what is in a file and what is wrong with it |
//! | [`package`] | a package around a signed image |
//! | [`keys`] | key files: made, shown, opened |
//! | [`replay`] | what a log from the field shows, and what this target answers |
//! | [`diff`], [`packed`] | packed updates: made, read and explained |
//! | [`install`], [`cut`], [`mod@bench`] | one boot on slot files; the power-cut campaign; what installs cost |
//! | [`mcuboot`] | hand-overs between MCUboot and this boot stage, from traces of MCUboot; part of `bledfu cut` |
//! | [`picture`] | a page about a run |
//! | [`folder`] | the files of a device of `serve` |
//! | [`args`], [`kind`], [`output`] | what several of them take, what a file is, how they print |
#![forbid(unsafe_code)]

pub use bledfu_explain::{kind, packed};

pub mod args;
pub mod bench;
pub mod cut;
pub mod device_log;
pub mod diff;
pub mod folder;
pub mod inspect;
pub mod install;
pub mod keys;
pub mod mcuboot;
pub mod output;
pub mod package;
pub mod picture;
pub mod replay;
pub mod send;
#[cfg(unix)]
pub mod serve;
pub mod update;
