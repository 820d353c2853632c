// SPDX-License-Identifier: Apache-2.0
//! Packed updates over SMP: the client knows the digest of the file, and finds it in every list until the image is confirmed.

use bledfu_sim::device::Setup;
use bledfu_sim::link::LinkParams;
use bledfu_sim::phone::smp::{Mode, Phone, Settings};
use bledfu_sim::world::World;
use bledfu_slot::Algorithm;
use bledfu_transfer::doors::Peer as Trust;
use bledfu_transfer::secure_dfu::Then;
use bledfu_transfer::upload::TAKEOVER_MS;
use bledfu_wire::image_group::Error;
use bledfu_wire::smp::Failure;

use crate::harness::{init_for, Peer};
use crate::manager::{hash_of, Manager, RESET};
use crate::{alone, compressed, device, packed_of, peer, release_spec, running, Pair};

fn manager(old: &[u8], sectors: u32) -> Manager {
    Manager::on(peer(device(Algorithm::SwapOffset, sectors), old))
}

/// Slot, digest, and whether it is pending, confirmed, active.
fn list(manager: &mut Manager) -> Vec<(u64, [u8; 32], bool, bool, bool)> {
    let state = manager.state();
    let row = |image: &crate::smp_client::Image| {
        (
            image.slot,
            image.hash,
            image.pending,
            image.confirmed,
            image.active,
        )
    };
    state.iter().map(row).collect()
}

// small-updates case 47
#[test]
fn lists_have_the_digest_of_the_file_until_the_image_is_confirmed() {
    let pair = Pair::small();
    let (old, new, file) = (hash_of(&pair.old), hash_of(&pair.new), hash_of(&pair.packed));
    for (confirm, algorithm) in [
        (false, Algorithm::SwapOffset),
        (true, Algorithm::SwapOffset),
        (false, Algorithm::Copy),
    ] {
        let mut manager = Manager::on(peer(device(algorithm, 16), &pair.old));
        let last = manager.upload(&pair.packed, 1000);
        assert_eq!(
            last.map.get("match").and_then(|value| value.as_bool()),
            Some(true)
        );
        assert_eq!(
            list(&mut manager),
            [(0, old, false, true, true), (1, file, false, false, false)]
        );
        manager.peer.assert_pending(false);
        let answer = manager.choose(Some(&file), confirm);
        let images = answer.images().expect("a list");
        assert_eq!(
            (images[1].hash, images[1].pending, images[1].permanent),
            (file, true, confirm)
        );
        assert_eq!(images[1].version, "2.0.0");
        manager.peer.assert_pending(true);
        assert_eq!(
            list(&mut manager),
            [(0, old, false, true, true), (1, file, true, false, false)]
        );
        // Asked once more, nothing changes.
        assert_eq!(manager.choose(Some(&file), confirm).failure, None);
        manager.reset();
        assert_eq!(running(&mut manager.peer), (2, confirm));
        assert_eq!(list(&mut manager)[0], (0, file, false, confirm, true));
        let confirmed = manager.choose(Some(&file), true).images().expect("a list");
        assert_eq!((confirmed[0].hash, confirmed[0].confirmed), (file, true));
        assert_eq!(
            list(&mut manager)[0],
            (0, file, false, true, true),
            "the peer may ask once more"
        );
        manager.peer.drop_link();
        manager.peer.idle();
        manager.peer.connect();
        assert_eq!(list(&mut manager)[0], (0, new, false, true, true));
    }
}

// small-updates case 47
#[test]
fn a_peer_finds_its_file_even_if_the_image_was_confirmed_without_it() {
    let pair = Pair::small();
    let (new, file) = (hash_of(&pair.new), hash_of(&pair.packed));
    for algorithm in Algorithm::ALL {
        let mut manager = Manager::on(peer(device(algorithm, 16), &pair.old));
        manager.try_out(&pair.packed);
        // The product, or a peer whose link broke before the answer.
        assert!(manager.peer.device().confirm().is_ok());
        for _ in 0..2 {
            // Nobody has seen it yet, so a reset changes nothing.
            manager.peer.reboot();
            manager.peer.connect();
        }
        assert_eq!(
            list(&mut manager)[0],
            (0, file, false, true, true),
            "{algorithm:?}"
        );
        assert_eq!(manager.choose(Some(&file), true).failure, None);
        manager.peer.drop_link();
        manager.peer.idle();
        manager.peer.connect();
        assert_eq!(
            list(&mut manager)[0],
            (0, new, false, true, true),
            "{algorithm:?}"
        );
    }
}

#[test]
fn an_image_on_trial_is_confirmed_by_either_digest_or_by_none() {
    let pair = Pair::small();
    let (new, file) = (hash_of(&pair.new), hash_of(&pair.packed));
    for hash in [Some(&new), Some(&file), None] {
        let mut manager = manager(&pair.old, 16);
        manager.try_out(&pair.packed);
        assert_eq!(running(&mut manager.peer), (2, false));
        assert_eq!(manager.choose(hash.map(|hash| &hash[..]), true).failure, None);
        assert_eq!(running(&mut manager.peer), (2, true));
    }
}

// small-updates case 47
// small-updates case 48
#[test]
fn every_application_in_every_mode_takes_a_packed_update() {
    let pair = Pair::small();
    for phone in [Phone::Android, Phone::Ios, Phone::Smpclient] {
        for mode in [
            Mode::TestAndConfirm,
            Mode::TestOnly,
            Mode::ConfirmOnly,
            Mode::UploadOnly,
        ] {
            for (slow, mtu) in [(1.0, 498), (8.0, 247)] {
                let mut world = World::new(
                    device(Algorithm::SwapOffset, 16),
                    &pair.old,
                    LinkParams {
                        mtu,
                        ..LinkParams::default()
                    },
                )
                .expect("the old release boots");
                world.settle();
                world.board.external.set_time_factor(slow);
                let settings = Settings {
                    mode,
                    ..Settings::of(phone)
                };
                let outcome = world.update_smp(&pair.packed, settings, &mut |_| ());
                outcome.unwrap_or_else(|error| panic!("{settings:?}, {slow}: {error}"));
                let device = world.device().expect("the device is on");
                let found = (device.image().header.version.major, device.is_confirmed());
                let expected = match mode {
                    Mode::TestAndConfirm | Mode::ConfirmOnly => (2, true),
                    Mode::TestOnly => (2, false),
                    Mode::UploadOnly => (1, true),
                };
                assert_eq!(found, expected, "{settings:?}, {slow}");
                assert!(world.slowest_answer_ns < 2_000_000_000, "{settings:?}, {slow}");
            }
        }
    }
}

/// A manager whose image takes seconds to make.
fn slow() -> Manager {
    let pair = Pair::medium();
    let mut manager = manager(&pair.old, 24);
    manager.peer.idle();
    manager.peer.idles = false;
    manager.upload(&pair.packed, 1000);
    manager.peer.board.external.set_time_factor(7.0);
    manager
}

// small-updates case 48
#[test]
fn an_answer_is_not_held_longer_than_a_second_and_a_half() {
    let pair = Pair::medium();
    let file = hash_of(&pair.packed);
    let mut manager = slow();
    let began = manager.peer.now_ms();
    let images = manager.choose(Some(&file), false).images().expect("a list");
    let took = manager.peer.now_ms() - began;
    assert!((1_500..2_000).contains(&took), "{took} ms");
    assert!(images[1].pending);
    manager.peer.assert_pending(false);
    // The slot is taken, and the device answers.
    manager.refused(crate::manager::first(&pair.new, None, 600), Error::NoFreeSlot);
    manager.refused(
        bledfu_wire::image_group::Request::Erase { slot: None },
        Error::NoFreeSlot,
    );
    manager.is_alive();
    assert_eq!(list(&mut manager)[1], (1, file, true, false, false));
    assert!(!alone(&mut manager.peer), "nobody asked for a reset");
    manager.peer.assert_pending(true);
}

// small-updates case 49
#[test]
fn a_reset_while_expanding_is_answered_at_once_and_done_after_staging() {
    let pair = Pair::medium();
    for is_cut in [false, true] {
        let mut manager = slow();
        assert_eq!(manager.choose(Some(&hash_of(&pair.packed)), false).failure, None);
        manager.peer.assert_pending(false);
        let frame = manager.frame(&bledfu_wire::smp::Request::Os(RESET));
        let began = manager.peer.now_ms();
        for bytes in frame.chunks(244) {
            manager.peer.burst(bledfu_transfer::ring::Channel::Smp, bytes);
        }
        while manager.peer.device().step().is_none() {}
        assert!(manager.peer.now_ms() - began < 600, "one step at most");
        if is_cut {
            // The reset is remembered, too.
            manager.peer.restart();
        }
        assert!(alone(&mut manager.peer), "the reset follows");
        manager.peer.assert_pending(true);
        manager.peer.reboot();
        assert_eq!(running(&mut manager.peer), (2, false));
    }
}

// small-updates case 32
#[test]
fn without_a_request_a_cut_leaves_the_file_waiting_and_a_request_goes_on_from_there() {
    let pair = Pair::medium();
    let file = hash_of(&pair.packed);
    for steps in [0, 2, 4, 6, 100] {
        let mut manager = slow();
        for _ in 0..steps {
            manager.peer.device().step();
        }
        manager.peer.restart();
        let before = manager.peer.board.external.stats().programs;
        assert!(!alone(&mut manager.peer));
        manager.peer.assert_pending(false);
        assert_eq!(
            manager.peer.board.external.stats().programs,
            before,
            "no wear unasked"
        );
        manager.peer.board.external.set_time_factor(1.0);
        manager.peer.connect();
        assert_eq!(list(&mut manager)[1], (1, file, false, false, false));
        assert_eq!(
            manager.choose(Some(&file), false).failure,
            None,
            "after {steps} steps"
        );
        // The answer may come before the image.
        assert!(!alone(&mut manager.peer));
        manager.peer.assert_pending(true);
        manager.reset();
        assert_eq!(running(&mut manager.peer), (2, false));
    }
}

// small-updates case 32
#[test]
fn with_a_request_a_cut_ends_with_a_staged_image_and_no_reset() {
    let pair = Pair::medium();
    let mut manager = slow();
    assert_eq!(manager.choose(Some(&hash_of(&pair.packed)), true).failure, None);
    manager.peer.restart();
    assert!(!alone(&mut manager.peer), "a reset is for the peer to ask for");
    manager.peer.assert_pending(true);
    manager.peer.reboot();
    assert_eq!(
        running(&mut manager.peer),
        (2, true),
        "for good, as it was asked for"
    );
}

// small-updates case 50
#[test]
fn after_a_revert_the_base_is_listed_and_the_file_may_be_sent_again() {
    let pair = Pair::small();
    let old = hash_of(&pair.old);
    let mut manager = manager(&pair.old, 16);
    manager.try_out(&pair.packed);
    assert_eq!(running(&mut manager.peer), (2, false));
    manager.peer.reboot();
    assert_eq!(running(&mut manager.peer), (1, true), "it was not confirmed");
    assert_eq!(list(&mut manager)[0], (0, old, false, true, true));
    manager.try_out(&pair.packed);
    assert_eq!(running(&mut manager.peer), (2, false));
}

#[test]
fn the_same_file_after_the_update_changes_nothing() {
    let pair = Pair::small();
    let mut manager = manager(&pair.old, 16);
    manager.try_out(&pair.packed);
    assert_eq!(manager.choose(None, true).failure, None);
    manager.upload(&pair.packed, 1000);
    let failure = manager.choose(Some(&hash_of(&pair.packed)), false).failure;
    assert_eq!(failure, Some(Failure::Image(Error::SettingTestToActiveDenied)));
    manager.peer.assert_pending(false);
    // Who sent it finds it, and has nothing left to do.
    let file = hash_of(&pair.packed);
    assert_eq!(list(&mut manager)[0], (0, file, false, true, true));
    manager.peer.drop_link();
    manager.peer.idle();
    manager.peer.connect();
    assert_eq!(list(&mut manager)[0], (0, hash_of(&pair.new), false, true, true));
    // To have it run for good is what the device has done.
    manager.upload(&pair.packed, 1000);
    assert_eq!(manager.choose(Some(&file), true).failure, None);
    manager.peer.assert_pending(false);
}

// small-updates case 36
#[test]
fn the_wrong_base_is_refused_at_the_request_and_the_full_image_follows() {
    let pair = Pair::small();
    let other = release_spec(1, 181).build();
    let mut manager = manager(&other, 24);
    manager.upload(&pair.packed, 1000);
    let failure = manager.choose(Some(&hash_of(&pair.packed)), false).failure;
    assert_eq!(failure, Some(Failure::Image(Error::CurrentVersionIsNewer)));
    manager.peer.assert_pending(false);
    manager.try_out(&pair.new);
    assert_eq!(running(&mut manager.peer), (2, false));
}

// small-updates case 42
#[test]
fn another_protocol_takes_over_after_ten_seconds() {
    let pair = Pair::small();
    let packed = compressed(&pair.new);
    let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
    assert_eq!(peer.send_init(&init_for(&packed)), "60 04 01");
    peer.object(&packed, 0, 4096);
    peer.ask("04", "60 04 01");
    let mut manager = Manager::on(peer);
    manager.refused(crate::manager::first(&pair.packed, None, 600), Error::NoFreeSlot);
    manager.peer.board.power.advance_ns(TAKEOVER_MS * 1_000_000);
    manager.try_out(&pair.packed);
    assert_eq!(running(&mut manager.peer), (2, false));
    // And one that waits for its request ends with the next upload, of any kind.
    assert_eq!(manager.choose(None, true).failure, None);
    let third = release_spec(3, 180).build();
    manager.upload(&packed_of(&pair.new, &third), 1000);
    let end = |peer: &mut Peer, image: &[u8]| peer.transfer(&init_for(image), image);
    assert_eq!(end(&mut manager.peer, &third), "60 04 01");
    assert_eq!(manager.peer.then, Then::Reset);
}

#[test]
fn a_stranger_tests_a_packed_update_and_resets() {
    let pair = Pair::small();
    let setup = Setup {
        peer: Trust::Stranger,
        ..device(Algorithm::SwapOffset, 16)
    };
    let mut manager = Manager::on(peer(setup, &pair.old));
    manager.try_out(&pair.packed);
    assert_eq!(running(&mut manager.peer), (2, false));
}

// small-updates case 41
#[test]
fn a_long_file_goes_on_after_a_lost_link_and_a_reset() {
    let pair = Pair::small();
    let packed = compressed(&pair.new);
    for end in (4096..packed.len()).step_by(4096) {
        for resets in [false, true] {
            let mut manager = manager(&pair.old, 24);
            let sha = crate::harness::sha256(&packed);
            manager.begin(&packed, Some(&sha), 1024);
            for at in (1024..end).step_by(1024) {
                manager.piece(&packed, at, at + 1024);
            }
            match resets {
                true => drop(manager.peer.reboot()),
                false => manager.peer.reconnect(),
            }
            let answer = manager.begin(&packed, Some(&sha), 1024);
            assert_eq!(answer.offset(), Some(end as u64));
            manager.try_out(&packed);
            assert_eq!(running(&mut manager.peer), (2, false));
        }
    }
}
