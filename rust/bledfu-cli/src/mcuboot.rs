// SPDX-License-Identifier: Apache-2.0
//! Hand-overs between MCUboot and this boot stage, for `bledfu cut`. MCUboot's half is recorded operation by operation
//! from a running MCUboot: the traces in `tests/vectors/mcuboot`.
//!
//! * MCUboot is stopped after each of its operations, and this boot stage continues: it must start the image that
//!   MCUboot starts, and leave the bytes that MCUboot leaves.
//! * MCUboot is stopped inside an erase, torn just before a field or record of a trailer: this boot stage must still
//!   start that image and leave the same images. The erase may be a repeated one, because MCUboot was stopped before it
//!   had written everything that follows it.
//! * This boot stage is stopped before each of its operations: the flashes must then be in a state that MCUboot passes
//!   through as well, so that MCUboot can continue. This requirement explains most of the order inside a step: this boot
//!   stage alone could often recover from other states too.

use std::fmt;

use bledfu_sim::nor::torn_erase;
use bledfu_sim::plain::Plain;
use bledfu_sim::power::{Power, Tear};
use bledfu_slot::tlv::SliceFlash;
use bledfu_slot::verify::read_info;
use bledfu_slot::{Algorithm, Geometry, Layout};
use comfy_table::CellAlignment::{Left, Right};
use serde_json::{json, Value};

use crate::cut::{boot_trusting, edges, FIELD};
use crate::output::Columns;

/// The images 1, 2 and 3 of the traces.
const IMAGES: [&[u8]; 3] = [
    include_bytes!("../vectors/small-1.0.0.signed.bin"),
    include_bytes!("../vectors/small-2.0.0.signed.bin"),
    include_bytes!("../vectors/small-3.0.0.signed.bin"),
];

/// The images 1, 2 and 3 of the traces.
pub fn images() -> [&'static [u8]; 3] {
    IMAGES
}

macro_rules! traces {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../vectors/", $name, ".trace")))),*]
    };
}

const TRACES: [(&str, &str); 15] = traces![
    "swap-offset-test-and-revert",
    "swap-offset-two-updates",
    "swap-offset-2.2-test-and-revert",
    "swap-offset-2.2-two-updates",
    "swap-move-test-and-revert",
    "swap-move-two-updates",
    "swap-scratch-test-and-revert",
    "swap-scratch-two-updates",
    "swap-scratch-tail-test-and-revert",
    "swap-scratch-tail-two-updates",
    "swap-scratch-tail-wide-test-and-revert",
    "swap-scratch-tail-wide-two-updates",
    "swap-scratch-unequal-test-and-revert",
    "swap-scratch-unequal-two-updates",
    "overwrite-two-updates",
];

/// The unit in which traces count sizes, in bytes.
const SECTOR: usize = 4096;

/// Primary, secondary and scratch.
type Flashes = [Vec<u8>; 3];

/// One operation of MCUboot: which of the flashes, where.
enum Op {
    /// Of [`SECTOR`] bytes.
    Erase {
        area: usize,
        at: usize,
    },
    Write {
        area: usize,
        at: usize,
        bytes: Vec<u8>,
    },
}

impl Op {
    fn area(&self) -> usize {
        match self {
            Self::Erase { area, .. } | Self::Write { area, .. } => *area,
        }
    }

    fn apply(&self, flashes: &mut Flashes) {
        match self {
            Self::Erase { area, at } => flashes[*area][*at..*at + SECTOR].fill(0xFF),
            Self::Write { area, at, bytes } => {
                for (cell, byte) in flashes[*area][*at..].iter_mut().zip(bytes) {
                    *cell &= byte;
                }
            }
        }
    }
}

/// One boot of MCUboot.
struct Boot {
    /// The flashes before it.
    start: Flashes,
    ops: Vec<Op>,
    /// Major version of the image that was started.
    started: u8,
}

impl Boot {
    /// The flashes after each number of operations; the last entry is the end.
    fn states(&self) -> Vec<Flashes> {
        let mut states = vec![self.start.clone()];
        for op in &self.ops {
            let mut flashes = states[states.len() - 1].clone();
            op.apply(&mut flashes);
            states.push(flashes);
        }
        states
    }
}

/// The life of a device with MCUboot.
pub struct Trace {
    name: &'static str,
    layout: Layout,
    boots: Vec<Boot>,
}

fn number(digits: &str) -> usize {
    usize::from_str_radix(digits, 16).expect("a hexadecimal number")
}

fn count<T: std::str::FromStr<Err: fmt::Debug>>(digits: &str) -> T {
    digits.parse().expect("a number")
}

fn image(which: &str) -> &'static [u8] {
    IMAGES[count::<usize>(which) - 1]
}

fn area(name: &str) -> usize {
    "psx".find(name).expect("p, s or x")
}

impl Trace {
    /// Those that were recorded.
    pub fn all() -> impl Iterator<Item = Self> {
        TRACES.into_iter().map(|(name, text)| Self::parse(name, text))
    }

    /// The slots.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Primary, secondary and scratch after each operation of each boot, and at the end of each boot.
    pub fn stops(&self) -> Vec<[Vec<u8>; 3]> {
        self.boots.iter().flat_map(Boot::states).collect()
    }

    /// What MCUboot was built for.
    pub fn algorithm(&self) -> Algorithm {
        self.layout.algorithm()
    }

    /// # Panics
    /// If the text is not a trace of ours; `tests/vectors/mcuboot/README.md` describes the lines.
    fn parse(name: &'static str, text: &str) -> Self {
        let mut layout = None;
        let mut algorithm = "";
        let mut flashes = Flashes::default();
        // In units of `SECTOR`. A larger sector counts as that many operations, here and in `our_boot`, which is stricter.
        let mut erase = [1; 3];
        let mut boots: Vec<Boot> = Vec::new();
        let mut in_boot = false;
        for line in text.lines() {
            let words: Vec<_> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            let ops: Vec<_> = match words[..] {
                ["algorithm", found] => {
                    algorithm = found;
                    continue;
                }
                ["slot", slot, "sectors", "scratch", scratch, "align", "4", "max-align", align, "max-sectors", m] =>
                {
                    let sizes = [slot, slot, scratch].map(count::<usize>);
                    flashes = sizes.map(|sectors| vec![0xFF; sectors * SECTOR]);
                    layout = Some(layout_of(algorithm, sizes, erase, count(align), count(m)));
                    continue;
                }
                ["erase", of, "unit", sectors] => {
                    erase[area(of)] = count(sectors);
                    continue;
                }
                ["image", to, at, which] => {
                    let (flash, at, image) = (&mut flashes[area(to)], number(at), image(which));
                    flash.fill(0xFF);
                    flash[at..at + image.len()].copy_from_slice(image);
                    continue;
                }
                // Changes by the application, which are not part of a boot.
                ["request", "test" | "permanent"] | ["confirm"] => {
                    in_boot = false;
                    continue;
                }
                ["boot", version] => {
                    in_boot = true;
                    boots.push(Boot {
                        start: flashes.clone(),
                        ops: Vec::new(),
                        started: count(version),
                    });
                    continue;
                }
                ["E", of, at] => (0..erase[area(of)])
                    .map(|part| Op::Erase {
                        area: area(of),
                        at: number(at) + part * SECTOR,
                    })
                    .collect(),
                ["W", to, at, bytes] => {
                    let bytes = (0..bytes.len() / 2).map(|i| number(&bytes[2 * i..2 * i + 2]) as u8);
                    vec![Op::Write {
                        area: area(to),
                        at: number(at),
                        bytes: bytes.collect(),
                    }]
                }
                ["C", to, at, length, "image", which, from] => {
                    let erased = std::iter::repeat(&0xFF);
                    let bytes = image(which).iter().chain(erased).skip(number(from));
                    vec![Op::Write {
                        area: area(to),
                        at: number(at),
                        bytes: bytes.take(number(length)).copied().collect(),
                    }]
                }
                _ => panic!("{name}: {line}"),
            };
            for op in &ops {
                op.apply(&mut flashes);
            }
            match boots.last_mut() {
                Some(boot) if in_boot => boot.ops.extend(ops),
                _ => {}
            }
        }
        let layout = layout.expect("a line with the slots");
        Self { name, layout, boots }
    }

    /// All hand-overs of this trace.
    pub fn hand_over(&self) -> HandOvers {
        let mut found = HandOvers {
            trace: self.name,
            ..HandOvers::default()
        };
        for (i, boot) in self.boots.iter().enumerate() {
            let states = boot.states();
            self.take_over(&mut found, i, boot.started, &states);
            if self.layout.primary_trailer().tlv_sizes().is_none()
                && self.algorithm() == Algorithm::SwapOffset
            {
                self.take_over_for_2_3(&mut found, i, boot.started, &states);
            }
            self.take_over_torn(&mut found, i, boot, &states);
            self.leave(&mut found, i, &states);
        }
        found
    }

    /// MCUboot is stopped in each of these states; the last one is its end.
    fn take_over(&self, found: &mut HandOvers, boot: usize, version: u8, states: &[Flashes]) {
        let end = &states[states.len() - 1];
        for (stop, state) in states[..states.len() - 1].iter().enumerate() {
            let mut flashes = state.clone();
            let (_, started) = our_boot(&mut flashes, self.layout, None);
            // Once prepared, a revert by move is a permanent swap of the old image, also for MCUboot.
            if self.algorithm() == Algorithm::SwapMove && version == 1 {
                let at = self.layout.primary_trailer().swap_info() as usize;
                if [3, 4].contains(&flashes[0][at]) {
                    flashes[0][at] = end[0][at];
                }
            }
            let right = started == Some(version) && flashes == *end;
            found.count_taken_over(right, || {
                format!("boot {boot} of MCUboot, stopped after {stop}, ends otherwise")
            });
        }
    }

    /// MCUboot 2.2 is stopped, and a build for the trailer of 2.3 continues: the same except for the trailers.
    fn take_over_for_2_3(&self, found: &mut HandOvers, boot: usize, version: u8, states: &[Flashes]) {
        let end = &states[states.len() - 1];
        let trailers = [self.layout.primary_trailer(), self.layout.secondary_trailer()];
        for (stop, state) in states[..states.len() - 1].iter().enumerate() {
            let mut flashes = state.clone();
            let (_, started) = our_boot(&mut flashes, self.layout.with_tlv_sizes(), None);
            let same = trailers
                .iter()
                .zip(&flashes)
                .zip(end)
                .all(|((trailer, found), end)| {
                    let bound = trailer.first_sector() as usize;
                    found[..bound] == end[..bound]
                });
            found.count_taken_over(started == Some(version) && same, || {
                format!(
                    "boot {boot} of MCUboot, stopped after {stop}, ends otherwise with the trailer of 2.3"
                )
            });
        }
    }

    /// The final images in the slots are the same.
    fn same_images(&self, found: &Flashes, end: &Flashes) -> bool {
        let places = [(0, 0), (1, 0), (1, self.layout.secondary().sector_size as usize)];
        IMAGES.iter().all(|image| {
            places.iter().all(|(area, at)| {
                !end[*area][*at..].starts_with(image) || found[*area][*at..].starts_with(image)
            })
        })
    }

    /// MCUboot is stopped inside an erase: the next one, or one that it repeats because it was stopped after it, before
    /// everything that belongs to it was written.
    fn take_over_torn(&self, found: &mut HandOvers, index: usize, boot: &Boot, states: &[Flashes]) {
        let trailers = [
            Some(self.layout.primary_trailer()),
            Some(self.layout.secondary_trailer()),
            self.layout.spare_trailer(),
        ];
        // The first of the erases in a row in one area, with the programs that follow.
        let mut first: Option<&Op> = None;
        let mut last_was_erase = false;
        let end = &states[states.len() - 1];
        for (stop, op) in boot.ops.iter().enumerate() {
            let is_erase = matches!(op, Op::Erase { .. });
            if is_erase && !(last_was_erase && first.is_some_and(|first| first.area() == op.area())) {
                first = Some(op);
            }
            last_was_erase = is_erase;
            let erase = match op {
                Op::Erase { .. } => Some(op),
                Op::Write { bytes, .. } if bytes.len() <= FIELD as usize => first,
                Op::Write { .. } => None,
            };
            let Some(Op::Erase { area, at }) = erase else {
                continue;
            };
            let Some(trailer) = trailers[*area] else {
                continue;
            };
            for (seed, done) in (0..).zip(edges(&trailer, *at as u32, SECTOR as u32)) {
                let mut flashes = states[stop].clone();
                let (erased, rest) = flashes[*area][*at..at + SECTOR].split_at_mut(done as usize);
                erased.fill(0xFF);
                torn_erase(rest, seed);
                let (_, started) = our_boot(&mut flashes, self.layout, None);
                found.torn += 1;
                if started != Some(boot.started) || !self.same_images(&flashes, end) {
                    found.fail(format!(
                        "boot {index} of MCUboot, at {stop} torn in the erase of {at:#x} after {done:#x} bytes, starts {started:?}"
                    ));
                }
            }
        }
    }

    /// This boot stage is stopped before each of its operations; MCUboot knows only these states.
    fn leave(&self, found: &mut HandOvers, boot: usize, states: &[Flashes]) {
        let (operations, _) = our_boot(&mut states[0].clone(), self.layout, None);
        for cut in 0..operations {
            let mut flashes = states[0].clone();
            our_boot(&mut flashes, self.layout, Some(cut));
            found.left += 1;
            if !states.contains(&flashes) {
                found.fail(format!(
                    "boot {boot} of bledfu, stopped before {cut}, leaves what MCUboot never does"
                ));
            }
        }
    }
}

/// Results of one trace.
#[derive(Clone, Debug, Default)]
pub struct HandOvers {
    trace: &'static str,
    /// Boots begun by MCUboot and finished by this boot stage.
    pub taken_over: u64,
    /// Erases of MCUboot that were torn and repaired by this boot stage.
    pub torn: u64,
    /// States in which this boot stage was stopped.
    pub left: u64,
    /// Those that failed.
    pub wrong: u64,
    /// The first of them.
    pub examples: Vec<String>,
}

impl HandOvers {
    fn count_taken_over(&mut self, right: bool, what: impl FnOnce() -> String) {
        self.taken_over += 1;
        if !right {
            self.fail(what());
        }
    }

    fn fail(&mut self, what: String) {
        self.wrong += 1;
        if self.examples.len() < 3 {
            self.examples.push(what);
        }
    }
}

/// Columns of the table of hand-overs.
pub(crate) const COLUMNS: Columns<5> =
    Columns([(38, Left), (10, Right), (8, Right), (10, Right), (6, Right)]);

impl HandOvers {
    pub(crate) fn json(&self) -> Value {
        json!({
            "event": "hand_over", "trace": self.trace, "taken_over": self.taken_over, "torn": self.torn,
            "left": self.left, "wrong": self.wrong, "examples": self.examples,
        })
    }
}

impl fmt::Display for HandOvers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace,
            taken_over,
            torn,
            left,
            wrong,
            examples,
        } = self;
        let counts = [taken_over, torn, left, wrong].map(|count| count.to_string());
        let [taken_over, torn, left, wrong] = counts;
        f.write_str(&COLUMNS.row([trace.to_string(), taken_over, torn, left, wrong]))?;
        for example in examples {
            write!(f, "\n    WRONG: {example}")?;
        }
        Ok(())
    }
}

/// Sizes and erase units of primary, secondary and scratch, in units of [`SECTOR`].
fn layout_of(name: &str, sizes: [usize; 3], erase: [usize; 3], max_align: u32, max_sectors: u32) -> Layout {
    let [primary, secondary, scratch] = [0, 1, 2].map(|area| Geometry {
        slot_size: (sizes[area] * SECTOR) as u32,
        sector_size: (erase[area] * SECTOR) as u32,
        write_size: 4,
    });
    let is_older = name == "swap-offset-2.2";
    let algorithm = Algorithm::ALL
        .into_iter()
        .find(|known| name == known.as_str() || is_older && *known == Algorithm::SwapOffset)
        .expect("an algorithm of MCUboot");
    let spare = (scratch.slot_size > 0).then_some(scratch);
    let layout = Layout::with_spare(algorithm, primary, secondary, spare, max_align, max_sectors)
        .expect("a layout of MCUboot");
    match is_older {
        true => layout.without_tlv_sizes(),
        false => layout,
    }
}

/// One boot of this boot stage, cut before operation `cut` if given; returns the number of operations begun, and the
/// major version that it starts.
fn our_boot(flashes: &mut Flashes, layout: Layout, cut: Option<u64>) -> (u64, Option<u8>) {
    let power = Power::new();
    let [mut primary, mut secondary, mut scratch] = [0, 1, 2].map(|area| {
        let name = ["primary", "secondary", "scratch"][area];
        Plain::<4>::new(name, std::mem::take(&mut flashes[area]), SECTOR as u32, &power)
    });
    if let Some(op) = cut {
        power.cut_at(op, Tear::Before);
    }
    let digests = IMAGES.map(|image| {
        let info = read_info(&mut SliceFlash(image), 0, image.len() as u32);
        info.ok().flatten().expect("an image with a digest").digest
    });
    let report = boot_trusting(&digests, layout, (&mut primary, &mut secondary, &mut scratch));
    *flashes = [primary.cells, secondary.cells, scratch.cells];
    (
        power.ops(),
        report.ok().map(|report| report.image.header.version.major),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undisturbed_boot_leaves_the_bytes_that_mcuboot_leaves() {
        let mut boots = 0;
        for trace in Trace::all() {
            for (i, boot) in trace.boots.iter().enumerate() {
                let mut flashes = boot.start.clone();
                let (_, started) = our_boot(&mut flashes, trace.layout, None);
                assert_eq!(started, Some(boot.started), "{} boot {i}", trace.name);
                assert!(Some(&flashes) == boot.states().last(), "{} boot {i}", trace.name);
                boots += 1;
            }
        }
        assert!(boots >= 28, "{boots}");
    }

    #[test]
    fn mcuboot_and_this_boot_stage_can_take_over_from_each_other_anywhere() {
        let (mut taken_over, mut torn, mut left) = (0, 0, 0);
        for trace in Trace::all() {
            let found = trace.hand_over();
            assert_eq!(found.wrong, 0, "{found}");
            taken_over += found.taken_over;
            torn += found.torn;
            left += found.left;
        }
        assert!(
            taken_over > 1200 && torn > 1000 && left > 900,
            "{taken_over} {torn} {left}"
        );
    }

    #[test]
    fn a_failed_hand_over_is_counted_and_named() {
        // The third operation of MCUboot is removed: the end differs, and so do the states before it.
        let mut trace = Trace::all().next().unwrap();
        trace.boots[0].ops.remove(2);
        let found = trace.hand_over();
        assert!(found.wrong > 0);
        assert_eq!(found.examples.len(), 3);
        assert!(found
            .to_string()
            .contains("WRONG: boot 0 of MCUboot, stopped after "));
    }
}
