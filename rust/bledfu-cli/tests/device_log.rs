// SPDX-License-Identifier: Apache-2.0
//! `bledfu log`: what a device with CONFIG_BLEDFU_LOG_NUMBERS writes on its console.

mod common;

use std::io::Write;
use std::process::{Output, Stdio};

/// What the command makes of a log that comes through a pipe.
fn piped(log: &[u8]) -> Output {
    let mut child = common::bledfu("log")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(log).expect("it is read");
    drop(pipe);
    child.wait_with_output().expect("the program ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn numbers_become_sentences_and_other_lines_stay() {
    let shown = piped(
        b"*** Booting Zephyr OS ***\r\n[00:00:12.345,678] <inf> bledfu: #5a227e 401408 4096\r\n\xFF noise\r\n[00:00:13.000,000] \
          <inf> app: #3 is no number",
    );
    assert_eq!(
        text(&shown.stdout),
        "*** Booting Zephyr OS ***\n[00:00:12.345,678] <inf> bledfu: an update of 401408 bytes goes on at 4096\n\u{FFFD} noise\n\
         [00:00:13.000,000] <inf> app: #3 is no number\n"
    );
    assert_eq!(text(&shown.stderr), "");
    assert!(shown.status.success());
}

#[test]
fn a_number_of_another_version_is_told_once() {
    let shown = piped(b"<wrn> bledfu: #000001 5\n<wrn> bledfu: #000002\n");
    assert_eq!(
        text(&shown.stdout),
        "<wrn> bledfu: #000001 5\n<wrn> bledfu: #000002\n"
    );
    assert_eq!(
        text(&shown.stderr).matches("another version").count(),
        1,
        "{}",
        text(&shown.stderr)
    );
}

#[test]
fn a_file_is_read_and_a_missing_one_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("console.txt");
    std::fs::write(&path, "<inf> bledfu: #5a227e 1 0\n").expect("it is written");
    let shown = common::bledfu("log")
        .arg(&path)
        .output()
        .expect("the program runs");
    assert_eq!(
        text(&shown.stdout),
        "<inf> bledfu: an update of 1 bytes goes on at 0\n"
    );
    let missing = folder.path().join("missing");
    let shown = common::bledfu("log")
        .arg(&missing)
        .output()
        .expect("the program runs");
    assert!(!shown.status.success());
    assert!(
        text(&shown.stderr).contains("cannot read"),
        "{}",
        text(&shown.stderr)
    );
}
