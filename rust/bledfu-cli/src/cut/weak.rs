// SPDX-License-Identifier: Apache-2.0
//! The column of weak cells: an operation that was cut inside leaves bytes that do not read the same each time. The
//! recovery is cut in the same way, twice.
//!
//! Each boot starts one of the two images, and the way back stays until the new image is confirmed. In the end the
//! device comes to rest: the image of the story runs, the next boot starts it again, and none of its bytes is weak. If
//! a flag of confirmation was torn, it may read either way, and either end is right.

use bledfu_sim::hostile::{Choice, Weak};
use bledfu_sim::power::{OpKind, Random, Tear};

use super::device::{reverts, Device, Verdict, NEW, OLD};
use super::plain::{undisturbed, FIELD};
use super::shapes::Story;
use super::{Job, Row};

/// How weak bytes read. The two patterns make a record doubtful: it reads as written at the next boot and as erased at
/// the boot after that, or the other way round.
const CHOICES: [Choice; 6] = [
    Choice::Boots(0b01),
    Choice::Boots(!0b01),
    Choice::PerBoot(2),
    Choice::PerRead(2),
    Choice::PerBoot(16),
    Choice::PerRead(16),
];

/// Size of a record of evidence, in bytes.
const RECORD: u32 = 128;

/// Number of boots after the last cut in which a device must come to rest.
const PATIENCE: u32 = 6;

impl<const W: usize, const X: usize> Device<W, X> {
    /// After the last cut: the story must end as it should.
    fn settle(&mut self, story: Story) -> Verdict {
        let mut rests = false;
        for reset in 0..PATIENCE {
            let operations = self.power.ops();
            if !self.live(story)? {
                return Err("the power went off by itself".into());
            }
            if reset == 0 && reverts(&self.layout) && !(self.keeps(OLD) || self.runs(OLD)) {
                return Err("the image before is gone".into());
            }
            // Every later boot would find what this one found.
            rests = self.power.ops() == operations && !self.has_weak_bytes();
            if rests {
                break;
            }
        }
        let Some(running) = self.running() else {
            return Err("the running image has weak bytes, or is none".into());
        };
        let is_right = match story {
            // The flag was torn, or it read as missing in the boot that was cut.
            Story::Confirm if reverts(&self.layout) => running == OLD || running == NEW,
            _ => running == self.wanted(story),
        };
        if !is_right {
            return Err(format!("{} ends with the other image", story.name()));
        }
        if !rests {
            self.live(story)?;
        }
        match self.runs(running) {
            true => Ok(()),
            false => Err("it does not come to rest".into()),
        }
    }

    /// Whether a byte of any area reads differently each time.
    fn has_weak_bytes(&self) -> bool {
        const ALL: std::ops::Range<u32> = 0..u32::MAX;
        let inside = [&self.primary, &self.trust].map(|area| area.weak.any_in(ALL));
        inside.contains(&true) || self.secondary.weak.any_in(ALL) || self.spare.weak.any_in(ALL)
    }

    /// Cuts the power inside an operation.
    fn cut_inside(&mut self, story: Story, number: u64, fraction: f64) -> Verdict {
        let tear = Tear::Inside {
            fraction,
            seed: number,
        };
        self.power.cut_at(number, tear);
        self.live_until_cut(story)
    }
}

impl Job {
    /// The column of weak cells.
    pub(super) fn weak<const W: usize, const X: usize>(&self) -> Option<Row> {
        let story = self.story;
        let start = self.device::<W, X>()?;
        let mut row = self.row();
        let [mut device, mut second, mut third] = [start.clone(), start.clone(), start.clone()];
        device.become_copy(&start);
        let operations = undisturbed(&mut device, story, &mut row);
        row.operations = operations.len() as u64;
        let every = if self.thorough { 5 } else { 11 };
        let mut random = Random::new(row.operations);
        for (number, (kind, length)) in operations.iter().enumerate() {
            let is_copy = *kind == OpKind::Program && *length > FIELD.max(RECORD);
            // Bytes in the middle of a copy are erased again with their sector, whatever they read as.
            if is_copy && !self.thorough && number % 4 != 0 {
                continue;
            }
            let fractions: &[f64] = match kind {
                OpKind::Erase => &[0.5, 0.95],
                OpKind::Program => &[0.5],
            };
            for (choice, fraction) in CHOICES
                .iter()
                .flat_map(|choice| fractions.iter().map(move |fraction| (*choice, *fraction)))
            {
                let seed = random.bits();
                device.become_copy(&start);
                device.power.set_weak(Some(Weak { choice, seed }));
                let number = number as u64;
                let what =
                    |more: &str| format!("operation {number} {kind:?} {fraction} {choice:?} {seed}{more}");
                if let Err(error) = device.cut_inside(story, number, fraction) {
                    row.lose(what(""), &error);
                    continue;
                }
                second.become_copy(&device);
                second.power.record();
                row.cuts += 1;
                if let Err(error) = second.settle(story) {
                    row.lose(what(""), &error);
                    continue;
                }
                let limit = second.power.recorded().len() as u64;
                let mut at = random.bits() % every;
                while at < limit {
                    let fraction = (random.bits() % 100) as f64 / 100.0;
                    second.become_copy(&device);
                    let what = |more: &str| what(&format!(", then operation {at} {fraction}{more}"));
                    let outcome = second.cut_inside(story, at, fraction);
                    third.become_copy(&second);
                    third.power.record();
                    if let Err(error) = outcome.and_then(|()| third.settle(story)) {
                        row.lose(what(""), &error);
                    } else {
                        // A third cut, soon after the second one.
                        let at = random.bits() % 12;
                        let fraction = (random.bits() % 100) as f64 / 100.0;
                        if at < third.power.recorded().len() as u64 {
                            third.become_copy(&second);
                            let outcome = third.cut_inside(story, at, fraction);
                            if let Err(error) = outcome.and_then(|()| third.settle(story)) {
                                row.lose(what(&format!(", then operation {at} {fraction}")), &error);
                            }
                            row.second_cuts += 1;
                        }
                    }
                    row.second_cuts += 1;
                    at += every;
                }
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use bledfu_sim::power::OpInfo;
    use bledfu_slot::Algorithm;

    use super::super::shapes::{others, shapes, Shape};
    use super::super::{Column, Rules};
    use super::*;

    fn row(rules: Rules) -> Option<Row> {
        Job::small(Column::Weak, Algorithm::SwapMove, Story::Upgrade, rules).run()
    }

    /// Without evidence a doubtful record loses an image.
    #[test]
    fn a_boot_stage_without_evidence_is_found() {
        let without = row(Rules {
            evidence: false,
            ..Rules::STRICT
        });
        assert!(without.is_some_and(|row| row.lost > 0));
    }

    #[test]
    fn a_boot_stage_with_evidence_loses_no_image() {
        for algorithm in Algorithm::ALL {
            for story in Story::ALL {
                let row = Job::small(Column::Weak, algorithm, story, Rules::STRICT).run();
                let row = row.expect("a device that holds the images");
                assert_eq!(row.wrong(), 0, "{algorithm:?} {story:?}: {:?}", row.examples);
            }
        }
    }

    /// Without evidence nothing tells that the unit of a torn record was done. A record that reads as written is programmed again
    /// before the next unit, so it cannot read as erased later.
    #[test]
    fn without_evidence_a_record_that_reads_as_written_is_programmed_again() {
        const MOST_LATER_CUTS: u64 = 8;
        for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch] {
            let shape = shapes(algorithm)[0];
            let start = Device::<4, 4>::new(algorithm, &shape, [5000, 9000], Story::Upgrade, Rules::LOOSE);
            let start = start.expect("a device that holds the images");
            let trailer = start.layout.primary_trailer();
            let records = trailer.status_start()
                ..trailer.status_start() + trailer.record_count() * trailer.status_unit();
            let mut device = start.clone();
            device.become_copy(&start);
            device.power.record();
            assert_eq!(device.live(Story::Upgrade), Ok(true));
            let operations = device.power.recorded();
            let is_record = |op: &OpInfo| {
                op.chip == "primary"
                    && op.kind == OpKind::Program
                    && records.contains(&op.address)
                    && op.length == 4
            };
            let numbers: Vec<_> = operations
                .iter()
                .filter(|op| is_record(op))
                .map(|op| op.number)
                .collect();
            assert!(numbers.len() > 5, "{}", algorithm.as_str());
            for (number, later) in numbers
                .iter()
                .flat_map(|number| (0..MOST_LATER_CUTS).map(move |later| (*number, later)))
            {
                device.become_copy(&start);
                device.power.set_weak(Some(Weak {
                    choice: Choice::Boots(0b01),
                    seed: number,
                }));
                assert_eq!(device.cut_inside(Story::Upgrade, number, 0.5), Ok(()));
                device.count_from_here();
                assert_eq!(device.cut_inside(Story::Upgrade, later, 0.5), Ok(()));
                device.count_from_here();
                let name = algorithm.as_str();
                assert_eq!(
                    device.settle(Story::Upgrade),
                    Ok(()),
                    "{name}: operation {number}, then {later}"
                );
            }
        }
    }

    /// What a device went through in a full campaign: its shape, story and sizes, the cuts, and how its weak bytes read.
    struct Found {
        algorithm: Algorithm,
        shape: Shape,
        story: Story,
        sizes: [u32; 2],
        cuts: &'static [(u64, f64)],
        choice: Choice,
        seed: u64,
    }

    /// Its internal flash takes no second write.
    fn coded() -> Shape {
        others(Algorithm::SwapScratch).next().expect("such a device")
    }

    impl Found {
        /// Sends a device through the same once more.
        fn happens_again<const W: usize, const X: usize>(&self) -> Verdict {
            let device =
                Device::<W, X>::new(self.algorithm, &self.shape, self.sizes, self.story, Rules::STRICT);
            let mut device = device.expect("a device that holds the images");
            device.power.set_weak(Some(Weak {
                choice: self.choice,
                seed: self.seed,
            }));
            for (number, fraction) in self.cuts {
                device.count_from_here();
                device.cut_inside(self.story, *number, *fraction)?;
            }
            device.settle(self.story)
        }
    }

    /// Its record is torn in a cell that reads as erased now and then, and takes no second write.
    #[test]
    fn a_unit_kept_in_scratch_is_done_though_its_record_cannot_be_written_again() {
        let found = |cuts, choice, seed| Found {
            algorithm: Algorithm::SwapScratch,
            shape: coded(),
            story: Story::Upgrade,
            sizes: [u32::MAX; 2],
            cuts,
            choice,
            seed,
        };
        for found in [
            found(
                &[(38, 0.5), (168, 0.37)],
                Choice::PerRead(2),
                12_534_142_354_517_819_670,
            ),
            found(
                &[(175, 0.5), (26, 0.59), (6, 0.22)],
                Choice::PerRead(16),
                2_785_449_349_516_509_540,
            ),
        ] {
            assert_eq!(found.happens_again::<8, 4>(), Ok(()), "{:?}", found.cuts);
        }
    }

    /// The last record and `copy_done` are torn. They read as written at one boot, which notes that the revert is over, and as
    /// erased at the next one.
    #[test]
    fn the_last_unit_is_not_done_again_when_the_evidence_says_that_the_install_is_over() {
        let found = Found {
            algorithm: Algorithm::SwapScratch,
            shape: coded(),
            story: Story::Revert,
            sizes: [5000, u32::MAX],
            cuts: &[(272, 0.5), (3, 0.67), (4, 0.02)],
            choice: Choice::PerBoot(2),
            seed: 1_081_236_580_042_548_027,
        };
        assert_eq!(found.happens_again::<8, 4>(), Ok(()));
    }

    /// The magic that completes the install is torn, and then the first erase of the boot that starts over. Both read right once.
    #[test]
    fn overwrite_keeps_its_source_until_the_image_was_written_by_one_boot() {
        let found = |cuts, seed| Found {
            algorithm: Algorithm::Overwrite,
            shape: shapes(Algorithm::Overwrite)[0],
            story: Story::Upgrade,
            sizes: [5000, u32::MAX],
            cuts,
            choice: Choice::Boots(!1),
            seed,
        };
        for found in [
            found(&[(2, 0.5), (42, 0.31), (2, 0.38)], 9_599_299_751_242_771_328),
            found(&[(31, 0.5), (42, 0.74), (2, 0.85)], 11_907_147_057_999_542_007),
        ] {
            assert_eq!(found.happens_again::<4, 4>(), Ok(()), "{:?}", found.cuts);
        }
    }
}
