// SPDX-License-Identifier: Apache-2.0
//! `--report FILE.html`: a run as one page that needs nothing else: lanes over time, a map of the slots, where the seconds went; two
//! runs side by side. `--report FILE.json` writes what the page shows, for `--compare`.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

mod html;
mod lanes;
mod seconds;
pub mod update;

pub use lanes::{lanes, slots, Area};
pub use seconds::{bar, seconds, Stages, WAITING};

/// Options of every command that writes a report.
#[derive(Args, Clone, Debug, Default)]
pub struct ReportArgs {
    /// Write a page about the run: FILE.html, or FILE.json with the figures alone.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Show another run beside it, from its FILE.json.
    #[arg(long, value_name = "OTHER.json", requires = "report")]
    pub compare: Option<PathBuf>,
}

/// A run, as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The command and what it was about.
    pub title: String,
    /// Facts: name and value.
    pub facts: Vec<(String, String)>,
    /// Length in seconds; 0 where there is no time line.
    pub total_s: f64,
    /// Where the seconds went: name and seconds.
    pub seconds: Vec<(String, f64)>,
    /// Lanes over time.
    pub lanes: Vec<Lane>,
    /// Moments: time in seconds, and what happened.
    pub moments: Vec<(f64, String)>,
    /// Maps of flash areas.
    pub slots: Vec<SlotMap>,
    /// Tables.
    pub tables: Vec<Table>,
}

/// A lane: for each of equal steps of time, how busy it was or how full, from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// What its values mean, with its maximum.
    pub note: String,
    /// The values.
    pub values: Vec<f32>,
}

/// A map of an area: what happened to each sector.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SlotMap {
    /// Its name.
    pub name: String,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// For each sector, erases and programmed bytes.
    pub sectors: Vec<(u32, u32)>,
}

/// A table; cells that are numbers also get a bar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its title.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
    /// The column whose numbers are shown as bars.
    pub bars: Option<usize>,
}

impl Table {
    /// A table of JSON objects: a column for each of `columns`, which are a title and a JSON pointer into the row.
    pub fn of(title: &str, columns: &[(&str, &str)], rows: &[serde_json::Value], bars: usize) -> Self {
        let cell = |row: &serde_json::Value, pointer: &str| match row.pointer(pointer) {
            Some(serde_json::Value::String(text)) => text.clone(),
            // Times are in nanoseconds, and shown in seconds.
            Some(value) if pointer.ends_with("_ns") || pointer.ends_with("/ns") => value
                .as_f64()
                .map_or(String::new(), |ns| format!("{:.2}", ns / 1e9)),
            Some(value) => value.to_string(),
            None => String::new(),
        };
        Self {
            title: title.to_owned(),
            columns: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows: rows
                .iter()
                .map(|row| columns.iter().map(|(_, pointer)| cell(row, pointer)).collect())
                .collect(),
            bars: Some(bars),
        }
    }
}

impl ReportArgs {
    /// Whether anything is to be written.
    pub fn is_wanted(&self) -> bool {
        self.report.is_some()
    }

    /// Reads the other run, before the work begins: a wrong file is told at once.
    ///
    /// # Errors
    /// A sentence.
    pub fn other(&self) -> Result<Option<Run>> {
        if let Some(path) = &self.report {
            kind(path)?;
        }
        let Some(path) = &self.compare else {
            return Ok(None);
        };
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let run = serde_json::from_slice(&bytes).with_context(|| {
            format!("{shown} is not a report of bledfu; write one with --report FILE.json")
        })?;
        Ok(Some(run))
    }

    /// Writes the report, if one is wanted.
    ///
    /// # Errors
    /// A sentence.
    pub fn write(&self, run: &Run, other: Option<&Run>) -> Result<()> {
        let Some(path) = &self.report else {
            return Ok(());
        };
        let text = match kind(path)? {
            Kind::Html => html::page(run, other),
            Kind::Json => serde_json::to_string_pretty(run)? + "\n",
        };
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

enum Kind {
    Html,
    Json,
}

fn kind(path: &Path) -> Result<Kind> {
    match path.extension().and_then(|end| end.to_str()) {
        Some("html" | "htm") => Ok(Kind::Html),
        Some("json") => Ok(Kind::Json),
        _ => bail!("--report writes FILE.html or FILE.json, not {}", path.display()),
    }
}
