// SPDX-License-Identifier: Apache-2.0
//! The column of wrong reads: during one boot, reads of the areas outside go wrong; behind it they are right again.
//!
//! Whatever was decided in that boot, a later one starts one of the two images, and what starts in it is one of them, too.
//! With a single wrong read the update is not lost either.

use bledfu_sim::hostile::Misreads;

use super::device::{reverts, Device, NEW, OLD};
use super::shapes::Story;
use super::{Job, Row};

/// One read in so many is wrong.
const RATES: [u64; 4] = [30, 60, 120, 240];

/// Devices for each rate, per line.
const DEVICES: u64 = 40;
/// The same in the full campaign.
const DEVICES_IN_FULL: u64 = 100;

/// Boots behind the one with wrong reads.
const BOOTS: u32 = 4;

/// Which reads go wrong.
#[derive(Clone, Debug)]
struct Plan {
    secondary: Misreads,
    spare: Misreads,
    /// Nothing may be lost by it, not even the update.
    is_single: bool,
}

impl<const W: usize, const X: usize> Device<W, X> {
    /// The boot with wrong reads, and those behind it.
    fn misread(&mut self, story: Story, plan: &Plan) -> Result<(), String> {
        let had = self.running();
        self.secondary.misreads = plan.secondary.clone();
        self.spare.misreads = plan.spare.clone();
        self.power.power_on();
        let booted = self.boot().is_ok();
        self.secondary.misreads = Misreads::none();
        self.spare.misreads = Misreads::none();
        if booted && !self.runs(OLD) && !self.runs(NEW) {
            return Err("what starts is no image of ours".into());
        }
        let mut has_run_new = booted && self.runs(NEW);
        for _ in 0..BOOTS {
            self.power.power_on();
            self.boot().map_err(|error| error.to_string())?;
            if !self.runs(OLD) && !self.runs(NEW) {
                return Err("what started is no image of ours".into());
            }
            has_run_new |= self.runs(NEW);
        }
        let way_back = self.keeps(OLD) || self.runs(OLD);
        if reverts(&self.layout) && !way_back && story != Story::Permanent {
            return Err("the image before is gone".into());
        }
        if plan.is_single && !has_run_new {
            return Err("one wrong read took the update away".into());
        }
        // A revert that is due is done in the end, if what is read is right.
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
        // The boot in question is the first one, that of the install; or that of the revert.
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
        };
        for rate in RATES {
            for seed in 0..if self.thorough { DEVICES_IN_FULL } else { DEVICES } {
                let plan = Plan {
                    secondary: Misreads::one_in(rate, seed),
                    spare: Misreads::one_in(rate, seed + 7777),
                    is_single: false,
                };
                attempt(&mut row, &plan, format!("one read in {rate} wrong, seed {seed}"));
            }
        }
        // Nothing is connected, it seems.
        let blank = || Misreads {
            blank: 0..u64::MAX,
            ..Misreads::none()
        };
        let plan = Plan {
            secondary: blank(),
            spare: blank(),
            is_single: false,
        };
        attempt(&mut row, &plan, "every read blank".into());
        // Each read alone, as far as the undisturbed boot has some.
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
