// SPDX-License-Identifier: Apache-2.0
//! A power cut at every flash operation of a packed update, from Create to the reset.

use bledfu_sim::link::LinkParams;
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::phone::smp::{Phone as App, Settings};
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::Algorithm;
use bledfu_transfer::ring::Channel;
use bledfu_transfer::secure_dfu::Then;
use bledfu_transfer::service::Step;

use crate::harness::{hex, init_for, Peer};
use crate::manager::{hash_of, Manager};
use crate::{alone, device, peer, running, Pair};

fn world(algorithm: Algorithm) -> World {
    let setup = device(algorithm, 12);
    let mut world =
        World::new(setup, &Pair::tiny().old, LinkParams::default()).expect("the old release boots");
    world.settle();
    world
}

/// Sends the update until it is confirmed.
fn update(world: &mut World, by_smp: bool, what: &str) {
    let pair = Pair::tiny();
    for _ in 0..3 {
        let done = match by_smp {
            true => world.update_smp(&pair.packed, Settings::of(App::Android), &mut |_| ()),
            false => world.update(&pair.package(), Phone::Android, 0, &mut |_| ()),
        };
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
        world.confirm().unwrap_or_else(|error| panic!("{what}: {error}"));
        let device = world.device().expect("the device is on");
        assert!(device.is_confirmed(), "{what}");
        if device.image().header.version.major == 2 {
            return;
        }
    }
    panic!("{what}: the update was never confirmed");
}

/// Operations up to the reset.
fn operations(algorithm: Algorithm) -> u64 {
    let pair = Pair::tiny();
    let mut peer = peer(device(algorithm, 12), &pair.old);
    peer.idle();
    let before = peer.board.power.ops();
    assert_eq!(peer.transfer(&init_for(&pair.packed), &pair.packed), "60 04 01");
    peer.board.power.ops() - before
}

// small-updates case 31
#[test]
fn a_cut_at_every_operation_leaves_one_of_the_images_and_the_repeated_update_succeeds() {
    let by_smp = [Algorithm::SwapMove, Algorithm::Overwrite];
    for (algorithm, by_smp) in Algorithm::ALL.map(|algorithm| (algorithm, by_smp.contains(&algorithm))) {
        let operations = operations(algorithm) + 4;
        assert!(operations > 40, "{algorithm:?}: there is something to cut");
        for op in 0..operations {
            for tear in [
                Tear::Before,
                Tear::Inside {
                    fraction: 0.6,
                    seed: op * 31 + 7,
                },
            ] {
                let mut world = world(algorithm);
                world.board.power.cut_at(world.board.power.ops() + op, tear);
                let what = format!("{algorithm:?}, operation {op} of {operations}, {tear:?}");
                update(&mut world, by_smp, &what);
                assert!(world.board.primary_image().is_some(), "{what}");
            }
        }
    }
}

/// A device that has just answered, long before the image is whole.
fn answered(by_smp: bool) -> Peer {
    let pair = Pair::medium();
    let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
    peer.idle();
    peer.idles = false;
    if by_smp {
        let mut manager = Manager::on(peer);
        manager.upload(&pair.packed, 1000);
        manager.peer.board.external.set_time_factor(20.0);
        let answer = manager.choose(Some(&hash_of(&pair.packed)), false);
        assert!(
            answer.images().expect("a list")[1].pending,
            "the peer is told that it will be installed"
        );
        return manager.peer;
    }
    assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
    peer.object(&pair.packed, 0, pair.packed.len());
    peer.board.external.set_time_factor(60.0);
    peer.burst(Channel::Control, &hex("04"));
    while !matches!(peer.device().step(), Some(Step::Send { .. })) {}
    peer
}

// What is promised with an answer that comes before the image is whole.
// small-updates case 31
// small-updates case 32
#[test]
fn a_cut_at_every_moment_after_the_answer_ends_with_the_new_image_staged() {
    let pair = Pair::medium();
    for by_smp in [false, true] {
        let mut calm = answered(by_smp);
        calm.assert_pending(false);
        let before = calm.board.power.ops();
        assert_eq!(alone(&mut calm), !by_smp);
        calm.assert_pending(true);
        let operations = calm.board.power.ops() - before;
        assert!(
            operations > 20,
            "{operations} operations are left after the answer"
        );
        for op in 0..operations {
            for (tear, second) in [
                (Tear::Before, None),
                (
                    Tear::Inside {
                        fraction: 0.3,
                        seed: op,
                    },
                    None,
                ),
                (
                    Tear::Inside {
                        fraction: 0.9,
                        seed: op,
                    },
                    Some(op * 7 % 40),
                ),
            ] {
                let what = format!("smp {by_smp}, operation {op} of {operations}, {tear:?}, then {second:?}");
                let mut peer = answered(by_smp);
                peer.board.external.set_time_factor(1.0);
                peer.board.power.cut_at(peer.board.power.ops() + op, tear);
                alone(&mut peer);
                assert!(peer.board.power.is_off(), "{what}");
                peer.restart();
                if let Some(second) = second {
                    let at = peer.board.power.ops() + second;
                    peer.board.power.cut_at(
                        at,
                        Tear::Inside {
                            fraction: 0.5,
                            seed: second,
                        },
                    );
                    alone(&mut peer);
                    peer.board.power.cut_at_none();
                    peer.restart();
                }
                // Nobody connects any more. The boot stage may have installed it already.
                if running(&mut peer).0 == 1 {
                    let resets = alone(&mut peer);
                    assert_eq!(resets, !by_smp, "{what}");
                    assert!(peer.board.is_pending().expect("a trailer"), "{what}");
                    peer.assert_held(&pair.new);
                    peer.then = Then::Reset;
                    peer.reboot();
                }
                assert_eq!(running(&mut peer).0, 2, "{what}");
            }
        }
    }
}
