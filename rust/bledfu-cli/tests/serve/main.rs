// SPDX-License-Identifier: Apache-2.0
//! `bledfu serve` as a process, and clients that connect to its doors. Killing the process is a power cut.

#[path = "../common/mod.rs"]
mod common;
mod doors;
mod folder;
mod other_target;
mod port;
mod send;
mod server;
mod smp;
mod updates;
