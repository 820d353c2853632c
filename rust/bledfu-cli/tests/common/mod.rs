// SPDX-License-Identifier: Apache-2.0
//! What the tests of the command line share.
#![allow(dead_code)] // each test program uses its part

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of `tests/vectors`.
pub fn vector(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(file)
}

/// The same, as an argument of a command.
pub fn vector_path(file: &str) -> String {
    vector(file).to_str().expect("a path in UTF-8").to_owned()
}

/// The program `bledfu`, without the log that the caller's environment asks for.
pub fn bledfu(subcommand: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bledfu"));
    command.arg(subcommand).env_remove("RUST_LOG");
    command
}
