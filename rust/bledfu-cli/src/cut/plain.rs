// SPDX-License-Identifier: Apache-2.0
//! The column of power cuts: before and inside every operation of a story, and again during the recovery.

use bledfu_sim::nor::TORN_ERASE_BORDER;
use bledfu_sim::power::{OpKind, Random, Tear};
use bledfu_slot::TrailerLayout;

use super::device::{reverts, Device, Verdict, NEW, OLD};
use super::shapes::Story;
use super::{Job, Row};

/// Length in bytes of the longest program operation that writes trailer fields and no part of an image.
pub(crate) const FIELD: u32 = 64;

/// Number of operations of a recovery that may touch what was cut.
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

/// How far an erase gets, so that its torn bytes begin or end at a trailer field or at one of the first records.
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

impl Job {
    /// The column of power cuts.
    pub(super) fn plain<const W: usize, const X: usize>(&self) -> Option<Row> {
        let Self { story, thorough, .. } = *self;
        let start = self.device::<W, X>()?;
        let mut row = self.row();
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
                // The recovery may erase once more what was complete except for the cut operation. Between the parts of
                // a long copy it does the same each time.
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

/// Runs the story without a cut; returns the kind and length of each operation.
pub(super) fn undisturbed<const W: usize, const X: usize>(
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
    let wanted = match story {
        Story::Revert if reverts(&device.layout) => OLD,
        _ => NEW,
    };
    if !device.runs(wanted) {
        row.lose("without a cut".into(), "the wrong image runs");
    }
    operations.iter().map(|op| (op.kind, op.length)).collect()
}

/// Cuts the power at an operation of the story.
fn cut<const W: usize, const X: usize>(
    device: &mut Device<W, X>,
    story: Story,
    number: u64,
    tear: Tear,
) -> Verdict {
    device.power.cut_at(number, tear);
    device.live_until_cut(story)
}
