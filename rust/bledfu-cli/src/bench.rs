// SPDX-License-Identifier: Apache-2.0
//! `bledfu bench`: the cost of installs, in operations per image page and simulated time, the duration of whole updates,
//! and what the application costs at rest.

use std::process::ExitCode;

use anyhow::{bail, Context};
use bledfu_sim::demo;
use bledfu_sim::device::{Board, Setup};
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::Stats;
use bledfu_sim::parts::{self, Part, SECTOR_SIZE};
use bledfu_sim::phone::secure_dfu::Phone;
use bledfu_sim::phone::DfuLink;
use bledfu_sim::power::Power;
use bledfu_sim::world::{Awake, World};
use bledfu_slot::trailer::request_test;
use bledfu_slot::{Algorithm, Slot, SoftCrypto};
use bledfu_swap::BootAction;
use clap::{Args, Parser};
use comfy_table::CellAlignment::{Left, Right};
use serde_json::{json, Value};

use crate::outln;
use crate::output::Columns;
use crate::picture::{ReportArgs, Run, Table};
use crate::update::{self, UpdateArgs};

/// `bledfu bench`.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Installs of the case image by every algorithm.
    #[arg(long, required_unless_present_any = ["updates", "idle"])]
    pub install: bool,
    /// Whole updates to the case image, under several conditions.
    #[arg(long)]
    pub updates: bool,
    /// How often the worker wakes, and for how long the external flash is on.
    #[arg(long)]
    pub idle: bool,
    /// External flash part; an unknown name lists the known ones.
    #[arg(long, default_value = "mx25r6435f")]
    pub part: String,
    /// Prints the figures as one JSON object.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// Conditions of an update, and the options of `bledfu update` for them.
const UPDATES: [(&str, &str); 15] = [
    ("Android, 15 ms, slot erased beforehand", ""),
    ("slot erased while receiving", "--used-slot"),
    ("maximum flash times, slot erased beforehand", "--worst-case"),
    (
        "maximum flash times, slot erased while receiving",
        "--used-slot --worst-case",
    ),
    ("7.5 ms, objects of 64 KiB", "--interval 7.5 --object-size 65536"),
    ("objects of 4 KiB", "--object-size 4096"),
    ("30 ms", "--interval 30"),
    ("iOS: a receipt every 12 packets", "--phone ios"),
    ("SMP", "--protocol smp"),
    ("SMP, slot erased while receiving", "--protocol smp --used-slot"),
    ("swap using move", "--install swap-move"),
    ("overwrite only", "--install overwrite"),
    ("swap using offset", "--install swap-offset"),
    ("P-256 in portable Rust", "--crypto software"),
    ("hash and P-256 in hardware", "--crypto platform"),
];

/// Columns of the table of installs.
const INSTALLS: Columns<7> = Columns([
    (12, Left),
    (10, Right),
    (10, Right),
    (9, Right),
    (9, Right),
    (7, Right),
    (19, Left),
]);

/// Options in the form of [`UPDATES`].
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Options {
    #[command(flatten)]
    update: UpdateArgs,
}

/// The cost of one install.
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

/// Figures of MCUboot and of the theoretical optimum: internal and external erases, and bytes programmed in each, per
/// page.
const REFERENCE: [(&str, [u32; 4]); 5] = [
    ("swap-offset", [1, 1, 4096, 4096]),
    ("swap-move", [2, 1, 8192, 4096]),
    ("swap-scratch", [2, 1, 8192, 4096]),
    ("overwrite", [1, 0, 4096, 0]),
    ("copy", [1, 0, 4096, 0]),
];

fn find_part(name: &str) -> anyhow::Result<&'static Part> {
    parts::find(name).with_context(|| {
        let known = parts::external_names().join(", ");
        format!("there is no part {name}; known are {known}")
    })
}

/// Installs the demo update on a board; a second one over the first, for algorithms where that is cheaper.
///
/// # Errors
/// If the part is unknown or the install fails.
pub fn measure(algorithm: Algorithm, part: &str) -> anyhow::Result<Cost> {
    let setup = Setup {
        algorithm,
        part: find_part(part)?,
        ..Setup::demo()
    };
    let power = Power::new();
    let board = Board::new(setup, &power)?;
    board.program_factory(&demo::factory_image()?)?;
    // The first start of all notes the factory's image in the evidence.
    board.boot()?;
    let image = demo::update_package()?.application.firmware;
    // The first install with `copy` also makes a copy of the running image, once; that is not part of the cost of an
    // install.
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
/// Those of [`measure`] and [`update::measure`].
pub fn cmd_bench(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let other = args.report.other()?;
    let mut all = json!({ "part": args.part });
    if args.install {
        all["install"] = installs(args)?;
    }
    if args.updates {
        all["updates"] = updates(args)?;
    }
    if args.idle {
        all["idle"] = idle(args)?;
    }
    if args.json {
        outln!("{all}")?;
    }
    args.report.write(&page(&all), other.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

/// The figures as a page.
fn page(all: &Value) -> Run {
    let part = all["part"].as_str().unwrap_or_default();
    let mut tables = Vec::new();
    if let Some(rows) = all["install"].as_array() {
        tables.push(Table::of(
            "Installs, sectors erased and bytes programmed",
            &[
                ("algorithm", "/algorithm"),
                ("seconds", "/ns"),
                ("erases inside", "/internal/sectors_erased"),
                ("erases outside", "/external/sectors_erased"),
                ("bytes inside", "/internal/bytes_programmed"),
                ("bytes outside", "/external/bytes_programmed"),
            ],
            rows,
            1,
        ));
    }
    if let Some(rows) = all["updates"].as_array() {
        tables.push(Table::of(
            "Updates, in seconds",
            &[
                ("update", "/what"),
                ("receive", "/receive_ns"),
                ("verify", "/verify_ns"),
                ("install", "/install_ns"),
            ],
            rows,
            1,
        ));
    }
    if let Some(rows) = all["idle"].as_array() {
        tables.push(Table::of(
            "Wake-ups of the worker, and external flash on",
            &[
                ("what", "/what"),
                ("wake-ups", "/wakes"),
                ("flash on", "/flash_ns"),
            ],
            rows,
            1,
        ));
    }
    Run {
        title: format!("What installs and updates cost with {part}"),
        facts: vec![("image".to_owned(), "the demo image, in virtual time".to_owned())],
        tables,
        ..Run::default()
    }
}

/// Measures installs; prints a line for each unless the result is for a program.
fn installs(args: &BenchArgs) -> anyhow::Result<Value> {
    let pages = measure(Algorithm::Overwrite, &args.part)?.pages;
    if !args.json {
        outln!(
            "installing the image of the case ({pages} pages of 4 KiB), external flash {}",
            args.part
        )?;
        outln!(
            "{}",
            INSTALLS.row([
                "per page",
                "erases int",
                "erases ext",
                "bytes int",
                "bytes ext",
                "seconds",
                "reference"
            ])
        )?;
    }
    let mut rows = Vec::new();
    for algorithm in Algorithm::ALL {
        let cost = measure(algorithm, &args.part)
            .with_context(|| format!("cannot measure {}", algorithm.as_str()))?;
        let per_page = |count: u64| count as f64 / cost.pages as f64;
        // Commands of different sizes count by what they erase.
        let sectors = |stats: &Stats| stats.erased_bytes() / u64::from(SECTOR_SIZE);
        let erases = |stats: &Stats| per_page(sectors(stats));
        let reference = REFERENCE.iter().find(|(name, _)| *name == algorithm.as_str());
        if !args.json {
            let reference = reference.map_or(String::new(), |(_, [a, b, c, d])| {
                format!("{a} / {b} / {c} / {d}")
            });
            outln!(
                "{}",
                INSTALLS.row([
                    algorithm.as_str().to_owned(),
                    format!("{:.2}", erases(&cost.internal)),
                    format!("{:.2}", erases(&cost.external)),
                    format!("{:.0}", per_page(cost.internal.program_bytes)),
                    format!("{:.0}", per_page(cost.external.program_bytes)),
                    format!("{:.1}", cost.ns as f64 / 1e9),
                    reference,
                ])
            )?;
        }
        let flash = |stats: &Stats| json!({ "sectors_erased": sectors(stats), "bytes_programmed": stats.program_bytes });
        rows.push(json!({
            "algorithm": algorithm.as_str(),
            "pages": cost.pages,
            "internal": flash(&cost.internal),
            "external": flash(&cost.external),
            "ns": cost.ns,
            "reference_per_page": reference.map(|(_, counts)| counts),
        }));
    }
    if !args.json {
        outln!("reference: erases and bytes per page, internal and external, as read from")?;
        outln!("MCUboot's sources")?;
    }
    Ok(rows.into())
}

/// Measures whole updates; prints a line for each unless the result is for a program.
fn updates(args: &BenchArgs) -> anyhow::Result<Value> {
    if !args.json {
        outln!("updating to the image of the case, external flash {}", args.part)?;
        outln!(
            "{:<49} {:>9} {:>8} {:>8} {:>9}",
            "seconds",
            "receive",
            "kB/s",
            "verify",
            "install"
        )?;
    }
    let mut rows = Vec::new();
    for (what, options) in UPDATES {
        let words = options.split_whitespace().chain(["--part", args.part.as_str()]);
        let cost = Options::try_parse_from(words)
            .map_err(anyhow::Error::new)
            .and_then(|options| update::measure(&options.update))
            .with_context(|| format!("cannot measure `bledfu update {options}`"))?;
        if !args.json {
            let seconds = |ns: u64| ns as f64 / 1e9;
            outln!(
                "{what:<49} {:>9.1} {:>8.1} {:>8.2} {:>9.1}",
                seconds(cost.receive_ns),
                cost.size as f64 / 1e3 / seconds(cost.receive_ns),
                seconds(cost.verify_ns),
                seconds(cost.install_ns)
            )?;
        }
        rows.push(json!({
            "what": what,
            "options": options,
            "bytes": cost.size,
            "receive_ns": cost.receive_ns,
            "verify_ns": cost.verify_ns,
            "install_ns": cost.install_ns,
            "link_bytes_per_s": cost.link_limit,
        }));
    }
    Ok(rows.into())
}

const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;

/// What the application costs at rest and at work; prints a line for each unless the result is for a program.
fn idle(args: &BenchArgs) -> anyhow::Result<Value> {
    let setup = Setup {
        part: find_part(&args.part)?,
        algorithm: Algorithm::Copy,
        ..Setup::demo()
    };
    let mut world = World::new(setup, &demo::factory_image()?, LinkParams::default())?;
    let mut rows = Vec::new();
    let mut before = Awake::default();
    let mut row = |what: &str, now: Awake| -> anyhow::Result<()> {
        let (wakes, flash_ns) = (now.wakes - before.wakes, now.flash_ns - before.flash_ns);
        if !args.json {
            outln!("{what:<49} {wakes:>9} {:>10.1}", flash_ns as f64 / 1e9)?;
        }
        rows.push(json!({ "what": what, "wakes": wakes, "flash_ns": flash_ns }));
        before = now;
        Ok(())
    };
    if !args.json {
        outln!("external flash {}", args.part)?;
        outln!("{:<49} {:>9} {:>10}", "", "wake-ups", "flash on, s")?;
    }
    world.settle();
    row("after a start, until the device is at rest", world.awake)?;
    world.pass(DAY_NS);
    row("a day at rest", world.awake)?;
    world.connect();
    world.wait_ms(60_000)?;
    world.link_lost();
    world.settle();
    row("a phone that stays for a minute and does nothing", world.awake)?;
    world.update(&demo::update_package()?, Phone::Android, 0, &mut |_| ())?;
    row("an update, until the new image runs", world.awake)?;
    world.confirm()?;
    world.settle();
    world.pass(DAY_NS);
    row("the day after it, with the slot cleared again", world.awake)?;
    Ok(rows.into())
}
