// SPDX-License-Identifier: Apache-2.0
//! Whole updates by every client, with faults between phone and device: links that break, frames for which the ring has
//! no room, power cuts.

use bledfu_client::secure_dfu::Settings as DfuSettings;
use bledfu_sim::device::{Setup, OBJECT_SIZE};
use bledfu_sim::link::LinkParams;
use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu;
use bledfu_sim::phone::smp::{self, Settings};
use bledfu_sim::power::Tear;
use bledfu_sim::world::{Outcome, World};
use bledfu_slot::layout::Algorithm;

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");

const DFU_PHONES: [secure_dfu::Phone; 3] = [
    secure_dfu::Phone::Android,
    secure_dfu::Phone::Ios,
    secure_dfu::Phone::Nrfutil,
];
const SMP_PHONES: [smp::Phone; 3] = [smp::Phone::Android, smp::Phone::Ios, smp::Phone::Smpclient];

fn package() -> Package {
    Package::read(NEW).expect("a good vector")
}

fn small_world() -> World {
    World::new(Setup::small(8), OLD, LinkParams::default()).expect("the factory image boots")
}

/// A demo device whose secondary slot holds an old image: it is erased while the new one comes.
fn world_with_a_used_slot() -> World {
    let factory = bledfu_sim::demo::factory_image().expect("a good vector");
    let link = LinkParams {
        mtu: 498,
        ..LinkParams::default()
    };
    let world = World::new(Setup::demo(), &factory, link).expect("the factory image boots");
    world
        .board
        .secondary
        .set_contents(0, &factory)
        .expect("within the slot");
    world
}

fn version(world: &World) -> (u8, bool) {
    let device = world.device().expect("the device is on");
    (device.image().header.version.major, device.is_confirmed())
}

fn dfu(world: &mut World, settings: DfuSettings) -> Outcome {
    world
        .update_with(&package(), settings, &mut |_| ())
        .unwrap_or_else(|error| panic!("{settings:?}: {error}"))
}

fn seconds(outcome: &Outcome) -> f64 {
    (outcome.session.received_ns - outcome.session.started_ns) as f64 / 1e9
}

#[test]
fn links_that_break_end_in_the_new_image_with_every_client_and_receipts() {
    let size = package().application.firmware.len() as u64;
    for phone in DFU_PHONES {
        for receipts in [0, 1, 12] {
            for retries in [0, 5] {
                let mut world = small_world();
                world.mishaps.drop_link_at = [100, 139, 4_000, 4_600, 9_000, size, size + 900].into();
                let settings = DfuSettings {
                    retries,
                    ..phone.with_receipts(receipts)
                };
                let outcome = dfu(&mut world, settings);
                assert!(
                    outcome.sessions > 3,
                    "{settings:?}: {} sessions",
                    outcome.sessions
                );
                assert_eq!(version(&world), (2, false), "{settings:?}");
            }
        }
    }
}

#[test]
fn android_with_retries_reconnects_100_times_faster_than_its_user() {
    let mut waits = Vec::new();
    for retries in [0, 1] {
        let mut world = small_world();
        world.mishaps.drop_link_at = [6_000].into();
        dfu(
            &mut world,
            DfuSettings {
                retries,
                ..DfuSettings::android()
            },
        );
        waits.push(world.now_ns());
    }
    let saved_ms = (waits[0] - waits[1]) / 1_000_000;
    assert!((900..1_050).contains(&saved_ms), "{saved_ms} ms");
}

#[test]
fn a_delay_before_every_object_costs_exactly_its_time() {
    let objects = package()
        .application
        .firmware
        .len()
        .div_ceil(OBJECT_SIZE as usize);
    let time = |object_delay_ms| {
        let settings = DfuSettings {
            object_delay_ms,
            ..DfuSettings::android()
        };
        seconds(&dfu(&mut small_world(), settings))
    };
    let cost = time(400) - time(0);
    let expected = 0.4 * objects as f64;
    assert!(
        (cost - expected).abs() < 0.05 * objects as f64,
        "{cost} of {expected}"
    );
}

#[test]
fn only_the_first_object_of_ios_is_400_ms_late() {
    let ios = DfuSettings {
        receipts: 0,
        packet_alignment: 1,
        ..DfuSettings::ios()
    };
    let cost =
        seconds(&dfu(&mut small_world(), ios)) - seconds(&dfu(&mut small_world(), DfuSettings::android()));
    assert!((0.35..0.45).contains(&cost), "{cost}");
}

#[test]
fn a_power_cut_anywhere_ends_in_the_new_image_with_every_secure_dfu_client() {
    for phone in DFU_PHONES {
        for cut in (0..120).step_by(7) {
            let mut world = small_world();
            let tear = Tear::Inside {
                fraction: 0.5,
                seed: cut,
            };
            world.board.power.cut_at(world.board.power.ops() + cut, tear);
            dfu(&mut world, phone.settings());
            world.confirm().expect("a flash that works");
            assert_eq!(version(&world), (2, true), "{phone:?}, cut at {cut}");
        }
    }
}

#[test]
fn a_window_that_the_ring_does_not_hold_is_as_quick_on_a_used_slot_as_one_that_fits() {
    let package = bledfu_sim::demo::update_package().expect("a good vector");
    let image = &package.application.firmware;
    let time = |phone, window| {
        let mut world = world_with_a_used_slot();
        let settings = Settings {
            window,
            ..Settings::of(phone)
        };
        let outcome = world.update_smp(image, settings, &mut |_| ());
        let outcome = outcome.unwrap_or_else(|error| panic!("{settings:?}: {error}"));
        assert_eq!(version(&world), (2, true), "{settings:?}");
        seconds(&outcome)
    };
    for phone in [smp::Phone::Android, smp::Phone::Ios] {
        let fitting = time(phone, 3);
        for window in [4, 5, 8, 12, 25] {
            let seconds = time(phone, window);
            assert!(
                seconds < fitting * 1.05,
                "{phone:?} {window}: {seconds} s, not {fitting}"
            );
        }
    }
}

#[test]
fn smp_links_that_break_end_confirmed_with_every_client() {
    let image = package().application.firmware;
    let size = image.len() as u64;
    for phone in SMP_PHONES {
        for window in [1, 3, 8] {
            let mut world = small_world();
            world.mishaps.drop_link_at = [100, 600, 4_000, 9_000, 9_600, size, size + 2_000].into();
            let settings = Settings {
                window: if phone == smp::Phone::Smpclient { 1 } else { window },
                ..Settings::of(phone)
            };
            let outcome = world.update_smp(&image, settings, &mut |_| ());
            let outcome = outcome.unwrap_or_else(|error| panic!("{settings:?}: {error}"));
            assert_eq!(version(&world), (2, true), "{settings:?}");
            assert!(
                outcome.sessions > 5,
                "{settings:?}: {} sessions",
                outcome.sessions
            );
        }
    }
}

/// Like `bledfu update --protocol smp --cut-at N --phone P` for every N, then another power cycle.
fn cut_everywhere(phone: smp::Phone, algorithm: Algorithm) {
    let image = package().application.firmware;
    let world = || {
        let setup = Setup {
            algorithm,
            ..Setup::small(8)
        };
        let mut world = World::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
        world.settle();
        world
    };
    let mut calm = world();
    let before = calm.board.power.ops();
    calm.update_smp(&image, Settings::of(phone), &mut |_| ())
        .expect("nothing goes wrong");
    let operations = calm.board.power.ops() - before;
    assert!(operations > 50, "{phone:?}: {operations} operations");
    for cut in 0..=operations {
        // Torn in the middle, as the command does it; every third before the first and after the last cell.
        let fractions: &[f64] = if cut % 3 == 0 { &[0.0, 0.5, 1.0] } else { &[0.5] };
        for &fraction in fractions {
            let what = format!("{phone:?}, {algorithm:?}, cut at {cut} ({fraction})");
            let mut world = world();
            let tear = Tear::Inside { fraction, seed: cut };
            world.board.power.cut_at(world.board.power.ops() + cut, tear);
            world
                .update_smp(&image, Settings::of(phone), &mut |_| ())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(version(&world), (2, true), "{what}");
            world.power_up().expect("it starts");
            assert_eq!(version(&world), (2, true), "{what}, after another reset");
        }
    }
}

#[test]
fn android_ends_confirmed_wherever_the_power_is_cut() {
    for algorithm in Algorithm::ALL {
        cut_everywhere(smp::Phone::Android, algorithm);
    }
}

#[test]
fn ios_ends_confirmed_wherever_the_power_is_cut() {
    for algorithm in Algorithm::ALL {
        cut_everywhere(smp::Phone::Ios, algorithm);
    }
}

#[test]
fn smpclient_ends_confirmed_wherever_the_power_is_cut() {
    for algorithm in Algorithm::ALL {
        cut_everywhere(smp::Phone::Smpclient, algorithm);
    }
}
