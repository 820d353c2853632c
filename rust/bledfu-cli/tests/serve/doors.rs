// SPDX-License-Identifier: Apache-2.0
//! Access to the doors: one client at a time, one device for each port and terminal.

use std::time::Duration;

use bledfu_sim::phone::DfuLink;
use bledfu_wire::secure_dfu::op;

use crate::common::vector_path;
use crate::server::{refused, Server};
use crate::smp::udp;

#[test]
fn the_terminal_outlives_clients_and_resets_and_is_removed_at_exit() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("port");
    // As left by a killed process.
    std::os::unix::fs::symlink("/dev/pts/no-such-terminal", &path).unwrap();
    let mut server = Server::new(&["--slip-pty", path.to_str().unwrap()]);
    assert_eq!(server.address("slip-pty"), path.to_str().unwrap());

    let mut first = Server::terminal(&path);
    assert_eq!(first.ask(&[op::PING, 1]), [0x60, op::PING, 1, 1]);
    // The client leaves in the middle of a frame, and with an answer unread.
    first.send(&[op::PING, 2, 0xC0, op::WRITE, 7, 7]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(first);
    std::thread::sleep(Duration::from_millis(200));

    let mut second = Server::terminal(&path);
    assert_eq!(second.ask(&[op::PING, 3]), [0x60, op::PING, 1, 3]);
    second.update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    assert_eq!(second.ask(&[op::PING, 4]), [0x60, op::PING, 1, 4]);
    assert_eq!(second.ask(&[op::FIRMWARE_VERSION, 1])[3..8], [1, 2, 0, 0, 0]);

    server.end();
    assert!(
        path.symlink_metadata().is_err(),
        "the symbolic link is still there"
    );
}

#[test]
fn one_client_at_a_time_owns_the_device() {
    let server = Server::new(&[]);
    let mut first = server.gatt();
    assert_eq!(first.ask(&[op::SELECT, 2])[..3], [0x60, op::SELECT, 1]);
    assert!(server.gatt().is_closed());
    assert!(server.slip().is_closed());
    assert_eq!(first.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    // A client that has closed its end never blocks the next one, not even with half a frame sent.
    for _ in 0..50 {
        first.send(&[200, 0, 2, 9]).unwrap();
        drop(first);
        first = server.gatt();
        assert_eq!(first.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    }
}

#[test]
fn a_write_that_does_not_fit_the_mtu_closes_the_link() {
    let server = Server::new(&["--mtu", "23"]);
    let mut phone = server.gatt();
    assert_eq!(phone.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    phone.packet(&[0; 20]).unwrap();
    assert_eq!(phone.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    phone.packet(&[0; 21]).unwrap();
    assert!(phone.is_closed());
    assert_eq!(server.gatt().ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}

#[test]
fn a_peer_that_aborts_is_disconnected() {
    let server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.control(&[op::ABORT]).unwrap();
    assert!(phone.is_closed());
    assert_eq!(server.gatt().ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}

#[test]
fn a_port_in_use_and_one_path_for_two_terminals_are_refused_with_one_sentence() {
    let (server, _) = udp();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let said = refused(&state, &["--smp-udp", &server.address("smp-udp")]);
    assert!(
        said.contains("--smp-udp") && said.contains("is another device behind that port?"),
        "{said}"
    );
    let path = folder.path().join("pty");
    let path = path.to_str().unwrap();
    let said = refused(&state, &["--smp-pty", path, "--slip-pty", path]);
    assert!(said.contains("a path each"), "{said}");
}

#[test]
fn a_second_device_does_not_take_over_the_terminal_of_a_running_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port");
    let port = path.to_str().unwrap();
    let primary = vector_path("images/small-1.0.0.signed.bin");
    let options = ["--slip-pty", port, "--primary", &primary].map(str::to_owned);
    let mut server = Server::in_folder(tempfile::tempdir().unwrap(), options.to_vec());
    let target = std::fs::read_link(&path).unwrap();
    let said = refused(&folder.path().join("other"), &["--slip-pty", port]);
    assert!(said.contains("another device serves"), "{said}");
    assert_eq!(
        std::fs::read_link(&path).unwrap(),
        target,
        "the symbolic link stays"
    );
    // A killed process leaves the symbolic link and its lock behind. They do not stop the next start.
    server.cut();
    server.restart();
    assert!(path.exists());
}
