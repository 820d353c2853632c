// SPDX-License-Identifier: Apache-2.0
//! Power fails before or inside every operation of whole updates, once and again during the recovery; and the operations
//! themselves, compared with what MCUboot was seen to do.

#[path = "../common/mod.rs"]
mod common;
mod device;
mod operations;
mod scratch;
mod swaps;
