// SPDX-License-Identifier: Apache-2.0
//! Answers that refuse, are missing, or come unasked.

use crate::common::{ends, pattern};
use crate::device::{Device, MAX};
use crate::link::{count, init, package, update, Run};
use bledfu_client::secure_dfu::{Client, Error, Settings};
use bledfu_client::{Action, Characteristic, UpdateClient};
use bledfu_wire::secure_dfu::{op, Reply, ResultCode};
use proptest::prelude::*;

const REFUSED_08: ResultCode = ResultCode::OperationNotPermitted;

#[test]
fn a_link_that_ends_after_the_last_execute_is_a_success_for_ios_only() {
    for (settings, expected) in [
        (Settings::ios(), Ok(())),
        (Settings::android(), Err(Error::LinkLost)),
        (Settings::nrfutil(), Err(Error::LinkLost)),
    ] {
        let mut device = Device::new(5000);
        device.closes_at_last_execute = true;
        assert_eq!(update(&mut device, settings).1, expected);
    }
}

#[test]
fn android_repeats_the_last_execute_after_05_and_then_ignores_every_answer() {
    let mut device = Device::new(5000);
    // The command, the first object, the last.
    device.refused = vec![(op::EXECUTE, 3, ResultCode::InvalidObject)];
    device.stays_open = true;
    let (init, image) = (init(), pattern(5000));
    let mut run = Run::new(&mut device);
    let end = run.update(package(&init, &image), Settings::android());
    let refused = Error::Refused {
        opcode: op::EXECUTE,
        code: ResultCode::InvalidObject,
    };
    assert_eq!(end, Err(refused));
    assert!(run.now > 121_000);
    assert_eq!(device.log[device.log.len() - 2..], ["04", "04"]);
    for settings in [Settings::ios(), Settings::nrfutil()] {
        let mut device = Device::new(5000);
        device.refused = vec![(op::EXECUTE, 3, ResultCode::InvalidObject)];
        let (log, end) = update(&mut device, settings);
        assert_eq!(end, Err(refused));
        assert_eq!(count(&log, "04"), 3);
    }
}

#[test]
fn not_permitted_is_tolerated_after_a_resume_by_the_phones_and_always_by_ios() {
    for (settings, at_resume, elsewhere) in [
        (Settings::android(), true, false),
        (Settings::ios(), true, true),
        (Settings::nrfutil(), false, false),
    ] {
        let mut device = Device::new(9000);
        device.breaks_at_packet = Some(25);
        assert_eq!(update(&mut device, settings).1, Err(Error::LinkLost));
        device.breaks_at_packet = None;
        device.counts = Default::default();
        device.refused = vec![(op::EXECUTE, 2, REFUSED_08)];
        let end = update(&mut device, settings).1;
        assert_eq!(end.is_ok(), at_resume, "{settings:?}: {end:?}");

        // The object is executed, but the answer says not permitted.
        let (init, image) = (init(), pattern(2 * MAX));
        let mut client = Client::new(package(&init, &image), settings);
        let mut device = Device::new(2 * MAX);
        device.refused = vec![(op::EXECUTE, 2, REFUSED_08)];
        let end = Run::new(&mut device).run(&mut client, 244);
        if !elsewhere {
            assert!(matches!(end, Err(Error::Refused { .. })), "{settings:?}: {end:?}");
        } else {
            assert!(
                !matches!(end, Err(Error::Refused { .. })),
                "{settings:?}: {end:?}"
            );
        }
    }
}

#[test]
fn a_missing_answer_is_reported_after_20_s_by_nrfutil_and_later_by_the_phones() {
    for (settings, least, most) in [
        (Settings::nrfutil(), 20_000, 21_000),
        (Settings::android(), 121_000, 600_000),
        (Settings::ios(), 121_000, 600_000),
    ] {
        let (init, image) = (init(), pattern(5000));
        let mut device = Device::new(5000);
        device.never_answers = Some(op::CHECKSUM);
        let mut run = Run::new(&mut device);
        let end = run.update(package(&init, &image), settings);
        assert_eq!(end, Err(Error::NoAnswer(op::CHECKSUM)));
        assert!((least..most).contains(&(run.now - 1_000)), "{} ms", run.now);
    }
}

#[test]
fn a_device_that_keeps_the_link_open_after_the_update_has_its_own_error() {
    let mut device = Device::new(5000);
    device.stays_open = true;
    assert_eq!(
        update(&mut device, Settings::android()).1,
        Err(Error::LinkStaysOpen)
    );
}

#[test]
fn an_unsolicited_receipt_is_an_error() {
    let (init, image) = (init(), pattern(5000));
    let mut client = Client::new(package(&init, &image), Settings::android());
    client.connected(0, 244);
    let _ = client.poll(0);
    let receipt = Reply::Checksum { offset: 0, crc: 0 };
    client.received(0, receipt.encode().as_bytes());
    assert_eq!(client.poll(0), Action::Disconnect);
    client.disconnected(1);
    assert_eq!(client.poll(1), Action::Failed(Error::Unexpected(op::SELECT)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_client_terminates_whatever_the_device_answers(
        events in prop::collection::vec((0..8_u8, prop::collection::vec(any::<u8>(), 0..20), any::<u32>()), 0..200),
        which in 0..3_usize,
        size in 0..10_000_usize,
        retries in 0..3_u8,
    ) {
        let settings = [Settings::android(), Settings::ios(), Settings::nrfutil()][which];
        let settings = Settings { retries, receipts: size as u16 % 5, ..settings };
        let (init, image) = (init(), pattern(size));
        let mut client = Client::new(package(&init, &image), settings);
        let mut now = 0_u64;
        for (event, bytes, number) in events {
            let last = match client.poll(now) {
                Action::Write { to: Characteristic::ControlPoint, bytes } => bytes.first().copied(),
                _ => None,
            };
            match event {
                0 => client.connected(now, number as usize % 600),
                1 => client.disconnected(now),
                2 => client.received(now, &bytes),
                3 => now += u64::from(number % 200_000),
                // Something like an answer, with any numbers.
                _ => {
                    let success = [&[0x60, last.unwrap_or(3), 1][..], &number.to_le_bytes(), &[0; 8]].concat();
                    client.received(now, &success);
                }
            }
        }
        let connect = |client: &mut Client<'_>, now| {
            client.connected(now, 20);
            client.disconnected(now);
        };
        prop_assert!(ends(&mut client, now, connect));
    }
}
