// SPDX-License-Identifier: Apache-2.0
//! Packed updates that are refused, and that the running image and the next transfer do not suffer from it.

use bledfu_patch::pack::{pack, Options};
use bledfu_patch::record::{OUT_SHA, PACK};
use bledfu_sim::make::ImageSpec;
use bledfu_sim::packed::{covered, wrap};
use bledfu_sim::power::OpKind;
use bledfu_slot::Algorithm;
use bledfu_swap::Downgrade;
use bledfu_transfer::secure_dfu::Then;
use bledfu_transfer::upload::OldestAccepted;

use crate::flash::send;
use crate::harness::{image_key, init_for, package_key, Peer};
use crate::{compressed, device, packed_of, packed_spec, peer, release_spec, running, used, Pair};

const SECTORS: u32 = 24;
/// The output area of these devices begins here.
const NEAR: u32 = 4096;

fn old_device() -> Peer {
    let mut peer = peer(device(Algorithm::SwapOffset, SECTORS), &Pair::small().old);
    peer.idle();
    peer
}

/// The same with a used slot.
fn used_device() -> Peer {
    used(device(Algorithm::SwapOffset, SECTORS), &Pair::small().old)
}

/// Where the file of so many bytes goes in the slot.
fn far(peer: &Peer, bytes: usize) -> u32 {
    let (_, layout) = peer.board.receiving().expect("a trailer");
    layout.secondary_trailer().first_sector() - (bytes as u32).next_multiple_of(4096)
}

/// The sectors of the output area that were erased, in order.
fn erased(peer: &Peer, far: u32) -> Vec<u32> {
    peer.board
        .power
        .recorded()
        .iter()
        .filter(|op| op.kind == OpKind::Erase && op.chip == "external" && (NEAR..far).contains(&op.address))
        .map(|op| op.address)
        .collect()
}

/// The file is refused with this answer, nothing is erased for its image, and the full image follows in the same connection.
#[track_caller]
fn refused(peer: &mut Peer, packed: &[u8], answer: &str) {
    let far = far(peer, packed.len());
    let before = peer.board.primary.contents();
    assert_eq!(send(peer, packed), answer);
    // The first Create erases for an image as long as the file.
    let expected = packed.len().div_ceil(4096).min(1);
    assert!(
        erased(peer, far).len() <= expected.max(packed.len().div_ceil(4096)),
        "the output area"
    );
    peer.assert_pending(false);
    assert!(before == peer.board.primary.contents(), "the running image");
    let full = &Pair::small().new;
    assert_eq!(
        peer.transfer(&init_for(full), full),
        "60 04 01",
        "the full image follows"
    );
    peer.install_and_confirm(full);
}

// small-updates case 36
// small-updates case 45
#[test]
fn the_wrong_base() {
    let pair = Pair::small();
    let other = release_spec(1, 181).build();
    let mut peer = used(device(Algorithm::SwapOffset, SECTORS), &other);
    refused(&mut peer, &pair.packed, "60 04 0B 05");
}

// small-updates case 20
// small-updates case 23
#[test]
fn an_entry_pack_that_has_no_meaning() {
    let pair = Pair::small();
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut spec = packed_spec(&pair.old, &pair.new);
        let entry = spec.protected.iter_mut().find(|(kind, _)| *kind == PACK);
        change(&mut entry.expect("there is one").1);
        spec.build()
    };
    let size =
        |size: u32| change(&move |value: &mut Vec<u8>| value[4..8].copy_from_slice(&size.to_le_bytes()));
    for (packed, answer) in [
        (change(&|value| value.truncate(23)), "60 04 0B 0C"),
        (change(&|value| value.push(0)), "60 04 0B 0C"),
        (change(&|value| value[0] = 2), "60 04 0B 0C"),
        (change(&|value| value[1] = 3), "60 04 0B 0C"),
        (change(&|value| value[2] = 4), "60 04 0B 0C"),
        (change(&|value| value[3] = 1), "60 04 0B 0C"),
        (size(32), "60 04 0B 0D"),
        (size(u32::MAX), "60 04 0B 0D"),
    ] {
        refused(&mut used_device(), &packed, answer);
    }
}

// small-updates case 19
#[test]
fn another_flag_beside_the_one_of_a_packed_update() {
    let pair = Pair::small();
    for flags in [0x11, 0x210, 0x30] {
        let mut spec = packed_spec(&pair.old, &pair.new);
        spec.flags = flags;
        refused(&mut used_device(), &spec.build(), "60 04 0B 0C");
    }
}

// small-updates case 26
#[test]
fn a_non_bootable_image_that_is_no_packed_update() {
    let mut spec = ImageSpec::new(release_spec(2, 180).version, vec![7; 900], &image_key());
    (spec.flags, spec.header_size) = (0x10, 32);
    refused(&mut used_device(), &spec.build(), "60 04 0B 0C");
}

// small-updates case 25
#[test]
fn the_key_of_packages_signs_no_packed_update() {
    let pair = Pair::small();
    let mut spec = packed_spec(&pair.old, &pair.new);
    spec.key = package_key();
    refused(&mut used_device(), &spec.build(), "60 04 0B 0C");
}

// small-updates case 37
#[test]
fn a_base_with_one_wrong_bit() {
    let pair = Pair::small();
    let mut peer = old_device();
    let at = peer.board.primary.contents()[9_000];
    peer.board
        .primary
        .set_contents(9_000, &[at ^ 0x10])
        .expect("within the slot");
    assert_eq!(send(&mut peer, &pair.packed), "60 04 0B 0C");
    peer.assert_pending(false);
}

// small-updates case 4
#[test]
fn a_stream_that_makes_another_image_or_none() {
    let pair = Pair::small();
    // OUT_SHA of something else.
    let mut spec = packed_spec(&pair.old, &pair.new);
    for (kind, value) in &mut spec.protected {
        if *kind == OUT_SHA {
            value[0] ^= 1;
        }
    }
    for (spec, is_cut) in [(spec, false), (packed_spec(&pair.old, &pair.new), true)] {
        let mut spec = spec;
        if is_cut {
            let len = spec.payload.len() / 2;
            spec.payload.truncate(len);
        }
        let mut peer = old_device();
        assert_eq!(send(&mut peer, &spec.build()), "60 04 0B 0C");
        peer.assert_pending(false);
        let full = &pair.new;
        assert_eq!(
            peer.transfer(&init_for(full), full),
            "60 04 01",
            "the full image follows"
        );
    }
}

// small-updates case 38
#[test]
fn what_runs_already_is_not_made_again() {
    let pair = Pair::small();
    let mut peer = used(device(Algorithm::SwapOffset, SECTORS), &pair.new);
    for packed in [pair.packed.clone(), compressed(&pair.new)] {
        peer.reconnect();
        assert_eq!(send(&mut peer, &packed), "60 04 01");
        assert_eq!(peer.then, Then::Disconnect);
        peer.assert_pending(false);
    }
    let far = far(&peer, compressed(&pair.new).len());
    let sectors = compressed(&pair.new).len().div_ceil(4096) as u32;
    assert!(
        erased(&peer, far).iter().all(|at| *at < NEAR + sectors * 4096),
        "only for the files"
    );
}

// small-updates case 39
#[test]
fn an_image_on_trial() {
    let pair = Pair::small();
    let mut peer = old_device();
    assert_eq!(send(&mut peer, &pair.packed), "60 04 01");
    peer.reboot();
    assert_eq!(running(&mut peer), (2, false));
    let third = release_spec(3, 180).build();
    let packed = packed_of(&pair.new, &third);
    assert_eq!(peer.send_init(&init_for(&packed)), "60 04 08");
}

// small-updates case 40
#[test]
fn a_security_counter_that_is_too_low() {
    let old = release_spec(1, 180).with_security_counter(7).build();
    for (counter, answer) in [(6, "60 04 0B 05"), (7, "60 04 01")] {
        let new = release_spec(2, 180).with_security_counter(counter).build();
        let packed = packed_of(&old, &new);
        let setup = bledfu_sim::device::Setup {
            downgrade: Downgrade::BySecurityCounter,
            floor: OldestAccepted {
                counter: Some(7),
                ..OldestAccepted::default()
            },
            ..device(Algorithm::SwapOffset, SECTORS)
        };
        let mut peer = used(setup, &old);
        assert_eq!(send(&mut peer, &packed), answer);
        if counter < 7 {
            assert_eq!(erased(&peer, far(&peer, packed.len())), [NEAR], "only at Create");
        }
    }
}

#[test]
fn an_older_release() {
    let (old, older) = (release_spec(3, 180).build(), release_spec(2, 180).build());
    let mut peer = peer(device(Algorithm::SwapOffset, SECTORS), &old);
    assert_eq!(send(&mut peer, &packed_of(&old, &older)), "60 04 0B 05");
}

// small-updates case 33
#[test]
fn rubbish_in_the_output_area_is_erased_once() {
    let pair = Pair::small();
    let mut peer = used_device();
    assert_eq!(send(&mut peer, &pair.packed), "60 04 01");
    peer.assert_held(&pair.new);
    let far = far(&peer, pair.packed.len());
    let expected: Vec<u32> = (0..pair.new.len().div_ceil(4096) as u32)
        .map(|sector| NEAR + sector * 4096)
        .collect();
    assert_eq!(erased(&peer, far), expected);
}

// small-updates case 34
#[test]
fn a_blank_output_area_is_not_erased() {
    let pair = Pair::small();
    let mut peer = peer(device(Algorithm::SwapOffset, 32), &pair.old);
    peer.idle();
    peer.board.power.record();
    assert_eq!(send(&mut peer, &pair.packed), "60 04 01");
    let far = far(&peer, pair.packed.len());
    assert!(erased(&peer, far).is_empty());
}

#[test]
fn a_file_of_more_than_half_a_slot_is_refused_by_name() {
    let pair = Pair::small();
    let packed = compressed(&pair.new);
    // One sector in front, one for the trailer: what is left is less than the file twice.
    let sectors = 2 + 2 * packed.len().div_ceil(4096) as u32 - 1;
    let old = release_spec(1, 100).build();
    let mut peer = peer(device(Algorithm::SwapOffset, sectors), &old);
    assert_eq!(peer.send_init(&init_for(&packed)), "60 04 01");
    peer.object(&packed, 0, 4096);
    peer.ask("04", "60 04 0B 0D");
}

#[test]
fn a_package_that_fills_its_file_up_to_words_is_taken() {
    let pair = Pair::small();
    for more in 1..4 {
        let mut packed = pair.packed.clone();
        packed.resize(packed.len() + more, 0xFF);
        let mut peer = old_device();
        assert_eq!(send(&mut peer, &packed), "60 04 01", "{more} bytes");
        peer.assert_held(&pair.new);
    }
    let mut packed = pair.packed.clone();
    packed.resize(packed.len() + 4, 0xFF);
    refused(&mut used_device(), &packed, "60 04 0B 0C");
}

#[test]
fn the_covered_part_of_the_base_alone_counts() {
    // Two signings of one build have one digest.
    let pair = Pair::small();
    let base = covered(&pair.old).expect("an image");
    let stream = pack(base, &pair.new, &Options::default(), &mut |_| ()).expect("a pair");
    let digest = bledfu_sim::device::image_digest(&pair.old);
    let packed = wrap(&stream, digest, &pair.new, &image_key())
        .expect("an image")
        .build();
    assert_eq!(send(&mut old_device(), &packed), "60 04 01");
}
