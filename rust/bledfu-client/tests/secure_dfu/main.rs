// SPDX-License-Identifier: Apache-2.0
//! The Secure DFU client with the behaviour of each library, against a device that follows the reference's rules and
//! can be told to misbehave.

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod device;
mod link;
mod losses;
mod requests;
mod resume;
