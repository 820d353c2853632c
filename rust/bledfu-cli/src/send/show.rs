// SPDX-License-Identifier: Apache-2.0
//! What `send` tells: lines and a progress bar for people, an object a line for programs, and the page of `--report`.

use std::time::{Duration, Instant};

use bledfu_client::{Progress, Stage};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{json, Value};

use super::transport::LinkError;
use crate::output::{is_quiet, wrap, Format};
use crate::picture::{Lane, Run};

/// Programs are told the progress this often at most.
const PROGRESS_STEP: Duration = Duration::from_millis(500);
/// How often the sign of life moves.
const SPIN_STEP: Duration = Duration::from_millis(120);
/// Steps of the lane in the report.
const LANE_STEPS: usize = 240;

/// Who is told.
pub struct Show {
    format: Format,
    bar: ProgressBar,
    total: u64,
    clock: Instant,
    stage: Stage,
    told: Option<(Instant, u64)>,
    /// Position over time, in seconds.
    samples: Vec<(f64, u64)>,
    moments: Vec<(f64, String)>,
    /// What takes the time now, since when, and what took it before, in seconds.
    phase: (Phase, f64),
    phases: [f64; Phase::ALL.len()],
    connections: u32,
    is_muted: bool,
}

/// What takes the time of an update, in the order of the page's legend and of its colours: link, flash, check, waiting, away, boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Sending,
    Preparing,
    Checking,
    Searching,
    Reconnecting,
    Installing,
}

impl Phase {
    const ALL: [(Self, &str); 6] = [
        (Self::Sending, "sending"),
        (Self::Preparing, "asking the device"),
        (Self::Checking, "the device checks the image"),
        (Self::Searching, "looking for the device"),
        (Self::Reconnecting, "connecting again"),
        (Self::Installing, "install, until the new version runs"),
    ];
}

impl Show {
    /// For a firmware of `total` bytes.
    pub fn new(format: Format, total: usize) -> Self {
        Self {
            format,
            bar: ProgressBar::hidden(),
            total: total as u64,
            clock: Instant::now(),
            stage: Stage::Preparing,
            told: None,
            samples: Vec::new(),
            moments: Vec::new(),
            phase: (Phase::Searching, 0.0),
            phases: [0.0; Phase::ALL.len()],
            connections: 0,
            is_muted: false,
        }
    }

    /// The progress bar is visible from now on.
    pub fn begin(&mut self) {
        // Log lines would break it.
        if is_quiet() || self.format == Format::Json || log::log_enabled!(log::Level::Info) {
            return;
        }
        let template = "send         {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bar = ProgressBar::new(self.total).with_style(style);
    }

    /// From now on the time goes there; an install lasts until the end, with all its links.
    fn enter(&mut self, phase: Phase) {
        if self.phase.0 == Phase::Installing {
            return;
        }
        let now = self.seconds();
        let (before, since) = std::mem::replace(&mut self.phase, (phase, now));
        self.phases[before as usize] += now - since;
    }

    /// The device installs the new version, which may take a minute.
    pub fn await_device(&mut self) {
        self.enter(Phase::Installing);
        if is_quiet() || self.format == Format::Json || log::log_enabled!(log::Level::Info) {
            return;
        }
        let template = "install      {spinner} until the device is back: {elapsed}";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        self.bar = ProgressBar::new_spinner().with_style(style);
        self.bar.enable_steady_tick(SPIN_STEP);
    }

    /// Nothing is told meanwhile: a client runs that sends nothing.
    pub fn mute(&mut self, is_muted: bool) {
        self.is_muted = is_muted;
    }

    /// One event: its JSON, and its line, which may be empty. A reader that is gone does not stop an update.
    pub fn event(&mut self, json: &Value, text: &str) {
        if self.is_muted {
            return;
        }
        self.moments.push((
            self.clock.elapsed().as_secs_f64(),
            if text.is_empty() {
                json["event"].as_str().unwrap_or_default().to_owned()
            } else {
                plain(text)
            },
        ));
        let format = self.format;
        let told = self.bar.suspend(|| match text {
            "" if format == Format::Text => Ok(()),
            _ => format.fact(json, format_args!("{}", wrap(text, 13))),
        });
        if let Err(error) = told {
            log::info!("{error}");
        }
    }

    /// A line for people only.
    pub fn line(&mut self, text: &str) {
        if !self.is_muted {
            let format = self.format;
            let told = self
                .bar
                .suspend(|| format.text(format_args!("{}", wrap(text, 13))));
            if let Err(error) = told {
                log::info!("{error}");
            }
        }
    }

    /// A connection is open.
    pub fn connected(&mut self) {
        self.connections += 1;
        self.enter(Phase::Preparing);
        self.event(
            &json!({ "event": "connected", "connection": self.connections }),
            "",
        );
    }

    /// The link was lost; the client goes on by itself.
    pub fn lost(&mut self, error: &LinkError) {
        self.enter(Phase::Reconnecting);
        let text = format!("link lost    {error}; connecting again");
        self.event(&json!({ "event": "lost", "message": error.to_string() }), &text);
    }

    /// Another attempt follows.
    pub fn again(&mut self, error: &dyn std::fmt::Display) {
        let text = format!("again        {error}; going on where the device is");
        self.event(&json!({ "event": "again", "message": error.to_string() }), &text);
    }

    /// The progress of the client, and bytes sent.
    pub fn progress(&mut self, progress: &Progress, position: u64) {
        if self.is_muted {
            return;
        }
        let position = position.min(self.total);
        let before = std::mem::replace(&mut self.stage, progress.stage);
        match progress.stage {
            Stage::Preparing => {}
            Stage::Sending => {
                if before != Stage::Sending {
                    self.enter(Phase::Sending);
                    // What the device holds already was not sent now: it is no part of the rate.
                    self.bar.set_position(u64::from(progress.resumed_at));
                    self.bar.reset_eta();
                    if progress.resumed_at > 0 {
                        let text = format!(
                            "resume       the device holds {} bytes already",
                            progress.resumed_at
                        );
                        self.event(&json!({ "event": "resumed", "at": progress.resumed_at }), &text);
                    }
                }
                self.bar.set_position(position);
                self.tell_position(position);
            }
            Stage::Sent | Stage::Verified => {
                if before < Stage::Sent {
                    self.enter(Phase::Checking);
                    self.bar.set_position(self.total);
                    self.told = None;
                    self.tell_position(self.total);
                    self.event(&json!({ "event": "sent", "bytes": self.total }), "");
                }
                if progress.stage == Stage::Verified && before < Stage::Verified {
                    self.enter(Phase::Installing);
                    self.bar.finish_and_clear();
                    self.event(
                        &json!({ "event": "verified" }),
                        "verified     the device has checked the image; it installs it now",
                    );
                }
            }
        }
    }

    fn tell_position(&mut self, position: u64) {
        let now = Instant::now();
        if self
            .told
            .is_some_and(|(at, told)| told == position || now - at < PROGRESS_STEP)
        {
            return;
        }
        self.told = Some((now, position));
        let seconds = self.clock.elapsed().as_secs_f64();
        self.samples.push((seconds, position));
        if self.format == Format::Json {
            let json =
                json!({ "event": "progress", "bytes": position, "total": self.total, "seconds": seconds });
            let _ = self.format.fact(&json, format_args!(""));
        }
    }

    /// The bar goes away.
    pub fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        self.clock.elapsed().as_secs_f64()
    }

    /// The page about it.
    pub fn page(&self, title: String, facts: Vec<(String, String)>) -> Run {
        let total_s = self.seconds();
        let mut rates = vec![0.0_f64; LANE_STEPS];
        for pair in self.samples.windows(2) {
            let [(from_s, from), (to_s, to)] = *pair else {
                continue;
            };
            let step = |seconds: f64| ((seconds / total_s * LANE_STEPS as f64) as usize).min(LANE_STEPS - 1);
            let rate = to.saturating_sub(from) as f64 / (to_s - from_s).max(1e-3);
            for slot in &mut rates[step(from_s)..=step(to_s)] {
                *slot = slot.max(rate);
            }
        }
        let most = rates.iter().copied().fold(0.0, f64::max);
        let mut phases = self.phases;
        phases[self.phase.0 as usize] += total_s - self.phase.1;
        Run {
            title,
            facts,
            total_s,
            seconds: Phase::ALL
                .iter()
                .map(|(phase, name)| ((*name).to_owned(), phases[*phase as usize]))
                .collect(),
            lanes: vec![Lane {
                name: "link".to_owned(),
                note: format!("bytes sent, at most {:.1} kB/s", most / 1000.0),
                values: rates.iter().map(|rate| (rate / most.max(1.0)) as f32).collect(),
            }],
            moments: self.moments.clone(),
            ..Run::default()
        }
    }
}

/// A line without the name in front of it.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_of_an_update_has_a_cause() {
        let mut show = Show::new(Format::Json, 100);
        show.mute(true);
        show.connected();
        assert_eq!(show.phase.0, Phase::Preparing);
        show.lost(&LinkError::Lost("a reset".to_owned()));
        assert_eq!(show.phase.0, Phase::Reconnecting);
        show.connected();
        show.await_device();
        // The device resets: that is part of the install.
        show.lost(&LinkError::Lost("a reset".to_owned()));
        show.connected();
        assert_eq!(show.phase.0, Phase::Installing);
        let page = show.page("title".to_owned(), Vec::new());
        let sum: f64 = page.seconds.iter().map(|(_, seconds)| seconds).sum();
        assert!((sum - page.total_s).abs() < 1e-9, "{sum} {}", page.total_s);
        assert_eq!(page.seconds.len(), Phase::ALL.len());
    }
}
