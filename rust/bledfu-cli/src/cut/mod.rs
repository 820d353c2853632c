// SPDX-License-Identifier: Apache-2.0
//! `bledfu cut`: what an install must survive, tried at every flash operation of every install algorithm.
//!
//! | Column | What happens |
//! |---|---|
//! | `plain` | the power is cut before and inside every operation, and again while the device recovers |
//! | `hostile` | the external flash is rewritten: after a power cut, before the power comes back; or while nothing is under way |
//! | `weak` | an operation that was cut inside leaves bytes that do not read the same each time; more cuts follow |
//! | `misread` | during one boot, reads of the external flash return wrong bytes |
//! | `packed` | the power is cut during a whole packed update, from the first request of the phone on; in the weak run with weak cells |
//!
//! After each of these the device must start one of its two images, keep the way back if the algorithm has one, and
//! reach the end of the story. Then follow the hand-overs between MCUboot and this boot stage, see [`crate::mcuboot`].

mod device;
mod hostile;
mod known_hash;
mod misread;
mod packed;
mod plain;
mod shapes;
mod weak;

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use bledfu_slot::Algorithm;
use clap::Args;
use comfy_table::CellAlignment::{Left, Right};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{json, Value};

use crate::args::algorithm_parser;
use crate::mcuboot::{self, Trace};
use crate::output::{is_quiet, Columns, Format, OutputError};
use crate::picture::{ReportArgs, Run, Table};
pub(crate) use device::boot_trusting;
use device::{Device, Rules};
pub(crate) use plain::{edges, FIELD};
use shapes::{large, others, shapes, sizes, Shape, Story};

/// `bledfu cut`.
#[derive(Args, Clone, Debug)]
pub struct CutArgs {
    /// Also use devices of the real size with large images, and try every point of the other columns: half an hour on
    /// two cores instead of minutes.
    #[arg(long)]
    pub full: bool,
    /// Only this algorithm.
    #[arg(long, value_parser = algorithm_parser())]
    pub algorithm: Option<Algorithm>,
    /// Instead of plain power cuts: an attacker rewrites the external flash, at rest and after power cuts.
    #[arg(long)]
    pub hostile: bool,
    /// Instead of plain power cuts: operations that are cut leave cells that do not read the same each time.
    #[arg(long)]
    pub weak: bool,
    /// Instead of power cuts: during one boot, reads of the external flash return wrong bytes.
    #[arg(long)]
    pub misread: bool,
    /// Only packed updates, with every write unit; with --weak, with weak cells.
    #[arg(long, conflicts_with_all = ["hostile", "misread", "trust"])]
    pub packed: bool,
    /// Cut the power of devices with a trust area and the version policy, not of devices without, as many are in the
    /// field.
    #[arg(long)]
    pub trust: bool,
    /// Print JSON instead of the tables: one object per line.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub report: ReportArgs,
}

/// One column of the campaign: a kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Power cuts.
    Plain,
    /// Rewritten external flash.
    Hostile,
    /// Weak cells.
    Weak,
    /// Wrong reads.
    Misread,
    /// Power cuts during a whole packed update.
    Packed,
    /// The same with weak cells.
    PackedWeak,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "power cuts",
            Self::Hostile => "hostile flash",
            Self::Weak => "weak cells",
            Self::Misread => "wrong reads",
            Self::Packed => "packed updates",
            Self::PackedWeak => "packed updates, weak cells",
        }
    }
}

/// Results of one story on one device.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was tried.
    pub column: Column,
    algorithm: &'static str,
    shape: &'static str,
    sizes: [u32; 2],
    story: &'static str,
    /// Number of flash operations of the undisturbed story; in the column of wrong reads, of reads.
    pub operations: u64,
    /// Number of cuts tried; in the column of wrong reads, of devices.
    pub cuts: u64,
    /// Number of second and third cuts, during the recovery from a first one.
    pub second_cuts: u64,
    /// Number of devices without a bootable image, without the image to go back to, or with the wrong image at the end.
    pub lost: u64,
    /// Number of devices on which a genuine image started that is older than the one that ran before.
    pub old: u64,
    /// Number of devices on which an image started that nobody signed.
    pub unsigned: u64,
    /// Number of devices that no longer start because a part of an interrupted install was only in external flash and
    /// was overwritten there. Surviving that is not promised.
    pub stopped: u64,
    /// The first devices that are lost or run an old or unsigned image.
    pub examples: Vec<String>,
}

impl Row {
    fn lose(&mut self, what: String, error: &str) {
        self.lost += 1;
        self.note(what, error);
    }

    fn note(&mut self, what: String, error: &str) {
        if self.examples.len() < 3 {
            self.examples.push(format!("{what}: {error}"));
        }
    }

    /// Number of devices that are not in the right state.
    fn wrong(&self) -> u64 {
        self.lost + self.old + self.unsigned
    }

    /// Sizes of both images in kB.
    fn kilobytes(&self) -> String {
        let [first, second] = self.sizes.map(|size| match size {
            u32::MAX => "max".to_owned(),
            size => (size / 1000).to_string(),
        });
        format!("{first}/{second}")
    }

    fn json(&self) -> Value {
        let size = |size: u32| match size {
            u32::MAX => json!("max"),
            size => json!(size),
        };
        json!({
            "event": "row", "column": self.column.name(), "algorithm": self.algorithm, "device": self.shape,
            "story": self.story, "images": [size(self.sizes[0]), size(self.sizes[1])],
            "operations": self.operations, "cuts": self.cuts, "second_cuts": self.second_cuts, "lost": self.lost,
            "old": self.old, "unsigned": self.unsigned, "stopped": self.stopped, "examples": self.examples,
        })
    }
}

/// Columns of the table of rows.
const COLUMNS: Columns<8> = Columns([
    (12, Left),
    (23, Left),
    (9, Left),
    (7, Right),
    (5, Right),
    (6, Right),
    (7, Right),
    (4, Right),
]);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&COLUMNS.row([
            self.algorithm.to_owned(),
            self.shape.to_owned(),
            self.story.to_owned(),
            self.kilobytes(),
            self.operations.to_string(),
            self.cuts.to_string(),
            self.second_cuts.to_string(),
            self.wrong().to_string(),
        ]))?;
        for example in &self.examples {
            write!(f, "\n    LOST: {example}")?;
        }
        Ok(())
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
struct Job {
    column: Column,
    algorithm: Algorithm,
    shape: Shape,
    sizes: [u32; 2],
    story: Story,
    rules: Rules,
    /// Try every point, not only some of them.
    thorough: bool,
}

/// Calls a method of a [`Job`] with the write units of its device.
macro_rules! with_units {
    ($job:expr, $method:ident) => {
        match ($job.shape.write_size, $job.shape.outside) {
            (1, _) => $job.$method::<1, 1>(),
            (4, _) => $job.$method::<4, 4>(),
            (8, 4) => $job.$method::<8, 4>(),
            (8, _) => $job.$method::<8, 8>(),
            (16, 4) => $job.$method::<16, 4>(),
            (16, _) => $job.$method::<16, 16>(),
            _ => $job.$method::<32, 32>(),
        }
    };
}

impl Job {
    /// `None` if the shape cannot hold the images.
    fn run(&self) -> Option<Row> {
        with_units!(self, run_with)
    }

    fn run_with<const W: usize, const X: usize>(&self) -> Option<Row> {
        match self.column {
            Column::Plain => self.plain::<W, X>(),
            Column::Hostile => self.hostile::<W, X>(),
            Column::Weak => self.weak::<W, X>(),
            Column::Misread => self.misread::<W, X>(),
            Column::Packed | Column::PackedWeak => self.packed(),
        }
    }

    fn device<const W: usize, const X: usize>(&self) -> Option<Device<W, X>> {
        Device::new(self.algorithm, &self.shape, self.sizes, self.story, self.rules)
    }

    fn row(&self) -> Row {
        Row {
            column: self.column,
            algorithm: self.algorithm.as_str(),
            shape: self.shape.name,
            sizes: self.sizes,
            story: self.story.name(),
            operations: 0,
            cuts: 0,
            second_cuts: 0,
            lost: 0,
            old: 0,
            unsigned: 0,
            stopped: 0,
            examples: Vec::new(),
        }
    }

    /// A line of the table with a small device.
    #[cfg(test)]
    fn small(column: Column, algorithm: Algorithm, story: Story, rules: Rules) -> Self {
        Self {
            column,
            algorithm,
            shape: shapes(algorithm)[0],
            sizes: [5000, 9000],
            story,
            rules,
            thorough: false,
        }
    }

    /// Whether the shape can hold the images.
    #[cfg(test)]
    fn exists(&self) -> bool {
        with_units!(self, exists_with)
    }

    #[cfg(test)]
    fn exists_with<const W: usize, const X: usize>(&self) -> bool {
        self.device::<W, X>().is_some()
    }
}

/// The columns that the options ask for.
fn columns(args: &CutArgs) -> Vec<Column> {
    if args.packed {
        return vec![if args.weak {
            Column::PackedWeak
        } else {
            Column::Packed
        }];
    }
    let asked = [
        (Column::Hostile, args.hostile),
        (Column::Weak, args.weak),
        (Column::PackedWeak, args.weak),
        (Column::Misread, args.misread),
    ];
    let mut found: Vec<_> = asked
        .into_iter()
        .filter_map(|(column, is_asked)| is_asked.then_some(column))
        .collect();
    if found.is_empty() {
        found.extend([Column::Plain, Column::Packed]);
    }
    found
}

/// The lines of the table.
fn jobs(args: &CutArgs) -> Vec<Job> {
    let mut jobs = Vec::new();
    for column in columns(args) {
        for algorithm in Algorithm::ALL {
            if args.algorithm.is_none_or(|only| only == algorithm) {
                match column {
                    Column::Plain => plain_jobs(algorithm, args.full, args.trust, &mut jobs),
                    Column::Packed | Column::PackedWeak => {
                        jobs.extend(packed::devices(args.full || args.packed).map(|shape| Job {
                            column,
                            algorithm,
                            shape,
                            sizes: [0; 2],
                            story: Story::Confirm,
                            rules: Rules::STRICT,
                            thorough: args.full,
                        }));
                    }
                    _ => other_jobs(column, algorithm, args.full, &mut jobs),
                }
            }
        }
    }
    jobs
}

fn plain_jobs(algorithm: Algorithm, full: bool, trust: bool, jobs: &mut Vec<Job>) {
    for story in Story::ALL {
        let job = |shape, sizes, thorough| Job {
            column: Column::Plain,
            algorithm,
            shape,
            sizes,
            story,
            // Devices in the field have no trust area, and take any image.
            rules: if trust { Rules::STRICT } else { Rules::LOOSE },
            thorough,
        };
        let small = shapes(algorithm)
            .into_iter()
            .flat_map(|shape| sizes(algorithm).iter().map(move |sizes| (shape, *sizes, true)));
        let others = others(algorithm)
            .flat_map(|shape| [[5000, 9000], [u32::MAX, 20_000]].map(|sizes| (shape, sizes, true)));
        let large = [[475_384, 401_408], [300_000, u32::MAX]]
            .map(|sizes| (large(algorithm), sizes, false))
            .into_iter()
            .filter(|_| full);
        for (shape, sizes, thorough) in small.chain(others).chain(large) {
            jobs.push(job(shape, sizes, thorough));
        }
    }
}

fn other_jobs(column: Column, algorithm: Algorithm, full: bool, jobs: &mut Vec<Job>) {
    let shapes: Vec<_> = shapes(algorithm).into_iter().chain(others(algorithm)).collect();
    for story in Story::ALL {
        for (number, shape) in shapes.iter().enumerate() {
            // For an attacker the write unit makes no difference.
            if column == Column::Hostile && shape.write_size != 4 {
                continue;
            }
            for (i, sizes) in sizes(algorithm).iter().enumerate() {
                // In the short run each size and each shape is used once.
                if full || i == number % 4 {
                    jobs.push(Job {
                        column,
                        algorithm,
                        shape: *shape,
                        sizes: *sizes,
                        story,
                        rules: Rules::STRICT,
                        thorough: full,
                    });
                }
            }
        }
    }
}
/// Runs the campaign with one thread per core. `done` gets the rows in the order of the jobs, each as soon as all
/// earlier ones are done; it returns whether the campaign continues.
pub fn campaign(args: &CutArgs, done: &mut (dyn FnMut(&Row, &ProgressBar) -> bool + Send)) {
    let jobs = jobs(args);
    let bar = ProgressBar::new(jobs.len() as u64).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    if is_quiet() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    let next = AtomicUsize::new(0);
    // The rows that wait for an earlier one, the index of that one, and the receiver of the rows.
    let rows = Mutex::new((BTreeMap::new(), 0, done));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((index, job)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).map(|job| (index, job))
                } {
                    let row = job.run();
                    if let Ok(mut rows) = rows.lock() {
                        let (waiting, due, done) = &mut *rows;
                        waiting.insert(index, row);
                        while let Some(row) = waiting.remove(due) {
                            if row.is_some_and(|row| !done(&row, &bar)) {
                                next.store(jobs.len(), Ordering::Relaxed);
                            }
                            *due += 1;
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
}

/// The results of one column.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    points: u64,
    lost: u64,
    old: u64,
    unsigned: u64,
    stopped: u64,
}

impl Sum {
    fn add(&mut self, row: &Row) {
        self.points += row.cuts + row.second_cuts;
        self.lost += row.lost;
        self.old += row.old;
        self.unsigned += row.unsigned;
        self.stopped += row.stopped;
    }

    fn print(&self, column: Column, format: Format) -> Result<(), OutputError> {
        let Self {
            points,
            lost,
            old,
            unsigned,
            stopped,
        } = self;
        let name = column.name();
        let (bootable, text) = match column {
            Column::Plain => {
                let bootable = points - lost.min(points);
                let text = format!("{points} cut points tried, {bootable} bootable, {lost} lost");
                (bootable, text)
            }
            Column::Weak | Column::Misread | Column::Packed | Column::PackedWeak => {
                (points - lost.min(points), format!("{name}: {points} points tried, {lost} lost"))
            }
            Column::Hostile => (
                points - (lost + stopped).min(*points),
                format!(
                    "{name}: {points} points tried, {lost} lost, {old} run an old image, {unsigned} an unsigned one; \
                     {stopped} stopped inside an install"
                ),
            ),
        };
        let fact = json!({
            "event": "cuts", "column": name, "cuts": points, "bootable": bootable, "lost": lost, "old": old,
            "unsigned": unsigned, "stopped": stopped,
        });
        format.fact(&fact, format_args!("{text}"))
    }
}

/// `bledfu cut`: prints the table; fails if a device was lost.
///
/// # Errors
/// If the output cannot be written.
pub fn cmd_cut(args: &CutArgs) -> anyhow::Result<ExitCode> {
    let format = Format::of(args.json);
    format.text(format_args!(
        "{}",
        COLUMNS.row([
            "algorithm",
            "device",
            "story",
            "kB each",
            "ops",
            "cuts",
            "repairs",
            "lost"
        ])
    ))?;
    let mut sums: BTreeMap<Column, Sum> = columns(args)
        .into_iter()
        .map(|column| (column, Sum::default()))
        .collect();
    let other = args.report.other()?;
    let mut rows = Vec::new();
    let mut printed = Ok(());
    campaign(args, &mut |row, bar| {
        let mut shown = row.json();
        shown["kilobytes"] = json!(row.kilobytes());
        rows.push(shown);
        if printed.is_ok() {
            printed = bar.suspend(|| format.fact(&row.json(), format_args!("{row}")));
        }
        sums.entry(row.column).or_default().add(row);
        printed.is_ok()
    });
    printed?;
    let mut wrong = 0;
    for (column, sum) in &sums {
        sum.print(*column, format)?;
        wrong += sum.lost + sum.old + sum.unsigned;
    }
    let mut handed_over = Vec::new();
    if sums.contains_key(&Column::Plain) {
        wrong += hand_over(args, format, &mut handed_over)?;
    }
    args.report
        .write(&page(&rows, &handed_over, wrong), other.as_ref())?;
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The campaign as a page: its sums, the installs that were handed over, and each story.
fn page(rows: &[Value], handed_over: &[Value], wrong: u64) -> Run {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_default();
    let points = |row: &Value| number(row, "cuts") + number(row, "second_cuts");
    let mut sums: BTreeMap<(&str, &str), [u64; 5]> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let sum = sums.entry((text("column"), text("algorithm"))).or_default();
        let more = [
            points(row),
            number(row, "lost"),
            number(row, "old"),
            number(row, "unsigned"),
            number(row, "stopped"),
        ];
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    let tried = rows.iter().map(points).sum::<u64>();
    let sums: Vec<Value> = sums
        .into_iter()
        .map(|((column, algorithm), [points, lost, old, unsigned, stopped])| {
            json!({
                "column": column, "algorithm": algorithm, "points": points, "lost": lost, "old": old,
                "unsigned": unsigned, "stopped": stopped,
            })
        })
        .collect();
    const ENDS: [(&str, &str); 4] = [
        ("lost", "/lost"),
        ("old", "/old"),
        ("unsigned", "/unsigned"),
        ("stopped", "/stopped"),
    ];
    let columns = |first: &[(&'static str, &'static str)]| [first, &ENDS].concat();
    let mut tables = vec![Table::of(
        "By algorithm",
        &columns(&[
            ("trouble", "/column"),
            ("algorithm", "/algorithm"),
            ("points", "/points"),
        ]),
        &sums,
        2,
    )];
    if !handed_over.is_empty() {
        let columns = [
            ("operations of a running MCUboot", "/trace"),
            ("taken over", "/taken_over"),
            ("torn", "/torn"),
            ("left to it", "/left"),
            ("wrong", "/wrong"),
        ];
        tables.push(Table::of("Handed over", &columns, handed_over, 1));
    }
    let columns = columns(&[
        ("trouble", "/column"),
        ("algorithm", "/algorithm"),
        ("device", "/device"),
        ("story", "/story"),
        ("kB each", "/kilobytes"),
        ("operations", "/operations"),
        ("points", "/cuts"),
        ("in repairs", "/second_cuts"),
    ]);
    tables.push(Table::of("Stories", &columns, rows, 6));
    Run {
        title: "Power cuts and other trouble in installs".to_owned(),
        facts: vec![
            ("points tried".to_owned(), tried.to_string()),
            ("wrong in all".to_owned(), wrong.to_string()),
        ],
        tables,
        ..Run::default()
    }
}

/// The second table: installs that MCUboot or this boot stage began and the other one finished. Returns the number of
/// failures, and adds the rows to `rows`.
fn hand_over(args: &CutArgs, format: Format, rows: &mut Vec<Value>) -> Result<u64, OutputError> {
    let traces = Trace::all().filter(|trace| args.algorithm.is_none_or(|only| only == trace.algorithm()));
    let found: Vec<_> = traces.map(|trace| trace.hand_over()).collect();
    if found.is_empty() {
        return Ok(0); // MCUboot has no such algorithm
    }
    format.text(format_args!(
        "\n{}",
        mcuboot::COLUMNS.row([
            "operations of a running MCUboot",
            "taken over",
            "torn",
            "left to it",
            "wrong"
        ])
    ))?;
    let (mut all, mut wrong) = (0, 0);
    for trace in found {
        format.fact(&trace.json(), format_args!("{trace}"))?;
        rows.push(trace.json());
        all += trace.taken_over + trace.torn + trace.left;
        wrong += trace.wrong;
    }
    format.fact(
        &json!({ "event": "hand_overs", "hand_overs": all, "wrong": wrong }),
        format_args!("{all} hand-overs tried, {wrong} wrong"),
    )?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_is_drawn_as_tables_with_its_sums() {
        let row = json!({
            "column": "power cuts", "algorithm": "overwrite", "device": "equal sectors", "story": "test",
            "kilobytes": "5/max", "operations": 5, "cuts": 7, "second_cuts": 3, "lost": 0, "old": 0, "unsigned": 0,
            "stopped": 0,
        });
        let run = page(&[row.clone(), row], &[], 0);
        assert_eq!(run.facts[0], ("points tried".to_owned(), "20".to_owned()));
        let [sums, stories] = &run.tables[..] else {
            panic!("{:?}", run.tables);
        };
        assert_eq!(sums.rows, [["power cuts", "overwrite", "20", "0", "0", "0", "0"]]);
        assert_eq!(
            stories.rows[1],
            [
                "power cuts",
                "overwrite",
                "equal sectors",
                "test",
                "5/max",
                "5",
                "7",
                "3",
                "0",
                "0",
                "0",
                "0"
            ]
        );
    }

    #[test]
    fn every_algorithm_has_devices_that_can_hold_the_images() {
        for algorithm in Algorithm::ALL {
            let shapes = shapes(algorithm).into_iter().chain(others(algorithm));
            for shape in shapes.chain([large(algorithm)]) {
                let name = shape.name;
                let job = Job {
                    shape,
                    ..Job::small(Column::Plain, algorithm, Story::Upgrade, Rules::LOOSE)
                };
                let found = job.exists();
                assert!(found, "{}: {name}", algorithm.as_str());
            }
        }
    }
}
