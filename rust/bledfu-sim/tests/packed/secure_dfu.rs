// SPDX-License-Identifier: Apache-2.0
//! Packed updates over Secure DFU.

use bledfu_sim::cost::CryptoCost;
use bledfu_sim::device::Setup;
use bledfu_sim::link::LinkParams;
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::power::Tear;
use bledfu_sim::world::World;
use bledfu_slot::Algorithm;
use bledfu_transfer::ring::Channel;
use bledfu_transfer::secure_dfu::Then;
use bledfu_transfer::service::Step;

use crate::flash::send;
use crate::harness::{checksum, hex, init_for, package, selected, Peer};
use crate::{alone, compressed, device, peer, running, Pair};

/// Milliseconds in which the answer to the last Execute must be there, with one step of the worker and the signature before
/// them.
const ANSWER_MS: u64 = 4_000 + 350;

fn world(setup: Setup, old: &[u8], mtu: u16) -> World {
    let link = LinkParams {
        mtu,
        ..LinkParams::default()
    };
    World::new(setup, old, link).expect("the old release boots")
}

fn runs(world: &World) -> u8 {
    world
        .device()
        .expect("the device is on")
        .image()
        .header
        .version
        .major
}

// small-updates case 43
#[test]
fn android_updates_with_one_object_and_with_four_at_any_mtu() {
    let pair = Pair::small();
    let compressed = compressed(&pair.new);
    assert!(pair.packed.len() < 4096 && compressed.len() > 2 * 4096);
    for mtu in [23, 247] {
        for packed in [&pair.packed, &compressed] {
            for phone in [Phone::Android, Phone::Ios, Phone::Nrfutil] {
                let mut world = world(device(Algorithm::SwapOffset, 24), &pair.old, mtu);
                let package = package(&init_for(packed), packed);
                let outcome = world.update(&package, phone, 0, &mut |_| ());
                let outcome = outcome.unwrap_or_else(|error| panic!("{phone:?} at {mtu}: {error}"));
                assert_eq!((runs(&world), outcome.sessions), (2, 1), "{phone:?} at {mtu}");
                world.confirm().expect("it confirms itself");
                world.power_up().expect("it boots");
                assert_eq!(runs(&world), 2);
            }
        }
    }
}

// small-updates case 35
#[test]
fn the_case_of_475_kilobytes_is_expanded_in_four_seconds_by_steps_of_a_sector() {
    let pair = Pair::large();
    let setup = Setup {
        crypto: CryptoCost::CORTEX_M,
        ..device(Algorithm::SwapOffset, 232)
    };
    for is_used in [false, true] {
        let mut peer = match is_used {
            true => crate::used(setup, &pair.old),
            false => peer(setup, &pair.old),
        };
        assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
        for begin in (0..pair.packed.len()).step_by(4096) {
            let end = (begin + 4096).min(pair.packed.len());
            peer.object(&pair.packed, begin, end);
            if end < pair.packed.len() {
                peer.ask("04", "60 04 01");
            }
        }
        peer.slowest_ns = 0;
        let began = peer.now_ms();
        peer.burst(Channel::Control, &hex("04"));
        let answer = answer(&mut peer);
        let took = peer.now_ms() - began;
        assert_eq!(answer, [0x60, 4, 1]);
        peer.work();
        let slowest = peer.slowest_ns / 1_000_000;
        println!(
            "{} bytes, used {is_used}: answer after {took} ms, longest step {slowest} ms",
            pair.new.len()
        );
        assert!(took <= if is_used { ANSWER_MS } else { 4_000 }, "{took} ms");
        assert!(slowest <= if is_used { 85 } else { 50 }, "{slowest} ms");
        assert_eq!(peer.then, Then::Reset);
        assert!(peer.board.is_pending().unwrap());
        peer.assert_held(&pair.new);
    }
}

/// The next answer.
fn answer(peer: &mut Peer) -> Vec<u8> {
    loop {
        let began = peer.board.power.now_ns();
        match peer.device().step() {
            Some(Step::Send { bytes, .. }) => return bytes.to_vec(),
            Some(_) => {}
            None => {
                let took = peer.board.power.now_ns() - began;
                peer.slowest_ns = peer.slowest_ns.max(took);
            }
        }
    }
}

// small-updates case 44
#[test]
fn an_answer_is_not_held_longer_than_four_seconds() {
    let pair = Pair::medium();
    let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
    peer.idle();
    assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
    peer.object(&pair.packed, 0, pair.packed.len());
    peer.board.external.set_time_factor(25.0);
    peer.idles = false;
    let began = peer.now_ms();
    peer.burst(Channel::Control, &hex("04"));
    assert_eq!(answer(&mut peer), [0x60, 4, 1]);
    // One step of this slow flash may lie between.
    let took = peer.now_ms() - began;
    assert!((4_000..5_500).contains(&took), "{took} ms");
    peer.assert_pending(false);
    assert!(alone(&mut peer), "it resets when the image is staged");
    assert!(peer.now_ms() - began > took + 1_000, "that takes longer");
    peer.assert_pending(true);
    peer.assert_held(&pair.new);
    peer.then = Then::Reset;
    peer.install_and_confirm(&pair.new);
}

// small-updates case 46
#[test]
fn a_link_lost_while_expanding_changes_nothing() {
    let pair = Pair::small();
    for steps in [3, 4, 6] {
        let mut peer = peer(device(Algorithm::SwapOffset, 16), &pair.old);
        let init = init_for(&pair.packed);
        assert_eq!(peer.send_init(&init), "60 04 01");
        peer.object(&pair.packed, 0, pair.packed.len());
        peer.burst(Channel::Control, &hex("04"));
        crate::steps(&mut peer, steps);
        peer.device().link_down();
        crate::steps(&mut peer, 2);
        peer.idles = false;
        peer.connect();
        // What a client asks after a reconnection.
        peer.ask("06 01", &selected(512, &init));
        peer.ask("04", "60 04 01");
        peer.ask("06 02", &selected(4096, &pair.packed));
        peer.ask("03", &checksum(&pair.packed));
        peer.ask("04", "60 04 01");
        assert_eq!(peer.then, Then::Reset, "after {steps} steps");
        peer.install_and_confirm(&pair.new);
    }
}

#[test]
fn a_peer_that_begins_again_while_the_image_is_made_need_not_send_anything() {
    let pair = Pair::small();
    let mut peer = peer(device(Algorithm::SwapOffset, 16), &pair.old);
    assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
    peer.object(&pair.packed, 0, pair.packed.len());
    peer.burst(Channel::Control, &hex("04"));
    crate::steps(&mut peer, 3);
    peer.device().link_down();
    peer.device().step();
    peer.device().link_up(bledfu_transfer::secure_dfu::Transport::Ble);
    peer.device().step();
    peer.idles = false;
    assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
    peer.ask("06 02", &selected(4096, &pair.packed));
    // Another update has to wait.
    peer.ask("01 02 00 10 00 00", "60 01 08");
    peer.ask("04", "60 04 01");
    peer.install_and_confirm(&pair.new);
}

// small-updates case 32
#[test]
fn what_was_promised_is_done_after_a_cut_without_any_peer() {
    let pair = Pair::small();
    for steps in 3..7 {
        let mut peer = peer(device(Algorithm::SwapOffset, 16), &pair.old);
        assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
        peer.object(&pair.packed, 0, pair.packed.len());
        peer.burst(Channel::Control, &hex("04"));
        crate::steps(&mut peer, steps);
        peer.restart();
        assert!(alone(&mut peer), "after {steps} steps it resets by itself");
        peer.assert_pending(true);
        peer.then = Then::Reset;
        peer.install_and_confirm(&pair.new);
    }
}

#[test]
fn without_an_execute_nothing_is_expanded() {
    let pair = Pair::small();
    let mut peer = peer(device(Algorithm::SwapOffset, 16), &pair.old);
    assert_eq!(peer.send_init(&init_for(&pair.packed)), "60 04 01");
    peer.object(&pair.packed, 0, pair.packed.len());
    peer.restart();
    assert!(!alone(&mut peer));
    peer.assert_pending(false);
    let begin = peer.board.received();
    assert!(
        begin[..4096].iter().all(|byte| *byte == 0xFF),
        "nothing is in the output area"
    );
}

// small-updates case 41
#[test]
fn a_long_file_goes_on_after_a_lost_link_and_a_reset() {
    let pair = Pair::small();
    let packed = compressed(&pair.new);
    let init = init_for(&packed);
    for end in (4096..packed.len()).step_by(4096) {
        for resets in [false, true] {
            let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
            assert_eq!(peer.send_init(&init), "60 04 01");
            let mut at = 0;
            while at < end {
                peer.object(&packed, at, at + 4096);
                peer.ask("04", "60 04 01");
                at += 4096;
            }
            match resets {
                true => drop(peer.reboot()),
                false => peer.reconnect(),
            }
            peer.ask("06 01", &selected(512, &init));
            peer.ask("04", "60 04 01");
            peer.ask("06 02", &selected(4096, &packed[..end]));
            assert_eq!(peer.image_from(&packed, end), "60 04 01");
            peer.install_and_confirm(&pair.new);
        }
    }
    // Links that break anywhere, and cuts.
    for drop_at in [100, 3_000, 5_000, 9_000] {
        let mut world = world(device(Algorithm::SwapOffset, 24), &pair.old, 247);
        world.mishaps.drop_link_at = [drop_at].into();
        let package = package(&init, &packed);
        world
            .update(&package, Phone::Android, 0, &mut |_| ())
            .expect("an update");
        assert_eq!(runs(&world), 2, "{drop_at}");
    }
    for cut in (1..90).step_by(7) {
        let mut world = world(device(Algorithm::SwapOffset, 24), &pair.old, 247);
        world.board.power.cut_at(
            world.board.power.ops() + cut,
            Tear::Inside {
                fraction: 0.5,
                seed: cut,
            },
        );
        let package = package(&init, &packed);
        world
            .update(&package, Phone::Android, 0, &mut |_| ())
            .expect("an update");
        assert_eq!(runs(&world), 2, "{cut}");
    }
}

#[test]
fn a_full_image_follows_a_packed_update_as_always() {
    let pair = Pair::small();
    let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
    assert_eq!(send(&mut peer, &pair.packed), "60 04 01");
    peer.install_and_confirm(&pair.new);
    peer.update_and_confirm_with(&crate::release_spec(3, 180).build());
    assert_eq!(running(&mut peer), (3, true));
}
