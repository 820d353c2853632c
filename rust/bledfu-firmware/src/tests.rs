// SPDX-License-Identifier: Apache-2.0
//! The wiring on a fake device: the demo package's init packet and the first object arrive as C would pass them.

use super::*;
use crate::start::Memory;
use bledfu_slot::copy_roles::{write_reverted, Place, Record};
use bledfu_slot::crc32::crc32;
use bledfu_slot::journal::{Installed, Journal, Versions};
use bledfu_slot::retry::Retry;
use bledfu_slot::trailer::{write_copy_done, write_image_ok, write_magic, write_swap_info};
use bledfu_slot::verify::{read_info, Key};
use bledfu_slot::{Algorithm, SwapType};
use bledfu_transfer::upload::digest_prefix;
use bledfu_zephyr::fake::{self, Geometry};
use bledfu_zephyr::flash::Partition;
use std::boxed::Box;
use std::string::{String, ToString};
use std::vec::Vec;

/// Not the fake's keys: every packet is refused, which is enough to see answers arrive.
fn start(keys: &(start::KeyRing, start::KeyRing)) -> Device<'_> {
    start_with(options::ALGORITHM, keys)
}

fn start_with(algorithm: Algorithm, keys: &(start::KeyRing, start::KeyRing)) -> Device<'_> {
    let Ok(mut device) = Device::start(algorithm, &keys.0, &keys.1, memory()) else {
        panic!("the fake device does not start")
    };
    device.service.start();
    perform(&mut device);
    INBOX.with(|inbox| *inbox = Inbox::of_bytes());
    device
}

fn keys() -> (start::KeyRing, start::KeyRing) {
    (
        start::keys(worker::Keys::Package),
        start::keys(worker::Keys::Image),
    )
}

/// For one device; each test has few.
fn memory() -> &'static mut Memory {
    Box::leak(Box::new(Memory::new()))
}

/// Performs the steps of everything handled so far.
fn perform(device: &mut Device<'_>) {
    while !device.service.is_settled() {
        device.turn();
    }
}

fn settle(device: &mut Device<'_>) {
    while !INBOX.with(|inbox| inbox.is_empty()) {
        device.turn();
    }
    perform(device);
}

fn write(channel: u8, bytes: &[u8]) {
    Firmware::push(channel, bytes, false).unwrap();
}

#[test]
fn the_worker_answers_a_request_when_it_runs() {
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
fn a_refused_init_packet_is_reported_to_the_product_and_touches_no_slot() {
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
fn a_lost_peers_requests_are_dropped_and_not_answered_to_the_next_peer() {
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
fn a_request_is_refused_while_the_ring_is_full_and_accepted_after_the_worker_ran() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::link(true);
    let mut taken = 0;
    while Firmware::push(0, &[0x7F], false).is_ok() {
        taken += 1;
    }
    assert!(taken > 2000);
    assert_eq!(Firmware::push(0, &[3], false), Err(NotTaken::Full));
    assert_eq!(Firmware::push(0, &[0; 513], false), Err(NotTaken::TooLong));
    assert_eq!(Firmware::push(3, &[3], false), Err(NotTaken::NoChannel));
    assert_eq!(
        Firmware::push(2, &[3], false),
        Err(NotTaken::NoChannel),
        "no SMP in this build"
    );
    settle(&mut device);
    write(0, &[3]);
    settle(&mut device);
    assert_eq!(fake.notified().last().unwrap()[..3], [0x60, 3, 1]);
    assert_eq!(fake.notified().len(), taken + 1);
}

/// The signed init packet of the reference's worked example, for an image of 5000 bytes; its private key is the number
/// 01 02 … 20.
const INIT: &str = "1288010A420801123E080210341A0100200028003000388827422408031220FB8AFC751487E795430E5791E823AB44BB8B\
                    1D518D9BB5DFD9F77B29858B3934480052040801120010001A402220E65C6CD48F7D339CEA0999A2253DC8D3126A65F998\
                    1FABF78617CD7EA4408CF21D78BB61D21D7EE018C724F0E067B1D5F1511AB9B22FE5E30FC123F2E395";
const KEY: &str = "515c3d6eb9e396b904d3feca7f54fdcd0cc1e997bf375dca515ad0a6c3b4035f\
                   4536be3a50f318fbf9a5475902a221502bef0d57e08c53b2cc0a56f17d9f9354";

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// A device that trusts the example's key.
fn example_keys() -> (start::KeyRing, start::KeyRing) {
    let key = Key::new(hex(KEY).try_into().unwrap());
    (start::KeyRing::from_iter([key]), start::keys(worker::Keys::Image))
}

fn checksum_answer(bytes: &[u8]) -> Vec<u8> {
    let mut crc = crc32();
    crc.update(bytes);
    let mut answer = Vec::from([0x60, 3, 1]);
    answer.extend((bytes.len() as u32).to_le_bytes());
    answer.extend(crc.finalize().to_le_bytes());
    answer
}

/// The device's answer to the last of these requests.
fn ask(device: &mut Device<'_>, fake: &fake::Device, request: &[u8]) -> Vec<u8> {
    write(0, request);
    settle(device);
    fake.notified().pop().unwrap()
}

#[test]
fn packets_that_overrun_the_ring_are_logged_counted_and_refused_and_the_object_can_be_sent_again() {
    let fake = fake::device();
    let keys = example_keys();
    let mut device = start(&keys);
    zephyr_log::init(3);
    let init = hex(INIT);
    let image: Vec<u8> = (0..5000u32).map(|i| (7 * i + 3) as u8).collect();
    Firmware::link(true);
    assert_eq!(ask(&mut device, &fake, &[1, 1, 139, 0, 0, 0]), [0x60, 1, 1]);
    write(1, &init);
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
    assert_eq!(ask(&mut device, &fake, &[2, 0x2C, 1]), [0x60, 2, 1]);

    // A peer that does not wait for the answer to Create, and sends packets of one byte.
    write(0, &[1, 2, 0x88, 0x13, 0, 0]);
    let packets = image.chunks(1);
    let taken = packets
        .filter(|packet| Firmware::push(1, packet, false).is_ok())
        .count();
    assert!((1..5000).contains(&taken));
    settle(&mut device);
    // Its receipts stay correct: as many as it expects, with the offset before the gap.
    let answers = fake.notified();
    assert_eq!(answers.len(), 4 + taken / 300 + 1);
    assert_eq!(answers.last().unwrap(), &checksum_answer(&image[..taken]));
    let warnings = fake.lines();
    let lost = std::format!("{} packets are lost", 5000 - taken);
    assert!(
        warnings
            .iter()
            .any(|(level, line)| *level == 2 && line.starts_with(&lost)),
        "{warnings:?}"
    );

    // What follows the gap is not taken for the lost bytes.
    for packet in image[taken..].chunks(244) {
        write(1, packet);
    }
    assert_eq!(ask(&mut device, &fake, &[3]), checksum_answer(&image[..taken]));
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 8]);

    // The device closes the link. Over the next one Create starts the object again.
    settle(&mut device);
    assert_eq!(fake.disconnects(), 1);
    Firmware::link(false);
    Firmware::link(true);
    assert_eq!(ask(&mut device, &fake, &[1, 2, 0, 0x10, 0, 0]), [0x60, 1, 1]);
    for packet in image[..4096].chunks(20) {
        write(1, packet);
    }
    assert_eq!(ask(&mut device, &fake, &[3]), checksum_answer(&image[..4096]));
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
}

#[test]
fn after_a_loss_a_peer_continues_from_the_offset_it_asks_for() {
    let fake = fake::device();
    let keys = example_keys();
    let mut device = start(&keys);
    let init = hex(INIT);
    Firmware::link(true);
    assert_eq!(ask(&mut device, &fake, &[1, 1, 139, 0, 0, 0]), [0x60, 1, 1]);
    write(1, &init[..100]);
    while Firmware::push(1, &[], false).is_ok() {}
    assert_eq!(Firmware::push(1, &[], true), Err(NotTaken::Lost));
    settle(&mut device);
    write(1, &init[100..]);
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 8]);
    let selected = ask(&mut device, &fake, &[6, 1]);
    assert_eq!(selected[7..11], [100, 0, 0, 0]);
    write(1, &init[100..]);
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
}

#[test]
fn a_disconnect_forgets_the_losses_of_its_link() {
    let fake = fake::device();
    let keys = example_keys();
    let mut device = start(&keys);
    Firmware::link(true);
    while Firmware::push(1, &[0; 20], false).is_ok() {}
    Firmware::link(false);
    Firmware::link(true);
    assert_eq!(ask(&mut device, &fake, &[1, 1, 139, 0, 0, 0]), [0x60, 1, 1]);
    write(1, &hex(INIT));
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
}

/// An image made by imgtool.
const IMAGE: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");

#[test]
fn the_factory_image_runs_with_the_version_of_the_build() {
    let fake = fake::device();
    let keys = keys();
    fake.program(Partition::Primary, IMAGE);
    start(&keys);
    assert_eq!(fake.events(), [(0, 1, options::FW_VERSION)]);
}

#[test]
fn an_installed_update_runs_with_the_version_of_its_package() {
    let fake = fake::device();
    let keys = keys();
    fake.program(Partition::Primary, IMAGE);
    let image = read_info(&mut Area::open(Partition::Primary).unwrap(), 0, 0x10000);
    let digest = image.unwrap().unwrap().digest;
    let base = Installed {
        fw_version: 1,
        digest: [0x11; 8],
    };
    let staged = Installed {
        fw_version: 4711,
        digest: digest_prefix(&digest),
    };
    let mut journal = Journal::new(Area::open(Partition::Journal).unwrap());
    journal.set_versions(Versions { base, staged }).unwrap();
    let mut device = start(&keys);
    assert_eq!(fake.events(), [(0, 1, 4711)]);
    assert_eq!(device.service.upload_mut().running_version(), 4711);
}

#[test]
fn the_worker_confirms_and_reports() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start(&keys);
    Firmware::confirm();
    settle(&mut device);
    assert_eq!(fake.events().last().unwrap(), &(7, 1, 0));
}

#[test]
fn an_idle_peer_is_disconnected() {
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

/// What the primary trailer says about the last install.
enum Before {
    Nothing,
    Test(Place),
    Reverted(Place),
}

/// Where the first object of an update goes on a device with copy.
fn place_of_an_update_after(before: &Before) -> [bool; 2] {
    let fake = fake::device();
    let keys = example_keys();
    {
        // Two slots of different sizes: each has its trailer at its end.
        let mut geometry = Geometry {
            size: 0xE000,
            start: 0x20000,
            sector: 4096,
            unit: 4,
        };
        fake.set_geometry(Partition::Spare, geometry);
        geometry.size = 0xC000;
        fake.set_geometry(Partition::Secondary, geometry);
        fake.program(Partition::Primary, IMAGE);
        let mut primary = Retry(Area::open(Partition::Primary).unwrap());
        let (_, layout) = start::areas(Algorithm::Copy).ok().unwrap();
        let trailer = layout.primary_trailer();
        let install = |primary: &mut Retry<Area>, source| {
            let record = Record {
                source,
                swap_type: SwapType::Test,
                size: IMAGE.len() as u32,
                digest: [7; 32],
            };
            record.write(primary, &trailer).unwrap();
            write_swap_info(primary, &trailer, SwapType::Test).unwrap();
            write_copy_done(primary, &trailer).unwrap();
            write_image_ok(primary, &trailer).unwrap();
            write_magic(primary, &trailer).unwrap();
        };
        match *before {
            Before::Nothing => {}
            Before::Test(source) => install(&mut primary, source),
            Before::Reverted(source) => {
                install(&mut primary, source);
                write_reverted(&mut primary, &trailer).unwrap();
            }
        }
    }
    let mut device = start_with(Algorithm::Copy, &keys);
    Firmware::link(true);
    assert_eq!(ask(&mut device, &fake, &[1, 1, 139, 0, 0, 0]), [0x60, 1, 1]);
    write(1, &hex(INIT));
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
    assert_eq!(ask(&mut device, &fake, &[1, 2, 0, 0x10, 0, 0]), [0x60, 1, 1]);
    let image: Vec<u8> = (0..4096u32).map(|i| (7 * i + 3) as u8).collect();
    for packet in image.chunks(244) {
        write(1, packet);
    }
    assert_eq!(ask(&mut device, &fake, &[4]), [0x60, 4, 1]);
    [Partition::Secondary, Partition::Spare].map(|place| fake.contents(place).starts_with(&image))
}

#[test]
fn with_copy_an_update_goes_where_the_copy_of_the_running_image_is_not() {
    for (before, found) in [
        (Before::Nothing, [true, false]),
        (Before::Test(Place::First), [false, true]),
        (Before::Test(Place::Second), [true, false]),
        (Before::Reverted(Place::First), [true, false]),
        (Before::Reverted(Place::Second), [false, true]),
    ] {
        assert_eq!(place_of_an_update_after(&before), found);
    }
}

#[test]
fn with_copy_the_smallest_of_the_three_areas_is_the_limit() {
    let fake = fake::device();
    let keys = keys();
    let small = Geometry {
        size: 0x8000,
        start: 0,
        sector: 4096,
        unit: 4,
    };
    fake.set_geometry(Partition::Spare, small);
    let device = start_with(Algorithm::Copy, &keys);
    assert_eq!(device.service.upload().limit(), 0x7000);
    assert_eq!(fake.events().len(), 1);
}

#[test]
fn a_third_area_without_room_for_an_image_stops_the_service() {
    let fake = fake::device();
    let keys = keys();
    let tiny = Geometry {
        size: 0x1000,
        start: 0,
        sector: 4096,
        unit: 4,
    };
    fake.set_geometry(Partition::Spare, tiny);
    let reason = match Device::start(Algorithm::Copy, &keys.0, &keys.1, memory()) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    assert_eq!(reason, "a slot has no room for an image beside its trailer");
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
    // Its own slot is sound, so the running image can be confirmed all the same; what peers sent is dropped.
    Firmware::link(true);
    write(0, &[6, 1]);
    Firmware::confirm();
    Firmware::without_service();
    assert_eq!(fake.events(), [(1, 0, 0), (7, 1, 0)]);
    assert!(fake.notified().is_empty());
    assert!(INBOX.with(|inbox| inbox.is_empty()));
}

/// The device's own address on the link of a phone: random, and its lowest byte is 0x0F.
const REACHED: [u8; 7] = [1, 0x0F, 2, 3, 4, 5, 0xC6];

/// A device whose image is confirmed.
fn start_confirmed<'k>(fake: &fake::Device, keys: &'k (start::KeyRing, start::KeyRing)) -> Device<'k> {
    let image = std::fs::read("../../tests/vectors/images/small-1.0.0.signed.bin").unwrap();
    fake.program(Partition::Primary, &image);
    let mut device = start(keys);
    device.service.upload_mut().confirm().unwrap();
    perform(&mut device);
    buttonless::begin(worker::uptime_ms());
    device
}

use crate::buttonless::Due;

#[test]
fn a_phone_that_asks_for_the_update_mode_is_answered_and_the_reset_waits_for_its_confirmation() {
    let fake = fake::device();
    let keys = keys();
    let mut device = start_confirmed(&fake, &keys);
    assert!(Firmware::buttonless(b"\x02\x03abc", false, REACHED));
    assert!(
        !Firmware::buttonless(&[1], false, REACHED),
        "the first is not answered yet"
    );
    device.turn();
    assert!(Firmware::buttonless(&[1], false, REACHED));
    device.turn();
    device.turn();
    assert_eq!(fake.indicated(), [[0x20, 2, 1], [0x20, 1, 1]]);
    assert_eq!(fake.events().last().unwrap().0, 8, "the product was asked");
    let found = Firmware::update_mode(&fake.retained()).unwrap();
    assert_eq!(found.address, [1, 0x10, 2, 3, 4, 5, 0xC6]);
    assert_eq!(&found.name[..usize::from(found.name_length)], b"abc");
    Firmware::buttonless_over(false);
    assert_eq!(buttonless::turn(true, 0), Some(Due::UpdateMode));
}

#[test]
fn a_product_that_refuses_the_update_mode_and_an_image_on_trial_are_told_as_a_failure() {
    let fake = fake::device();
    buttonless::begin(0);
    assert!(Firmware::buttonless(&[1], false, REACHED));
    assert_eq!(buttonless::turn(false, 0), None, "on trial");
    assert!(fake.events().is_empty(), "the product is not asked");
    let keys = keys();
    let mut device = start_confirmed(&fake, &keys);
    fake.veto(true);
    assert!(Firmware::buttonless(&[1], false, REACHED));
    device.turn();
    assert_eq!(fake.indicated(), [[0x20, 1, 4], [0x20, 1, 4]]);
    assert!(fake.retained().is_empty());
    Firmware::buttonless_over(false);
    device.turn();
}

#[test]
fn the_update_mode_ends_after_its_time_and_sooner_when_the_phone_has_gone() {
    let fake = fake::device();
    fake.start_in_update_mode();
    let keys = keys();
    let mut device = start_confirmed(&fake, &keys);
    fake.sleep_ms(100_000);
    Firmware::link(true);
    write(0, &[6, 1]);
    settle(&mut device);
    fake.sleep_ms(119_000);
    device.turn();
    Firmware::link(false);
    assert_eq!(buttonless::turn(true, worker::uptime_ms() + 9_999), None);
    fake.sleep_ms(10_000);
    assert_eq!(
        buttonless::turn(true, worker::uptime_ms()),
        Some(Due::Application)
    );
}
