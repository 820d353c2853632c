// SPDX-License-Identifier: Apache-2.0
//! *Inspect* and *Explain*: bytes in, JSON out. Each function says what the command line says.

use bledfu_explain::inspect::device::{self, Files, Flash, Places};
use bledfu_explain::inspect::folder::{self, Settings};
use bledfu_explain::inspect::report::{Line, Report};
use bledfu_explain::inspect::{self, Options, Values};
use bledfu_explain::replay;
use bledfu_sim::keys::public_key_only_from_pem;
use bledfu_slot::Key;
use serde::Deserialize;
use serde_json::{json, Value};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::sentence;

/// What a user gives besides the file.
struct Asked {
    page: Page,
    values: Values,
    places: Places,
}

/// What the page has fields of its own for.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Page {
    /// PEM of the package's key.
    public_key: Option<String>,
    /// PEM of the image's key.
    image_key: Option<String>,
    /// Show the whole device; always so if there are several files.
    map: bool,
}

impl Asked {
    fn parse(json: &str) -> anyhow::Result<Self> {
        // Each takes its fields; flattened into one they would need 15 kB of code more.
        let all: Value = serde_json::from_str(json)?;
        Ok(Self {
            page: Page::deserialize(&all)?,
            values: Values::deserialize(&all)?,
            places: Places::deserialize(&all)?,
        })
    }

    fn options(&self) -> anyhow::Result<Options> {
        let key = |name: &str, pem: &Option<String>| -> anyhow::Result<Option<Key>> {
            let key = pem.as_deref().map(|pem| public_key_only_from_pem(name, pem));
            Ok(key.transpose()?)
        };
        Ok(Options {
            public_key: key("the package key", &self.page.public_key)?,
            image_key: key("the image key", &self.page.image_key)?,
            ..self.values.options()?
        })
    }
}

/// The files that were dropped together.
#[wasm_bindgen]
#[derive(Default)]
pub struct Dropped {
    files: Vec<(String, Vec<u8>)>,
}

#[wasm_bindgen]
impl Dropped {
    /// None yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.files.push((name, bytes));
    }

    /// Explains them: one file, the folder of a device, or dumps of flashes (internal first). `asked` is JSON with the options
    /// of the command line. Returns the JSON of `bledfu inspect --json` with `text`, its verdict in words, and its lines.
    pub fn inspect(&mut self, asked: &str) -> Result<String, String> {
        self.report(asked).map_err(|error| sentence(&error))
    }

    fn report(&mut self, asked: &str) -> anyhow::Result<String> {
        let asked = Asked::parse(asked)?;
        let mut options = asked.options()?;
        if let Some(at) = self.files.iter().position(|(name, _)| name == "--from") {
            let (name, bytes) = self.files.remove(at);
            options.running = Some(inspect::running(&name, bytes, options.slot_address)?);
        }
        let is_device = asked.page.map || self.files.len() > 1;
        let (name, report) = if is_device {
            let files = self.device()?;
            let name = files.name.clone();
            (
                name,
                device::inspect(files, &asked.values, &asked.places, &options)?,
            )
        } else {
            let Some((name, bytes)) = self.files.first() else {
                anyhow::bail!("there is no file");
            };
            (name.clone(), inspect::inspect(name, bytes, &options))
        };
        Ok(shown(&name, &report).to_string())
    }

    fn device(&mut self) -> anyhow::Result<Files> {
        let named = |name: &str| self.files.iter().position(|(found, _)| found == name);
        let (internal, external) = (named(folder::INTERNAL), named(folder::EXTERNAL));
        let settings = match named(folder::SETTINGS) {
            Some(at) => Some(serde_json::from_slice::<Settings>(&self.files[at].1)?),
            None => None,
        };
        let factory = named(folder::RECORD)
            .and_then(|at| folder::read_digest(&String::from_utf8_lossy(&self.files[at].1)));
        let mut flash = |at: Option<usize>| {
            at.and_then(|at| self.files.get_mut(at))
                .map(|(name, bytes)| Flash {
                    name: name.clone(),
                    bytes: std::mem::take(bytes),
                })
        };
        let is_folder = internal.is_some();
        let files = Files {
            internal: flash(internal.or(Some(0))).unwrap_or_default(),
            external: match is_folder {
                true => flash(external),
                false => flash(Some(1)),
            },
            settings,
            factory,
            name: String::new(),
        };
        Ok(Files {
            name: match is_folder {
                true => "device".to_owned(),
                false => files.internal.name.clone(),
            },
            ..files
        })
    }
}

/// The JSON of the command line, and what a page shows beyond it: the text, and the lines in their order.
fn shown(name: &str, report: &Report) -> Value {
    let mut json = report.json(name);
    let sections: Value = report
        .sections
        .iter()
        .map(|section| {
            let lines: Value = section
                .lines
                .iter()
                .map(|line| match line {
                    Line::Field(name, value) => json!({ "kind": "field", "name": name, "value": value }),
                    Line::Problem(text) => json!({ "kind": "problem", "value": text }),
                    Line::Unchecked(text) => json!({ "kind": "unchecked", "value": text }),
                    Line::Drawing(text) => json!({ "kind": "drawing", "value": text }),
                })
                .collect();
            json!({ "title": section.title, "lines": lines })
        })
        .collect();
    json["shown"] = json!({ "sections": sections, "verdict": report.verdict(), "text": report.text() });
    json
}

/// Explains the logs in a text or file. Returns a list: for each log the JSON of `bledfu replay --json`, with its `text` and its
/// `sequence` of arrows.
#[wasm_bindgen]
pub fn explain(bytes: &[u8]) -> Result<String, String> {
    let logs = replay::explain(&replay::decode(bytes)).map_err(|error| sentence(&error))?;
    let logs: Value = logs
        .iter()
        .map(|log| {
            let mut json = log.json();
            json["shown"] = json!({ "text": log.text(), "sequence": log.sequence() });
            json
        })
        .collect();
    Ok(logs.to_string())
}
