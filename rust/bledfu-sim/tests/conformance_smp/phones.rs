// SPDX-License-Identifier: Apache-2.0
//! Whole updates by the applications, over the link.

use bledfu_sim::device::Setup;
use bledfu_sim::link::LinkParams;
use bledfu_sim::phone::smp::{Mode, Phone, Settings};
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;

use crate::harness::{factory_image, image_key, keys, version};
use bledfu_sim::make::ImageSpec;

const PHONES: [Phone; 3] = [Phone::Android, Phone::Ios, Phone::Smpclient];

fn image(size: usize) -> Vec<u8> {
    ImageSpec::demo(version(2), size, &image_key()).unwrap().build()
}

fn world(sectors: u32, mtu: u16) -> World {
    let setup = Setup {
        keys: keys(),
        ..Setup::small(sectors)
    };
    let link = LinkParams {
        mtu,
        ..LinkParams::default()
    };
    World::new(setup, factory_image(), link).unwrap()
}

fn running(world: &World) -> (u8, bool) {
    let device = world.device().unwrap();
    (device.image().header.version.major, device.is_confirmed())
}

// smp case 73
#[test]
fn every_application_in_every_mode_with_every_window() {
    let image = image(40_000);
    for phone in PHONES {
        for mode in [
            Mode::TestAndConfirm,
            Mode::TestOnly,
            Mode::ConfirmOnly,
            Mode::UploadOnly,
        ] {
            for (window, mtu) in [(1, 23), (3, 498), (3, 247), (25, 185)] {
                let mut world = world(16, mtu);
                let settings = Settings { phone, mode, window };
                let outcome = world.update_smp(&image, settings, &mut |_| ());
                let outcome = outcome.unwrap_or_else(|error| panic!("{settings:?}: {error}"));
                let expected = match mode {
                    Mode::TestAndConfirm | Mode::ConfirmOnly => (2, true),
                    Mode::TestOnly => (2, false),
                    Mode::UploadOnly => (1, true),
                };
                assert_eq!(running(&world), expected, "{settings:?}");
                assert_eq!(outcome.session.resumed_at, 0, "{settings:?} at {mtu}");
                world.power_up().unwrap();
                let after = if mode == Mode::TestOnly {
                    (1, true)
                } else {
                    expected
                };
                assert_eq!(running(&world), after, "{settings:?}, after another reset");
            }
        }
    }
}

#[test]
fn a_link_that_breaks_and_a_power_that_is_cut_continue_the_upload() {
    let image = image(48_000);
    for phone in PHONES {
        let mut world = world(16, 247);
        world.mishaps.drop_link_at = [9_000, 21_000, 40_000].into();
        let outcome = world
            .update_smp(&image, Settings::of(phone), &mut |_| ())
            .unwrap();
        assert!(
            outcome.session.resumed_at > 21_000,
            "{phone:?}: {}",
            outcome.session.resumed_at
        );
        assert_eq!(running(&world), (2, true));
    }
    for cut in (1..700).step_by(61) {
        let mut world = world(16, 247);
        let tear = Tear::Inside {
            fraction: 0.5,
            seed: cut,
        };
        world.board.power.cut_at(world.board.power.ops() + cut, tear);
        world
            .update_smp(&image, Settings::of(Phone::Android), &mut |_| ())
            .unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        assert_eq!(running(&world), (2, true), "cut {cut}");
        world.power_up().unwrap();
        assert_eq!(running(&world), (2, true), "cut {cut}, after another reset");
    }
}

#[test]
fn a_used_slot_is_erased_while_the_image_comes() {
    let image = image(48_000);
    for phone in PHONES {
        let mut world = world(16, 498);
        world
            .board
            .secondary
            .set_contents(0, &vec![0x5A; 16 * 4096])
            .unwrap();
        world
            .update_smp(&image, Settings::of(phone), &mut |_| ())
            .unwrap();
        assert_eq!(running(&world), (2, true), "{phone:?}");
    }
}

#[test]
fn the_applications_get_nine_tenths_of_what_the_link_carries() {
    // The image of the case, MX25R6435F with typical times, the slot erased beforehand.
    let package = bledfu_sim::demo::update_package().unwrap();
    let image = &package.application.firmware;
    for (interval_us, window) in [(7_500, 3), (15_000, 3), (30_000, 5)] {
        for phone in [Phone::Android, Phone::Ios] {
            let link = LinkParams {
                interval_us,
                packets_per_event: 99,
                mtu: 498,
            };
            let factory = bledfu_sim::demo::factory_image().unwrap();
            let mut world = World::new(Setup::demo(), &factory, link).unwrap();
            world.settle();
            let settings = Settings {
                window,
                mode: Mode::UploadOnly,
                phone,
            };
            let session = world.update_smp(image, settings, &mut |_| ()).unwrap().session;
            let seconds = (session.received_ns - session.started_ns) as f64 / 1e9;
            let fraction = image.len() as f64 / seconds / link.limit_bytes_per_s();
            assert!(fraction >= 0.90, "{phone:?} at {interval_us} us: {fraction:.3}");
        }
    }
}
