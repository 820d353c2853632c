// SPDX-License-Identifier: Apache-2.0
//! Habits of a command line: closed pipes, full disks, JSON, quiet, colours, completions, manual pages, and planned mishaps that
//! were never reached.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use common::{vector, vector_path};

/// A small package: its update takes a moment.
fn small() -> String {
    vector_path("packages/small-2.0.0.zip")
}

fn bledfu(words: &[&str]) -> Command {
    let mut command = common::bledfu(words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command
}

fn update(words: &[&str]) -> Output {
    let small = small();
    let mut all = vec!["update", &small];
    all.extend(words);
    bledfu(&all).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Each line as JSON.
fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn a_closed_pipe_ends_the_program_silently() {
    for words in [
        &["update", &small()][..],
        &["bench", "--install"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut child = bledfu(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let mut line = String::new();
        let mut pipe = BufReader::with_capacity(1, child.stdout.take().expect("a pipe"));
        pipe.read_line(&mut line).expect("a line");
        drop(pipe);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(text(&output.stderr), "", "{words:?}");
        assert!(!line.is_empty());
    }
}

#[test]
fn a_full_disk_is_an_error_in_one_sentence() {
    for words in [
        &["update", &small()][..],
        &["update", &small(), "--json"],
        &["inspect", &small()],
        &["cut", "--algorithm", "overwrite"],
        &["bench", "--install"],
        &["completions", "zsh"],
        &["--help"],
    ] {
        let full = File::options().write(true).open("/dev/full").expect("a device");
        let output = bledfu(words).stdout(full).output().expect("the program runs");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        assert_eq!(
            said, "error: cannot write to the standard output: No space left on device (os error 28)\n",
            "{words:?}"
        );
    }
}

#[test]
fn update_prints_each_fact_as_a_json_line() {
    let output = update(&["--json", "--cut-at", "20"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let events = json_lines(&output);
    let event = |name: &str| {
        events
            .iter()
            .find(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("no {name} in {events:?}"))
    };
    assert_eq!(event("plan")["bytes"], 13636);
    assert_eq!(event("power_cut")["operation"], 20);
    assert_eq!(event("received")["sessions"], 2);
    assert_eq!(event("result")["after"], "2.0.0 (confirmed)");
    assert_eq!(event("result")["before"], "1.0.0 (confirmed)");
    assert!(event("costs")["operations"].as_u64() > Some(20));
}

#[test]
fn a_failed_update_is_reported_as_json_and_as_text() {
    let output = bledfu(&["update", "--json", "no-such-file.zip"])
        .output()
        .expect("the program runs");
    assert_eq!(output.status.code(), Some(1));
    let events = json_lines(&output);
    assert_eq!(events.len(), 1);
    let message = events[0]["message"].as_str().expect("a sentence");
    assert_eq!(text(&output.stderr), format!("error: {message}\n"));
    assert_eq!(message.matches("No such file").count(), 1, "{message}");
}

#[test]
fn a_mishap_that_is_never_reached_is_an_error_and_one_that_happens_is_reported() {
    let output = update(&["--cut-at", "99999999"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("error: --cut-at 99999999 was never reached: the update took "),
        "{said}"
    );
    let output = update(&["--drop-link-at", "5000", "--drop-link-at", "99999999"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.starts_with("error: --drop-link-at 99999999 was never reached: "),
        "{said}"
    );
    let output = update(&["--cut-at", "20"]);
    let printed = text(&output.stdout);
    assert!(output.status.success());
    assert!(printed.contains("\npower cut    after "), "{printed}");
    assert!(printed.contains(" kB/s in 2 sessions "), "{printed}");
}

#[test]
fn the_receive_time_counts_all_sessions() {
    let seconds = |words: &[&str]| {
        let mut all = vec!["--json"];
        all.extend(words);
        let events = json_lines(&update(&all));
        let received = events.iter().find(|event| event["event"] == "received");
        received.expect("an event")["seconds"].as_f64().expect("a number")
    };
    let undisturbed = seconds(&[]);
    // The user needs a second to press Start again.
    assert!(seconds(&["--drop-link-at", "9000"]) > undisturbed + 1.0);
}

#[test]
fn quiet_prints_nothing_and_keeps_the_exit_code() {
    let output = update(&["--quiet"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
    assert_eq!(text(&output.stderr), "");
    let output = update(&["--quiet", "--cut-at", "99999999"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let both = update(&["--quiet", "--json"]);
    assert_eq!((both.status.code(), both.stdout.len()), (Some(0), 0));
}

#[test]
fn the_log_of_an_update_has_virtual_time_and_three_levels() {
    let lines = |level: &str| {
        let output = update(&[level, "--cut-at", "20"]);
        assert!(output.status.success());
        let log = text(&output.stderr);
        assert!(!log.contains('\u{1b}'), "colours in a file");
        for line in log.lines() {
            let time = line.trim_start().split_once(" s ").map(|(time, _)| time);
            assert!(time.is_some_and(|time| time.parse::<f64>().is_ok()), "{line}");
        }
        log.lines().count()
    };
    let [information, requests, operations] = ["-v", "-vv", "-vvv"].map(lines);
    assert!(
        0 < information && information < requests && requests < operations,
        "{information} {requests} {operations}"
    );
}

#[test]
fn a_device_at_rest_wakes_for_nothing_and_its_flash_stays_off() {
    let output = bledfu(&["bench", "--idle", "--json"])
        .output()
        .expect("the program runs");
    let [all] = &json_lines(&output)[..] else {
        panic!("one line")
    };
    let row = |what: &str| {
        let rows = all["idle"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["what"] == what).expect(what);
        ["wakes", "flash_ns"].map(|figure| row[figure].as_u64().expect(figure))
    };
    assert_eq!(row("a day at rest"), [0, 0]);
    assert_eq!(row("the day after it, with the slot cleared again")[0], 0);
    let [wakes, flash_ns] = row("an update, until the new image runs");
    assert!(wakes > 100 && flash_ns > 1_000_000_000, "{wakes} {flash_ns}");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    const COMMANDS: [&str; 9] = [
        "update",
        "serve",
        "inspect",
        "package",
        "install",
        "cut",
        "bench",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let output = bledfu(&["completions", shell])
            .output()
            .expect("the program runs");
        let script = text(&output.stdout);
        assert!(output.status.success());
        for command in COMMANDS {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("man");
    let output = bledfu(&["man", path.to_str().expect("a path")])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    for command in COMMANDS {
        let page = std::fs::read_to_string(path.join(format!("bledfu-{command}.1"))).expect(command);
        assert!(page.contains(".SH NAME"), "{command}");
    }
}

#[test]
fn every_line_of_every_help_fits_a_screen() {
    for command in ["update", "serve", "inspect", "package", "install", "cut", "bench"] {
        let output = bledfu(&[command, "--help"])
            .env("COLUMNS", "80")
            .output()
            .expect("the program runs");
        for line in text(&output.stdout).lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
        }
    }
}

#[test]
fn every_line_of_every_update_fits_a_screen() {
    // Run in the folder of the package: a path is never broken, so a long one would not fit.
    let package = vector("packages/small-2.0.0.zip");
    let (folder, package) = (package.parent().expect("a folder"), package.file_name());
    for client in [
        &["--phone", "android"][..],
        &["--phone", "ios"],
        &["--phone", "nrfutil"],
        &["--protocol", "smp", "--phone", "android"],
        &["--protocol", "smp", "--phone", "ios"],
        &["--protocol", "smp", "--phone", "smpclient"],
    ] {
        for more in [
            &[][..],
            &["--no-confirm"],
            &["--used-slot", "--worst-case", "--mtu", "23", "--interval", "7.5"],
            &["--cut-at", "20"],
            &["--drop-link-at", "5000", "--drop-link-at", "9000"],
        ] {
            let output = bledfu(&["update"])
                .arg(package.expect("a name"))
                .current_dir(folder)
                .args(client)
                .args(more)
                .output()
                .expect("the program runs");
            let printed = text(&output.stdout);
            let complaint = text(&output.stderr);
            assert!(printed.contains("\nreceive "), "{client:?} {more:?}: {complaint}");
            for line in printed.lines() {
                assert!(line.chars().count() <= 80, "{client:?} {more:?}: {line}");
            }
        }
    }
}
