// SPDX-License-Identifier: Apache-2.0
//! Whole updates that are disturbed at every flash operation: the power fails before or inside it, once or several
//! times, or the driver fails. A [`Subject`] is what differs between the algorithms.

use bledfu_swap::{BootError, BootReport};
use bledfu_testkit::{Op, Power, Tear, SECTOR};

use super::BootResult;

/// A device whose update is disturbed.
pub trait Subject: Sized {
    /// How far from the end of a sector a torn erase ends: between two fields of the trailer.
    const ENDS_OF_ERASES: &'static [usize];

    /// A copy of the device with its own power supply.
    fn fork(&self) -> Self;

    /// The power supply.
    fn power(&self) -> &Power;

    /// One boot.
    fn boot(&mut self) -> BootResult;

    /// The application confirms its image; false if the flash fails.
    fn confirm(&mut self) -> bool;

    /// Whether the new image runs.
    fn runs_new(&self) -> bool;

    /// Fails unless the image that has started is one of the two, and the one that the report names.
    fn check_started(&self, report: &BootReport, what: &str);

    /// Whether the new image has started (or was about to) without confirming itself, so that the next reset brings the
    /// old one back.
    fn revert_is_due(&mut self) -> bool;

    /// Fails unless the image that does not run is still there.
    fn check_kept(&mut self, what: &str);

    /// Fails unless the device is in the same state as after the same story without a disturbance.
    fn check_end(&mut self, ends: &Ends<Self>, reverted: bool, story: Story, what: &str);

    /// Accepts what stays undone for good because the driver refused an operation: takes it over from the undisturbed
    /// end.
    fn forgive_refused(&mut self, ends: &Ends<Self>, reverted: bool);
}

/// The life of a device after an update was requested: one phase per reset, until nothing changes any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Test; the new image confirms itself.
    Confirm,
    /// Test; the new image never confirms.
    Revert,
    /// Permanent.
    Permanent,
}

impl Story {
    pub const ALL: [Self; 3] = [Self::Confirm, Self::Revert, Self::Permanent];
}

/// Number of resets until every story has ended.
const RESETS: u32 = 3;

/// One reset and what the application does after it; false if the power failed.
pub fn live<S: Subject>(device: &mut S, story: Story) -> bool {
    match device.boot() {
        Ok(report) => {
            device.check_started(&report, "no cut");
            if story == Story::Confirm && device.runs_new() {
                return device.confirm();
            }
            true
        }
        Err(error) => {
            assert!(
                device.power().is_off(),
                "no boot although the power is there: {error:?}"
            );
            false
        }
    }
}

pub fn finish_story<S: Subject>(device: &mut S, story: Story) {
    for _ in 0..RESETS {
        assert!(live(device, story));
    }
}

/// How a story ends without a cut, and how it ends if the power fails before the new image confirms itself.
pub struct Ends<S> {
    pub ops: u64,
    pub as_told: S,
    pub reverted: S,
}

impl<S: Subject> Ends<S> {
    pub fn of(start: &S, story: Story) -> Self {
        let ends = Self::from(start, story);
        assert!(ends.ops > 0);
        ends
    }

    /// From any stage of the story on.
    pub fn from(start: &S, story: Story) -> Self {
        let mut as_told = start.fork();
        finish_story(&mut as_told, story);
        let mut reverted = start.fork();
        if story != Story::Permanent {
            finish_story(&mut reverted, Story::Revert);
        }
        Self {
            ops: as_told.power().ops(),
            as_told,
            reverted,
        }
    }

    pub fn when(&self, reverted: bool) -> &S {
        match reverted {
            true => &self.reverted,
            false => &self.as_told,
        }
    }
}

/// Checks that the first boot starts an image and keeps the other one, and that the story ends as without a
/// disturbance.
pub fn assert_recovers<S: Subject>(device: S, ends: &Ends<S>, story: Story, what: &str) {
    assert_ends(device, ends, false, story, what, |_| {});
}

/// [`assert_recovers`], of a story that a cut may have `reverted`; `before_end` sees the device before it is compared.
pub fn assert_ends<S: Subject>(
    mut device: S,
    ends: &Ends<S>,
    reverted: bool,
    story: Story,
    what: &str,
    before_end: impl FnOnce(&mut S),
) {
    assert!(live(&mut device, story), "{what}");
    device.check_kept(what);
    finish_story(&mut device, story);
    before_end(&mut device);
    device.check_end(ends, reverted, story, what);
}

/// Ways in which the operation `seed` is torn.
pub fn tears<S: Subject>(seed: u64) -> Vec<Tear> {
    let mut tears = vec![Tear::Before];
    for percent in [25, 50, 75] {
        for extra in 0..6 {
            tears.push(Tear::Inside {
                percent,
                seed: seed * 1000 + u64::from(percent) * 10 + extra,
            });
        }
    }
    // An erase that ends between two fields, with the last field torn or not.
    for back in S::ENDS_OF_ERASES {
        for next in [0xFF, 0x00, 0x01, 0x33] {
            tears.push(Tear::Prefix {
                bytes: SECTOR - back,
                next,
            });
        }
    }
    // A program that ends in the first byte and leaves a random value there.
    for next in [0xFE, 0x7F, 0x55] {
        tears.push(Tear::Prefix { bytes: 0, next });
    }
    tears
}

/// Runs `story` once without a cut, then once per operation and tear with a cut there; returns the number of cuts.
pub fn campaign<S: Subject>(start: &S, story: Story) -> u64 {
    campaign_of(start, story, |op, _| tears::<S>(op))
}

/// [`campaign`] with the tears that a function gives for each operation.
pub fn campaign_of<S: Subject>(start: &S, story: Story, tears: impl Fn(u64, &Op) -> Vec<Tear>) -> u64 {
    let ends = Ends::of(start, story);
    let ops = ends.ops;
    let mut whole = start.fork();
    whole.power().record();
    finish_story(&mut whole, story);
    let mut cuts = 0;
    for (op, done) in (0..ops).zip(whole.power().recorded()) {
        for tear in tears(op, &done) {
            let what = format!("{story:?} op {op} of {ops}, {tear:?}");
            let mut device = start.fork();
            let reverted = cut(&mut device, story, op, tear);
            assert_ends(device, &ends, reverted, story, &what, |_| {});
            cuts += 1;
        }
    }
    cuts
}

/// Runs the story until the power fails at this operation, and switches it on again. True if the new image will be
/// reverted because of the cut.
fn cut<S: Subject>(device: &mut S, story: Story, op: u64, tear: Tear) -> bool {
    device.power().cut_at(op, tear);
    while live(device, story) {}
    device.power().on();
    story == Story::Confirm && device.revert_is_due()
}

/// Like [`campaign`], with a second (and third) cut during the recovery at every `stride`-th operation.
pub fn campaign_of_repeated_cuts<S: Subject>(start: &S, story: Story, stride: usize) -> u64 {
    let ends = Ends::of(start, story);
    let ops = ends.ops;
    let inside = |percent: u64, seed| Tear::Inside {
        percent: (percent % 100) as u8,
        seed,
    };
    let mut cuts = 0;
    for first in 0..ops {
        let mut cut_once = start.fork();
        let reverted_once = cut(&mut cut_once, story, first, inside(first * 37, first));
        for second in ((first as usize % stride) as u64..ops).step_by(stride) {
            let tear = match second % 3 {
                0 => Tear::Before,
                _ => inside(second * 53, first * 1000 + second),
            };
            let what = format!("{story:?} first {first}, second {second}, {tear:?}");
            let mut device = cut_once.fork();
            let mut reverted = reverted_once;
            device.power().cut_at(second, tear);
            for _ in 0..=RESETS {
                if !live(&mut device, story) {
                    break;
                }
            }
            device.power().on();
            reverted |= story == Story::Confirm && device.revert_is_due();
            device.power().cut_at(second % 5, inside(50, second));
            live(&mut device, story);
            device.power().on();
            reverted |= story == Story::Confirm && device.revert_is_due();
            assert_ends(device, &ends, reverted, story, &what, |_| {});
            cuts += 1;
        }
    }
    cuts
}

/// How a driver fails: one call twice, so that a second try does not help, or every call from there on.
const FAILURES: [u64; 2] = [2, u64::MAX / 2];

/// Fails single reads, then single erases and programs, in one boot: in every boot of the story, and in the boots after
/// a cut at every `stride`-th operation. The boots after that must end as if nothing had happened. Returns the number
/// of failures.
pub fn campaign_of_failures<S: Subject>(start: &S, story: Story, stride: usize) -> u64 {
    let ops = Ends::of(start, story).ops;
    let mut stages = Vec::new();
    let mut whole = start.fork();
    for _ in 0..RESETS {
        stages.push(whole.fork());
        assert!(live(&mut whole, story));
    }
    for op in (0..ops).step_by(stride) {
        let mut device = start.fork();
        device.power().cut_at(op, Tear::Before);
        while live(&mut device, story) {}
        stages.push(device.fork());
    }
    let failures = |(number, stage)| failures_of(stage, story, &format!("stage {number}"));
    stages.iter().enumerate().map(failures).sum()
}

/// The same for the next boot of one device.
pub fn failures_of<S: Subject>(stage: &S, story: Story, what: &str) -> u64 {
    let mut failures = 0;
    let mut whole = stage.fork();
    whole.boot().unwrap();
    let calls = [(true, whole.power().reads()), (false, whole.power().ops())];
    let ends = Ends::from(stage, story);
    for (reads, count) in calls {
        for (first, length) in (0..count).flat_map(|first| FAILURES.map(|length| (first, length))) {
            let what = format!("{story:?} {what}, reads: {reads}, {first} + {length} of {count}");
            let mut device = stage.fork();
            if reads {
                device.power().fail_reads(first..first + length);
            } else {
                device.power().fail_ops(first..first + length);
            }
            let started = device.boot();
            device.power().on();
            match started {
                Ok(report) => {
                    device.check_started(&report, &what);
                    // A revert that is postponed must not be given up.
                    if story == Story::Confirm && device.runs_new() && whole.runs_new() {
                        assert!(device.confirm(), "{what}");
                    }
                }
                Err(error) => {
                    let is_flash = matches!(error, BootError::Flash(_));
                    assert!(is_flash, "{error:?}: {what}");
                }
            }
            let reverted = story == Story::Confirm && device.revert_is_due();
            assert_ends(device, &ends, reverted, story, &what, |device| {
                if !reads {
                    device.forgive_refused(&ends, reverted);
                }
            });
            failures += 1;
        }
    }
    failures
}
