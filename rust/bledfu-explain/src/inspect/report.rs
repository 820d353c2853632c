// SPDX-License-Identifier: Apache-2.0
//! The result of an inspection, printed as text in 80 columns or as one JSON object.

use std::fmt::{Display, Write as _};

use serde::Serialize;
use serde_json::{json, Value};

use crate::text::{wrap, wrapping, WIDTH};

/// Width of the column of field names, with the two spaces before and after it.
const NAME_WIDTH: usize = 25;

/// Indent of a value that does not fit on the line of its name.
const DEEP_INDENT: usize = 6;

/// Number of hex digits in a line: a SHA-256, or half a signature.
const HEX_WIDTH: usize = 64;

/// The verdict on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything was checked and is good.
    Good,
    /// Everything that was checked is good, but something could not be checked.
    Unchecked,
    /// Something is wrong.
    Wrong,
}

/// A line of a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A name and its value.
    Field(String, String),
    /// An error.
    Problem(String),
    /// What could not be checked, and what the check would need.
    Unchecked(String),
    /// A line of a drawing, unchanged.
    Drawing(String),
}

/// Lines under a heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// What an inspection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the file is.
    pub kind: String,
    /// The fields.
    pub sections: Vec<Section>,
    /// The errors, a sentence each, in the order in which they were found.
    pub problems: Vec<String>,
    /// What could not be checked, in the order in which it was found.
    pub unchecked: Vec<String>,
}

impl Report {
    pub(crate) fn heading(&mut self, title: impl Display) {
        self.sections.push(Section {
            title: title.to_string(),
            lines: Vec::new(),
        });
    }

    fn line(&mut self, line: Line) {
        if self.sections.is_empty() {
            self.heading("");
        }
        if let Some(section) = self.sections.last_mut() {
            section.lines.push(line);
        }
    }

    pub(crate) fn field(&mut self, name: impl Display, value: impl Display) {
        self.line(Line::Field(name.to_string(), value.to_string()));
    }

    pub(crate) fn drawing(&mut self, line: impl Display) {
        self.line(Line::Drawing(line.to_string()));
    }

    pub(crate) fn problem(&mut self, text: impl Display) {
        let text = text.to_string();
        if !self.problems.contains(&text) {
            self.line(Line::Problem(text.clone()));
            self.problems.push(text);
        }
    }

    pub(crate) fn unchecked(&mut self, text: impl Display) {
        let text = text.to_string();
        self.line(Line::Unchecked(text.clone()));
        if !self.unchecked.contains(&text) {
            self.unchecked.push(text);
        }
    }

    /// The verdict.
    pub fn state(&self) -> Verdict {
        match (self.problems.is_empty(), self.unchecked.is_empty()) {
            (false, _) => Verdict::Wrong,
            (true, false) => Verdict::Unchecked,
            (true, true) => Verdict::Good,
        }
    }

    /// The last line of the output.
    pub fn verdict(&self) -> String {
        match self.state() {
            Verdict::Good => "good: everything was checked".to_owned(),
            Verdict::Unchecked => format!(
                "nothing wrong found, but not checked: {}",
                self.unchecked.join("; ")
            ),
            Verdict::Wrong => format!("wrong: {}", self.problems.join("; ")),
        }
    }

    /// The fields as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for section in &self.sections {
            if !text.is_empty() {
                text.push('\n');
            }
            let _ = writeln!(text, "{}", wrap(&section.title, 2));
            for line in &section.lines {
                let line = match line {
                    Line::Field(name, value) => field(name, value),
                    Line::Problem(problem) => field("WRONG", problem),
                    Line::Unchecked(what) => field("NOT CHECKED", what),
                    Line::Drawing(line) => line.clone(),
                };
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }

    /// The fields as JSON.
    pub fn json(&self, name: &str) -> Value {
        let sections = self.sections.iter().map(|section| {
            let fields = section.lines.iter().filter_map(|line| match line {
                Line::Field(name, value) => Some(json!({ "name": name, "value": value })),
                _ => None,
            });
            json!({ "title": section.title, "fields": fields.collect::<Value>() })
        });
        json!({
            "file": name,
            "kind": self.kind,
            "verdict": self.state(),
            "problems": self.problems,
            "not_checked": self.unchecked,
            "sections": sections.collect::<Value>(),
        })
    }
}

/// A field in lines of at most [`WIDTH`] columns.
fn field(name: &str, value: &str) -> String {
    let mut text = format!("  {name:<width$} ", width = NAME_WIDTH - 3);
    let room = WIDTH - NAME_WIDTH;
    let fits = text.len() == NAME_WIDTH && value.split(' ').all(|word| word.len() <= room);
    let (width, indent) = match fits {
        true => (room, NAME_WIDTH),
        // A digest is never wrapped, so that it can be compared and copied.
        false => (WIDTH - DEEP_INDENT, DEEP_INDENT),
    };
    let value = break_hex(value);
    let lines = textwrap::wrap(&value, wrapping(width));
    if lines.len() == 1 && text.len() + value.len() <= WIDTH {
        text.push_str(&value);
        return text;
    }
    for (number, line) in lines.iter().enumerate() {
        if number > 0 || !fits {
            text.truncate(text.trim_end().len());
            let _ = write!(text, "\n{:indent$}", "");
        }
        text.push_str(line);
    }
    text.truncate(text.trim_end().len());
    text
}

/// Spaces between the lines of a long row of hex digits.
fn break_hex(value: &str) -> String {
    let is_long = |word: &str| word.len() > HEX_WIDTH && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = value.split(' ').map(|word| match is_long(word) {
        true => word
            .as_bytes()
            .chunks(HEX_WIDTH)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" "),
        false => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_wrapped_and_a_digest_stays_whole() {
        let digest = "ab".repeat(32);
        let mut report = Report::default();
        report.heading("a file");
        report.field("short", "value");
        report.field("SHA-256", &digest);
        report.field("signature", "cd".repeat(64));
        report
            .problem("a sentence that says at some length what is wrong, and what can be done about it, too");
        let text = report.text();
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.contains("\n  short                  value\n"), "{text}");
        assert!(text.contains(&format!("\n  SHA-256\n      {digest}\n")), "{text}");
        assert!(
            text.contains(&format!(
                "\n      {}\n      {}\n",
                "cd".repeat(32),
                "cd".repeat(32)
            )),
            "{text}"
        );
    }

    #[test]
    fn a_file_is_good_only_if_everything_was_checked() {
        let mut report = Report::default();
        assert_eq!(report.state(), Verdict::Good);
        report.unchecked("the signature: no key");
        assert_eq!(report.state(), Verdict::Unchecked);
        assert_eq!(
            report.verdict(),
            "nothing wrong found, but not checked: the signature: no key"
        );
        report.problem("it is cut short");
        assert_eq!(report.state(), Verdict::Wrong);
        let json = report.json("a.bin");
        assert_eq!(json["verdict"], "wrong");
        assert_eq!(json["not_checked"][0], "the signature: no key");
    }
}
