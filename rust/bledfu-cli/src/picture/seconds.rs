// SPDX-License-Identifier: Apache-2.0
//! Where the seconds of an update went. Each moment counts once, for the first of these that holds: the boot stage works, packets are
//! in the air, the image is verified, flash is busy, there is no link, somebody waits for an answer.

use bledfu_sim::trace::{Lane, Moment, Trace};

use crate::output::WIDTH;

/// Times of an update in ns that the trace does not know.
#[derive(Clone, Copy, Debug)]
pub struct Stages {
    /// When it begins.
    pub from_ns: u64,
    /// When it ends.
    pub to_ns: u64,
    /// The last byte has arrived, and the checks have ended; both 0 if they did not.
    pub verify_ns: (u64, u64),
}

/// The share of a link on which nothing happens: a client waits for an answer, or nobody wants anything.
pub const WAITING: &str = "waiting for answers";

/// The shares in their order, with the letters of the text bar.
const SHARES: [(&str, char); 6] = [
    ("air", 'a'),
    ("flash", 'f'),
    ("verify", 'v'),
    (WAITING, '.'),
    ("away, no link", '-'),
    ("boot stage", 'b'),
];

/// The shares: name and seconds.
pub fn seconds(trace: &Trace, stages: &Stages) -> Vec<(String, f64)> {
    let of = |chosen: &dyn Fn(Lane) -> bool| -> Vec<(u64, u64)> {
        let spans = trace.spans.iter().filter(|span| chosen(span.lane));
        spans.map(|span| (span.from_ns, span.to_ns)).collect()
    };
    let whole = vec![(stages.from_ns, stages.to_ns)];
    let away = away(trace, stages);
    // In the order in which they count, with their place in SHARES.
    let layers: [(usize, Vec<(u64, u64)>); 6] = [
        (5, of(&|lane| lane == Lane::Boot)),
        (0, of(&|lane| lane == Lane::Link)),
        (2, vec![stages.verify_ns]),
        (1, of(&|lane| matches!(lane, Lane::Flash(..)))),
        (4, away),
        (3, whole),
    ];
    let mut shares = [0.0; 6];
    let mut covered: Vec<(u64, u64)> = Vec::new();
    let mut before = 0;
    for (place, spans) in layers {
        let within = spans.into_iter().map(|(from, to)| {
            (
                from.clamp(stages.from_ns, stages.to_ns),
                to.clamp(stages.from_ns, stages.to_ns),
            )
        });
        covered.extend(within.filter(|(from, to)| from < to));
        covered = joined(covered);
        let now: u64 = covered.iter().map(|(from, to)| to - from).sum();
        if let Some(share) = shares.get_mut(place) {
            *share = (now - before) as f64 / 1e9;
        }
        before = now;
    }
    SHARES
        .iter()
        .zip(shares)
        .map(|((name, _), seconds)| ((*name).to_owned(), seconds))
        .collect()
}

fn joined(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// The times without a link.
fn away(trace: &Trace, stages: &Stages) -> Vec<(u64, u64)> {
    let mut away = Vec::new();
    let mut down = Some(stages.from_ns);
    for (at, moment) in &trace.moments {
        match moment {
            Moment::LinkUp => {
                if let Some(from) = down.take() {
                    away.push((from, *at));
                }
            }
            Moment::LinkDown | Moment::PowerCut | Moment::Boot => down = down.or(Some(*at)),
            Moment::WriteLost => {}
        }
    }
    if let Some(from) = down {
        away.push((from, stages.to_ns));
    }
    away
}

/// The shares as a bar of letters and their seconds, for a screen; empty when no time passed.
pub fn bar(shares: &[(String, f64)], indent: usize) -> (String, String) {
    let total: f64 = shares.iter().map(|(_, seconds)| seconds).sum();
    if total <= 0.0 {
        return (String::new(), String::new());
    }
    let width = WIDTH - indent;
    let mut bar = String::new();
    let mut passed = 0.0;
    let mut names = Vec::new();
    for ((name, seconds), (_, letter)) in shares.iter().zip(SHARES) {
        passed += seconds;
        let end = (passed / total * width as f64).round() as usize;
        while bar.len() < end {
            bar.push(letter);
        }
        if *seconds >= 0.005 {
            names.push(format!("{letter} {name} {seconds:.2} s"));
        }
    }
    (bar, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_sim::power::OpKind;
    use bledfu_sim::trace::Span;

    #[test]
    fn every_second_counts_once() {
        let span = |lane, from: u64, to: u64| Span {
            lane,
            from_ns: from * 1_000_000_000,
            to_ns: to * 1_000_000_000,
            address: 0,
            length: 0,
        };
        let trace = Trace {
            spans: vec![
                span(Lane::Link, 1, 4),
                span(Lane::Flash("external", OpKind::Erase), 3, 6),
                span(Lane::Flash("internal", OpKind::Erase), 10, 12),
                span(Lane::Boot, 10, 13),
            ],
            moments: vec![(1_000_000_000, Moment::LinkUp), (8_000_000_000, Moment::LinkDown)],
            ring: Vec::new(),
        };
        let stages = Stages {
            from_ns: 1_000_000_000,
            to_ns: 13_000_000_000,
            verify_ns: (6_000_000_000, 7_000_000_000),
        };
        let shares: Vec<f64> = seconds(&trace, &stages)
            .into_iter()
            .map(|(_, seconds)| seconds)
            .collect();
        // air, flash, verify, waiting, away, boot
        assert_eq!(shares, [3.0, 2.0, 1.0, 1.0, 2.0, 3.0]);
        let (bar, names) = bar(&seconds(&trace, &stages), 20);
        assert_eq!(bar.len(), 60);
        assert_eq!(bar.matches('a').count(), 15);
        assert!(names.starts_with("a air 3.00 s, f flash 2.00 s"), "{names}");
    }
}
