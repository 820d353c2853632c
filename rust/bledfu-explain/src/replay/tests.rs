// SPDX-License-Identifier: Apache-2.0
//! Logs and their verdicts: files of `tests/vectors/logs`, whose names say what is expected, and short ones for the other signatures.

use std::path::Path;

use proptest::prelude::*;

use super::{catalogue, explain, Explained};

fn one(text: &str) -> Explained {
    let mut logs = explain(text).expect("the target starts");
    assert_eq!(logs.len(), 1, "{text}");
    logs.remove(0)
}

/// The verdict as the report begins it.
fn verdict(text: &str) -> String {
    match one(text).verdict() {
        Some((id, line)) => format!("{id} @{line}"),
        None => "-".to_owned(),
    }
}

fn vectors() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/logs");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_log_of_the_vectors_has_the_verdict_in_its_name() {
    let files = vectors();
    assert!(files.len() >= 14);
    for (name, text) in files {
        let log = one(&text);
        let mut parts = name.split('-').skip(1);
        let wanted = (
            parts.next().expect("an ID"),
            parts.next().expect("a line").parse().expect("a number"),
        );
        assert_eq!(log.verdict(), Some(wanted), "{name}\n{}", log.text());
        let report = log.text();
        assert!(
            report.contains(&format!("\n{} @{} (", wanted.0, wanted.1)),
            "{report}"
        );
        let too_wide = report.lines().find(|line| line.chars().count() > 80);
        assert_eq!(too_wide, None, "{name}");
    }
}

#[test]
fn no_address_and_no_name_of_a_log_gets_into_a_report() {
    for (name, text) in vectors() {
        let log = one(&text);
        for report in [log.text(), log.json().to_string()] {
            for secret in ["C0:FF:EE", "DfuTarg", "Sensor", "8ec90001", "8EC90001", "node "] {
                assert!(!report.contains(secret), "{name}: {secret} in {report}");
            }
        }
    }
}

#[test]
fn the_case_is_answered_as_its_own_tests_say() {
    let log = |name: &str| {
        let files = vectors();
        one(&files
            .iter()
            .find(|(found, _)| found.starts_with(name))
            .expect("the vector")
            .1)
    };
    let bank_1 = log("case_bank1");
    let replay = bank_1.replay.as_ref().expect("a replay");
    let wrong: Vec<&super::target::Played> = replay
        .played
        .iter()
        .filter(|played| played.same == super::target::Same::No)
        .collect();
    assert_eq!(wrong.len(), 1, "{}", bank_1.text());
    assert_eq!(wrong[0].answer[..7], [0x60, 3, 1, 0, 0x20, 0, 0]);
    let bank_0 = log("case_bank0");
    let replay = bank_0.replay.as_ref().expect("a replay");
    assert!(replay.own_init);
    assert_eq!(
        (replay.played.len(), replay.same()),
        (17, 16),
        "{}",
        bank_0.text()
    );
    let last = replay.played.last().expect("a request");
    assert_eq!(last.answer[..7], [0x60, 3, 1, 0, 0x40, 0, 0]);
}

#[test]
fn the_first_piece_of_an_upload_is_answered_before_any_client_gives_up() {
    let files = vectors();
    let log = one(&files
        .iter()
        .find(|(name, _)| name.starts_with("L09"))
        .expect("the vector")
        .1);
    let first = log.pieces.first().expect("a piece");
    assert_eq!(first.answer, Ok(2404), "the offset of the log's late answer");
    assert!(first.took_ms < 2000.0, "{}", first.took_ms);
    assert!(
        log.text()
            .contains("line 6, offset 0: offset 2404 after 46200 ms"),
        "{}",
        log.text()
    );
}

#[test]
fn the_trailers_of_a_boot_log_are_decided_as_mcuboot_does() {
    for (name, text) in vectors().iter().filter(|(name, _)| name.contains("-B")) {
        let report = one(text).text();
        assert!(report.contains("as in the log"), "{name}: {report}");
        assert!(!report.contains("unlike the log"), "{name}: {report}");
    }
}

/// A line of the update, with a time that rises.
fn android(lines: &[&str]) -> String {
    let mut text = "nRF Connect, 2025-01-01\n".to_owned();
    for (second, line) in lines.iter().enumerate() {
        text.push_str(&format!("I\t10:00:{second:02}.000\t[DFU] {line}\n"));
    }
    text
}

const CONTROL: &str = "8ec90001-f315-4f60-9fb8-838830daea50";

fn write(bytes: &str) -> String {
    format!("Writing to characteristic {CONTROL}, value (0x): {bytes}")
}

fn notify(bytes: &str) -> String {
    format!("Notification received from {CONTROL}, value (0x): {bytes}")
}

#[test]
fn each_refusal_has_its_signature() {
    let refused = |before: &[&str], request: &str, answer: &str| {
        let (request, answer) = (write(request), notify(answer));
        let mut lines = before.to_vec();
        lines.extend([request.as_str(), answer.as_str()]);
        verdict(&android(&lines))
    };
    let data = ["Command object executed", "Data object (1/3) created"];
    assert_eq!(refused(&[], "01-01-8B-00-00-00", "60-01-04"), "S18 @3");
    assert_eq!(
        refused(&["Command object created"], "04", "60-04-0B-06"),
        "S20 @4"
    );
    assert_eq!(
        refused(&["Command object created"], "04", "60-04-0B-08"),
        "S21 @4"
    );
    assert_eq!(refused(&["Command object created"], "04", "60-04-0A"), "S16 @4");
    assert_eq!(refused(&data, "04", "60-04-08"), "S17 @5");
    assert_eq!(refused(&data, "01-02-00-1F-00-00", "60-01-03"), "S23 @5");
    assert_eq!(refused(&data, "01-02-00-10-00-00", "60-01-05"), "S15 @5");
}

#[test]
fn signatures_of_phones_and_links() {
    let at = |lines: &[&str]| verdict(&android(lines));
    let upload = [
        "MTU changed to: 517",
        "Command object executed",
        "Data object (1/3) created",
        "Uploading firmware...",
    ];
    let lost = "[Callback] Connection state changed with status: 8 and new state: DISCONNECTED (0)";
    let mut lines = upload.to_vec();
    lines.push(lost);
    assert_eq!(at(&lines), "S25 @5");
    lines[0] = "MTU changed to: 247";
    assert_eq!(at(&lines), "S6 @5");
    *lines.last_mut().unwrap() =
        "[Callback] Connection state changed with status: 19 and new state: DISCONNECTED (0)";
    assert_eq!(at(&lines), "S7 @6");
    *lines.last_mut().unwrap() = "Device has disconnected";
    assert_eq!(at(&lines), "S9 @6");
    assert_eq!(at(&["Error 133: Connection timeout"]), "S8 @2");
    assert_eq!(at(&["DFU Service not found"]), "S12 @2");
    assert_eq!(at(&["Error (0x100C): DFU INIT PACKET REQUIRED"]), "S13 @2");
    let crc = "CRC does not match! Expected 12345678 but found 87654321. Retrying...(1/3)";
    assert_eq!(
        at(&[
            upload[1],
            upload[2],
            "Checksum received (Offset = 4096, CRC = 87654321)",
            crc
        ]),
        "S3 @4"
    );
    let receipts = "Packet Receipt Notif Req (Op Code = 2) sent (Value = 12)";
    assert_eq!(
        at(&[
            upload[1],
            receipts,
            upload[2],
            "Uploading firmware...",
            "Device has disconnected"
        ]),
        "S4 @5"
    );
    let jump = "Response received (Op Code = 1, Status = 1)";
    assert_eq!(
        at(&[jump, "Scanning for the DFU Bootloader", "x", "x", "x", "x", lost]),
        "S11 @8"
    );
    let name = "Writing to characteristic 8ec90003-f315-4f60-9fb8-838830daea50, value (0x): 02-03-41-42-43";
    let answer = "Notification received from 8ec90003-f315-4f60-9fb8-838830daea50, value (0x): 20-02-02";
    assert_eq!(at(&[name, answer]), "S24 @3");
    let last = [
        "Data object (3/3) created",
        "Data object executed",
        "x",
        "Services discovered",
    ];
    assert_eq!(at(&last), "S26 @3");
    assert_eq!(
        at(&[
            "Data object (3/3) created",
            "Data object executed",
            "Upload completed in 5000 ms"
        ]),
        "-"
    );
    assert_eq!(
        verdict("<error> nrf_bootloader: Boot validation failed"),
        "S27 @1"
    );
    assert_eq!(
        verdict("2025-01-01 10:00:00,000 x\nNordicSemiException: No ping response after opening COM port"),
        "S28 @2"
    );
}

#[test]
fn signatures_of_smp() {
    let head = "Device Manager, 2025-01-01";
    let sent = |second: u32, seq: u32, of: (u32, u32), cbor: &str| {
        format!("I\t10:00:{second:02}.000\t[e] Sending (100 bytes) Header (Version: 1, Op: 2, Flags: 0, Len: 92, Group: {}, Seq: {seq}, Command: {}) CBOR {cbor}", of.0, of.1)
    };
    let got = |second: u32, seq: u32, of: (u32, u32), cbor: &str| {
        format!("I\t10:00:{second:02}.000\t[e] Received Header (Version: 1, Op: 3, Flags: 0, Len: 8, Group: {}, Seq: {seq}, Command: {}) CBOR {cbor}", of.0, of.1)
    };
    let (upload, state) = ((1, 1), (1, 0));
    let first = |answer: &str| {
        verdict(
            &[
                head.to_owned(),
                sent(0, 1, upload, r#"{"off":0,"len":9000}"#),
                got(1, 1, upload, answer),
            ]
            .join("\n"),
        )
    };
    assert_eq!(first(r#"{"rc":2}"#), "M4 @3");
    assert_eq!(first(r#"{"rc":9}"#), "M8 @3");
    assert_eq!(first(r#"{"rc":10}"#), "M9 @3");
    assert_eq!(first(r#"{"err":{"group":1,"rc":30}}"#), "M10 @3");
    assert_eq!(first(r#"{"err":{"group":1,"rc":9}}"#), "M5 @3");
    assert_eq!(first(r#"{"off":9000,"match":false}"#), "M13 @3");
    let marked = |answer: &str| {
        verdict(
            &[
                head.to_owned(),
                sent(0, 1, state, r#"{"hash":"x"}"#),
                got(1, 1, state, answer),
            ]
            .join("\n"),
        )
    };
    assert_eq!(marked(r#"{"err":{"group":1,"rc":8}}"#), "M6 @3");
    assert_eq!(marked(r#"{"rc":3}"#), "M7 @3");
    let os = (0, 6);
    assert_eq!(
        verdict(
            &[
                head.to_owned(),
                sent(0, 1, os, "{}"),
                got(1, 1, os, r#"{"rc":8}"#)
            ]
            .join("\n")
        ),
        "M1 @3"
    );
    let pieces = |offs: &[u32]| {
        let mut lines = vec![head.to_owned()];
        for (seq, off) in offs.iter().enumerate() {
            let seq = seq as u32;
            lines.push(sent(seq * 2, seq, upload, &format!(r#"{{"off":{off}}}"#)));
            lines.push(got(
                seq * 2 + 1,
                seq,
                upload,
                &format!(r#"{{"off":{}}}"#, off + 100),
            ));
        }
        lines
    };
    let mut lines = pieces(&[0, 100, 200]);
    lines.push(
        "W\t10:00:30.000\t[u] Uploader write failure for chunk with offset=200: Transaction 2 timed out"
            .to_owned(),
    );
    assert_eq!(verdict(&lines.join("\n")), "M3 @6");
    assert_eq!(verdict(&pieces(&[0, 100, 0]).join("\n")), "M12 @6");
    assert_eq!(
        verdict(&pieces(&[0, 0, 0, 0]).join("\n")).split(' ').next(),
        Some("M12")
    );
    assert_eq!(
        verdict(&[head, "E\t10:00:00.000\tFailed to negotiate MTU, disconnecting..."].join("\n")),
        "M15 @2"
    );
    let reset = (0, 5);
    assert_eq!(
        verdict(&[head.to_owned(), sent(0, 1, reset, "{}")].join("\n")),
        "M16 @2"
    );
    assert_eq!(
        verdict("[00:00:01.000,000] <err> mcumgr_img_grp: Irrecoverable error: flash write failed: -5"),
        "M11 @1"
    );
    let pending = "E\t10:00:00.000\tPending flag of slot 1 of image 0 not set. Possible reason: downgrade prevention enabled";
    assert_eq!(verdict(&[head, pending].join("\n")), "M14 @2");
}

#[test]
fn signatures_of_the_boot_stage() {
    let boot = |line: &str| verdict(&format!("*** Booting MCUboot v2.1.0 ***\n{line}"));
    assert_eq!(boot("W: Not enough free space to run swap upgrade"), "B2 @2");
    assert_eq!(boot("E: Unable to find bootable image"), "B3 @2");
    assert_eq!(boot("W: Cannot upgrade: slots are not compatible"), "B4 @2");
    assert_eq!(
        boot("I: Secondary image: magic=bad, swap_type=0x2, copy_done=0x3, image_ok=0x3"),
        "B6 @2"
    );
    assert_eq!(boot("E: Failed to open flash area ID 1: -19"), "B7 @2");
}

#[test]
fn every_verdict_is_in_the_catalogue_and_unknown_texts_are_said_to_be_unknown() {
    assert!(explain("good morning\nnothing to see")
        .expect("it ends")
        .is_empty());
    let log = one("nRF Connect, 2025-01-01\nI\t10:00:00.000\t[DFU] something new\nanother line\n");
    assert!(log.text().contains("\nunknown: "), "{}", log.text());
    assert!(log.text().contains("not line 3"), "{}", log.text());
    for id in ["S1", "M16", "B7"] {
        assert!(catalogue::find(id).is_some());
    }
}

/// A line made of pieces that readers look for, so that a random text gets past them.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "nRF Connect, 2025-01-01", "\n", "I\t23:59:59.999\t", "V 00:00:00.000 ", "[DFU] ",
        "Writing to characteristic 8ec90001-f315-4f60-9fb8-838830daea50, value (0x): ",
        "Notification received from 8ec90001-f315-4f60-9fb8-838830daea50, value (0x): ",
        "Writing to characteristic 8ec90002-f315-4f60-9fb8-838830daea50 value (0x): ",
        "60-03-01-00-10-00-00-7C-E3-92-0A", "60-06-01-00-10-00-00-FF-FF-FF-FF-00-00-00-00", "60-04-01", "60-01-01", "01-02-FF-FF-FF-FF", "01-01-00-00-00-00", "02-01-00", "03", "04",
        "Data object (1/3) created", "Data object (4294967295/4294967295) created", "Command object executed", "Data object executed", "Uploading firmware...",
        "Checksum received (Offset = 4294967295, CRC = FFFFFFFF)", "Checksum received (Offset = 0, CRC = 0)", "4294967295 bytes were lost",
        "Packet Receipt Notif Req (Op Code = 2) sent (Value = 4294967295)", "MTU changed to: 4294967295", "MTU changed to: 0",
        "[Callback] Connection state changed with status: 8 and new state: DISCONNECTED (0)",
        "Connection parameters updated (interval: 7.5ms, latency: 0, timeout: 4294967295ms)",
        "SLIP: --> [1, 2, 0, 16, 0, 0]", "SLIP: <-- [96, 1, 1]", "nrf_dfu_req_handler: Offset:4294967295, CRC:0xFFFFFFFF",
        "Sending Header (Version: 1, Op: 2, Flags: 0, Len: 1, Group: 65536, Seq: 256, Command: 1) CBOR {\"off\":4294967295}",
        "<- [Seq: 1] 0b00ffff00010101a1 (9 bytes)", "Primary image: magic=good, swap_type=0xffffffff, copy_done=0x1, image_ok=0x3", "Swap type: test",
        "\u{1b}[31m", "é", "99:99:99.999 ",
    ];
    prop_oneof![
        4 => proptest::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => Just("\n".to_owned()),
        1 => any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_text_is_explained_without_a_panic_and_in_80_columns(pieces in proptest::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        for log in explain(&text).expect("the target starts") {
            let report = log.text();
            prop_assert!(report.lines().all(|line| line.chars().count() <= 80), "{}", report);
            prop_assert!(log.json().is_object());
        }
    }
}
