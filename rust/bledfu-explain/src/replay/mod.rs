// SPDX-License-Identifier: Apache-2.0
//! Explains a log that was saved from a phone, a tool or a device. It rebuilds the exchange, finds where it went
//! wrong, and plays it to the project's own target.
//!
//! ```text
//! text ─► lines ─► facts (a reader for each format) ─► story: requests and answers ─► rules ─► verdict ─► catalogue
//!                                                        └──────────────────────────► target: what bledfu answers
//! ```
//! Personal data stay behind: readers hand on numbers, and what is printed comes from the catalogue, never from the log.

use anyhow::Result;

pub mod catalogue;
mod fact;
mod formats;
mod report;
mod rules;
mod sequence;
mod story;
mod target;
mod target_smp;
#[cfg(test)]
mod tests;
mod text;

use rules::Outcome;
use story::Story;
use target::{Decision, Packages, Replay};
use target_smp::Piece;

/// Most bytes of a log that are read. A whole update with every packet is a few megabytes.
pub const MOST_BYTES: u64 = 64 << 20;
/// Most logs in one file that are explained.
const MOST_LOGS: usize = 50;

/// One log, explained.
pub struct Explained {
    story: Story,
    outcome: Outcome,
    replay: Option<Replay>,
    pieces: Vec<Piece>,
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

    /// The exchange as arrows between client and device, in their order, for a diagram; the JSON of each has `line`, `at_ms`
    /// (if the log has times), `from` (`client`, `device`, or `note` for what is beside both), `what`, and `is_wrong` where
    /// the verdict points.
    pub fn sequence(&self) -> serde_json::Value {
        sequence::json(self)
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
                pieces: target_smp::play(&story)?,
                decisions: target::decisions(&story),
                story,
                outcome,
            })
        })
        .collect()
}

/// The text in a file of a log, whatever its encoding.
pub fn decode(bytes: &[u8]) -> String {
    // Windows tools write UTF-16.
    match bytes {
        [0xFF, 0xFE, rest @ ..] => {
            let units: Vec<u16> = rest
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
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
