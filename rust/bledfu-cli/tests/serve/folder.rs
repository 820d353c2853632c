// SPDX-License-Identifier: Apache-2.0
//! The folder of a device, and what is refused before the device starts.

use crate::common::{vector, vector_path};
use crate::server::{refused, Server};

#[test]
fn a_folder_whose_first_start_was_cut_becomes_a_new_device() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("factory.sha256"), "0000").unwrap();
    std::fs::write(folder.path().join("internal.new"), [0xFF; 100]).unwrap();
    let primary = vector_path("images/small-1.0.0.signed.bin");
    let options = ["--gatt-tcp", "127.0.0.1:0", "--primary", &primary].map(str::to_owned);
    let mut server = Server::in_folder(folder, options.to_vec());
    server.gatt().update("small-2.0.0").unwrap();
    server.line("updated");
    // The folder is a device now: the factory image is not programmed again.
    server.options = ["--gatt-tcp", "127.0.0.1:0"].map(str::to_owned).to_vec();
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn a_device_or_door_that_cannot_be_used_is_refused_with_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("device");
    let said = refused(&state, &[]);
    assert!(said.contains("the device has no door"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&state, &["--gatt-tcp", &address]);
    assert!(
        said.contains(&format!("cannot open --gatt-tcp {address}")),
        "{said}"
    );
    let said = refused(&state, &["--gatt-tcp", "nowhere"]);
    assert!(said.contains("cannot open --gatt-tcp nowhere"), "{said}");

    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let path = file.to_str().unwrap();
    let said = refused(&state, &["--slip-pty", path]);
    assert!(said.contains("exists and is not a link to a terminal"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    let said = refused(&state, &["--slip-tcp", "127.0.0.1:0", "--image-key", path]);
    assert!(said.contains("not a PEM file"), "{said}");
    let said = refused(&file, &["--slip-tcp", "127.0.0.1:0"]);
    assert!(said.contains("cannot make the folder"), "{said}");

    let fresh = folder.path().join("fresh");
    let damaged = folder.path().join("damaged.bin");
    let mut image = std::fs::read(vector("images/small-1.0.0.signed.bin")).unwrap();
    image[4000] ^= 1;
    std::fs::write(&damaged, &image).unwrap();
    let said = refused(
        &fresh,
        &[
            "--slip-tcp",
            "127.0.0.1:0",
            "--primary",
            damaged.to_str().unwrap(),
        ],
    );
    assert!(
        said.contains("the image for the primary slot cannot be used"),
        "{said}"
    );
    // No device was made.
    assert!(!fresh.join("internal.bin").exists());
}

#[test]
fn a_second_process_cannot_open_the_same_device() {
    let server = Server::new(&[]);
    let said = refused(server.folder.path(), &["--slip-tcp", "127.0.0.1:0"]);
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn the_life_of_a_device_is_drawn_and_compared_with_another() {
    let pages = tempfile::tempdir().unwrap();
    let [idle, busy] = ["idle.json", "busy.html"].map(|name| pages.path().join(name));
    let [idle, busy] = [&idle, &busy].map(|page| page.to_str().unwrap());
    Server::new(&["--report", idle]).end();
    let mut server = Server::new(&["--report", busy, "--compare", idle]);
    server.gatt().update("small-2.0.0").unwrap();
    server.line("updated");
    server.end();
    let page = std::fs::read_to_string(busy).unwrap();
    for wanted in [
        "A device in real time",
        "Two runs",
        "the phone connects",
        "nothing to do",
        "boot stage",
    ] {
        assert!(page.contains(wanted), "{wanted}");
    }
}
