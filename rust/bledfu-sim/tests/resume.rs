// SPDX-License-Identifier: Apache-2.0
//! Transfers that go on after a reset: the position comes from the journal at once, and what is in the slot is hashed and
//! compared beside everything else.

use bledfu_sim::device::{Keys, Setup};
use bledfu_sim::keys::SigningKey;
use bledfu_sim::link::LinkParams;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::{Package, PackageSpec};
use bledfu_sim::phone::{secure_dfu, smp};
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::layout::Algorithm;
use bledfu_slot::Version;

/// Pages of a slot that holds the image.
const SECTORS: u32 = 2_100;
const SIZE: usize = 8 << 20;
const MB: u64 = 1_000_000;

fn version(major: u8) -> Version {
    Version {
        major,
        minor: 0,
        revision: 0,
        build: 0,
    }
}

fn key() -> SigningKey {
    SigningKey::from_scalar(&[0x33; 32]).expect("a number below the order")
}

/// A device for images of 8 MB, and an update of that size.
fn world() -> (World, Package) {
    let key = key();
    let public = key.public();
    let setup = Setup {
        keys: Keys::new(public, public, Vec::new()),
        algorithm: Algorithm::Copy,
        ..Setup::small(SECTORS)
    };
    let image = |major, size| {
        let spec = ImageSpec::demo(version(major), size, &key).expect("a good size");
        spec.build()
    };
    let link = LinkParams {
        mtu: 498,
        ..LinkParams::default()
    };
    let mut world = World::new(setup, &image(1, 20_000), link).expect("the factory image boots");
    world.settle();
    let package = PackageSpec::new("large", setup.hw_version, 2)
        .build(&image(2, SIZE), &key)
        .expect("a package");
    (world, Package::read(&package).expect("a good package"))
}

/// Cuts the power when about three quarters of the image are in the slot: there is one write for each 256 bytes.
fn cut_at_three_quarters(world: &World) {
    let power = &world.board.power;
    power.cut_at(power.ops() + (SIZE as u64 / 256) * 3 / 4, Tear::Before);
}

fn slowest_ms(world: &World) -> u64 {
    world.slowest_answer_ns / 1_000_000
}

fn runs_new(world: &World) {
    let device = world.device().expect("the device is on");
    assert_eq!(device.image().header.version.major, 2);
}

/// Once, when `after` bytes have come, somebody changes a byte of the slot that came long ago.
fn damage(world: &World, after: u32) -> impl FnMut(u32) {
    let slot = world.board.secondary.clone();
    let mut is_done = false;
    move |received| {
        if received >= after && !core::mem::replace(&mut is_done, true) {
            slot.set_contents(100_000, &[0x5A, 0xA5])
                .expect("within the slot");
        }
    }
}

#[test]
fn a_device_with_a_large_image_answers_soon_after_a_reset_over_secure_dfu() {
    for phone in [secure_dfu::Phone::Android, secure_dfu::Phone::Ios] {
        let (mut world, package) = world();
        cut_at_three_quarters(&world);
        let receipts = phone.with_receipts(0);
        let outcome = world
            .update_with(&package, receipts, &mut |_| ())
            .expect("it goes on after the cut");
        runs_new(&world);
        assert_eq!(outcome.sessions, 2, "{phone:?}");
        assert!(
            world.image_bytes_sent() < SIZE as u64 + MB,
            "{phone:?}: nothing is sent twice"
        );
        assert!(slowest_ms(&world) < 1_500, "{phone:?}: {} ms", slowest_ms(&world));
        assert_eq!(world.packets_lost, 0, "{phone:?}");
    }
}

#[test]
fn a_device_with_a_large_image_answers_soon_after_a_reset_over_smp() {
    for phone in [smp::Phone::Android, smp::Phone::Smpclient] {
        let (mut world, package) = world();
        cut_at_three_quarters(&world);
        let image = &package.application.firmware;
        world
            .update_smp(image, smp::Settings::of(phone), &mut |_| ())
            .expect("it goes on after the cut");
        runs_new(&world);
        assert!(
            world.image_bytes_sent() < SIZE as u64 + MB,
            "{phone:?}: nothing is sent twice"
        );
        assert!(slowest_ms(&world) < 1_500, "{phone:?}: {} ms", slowest_ms(&world));
    }
}

#[test]
fn a_slot_that_is_found_wrong_while_a_transfer_goes_on_is_filled_anew_over_secure_dfu() {
    let (mut world, package) = world();
    cut_at_three_quarters(&world);
    let mut damage = damage(&world, 2 << 20);
    let outcome = world
        .update(&package, secure_dfu::Phone::Android, 0, &mut damage)
        .expect("it starts over");
    runs_new(&world);
    assert_eq!(
        outcome.sessions, 3,
        "the link is closed, and the next one begins at 0"
    );
    assert!(world.image_bytes_sent() > SIZE as u64 + 4 * MB);
}

#[test]
fn a_slot_that_is_found_wrong_while_a_transfer_goes_on_is_filled_anew_over_smp() {
    let (mut world, package) = world();
    cut_at_three_quarters(&world);
    let mut damage = damage(&world, 2 << 20);
    let image = &package.application.firmware;
    world
        .update_smp(image, smp::Settings::of(smp::Phone::Android), &mut damage)
        .expect("it starts over");
    runs_new(&world);
    assert!(world.image_bytes_sent() > SIZE as u64 + 4 * MB);
}

#[test]
fn a_second_reset_before_all_is_hashed_goes_on_as_well() {
    for over_smp in [false, true] {
        let (mut world, package) = world();
        let power = world.board.power.clone();
        cut_at_three_quarters(&world);
        let mut is_second = false;
        let mut cut_again = |received: u32| {
            if received > SIZE as u32 * 3 / 4 + 200_000 && !core::mem::replace(&mut is_second, true) {
                power.cut_at(power.ops() + 50, Tear::Before);
            }
        };
        let image = &package.application.firmware;
        let settings = smp::Settings::of(smp::Phone::Android);
        match over_smp {
            false => world.update(&package, secure_dfu::Phone::Android, 0, &mut cut_again),
            true => world.update_smp(image, settings, &mut cut_again),
        }
        .expect("it goes on after both cuts");
        runs_new(&world);
        assert!(world.image_bytes_sent() < SIZE as u64 + MB, "SMP: {over_smp}");
    }
}
