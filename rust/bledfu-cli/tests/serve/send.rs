// SPDX-License-Identifier: Apache-2.0
//! `bledfu send` to a device of `bledfu serve`, over each of its doors.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ExitStatus, Output, Stdio};

use serde_json::Value;

use crate::common::{bledfu, vector_path};
use crate::server::Server;

/// Events of a run with `--json`.
pub struct Sending {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    events: Vec<Value>,
}

impl Sending {
    pub fn start(file: &str, options: &[&str]) -> Self {
        let mut process = bledfu("send")
            .arg(vector_path(file))
            .args(options)
            .arg("--json")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            process,
            lines,
            events: Vec::new(),
        }
    }

    /// The next event; `None` at the end.
    fn next(&mut self) -> Option<&Value> {
        let line = self.lines.next()?.unwrap();
        self.events.push(serde_json::from_str(&line).unwrap());
        self.events.last()
    }

    /// Waits until this many bytes of the image are sent, but not all.
    fn await_bytes(&mut self, bytes: u64) {
        loop {
            let event = self.next().expect("the end of the output before that many bytes");
            if event["event"] == "progress" && event["bytes"].as_u64().unwrap() >= bytes {
                assert!(
                    event["bytes"].as_u64() < event["total"].as_u64(),
                    "all were sent at once"
                );
                return;
            }
        }
    }

    /// Everything up to the end: the exit status, and what went to the standard error.
    pub fn end(&mut self) -> (ExitStatus, String) {
        while self.next().is_some() {}
        let mut said = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (self.process.wait().unwrap(), said)
    }

    fn ends_well(&mut self) {
        let (status, said) = self.end();
        assert!(status.success(), "{said}\n{:?}", self.events);
    }

    fn event(&self, name: &str) -> &Value {
        let mut events = self.events.iter();
        events
            .find(|event| event["event"] == name)
            .unwrap_or_else(|| panic!("no event {name}: {:?}", self.events))
    }

    pub fn has(&self, name: &str) -> bool {
        self.events.iter().any(|event| event["event"] == name)
    }
}

fn path(server: &Server, name: &str) -> String {
    server.folder.path().join(name).to_str().unwrap().to_owned()
}

/// A device with a terminal for each protocol, and SMP over UDP.
fn device(options: &[&str]) -> (Server, String, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (slip, console) = (place("slip"), place("console"));
    let primary = vector_path("images/small-1.0.0.signed.bin");
    let fixed = [
        "--primary",
        &primary,
        "--slip-pty",
        &slip,
        "--smp-pty",
        &console,
        "--smp-udp",
        "127.0.0.1:0",
    ];
    let options = fixed.iter().chain(options).map(ToString::to_string).collect();
    let server = Server::in_folder(folder, options);
    let udp = server.address("smp-udp");
    (server, slip, console, udp)
}

#[test]
fn a_package_is_sent_over_a_serial_port_until_its_version_runs() {
    let (mut server, slip, ..) = device(&[]);
    let mut sending = Sending::start("packages/medium-2.3.4.zip", &["--serial", &slip]);
    sending.ends_well();
    assert_eq!(sending.event("plan")["protocol"], "Secure DFU");
    assert_eq!(sending.event("runs")["version"], "2.3.4+5");
    assert_eq!(sending.event("runs")["proof"], "the answer to the same package");
    server.line("updated 1.0.0 -> 2.3.4+5, confirmed");
    // Once more: the device tells that nothing is missing.
    let mut again = Sending::start("packages/medium-2.3.4.zip", &["--serial", &slip, "--prn", "4"]);
    again.ends_well();
    assert_eq!(again.event("runs")["version"], "2.3.4+5");
    assert_eq!(server.restart(), "running 2.3.4+5 (confirmed)");
}

#[test]
fn receipts_may_be_asked_for() {
    let (mut server, slip, ..) = device(&[]);
    Sending::start("packages/odd-2.0.0.zip", &["--serial", &slip, "--prn", "4"]).ends_well();
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn an_image_is_sent_over_a_console_and_confirmed() {
    let (mut server, _, console, _) = device(&["--no-confirm"]);
    let mut sending = Sending::start("images/small-3.0.0.signed.bin", &["--serial", &console]);
    sending.ends_well();
    assert_eq!(sending.event("plan")["protocol"], "SMP");
    assert_eq!(sending.event("runs")["before"], "1.0.0");
    assert_eq!(sending.event("runs")["confirmed"], true);
    server.line("updated 1.0.0 -> 3.0.0, not confirmed");
    assert_eq!(server.restart(), "running 3.0.0 (confirmed)");
}

#[test]
fn over_udp_a_version_may_be_left_on_trial() {
    let (mut server, _, _, udp) = device(&["--no-confirm"]);
    let mut sending = Sending::start("packages/medium-2.3.4.zip", &["--udp", &udp, "--no-confirm"]);
    sending.ends_well();
    assert_eq!(sending.event("runs")["confirmed"], false);
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
    let udp = server.address("smp-udp");
    // Now for good; and once more, when there is nothing to do.
    Sending::start("packages/medium-2.3.4.zip", &["--udp", &udp]).ends_well();
    let mut again = Sending::start("packages/medium-2.3.4.zip", &["--udp", &udp]);
    again.ends_well();
    assert!(
        again.has("already") && !again.has("progress"),
        "{:?}",
        again.events
    );
    assert_eq!(server.restart(), "running 2.3.4+5 (confirmed)");
}

#[test]
fn a_power_cut_in_the_transfer_only_delays_it() {
    let (mut server, slip, ..) = device(&["real"]);
    let mut sending = Sending::start("packages/demo-2.0.0.zip", &["--serial", &slip]);
    sending.await_bytes(100_000);
    server.cut();
    server.start();
    sending.ends_well();
    assert!(sending.has("lost"), "{:?}", sending.events);
    let resumed = sending.event("resumed")["at"].as_u64().unwrap();
    assert!(resumed >= 32_768, "resumed at {resumed}");
    assert_eq!(sending.event("runs")["version"], "2.0.0");
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn a_power_cut_in_the_transfer_over_udp_only_delays_it() {
    let address = {
        let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        probe.local_addr().unwrap().to_string()
    };
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--smp-udp",
        &address,
        "--primary",
        &vector_path("images/small-1.0.0.signed.bin"),
        "real",
    ];
    let mut server = Server::in_folder(folder, options.map(ToOwned::to_owned).into());
    let mut sending = Sending::start("packages/demo-2.0.0.zip", &["--udp", &address]);
    sending.await_bytes(50_000);
    server.cut();
    server.start();
    sending.ends_well();
    assert_eq!(sending.event("runs")["version"], "2.0.0");
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn a_second_run_goes_on_where_the_first_was_stopped() {
    let (mut server, slip, ..) = device(&["real"]);
    let mut first = Sending::start("packages/demo-2.0.0.zip", &["--serial", &slip]);
    first.await_bytes(100_000);
    first.process.kill().unwrap();
    first.end();
    let mut second = Sending::start("packages/demo-2.0.0.zip", &["--serial", &slip]);
    second.ends_well();
    assert!(second.event("resumed")["at"].as_u64().unwrap() >= 32_768);
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn a_refusal_of_the_device_ends_it_and_names_the_fault_of_the_file() {
    let (mut server, slip, _, udp) = device(&[]);
    for (file, options, message) in [
        (
            "packages/too-old.zip",
            ["--serial", &slip],
            "error: the device refused Execute: ",
        ),
        (
            "packages/wrong-hash.zip",
            ["--serial", &slip],
            "error: the device refused Execute: ",
        ),
        (
            "packages/wrong-image-key.zip",
            ["--udp", &udp],
            "error: the device refused Test: ",
        ),
    ] {
        let mut sending = Sending::start(file, &options);
        let (status, said) = sending.end();
        assert!(!status.success() && said.starts_with(message), "{said}");
        let told = sending.event("error")["message"].as_str().unwrap();
        assert_eq!(said.trim_end(), format!("error: {told}"));
        assert!(!sending.has("runs"));
    }
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
}

#[test]
fn a_rehearsal_changes_nothing() {
    let (mut server, slip, _, udp) = device(&[]);
    let before = std::fs::read_dir(server.folder.path()).unwrap().count();
    for options in [["--serial", &slip], ["--udp", &udp]] {
        let mut sending = Sending::start(
            "packages/medium-2.3.4.zip",
            &[options.as_slice(), &["--dry-run"]].concat(),
        );
        sending.ends_well();
        assert!(sending.has("dry_run") && !sending.has("progress"));
    }
    assert_eq!(std::fs::read_dir(server.folder.path()).unwrap().count(), before);
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
}

#[test]
fn the_report_is_a_page_with_the_version() {
    let (server, slip, ..) = device(&[]);
    let page = path(&server, "page.html");
    let mut sending = Sending::start(
        "packages/small-2.0.0.zip",
        &["--serial", &slip, "--report", &page],
    );
    sending.ends_well();
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.contains("small-2.0.0.zip sent to a device") && text.contains("Secure DFU"));
}

/// What `bledfu COMMAND FILE` says on the standard error.
fn refusal(command: &str, file: &str, options: &[&str]) -> String {
    let Output { status, stderr, .. } = bledfu(command).arg(file).args(options).output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn files_are_refused_in_the_words_of_update_before_a_device_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut program = vec![0; 64];
    program[..8].copy_from_slice(&[0, 0, 1, 0x20, 0x41, 0xC2, 0, 0]);
    let nowhere = ["--serial", "/nowhere"];
    for file in [
        write("empty.bin", b""),
        write("zephyr.elf", b"\x7FELF\x01\x01\x01"),
        write("zephyr.bin", &program),
        write("notes.txt", b"no image"),
        vector_path("packages/broken-truncated.zip"),
    ] {
        for protocol in ["secure-dfu", "smp"] {
            let options = ["--protocol", protocol];
            assert_eq!(
                refusal("send", &file, &[&options[..], &nowhere].concat()),
                refusal("update", &file, &options),
                "{file}"
            );
        }
        assert_eq!(
            refusal("send", &file, &nowhere),
            refusal("update", &file, &["--protocol", "smp"])
        );
    }
    let image = vector_path("images/small-2.0.0.signed.bin");
    assert_eq!(
        refusal(
            "send",
            &image,
            &["--protocol", "secure-dfu", "--serial", "/nowhere"]
        ),
        refusal("update", &image, &["--protocol", "secure-dfu"])
    );
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let image = vector_path("images/small-2.0.0.signed.bin");
    let said = refusal("send", &image, &["--serial", "/nowhere/port", "--patience", "0"]);
    assert!(said.starts_with("error: cannot open /nowhere/port: "), "{said}");
    let said = refusal("send", &image, &["--udp", "127.0.0.1:9", "--patience", "0"]);
    assert_eq!(
        said,
        "error: nothing answers SMP at 127.0.0.1:9 (tried for 0 s)\n"
    );
}
