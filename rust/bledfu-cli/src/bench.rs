// SPDX-License-Identifier: Apache-2.0
//! `bledfu bench`: what installs cost, in operations per image page and in simulated time.

use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::demo;
use bledfu_sim::device::{Board, Setup};
use bledfu_sim::nor::Stats;
use bledfu_sim::parts::{self, SECTOR_SIZE};
use bledfu_sim::power::Power;
use bledfu_slot::trailer::request_test;
use bledfu_slot::{Algorithm, Slot, SoftCrypto};
use bledfu_swap::BootAction;
use clap::Args;

/// `bledfu bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Installs of the case image by every algorithm.
    #[arg(long, required = true)]
    pub install: bool,
    /// External flash part; an unknown name lists the known ones.
    #[arg(long, default_value = "mx25r6435f")]
    pub part: String,
}

/// What one install cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Internal flash.
    pub internal: Stats,
    /// External flash.
    pub external: Stats,
    /// From reset to jump, in nanoseconds.
    pub ns: u64,
    /// Pages of 4 KiB in the larger image.
    pub pages: u64,
}

/// Figures of MCUboot and of the best there can be: internal and external erases, and bytes programmed in each, per page.
const REFERENCE: [(&str, [u32; 4]); 5] = [
    ("swap-offset", [1, 1, 4096, 4096]),
    ("swap-move", [2, 1, 8192, 4096]),
    ("swap-scratch", [2, 1, 8192, 4096]),
    ("overwrite", [1, 0, 4096, 0]),
    ("copy", [1, 0, 4096, 0]),
];

/// Installs the demo update on a board, the second one over the first for algorithms that gain by it.
///
/// # Errors
/// When the part is not known or the install fails.
pub fn measure(algorithm: Algorithm, part: &str) -> anyhow::Result<Cost> {
    let setup = Setup {
        algorithm,
        part: parts::find(part).with_context(|| {
            format!(
                "there is no part {part}; known are {}",
                parts::external_names().join(", ")
            )
        })?,
        ..Setup::demo()
    };
    let power = Power::new();
    let board = Board::new(setup, &power)?;
    board.program_factory(&demo::factory_image()?)?;
    let image = demo::update_package()?.application.firmware;
    // The copy of the running image that the first install of `copy` makes once is not what an install costs.
    if algorithm == Algorithm::Copy {
        board.spare.set_contents(0, &demo::factory_image()?)?;
    }
    let layout = board.setup.layout();
    board.secondary.set_contents(layout.upload_offset(), &image)?;
    let policy = board.setup.image_policy();
    let mut secondary = board.secondary.clone();
    let slot = Slot::new(&layout).verify(&mut secondary, &policy, &SoftCrypto)?;
    request_test(&mut secondary, &slot)?;

    let (internal, external, start) = (board.internal.stats(), board.external.stats(), power.now_ns());
    let report = board.boot()?;
    if !matches!(report.action, BootAction::Installed { .. }) {
        bail!("{} did not install: {}", algorithm.as_str(), report.action);
    }
    Ok(Cost {
        internal: board.internal.stats() - internal,
        external: board.external.stats() - external,
        ns: power.now_ns() - start,
        pages: u64::from((image.len() as u32).div_ceil(SECTOR_SIZE)),
    })
}

/// `bledfu bench`.
///
/// # Errors
/// As [`measure`].
pub fn cmd_bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let pages = measure(Algorithm::Overwrite, &args.part)?.pages;
    println!(
        "installing the image of the case ({pages} pages of 4 KiB), external flash {}",
        args.part
    );
    println!(
        "{:<13} {:>10} {:>10} {:>12} {:>12} {:>9}   reference",
        "per page", "int erase", "ext erase", "int program", "ext program", "seconds"
    );
    for algorithm in Algorithm::ALL {
        let cost = measure(algorithm, &args.part)
            .with_context(|| format!("cannot measure {}", algorithm.as_str()))?;
        let per_page = |count: u64| count as f64 / cost.pages as f64;
        // Commands of any size count by what they erase.
        let erases = |stats: &Stats| per_page(stats.erased_bytes() / u64::from(SECTOR_SIZE));
        let reference = REFERENCE.iter().find(|(name, _)| *name == algorithm.as_str());
        let reference = reference.map_or(String::new(), |(_, [a, b, c, d])| {
            format!("{a} / {b} / {c} / {d}")
        });
        println!(
            "{:<13} {:>10.2} {:>10.2} {:>10.0} B {:>10.0} B {:>9.1}   {reference}",
            algorithm.as_str(),
            erases(&cost.internal),
            erases(&cost.external),
            per_page(cost.internal.program_bytes),
            per_page(cost.external.program_bytes),
            cost.ns as f64 / 1e9
        );
    }
    println!("reference: internal and external erases, internal and external bytes per page, as read from MCUboot's sources");
    Ok(ExitCode::SUCCESS)
}
