// SPDX-License-Identifier: Apache-2.0
//! Whole updates with Secure DFU, some with power cuts.

use std::time::{Duration, Instant};

use bledfu_sim::phone::secure_dfu::{Client, Phone, Session};
use bledfu_sim::phone::PhoneError;
use bledfu_wire::secure_dfu::{op, ExtendedCode, ResultCode};

use crate::common::vector_path;
use crate::port::package;
use crate::server::Server;

/// The boot after a power cut reverts 2.0.0.
fn reverts(server: &mut Server) {
    server.cut();
    server.start();
    assert_eq!(server.line("boot stage:"), "boot stage: installed (revert)");
    assert_eq!(server.line("running"), "running 1.0.0 (confirmed)");
    assert_eq!(server.line("reverted"), "reverted 2.0.0 -> 1.0.0");
}

#[test]
fn an_update_over_the_bluetooth_door_is_installed_and_confirmed() {
    let mut server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.update("small-2.0.0").unwrap();
    assert_eq!(server.line("boot stage:"), "boot stage: installed (test)");
    assert_eq!(server.line("running"), "running 2.0.0 (test)");
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    // The next update uses the same doors of the same process.
    server.gatt().update("small-3.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 2.0.0 -> 3.0.0, confirmed");
    assert_eq!(server.restart(), "running 3.0.0 (confirmed)");
}

#[test]
fn the_link_is_closed_a_tenth_of_a_second_after_the_last_answer() {
    let server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.update("small-2.0.0").unwrap();
    let answered = Instant::now();
    assert!(phone.is_closed());
    let kept = answered.elapsed();
    // The client may see the answer a little late, so the limits are wide.
    assert!(
        kept > Duration::from_millis(60) && kept < Duration::from_secs(5),
        "{kept:?}"
    );
}

#[test]
fn an_update_over_the_serial_door_is_installed_and_confirmed() {
    let mut server = Server::new(&[]);
    let mut tool = server.slip();
    assert_eq!(tool.ask(&[op::PING, 5]), [0x60, op::PING, 1, 5]);
    assert_eq!(tool.ask(&[op::MTU]), [0x60, op::MTU, 1, 131, 0]);
    tool.update("medium-2.3.4").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.3.4+5, confirmed");
}

#[test]
fn a_transfer_resumes_after_a_power_cut() {
    for (options, kept) in [(&[][..], 32768), (&["--object-size", "4096"], 5 * 4096)] {
        let mut server = Server::new(options);
        let mut phone = server.gatt();
        let package = package("medium-2.3.4");
        let outcome = Client::new(&mut phone, Phone::Android, 0).update(&package, &mut |executed| {
            if executed >= kept {
                server.cut();
            }
        });
        assert_eq!(outcome, Err(PhoneError::LinkLost));
        assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
        let session = server.gatt().update("medium-2.3.4").unwrap();
        assert_eq!(session.resumed_at, kept);
        assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.3.4+5, confirmed");
    }
}

#[test]
fn a_swap_resumes_after_a_power_cut() {
    let mut server = Server::new(&["real"]);
    server.gatt().update("small-2.0.0").unwrap();
    server.line("resetting");
    // The swap takes more than a second, so this is in its first half.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(server.restart(), "running 2.0.0 (test)");
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn an_image_that_does_not_confirm_itself_is_reverted_at_the_next_reset() {
    let mut server = Server::new(&["--no-confirm"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
    reverts(&mut server);
}

#[test]
fn copy_installs_successive_updates_and_reverts_one() {
    let mut server = Server::new(&["--install", "copy"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    server.gatt().update("small-3.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 2.0.0 -> 3.0.0, confirmed");
    assert_eq!(server.restart(), "running 3.0.0 (confirmed)");

    let mut server = Server::new(&["--install", "copy", "--no-confirm"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
    reverts(&mut server);
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
}

#[test]
fn serve_uses_the_keys_of_the_command_line() {
    let refusal = |outcome: Result<Session, PhoneError>| match outcome {
        Err(PhoneError::Refused {
            opcode: op::EXECUTE,
            code,
        }) => code,
        other => panic!("{other:?}"),
    };
    let key = |name: &str| vector_path(&format!("keys/{name}.pem"));

    // The package key is given by its private half, the image key by its public half. The factory image stays valid in any case.
    let mut server = Server::new(&[
        "--public-key",
        &key("other-package"),
        "--image-key",
        &key("image.pub"),
    ]);
    assert_eq!(
        refusal(server.gatt().update("small-2.0.0")),
        ResultCode::InvalidObject
    );
    server.gatt().update("wrong-signature").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");

    let mut server = Server::new(&["--image-key", &key("other-image")]);
    assert_eq!(
        refusal(server.gatt().update("small-2.0.0")),
        ResultCode::Extended(ExtendedCode::VerificationFailed)
    );
    server.gatt().update("wrong-image-key").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
}
