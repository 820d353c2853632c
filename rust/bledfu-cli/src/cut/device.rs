// SPDX-License-Identifier: Apache-2.0
//! A device that gets an update: flashes, images, boots, and what must hold after each boot.

use std::rc::Rc;

use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::parts::Rewrite;
use bledfu_sim::plain::Plain;
use bledfu_sim::power::{OpInfo, OpKind, Power};
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::evidence::Log;
use bledfu_slot::trailer::{self, Flag, Magic, Trailer};
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, Slot, SoftCrypto, Version};
use bledfu_swap::{boot, BootConfig, BootError, BootReport, Downgrade, NoEvidence, Store};
use embedded_storage::nor_flash::ReadNorFlash;
use sha2::{Digest, Sha256};

use super::known_hash::KnownHashes;
use super::plain::edges;
use super::shapes::{Shape, Story};

/// The image that runs at first.
pub(super) const OLD: usize = 0;
/// The update.
pub(super) const NEW: usize = 1;
/// Genuine, and older than both.
pub(super) const OLDEST: usize = 2;
/// Genuine, and newer than both.
pub(super) const NEWER: usize = 3;

/// Major versions of the images.
const VERSIONS: [u8; 4] = [8, 9, 1, 10];
/// Boots behind one that ended with an error of a flash, before that counts.
const BOOTS_AFTER_ERRORS: u32 = 3;

/// The rules of the boot stage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Which images may replace the running one.
    pub downgrade: Downgrade,
    /// Whether the primary image is checked in full at every boot.
    pub verify_primary: bool,
    /// Whether there is a trust area.
    pub evidence: bool,
}

impl Rules {
    /// The rules of devices that have a trust area.
    pub(super) const STRICT: Self = Self {
        downgrade: Downgrade::ByVersion,
        verify_primary: true,
        evidence: true,
    };

    /// The rules of devices in the field that have none.
    pub(super) const LOOSE: Self = Self {
        downgrade: Downgrade::Allowed,
        verify_primary: true,
        evidence: false,
    };
}

/// Images are accepted by their digests: a campaign cannot check a million signatures. Images that must be refused for
/// their age are on the list, too; otherwise they would be refused for the wrong reason.
pub(super) struct Images {
    pub bytes: [Vec<u8>; 4],
    /// Number of bytes that the digest covers.
    pub hashed: [usize; 4],
    pub digests: [[u8; 32]; 4],
}

/// A device with a running old image and a requested new one.
#[derive(Clone)]
pub(super) struct Device<const W: usize, const X: usize> {
    pub layout: Layout,
    pub power: Power,
    pub primary: Plain<W>,
    pub secondary: Plain<X>,
    /// In internal or in external flash.
    pub spare: Plain<1>,
    /// Two pages of internal flash.
    pub trust: Plain<W>,
    pub rules: Rules,
    pub images: Rc<Images>,
    /// A reset hit an image on trial before it confirmed itself, so it may be reverted: that is the purpose of a trial.
    unconfirmed: bool,
}

/// Why a device is lost, or in a wrong state.
pub(super) type Verdict = Result<(), String>;

impl<const W: usize, const X: usize> Device<W, X> {
    /// `None` if the shape cannot hold these images.
    pub(super) fn new(
        algorithm: Algorithm,
        shape: &Shape,
        sizes: [u32; 2],
        story: Story,
        rules: Rules,
    ) -> Option<Self> {
        let power = Power::new();
        let geometry = |(sectors, sector_size): (u32, u32), write_size| Geometry {
            slot_size: sectors * sector_size,
            sector_size,
            write_size,
        };
        let spare_memory = match algorithm {
            Algorithm::SwapScratch => (shape.write_size, shape.rewrite),
            _ => (shape.outside, Rewrite::ClearsBits),
        };
        let spare = geometry(shape.spare, spare_memory.0);
        let layout = Layout::with_spare(
            algorithm,
            geometry(shape.primary, shape.write_size),
            geometry(shape.secondary, shape.outside),
            algorithm.has_spare().then_some(spare),
            shape.max_align,
            shape.max_sectors,
        )
        .ok()?;
        let size = |(sectors, sector): (u32, u32)| sectors * sector;
        let (inside, outside, third) = (shape.primary, shape.secondary, shape.spare);
        let key = SigningKey::from_scalar(&[7; 32])?;
        let image = |index: usize| {
            let version = Version {
                major: VERSIONS[index],
                minor: 0,
                revision: 0,
                build: 0,
            };
            let size = sizes[usize::from(index != OLD)].min(layout.max_image_size());
            ImageSpec::demo(version, size as usize, &key)
        };
        let specs = [image(OLD)?, image(NEW)?, image(OLDEST)?, image(NEWER)?];
        let images = Rc::new(Images {
            bytes: specs.each_ref().map(ImageSpec::build),
            hashed: specs.each_ref().map(|spec| spec.hashed_bytes().len()),
            digests: specs.map(|spec| Sha256::digest(spec.hashed_bytes()).into()),
        });
        let mut device = Self {
            layout,
            primary: Plain::erased("primary", size(inside), inside.1, &power)
                .of_memory(shape.write_size, shape.rewrite),
            secondary: Plain::erased("secondary", size(outside), outside.1, &power),
            spare: Plain::erased("third", size(third), third.1, &power)
                .of_memory(spare_memory.0, spare_memory.1),
            trust: Plain::erased("trust", 2 * inside.1, inside.1, &power)
                .of_memory(shape.write_size, shape.rewrite),
            power,
            rules,
            images: images.clone(),
            unconfirmed: false,
        };
        device.primary.load(0, &images.bytes[OLD]);
        if rules.evidence {
            // The device has booted before, so its evidence is there.
            device.boot().ok()?;
        }
        device.request(NEW, story == Story::Permanent);
        device.count_from_here();
        Some(device)
    }

    /// The next operation is number 0.
    pub(super) fn count_from_here(&mut self) {
        let now = self.clone();
        self.become_copy(&now);
    }

    /// Becomes a copy of `other` in its own power domain: its operations count from 0.
    pub(super) fn become_copy(&mut self, other: &Self) {
        self.power = other.power.of_a_copy();
        self.primary.become_copy(&other.primary, &self.power);
        self.secondary.become_copy(&other.secondary, &self.power);
        self.spare.become_copy(&other.spare, &self.power);
        self.trust.become_copy(&other.trust, &self.power);
        self.rules = other.rules;
        self.unconfirmed = other.unconfirmed;
    }

    /// Stores image `index` and requests it, as an application does.
    fn request(&mut self, index: usize, permanent: bool) {
        let images = self.images.clone();
        let slot = Slot::new(&self.layout);
        let place = &mut self.secondary;
        place.cells.fill(0xFF);
        place.load(self.layout.upload_offset(), &images.bytes[index]);
        let verified = slot
            .verify(place, &trusting(&images.digests), &SoftCrypto)
            .expect("an image of its own");
        let requested = match permanent {
            true => trailer::request_permanent(place, &verified),
            false => trailer::request_test(place, &verified),
        };
        requested.expect("an erased trailer");
    }

    pub(super) fn boot(&mut self) -> Result<BootReport, BootError> {
        let images = self.images.clone();
        let config = BootConfig {
            layout: self.layout,
            policy: trusting(&images.digests),
            downgrade: self.rules.downgrade,
            verify_primary: self.rules.verify_primary,
        };
        let mut log = Log::new(&mut self.trust);
        let evidence: &mut dyn Store = match self.rules.evidence {
            true => &mut log,
            false => &mut NoEvidence,
        };
        boot(
            &mut self.primary,
            &mut self.secondary,
            &mut self.spare,
            &config,
            &KnownHashes(images.clone()),
            evidence,
            &mut |_| {},
        )
    }

    pub(super) fn runs(&self, index: usize) -> bool {
        self.primary.holds(0, &self.images.bytes[index])
    }

    /// Whether the primary slot holds all of an image that its digest covers: what is executed.
    pub(super) fn executes(&self, index: usize) -> bool {
        let images = &self.images;
        self.primary
            .holds(0, &images.bytes[index][..images.hashed[index]])
    }

    /// Whether the primary slot reads as one of the two images in this boot. Weak cells may read differently in a later one.
    fn reads_as_image(&mut self) -> bool {
        let images = self.images.clone();
        let mut found = vec![0; self.primary.cells.len()];
        self.power.weak().is_some()
            && self.primary.read(0, &mut found).is_ok()
            && images.bytes[..2].iter().any(|image| found.starts_with(image))
    }

    /// The image in the primary slot, if there is one.
    pub(super) fn running(&self) -> Option<usize> {
        (0..VERSIONS.len()).find(|index| self.runs(*index))
    }

    /// One reset, and what the application does after it. `Ok(false)`: the power was cut.
    pub(super) fn live(&mut self, story: Story) -> Result<bool, String> {
        self.power.power_on();
        self.unconfirmed |= self.revert_is_due();
        let mut booted = self.boot();
        // As the boot image does when a flash has failed: it resets, and takes the work up again. Only cells that read differently
        // each time make that worth a try.
        for _ in 0..BOOTS_AFTER_ERRORS {
            let has_failed = matches!(booted, Err(BootError::Flash(_))) && !self.power.is_off();
            if !has_failed || self.power.weak().is_none() {
                break;
            }
            self.power.power_on();
            booted = self.boot();
        }
        match booted {
            Err(_) if self.power.is_off() => return Ok(false),
            Err(error) => return Err(error.to_string()),
            // What a boot says after the cut, nobody hears.
            Ok(_) if self.power.is_off() => return Ok(false),
            Ok(_) => {}
        }
        if !self.runs(OLD) && !self.runs(NEW) && !self.reads_as_image() {
            return Err("what started is neither image".into());
        }
        if story == Story::Confirm && self.runs(NEW) {
            match trailer::confirm(&mut self.primary, &self.layout) {
                Ok(()) => {}
                Err(_) if self.power.is_off() => return Ok(false),
                // Some flash takes no mark where a weak one is. The application sees that, and the image is taken back.
                Err(_) if self.power.weak().is_some() => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }

    /// Runs the story until the cut.
    pub(super) fn live_until_cut(&mut self, story: Story) -> Verdict {
        for _ in 0..=story.resets() {
            if !self.live(story)? {
                break;
            }
        }
        self.power.cut_at_none();
        Ok(())
    }

    /// In any area, for the image that does not run.
    pub(super) fn keeps(&self, index: usize) -> bool {
        let image = &self.images.bytes[index];
        let sector = self.layout.secondary().sector_size;
        self.secondary.holds(0, image) || self.secondary.holds(sector, image) || self.spare.holds(0, image)
    }

    /// The [`edges`] of the trailer that an operation erases.
    pub(super) fn trailer_edges(&self, op: &OpInfo) -> Vec<u32> {
        let trailer = match op.chip {
            "primary" => Some(self.layout.primary_trailer()),
            "secondary" => Some(self.layout.secondary_trailer()),
            "third" => self.layout.spare_trailer(),
            _ => None,
        };
        match trailer {
            Some(trailer) if op.kind == OpKind::Erase => edges(&trailer, op.address, op.length),
            _ => Vec::new(),
        }
    }

    /// With copy, the place that the next update does not use holds the running image. Always true for other
    /// algorithms.
    fn spares_the_copy(&mut self, running: usize) -> bool {
        if self.layout.algorithm() != Algorithm::Copy {
            return true;
        }
        let places = (&mut self.secondary, &mut self.spare);
        let image = &self.images.bytes[running];
        match copy_roles::incoming(&mut self.primary, places.0, places.1, &self.layout) {
            Ok(Place::First) => self.spare.holds(0, image),
            Ok(Place::Second) => self.secondary.holds(0, image),
            Err(_) => false,
        }
    }

    /// Whether the image in the primary slot is complete but not confirmed.
    fn revert_is_due(&mut self) -> bool {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).is_ok_and(|found| {
            found.magic == Magic::Good && found.copy_done != Flag::Unset && found.image_ok == Flag::Unset
        })
    }

    /// After the power is back: the story continues, with one more step than usual, and must reach its end.
    pub(super) fn finish(&mut self, story: Story) -> Verdict {
        for reset in 0..=story.resets() {
            if !self.live(story)? {
                return Err("the power went off by itself".into());
            }
            if reset == 0 && reverts(&self.layout) && !(self.keeps(OLD) || self.runs(OLD)) {
                return Err("the image before is gone".into());
            }
        }
        let wanted = match story {
            Story::Confirm if self.unconfirmed && self.runs(OLD) && reverts(&self.layout) => OLD,
            _ => self.wanted(story),
        };
        if !self.runs(wanted) {
            return Err(format!("{} ends with the other image", story.name()));
        }
        match self.spares_the_copy(wanted) {
            true => Ok(()),
            false => Err("the next update goes over the copy of the running image".into()),
        }
    }

    /// The image that must run when the story has ended.
    pub(super) fn wanted(&self, story: Story) -> usize {
        match story {
            _ if !reverts(&self.layout) => NEW,
            Story::Revert | Story::Upgrade => OLD,
            Story::Confirm | Story::Permanent => NEW,
        }
    }
}

pub(super) const fn reverts(layout: &Layout) -> bool {
    !matches!(layout.algorithm(), Algorithm::Overwrite)
}

fn trusting(digests: &[[u8; 32]]) -> ImagePolicy<'_> {
    ImagePolicy {
        keys: &[],
        trusted_digests: digests,
        unsigned: false,
        address: None,
    }
}

/// One boot on primary, secondary and spare area; images are trusted by their digests.
pub(crate) fn boot_trusting<const P: usize, const S: usize, const X: usize>(
    digests: &[[u8; 32]],
    layout: Layout,
    (primary, secondary, spare): (&mut Plain<P>, &mut Plain<S>, &mut Plain<X>),
) -> Result<BootReport, BootError> {
    let config = BootConfig {
        layout,
        policy: trusting(digests),
        downgrade: Downgrade::Allowed,
        verify_primary: true,
    };
    boot(
        primary,
        secondary,
        spare,
        &config,
        &SoftCrypto,
        &mut NoEvidence,
        &mut |_| {},
    )
}
