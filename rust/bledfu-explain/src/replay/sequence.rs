// SPDX-License-Identifier: Apache-2.0
//! The exchange of a log as arrows, for a diagram over time.

use serde_json::{json, Value};

use super::fact::Fact;
use super::report::{marked, said};
use super::rules::Outcome;
use super::story::{Spot, Step};
use super::Explained;

/// Most arrows; a diagram with more is no picture any more.
const MOST: usize = 2_000;

/// All arrows, or the first and the last ones.
pub fn json(log: &Explained) -> Value {
    let story = &log.story;
    let wrong = match &log.outcome {
        Outcome::Fault(verdict) => Some(verdict.spot.line),
        Outcome::Success | Outcome::Unknown => None,
    };
    let arrow = |spot: Spot, from: &str, what: String| {
        json!({
            "line": spot.line, "at_ms": spot.at_ms, "from": from, "what": what, "is_wrong": Some(spot.line) == wrong,
        })
    };
    let mut arrows = Vec::new();
    for step in &story.steps {
        match step {
            Step::Exchange(index) => {
                let Some(exchange) = story.exchanges.get(*index) else {
                    continue;
                };
                let words = said(exchange);
                let (request, result) = words.rsplit_once(": ").unwrap_or((&words, ""));
                match &exchange.answer {
                    Some(answer) => {
                        arrows.push(arrow(exchange.spot, "client", request.to_owned()));
                        arrows.push(arrow(answer.spot, "device", result.to_owned()));
                    }
                    None => arrows.push(arrow(exchange.spot, "client", words)),
                }
            }
            Step::Packets(spot) => arrows.push(arrow(*spot, "client", "packets".to_owned())),
            Step::Receipt { spot, offset, .. } => {
                arrows.push(arrow(*spot, "device", format!("receipt: {offset} bytes")));
            }
            Step::Mark(index) => {
                let Some(mark) = story.marks.get(*index) else {
                    continue;
                };
                let from = match mark.fact {
                    Fact::SmpSent(_) => "client",
                    Fact::SmpGot(_) => "device",
                    _ => "note",
                };
                if let Some(what) = marked(&mark.fact) {
                    arrows.push(arrow(mark.spot, from, what));
                }
            }
        }
    }
    if arrows.len() > MOST {
        // The fault is at the end.
        let left_out = arrows.len() - MOST;
        let note = json!({ "line": 0, "at_ms": null, "from": "note", "what": format!("{left_out} more"), "is_wrong": false });
        arrows.splice(MOST / 2..MOST / 2 + left_out, [note]);
    }
    arrows.into()
}
