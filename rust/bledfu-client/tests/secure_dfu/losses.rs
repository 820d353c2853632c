// SPDX-License-Identifier: Apache-2.0
//! Lost and damaged packets, and the receipts that show them.

use crate::common::pattern;
use crate::device::{crc32, Device, MAX};
use crate::link::{count, init, package, update, Run};
use bledfu_client::secure_dfu::{Client, Error, Settings};
use bledfu_client::{Action, Characteristic, UpdateClient};
use bledfu_wire::secure_dfu::{op, Reply, Request};

#[test]
fn android_sends_only_the_missing_tail_and_a_receipt_for_each_packet_from_then_on() {
    let mut device = Device::new(3 * MAX);
    // The init packet is one packet and an object 17: these are the last two of the first object.
    device.lost = vec![17, 18];
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 3, "no object is created again: {log:?}");
    assert_eq!(count(&log, "020100"), 1);
    assert_eq!(log[7..12], ["010200100000", "03", "020100", "03", "04"]);
    assert_eq!(device.packets, 1 + 3 * 17 + 2);
}

#[test]
fn android_creates_the_object_again_when_bytes_are_missing_inside_it() {
    let mut device = Device::new(3 * MAX);
    device.lost = vec![5];
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 4);
    assert_eq!(log[7..11], ["010200100000", "03", "020100", "010200100000"]);
}

#[test]
fn android_cannot_repair_a_loss_in_the_last_object() {
    let mut device = Device::new(MAX + 1000);
    device.lost = vec![22];
    let (log, end) = update(&mut device, Settings::android());
    let offset = (MAX + 756) as u32;
    assert_eq!(end, Err(Error::ProgressLost { offset }));
    assert_eq!(
        log.last().map(String::as_str),
        Some("03"),
        "it closes the link without Abort"
    );
}

#[test]
fn the_third_wrong_crc_ends_the_update() {
    for settings in [
        Settings::android(),
        Settings {
            receipts: 0,
            ..Settings::ios()
        },
        Settings::nrfutil(),
    ] {
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![3, 20, 37];
        let (log, end) = update(&mut device, settings);
        assert_eq!(end, Err(Error::BytesLost { offset: MAX as u32 }), "{settings:?}");
        assert_eq!(count(&log, "0102"), 3);
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![3, 20];
        assert_eq!(update(&mut device, settings).1, Ok(()));
        // The init packet has three attempts too.
        let mut device = Device::new(2 * MAX);
        device.damaged = vec![1, 2, 3];
        let (log, end) = update(&mut device, settings);
        assert!(matches!(end, Err(Error::BytesLost { .. })));
        assert_eq!(count(&log, "0101"), 3);
    }
}

#[test]
fn android_stops_at_a_receipt_with_another_crc_and_lets_the_checksum_decide() {
    let settings = Settings {
        receipts: 4,
        ..Settings::android()
    };
    let mut device = Device::new(2 * MAX);
    device.damaged = vec![3];
    let (log, end) = update(&mut device, settings);
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "0102"), 3);
    // One of the init packet, four up to the receipt, two whole objects.
    assert_eq!(device.packets, 1 + 4 + 2 * 17);
}

#[test]
fn a_lost_packet_makes_android_wait_for_its_receipt_until_the_link_is_closed() {
    let settings = Settings {
        receipts: 4,
        ..Settings::android()
    };
    let (init, image) = (init(), pattern(2 * MAX));
    let mut device = Device::new(2 * MAX);
    device.lost = vec![3];
    let mut run = Run::new(&mut device);
    let end = run.update(package(&init, &image), settings);
    assert_eq!(end, Err(Error::NoReceipt { sent: 4 * 244 }));
    assert!(run.now >= 121_000, "the device closes an idle link after 120 s");
}

#[test]
fn ios_aborts_when_a_receipt_shows_lost_bytes() {
    let (init, image) = (init(), pattern(2 * MAX));
    let mut client = Client::new(package(&init, &image), Settings::ios());
    client.connected(0, 244);
    assert_eq!(answer_until_receipt(&mut client, &init), 12);
    let receipt = Reply::Checksum { offset: 244, crc: 0 };
    client.received(0, receipt.encode().as_bytes());
    let abort = Action::Write {
        to: Characteristic::ControlPoint,
        bytes: &[op::ABORT],
    };
    assert_eq!(client.poll(0), abort);
    assert!(
        matches!(client.poll(0), Action::Wait { .. }),
        "the device is to close the link"
    );
    client.disconnected(5);
    assert_eq!(client.poll(5), Action::Failed(Error::BytesLost { offset: 244 }));
}

/// Answers everything up to the first packets of the image; returns how many came before the client waits.
fn answer_until_receipt(client: &mut Client<'_>, init: &[u8]) -> usize {
    let mut packets = 0;
    loop {
        let reply = match client.poll(0) {
            Action::Write {
                to: Characteristic::ControlPoint,
                bytes,
            } => match Request::decode(bytes).expect("a request") {
                Request::Select { .. } => Reply::Selected {
                    max_size: 4096,
                    offset: 0,
                    crc: 0,
                },
                Request::Create { .. } => Reply::Created,
                Request::SetReceipts { .. } => Reply::ReceiptsSet,
                Request::Checksum => Reply::Checksum {
                    offset: init.len() as u32,
                    crc: crc32(init),
                },
                _ => Reply::Executed,
            },
            Action::Write { bytes, .. } => {
                packets += usize::from(bytes.len() == 244);
                continue;
            }
            Action::Pause { until_ms } => {
                let _ = client.poll(until_ms);
                packets += 1;
                continue;
            }
            _ => return packets,
        };
        client.received(0, reply.encode().as_bytes());
    }
}

#[test]
fn ios_executes_a_short_object_with_a_matching_crc_and_fails_later() {
    let mut device = Device::new(3 * MAX);
    device.lost = vec![18];
    let settings = Settings {
        receipts: 0,
        ..Settings::ios()
    };
    let (log, end) = update(&mut device, settings);
    // Execute is answered 08, which the client takes for done; the following bytes are at the wrong offset.
    assert_eq!(log[8..11], ["03", "04", "010200100000"]);
    assert!(matches!(end, Err(Error::BytesLost { .. })), "{end:?}");
    assert_eq!(log.last().map(String::as_str), Some("0c"));
}
