// SPDX-License-Identifier: Apache-2.0
//! Updates in several connections: after a lost link, and with a package of two parts.

use crate::common::pattern;
use crate::device::{crc32, Device, MAX};
use crate::link::{count, init, package, update, Run};
use bledfu_client::secure_dfu::{Client, Error, Package, Part, Settings};
use bledfu_client::{Action, Characteristic, UpdateClient};
use bledfu_wire::secure_dfu::{op, ObjectType, Reply, Request, ResultCode};

#[test]
fn a_known_init_packet_and_receipts_off_need_no_request_02_from_android() {
    let mut device = Device::new(9000);
    device.breaks_at_packet = Some(25);
    assert_eq!(update(&mut device, Settings::android()).1, Err(Error::LinkLost));
    device.breaks_at_packet = None;
    let (log, end) = update(&mut device, Settings::android());
    assert_eq!(end, Ok(()));
    // It is unknown whether the last object was executed, so it is executed again.
    assert_eq!(log[..6], ["-", "0601", "04", "0602", "04", "010200100000"]);
    assert_eq!(count(&log, "02"), 0);
}

#[test]
fn only_a_client_with_retries_reconnects_by_itself_and_android_after_10_ms() {
    let mut device = Device::new(9000);
    device.breaks_at_packet = Some(25);
    let settings = Settings {
        retries: 1,
        ..Settings::android()
    };
    let (init, image) = (init(), pattern(9000));
    let mut client = Client::new(package(&init, &image), settings);
    client.connected(0, 244);
    client.disconnected(500);
    assert_eq!(client.poll(500), Action::Connect { at_ms: 510 });
    client.connected(510, 244);
    client.disconnected(700);
    assert_eq!(client.poll(700), Action::Failed(Error::LinkLost));

    let (log, end) = update(&mut device, settings);
    assert_eq!(end, Ok(()));
    assert_eq!(count(&log, "-"), 2);
}

#[test]
fn a_refused_system_part_is_followed_by_the_application_on_the_same_connection() {
    let (system_init, init, image) = (vec![9; 60], init(), pattern(5000));
    let system = Part {
        init: &system_init,
        firmware: &image,
    };
    let package = Package {
        system: Some(system),
        application: Part {
            init: &init,
            firmware: &image,
        },
    };
    for settings in [Settings::android(), Settings::ios(), Settings::nrfutil()] {
        let mut device = Device::new(5000);
        device.refused = vec![(op::EXECUTE, 1, ResultCode::InvalidObject)];
        assert_eq!(Run::new(&mut device).update(package, settings), Ok(()));
        assert_eq!(count(&device.log, "-"), 1);
        assert_eq!(count(&device.log, "0601"), 2);
        // An init packet that the device holds does not count for the second part.
        assert_eq!(count(&device.log, "0101"), 2);
        assert_eq!(device.commands[0], init);
    }
}

#[test]
fn an_accepted_system_part_is_followed_by_the_application_in_another_connection() {
    let (system_init, init, system_image, image) = (vec![9; 60], init(), pattern(4000), pattern(4000));
    let package = Package {
        system: Some(Part {
            init: &system_init,
            firmware: &system_image,
        }),
        application: Part {
            init: &init,
            firmware: &image,
        },
    };
    let mut device = Device::new(4000);
    assert_eq!(Run::new(&mut device).update(package, Settings::android()), Ok(()));
    assert_eq!(count(&device.log, "-"), 2);
    assert_eq!(device.commands, [init, image]);
}

#[test]
fn an_open_object_continues_without_create_and_a_damaged_one_restarts() {
    for known in [MAX + 500, MAX + 488] {
        let (init, image) = (init(), pattern(3 * MAX));
        let mut client = Client::new(package(&init, &image), Settings::android());
        client.connected(0, 244);
        let log = resume(&mut client, &init, known as u32, crc32(&image[..known]));
        assert_eq!(log[3..6], ["03", "04", "010200100000"], "{known}");
    }
    for known in [MAX + 500, 2 * MAX, 5 * MAX] {
        let (init, image) = (init(), pattern(3 * MAX));
        let mut client = Client::new(package(&init, &image), Settings::android());
        client.connected(0, 244);
        let log = resume(&mut client, &init, known as u32, 0x1234);
        assert_eq!(log[3], "010200100000", "no Execute for damaged bytes: {known}");
        let begin = if known > 2 * MAX { 2 * MAX } else { MAX };
        assert_eq!(client.progress().resumed_at as usize, begin, "{known}");
    }
}

/// Answers like a device that holds the init packet and this much of the image; returns the requests.
fn resume(client: &mut Client<'_>, init: &[u8], offset: u32, crc: u32) -> Vec<String> {
    let mut log: Vec<String> = Vec::new();
    while log.len() < 6 {
        let reply = match client.poll(0) {
            Action::Write {
                to: Characteristic::ControlPoint,
                bytes,
            } => {
                log.push(bytes.iter().map(|byte| format!("{byte:02x}")).collect());
                match Request::decode(bytes).expect("a request") {
                    Request::Select {
                        object: ObjectType::Command,
                    } => Reply::Selected {
                        max_size: 512,
                        offset: init.len() as u32,
                        crc: crc32(init),
                    },
                    Request::Select { .. } => Reply::Selected {
                        max_size: MAX as u32,
                        offset,
                        crc,
                    },
                    Request::Checksum => {
                        let end = 2 * MAX;
                        Reply::Checksum {
                            offset: end as u32,
                            crc: crc32(&pattern(3 * MAX)[..end]),
                        }
                    }
                    Request::Create { .. } => Reply::Created,
                    Request::SetReceipts { .. } => Reply::ReceiptsSet,
                    _ => Reply::Executed,
                }
            }
            Action::Write { .. } => continue,
            _ => break,
        };
        client.received(0, reply.encode().as_bytes());
    }
    log.resize(6, String::new());
    log
}
