// SPDX-License-Identifier: Apache-2.0
//! The column of wrong reads: during one boot, reads of the external areas return wrong bytes; after it they are right
//! again.
//!
//! Whatever that boot decides, it starts one of the two images or none, and after later boots one of them is in the primary
//! slot to the last byte. With a single wrong read, the update is not lost either.
//!
//! To the last byte only then: an install that fails because copy and source differ is begun anew at the next boot. Until
//! then an image whose digest is noted inside may start although a byte of its signature was read wrongly, twice the same.

use bledfu_sim::hostile::Misreads;

use super::device::{reverts, Device, NEW, OLD};
use super::shapes::Story;
use super::{Job, Row};

/// The rates: one read in so many is wrong.
const RATES: [u64; 4] = [30, 60, 120, 240];

/// Number of devices for each rate, per line.
const DEVICES: u64 = 40;
/// The same in the full campaign.
const DEVICES_IN_FULL: u64 = 100;

/// Number of boots after the one with wrong reads.
const BOOTS: u32 = 4;

/// Which reads go wrong.
#[derive(Clone, Debug)]
struct Plan {
    secondary: Misreads,
    spare: Misreads,
    /// Whether nothing may be lost, not even the update.
    is_single: bool,
    /// Number of boots with such reads.
    boots: u32,
}

impl<const W: usize, const X: usize> Device<W, X> {
    /// The boot with wrong reads, and those after it.
    fn misread(&mut self, story: Story, plan: &Plan) -> Result<(), String> {
        let had = self.running();
        self.secondary.misreads = plan.secondary.clone();
        self.spare.misreads = plan.spare.clone();
        let mut has_run_new = false;
        for _ in 0..plan.boots {
            self.power.power_on();
            let booted = self.boot().is_ok();
            if booted && !self.executes(OLD) && !self.executes(NEW) {
                return Err("the image that starts is not one of ours".into());
            }
            has_run_new |= booted && self.runs(NEW);
        }
        self.secondary.misreads = Misreads::none();
        self.spare.misreads = Misreads::none();
        for _ in 0..BOOTS {
            self.power.power_on();
            self.boot().map_err(|error| error.to_string())?;
            if !self.runs(OLD) && !self.runs(NEW) {
                return Err("the image that started is not one of ours".into());
            }
            has_run_new |= self.runs(NEW);
        }
        let way_back = self.keeps(OLD) || self.runs(OLD);
        if reverts(&self.layout) && !way_back && story != Story::Permanent {
            return Err("the image before is gone".into());
        }
        if plan.is_single && had != Some(NEW) && !has_run_new {
            return Err("one wrong read took the update away".into());
        }
        // A revert that is due is done in the end, once the reads are right.
        if plan.is_single && had == Some(NEW) && !self.runs(self.wanted(story)) {
            return Err("one wrong read kept the image before from coming back".into());
        }
        Ok(())
    }
}

impl Job {
    /// The column of wrong reads.
    pub(super) fn misread<const W: usize, const X: usize>(&self) -> Option<Row> {
        let mut start = self.device::<W, X>()?;
        let mut row = self.row();
        // The boot with wrong reads is the first one, which installs, or the one that reverts.
        match self.story {
            Story::Upgrade | Story::Permanent => {}
            Story::Revert | Story::Confirm => {
                if let Err(error) = start.live(self.story) {
                    row.lose("without a wrong read".into(), &error);
                }
            }
        }
        let mut device = start.clone();
        device.become_copy(&start);
        let mut attempt = |row: &mut Row, plan: &Plan, what: String| {
            device.become_copy(&start);
            if let Err(error) = device.misread(self.story, plan) {
                row.lose(what, &error);
            }
            row.cuts += 1;
        };
        let none = Plan {
            secondary: Misreads::none(),
            spare: Misreads::none(),
            is_single: true,
            boots: 1,
        };
        for rate in RATES {
            for seed in 0..if self.thorough { DEVICES_IN_FULL } else { DEVICES } {
                let plan = Plan {
                    secondary: Misreads::one_in(rate, seed),
                    spare: Misreads::one_in(rate, seed + 7777),
                    is_single: false,
                    boots: 1,
                };
                attempt(&mut row, &plan, format!("one read in {rate} wrong, seed {seed}"));
            }
        }
        // As if no flash were connected.
        let blank = || Misreads {
            blank: 0..u64::MAX,
            ..Misreads::none()
        };
        let plan = Plan {
            secondary: blank(),
            spare: blank(),
            is_single: false,
            boots: 1,
        };
        attempt(&mut row, &plan, "every read blank".into());
        // Each read alone: as many as the undisturbed boot has.
        let mut counting = start.clone();
        counting.become_copy(&start);
        counting.secondary.misreads = Misreads::none();
        counting.spare.misreads = Misreads::none();
        counting.power.power_on();
        if let Err(error) = counting.boot() {
            row.lose("without a wrong read".into(), &error.to_string());
        }
        let reads = [counting.secondary.misreads.reads, counting.spare.misreads.reads];
        row.operations = reads.iter().sum();
        let every = if self.thorough { 1 } else { 7 };
        for (area, reads) in reads.into_iter().enumerate() {
            for number in (0..reads).step_by(every) {
                for is_blank in [false, true] {
                    let mut plan = none.clone();
                    let misreads = if area == 0 {
                        &mut plan.secondary
                    } else {
                        &mut plan.spare
                    };
                    match is_blank {
                        true => misreads.blank = number..number + 1,
                        false => misreads.flipped = number..number + 1,
                    }
                    misreads.seed = number;
                    let kind = if is_blank { "blank" } else { "wrong" };
                    let name = ["secondary", "third"][area];
                    attempt(&mut row, &plan, format!("read {number} of {name} {kind}"));
                }
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use bledfu_slot::Algorithm;

    use super::super::{Column, Rules};
    use super::*;

    /// If an update reads wrongly at every boot, it is refused in the end: the column finds that.
    #[test]
    fn wrong_reads_that_do_not_end_lose_the_update_and_the_column_sees_it() {
        let job = Job::small(
            Column::Misread,
            Algorithm::SwapMove,
            Story::Upgrade,
            Rules::STRICT,
        );
        let start = job.device::<4, 4>().unwrap();
        let mut device = start.clone();
        let lost = (0..40).filter(|seed| {
            device.become_copy(&start);
            let plan = Plan {
                secondary: Misreads::one_in(2, *seed),
                spare: Misreads::none(),
                is_single: true,
                boots: 12,
            };
            device.misread(Story::Upgrade, &plan).is_err()
        });
        assert!(lost.count() > 20);
        assert_eq!(job.run().map(|row| row.wrong()), Some(0));
    }
}
