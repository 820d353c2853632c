// SPDX-License-Identifier: Apache-2.0
//! The wiring on a faked device: the demo package's init packet and the first object go in as C would bring them.

use super::*;
use bledfu_zephyr::fake::{self, Geometry};
use bledfu_zephyr::flash::Partition;
use std::vec::Vec;

/// Keys that are not those of the fake: no packet passes, which is enough to see answers travel.
fn start(keys: &(start::KeyRing, start::KeyRing)) -> Device<'_> {
    let Ok(device) = Device::start(&keys.0, &keys.1) else {
        panic!("the faked device does not start")
    };
    INBOX.with(|inbox| *inbox = Inbox::new());
    device
}

fn keys() -> (start::KeyRing, start::KeyRing) {
    (
        start::keys(worker::Keys::Package),
        start::keys(worker::Keys::Image),
    )
}

fn settle(device: &mut Device<'_>) {
    while !INBOX.with(|inbox| inbox.is_empty()) {
        device.turn();
    }
}

fn write(channel: u8, bytes: &[u8]) {
    Firmware::push(channel, bytes).unwrap();
}

#[test]
fn a_request_is_answered_by_the_worker_and_not_before() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::link(true);
    write(0, &[6, 1]);
    assert!(fake.notified().is_empty());
    settle(&mut device);
    assert_eq!(fake.notified()[0][..3], [0x60, 6, 1]);
}

#[test]
fn a_refused_init_packet_is_told_to_the_product_and_touches_no_slot() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    let calls = fake.flash_calls();
    Firmware::link(true);
    write(0, &[1, 1, 4, 0, 0, 0]);
    write(1, &[0xFF; 4]);
    write(0, &[4]);
    settle(&mut device);
    assert_eq!(fake.notified().last().unwrap()[..], [0x60, 4, 5]);
    assert_eq!(fake.events().last().unwrap(), &(5, 4 << 16 | 5, 0));
    assert_eq!(fake.flash_calls(), calls);
}

#[test]
fn what_a_lost_peer_sent_is_forgotten_and_not_answered_to_the_next() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::link(true);
    write(0, &[6, 1]);
    Firmware::link(false);
    Firmware::link(true);
    write(0, &[2, 7, 0]);
    settle(&mut device);
    assert_eq!(fake.notified(), Vec::from([Vec::from([0x60, 2, 1])]));
}

#[test]
fn a_full_ring_is_said_and_taken_again_after_the_worker_ran() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::link(true);
    let mut taken = 0;
    while Firmware::push(1, &[0; 244]).is_ok() {
        taken += 1;
    }
    assert!(taken >= 4096 / 244);
    assert_eq!(Firmware::push(1, &[0; 513]), Err(NotTaken::TooLong));
    settle(&mut device);
    write(0, &[3]);
    settle(&mut device);
    assert_eq!(fake.notified()[0][..3], [0x60, 3, 1]);
}

#[test]
fn a_confirmation_is_done_by_the_worker_and_reported() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::confirm();
    settle(&mut device);
    assert_eq!(fake.events().last().unwrap(), &(7, 1, 0));
}

#[test]
fn a_peer_that_says_nothing_is_disconnected() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::link(true);
    settle(&mut device);
    while fake.disconnects() == 0 {
        device.turn();
        assert!(fake.uptime_ms() < 125_000);
    }
    assert!(fake.uptime_ms() >= 120_000);
}

#[test]
fn slots_that_cannot_be_swapped_stop_the_service_with_the_reason() {
    let fake = fake::device();
    fake.set_geometry(
        Partition::Secondary,
        Geometry {
            size: 0x8000,
            start: 0,
            sector: 4096,
            unit: 4,
        },
    );
    Firmware::run();
    assert_eq!(fake.events(), [(1, 0, 0)]);
    let (level, line) = fake.lines().pop().unwrap();
    assert_eq!(level, 1);
    assert!(line.starts_with("no updates with this build: "), "{line}");
}
