// SPDX-License-Identifier: Apache-2.0
//! `--report` and `bledfu replay`, as a user runs them.

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
fn an_update_is_drawn_and_compared_with_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let package = vector_path("packages/small-2.0.0.zip");
    let plain = ["update", &package, "--report", "plain.json"];
    let said = runs(at, &plain);
    let bar = said
        .lines()
        .find(|line| line.starts_with("where"))
        .expect("a bar");
    assert_eq!(bar.len(), 80, "{bar}");
    let run: Value = serde_json::from_slice(&std::fs::read(at.join("plain.json")).unwrap()).expect("JSON");
    let total = run["total_s"].as_f64().unwrap();
    let shares = run["seconds"].as_array().unwrap();
    let sum: f64 = shares.iter().map(|share| share[1].as_f64().unwrap()).sum();
    assert!(
        total > 1.0 && (sum - total).abs() < 1e-6,
        "every second counts once: {sum} of {total}"
    );

    let cut = [
        "update",
        &package,
        "--cut-at",
        "100",
        "--drop-link-at",
        "5000",
        "--report",
        "cut.html",
        "--compare",
        "plain.json",
    ];
    runs(at, &cut);
    let page = std::fs::read_to_string(at.join("cut.html")).unwrap();
    for wanted in [
        "the power is cut",
        "Two runs",
        "secondary slot, external flash",
        "internal flash",
        "<b>ring</b>",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(
        !page.contains("<script") && !page.contains("http"),
        "it needs nothing else"
    );

    for (words, why) in [
        (
            &["update", &package, "--report", "page.txt"][..],
            "--report writes FILE.html or FILE.json",
        ),
        (
            &["update", &package, "--report", "a.html", "--compare", "cut.html"],
            "is not a report of bledfu",
        ),
        (
            &["update", &package, "--report", "no-such/a.html"],
            "cannot write no-such/a.html",
        ),
        // It would be written once for each.
        (
            &["send", &package, "--all", "--report", "a.html"],
            "cannot be used with",
        ),
    ] {
        let output = bledfu(at, words);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}

#[test]
fn a_bench_is_drawn_as_a_table() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    runs(at, &["bench", "--install", "--report", "bench.html"]);
    let page = std::fs::read_to_string(at.join("bench.html")).unwrap();
    assert!(page.contains("<td>swap-offset</td><td class=\"n\">"), "{page}");
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
