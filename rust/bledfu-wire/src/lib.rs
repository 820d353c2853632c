// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! Converts bytes to messages and back, for both ends: a device decodes requests and encodes answers, a client encodes
//! requests and decodes answers. All bytes from a peer pass through this crate; after it, values are valid by type.
//!
//! - [`secure_dfu`]: requests and replies of the Secure DFU control point and its serial form.
//! - [`buttonless`]: how a phone asks an application to start in its update mode.
//! - [`init_packet`]: the signed init packet (protobuf) that opens a transfer.
//! - [`slip`]: framing of the serial transport.
//! - [`smp`]: frames of mcumgr's protocol, with the commands of [`os_group`] and [`image_group`].
//! - [`smp_answer`]: answers as a client reads them.
//! - [`smp_console`]: framing of SMP on a serial console.
//!
//! This crate holds no transfer state, no flash access and no policy: those are in `bledfu-transfer` and `bledfu-slot`.
//! Nothing here panics on any input, and every value that can be constructed can be encoded.
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

pub mod buttonless;
mod cbor;
pub mod image_group;
pub mod init_packet;
pub mod os_group;
pub mod secure_dfu;
pub mod slip;
pub mod smp;
pub mod smp_answer;
pub mod smp_console;

/// Reads a little-endian `u32` at `at`; `None` when the bytes end before it.
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// Reads a little-endian `u16` at `at`; `None` when the bytes end before it.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

#[cfg(test)]
mod testing {
    extern crate std;
    use std::vec::Vec;

    /// Parses pairs of hexadecimal digits; spaces and bars are separators.
    pub fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != '|')
            .map(|c| c.to_digit(16).unwrap() as u8)
            .collect();
        assert!(digits.len().is_multiple_of(2), "half a byte");
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// A frame of version 2 with sequence number 1.
    pub fn frame(op: u8, group: u16, command: u8, payload: &[u8]) -> Vec<u8> {
        let header = crate::smp::Header {
            version: 1,
            op,
            length: payload.len() as u16,
            group,
            sequence: 1,
            command,
        };
        [&header.encode(), payload].concat()
    }
}
