// SPDX-License-Identifier: Apache-2.0
//! `bledfu cut`: the power is cut before and inside every flash operation of every kind of install, and again while the
//! device recovers from the first cut. After each cut, the device must start one of its two images, keep the image to
//! go back to where the algorithm has one, and reach the expected end. Then it tests hand-overs between MCUboot and
//! this boot stage, see [`mcuboot`](crate::mcuboot).

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::nor::TORN_ERASE_BORDER;
use bledfu_sim::parts::Rewrite;
use bledfu_sim::plain::Plain;
use bledfu_sim::power::{OpInfo, OpKind, Power, Random, Tear};
use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::trailer::{self, Flag, Magic, Trailer};
use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, Slot, SoftCrypto, TrailerLayout, Version};
use bledfu_swap::{boot, BootConfig, BootError, BootReport, Downgrade, NoEvidence};
use clap::Args;
use comfy_table::CellAlignment::{Left, Right};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use crate::args::algorithm_parser;
use crate::mcuboot::{self, Trace};
use crate::output::{is_quiet, Columns, Format, OutputError};

/// `bledfu cut`.
#[derive(Args, Clone, Debug)]
pub struct CutArgs {
    /// Include devices of real size with large images: half an hour on two cores instead of minutes.
    #[arg(long)]
    pub full: bool,
    /// Only this algorithm.
    #[arg(long, value_parser = algorithm_parser())]
    pub algorithm: Option<Algorithm>,
    /// JSON instead of the tables: one object in each line.
    #[arg(long)]
    pub json: bool,
}

/// What follows the request of an update, one step per reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// The update is installed on trial and runs.
    Upgrade,
    /// It confirms itself.
    Confirm,
    /// It never does, and the previous image is restored.
    Revert,
    /// The update is installed permanently.
    Permanent,
}

impl Story {
    const ALL: [Self; 4] = [Self::Upgrade, Self::Confirm, Self::Revert, Self::Permanent];

    const fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Confirm => "confirm",
            Self::Revert => "revert",
            Self::Permanent => "permanent",
        }
    }

    const fn resets(self) -> u32 {
        match self {
            Self::Upgrade => 1,
            Self::Confirm | Self::Permanent => 2,
            Self::Revert => 3,
        }
    }
}

/// Units and sizes of a device.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    /// Sectors and sector size.
    primary: (u32, u32),
    secondary: (u32, u32),
    spare: (u32, u32),
    write_size: u32,
    /// Write unit of the external flash.
    outside: u32,
    /// How the internal flash handles a unit that is written twice.
    rewrite: Rewrite,
    max_align: u32,
    max_sectors: u32,
}

const KIB: u32 = 1024;
const SECTOR: u32 = 4 * KIB;

const fn shape(name: &'static str, primary: u32, secondary: u32) -> Shape {
    Shape {
        name,
        primary: (primary, SECTOR),
        secondary: (secondary, SECTOR),
        spare: (0, SECTOR),
        write_size: 4,
        outside: 4,
        rewrite: Rewrite::ClearsBits,
        max_align: 8,
        max_sectors: 128,
    }
}

const fn aligned(name: &'static str, write_size: u32, max_align: u32, max_sectors: u32) -> Shape {
    Shape {
        write_size,
        outside: write_size,
        max_align,
        max_sectors,
        ..shape(name, 10, 10)
    }
}

/// Internal memories of other makers, beside NOR flash that is written in words and whose driver reports equally large
/// pages.
const OTHERS: [Shape; 3] = [
    Shape {
        rewrite: Rewrite::Refused,
        outside: 4,
        ..aligned("8 inside, error codes", 8, 8, 64)
    },
    Shape {
        rewrite: Rewrite::Replaces,
        outside: 4,
        ..aligned("16 inside, RRAM", 16, 16, 64)
    },
    Shape {
        rewrite: Rewrite::Refused,
        outside: 4,
        primary: (5, 2 * SECTOR),
        secondary: (5, 2 * SECTOR),
        spare: (0, 2 * SECTOR),
        ..aligned("16 in 8 KiB, error codes", 16, 16, 64)
    },
];

/// [`OTHERS`], with the spare area of the algorithm.
fn others(algorithm: Algorithm) -> impl Iterator<Item = Shape> {
    OTHERS.into_iter().map(move |shape| Shape {
        spare: match algorithm {
            Algorithm::SwapScratch => (1, shape.primary.1),
            Algorithm::Copy => shape.secondary,
            _ => shape.spare,
        },
        ..shape
    })
}

/// The large device: an nRF52840 with an external flash.
const LARGE: Shape = Shape {
    max_sectors: 256,
    ..shape("nRF52840, 928 KiB slots", 232, 232)
};

/// The small devices on which an algorithm is tested.
fn shapes(algorithm: Algorithm) -> Vec<Shape> {
    let plain = shape("4 KiB sectors", 8, 8);
    let with = |shape: Shape, sectors, size| Shape {
        spare: (sectors, size),
        ..shape
    };
    let coarse = |name| Shape {
        name,
        secondary: (3, 64 * KIB),
        ..plain
    };
    let mut found = match algorithm {
        Algorithm::SwapOffset => vec![shape("one sector more outside", 7, 8)],
        Algorithm::SwapMove => vec![shape("one sector more inside", 8, 7)],
        Algorithm::SwapScratch => {
            let double = Shape {
                name: "8 KiB sectors outside",
                secondary: (4, 2 * SECTOR),
                ..plain
            };
            let wide = Shape {
                name: "scratch of 2 sectors",
                ..plain
            };
            return vec![
                with(plain, 1, SECTOR),
                with(wide, 2, SECTOR),
                with(double, 2, SECTOR),
                with(aligned("write unit 8", 8, 8, 128), 1, SECTOR),
            ];
        }
        Algorithm::Overwrite => {
            return vec![
                plain,
                coarse("64 KiB sectors outside"),
                aligned("write unit 8", 8, 8, 64),
            ]
        }
        _ => {
            return vec![
                with(plain, 8, SECTOR),
                with(coarse("64 KiB sectors outside"), 3, 64 * KIB),
                with(aligned("write unit 8", 8, 8, 64), 10, SECTOR),
                with(aligned("write unit 32", 32, 32, 64), 10, SECTOR),
            ]
        }
    };
    found.extend([
        plain,
        aligned("write unit 1", 1, 8, 128),
        aligned("write unit 8, long trailer", 8, 8, 300),
        aligned("write unit 16", 16, 16, 64),
        aligned("write unit 32", 32, 32, 64),
    ]);
    found
}

fn large(algorithm: Algorithm) -> Shape {
    let spare = match algorithm {
        Algorithm::SwapScratch => (1, SECTOR),
        Algorithm::Copy => LARGE.secondary,
        _ => (0, SECTOR),
    };
    Shape { spare, ..LARGE }
}

/// Sizes of the old and the new image in bytes; `u32::MAX` is the largest possible.
fn sizes(algorithm: Algorithm) -> &'static [[u32; 2]] {
    const MAX: u32 = u32::MAX;
    match algorithm {
        // Both end in the region that is exchanged first: in its last sector, or one of them in the sector below.
        Algorithm::SwapScratch => &[[5000, 9000], [9000, 2000], [5000, MAX], [MAX, MAX], [MAX, 27_000]],
        _ => &[[5000, 9000], [9000, 2000], [5000, MAX], [MAX, MAX]],
    }
}

/// A device with a running old image and a requested new one.
#[derive(Clone)]
struct Device<const W: usize, const X: usize> {
    layout: Layout,
    power: Power,
    primary: Plain<W>,
    secondary: Plain<X>,
    /// Inside or outside.
    spare: Plain<1>,
    /// Images are trusted by their digests: a campaign cannot check a million signatures.
    digests: [[u8; 32]; 2],
    images: Rc<[Vec<u8>; 2]>,
    /// An image on trial was reset before it confirmed itself, and may be taken back: that is the purpose of a trial.
    unconfirmed: bool,
}

/// Why a device is lost, or in a wrong state.
type Verdict = Result<(), String>;

impl<const W: usize, const X: usize> Device<W, X> {
    /// `None` if the shape cannot hold these images.
    fn new(algorithm: Algorithm, shape: &Shape, sizes: [u32; 2], story: Story) -> Option<Self> {
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
        let image = |major, size: u32| {
            let version = Version {
                major,
                minor: 0,
                revision: 0,
                build: 0,
            };
            ImageSpec::demo(version, size.min(layout.max_image_size()) as usize, &key)
        };
        let specs = [image(1, sizes[0])?, image(2, sizes[1])?];
        let images = Rc::new(specs.each_ref().map(ImageSpec::build));
        let mut device = Self {
            layout,
            primary: Plain::erased("primary", size(inside), inside.1, &power)
                .of_memory(shape.write_size, shape.rewrite),
            secondary: Plain::erased("secondary", size(outside), outside.1, &power),
            spare: Plain::erased("third", size(third), third.1, &power)
                .of_memory(spare_memory.0, spare_memory.1),
            power,
            digests: specs.map(|spec| Sha256::digest(spec.hashed_bytes()).into()),
            images,
            unconfirmed: false,
        };
        device.primary.load(0, &device.images[0].clone());
        device.request(1, story == Story::Permanent);
        Some(device)
    }

    /// Becomes a copy of `other` in its own power domain: its operations count from 0.
    fn become_copy(&mut self, other: &Self) {
        self.power = Power::new();
        self.primary.become_copy(&other.primary, &self.power);
        self.secondary.become_copy(&other.secondary, &self.power);
        self.spare.become_copy(&other.spare, &self.power);
        self.unconfirmed = other.unconfirmed;
    }

    /// Image `index` arrives and is requested, as by an application.
    fn request(&mut self, index: usize, permanent: bool) {
        let image = self.images[index].clone();
        let slot = Slot::new(&self.layout);
        let place = &mut self.secondary;
        place.cells.fill(0xFF);
        place.load(self.layout.upload_offset(), &image);
        let policy = ImagePolicy {
            keys: &[],
            trusted_digests: &self.digests,
            unsigned: false,
            address: None,
        };
        let verified = slot
            .verify(place, &policy, &SoftCrypto)
            .expect("an image of its own");
        let requested = match permanent {
            true => trailer::request_permanent(place, &verified),
            false => trailer::request_test(place, &verified),
        };
        requested.expect("an erased trailer");
    }

    fn boot(&mut self) -> Result<BootReport, BootError> {
        let Self { layout, digests, .. } = *self;
        boot_trusting(
            &digests,
            layout,
            (&mut self.primary, &mut self.secondary, &mut self.spare),
        )
    }

    fn runs(&self, index: usize) -> bool {
        self.primary.cells.starts_with(&self.images[index])
    }

    /// One reset, and what the application does after it. `Ok(false)`: the power was cut.
    fn live(&mut self, story: Story) -> Result<bool, String> {
        self.unconfirmed |= self.revert_is_due();
        match self.boot() {
            Err(_) if self.power.is_off() => return Ok(false),
            Err(error) => return Err(error.to_string()),
            Ok(_) => {}
        }
        if !self.runs(0) && !self.runs(1) {
            return Err("what started is neither image".into());
        }
        if story == Story::Confirm && self.runs(1) {
            match trailer::confirm(&mut self.primary, &self.layout) {
                Ok(()) => {}
                Err(_) if self.power.is_off() => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }

    /// Every area that may hold the image that is not running.
    fn keeps(&self, index: usize) -> bool {
        let image = &self.images[index];
        let sector = self.layout.secondary().sector_size as usize;
        [
            &self.secondary.cells[..],
            &self.secondary.cells[sector..],
            &self.spare.cells[..],
        ]
        .iter()
        .any(|cells| cells.starts_with(image))
    }

    /// [`edges`] of the trailer that an operation erases.
    fn trailer_edges(&self, op: &OpInfo) -> Vec<u32> {
        let trailer = match op.chip {
            "primary" => Some(self.layout.primary_trailer()),
            "secondary" => Some(self.layout.secondary_trailer()),
            _ => self.layout.spare_trailer(),
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
        let kept = match copy_roles::incoming(&mut self.primary, places.0, places.1, &self.layout) {
            Ok(Place::First) => &self.spare.cells,
            Ok(Place::Second) => &self.secondary.cells,
            Err(_) => return false,
        };
        kept.starts_with(&self.images[running])
    }

    /// The image in the primary slot is complete but not confirmed.
    fn revert_is_due(&mut self) -> bool {
        Trailer::read(&mut self.primary, &self.layout.primary_trailer()).is_ok_and(|found| {
            found.magic == Magic::Good && found.copy_done != Flag::Unset && found.image_ok == Flag::Unset
        })
    }

    /// After the power is back: the story continues, with one more step than usual, and must reach its end.
    fn finish(&mut self, story: Story) -> Verdict {
        for reset in 0..=story.resets() {
            if !self.live(story)? {
                return Err("the power went off by itself".into());
            }
            if reset == 0 && reverts(&self.layout) && !(self.keeps(0) || self.runs(0)) {
                return Err("the image before is gone".into());
            }
        }
        let wanted = match story {
            _ if !reverts(&self.layout) => 1,
            Story::Revert | Story::Upgrade => 0,
            Story::Confirm if self.unconfirmed && self.runs(0) => 0,
            Story::Confirm | Story::Permanent => 1,
        };
        if !self.runs(wanted) {
            return Err(format!("{} ends with the other image", story.name()));
        }
        match self.spares_the_copy(wanted) {
            true => Ok(()),
            false => Err("the next update goes over the copy of the running image".into()),
        }
    }
}

const fn reverts(layout: &Layout) -> bool {
    !matches!(layout.algorithm(), Algorithm::Overwrite)
}

/// One boot on primary, secondary and spare area; images are trusted by their digests.
pub(crate) fn boot_trusting<const P: usize, const S: usize, const X: usize>(
    digests: &[[u8; 32]],
    layout: Layout,
    (primary, secondary, spare): (&mut Plain<P>, &mut Plain<S>, &mut Plain<X>),
) -> Result<BootReport, BootError> {
    let config = BootConfig {
        layout,
        policy: ImagePolicy {
            keys: &[],
            trusted_digests: digests,
            unsigned: false,
            address: None,
        },
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

/// Length in bytes of the longest program operation that writes trailer fields and no part of an image.
pub(crate) const FIELD: u32 = 64;

/// Operations of a recovery that may concern what was cut.
const FIRST_OPERATIONS: usize = 3;

/// How operation `number` is cut.
fn tears(kind: OpKind, length: u32, number: u64, thorough: bool) -> Vec<Tear> {
    let inside = |fraction, seed| Tear::Inside {
        fraction,
        seed: number * 64 + seed,
    };
    let mut found = vec![Tear::Before, inside(0.5, 1)];
    if !thorough {
        return found;
    }
    found.extend([inside(0.25, 2), inside(0.75, 3), inside(1.0, 4)]);
    if kind == OpKind::Erase {
        // Between two fields of a trailer.
        found.extend([16, 24, 32, 40, 48, 56].iter().zip(5..).map(|(back, seed)| {
            let done = f64::from(length.saturating_sub(*back)) + 0.5;
            inside(done / f64::from(length), seed)
        }));
    } else {
        // Only the first byte, with different bits missing.
        found.extend((11..14).map(|seed| inside(0.0, seed)));
    }
    found
}

/// How far an erase gets, so that its torn bytes begin or end at a trailer field or one of its first records.
pub(crate) fn edges(trailer: &TrailerLayout, address: u32, length: u32) -> Vec<u32> {
    let records = (0..=3).map(|record| trailer.status_start() + record * trailer.status_unit());
    let fields = [
        trailer.swap_size(),
        trailer.swap_info(),
        trailer.copy_done(),
        trailer.image_ok(),
        trailer.magic(),
    ];
    records
        .chain(fields)
        .chain(trailer.tlv_sizes())
        .flat_map(|at| [Some(at), at.checked_sub(TORN_ERASE_BORDER as u32)])
        .filter_map(|at| at?.checked_sub(address))
        .filter(|done| *done < length)
        .collect()
}

/// Results of one story on one device.
#[derive(Clone, Debug, Default)]
pub struct Row {
    algorithm: &'static str,
    shape: &'static str,
    sizes: [u32; 2],
    story: &'static str,
    /// Flash operations of the undisturbed story.
    pub operations: u64,
    /// Cuts tried.
    pub cuts: u64,
    /// Second cuts, during the recovery from a first one.
    pub second_cuts: u64,
    /// Devices without a bootable image, without the image to go back to, or with the wrong image at the end.
    pub lost: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

#[derive(Clone, Copy)]
struct Job {
    algorithm: Algorithm,
    shape: Shape,
    sizes: [u32; 2],
    story: Story,
    thorough: bool,
}

/// Calls a method of a [`Job`] with the write units of its device.
macro_rules! with_units {
    ($job:expr, $method:ident) => {
        match ($job.shape.write_size, $job.shape.outside) {
            (1, _) => $job.$method::<1, 1>(),
            (4, _) => $job.$method::<4, 4>(),
            (8, 4) => $job.$method::<8, 4>(),
            (8, _) => $job.$method::<8, 8>(),
            (16, 4) => $job.$method::<16, 4>(),
            (16, _) => $job.$method::<16, 16>(),
            _ => $job.$method::<32, 32>(),
        }
    };
}

impl Job {
    fn run(&self) -> Option<Row> {
        with_units!(self, run_with)
    }

    /// Whether the shape can hold the images.
    #[cfg(test)]
    fn exists(&self) -> bool {
        with_units!(self, exists_with)
    }

    #[cfg(test)]
    fn exists_with<const W: usize, const X: usize>(&self) -> bool {
        Device::<W, X>::new(self.algorithm, &self.shape, self.sizes, self.story).is_some()
    }

    fn run_with<const W: usize, const X: usize>(&self) -> Option<Row> {
        let Self { story, thorough, .. } = *self;
        let start = Device::<W, X>::new(self.algorithm, &self.shape, self.sizes, story)?;
        let mut row = Row {
            algorithm: self.algorithm.as_str(),
            shape: self.shape.name,
            sizes: self.sizes,
            story: story.name(),
            ..Row::default()
        };
        // Two devices in total, not two for each cut: otherwise most of the time would go into their memory.
        let [mut device, mut after] = [start.clone(), start.clone()];
        device.become_copy(&start);
        let operations = undisturbed(&mut device, story, &mut row);
        row.operations = operations.len() as u64;
        let mut random = Random::new(row.operations);
        let is_copy = |(kind, length): &(OpKind, u32)| *kind == OpKind::Program && *length > FIELD;
        for (number, (kind, length)) in operations.iter().enumerate() {
            let number = number as u64;
            for tear in tears(*kind, *length, number, thorough) {
                device.become_copy(&start);
                let what = |more: &str| format!("operation {number} {kind:?} {tear:?}{more}");
                if let Err(error) = cut(&mut device, story, number, tear) {
                    row.lose(what(""), &error);
                    continue;
                }
                after.become_copy(&device);
                after.power.record();
                if let Err(error) = after.finish(story) {
                    row.lose(what(""), &error);
                }
                row.cuts += 1;
                let recovery = after.power.recorded();
                let mut again = |second: u64, fraction: f64, seed: u64| {
                    after.become_copy(&device);
                    let outcome = cut(&mut after, story, second, Tear::Inside { fraction, seed })
                        .and_then(|()| after.finish(story));
                    if let Err(error) = outcome {
                        row.lose(
                            what(&format!(", then operation {second} {fraction} {seed}")),
                            &error,
                        );
                    }
                    row.second_cuts += 1;
                };
                // The recovery may again erase what was complete except for the cut operation. Between the parts of a
                // long copy it is the same each time.
                let in_copy = number > 0 && operations[number as usize - 1..][..2].iter().all(is_copy);
                if thorough && tear == Tear::Before && !in_copy {
                    for op in recovery.iter().take(FIRST_OPERATIONS) {
                        for (done, seed) in start.trailer_edges(op).into_iter().zip(1..) {
                            again(op.number, (f64::from(done) + 0.5) / f64::from(op.length), seed);
                        }
                    }
                }
                if tear == Tear::Before {
                    continue;
                }
                // Second cuts in the recovery: at every few operations on small devices, at only a few on large ones.
                let limit = recovery.len() as u64;
                let every = if thorough {
                    5 + operations.len() as u64 / 40
                } else {
                    997
                };
                let mut second = random.bits() % every;
                while second < limit {
                    let fraction = (random.bits() % 100) as f64 / 100.0;
                    again(second, fraction, random.bits());
                    second += every;
                }
            }
        }
        Some(row)
    }
}

/// Columns of the table of rows.
const COLUMNS: Columns<8> = Columns([
    (12, Left),
    (23, Left),
    (9, Left),
    (7, Right),
    (5, Right),
    (6, Right),
    (7, Right),
    (4, Right),
]);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |size: u32| match size {
            u32::MAX => "max".into(),
            size => (size / 1000).to_string(),
        };
        f.write_str(&COLUMNS.row([
            self.algorithm.to_owned(),
            self.shape.to_owned(),
            self.story.to_owned(),
            format!("{}/{}", size(self.sizes[0]), size(self.sizes[1])),
            self.operations.to_string(),
            self.cuts.to_string(),
            self.second_cuts.to_string(),
            self.lost.to_string(),
        ]))?;
        for example in &self.examples {
            write!(f, "\n    LOST: {example}")?;
        }
        Ok(())
    }
}

impl Row {
    fn json(&self) -> Value {
        let size = |size: u32| match size {
            u32::MAX => json!("max"),
            size => json!(size),
        };
        json!({
            "event": "row", "algorithm": self.algorithm, "device": self.shape, "story": self.story,
            "images": [size(self.sizes[0]), size(self.sizes[1])], "operations": self.operations,
            "cuts": self.cuts, "second_cuts": self.second_cuts, "lost": self.lost, "examples": self.examples,
        })
    }

    fn lose(&mut self, what: String, error: &str) {
        self.lost += 1;
        if self.examples.len() < 3 {
            self.examples.push(format!("{what}: {error}"));
        }
    }
}

/// Runs the story without a cut; returns kind and length of each operation.
fn undisturbed<const W: usize, const X: usize>(
    device: &mut Device<W, X>,
    story: Story,
    row: &mut Row,
) -> Vec<(OpKind, u32)> {
    device.power.record();
    for _ in 0..story.resets() {
        if let Err(error) = device.live(story) {
            row.lose("without a cut".into(), &error);
        }
    }
    let operations = device.power.recorded();
    let wanted = usize::from(story != Story::Revert || !reverts(&device.layout));
    if !device.runs(wanted) {
        row.lose("without a cut".into(), "the wrong image runs");
    }
    operations.iter().map(|op| (op.kind, op.length)).collect()
}

/// Runs the story until the cut, and switches the power on again.
fn cut<const W: usize, const X: usize>(
    device: &mut Device<W, X>,
    story: Story,
    number: u64,
    tear: Tear,
) -> Verdict {
    device.power.cut_at(number, tear);
    for _ in 0..=story.resets() {
        if !device.live(story)? {
            break;
        }
    }
    device.power.cut_at_none();
    device.power.power_on();
    Ok(())
}

fn jobs(args: &CutArgs) -> Vec<Job> {
    let mut jobs = Vec::new();
    for algorithm in Algorithm::ALL {
        if args.algorithm.is_some_and(|only| only != algorithm) {
            continue;
        }
        for story in Story::ALL {
            let job = |shape, sizes, thorough| Job {
                algorithm,
                shape,
                sizes,
                story,
                thorough,
            };
            for shape in shapes(algorithm) {
                jobs.extend(sizes(algorithm).iter().map(|sizes| job(shape, *sizes, true)));
            }
            for shape in others(algorithm) {
                jobs.push(job(shape, [5000, 9000], true));
                jobs.push(job(shape, [u32::MAX, 20_000], true));
            }
            if args.full {
                jobs.push(job(large(algorithm), [475_384, 401_408], false));
                jobs.push(job(large(algorithm), [300_000, u32::MAX], false));
            }
        }
    }
    jobs
}

/// Runs the campaign with a thread per core; `done` gets the rows in the order of the jobs, each as soon as all earlier
/// ones are done, and returns whether the campaign continues.
pub fn campaign(args: &CutArgs, done: &mut (dyn FnMut(&Row, &ProgressBar) -> bool + Send)) {
    let jobs = jobs(args);
    let bar = ProgressBar::new(jobs.len() as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    if is_quiet() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let next = AtomicUsize::new(0);
    // Rows that wait for an earlier one, the index of that one, and the receiver of the rows.
    let rows = Mutex::new((BTreeMap::new(), 0, done));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((index, job)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).map(|job| (index, job))
                } {
                    let row = job.run();
                    if let Ok(mut rows) = rows.lock() {
                        let (waiting, due, done) = &mut *rows;
                        waiting.insert(index, row);
                        while let Some(row) = waiting.remove(due) {
                            if row.is_some_and(|row| !done(&row, &bar)) {
                                next.store(jobs.len(), Ordering::Relaxed);
                            }
                            *due += 1;
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
}

/// `bledfu cut`: the table; fails when a device was lost.
///
/// # Errors
/// If the output cannot be written.
pub fn cmd_cut(args: &CutArgs) -> anyhow::Result<ExitCode> {
    let format = Format::of(args.json);
    format.text(format_args!(
        "{}",
        COLUMNS.row([
            "algorithm",
            "device",
            "story",
            "kB each",
            "ops",
            "cuts",
            "repairs",
            "lost"
        ])
    ))?;
    let (mut cuts, mut lost, mut printed) = (0, 0, Ok(()));
    campaign(args, &mut |row, bar| {
        if printed.is_ok() {
            printed = bar.suspend(|| format.fact(&row.json(), format_args!("{row}")));
        }
        cuts += row.cuts + row.second_cuts;
        lost += row.lost;
        printed.is_ok()
    });
    printed?;
    let bootable = cuts - lost.min(cuts);
    format.fact(
        &json!({ "event": "cuts", "cuts": cuts, "bootable": bootable, "lost": lost }),
        format_args!("{cuts} cut points tried, {bootable} bootable, {lost} lost"),
    )?;
    let wrong = hand_over(args, format)?;
    Ok(if lost == 0 && wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The second table: installs begun by MCUboot or by this boot stage and finished by the other one. Returns the number
/// of failures.
fn hand_over(args: &CutArgs, format: Format) -> Result<u64, OutputError> {
    let traces = Trace::all().filter(|trace| args.algorithm.is_none_or(|only| only == trace.algorithm()));
    let found: Vec<_> = traces.map(|trace| trace.hand_over()).collect();
    if found.is_empty() {
        return Ok(0); // MCUboot has no such algorithm
    }
    format.text(format_args!(
        "\n{}",
        mcuboot::COLUMNS.row([
            "operations of a running MCUboot",
            "taken over",
            "torn",
            "left to it",
            "wrong"
        ])
    ))?;
    let (mut all, mut wrong) = (0, 0);
    for trace in found {
        format.fact(&trace.json(), format_args!("{trace}"))?;
        all += trace.taken_over + trace.torn + trace.left;
        wrong += trace.wrong;
    }
    format.fact(
        &json!({ "event": "hand_overs", "hand_overs": all, "wrong": wrong }),
        format_args!("{all} hand-overs tried, {wrong} wrong"),
    )?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_devices_that_can_hold_the_images() {
        for algorithm in Algorithm::ALL {
            let shapes = shapes(algorithm).into_iter().chain(others(algorithm));
            for shape in shapes.chain([large(algorithm)]) {
                let name = shape.name;
                let job = Job {
                    algorithm,
                    shape,
                    sizes: [5000, 9000],
                    story: Story::Upgrade,
                    thorough: false,
                };
                let found = job.exists();
                assert!(found, "{}: {name}", algorithm.as_str());
            }
        }
    }
}
