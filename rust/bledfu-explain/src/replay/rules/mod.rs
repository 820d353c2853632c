// SPDX-License-Identifier: Apache-2.0
//! From a rebuilt exchange to a verdict: every signature of the catalogue that fits is a candidate, and the first thing that went
//! wrong is the verdict. What only follows from it (a closed link, an error number) counts when nothing else was found.

use super::fact::{Fact, Format};
use super::story::{Spot, Story};

mod boot;
mod refusal;
mod secure_dfu;
mod smp;

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sure {
    /// The log proves it.
    High,
    /// It is the usual meaning.
    Medium,
    /// It is one of several.
    Low,
}

impl Sure {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::High => "sure",
            Self::Medium => "likely",
            Self::Low => "possible",
        }
    }
}

/// What weighs before the order in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A fault.
    Fault,
    /// What usually follows from a fault.
    Consequence,
    /// Harmless.
    Harmless,
}

/// A signature that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// ID in the catalogue.
    pub id: &'static str,
    /// The line of the wrong answer; if an answer is missing, of the request; if that is not logged, of the failure.
    pub spot: Spot,
    /// How sure it is.
    pub sure: Sure,
    /// What the log shows, in one sentence.
    pub why: String,
    rank: Rank,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A fault.
    Fault(Verdict),
    /// The update went to its end.
    Success,
    /// Nothing that the catalogue knows.
    Unknown,
}

/// Collects candidates.
#[derive(Default)]
struct Findings {
    verdicts: Vec<Verdict>,
    success: bool,
}

impl Findings {
    fn add(&mut self, rank: Rank, id: &'static str, spot: Spot, sure: Sure, why: impl Into<String>) {
        self.verdicts.push(Verdict {
            id,
            spot,
            sure,
            why: why.into(),
            rank,
        });
    }

    fn fault(&mut self, id: &'static str, spot: Spot, sure: Sure, why: impl Into<String>) {
        self.add(Rank::Fault, id, spot, sure, why);
    }

    fn follows(&mut self, id: &'static str, spot: Spot, sure: Sure, why: impl Into<String>) {
        self.add(Rank::Consequence, id, spot, sure, why);
    }
}

/// The outcome of a log.
pub fn judge(story: &Story) -> Outcome {
    let mut findings = Findings::default();
    let has_dfu = !story.exchanges.is_empty()
        || story.marks.iter().any(|mark| is_dfu(&mark.fact))
        || matches!(
            story.format(),
            Some(Format::Android | Format::Ios | Format::Nrfutil | Format::Sdk)
        );
    if has_dfu {
        secure_dfu::judge(story, &mut findings);
    }
    smp::judge(story, &mut findings);
    boot::judge(story, &mut findings);
    let first = findings
        .verdicts
        .into_iter()
        .min_by_key(|verdict| (verdict.rank, verdict.spot.pos));
    match first {
        Some(verdict) if verdict.rank == Rank::Fault || !findings.success => Outcome::Fault(verdict),
        _ if findings.success => Outcome::Success,
        _ => Outcome::Unknown,
    }
}

fn is_dfu(fact: &Fact) -> bool {
    matches!(
        fact,
        Fact::JumpAccepted
            | Fact::Scanning
            | Fact::NotFound
            | Fact::Remote(_)
            | Fact::Extended(_)
            | Fact::Buttonless(_)
            | Fact::Library(_)
            | Fact::SdkNoBuffer
            | Fact::SdkAcquired
            | Fact::SdkBootInvalid
    )
}

/// Milliseconds between two spots; `None` without times.
fn between(from: Spot, to: Spot) -> Option<i64> {
    Some(to.at_ms? - from.at_ms?)
}

/// A time in words.
fn seconds(ms: i64) -> String {
    format!("{}.{:03} s", ms / 1000, ms.rem_euclid(1000))
}
