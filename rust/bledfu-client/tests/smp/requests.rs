// SPDX-License-Identifier: Apache-2.0
//! The requests around the upload: what each application asks, marks and repeats.

use crate::common::pattern;
use crate::link::{applications, gap, update};
use crate::server::{Server, NEW, OLD};
use bledfu_client::smp::{Error, Mode, Settings};
use bledfu_client::Stage;

#[test]
fn android_asks_tests_resets_and_confirms_in_this_order() {
    let mut server = Server::new();
    let outcome = update(&mut server, Settings::android());
    assert_eq!(outcome.end, Ok(()));
    assert_eq!(server.sequences[0], 0xFF);
    let mut log = server.log.clone();
    log.retain(|line| !line.starts_with("piece") || line.starts_with("piece 0"));
    let expected = [
        "-",
        "Parameters",
        "Parameters",
        "Info { format: \"sv\" }",
        "group 128",
        "BootloaderInfo { query: None }",
        "BootloaderInfo { query: Some(\"active_b0_slot\") }",
        "BootloaderInfo { query: Some(\"mode\") }",
        "BootloaderInfo { query: None }",
        "BootloaderInfo { query: Some(\"mode\") }",
        "list",
        "piece 0 len sha",
        "test 2",
        "Reset { force: false, boot_mode: None }",
        "-",
        "Parameters",
        "confirm 2",
    ];
    assert_eq!(log, expected);
    assert!(server.held == pattern(6_000));
    assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
    assert_eq!(outcome.progress.stage, Stage::Verified);
    assert_eq!(outcome.progress.held, 6_000);
}

#[test]
fn ios_and_smpclient_list_the_images_before_they_confirm() {
    for settings in [Settings::ios(), Settings::smpclient()] {
        let mut server = Server::new();
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log[server.log.len() - 2..], ["list", "confirm 2"]);
        assert_eq!((server.running.hash, server.running.confirmed), (NEW, true));
    }
}

#[test]
fn every_mode_marks_the_image_as_chosen() {
    for settings in applications() {
        for (mode, marked, running, confirmed) in [
            (Mode::TestOnly, "test 2", NEW, false),
            (Mode::ConfirmOnly, "confirm 2", NEW, true),
            (Mode::UploadOnly, "", OLD, true),
        ] {
            let mut server = Server::new();
            let settings = Settings { mode, ..settings };
            assert_eq!(update(&mut server, settings).end, Ok(()));
            assert_eq!(server.log.iter().any(|line| line == marked), !marked.is_empty());
            assert_eq!(
                (server.running.hash, server.running.confirmed),
                (running, confirmed)
            );
            assert_eq!(server.resets, 1);
        }
    }
}

#[test]
fn the_first_request_of_android_may_stay_unanswered() {
    let mut server = Server::new();
    server.lost = vec![1];
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    assert_eq!(gap(&server, 1, 2), 1_000);
}

#[test]
fn an_unanswered_reset_is_tolerated_by_android_only() {
    for (settings, expected) in [
        (Settings::android(), Ok(())),
        (Settings::ios(), Err(Error::LinkLost)),
        (Settings::smpclient(), Err(Error::LinkLost)),
    ] {
        let mut server = Server::new();
        update(&mut server, settings);
        let requests = server.log.iter().filter(|line| *line != "-");
        let reset = 1 + requests
            .clone()
            .position(|line| line.starts_with("Reset"))
            .unwrap();
        let mut server = Server::new();
        server.breaks_at = vec![reset];
        // The device resets, but the link is gone before it has answered.
        let settings = Settings {
            mode: Mode::TestOnly,
            ..settings
        };
        assert_eq!(update(&mut server, settings).end, expected, "{settings:?}");
    }
}

#[test]
fn a_device_that_keeps_the_link_open_after_a_reset_has_its_own_error() {
    let mut server = Server::new();
    server.never_closes = true;
    assert_eq!(
        update(&mut server, Settings::android()).end,
        Err(Error::LinkStaysOpen)
    );
}
