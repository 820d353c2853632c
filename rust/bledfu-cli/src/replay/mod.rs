// SPDX-License-Identifier: Apache-2.0
//! `bledfu replay`: explains a log that was saved from a phone, a tool or a device. It rebuilds the exchange, finds where it went
//! wrong, and plays it to the project's own target.
//!
//! ```text
//! text ─► lines ─► facts (a reader for each format) ─► story: requests and answers ─► rules ─► verdict ─► catalogue
//!                                                        └──────────────────────────► target: what bledfu answers
//! ```
//! Personal data stay behind: readers hand on numbers, and what is printed comes from the catalogue, never from the log.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use clap::Args;

use crate::output::Format as Output;

pub mod catalogue;
mod fact;
mod formats;
mod report;
mod rules;
mod story;
mod target;
#[cfg(test)]
mod tests;
mod text;

use rules::Outcome;
use story::Story;
use target::{Decision, Packages, Replay};

/// Most bytes of a log that are read. A whole update with every packet is a few megabytes.
const MOST_BYTES: u64 = 64 << 20;
/// Most logs in one file that are explained.
const MOST_LOGS: usize = 50;

/// Options of `bledfu replay`.
#[derive(Args, Clone, Debug)]
pub struct ReplayArgs {
    /// The log, as it was saved or copied; - is the standard input. Text around it does not matter.
    pub log: PathBuf,
    /// JSON instead of text: one object for each log in the file.
    #[arg(long)]
    pub json: bool,
}

/// One log, explained.
pub struct Explained {
    story: Story,
    outcome: Outcome,
    replay: Option<Replay>,
    decisions: Vec<Decision>,
}

impl Explained {
    /// The verdict: ID in the catalogue and line; `None` when nothing went wrong or nothing is known.
    pub fn verdict(&self) -> Option<(&'static str, usize)> {
        match &self.outcome {
            Outcome::Fault(verdict) => Some((verdict.id, verdict.spot.line)),
            Outcome::Success | Outcome::Unknown => None,
        }
    }

    /// The report as text, in 80 columns.
    pub fn text(&self) -> String {
        report::text(self)
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Value {
        report::json(self)
    }
}

/// Explains every log in a text; none if no line of it is known.
///
/// # Errors
/// The simulated device does not start.
pub fn explain(text: &str) -> Result<Vec<Explained>> {
    let mut judged = Vec::new();
    let mut packages = Packages::default();
    for log in text::logs(text) {
        let story = Story::of(&log);
        // A post has prose before its first log.
        if story.understood == 0 {
            continue;
        }
        let outcome = rules::judge(&story);
        let wrong = match &outcome {
            Outcome::Fault(verdict) => Some(verdict.spot),
            _ => None,
        };
        packages.learn(&story, wrong);
        judged.push((story, outcome));
        if judged.len() >= MOST_LOGS {
            break;
        }
    }
    judged
        .into_iter()
        .map(|(story, outcome)| {
            let id = match &outcome {
                Outcome::Fault(verdict) => Some(verdict.id),
                _ => None,
            };
            Ok(Explained {
                replay: target::play(&story, &packages, id)?,
                decisions: target::decisions(&story),
                story,
                outcome,
            })
        })
        .collect()
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
    // Windows tools write UTF-16.
    let text = match bytes.as_slice() {
        [0xFF, 0xFE, rest @ ..] => {
            let units: Vec<u16> = rest
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(&bytes).into_owned(),
    };
    Ok(text)
}

/// A time of a log, in ms, as a clock shows it.
fn clock(ms: i64) -> String {
    let ms = ms.rem_euclid(24 * 3600 * 1000);
    let (second, ms) = (ms / 1000, ms % 1000);
    format!(
        "{:02}:{:02}:{:02}.{ms:03}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}
