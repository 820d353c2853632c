// SPDX-License-Identifier: Apache-2.0
//! The numbered cases of `doc/conformance/small-updates.md` on a whole device: what it does with a packed update, from
//! Create to the new image.

#[path = "../harness/mod.rs"]
mod harness;

mod cuts;
mod flash;
#[path = "../conformance_smp/manager.rs"]
mod manager;
mod refusals;
mod secure_dfu;
mod smp;
#[path = "../conformance_smp/smp_client.rs"]
#[allow(dead_code)]
mod smp_client;

use std::sync::OnceLock;

use bledfu_patch::pack::Options;
use bledfu_sim::device::Setup;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::Package;
use bledfu_sim::packed;
use bledfu_slot::{Algorithm, Version};
use bledfu_testkit::Program;
use bledfu_transfer::service::{Step, FOREVER};

use harness::{image_key, init_for, keys, package, version, Peer};

/// Address of the slots of these devices.
const ADDRESS: u32 = 0xD000;

/// The program of a release, and the one of the next.
fn program(release: u8, functions: u32) -> Vec<u8> {
    let mut program = Program::new(7, functions);
    if release > 1 {
        program.add_function(functions as usize / 3, 8);
        program.grow(functions as usize / 2, 5);
        program.change_constant();
    }
    program.link(ADDRESS + 0x200)
}

/// The recipe of a release with this major version.
pub fn release_spec(major: u8, functions: u32) -> ImageSpec {
    ImageSpec::new(version(major), program(major, functions), &image_key())
}

/// A pair of releases with a packed update from one to the other.
pub struct Pair {
    pub old: Vec<u8>,
    pub new: Vec<u8>,
    pub packed: Vec<u8>,
}

impl Pair {
    fn of(functions: u32) -> Self {
        let old = release_spec(1, functions).build();
        let new = release_spec(2, functions).build();
        let packed = packed_of(&old, &new);
        Self { old, new, packed }
    }

    /// Releases of 23 KB: six sectors.
    pub fn small() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| Self::of(180))
    }

    /// Releases of 8 KB: two or three sectors.
    pub fn tiny() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| Self::of(60))
    }

    /// Releases of 70 KB: 18 sectors.
    pub fn medium() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| Self::of(800))
    }

    /// Releases of 475 KB, as large as that of the case.
    pub fn large() -> &'static Self {
        static PAIR: OnceLock<Pair> = OnceLock::new();
        PAIR.get_or_init(|| Self::of(5_420))
    }

    /// The package with the packed update.
    pub fn package(&self) -> Package {
        package(&init_for(&self.packed), &self.packed)
    }

    /// The package with the full image.
    pub fn full(&self) -> Package {
        package(&init_for(&self.new), &self.new)
    }
}

/// The packed update from one file to another.
pub fn packed_of(old: &[u8], new: &[u8]) -> Vec<u8> {
    packed_spec(old, new).build()
}

/// Its recipe.
pub fn packed_spec(old: &[u8], new: &[u8]) -> ImageSpec {
    let options = Options {
        base_addr: ADDRESS,
        ..Options::default()
    };
    packed::spec(Some(old), new, &options, &image_key()).expect("two releases")
}

/// The file of a packed update that needs no base.
pub fn compressed(new: &[u8]) -> Vec<u8> {
    packed::spec(None, new, &Options::default(), &image_key())
        .expect("a release")
        .build()
}

/// A device with slots of this many sectors.
pub fn device(algorithm: Algorithm, sectors: u32) -> Setup {
    Setup {
        algorithm,
        keys: keys(),
        object_size: 4096,
        ..Setup::small(sectors)
    }
}

/// The same that runs the old release, and its peer.
pub fn peer(setup: Setup, old: &[u8]) -> Peer {
    Peer::with_factory(setup, old)
}

/// So many steps of the device, whatever they are.
pub fn steps(peer: &mut Peer, count: u32) {
    for _ in 0..count {
        let _ = peer.device().step();
    }
}

/// A device with a used slot, that does nothing of itself.
pub fn used(setup: Setup, old: &[u8]) -> Peer {
    let mut peer = peer(setup, old);
    peer.idles = false;
    peer.dirty_slot();
    peer.reboot();
    peer.board.power.record();
    peer
}

/// The device alone, for at most so many steps: whether it asked for a reset.
pub fn alone(peer: &mut Peer) -> bool {
    for _ in 0..3_000 {
        if peer.board.power.is_off() {
            return false;
        }
        let now_ms = peer.now_ms();
        match peer.device().step() {
            Some(Step::Reset) => return true,
            Some(Step::Wait { until_ms }) if until_ms == FOREVER => return false,
            Some(Step::Wait { until_ms }) => {
                peer.board
                    .power
                    .advance_ns(until_ms.saturating_sub(now_ms) * 1_000_000);
            }
            _ => {}
        }
    }
    panic!("the device does not come to rest");
}

/// What runs, and whether it is confirmed.
pub fn running(peer: &mut Peer) -> (u8, bool) {
    let device = peer.device();
    let Version { major, .. } = device.image().header.version;
    (major, device.is_confirmed())
}
