// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image, on a whole device: several updates, which use the two places in turn; reverts; power cuts.

use std::path::Path;

use bledfu_cli::inspect::{inspect, Options};
use bledfu_sim::device::Setup;
use bledfu_sim::init_packet::InitFields;
use bledfu_sim::keys::SigningKey;
use bledfu_sim::link::LinkParams;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::layout::Algorithm;
use bledfu_slot::Version;
use sha2::{Digest, Sha256};

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");

fn world() -> World {
    world_of(Setup {
        algorithm: Algorithm::Copy,
        ..Setup::small(8)
    })
}

fn world_of(setup: Setup) -> World {
    let mut world = World::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
    world.settle();
    world
}

fn package() -> Package {
    Package::read(NEW).expect("a good vector")
}

fn version(world: &World) -> (u8, bool) {
    let device = world.device().expect("the device is on");
    (device.image().header.version.major, device.is_confirmed())
}

/// The package of version `major`, made for this device.
fn release(world: &World, major: u8) -> Package {
    let key = |name: &str| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/keys/");
        SigningKey::open(&Path::new(path).join(name)).expect("a demo key")
    };
    let version = Version {
        major,
        minor: 0,
        revision: 0,
        build: 0,
    };
    let image = ImageSpec::demo(version, 9_000, &key("image.pem"))
        .expect("room for TLVs")
        .build();
    let sha256 = Sha256::digest(&image).into();
    let fields = InitFields::application(
        major.into(),
        world.board.setup.hw_version,
        &[0],
        image.len() as u32,
        &sha256,
    );
    let mut package = package();
    package.application.init = fields.signed(&key("package.pem"));
    package.application.firmware = image;
    package
}

/// Sends the package and installs it; returns whether the first of the two places received it.
fn install(world: &mut World, package: &Package) -> bool {
    let (_, layout) = world.board.receiving().expect("the roles");
    let outcome = world.update(package, Phone::Android, 0, &mut |_| ());
    outcome.expect("an update");
    layout == world.board.setup.layout()
}

#[test]
fn successive_updates_use_the_two_places_in_turn() {
    let mut world = world();
    let mut places = Vec::new();
    for major in 2..6 {
        let package = release(&world, major);
        places.push(install(&mut world, &package));
        world.confirm().expect("a confirmation");
        assert_eq!(version(&world), (major, true));
        world.settle();
    }
    assert_eq!(places, [true, false, true, false]);
}

#[test]
fn an_unconfirmed_update_is_reverted_and_the_next_one_is_accepted() {
    let mut world = world();
    for _ in 0..2 {
        install(&mut world, &package());
        assert_eq!(version(&world), (2, false));
        world.power_up().expect("a boot");
        assert_eq!(version(&world), (1, true));
        world.settle();
        world.power_up().expect("a boot");
        assert_eq!(version(&world), (1, true));
    }
    install(&mut world, &package());
    world.confirm().expect("a confirmation");
    assert_eq!(version(&world), (2, true));
}

#[test]
fn a_second_update_and_its_revert_survive_a_cut_at_every_operation() {
    let prepare = || {
        // With a trust area, an image that was reverted three times is not tried again.
        let mut world = world_of(Setup {
            algorithm: Algorithm::Copy,
            has_trust_area: false,
            ..Setup::small(8)
        });
        install(&mut world, &package());
        world.power_up().expect("a boot");
        assert_eq!(version(&world), (1, true));
        world.settle();
        world
    };
    let run = |world: &mut World, what: &str| {
        world
            .update(&package(), Phone::Android, 0, &mut |_| ())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        world.power_up().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(version(world), (1, true), "{what}");
        for _ in 0..3 {
            world
                .update(&package(), Phone::Android, 0, &mut |_| ())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            world.confirm().unwrap_or_else(|error| panic!("{what}: {error}"));
            if version(world) == (2, true) {
                return;
            }
            assert_eq!(version(world), (1, true), "{what}");
        }
        panic!("{what}: the update was never confirmed");
    };
    let mut calm = prepare();
    let before = calm.board.power.ops();
    run(&mut calm, "no cut");
    let operations = calm.board.power.ops() - before;
    assert!(operations > 50);
    for op in 0..operations {
        for tear in [
            Tear::Before,
            Tear::Inside {
                fraction: 0.5,
                seed: op,
            },
        ] {
            let mut world = prepare();
            world.board.power.cut_at(world.board.power.ops() + op, tear);
            run(&mut world, &format!("operation {op} of {operations}, {tear:?}"));
        }
    }
}

#[test]
fn inspect_shows_where_the_running_image_came_from() {
    let mut world = world();
    install(&mut world, &package());
    world.power_up().expect("a boot");
    let options = Options {
        algorithm: Algorithm::Copy,
        max_sectors: Some(32),
        ..Options::default()
    };
    let report = inspect("primary.bin", &world.board.primary.contents(), &options);
    assert!(
        report.text().contains("bytes from place 0, test, SHA-256"),
        "{}",
        report.text()
    );
    assert!(
        report.text().contains("written: the image before is back"),
        "{}",
        report.text()
    );
    let report = inspect("secondary.bin", &world.board.spare.contents(), &options);
    assert!(
        report.text().contains("role record            none"),
        "{}",
        report.text()
    );
    let report = inspect("secondary.bin", &world.board.secondary.contents(), &options);
    assert!(report.text().contains("removed: "), "{}", report.text());
    assert!(!report.problems.iter().any(|problem| problem.contains("magic")));
}

/// The start of the place that is for copies of the factory image.
fn copy(world: &World) -> Vec<u8> {
    let mut bytes = world.board.spare.contents();
    bytes.truncate(OLD.len());
    bytes
}

#[test]
fn a_device_with_nothing_to_do_copies_its_first_image_so_the_boot_stage_does_not() {
    let world = world();
    assert_eq!(copy(&world), OLD);
    let mut world = world;
    install(&mut world, &package());
    let first = world.boots.last().expect("a boot").took_ns;
    world.confirm().expect("a confirmation");
    world.settle();
    let next = release(&world, 3);
    install(&mut world, &next);
    let second = world.boots.last().expect("a boot").took_ns;
    let difference = first.abs_diff(second);
    assert!(difference < first / 4, "{first} and {second} ns");
}

#[test]
fn an_update_that_comes_at_once_is_copied_over_a_copy_made_before_the_reset() {
    let setup = Setup {
        algorithm: Algorithm::Copy,
        ..Setup::small(8)
    };
    let mut world = World::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
    world
        .board
        .secondary
        .set_contents(0, OLD)
        .expect("within the slot");
    install(&mut world, &package());
    assert_eq!(version(&world), (2, false));
    assert_eq!(copy(&world), OLD);
    world.power_up().expect("a boot");
    assert_eq!(version(&world), (1, true));
}

#[test]
fn a_cut_while_the_first_image_is_copied_costs_nothing() {
    let setup = Setup {
        algorithm: Algorithm::Copy,
        ..Setup::small(8)
    };
    let new = || {
        let world = World::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
        // The place holds something else, and reads as neither blank nor equal.
        world
            .board
            .spare
            .set_contents(0, &[0x5A; 4096 * 7])
            .expect("within the area");
        world
    };
    let mut calm = new();
    let start = calm.board.power.ops();
    calm.settle();
    let operations = calm.board.power.ops() - start;
    assert!(operations > 30, "{operations}");
    for cut in (0..operations).step_by(3) {
        for fraction in [0.0, 0.5, 1.0] {
            let mut world = new();
            let seed = cut;
            world
                .board
                .power
                .cut_at(start + cut, Tear::Inside { fraction, seed });
            world.settle();
            if world.device().is_none() {
                world.power_up().expect("a boot");
            }
            assert_eq!(version(&world), (1, true), "cut {cut} at {fraction}");
            install(&mut world, &package());
            assert_eq!(version(&world), (2, false), "cut {cut} at {fraction}");
            world.power_up().expect("a boot");
            assert_eq!(
                version(&world),
                (1, true),
                "cut {cut} at {fraction}: the way back"
            );
        }
    }
}

#[test]
fn a_place_that_does_not_keep_the_copy_is_written_once_and_left_to_the_boot_stage() {
    let setup = Setup {
        algorithm: Algorithm::Copy,
        ..Setup::small(8)
    };
    let mut world = World::new(setup, OLD, LinkParams::default()).expect("the factory image boots");
    let start = world.board.spare.start();
    world.board.external.wear_out(start..start + 4096);
    let before = world.board.external.stats();
    world.settle();
    world.settle();
    let erases = (world.board.external.stats() - before).erases();
    assert!(erases < 20, "{erases} erases");
    assert_eq!(version(&world), (1, true));
}
