// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! What the command `bledfu` and the page for browsers say about files and logs: one place, so that both say the same. Bytes and
//! text are arguments; nothing here opens a file or prints.
//!
//! | Modules | What |
//! |---|---|
//! | [`inspect`] | what is in a file, or in a whole device, and what is wrong with it |
//! | [`replay`] | what a log from the field shows, and what this target answers |
//! | [`kind`], [`packed`] | what a file is; what a packed update is |
//! | [`device_log`] | log lines with numbers as sentences |
//! | [`values`], [`text`] | values of options; text in 80 columns |
#![forbid(unsafe_code)]

pub mod device_log;
pub mod inspect;
pub mod kind;
pub mod packed;
pub mod replay;
pub mod text;
pub mod values;
