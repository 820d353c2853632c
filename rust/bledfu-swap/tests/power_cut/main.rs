// SPDX-License-Identifier: Apache-2.0
//! The power fails before or inside every operation of whole updates, once and again during the recovery. And the
//! operations themselves are compared with those of MCUboot.

#[path = "../common/mod.rs"]
mod common;
mod device;
mod operations;
mod scratch;
mod swaps;
