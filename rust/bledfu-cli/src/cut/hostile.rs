// SPDX-License-Identifier: Apache-2.0
//! The column of hostile flash: an attacker rewrites the external flash after a cut at any operation, or at rest.
//!
//! Whatever the attacker writes, no image starts that is older than the one that ran or that nobody signed, and the
//! device still starts. The only exception is a cut inside an install: some parts of the images are only in external
//! flash then, and once the attacker has overwritten them, the device may not start. Such devices are counted
//! separately.

use bledfu_sim::hostile::WeakCells;
use bledfu_sim::plain::Plain;
use bledfu_sim::power::{Random, Tear};
use bledfu_slot::decide::interrupted;
use bledfu_slot::trailer::{magic_bytes, Trailer};
use bledfu_slot::{Algorithm, SwapType, TrailerLayout};

use super::device::{reverts, Device, NEW, NEWER, OLD, OLDEST};
use super::plain::undisturbed;
use super::shapes::Story;
use super::{Job, Row};

/// What the attacker writes to the external flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    /// A genuine image, where uploads start.
    Uploaded(usize),
    /// A genuine image, at the start of each area.
    AtStart(usize),
    /// Each sector of a genuine image is replaced with the sector of a forged one with the same header and TLVs.
    ForgedPieces,
    /// A complete forged image, where uploads start.
    Forged,
    Nothing,
}

/// What the trailers in external flash say then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Kept,
    None,
    Test,
    Permanent,
    /// An install that has ended and was not confirmed.
    Revert,
}

#[derive(Clone, Copy, Debug)]
struct Rewrite(Contents, Claim);

const REWRITES: [Rewrite; 13] = [
    Rewrite(Contents::Uploaded(OLDEST), Claim::Kept),
    Rewrite(Contents::Uploaded(OLDEST), Claim::Permanent),
    Rewrite(Contents::AtStart(OLDEST), Claim::None),
    Rewrite(Contents::AtStart(OLDEST), Claim::Kept),
    Rewrite(Contents::AtStart(OLDEST), Claim::Revert),
    Rewrite(Contents::AtStart(OLD), Claim::Revert),
    Rewrite(Contents::Uploaded(OLD), Claim::Permanent),
    Rewrite(Contents::ForgedPieces, Claim::Kept),
    Rewrite(Contents::ForgedPieces, Claim::Permanent),
    Rewrite(Contents::Forged, Claim::Permanent),
    Rewrite(Contents::Uploaded(NEWER), Claim::Test),
    Rewrite(Contents::Nothing, Claim::None),
    Rewrite(Contents::Nothing, Claim::Kept),
];

/// Number of boots after a rewrite.
const BOOTS: u32 = 3;

/// Number of devices with a generated trailer, per line.
const GENERATED: u64 = 700;
/// The same in the full campaign.
const GENERATED_IN_FULL: u64 = 5000;

/// An image with other code, but with the header and TLVs of the old one.
fn forged(image: &[u8]) -> Vec<u8> {
    let word = |at: usize| image[at..at + 4].try_into().map_or(0, u32::from_le_bytes) as usize;
    let start = word(8) & 0xFFFF;
    let mut forged = image.to_vec();
    for byte in &mut forged[start..start + word(12)] {
        *byte ^= 0x5A;
    }
    forged
}

impl Rewrite {
    fn apply<const W: usize, const X: usize>(self, device: &mut Device<W, X>) {
        let Self(contents, claim) = self;
        let images = device.images.clone();
        let layout = device.layout;
        let upload = layout.upload_offset();
        let old = (device.secondary.cells.clone(), device.spare.cells.clone());
        if contents != Contents::ForgedPieces {
            clear(&mut device.secondary);
            clear(&mut device.spare);
        }
        match contents {
            Contents::Uploaded(index) => device.secondary.load(upload, &images.bytes[index]),
            Contents::AtStart(index) => {
                device.secondary.load(0, &images.bytes[index]);
                if layout.algorithm() == Algorithm::Copy {
                    device.spare.load(0, &images.bytes[index]);
                }
            }
            Contents::Forged => device.secondary.load(upload, &forged(&images.bytes[NEW])),
            Contents::ForgedPieces => {
                for index in [OLD, NEW] {
                    let image = &images.bytes[index];
                    let evil = forged(image);
                    let sector = layout.secondary().sector_size as usize;
                    for area in [&mut device.secondary.cells, &mut device.spare.cells] {
                        for held in area.chunks_mut(sector) {
                            for (good, evil) in image.chunks(sector).zip(evil.chunks(sector)) {
                                if held.starts_with(good) {
                                    held[..evil.len()].copy_from_slice(evil);
                                }
                            }
                        }
                    }
                }
            }
            Contents::Nothing => {}
        }
        let trailer = layout.secondary_trailer();
        let (image_ok, copy_done) = match claim {
            Claim::Kept => {
                let start = trailer.status_start() as usize;
                device.secondary.cells[start..].copy_from_slice(&old.0[start..]);
                if let Some(trailer) = layout.spare_trailer() {
                    let start = trailer.status_start() as usize;
                    device.spare.cells[start..].copy_from_slice(&old.1[start..]);
                }
                return;
            }
            Claim::None => {
                device.secondary.cells[trailer.status_start() as usize..].fill(0xFF);
                return;
            }
            Claim::Test => (0xFF, 0xFF),
            Claim::Permanent => (1, 0xFF),
            Claim::Revert => (0xFF, 1),
        };
        device.secondary.cells[trailer.status_start() as usize..].fill(0xFF);
        device
            .secondary
            .load(trailer.magic(), &magic_bytes(trailer.max_align()));
        device.secondary.load(trailer.image_ok(), &[image_ok]);
        device.secondary.load(trailer.copy_done(), &[copy_done]);
    }
}

fn clear<const W: usize>(slot: &mut Plain<W>) {
    slot.cells.fill(0xFF);
    slot.weak = WeakCells::new();
}

/// What is known of a device before its external flash is rewritten.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// No image below this one may start.
    least: usize,
    /// Whether everything that is needed to start is in internal flash.
    must_start: bool,
}

impl Before {
    fn of<const W: usize, const X: usize>(device: &mut Device<W, X>, story: Story) -> Self {
        device.power.power_on();
        let layout = device.layout;
        let trailer = Trailer::read(&mut device.primary, &layout.primary_trailer());
        let is_confirmed = trailer.is_ok_and(|trailer| trailer.is_confirmed(&layout));
        let has_job = interrupted(&layout, &mut device.primary, &mut device.spare);
        let running = device.running();
        // While a revert is prepared, its trailer is as blank as that of an image that was never on trial.
        let may_come_back = reverts(&layout) && matches!(story, Story::Upgrade | Story::Revert);
        Self {
            least: match running {
                Some(NEW) if is_confirmed && !may_come_back && has_job == Ok(SwapType::None) => NEW,
                _ => OLD,
            },
            must_start: running.is_some() && has_job == Ok(SwapType::None),
        }
    }
}

/// Versions rise with these.
const BY_AGE: [usize; 4] = [OLDEST, OLD, NEW, NEWER];

fn age(image: usize) -> Option<usize> {
    BY_AGE.iter().position(|other| *other == image)
}

impl Row {
    /// Boots, and counts which images start.
    fn watch<const W: usize, const X: usize>(
        &mut self,
        device: &mut Device<W, X>,
        before: Before,
        what: &dyn Fn() -> String,
    ) {
        let mut stopped = None;
        for _ in 0..BOOTS {
            device.power.power_on();
            match device.boot() {
                _ if device.power.is_off() => {}
                Ok(_) => match device.running() {
                    None => {
                        self.unsigned += 1;
                        return self.note(what(), "the image that started is not one of ours");
                    }
                    Some(image) if age(image) < age(before.least) => {
                        self.old += 1;
                        return self.note(what(), "an image started that is older than the one that ran");
                    }
                    Some(_) => stopped = None,
                },
                Err(error) => stopped = Some(error.to_string()),
            }
        }
        match stopped {
            None => {}
            Some(error) if before.must_start => self.lose(what(), &error),
            Some(_) => self.stopped += 1,
        }
    }
}

impl Job {
    /// The column of hostile flash.
    pub(super) fn hostile<const W: usize, const X: usize>(&self) -> Option<Row> {
        let start = self.device::<W, X>()?;
        let mut row = self.row();
        let [mut device, mut after] = [start.clone(), start.clone()];
        device.become_copy(&start);
        let operations = undisturbed(&mut device, self.story, &mut row).len() as u64;
        row.operations = operations;
        let every = if self.thorough { 1 } else { 2 };
        // After the last operation the story has ended, so the device is at rest.
        for number in (0..=operations).filter(|number| number % every == 0 || *number == operations) {
            device.become_copy(&start);
            device.power.cut_at(number, Tear::Before);
            let lived = (0..self.story.resets()).try_for_each(|_| match device.live(self.story) {
                Ok(true) => Ok(()),
                Ok(false) => Err(None),
                Err(error) => Err(Some(error)),
            });
            device.power.cut_at_none();
            if let Err(Some(error)) = lived {
                row.lose(format!("operation {number}"), &error);
                continue;
            }
            let before = Before::of(&mut device, self.story);
            for rewrite in REWRITES {
                let what = || format!("operation {number}, {rewrite:?}, {before:?}");
                after.become_copy(&device);
                rewrite.apply(&mut after);
                row.watch(&mut after, before, &what);
                row.cuts += 1;
                let Rewrite(Contents::ForgedPieces, _) = rewrite else {
                    continue;
                };
                // If the primary is not checked at every boot, a second cut must not leave it unchecked.
                for second in (0..operations + 20).step_by(if self.thorough { 2 } else { 9 }) {
                    after.become_copy(&device);
                    after.rules.verify_primary = false;
                    rewrite.apply(&mut after);
                    after.power.cut_at(second, Tear::Before);
                    let what = || format!("{}, then operation {second}", what());
                    row.watch(&mut after, before, &what);
                    row.second_cuts += 1;
                    // The second cut was not reached.
                    if after.power.has_plan() {
                        break;
                    }
                }
            }
        }
        let generated = match self.thorough {
            true => GENERATED_IN_FULL,
            false => GENERATED,
        };
        for seed in 0..generated {
            self.generated(&start, &mut after, seed, &mut row);
        }
        Some(row)
    }

    /// A device at rest, before any update, with random external flash.
    fn generated<const W: usize, const X: usize>(
        &self,
        start: &Device<W, X>,
        device: &mut Device<W, X>,
        seed: u64,
        row: &mut Row,
    ) {
        device.become_copy(start);
        clear(&mut device.secondary);
        clear(&mut device.spare);
        let before = Before::of(device, self.story);
        let mut random = Random::new(seed);
        let layout = device.layout;
        let images = device.images.clone();
        let starts = [0, layout.upload_offset()];
        for _ in 0..1 + random.bits() % 2 {
            let image = &images.bytes[BY_AGE[random.bits() as usize % 4]];
            let image = match random.bits() % 3 {
                0 => forged(image),
                _ => image.clone(),
            };
            let at = starts[random.bits() as usize % 2];
            // A part of an image, as a swap leaves it.
            let length = match random.bits() % 3 {
                0 => image.len().min(layout.secondary().sector_size as usize),
                _ => image.len(),
            };
            device.secondary.load(at, &image[..length]);
            if !device.spare.cells.is_empty() && random.bits().is_multiple_of(2) {
                let length = length.min(device.spare.cells.len());
                device.spare.load(0, &image[..length]);
            }
        }
        let limit = layout.max_image_size();
        let trailer = layout.secondary_trailer();
        scribble(&mut device.secondary.cells, &trailer, limit, &mut random);
        if let Some(trailer) = layout.spare_trailer() {
            scribble(&mut device.spare.cells, &trailer, limit, &mut random);
        }
        row.watch(device, before, &|| format!("generated {seed}"));
        row.cuts += 1;
    }
}

/// A trailer that may make sense.
fn scribble(cells: &mut [u8], layout: &TrailerLayout, limit: u32, random: &mut Random) {
    let start = layout.status_start() as usize;
    let mut any = |from: &[u8]| from[random.bits() as usize % from.len()];
    cells[start..].fill(0xFF);
    if any(&[0, 1, 1, 1]) == 1 {
        let magic = layout.magic() as usize;
        cells[magic..magic + 16].copy_from_slice(&magic_bytes(layout.max_align()));
    }
    cells[layout.image_ok() as usize] = any(&[0xFF, 0xFF, 1, 3]);
    cells[layout.copy_done() as usize] = any(&[0xFF, 0xFF, 1, 0]);
    cells[layout.swap_info() as usize] = any(&[0xFF, 2, 3, 4]);
    let records = u32::from(any(&[0, 0, 1, 2, 3, 4, 6, 9]));
    for record in 0..records.min(layout.record_count()) {
        let state = any(&[1, 2, 3, 0]);
        cells[(layout.status_start() + record * layout.status_unit()) as usize] = state;
    }
    let sizes = [
        limit,
        limit / 2,
        9000,
        5000,
        0,
        u32::MAX,
        limit.saturating_sub(3000),
    ];
    let size = sizes[any(&[0, 0, 0, 1, 2, 3, 4, 5, 6]) as usize];
    let at = layout.swap_size() as usize;
    cells[at..at + 4].copy_from_slice(&size.to_le_bytes());
    if let Some(at) = layout.tlv_sizes() {
        cells[at as usize] = any(&[0xFF, 0x94, 0]);
    }
}

#[cfg(test)]
mod tests {
    use bledfu_slot::Algorithm;

    use super::super::{Column, Rules};
    use super::*;

    /// Without evidence an old image comes back: preventing that is what the evidence is for.
    #[test]
    fn a_boot_stage_without_evidence_is_found_and_one_with_it_is_not() {
        let row = |rules| Job::small(Column::Hostile, Algorithm::SwapOffset, Story::Upgrade, rules).run();
        let without = row(Rules {
            evidence: false,
            ..Rules::STRICT
        });
        assert!(without.is_some_and(|row| row.old > 0));
        assert_eq!(row(Rules::STRICT).map(|row| row.wrong()), Some(0));
    }
}
