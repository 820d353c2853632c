// SPDX-License-Identifier: Apache-2.0
//! The numbered cases of `doc/conformance/smp.md`, on a whole device: ring, reassembly, front end, upload, slot writer,
//! journal, trailers, flash.
//!
//! Answers are read by a parser as strict as the strictest client. Cases about bytes alone are in `bledfu-wire` as
//! well, those with real clients in `tests/clients`.

#[path = "../harness/mod.rs"]
mod harness;

mod commands;
mod doors;
mod frames;
mod manager;
mod phones;
mod smp_client;
mod upload;

pub use manager::*;
