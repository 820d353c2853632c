// SPDX-License-Identifier: Apache-2.0
//! `bledfu replay`, as a user runs it.

mod common;

use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use common::vector_path;

fn bledfu(folder: &Path, words: &[&str]) -> Output {
    let mut command = common::bledfu(words[0]);
    command.args(&words[1..]).current_dir(folder).stdin(Stdio::null());
    command.output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn runs(folder: &Path, words: &[&str]) -> String {
    let output = bledfu(folder, words);
    assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_log_is_explained_as_text_and_as_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let log = vector_path("logs/L04-S19-10.log");
    let said = runs(at, &["replay", &log]);
    assert!(
        said.lines().any(|line| line.starts_with("S19 @10 (sure): ")),
        "{said}"
    );
    let json: Value = serde_json::from_str(&runs(at, &["replay", &log, "--json"])).expect("JSON");
    assert_eq!(
        (&json["verdict"]["id"], &json["verdict"]["line"]),
        (&Value::from("S19"), &Value::from(10))
    );
    let requests = json["replay"]["requests"].as_array().unwrap();
    assert!(
        requests.len() == 3 && requests.iter().all(|request| request["same"] == true),
        "{json}"
    );

    std::fs::write(at.join("poem.txt"), "no log\n").unwrap();
    let output = bledfu(at, &["replay", "poem.txt"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("doc/replay.md lists the formats"));
}
