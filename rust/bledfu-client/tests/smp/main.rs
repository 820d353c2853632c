// SPDX-License-Identifier: Apache-2.0
//! The SMP client with the behaviour of each application, against a server that can be told to misbehave.

#[path = "../common/mod.rs"]
mod common;
mod images;
mod link;
mod random;
mod requests;
mod server;
mod upload;
