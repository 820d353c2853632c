// SPDX-License-Identifier: Apache-2.0
//! What is in the flashes after a packed update, and what it cost to get there.

use bledfu_sim::device::{BoardOf, Setup};
use bledfu_sim::nor::Units;
use bledfu_slot::Algorithm;
use bledfu_transfer::secure_dfu::Then;

use crate::harness::{init_for, Peer};
use crate::{compressed, device, peer, running, Pair};

/// Sends a packed update over Secure DFU, up to the answer to the last Execute.
pub fn send(peer: &mut Peer, packed: &[u8]) -> String {
    peer.transfer(&init_for(packed), packed)
}

fn snapshot<I: Units, X: Units>(board: &BoardOf<I, X>) -> [Vec<u8>; 3] {
    [
        board.primary.contents(),
        board.secondary.contents(),
        board.spare.contents(),
    ]
}

// small-updates case 28
// small-updates case 30
#[test]
fn the_slot_holds_the_release_and_the_install_runs_with_every_algorithm() {
    let pair = Pair::small();
    for algorithm in Algorithm::ALL {
        let mut peer = peer(device(algorithm, 16), &pair.old);
        peer.idle();
        let before = snapshot(&peer.board);
        assert_eq!(send(&mut peer, &pair.packed), "60 04 01", "{algorithm:?}");
        assert_eq!(peer.then, Then::Reset);
        peer.assert_held(&pair.new);
        let (area, layout) = peer.board.receiving().unwrap();
        let after = snapshot(&peer.board);
        assert!(
            before[0] == after[0],
            "{algorithm:?}: the primary slot is unchanged"
        );
        let is_first = area.contents() == after[1];
        let other = if is_first { 2 } else { 1 };
        assert!(
            before[other] == after[other],
            "{algorithm:?}: and the other place"
        );
        let end = layout.secondary_trailer().first_sector() as usize;
        let far = end - pair.packed.len().next_multiple_of(4096);
        assert!(
            area.contents()[far..].starts_with(&pair.packed),
            "{algorithm:?}: the file is still there"
        );
        peer.install_and_confirm(&pair.new);
        assert_eq!(running(&mut peer), (2, true), "{algorithm:?}");
    }
}

#[test]
fn the_same_with_other_units() {
    use bledfu_sim::device::WithUnits;
    use bledfu_sim::link::LinkParams;
    use bledfu_sim::phone::secure_dfu::Phone;
    use bledfu_sim::world::WorldOf;

    struct Case(Setup);
    impl WithUnits for Case {
        type Output = ();
        fn run<I: Units, X: Units>(self) {
            let pair = Pair::small();
            let mut world = WorldOf::<I, X>::new(self.0, &pair.old, LinkParams::default()).unwrap();
            world
                .update(&pair.package(), Phone::Android, 0, &mut |_| ())
                .unwrap();
            let device = world.device().unwrap();
            assert_eq!(device.image().header.version.major, 2);
        }
    }
    use bledfu_sim::parts::{MX25R6435F, NRF52840};
    for algorithm in Algorithm::ALL {
        for unit in [1, 2, 4] {
            let setup = Setup {
                internal: &MX25R6435F,
                write_unit: unit,
                external_write_unit: unit,
                ..device(algorithm, 16)
            };
            if setup.check_units().is_ok() {
                setup.with_units(Case(setup)).unwrap();
            }
        }
        device(algorithm, 16)
            .on(&NRF52840, 4)
            .with_units(Case(device(algorithm, 16)))
            .unwrap();
    }
}

// small-updates case 29
#[test]
fn a_file_and_its_image_that_just_fit_are_taken_and_a_sector_more_is_not() {
    let pair = Pair::small();
    let needs = |bytes: &[u8]| bytes.len().div_ceil(4096) as u32;
    // One sector in front of an update, and one for the trailer.
    let exact = 2 + needs(&pair.new) + needs(&pair.packed);
    for (sectors, answer) in [(exact, "60 04 01"), (exact - 1, "60 04 0B 0D")] {
        let mut peer = peer(device(Algorithm::SwapOffset, sectors), &pair.old);
        peer.idle();
        let erased = peer.board.external.stats().erases();
        assert_eq!(send(&mut peer, &pair.packed), answer, "{sectors} sectors");
        peer.assert_pending(answer == "60 04 01");
        if answer != "60 04 01" {
            assert!(
                peer.board.external.stats().erases() - erased <= 9,
                "only what Create erases, and a page of the journal"
            );
        }
    }
}

// small-updates case 2
#[test]
fn a_compressed_release_needs_no_base() {
    let pair = Pair::small();
    let packed = compressed(&pair.new);
    assert!(packed.len() < pair.new.len());
    let mut peer = peer(device(Algorithm::SwapOffset, 24), &pair.old);
    assert_eq!(send(&mut peer, &packed), "60 04 01");
    peer.assert_held(&pair.new);
    peer.install_and_confirm(&pair.new);
}
