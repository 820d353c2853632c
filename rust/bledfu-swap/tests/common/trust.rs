// SPDX-License-Identifier: Apache-2.0
//! What the tests of boot trust share: a device with a trust area, images by age, and an attacker who writes the
//! external flash.
//!
//! A is the image that ran before and B the update; O is genuine and older than both; U is signed by nobody.
#![allow(dead_code)] // each test program uses its part

use std::rc::Rc;

use bledfu_slot::evidence::{self, Evidence, Log, NoEvidence};
use bledfu_slot::trailer::{self, magic_bytes, Trailer};
use bledfu_slot::verify::VerifyError;
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, SoftCrypto, SwapType};
use bledfu_swap::{boot, BootAction, BootConfig, BootError, BootReport, Downgrade, SkipReason};
use bledfu_testkit::{Image, Key, Nor, Op, Power, Tear, SECTOR};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};

/// Sectors of a slot.
pub const SECTORS: usize = 8;

/// Size of a payload in bytes: with header and TLVs, three sectors.
const PAYLOAD: u32 = 9000;

/// The policies that refuse a downgrade.
pub const POLICIES: [Downgrade; 2] = [Downgrade::ByVersion, Downgrade::BySecurityCounter];

/// The algorithms with a way back.
pub const REVERTING: [Algorithm; 4] = [
    Algorithm::SwapOffset,
    Algorithm::SwapMove,
    Algorithm::SwapScratch,
    Algorithm::Copy,
];

/// A genuine image of this version; its security counter is ten times the major version plus the minor version.
pub fn image(major: u8, minor: u8) -> Image {
    image_of(major, minor, PAYLOAD)
}

/// The same with this many bytes of payload.
pub fn image_of(major: u8, minor: u8, payload: u32) -> Image {
    let counter = u32::from(major) * 10 + u32::from(minor);
    Image::bare(0x200, payload, u64::from(counter))
        .version(major, minor, 0, 0)
        .protect(&[(0x50, &counter.to_le_bytes()[..])])
        .sign(Key(7))
}

/// The images of a test. They are accepted by digest, so that campaigns need not check thousands of signatures. Images
/// that must be refused for their age are on the list, too; otherwise they would be refused for the wrong reason.
pub struct Images {
    /// 8.0
    pub a: Vec<u8>,
    /// 9.0
    pub b: Vec<u8>,
    /// 1.0
    pub old: Vec<u8>,
    /// Header and TLVs of B with other code.
    pub unsigned: Vec<u8>,
    /// 8.5
    pub between: Vec<u8>,
    /// 9.1
    pub fixed: Vec<u8>,
    /// 10.0
    pub c: Vec<u8>,
    digests: [[u8; 32]; 6],
}

impl Images {
    pub fn of(payload: [u32; 2]) -> Rc<Self> {
        let [of_a, of_b] = payload;
        let found = [
            image_of(8, 0, of_a),
            image_of(9, 0, of_b),
            image_of(1, 0, of_b),
            image_of(8, 5, of_b),
            image_of(9, 1, of_b),
            image_of(10, 0, of_b),
        ];
        let digests = found.each_ref().map(Image::digest);
        let [a, b, old, between, fixed, c] = found.map(|image| image.bytes());
        let mut unsigned = b.clone();
        unsigned[0x200..0x200 + of_b as usize].fill(0xEE);
        Rc::new(Self {
            a,
            b,
            old,
            unsigned,
            between,
            fixed,
            c,
            digests,
        })
    }

    /// The image that these bytes begin with.
    pub fn name(&self, bytes: &[u8]) -> &'static str {
        let known = [
            ("A", &self.a),
            ("B", &self.b),
            ("O", &self.old),
            ("U", &self.unsigned),
            ("8.5", &self.between),
            ("9.1", &self.fixed),
            ("C", &self.c),
        ];
        known
            .iter()
            .find(|(_, image)| bytes.starts_with(image))
            .map_or("no image", |(name, _)| name)
    }
}

/// What the external trailers are made to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    None,
    Test,
    Permanent,
    /// An install that has ended and was not confirmed.
    Revert,
}

/// A device whose trust area holds the evidence that A was confirmed.
pub struct Device<const W: usize = 4> {
    pub layout: Layout,
    pub power: Rc<Power>,
    pub primary: Nor<W>,
    pub secondary: Nor<W>,
    pub spare: Nor<W>,
    pub trust: Nor<W>,
    pub images: Rc<Images>,
    pub downgrade: Downgrade,
    pub verify_primary: bool,
    /// Whether there is a trust area.
    pub evidence: bool,
}

fn geometry<const W: usize>(sectors: usize) -> Geometry {
    Geometry {
        slot_size: (sectors * SECTOR) as u32,
        sector_size: SECTOR as u32,
        write_size: W as u32,
    }
}

impl Device {
    /// A runs, was confirmed, and the boot stage has seen it.
    pub fn new(algorithm: Algorithm, downgrade: Downgrade) -> Self {
        Self::of_units(algorithm, downgrade)
    }

    /// The same before its first boot.
    pub fn fresh(algorithm: Algorithm, downgrade: Downgrade) -> Self {
        Self::fresh_of(algorithm, downgrade, [PAYLOAD; 2])
    }

    /// B is on trial.
    pub fn on_trial(algorithm: Algorithm, downgrade: Downgrade) -> Self {
        let mut device = Self::new(algorithm, downgrade);
        device.upload_b(Claim::Test);
        assert_eq!(device.boots(), "B", "{algorithm:?}");
        device
    }

    /// B was confirmed, and a boot has noted it.
    pub fn confirmed(algorithm: Algorithm, downgrade: Downgrade) -> Self {
        let mut device = Self::on_trial(algorithm, downgrade);
        device.confirm();
        assert_eq!(device.boots(), "B", "{algorithm:?}");
        device
    }
}

impl<const W: usize> Device<W> {
    /// As [`Device::new`], with this write unit.
    pub fn of_units(algorithm: Algorithm, downgrade: Downgrade) -> Self {
        let mut device = Self::fresh_of(algorithm, downgrade, [PAYLOAD; 2]);
        assert_eq!(device.boots(), "A");
        device
    }

    /// A device whose images have this many bytes of payload, before its first boot.
    pub fn fresh_of(algorithm: Algorithm, downgrade: Downgrade, payload: [u32; 2]) -> Self {
        let spare = match algorithm {
            Algorithm::SwapScratch => Some(geometry::<W>(1)),
            Algorithm::Copy => Some(geometry::<W>(SECTORS)),
            _ => None,
        };
        Self::with_spare(
            algorithm,
            downgrade,
            payload,
            spare.map_or(0, |area| area.sectors() as usize),
        )
    }

    /// The same with a spare area of this many sectors.
    pub fn with_spare(algorithm: Algorithm, downgrade: Downgrade, payload: [u32; 2], spare: usize) -> Self {
        let slot = geometry::<W>(SECTORS);
        let max_sectors = if W > 8 { 32 } else { 64 };
        let layout = Layout::with_spare(
            algorithm,
            slot,
            slot,
            (spare > 0).then(|| geometry::<W>(spare)),
            (W as u32).max(8),
            max_sectors,
        )
        .unwrap();
        let power = Power::new();
        let images = Images::of(payload);
        let mut primary = Nor::new('p', SECTORS, &power);
        primary.load(0, &images.a);
        let mut device = Self {
            layout,
            primary,
            secondary: Nor::new('s', SECTORS, &power),
            spare: Nor::new('x', spare, &power),
            trust: Nor::new('t', 2, &power),
            power,
            images,
            downgrade,
            verify_primary: true,
            evidence: true,
        };
        // In external flash, anybody may write any byte.
        for area in [&mut device.primary, &mut device.secondary, &mut device.spare] {
            area.lenient = true;
        }
        device
    }

    /// A copy of the device with its own power supply.
    pub fn fork(&self) -> Self {
        let power = self.power.of_a_copy();
        let copy = |area: &Nor<W>| {
            let mut copy = area.fork(&power);
            copy.lenient = area.lenient;
            copy
        };
        Self {
            layout: self.layout,
            primary: copy(&self.primary),
            secondary: copy(&self.secondary),
            spare: copy(&self.spare),
            trust: copy(&self.trust),
            power,
            images: self.images.clone(),
            downgrade: self.downgrade,
            verify_primary: self.verify_primary,
            evidence: self.evidence,
        }
    }

    /// One boot with other external flashes.
    pub fn boot_with(
        &mut self,
        secondary: &mut impl NorFlash,
        spare: &mut impl NorFlash,
    ) -> Result<BootReport, BootError> {
        let config = BootConfig {
            layout: self.layout,
            policy: ImagePolicy {
                keys: &[],
                trusted_digests: &self.images.digests,
                unsigned: false,
                address: None,
            },
            downgrade: self.downgrade,
            verify_primary: self.verify_primary,
        };
        let mut log = Log::new(&mut self.trust);
        let evidence: &mut dyn evidence::Store = match self.evidence {
            true => &mut log,
            false => &mut NoEvidence,
        };
        boot(
            &mut self.primary,
            secondary,
            spare,
            &config,
            &SoftCrypto,
            evidence,
            &mut |_| {},
        )
    }

    /// One boot.
    pub fn boot(&mut self) -> Result<BootReport, BootError> {
        let nothing = |power: &Rc<Power>| Nor::new('-', 0, power);
        let mut secondary = std::mem::replace(&mut self.secondary, nothing(&self.power));
        let mut spare = std::mem::replace(&mut self.spare, nothing(&self.power));
        let report = self.boot_with(&mut secondary, &mut spare);
        (self.secondary, self.spare) = (secondary, spare);
        report
    }

    /// Resets; returns the name of the image that starts.
    pub fn boots(&mut self) -> &'static str {
        self.boots_to().0
    }

    /// Resets; returns the name of the image that starts, and what the boot did.
    pub fn boots_to(&mut self) -> (&'static str, Option<BootAction>) {
        self.power.on();
        match self.boot() {
            Ok(report) => (self.runs(), Some(report.action)),
            Err(_) => ("nothing", None),
        }
    }

    /// The names of the images that start after this many resets.
    pub fn resets(&mut self, count: u32) -> Vec<&'static str> {
        (0..count).map(|_| self.boots()).collect()
    }

    /// The image in the primary slot.
    pub fn runs(&self) -> &'static str {
        self.images.name(&self.primary.bytes)
    }

    /// The application confirms itself.
    pub fn confirm(&mut self) {
        trailer::confirm(&mut self.primary, &self.layout).unwrap();
    }

    /// The application has received B.
    pub fn upload_b(&mut self, claim: Claim) {
        let image = self.images.b.clone();
        self.upload(&image, claim);
    }

    /// The application has received this image.
    pub fn upload(&mut self, image: &[u8], claim: Claim) {
        let at = self.layout.upload_offset() as usize;
        self.secondary.bytes.fill(0xFF);
        self.secondary.load(at, image);
        self.claim(claim);
    }

    /// Writes this claim into the secondary trailer.
    pub fn claim(&mut self, claim: Claim) {
        let trailer = self.layout.secondary_trailer();
        self.secondary.bytes[trailer.status_start() as usize..].fill(0xFF);
        let (image_ok, copy_done) = match claim {
            Claim::None => return,
            Claim::Test => (0xFF, 0xFF),
            Claim::Permanent => (1, 0xFF),
            Claim::Revert => (0xFF, 1),
        };
        self.secondary
            .load(trailer.magic() as usize, &magic_bytes(trailer.max_align()));
        self.secondary.load(trailer.image_ok() as usize, &[image_ok]);
        self.secondary.load(trailer.copy_done() as usize, &[copy_done]);
    }

    /// Where an attacker may put an image: the start of each area, and where uploads start.
    pub fn places(&self) -> Vec<usize> {
        match self.layout.upload_offset() as usize {
            0 => vec![0],
            upload => vec![0, upload],
        }
    }

    /// The attacker erases all external flash and puts this image at one of the [places](Self::places).
    pub fn rewrite(&mut self, place: usize, image: &[u8], claim: Claim) {
        self.secondary.bytes.fill(0xFF);
        self.spare.bytes.fill(0xFF);
        self.secondary.load(place, image);
        if self.layout.algorithm() == Algorithm::Copy {
            self.spare.load(0, image);
        }
        self.claim(claim);
    }

    /// The attacker puts the forged image in place of each sector of the genuine one.
    pub fn forge(&mut self) {
        let images = self.images.clone();
        for area in [&mut self.secondary, &mut self.spare] {
            for held in area.bytes.chunks_mut(SECTOR) {
                for (good, evil) in images.b.chunks(SECTOR).zip(images.unsigned.chunks(SECTOR)) {
                    if held.starts_with(good) {
                        held[..evil.len()].copy_from_slice(evil);
                    }
                }
            }
        }
    }

    /// Flips a bit of the image in the primary slot.
    pub fn damage_primary(&mut self) {
        self.primary.bytes[0x300] ^= 1;
    }

    /// The last record of the trust area.
    pub fn evidence(&mut self) -> Option<Evidence> {
        evidence::last(&mut self.trust)
    }

    /// Major version of the floor; 0 if there is none.
    pub fn floor(&mut self) -> u8 {
        self.evidence().map_or(0, |evidence| evidence.floor.version.0)
    }

    /// The trailer of the secondary.
    pub fn secondary_trailer(&mut self) -> Trailer {
        Trailer::read(&mut self.secondary, &self.layout.secondary_trailer()).unwrap()
    }

    /// Whether this image is complete somewhere in external flash, without weak bytes.
    pub fn is_outside(&self, image: &[u8]) -> bool {
        let at = |area: &Nor<W>, start: usize| {
            area.bytes
                .get(start..)
                .is_some_and(|bytes| bytes.starts_with(image))
                && !area.weak.any_in(start as u32..(start + image.len()) as u32)
        };
        at(&self.secondary, 0) || at(&self.secondary, SECTOR) || at(&self.spare, 0)
    }

    /// Boots with a cut at this operation; true if the operation was reached.
    pub fn is_cut_at(&mut self, operation: u64, tear: Tear) -> bool {
        self.power.on();
        self.power.cut_at(operation, tear);
        let _ = self.boot();
        self.power.is_off()
    }

    /// A device for each cut before an operation of its next boot.
    pub fn each_cut(&self) -> impl Iterator<Item = (u64, Self)> + '_ {
        (0..).map_while(|operation| {
            let mut device = self.fork();
            device
                .is_cut_at(operation, Tear::Before)
                .then_some((operation, device))
        })
    }

    /// The operations of the next boot, on a copy.
    pub fn operations(&self) -> Vec<Op> {
        let mut device = self.fork();
        device.power.on();
        device.power.record();
        let _ = device.boot();
        device.power.recorded()
    }
}

/// Size in bytes of the largest program that writes fields of a trailer and no part of an image.
pub const FIELD: usize = 64;

/// Whether it is a refusal because of age.
pub fn is_refused_as_older(action: Option<BootAction>) -> bool {
    matches!(
        action,
        Some(BootAction::Rejected {
            reason: VerifyError::Older | VerifyError::SecurityCounter,
            ..
        })
    )
}

/// Whether the request was left alone for this reason.
pub fn is_skipped(action: Option<BootAction>, wanted: SkipReason) -> bool {
    matches!(action, Some(BootAction::Skipped { reason, .. }) if reason == wanted)
}

/// Whether an image was installed with this swap type.
pub fn is_installed(action: Option<BootAction>, wanted: SwapType) -> bool {
    matches!(action, Some(BootAction::Installed { swap_type, .. }) if swap_type == wanted)
}

/// Whether it is a refusal of the image itself, not because of its age.
pub fn is_rejected(action: Option<BootAction>) -> bool {
    matches!(action, Some(BootAction::Rejected { .. }))
}

/// The kind of a flash error.
pub type Kind = NorFlashErrorKind;
