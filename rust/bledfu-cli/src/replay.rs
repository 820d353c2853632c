// SPDX-License-Identifier: Apache-2.0
//! `bledfu replay`: explains a log that was saved from a phone, a tool or a device. What it says comes from
//! [`bledfu_explain::replay`]; here are its options, and how the log is read.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
pub use bledfu_explain::replay::{catalogue, decode, explain, Explained, MOST_BYTES};
use clap::Args;

use crate::output::Format as Output;

/// Options of `bledfu replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The log, as it was saved or copied; - is the standard input. Text around it does not matter.
    pub log: PathBuf,
    /// JSON instead of text: one object for each log in the file.
    #[arg(long)]
    pub json: bool,
}

/// Runs `bledfu replay`. The exit code is 1 when no log was understood.
///
/// # Errors
/// One sentence: the log could not be read.
pub fn cmd_replay(args: &ReplayArgs) -> Result<ExitCode> {
    let text = read(args)?;
    let explained = explain(&text)?;
    let format = Output::of(args.json);
    if explained.is_empty() {
        bail!(
            "no line of {} is one that bledfu knows; doc/replay.md lists the formats",
            args.log.display()
        );
    }
    for (index, log) in explained.iter().enumerate() {
        let gap = if index > 0 { "\n" } else { "" };
        format.fact(&log.json(), format_args!("{gap}{}", log.text().trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(args: &ReplayArgs) -> Result<String> {
    let shown = args.log.display();
    let mut bytes = Vec::new();
    let read = match args.log.as_os_str() == "-" {
        true => std::io::stdin().lock().take(MOST_BYTES).read_to_end(&mut bytes),
        false => {
            std::fs::File::open(&args.log).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
        }
    };
    read.with_context(|| format!("cannot read {shown}"))?;
    if bytes.len() as u64 == MOST_BYTES {
        bail!(
            "{shown} is larger than {} MiB; cut out the part of the update",
            MOST_BYTES >> 20
        );
    }
    Ok(decode(&bytes))
}
