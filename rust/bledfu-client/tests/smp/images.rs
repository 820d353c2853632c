// SPDX-License-Identifier: Apache-2.0
//! Images that the device holds before the update: the same one, another one on trial, one that is taken back.

use crate::link::{applications, pieces, update};
use crate::server::{Server, Slot, NEW, OTHER};
use bledfu_client::smp::Settings;

#[test]
fn an_image_that_the_device_holds_is_not_sent_again() {
    let waits = Slot {
        hash: NEW,
        ..Slot::default()
    };
    for settings in applications() {
        let mut server = Server::new();
        server.waiting = Some(waits);
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert!(pieces(&server).is_empty());
        assert!(server.running.confirmed && server.running.hash == NEW);
        // It is running already.
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log.last().map(String::as_str), Some("list"));
        // It is marked already: it is installed first.
        let mut server = Server::new();
        server.waiting = Some(Slot {
            pending: true,
            ..waits
        });
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert!(pieces(&server).is_empty());
        assert_eq!(
            (server.running.hash, server.running.confirmed, server.resets),
            (NEW, true, 1)
        );
    }
}

#[test]
fn the_same_image_on_trial_is_only_confirmed() {
    for settings in applications() {
        let mut server = Server::on_trial(NEW);
        assert_eq!(update(&mut server, settings).end, Ok(()));
        assert_eq!(server.log[server.log.len() - 2..], ["list", "confirm 2"]);
        assert_eq!(server.resets, 0);
    }
}

#[test]
fn android_resets_another_image_on_trial_and_ios_confirms_the_previous_one() {
    let mut server = Server::on_trial(OTHER);
    assert_eq!(update(&mut server, Settings::android()).end, Ok(()));
    let after_list = server.log.iter().position(|line| line == "list").unwrap() + 1;
    assert!(server.log[after_list].starts_with("Reset"));
    assert_eq!(server.running.hash, NEW);

    let mut server = Server::on_trial(OTHER);
    update(&mut server, Settings::ios()).end.ok();
    let after_list = server.log.iter().position(|line| line == "list").unwrap() + 1;
    assert_eq!(server.log[after_list], "confirm 1");
    assert_eq!(server.log[after_list + 1], "piece 0 len sha");

    let mut server = Server::on_trial(OTHER);
    assert_eq!(update(&mut server, Settings::smpclient()).end, Ok(()));
    assert!(server.log.iter().any(|line| line == "confirm 3"));
    assert_eq!(server.running.hash, NEW);
}

#[test]
fn an_image_that_is_taken_back_is_retried_but_not_forever() {
    for settings in applications() {
        let mut server = Server::new();
        server.reverts = true;
        let end = update(&mut server, settings).end;
        assert!(end.is_err());
        assert!((2..20).contains(&server.resets), "{} resets", server.resets);
    }
}
