// SPDX-License-Identifier: Apache-2.0
//! Power cuts: one whole update (receive, verify, swap, confirm) and one revert, cut at every flash operation, before
//! it and inside it.
//!
//! After each cut: the device boots a valid image (the boot stage verifies it, or there is no boot), the update can be
//! finished, and no object that was reported as executed must be sent again.

use bledfu_sim::device::Setup;
use bledfu_sim::link::LinkParams;
use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::layout::Algorithm;

const OLD: &[u8] = include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin");
const NEW: &[u8] = include_bytes!("../../../tests/vectors/packages/small-2.0.0.zip");

fn setup() -> Setup {
    Setup::small(8)
}

fn package() -> Package {
    Package::read(NEW).expect("a good vector")
}

fn world(setup: Setup) -> World {
    World::new(setup, OLD, LinkParams::default()).expect("the factory image boots")
}

fn version(world: &World) -> (u8, bool) {
    let device = world.device().expect("the device is on");
    (device.image().header.version.major, device.is_confirmed())
}

/// Runs an update to its confirmation, through any planned cut, and checks that progress never goes back.
fn update_and_confirm(world: &mut World, what: &str) {
    let package = package();
    for _ in 0..3 {
        let mut executed = 0;
        world
            .update(&package, Phone::Android, 0, &mut |at| {
                assert!(
                    at >= executed,
                    "{what}: {executed} bytes were reported as received, then {at}"
                );
                executed = at;
            })
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        world.confirm().unwrap_or_else(|error| panic!("{what}: {error}"));
        // A cut between the start of the new image and its confirmation brings the old one back, as it must.
        if version(world) == (2, true) {
            return;
        }
        assert_eq!(version(world), (1, true), "{what}");
    }
    panic!("{what}: the update was never confirmed");
}

/// Every way an operation can be cut.
fn tears(op: u64) -> [Tear; 4] {
    let inside = |fraction| Tear::Inside {
        fraction,
        seed: op * 31 + 7,
    };
    [Tear::Before, inside(0.25), inside(0.5), inside(0.9)]
}

fn campaign(setup: Setup, name: &str, prepare: impl Fn(&mut World), run: impl Fn(&mut World, &str)) -> u64 {
    let mut calm = world(setup);
    prepare(&mut calm);
    let before = calm.board.power.ops();
    run(&mut calm, name);
    let operations = calm.board.power.ops() - before;
    assert!(operations > 20, "{name}: there is something to cut");

    for op in 0..operations {
        for tear in tears(op) {
            let mut world = world(setup);
            prepare(&mut world);
            world.board.power.cut_at(world.board.power.ops() + op, tear);
            let what = format!("{name}, operation {op} of {operations}, {tear:?}");
            run(&mut world, &what);
            assert!(
                world.board.primary_image().is_some(),
                "{what}: the primary is valid"
            );
        }
    }
    operations
}

#[test]
fn an_update_cut_at_every_operation_can_always_be_finished() {
    let operations = campaign(setup(), "update", World::settle, update_and_confirm);
    println!("{operations} operations, each cut before and torn at three points");
}

#[test]
fn an_update_into_a_used_slot_cut_at_every_operation_can_always_be_finished() {
    let fill = |world: &mut World| world.board.secondary.set_contents(0, OLD).expect("it fits");
    campaign(setup(), "update into a used slot", fill, update_and_confirm);
}

#[test]
fn an_overwrite_cut_at_every_operation_can_always_be_finished() {
    let setup = Setup {
        algorithm: Algorithm::Overwrite,
        ..setup()
    };
    campaign(setup, "overwrite", World::settle, update_and_confirm);
}

#[test]
fn a_revert_cut_at_every_operation_ends_with_the_old_image_and_the_update_still_works() {
    let install = |world: &mut World| {
        let outcome = world.update(&package(), Phone::Android, 0, &mut |_| ());
        outcome.expect("an undisturbed update");
        assert_eq!(version(world), (2, false));
    };
    campaign(setup(), "revert", install, |world, what| {
        world.power_up().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(
            version(world),
            (1, true),
            "{what}: the old image is back, for good"
        );
        update_and_confirm(world, what);
    });
}
