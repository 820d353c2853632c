// SPDX-License-Identifier: Apache-2.0
//! What is sent: the package or the image in a file, read as the other commands read it.

use std::path::Path;

use anyhow::{Context, Result};
pub use bledfu_sender::file::{File, Image};

use crate::update::Protocol;

/// Reads a file that can be sent over `protocol`, or over any one without it.
///
/// # Errors
/// A sentence: what the file is, and what to do.
pub fn read(path: &Path, protocol: Option<Protocol>) -> Result<File> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    File::new(&name, bytes, protocol.map(Protocol::into))
        .with_context(|| format!("cannot use {}", path.display()))
}
