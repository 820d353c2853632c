// SPDX-License-Identifier: Apache-2.0
//! A device with one of the algorithms that MCUboot has.

use std::rc::Rc;

use bledfu_slot::trailer::{self, Flag, Magic, Trailer};
use bledfu_slot::{Algorithm, Geometry, Layout, Slot, SoftCrypto};
use bledfu_swap::BootReport;
use bledfu_testkit::{Image, Key, Nor, Power, SECTOR};

use crate::common::campaign::{Ends, Story, Subject};
use crate::common::{boot_once, config, trusted, BootResult};

type Chip = Nor<4>;

const KEY: Key = Key(7);

/// Image sizes for swaps of 3 sectors; either the primary or the secondary image is the larger one.
pub const SIZES: [(u32, u32); 2] = [(5000, 9000), (9000, 2000)];

/// The swaps with status records.
pub const SWAPS: [Algorithm; 3] = [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch];

pub fn layout(algorithm: Algorithm, sectors: (u32, u32), max_align: u32, max_sectors: u32) -> Layout {
    let scratch = (algorithm == Algorithm::SwapScratch).then(|| geometry(1, 1));
    Layout::with_spare(
        algorithm,
        geometry(sectors.0, 1),
        geometry(sectors.1, 1),
        scratch,
        max_align,
        max_sectors,
    )
    .unwrap()
}

/// An area of this many sectors, each of this many test sectors.
pub fn geometry(sectors: u32, size: u32) -> Geometry {
    Geometry {
        slot_size: sectors * size * SECTOR as u32,
        sector_size: size * SECTOR as u32,
        write_size: 4,
    }
}

pub fn plain(algorithm: Algorithm) -> Layout {
    layout(algorithm, (8, 8), 8, 128)
}

pub fn pending(layout: Layout, story: Story, old_size: u32, new_size: u32) -> Device {
    let mut device = Device::new(layout, old_size, new_size);
    device.upload(story == Story::Permanent);
    device.power.on();
    device
}

/// A device with an old image in the primary slot.
pub struct Device {
    pub layout: Layout,
    pub power: Rc<Power>,
    pub primary: Chip,
    pub secondary: Chip,
    /// The spare area, if the layout has one.
    pub spare: Chip,
    /// Digests of both images: they are accepted by digest, so that campaigns need not check thousands of signatures.
    pub digests: Vec<[u8; 32]>,
    pub old: Vec<u8>,
    pub new: Vec<u8>,
}

impl Device {
    pub fn new(layout: Layout, old_size: u32, new_size: u32) -> Self {
        let power = Power::new();
        let old = Image::bare(0x200, old_size, 1).version(1, 0, 0, 0).sign(KEY);
        let new = Image::bare(0x200, new_size, 2).version(2, 0, 0, 0).sign(KEY);
        let chip = |name, size: u32| Chip::new(name, size as usize / SECTOR, &power);
        let mut primary = chip('p', layout.primary().slot_size);
        primary.load(0, &old.bytes());
        let secondary = chip('s', layout.secondary().slot_size);
        let spare = chip('x', layout.spare().map_or(0, |area| area.slot_size));
        let digests = vec![old.digest(), new.digest()];
        Self {
            layout,
            power: power.clone(),
            primary,
            secondary,
            spare,
            digests,
            old: old.bytes(),
            new: new.bytes(),
        }
    }

    pub fn upload(&mut self, permanent: bool) {
        let image = self.new.clone();
        self.secondary.bytes.fill(0xFF);
        self.secondary.load(self.layout.upload_offset() as usize, &image);
        let policy = trusted(&self.digests);
        let slot = Slot::new(&self.layout)
            .verify(&mut self.secondary, &policy, &SoftCrypto)
            .unwrap();
        if permanent {
            trailer::request_permanent(&mut self.secondary, &slot).unwrap();
        } else {
            trailer::request_test(&mut self.secondary, &slot).unwrap();
        }
    }

    pub fn primary_trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).unwrap()
    }

    pub fn runs_old(&self) -> bool {
        self.primary.bytes.starts_with(&self.old)
    }
}

impl Subject for Device {
    const ENDS_OF_ERASES: &'static [usize] = &[16, 20, 24, 28, 32, 40, 44, 48, 52, 56];

    /// A copy of the device with its own power supply.
    fn fork(&self) -> Self {
        let power = Power::new();
        let copy = |chip: &Chip| chip.fork(&power);
        let (primary, secondary, spare) = (copy(&self.primary), copy(&self.secondary), copy(&self.spare));
        let Self {
            layout,
            digests,
            old,
            new,
            ..
        } = self;
        let (digests, old, new) = (digests.clone(), old.clone(), new.clone());
        Self {
            layout: *layout,
            power: power.clone(),
            primary,
            secondary,
            spare,
            digests,
            old,
            new,
        }
    }

    fn power(&self) -> &Power {
        &self.power
    }

    fn boot(&mut self) -> BootResult {
        let config = config(self.layout, trusted(&self.digests));
        boot_once(&mut self.primary, &mut self.secondary, &mut self.spare, &config)
    }

    fn confirm(&mut self) -> bool {
        trailer::confirm(&mut self.primary, &self.layout).is_ok()
    }

    fn runs_new(&self) -> bool {
        self.primary.bytes.starts_with(&self.new)
    }

    fn check_started(&self, report: &BootReport, what: &str) {
        assert!(self.digests.contains(&report.image.digest), "{what}");
        assert!(
            self.runs_new() || self.runs_old(),
            "what starts is one of the two images: {what}"
        );
    }

    fn revert_is_due(&mut self) -> bool {
        let trailer = self.primary_trailer();
        self.runs_new() && trailer.copy_done == Flag::Set && trailer.image_ok == Flag::Unset
    }

    /// The other image is complete somewhere: in the secondary, or about to be exchanged.
    fn check_kept(&mut self, what: &str) {
        let starts: &[usize] = match self.layout.algorithm() {
            Algorithm::SwapMove | Algorithm::SwapScratch => &[0],
            Algorithm::SwapOffset => &[0, SECTOR],
            _ => return,
        };
        let other = if self.runs_new() { &self.old } else { &self.new };
        assert!(
            starts
                .iter()
                .any(|start| self.secondary.bytes[*start..].starts_with(other)),
            "the other image is gone: {what}"
        );
    }

    /// Compares byte for byte, except for what MCUboot also leaves differently.
    fn check_end(&mut self, ends: &Ends<Self>, reverted: bool, story: Story, what: &str) {
        let mut expected = ends.when(reverted).fork();
        match self.layout.algorithm() {
            Algorithm::SwapMove | Algorithm::SwapOffset | Algorithm::SwapScratch => {
                normalise_records(self);
                normalise_records(&mut expected);
                let prepared = self.layout.algorithm() != Algorithm::SwapScratch;
                if prepared && (reverted || story == Story::Revert) {
                    // A revert that is cut after its preparation continues as a permanent swap of the old image, as in
                    // MCUboot.
                    mask_swap_info(self);
                    mask_swap_info(&mut expected);
                }
                assert_same(&self.primary, &expected.primary, what);
                assert_same(&self.secondary, &expected.secondary, what);
            }
            _ => {
                assert_same(&self.primary, &expected.primary, what);
                let layout = self.layout.secondary_trailer();
                let trailer = Trailer::read(&mut self.secondary, &layout).unwrap();
                assert_ne!(trailer.magic, Magic::Good, "still pending: {what}");
            }
        }
    }

    /// A record that the driver refused is missing for good (mcuboot case 101).
    fn forgive_refused(&mut self, ends: &Ends<Self>, reverted: bool) {
        let expected = ends.when(reverted);
        let trailer = self.layout.primary_trailer();
        for index in 0..trailer.record_count() {
            let at = (trailer.status_start() + index * trailer.status_unit()) as usize;
            if self.primary.bytes[at] == 0xFF {
                self.primary.bytes[at] = expected.primary.bytes[at];
            }
        }
    }
}

/// Masks the bytes that say how the swap was begun; in MCUboot, too, they may differ after a cut.
fn mask_swap_info(device: &mut Device) {
    let at = device.layout.primary_trailer().swap_info() as usize;
    device.primary.bytes[at] = 0;
}

/// A torn record counts and stays as it is, in MCUboot too: it only matters that it is not erased.
fn normalise_records(device: &mut Device) {
    let trailer = device.layout.primary_trailer();
    for index in 0..trailer.record_count() {
        let at = (trailer.status_start() + index * trailer.status_unit()) as usize;
        if device.primary.bytes[at] != 0xFF {
            device.primary.bytes[at] = 0;
        }
    }
}

fn assert_same(found: &Chip, expected: &Chip, what: &str) {
    // At once, because nearly all are the same, a million times.
    if found.bytes == expected.bytes {
        return;
    }
    if let Some(at) = (0..found.bytes.len()).find(|i| found.bytes[*i] != expected.bytes[*i]) {
        let chip = found.chip;
        panic!(
            "{chip} differs at {at:#x}: {:#04x}, not {:#04x}: {what}",
            found.bytes[at], expected.bytes[at]
        );
    }
}
