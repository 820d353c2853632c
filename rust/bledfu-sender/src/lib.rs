// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! | Modules | What |
//! |---|---|
//! | [`mod@file`] | what is sent |
//! | [`release`] | which file of a release is for which running image |
//! | [`images`] | single requests of SMP: which images a device has |
//! | [`proof`] | what shows that the new version runs |
//! | [`settings`] | how the clients behave |
#![forbid(unsafe_code)]

pub mod file;
pub mod images;
pub mod proof;
pub mod release;
pub mod settings;

use serde::{Deserialize, Serialize};

/// The protocols of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Nordic's Secure DFU.
    SecureDfu,
    /// SMP (mcumgr).
    Smp,
}

impl Protocol {
    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SecureDfu => "Secure DFU",
            Self::Smp => "SMP",
        }
    }
}
