// SPDX-License-Identifier: Apache-2.0
//! Hand-overs between a running MCUboot and this boot stage: what MCUboot did to the flashes, operation by operation
//! (`tests/vectors/mcuboot`), stopped after each of them and taken up here.

#[path = "../../bledfu-slot/tests/common/mod.rs"]
mod common;

use bledfu_slot::{Algorithm, Geometry, ImagePolicy, Layout, SoftCrypto};
use bledfu_swap::{boot, BootConfig, BootReport, Downgrade};
use common::{Nor, Power, Tear, SECTOR};

/// The images 1, 2 and 3 of the traces.
const IMAGES: [&[u8]; 3] = [
    include_bytes!("../../../tests/vectors/images/small-1.0.0.signed.bin"),
    include_bytes!("../../../tests/vectors/images/small-2.0.0.signed.bin"),
    include_bytes!("../../../tests/vectors/images/small-3.0.0.signed.bin"),
];

macro_rules! traces {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../tests/vectors/mcuboot/", $name, ".trace")))),*]
    };
}

const TRACES: [(&str, &str); 13] = traces![
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
    "swap-scratch-unequal-test-and-revert",
    "swap-scratch-unequal-two-updates",
    "overwrite-two-updates",
];

/// Primary, secondary and scratch.
type Flashes = [Vec<u8>; 3];

/// One operation of MCUboot.
enum Op {
    Erase(usize, usize),
    Write(usize, usize, Vec<u8>),
}

impl Op {
    fn apply(&self, flashes: &mut Flashes) {
        match self {
            Self::Erase(area, at) => flashes[*area][*at..*at + SECTOR].fill(0xFF),
            Self::Write(area, at, bytes) => {
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
    /// The flashes as a stop after so many operations leaves them.
    fn stopped_after(&self, ops: usize) -> Flashes {
        let mut flashes = self.start.clone();
        for op in &self.ops[..ops] {
            op.apply(&mut flashes);
        }
        flashes
    }
}

struct Trace {
    name: &'static str,
    layout: Layout,
    boots: Vec<Boot>,
}

fn number(digits: &str) -> usize {
    usize::from_str_radix(digits, 16).unwrap()
}

fn area(name: &str) -> usize {
    "psx".find(name).unwrap()
}

fn load(flash: &mut [u8], image: &[u8], at: usize) {
    flash.fill(0xFF);
    flash[at..at + image.len()].copy_from_slice(image);
}

impl Trace {
    fn parse((name, text): (&'static str, &str)) -> Self {
        let mut layout = None;
        let mut algorithm = "";
        let mut flashes = Flashes::default();
        // In units of `SECTOR`. A larger sector counts as that many operations here, which is stricter.
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
                    let sectors = |count: &str| count.parse::<usize>().unwrap();
                    flashes = [slot, slot, scratch].map(|count| vec![0xFF; sectors(count) * SECTOR]);
                    layout = Some(layout_of(
                        algorithm,
                        [slot, slot, scratch].map(sectors),
                        erase,
                        align.parse().unwrap(),
                        m.parse().unwrap(),
                    ));
                    continue;
                }
                ["erase", of, "unit", count] => {
                    erase[area(of)] = count.parse().unwrap();
                    continue;
                }
                ["image", to, at, which] => {
                    let image = IMAGES[which.parse::<usize>().unwrap() - 1];
                    load(&mut flashes[area(to)], image, number(at));
                    continue;
                }
                // What the application did: not part of a boot.
                ["request", "test" | "permanent"] | ["confirm"] => {
                    in_boot = false;
                    continue;
                }
                ["boot", version] => {
                    in_boot = true;
                    boots.push(Boot {
                        start: flashes.clone(),
                        ops: Vec::new(),
                        started: version.parse().unwrap(),
                    });
                    continue;
                }
                ["E", to, at] => (0..erase[area(to)])
                    .map(|part| Op::Erase(area(to), number(at) + part * SECTOR))
                    .collect(),
                ["W", to, at, bytes] => {
                    let bytes = (0..bytes.len() / 2).map(|i| number(&bytes[2 * i..2 * i + 2]) as u8);
                    vec![Op::Write(area(to), number(at), bytes.collect())]
                }
                ["C", to, at, length, "image", which, from] => {
                    let image = IMAGES[which.parse::<usize>().unwrap() - 1];
                    let erased = core::iter::repeat(&0xFF);
                    let bytes = image.iter().chain(erased).skip(number(from));
                    let bytes = bytes.take(number(length)).copied().collect();
                    vec![Op::Write(area(to), number(at), bytes)]
                }
                _ => panic!("{name}: {line}"),
            };
            for op in &ops {
                op.apply(&mut flashes);
            }
            if in_boot {
                boots.last_mut().unwrap().ops.extend(ops);
            }
        }
        Self {
            name,
            layout: layout.unwrap(),
            boots,
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        TRACES.into_iter().map(Self::parse)
    }
}

/// Sizes and erase units of primary, secondary and scratch, in units of `SECTOR`.
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
        .unwrap();
    let spare = (scratch.slot_size > 0).then_some(scratch);
    let layout = Layout::with_spare(algorithm, primary, secondary, spare, max_align, max_sectors).unwrap();
    if is_older {
        layout.without_tlv_sizes()
    } else {
        layout
    }
}

/// A boot of ours, cut before operation `cut` if there is one; the operations begun, and the result of the last.
fn our_boot(flashes: &mut Flashes, layout: Layout, cut: Option<u64>) -> (u64, Option<BootReport>) {
    let power = Power::new();
    let mut chips = ['p', 's', 'x'].map(|name| Nor::<4>::new(name, 0, &power));
    for (chip, bytes) in chips.iter_mut().zip(&mut *flashes) {
        chip.bytes = core::mem::take(bytes);
    }
    if let Some(op) = cut {
        power.cut_at(op, Tear::Before);
    }
    let digests = IMAGES.map(|image| {
        let payload = u32::from_le_bytes(image[12..16].try_into().unwrap()) as usize;
        common::sha256(&image[..0x200 + payload])
    });
    let config = BootConfig {
        layout,
        policy: ImagePolicy {
            keys: &[],
            trusted_digests: &digests,
            unsigned: false,
        },
        downgrade: Downgrade::Allowed,
        verify_primary: true,
    };
    let [primary, secondary, scratch] = &mut chips;
    let report = boot(primary, secondary, scratch, &config, &SoftCrypto, &mut |_| {}).ok();
    *flashes = chips.map(|chip| chip.bytes);
    (power.ops(), report)
}

fn started(report: Option<BootReport>) -> Option<u8> {
    report.map(|report| report.image.header.version.major)
}

#[test]
fn an_undisturbed_boot_leaves_the_bytes_that_mcuboot_leaves() {
    let mut boots = 0;
    for trace in Trace::all() {
        for (i, boot) in trace.boots.iter().enumerate() {
            let mut flashes = boot.start.clone();
            let (_, report) = our_boot(&mut flashes, trace.layout, None);
            assert_eq!(started(report), Some(boot.started), "{} boot {i}", trace.name);
            assert!(
                flashes == boot.stopped_after(boot.ops.len()),
                "{} boot {i}",
                trace.name
            );
            boots += 1;
        }
    }
    assert!(boots >= 24, "{boots}");
}

#[test]
fn a_boot_that_mcuboot_was_stopped_in_is_finished_with_the_same_bytes() {
    let mut stops = 0;
    for trace in Trace::all() {
        for (i, boot) in trace.boots.iter().enumerate() {
            let mut end = boot.stopped_after(boot.ops.len());
            for stop in 0..boot.ops.len() {
                let what = format!("{} boot {i} stopped after {stop}", trace.name);
                let mut flashes = boot.stopped_after(stop);
                let (_, report) = our_boot(&mut flashes, trace.layout, None);
                assert_eq!(started(report), Some(boot.started), "{what}");
                // A revert by move is a permanent swap of the old image once it is prepared, for MCUboot as well.
                if trace.layout.algorithm() == Algorithm::SwapMove && boot.started == 1 {
                    let at = trace.layout.primary_trailer().swap_info() as usize;
                    assert!([3, 4].contains(&flashes[0][at]), "{what}");
                    (flashes[0][at], end[0][at]) = (4, 4);
                }
                assert!(flashes == end, "{what}");
                stops += 1;
            }
        }
    }
    assert!(stops > 1000, "{stops}");
}

#[test]
fn a_swap_of_mcuboot_2_2_is_finished_by_a_build_for_2_3() {
    let mut stops = 0;
    for trace in Trace::all().filter(|trace| trace.name.starts_with("swap-offset-2.2")) {
        let bounds = [trace.layout.primary_trailer(), trace.layout.secondary_trailer()]
            .map(|trailer| trailer.first_sector() as usize);
        for (i, boot) in trace.boots.iter().enumerate() {
            let end = boot.stopped_after(boot.ops.len());
            for stop in 0..boot.ops.len() {
                let what = format!("{} boot {i} stopped after {stop}", trace.name);
                let mut flashes = boot.stopped_after(stop);
                let (_, report) = our_boot(&mut flashes, trace.layout.with_tlv_sizes(), None);
                assert_eq!(started(report), Some(boot.started), "{what}");
                for (area, bound) in bounds.into_iter().enumerate() {
                    assert!(flashes[area][..bound] == end[area][..bound], "{what}");
                }
                stops += 1;
            }
        }
    }
    assert!(stops > 200, "{stops}");
}

#[test]
fn a_boot_passes_through_no_state_that_mcuboot_does_not() {
    // So MCUboot, stopped by no cut of its own, can finish what was begun here.
    let mut states = 0;
    for trace in Trace::all() {
        for (i, boot) in trace.boots.iter().enumerate() {
            let known: Vec<_> = (0..=boot.ops.len())
                .map(|stop| boot.stopped_after(stop))
                .collect();
            let (ops, _) = our_boot(&mut boot.start.clone(), trace.layout, None);
            for cut in 0..ops {
                let mut flashes = boot.start.clone();
                our_boot(&mut flashes, trace.layout, Some(cut));
                assert!(
                    known.contains(&flashes),
                    "{} boot {i} cut before {cut}",
                    trace.name
                );
                states += 1;
            }
        }
    }
    assert!(states > 900, "{states}");
}
