// SPDX-License-Identifier: Apache-2.0
//! `bledfu update`: a whole update in virtual time, and a report of its cost.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, Context, Result};
use bledfu_sim::demo;
use bledfu_sim::device::{Setup, WithUnits};
use bledfu_sim::link::LinkParams;
use bledfu_sim::nor::{Stats, Units};
use bledfu_sim::package::Package;
use bledfu_sim::parts::{Times, NRF52840};
use bledfu_sim::phone::{secure_dfu, smp};
use bledfu_sim::power::{OpInfo, Tear};
use bledfu_sim::world::{Boot, Outcome, WorldError, WorldOf};
use bledfu_slot::{HeaderError, ImageStart};
use bledfu_transfer::ring::{ring_size_for, smp_ring_size};
use bledfu_transfer::smp::{DEFAULT_FRAME_COUNT, DEFAULT_FRAME_SIZE};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::args::DeviceArgs;
use crate::kind;
use crate::output::{is_quiet, sentence, wrap, Format};
use crate::packed;
use crate::picture::{self, ReportArgs, Run};

mod measure;
mod small;

pub use measure::{measure, Measured};

/// The protocols of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// Nordic's Secure DFU: nRF Connect, nRF DFU, nrfutil.
    SecureDfu,
    /// SMP (mcumgr): nRF Connect Device Manager, smpmgr.
    Smp,
}

impl From<Protocol> for bledfu_sender::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::SecureDfu => Self::SecureDfu,
            Protocol::Smp => Self::Smp,
        }
    }
}

/// The clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phone {
    /// Android-DFU-Library; with SMP nRF Connect Device Manager.
    Android,
    /// IOS-DFU-Library; with SMP nRF Connect Device Manager.
    Ios,
    /// nrfutil, Secure DFU only.
    Nrfutil,
    /// smpclient, SMP only.
    Smpclient,
}

/// A client and its settings.
enum Client {
    SecureDfu(bledfu_client::secure_dfu::Settings),
    Smp(smp::Settings),
}

/// What to install.
enum File {
    Package(Package),
    Image(Vec<u8>),
}

impl File {
    /// Over SMP only an image is sent, which packages and hex files also contain.
    fn read(name: &str, bytes: Vec<u8>, protocol: Protocol) -> Result<Self> {
        match protocol {
            Protocol::Smp => Ok(Self::Image(kind::image_in(name, bytes)?)),
            // Not checked here: that is the device's task.
            Protocol::SecureDfu => Ok(Self::Package(kind::package_in(name, &bytes)?)),
        }
    }

    /// What is wrong with the file itself, in the words of `bledfu inspect`.
    fn problem(&self, setup: &Setup) -> Option<String> {
        if let Self::Package(package) = self {
            if let Err(error) = package.check() {
                return Some(error.to_string());
            }
        }
        if packed::is_packed(self.image()) {
            // What the device says is enough, if the file itself is right.
            return packed::read(self.image()).err();
        }
        if let Some(problem) = kind::image_problem(self.image()) {
            return Some(problem);
        }
        let mut start = ImageStart::new();
        start.update(self.image());
        let error = start.check(setup.slot_size, setup.image_policy().address).err()?;
        // For everything else the device's code is enough.
        matches!(
            error,
            HeaderError::RamLoad | HeaderError::WrongAddress { .. } | HeaderError::WrongSlot { .. }
        )
        .then(|| error.to_string())
    }

    fn image(&self) -> &[u8] {
        match self {
            Self::Package(package) => &package.application.firmware,
            Self::Image(image) => image,
        }
    }
}

/// Options of `bledfu update`.
#[derive(Args, Clone, Debug)]
pub struct UpdateArgs {
    /// Package to install (.zip); with SMP a signed image (.bin, .hex), or a package that contains one, such as the nRF
    /// Connect SDK's dfu_application.zip [default: an embedded demo package, 475,384 bytes].
    pub package: Option<PathBuf>,
    /// Install the packed update between two embedded releases, and compare it with the full image.
    #[arg(long, conflicts_with = "package")]
    small: bool,
    /// Protocol of the update.
    #[arg(long, value_enum, default_value = "secure-dfu")]
    protocol: Protocol,
    #[command(flatten)]
    device: DeviceArgs,
    /// Use the maximum flash times of the data sheet instead of typical ones.
    #[arg(long)]
    worst_case: bool,
    /// The secondary slot still holds an old image: it is erased while the update arrives.
    #[arg(long)]
    used_slot: bool,
    /// ATT MTU in bytes [default: 247; with SMP 498, which its applications request].
    #[arg(long, value_parser = clap::value_parser!(u16).range(23..=515))]
    mtu: Option<u16>,
    /// Connection interval in ms, 7.5 to 4000.
    #[arg(long, default_value_t = 15.0)]
    interval: f64,
    /// Packets per connection event from the phone; the air time may allow fewer.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    packets_per_event: u32,
    /// Secure DFU: packet receipt after every N packets; 0: none [default: the client's; iOS has 12].
    #[arg(long, value_name = "N")]
    prn: Option<u16>,
    /// Secure DFU: pause before the packets of every object, as applications of 2024 make it (400).
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(..=60_000))]
    object_delay: Option<u32>,
    /// Secure DFU: how often the phone reconnects by itself after a lost link; otherwise its user does.
    #[arg(long, value_name = "N")]
    retries: Option<u8>,
    /// SMP: upload requests in flight, 1 to 25 [default: the client's].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=25))]
    window: Option<u8>,
    /// The client that the phone runs.
    #[arg(long, value_enum, default_value = "android")]
    phone: Phone,
    /// The new image does not confirm itself: the next reset restores the old one.
    #[arg(long)]
    no_confirm: bool,
    /// Drop the link after this many bytes; may be given several times.
    #[arg(long, value_name = "BYTES")]
    drop_link_at: Vec<u64>,
    /// Cut the power halfway through this flash operation (counted from 0 over both flashes).
    #[arg(long, value_name = "OPERATION")]
    cut_at: Option<u64>,
    /// JSON instead of text: one object in each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs `bledfu update`.
///
/// # Errors
/// One sentence: why there was no update.
pub fn cmd_update(args: &UpdateArgs) -> Result<ExitCode> {
    let format = Format::of(args.json);
    run_update(args).inspect_err(|error| {
        // A program that reads the output finds the result here. The error itself also goes to the standard error.
        if format == Format::Json {
            let _ = format.fact(
                &json!({ "event": "error", "message": sentence(error) }),
                format_args!(""),
            );
        }
    })
}

fn run_update(args: &UpdateArgs) -> Result<ExitCode> {
    if args.small {
        return small::run(args);
    }
    let client = args.client()?;
    let (setup, factory) = build_setup(args)?;
    let file = match &args.package {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            File::read(&name, bytes, args.protocol)
                .with_context(|| format!("cannot use {}", path.display()))?
        }
        None => File::Package(demo::update_package()?),
    };
    // A packed update is for one release.
    setup.with_units(Update {
        args,
        setup,
        factory,
        client,
        file,
    })?
}

/// The update on a device with known units.
struct Update<'a> {
    args: &'a UpdateArgs,
    setup: Setup,
    factory: Vec<u8>,
    client: Client,
    file: File,
}

impl WithUnits for Update<'_> {
    type Output = Result<ExitCode>;

    fn run<I: Units, X: Units>(self) -> Self::Output {
        let world = build_world::<I, X>(self.args, self.setup, &self.factory)?;
        update(self.args, world, &self.client, &self.file)
    }
}

fn update<I: Units, X: Units>(
    args: &UpdateArgs,
    mut world: WorldOf<I, X>,
    client: &Client,
    file: &File,
) -> Result<ExitCode> {
    let format = Format::of(args.json);
    let other = args.report.other()?;
    world.board.power.trace();
    let size = file.image().len();
    let before = running_version(&world);
    let start = Start {
        ops: world.board.power.ops(),
        internal: world.board.internal.stats(),
        external: world.board.external.stats(),
    };
    if let Some(at) = args.cut_at {
        world.board.power.cut_at(
            start.ops.saturating_add(at),
            Tear::Inside {
                fraction: 0.5,
                seed: at,
            },
        );
    }
    let mut drops = args.drop_link_at.clone();
    drops.sort_unstable();
    world.mishaps.drop_link_at = drops.into();

    say_plan(format, args, &world, client, size)?;
    let bar = progress_bar(size);
    let outcome = run(args, &mut world, client, file, &mut |at| {
        bar.set_position(u64::from(at))
    });
    bar.finish_and_clear();
    // The device can only return a code; inspecting the file may show more.
    let outcome = outcome.map_err(|error| match file.problem(&world.board.setup) {
        Some(problem) => anyhow::anyhow!("{error}: {problem}"),
        None => anyhow::Error::new(error),
    })?;
    let after = running_version(&world);

    say_stages(format, &world, size, &outcome, start.ops)?;
    say_seconds(format, &world, &outcome)?;
    if args.report.is_wanted() {
        args.report
            .write(&page_of(args, &world, &outcome, size), other.as_ref())?;
    }
    say_costs(format, args, &world, &start)?;
    format.text(format_args!(""))?;
    format.fact(
        &json!({
            "event": "result", "before": before, "after": after,
            "total_s": world.now_ns() as f64 / 1e9, "sessions": outcome.sessions,
        }),
        format_args!("{}", named("version", &format!("{before} -> {after}"))),
    )?;

    if args.no_confirm {
        let boot = world.power_up()?.clone();
        let version = boot.report.image.header.version;
        let runs_again = format!(
            "not confirmed: after the next reset {version} runs again ({})",
            describe(&boot)
        );
        format.fact(
            &json!({ "event": "next_reset", "runs": version.to_string(), "action": describe(&boot) }),
            format_args!("{}", wrap(&runs_again, 0)),
        )?;
    } else if !running_version(&world).ends_with(" (confirmed)") {
        bail!("the new image is not confirmed");
    }
    check_mishaps(args, &world, start.ops)?;
    Ok(ExitCode::SUCCESS)
}

/// Counters before the update.
struct Start {
    ops: u64,
    internal: Stats,
    external: Stats,
}

/// Planned mishaps that did not happen: the update was shorter than the user expected.
fn check_mishaps<I: Units, X: Units>(
    args: &UpdateArgs,
    world: &WorldOf<I, X>,
    ops_before: u64,
) -> Result<()> {
    let power = &world.board.power;
    if let (Some(at), true) = (args.cut_at, power.cuts().is_empty()) {
        bail!(
            "--cut-at {at} was never reached: the update took {} flash operations, numbered from 0",
            power.ops() - ops_before
        );
    }
    if let Some(at) = world.mishaps.drop_link_at.front() {
        bail!(
            "--drop-link-at {at} was never reached: {} bytes of the image went over the link",
            world.image_bytes_sent()
        );
    }
    Ok(())
}

impl UpdateArgs {
    fn client(&self) -> Result<Client> {
        let is_smp = self.protocol == Protocol::Smp;
        if is_smp && self.prn.is_some_and(|every| every > 0) {
            bail!("--prn is for Secure DFU; SMP answers every request");
        }
        if is_smp && (self.object_delay.is_some() || self.retries.is_some()) {
            bail!("--object-delay and --retries are for Secure DFU");
        }
        if !is_smp && self.window.is_some() {
            bail!("--window is for SMP; with Secure DFU, --prn sets when the phone waits");
        }
        let smp = |phone| {
            let settings = smp::Settings::of(phone);
            Client::Smp(smp::Settings {
                mode: if self.no_confirm {
                    smp::Mode::TestOnly
                } else {
                    smp::Mode::TestAndConfirm
                },
                window: self.window.map_or(settings.window, usize::from),
                ..settings
            })
        };
        let dfu = |phone: secure_dfu::Phone| {
            let settings = phone.settings();
            Client::SecureDfu(bledfu_client::secure_dfu::Settings {
                receipts: self.prn.unwrap_or(settings.receipts),
                object_delay_ms: self.object_delay.unwrap_or(settings.object_delay_ms),
                retries: self.retries.unwrap_or(settings.retries),
                ..settings
            })
        };
        Ok(match (self.protocol, self.phone) {
            (Protocol::SecureDfu, Phone::Android) => dfu(secure_dfu::Phone::Android),
            (Protocol::SecureDfu, Phone::Ios) => dfu(secure_dfu::Phone::Ios),
            (Protocol::SecureDfu, Phone::Nrfutil) => dfu(secure_dfu::Phone::Nrfutil),
            (Protocol::Smp, Phone::Android) => smp(smp::Phone::Android),
            (Protocol::Smp, Phone::Ios) => smp(smp::Phone::Ios),
            (Protocol::Smp, Phone::Smpclient) => smp(smp::Phone::Smpclient),
            (Protocol::SecureDfu, Phone::Smpclient) => bail!("smpclient supports only SMP: --protocol smp"),
            (Protocol::Smp, Phone::Nrfutil) => bail!("nrfutil supports only Secure DFU"),
        })
    }

    /// The default for SMP is what Android's application requests: two full link layer packets.
    fn mtu(&self) -> u16 {
        self.mtu.unwrap_or(match self.protocol {
            Protocol::SecureDfu => 247,
            Protocol::Smp => 498,
        })
    }
}

/// The update including the confirmation: over Secure DFU the image confirms itself, over SMP the phone does it.
fn run<I: Units, X: Units>(
    args: &UpdateArgs,
    world: &mut WorldOf<I, X>,
    client: &Client,
    file: &File,
    progress: &mut dyn FnMut(u32),
) -> Result<Outcome, WorldError> {
    match (client, file) {
        (Client::SecureDfu(settings), File::Package(package)) => {
            let outcome = world.update_with(package, *settings, progress)?;
            if !args.no_confirm {
                world.confirm()?;
            }
            Ok(outcome)
        }
        (Client::SecureDfu(_), File::Image(_)) => unreachable!("only SMP takes an image"),
        (Client::Smp(settings), file) => world.update_smp(file.image(), *settings, progress),
    }
}

/// The device that the options describe, and its factory image.
fn build_setup(args: &UpdateArgs) -> Result<(Setup, Vec<u8>)> {
    let (setup, factory) = args.device.setup()?;
    let times = if args.worst_case {
        Times::Maximum
    } else {
        Times::Typical
    };
    Ok((Setup { times, ..setup }, factory))
}

fn build_world<I: Units, X: Units>(args: &UpdateArgs, setup: Setup, factory: &[u8]) -> Result<WorldOf<I, X>> {
    if !(7.5..=4000.0).contains(&args.interval) {
        bail!("--interval must be 7.5 to 4000 ms, not {}", args.interval);
    }
    let link = LinkParams {
        interval_us: (args.interval * 1000.0) as u32,
        packets_per_event: args.packets_per_event,
        mtu: args.mtu(),
    };
    let mut world = WorldOf::new(setup, factory, link)?;
    if args.used_slot {
        world.board.secondary.set_contents(0, factory)?;
    } else {
        // What a device does after it has confirmed its image, while nobody is connected.
        world.settle();
    }
    Ok(world)
}

fn running_version<I: Units, X: Units>(world: &WorldOf<I, X>) -> String {
    match world.device() {
        Some(device) => {
            let state = if device.is_confirmed() {
                "confirmed"
            } else {
                "test"
            };
            format!("{} ({state})", device.image().header.version)
        }
        None => "nothing runs".to_owned(),
    }
}

fn progress_bar(size: usize) -> ProgressBar {
    // Log lines would break it.
    if is_quiet() || log::log_enabled!(log::Level::Info) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("receive      {wide_bar} {bytes}/{total_bytes}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size as u64).with_style(style)
}

/// A named fact, in lines that fit the screen.
fn named(name: &str, value: &str) -> String {
    wrap(&format!("{name:<12} {value}"), 13)
}

/// A stage with the time that it took, in lines that fit the screen.
fn timed(name: &str, seconds: f64, note: &str) -> String {
    wrap(format!("{name:<10} {seconds:8.2} s   {note}").trim_end(), 24)
}

fn say_plan<I: Units, X: Units>(
    format: Format,
    args: &UpdateArgs,
    world: &WorldOf<I, X>,
    client: &Client,
    size: usize,
) -> Result<()> {
    let setup = &world.board.setup;
    let times = if args.worst_case { "maximum" } else { "typical" };
    let slot = if args.used_slot {
        "erased while receiving"
    } else {
        "erased beforehand"
    };
    let part = setup.part.name;
    let device = format!(
        "{} with {part} ({times} times), slots of {} KiB, secondary {slot}",
        device_name(setup),
        setup.slot_size / 1024
    );
    let flow = match client {
        Client::SecureDfu(settings) if settings.receipts == 0 => "receipts none".to_owned(),
        Client::SecureDfu(settings) => format!("receipts every {} packets", settings.receipts),
        Client::Smp(settings) => format!("SMP window {}", settings.window),
    };
    let phone = format!(
        "{:?}: MTU {}, interval {} ms, {} packets per event, {flow}",
        args.phone,
        world.link.mtu,
        args.interval,
        world.link.exchanges_per_event()
    );
    let name = args
        .package
        .as_ref()
        .map_or("the embedded demo".to_owned(), |path| path.display().to_string());
    format.fact(
        &json!({
            "event": "plan", "device": device_name(setup), "part": part, "times": times,
            "slot_size": setup.slot_size, "install": setup.algorithm.as_str(),
            "phone": format!("{:?}", args.phone).to_lowercase(), "mtu": world.link.mtu,
            "interval_ms": args.interval, "packets_per_event": world.link.exchanges_per_event(),
            "file": name, "bytes": size,
        }),
        format_args!(
            "{}\n{}\n{}\n",
            named("device", &device),
            named("phone", &phone),
            named("package", &format!("{name}: {size} bytes"))
        ),
    )?;
    Ok(())
}

/// The processor, with its units if they differ from an nRF52840's.
fn device_name(setup: &Setup) -> String {
    if setup.internal.name == NRF52840.name && setup.write_unit == NRF52840.write_size {
        return "nRF52840".to_owned();
    }
    format!(
        "{} (write unit {}, pages of {} KiB)",
        setup.internal.name,
        setup.write_unit,
        setup.sector_size() / 1024
    )
}

fn say_stages<I: Units, X: Units>(
    format: Format,
    world: &WorldOf<I, X>,
    size: usize,
    outcome: &Outcome,
    ops_before: u64,
) -> Result<()> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    for cut in world.board.power.cuts() {
        let op = OpInfo {
            number: cut.op.number - ops_before,
            ..cut.op
        };
        let at = seconds(cut.at_ns);
        format.fact(
            &json!({
                "event": "power_cut", "operation": op.number, "kind": format!("{:?}", op.kind).to_lowercase(),
                "flash": op.chip, "address": op.address, "length": op.length, "at_s": at,
            }),
            format_args!("{}", named("power cut", &format!("after {at:.2} s, inside {op}"))),
        )?;
    }
    let session = &outcome.session;
    if session.received_ns > 0 {
        let receive = seconds(session.received_ns - outcome.started_ns);
        let rate = size as f64 / receive;
        let limit = world.link.limit_bytes_per_s();
        let sessions = match outcome.sessions {
            1 => String::new(),
            n => format!(" in {n} sessions"),
        };
        let speed = format!(
            "{:.1} kB/s{sessions} (the link carries {:.1}: {:.2} of it)",
            rate / 1000.0,
            limit / 1000.0,
            rate / limit
        );
        format.fact(
            &json!({
                "event": "received", "seconds": receive, "bytes_per_s": rate, "link_limit_bytes_per_s": limit,
                "sessions": outcome.sessions, "resumed_at": session.resumed_at,
            }),
            format_args!("{}", timed("receive", receive, &speed)),
        )?;
    }
    if session.verified_ns > 0 {
        let verify = seconds(session.verified_ns - session.received_ns);
        format.fact(
            &json!({ "event": "verified", "seconds": verify }),
            format_args!("{}", timed("verify", verify, "")),
        )?;
    }
    let install = seconds(outcome.boot.took_ns);
    format.fact(
        &json!({ "event": "installed", "seconds": install, "action": describe(&outcome.boot) }),
        format_args!("{}", timed("install", install, &describe(&outcome.boot))),
    )?;
    let total = seconds(world.now_ns());
    format.text(format_args!(
        "{}",
        timed("total", total, "since the device was switched on")
    ))?;
    if session.resumed_at > 0 {
        let resumed = format!(
            "{} (the last that sent something went on at byte {})",
            outcome.sessions, session.resumed_at
        );
        format.text(format_args!("{}", named("sessions", &resumed)))?;
    } else if outcome.sessions > 1 {
        format.text(format_args!("sessions     {}", outcome.sessions))?;
    }
    format.text(format_args!(""))?;
    Ok(())
}

/// Where the time went, as one bar.
fn say_seconds<I: Units, X: Units>(format: Format, world: &WorldOf<I, X>, outcome: &Outcome) -> Result<()> {
    let shares = picture::seconds(
        &world.board.power.traced(),
        &picture::update::stages(world, outcome),
    );
    let (bar, names) = picture::bar(&shares, 13);
    let json: serde_json::Map<String, serde_json::Value> = shares
        .iter()
        .map(|(name, seconds)| (name.replace([' ', ','], "_").replace("__", "_"), json!(seconds)))
        .collect();
    format.fact(
        &json!({ "event": "seconds", "shares": json }),
        format_args!("{}\n{}\n", named("where", &bar), named("", &names)),
    )?;
    Ok(())
}

/// The page of an update.
fn page_of<I: Units, X: Units>(
    args: &UpdateArgs,
    world: &WorldOf<I, X>,
    outcome: &Outcome,
    size: usize,
) -> Run {
    let setup = &world.board.setup;
    let protocol = match args.protocol {
        Protocol::SecureDfu => "Secure DFU",
        Protocol::Smp => "SMP",
    };
    let times = if args.worst_case { "maximum" } else { "typical" };
    let fact = |name: &str, value: String| (name.to_owned(), value);
    let facts = vec![
        fact("device", device_name(setup)),
        fact("external flash", format!("{}, {times} times", setup.part.name)),
        fact("install", setup.algorithm.as_str().to_owned()),
        fact(
            "link",
            format!("MTU {}, interval {} ms", world.link.mtu, args.interval),
        ),
        fact("image", format!("{size} bytes")),
        fact("sessions", outcome.sessions.to_string()),
    ];
    let title = format!(
        "Update over {protocol}, {:?}, {}",
        args.phone,
        setup.algorithm.as_str()
    );
    picture::update::run(world, outcome, title, facts, ring_bytes(args, setup))
}

/// Size of the ring that the protocol asks for.
fn ring_bytes(args: &UpdateArgs, setup: &Setup) -> usize {
    match args.protocol {
        Protocol::SecureDfu => ring_size_for(setup.object_size as usize, 20),
        Protocol::Smp => smp_ring_size(DEFAULT_FRAME_SIZE, DEFAULT_FRAME_COUNT, 20),
    }
}

fn say_costs<I: Units, X: Units>(
    format: Format,
    args: &UpdateArgs,
    world: &WorldOf<I, X>,
    start: &Start,
) -> Result<()> {
    say_flash(
        format,
        "external",
        &(world.board.external.stats() - start.external),
    )?;
    say_flash(
        format,
        "internal",
        &(world.board.internal.stats() - start.internal),
    )?;
    let operations = world.board.power.ops() - start.ops;
    let held = world.ring_high_water();
    let ring = ring_bytes(args, &world.board.setup);
    let (waits, lost) = (world.packets_waited, world.packets_lost);
    let wait_ms = world.longest_wait_ns as f64 / 1e6;
    let waited = match (waits, lost) {
        (0, _) => String::new(),
        (_, 0) => format!("; {waits} packets waited, {wait_ms:.1} ms at most"),
        (..) => format!("; {waits} packets waited, {lost} were lost"),
    };
    let answer_ms = world.slowest_answer_ns as f64 / 1e6;
    format.fact(
        &json!({
            "event": "costs", "operations": operations, "ring_bytes_held": held, "ring_bytes": ring,
            "packets_waited": waits, "packets_lost": lost, "longest_wait_ms": wait_ms, "slowest_answer_ms": answer_ms,
        }),
        format_args!(
            "operations   {operations} program and erase operations, both flashes\n\
             ring         at most {held} bytes held of {ring}{waited}\n\
             answers      slowest after {answer_ms:.0} ms"
        ),
    )?;
    Ok(())
}

/// A boot's result in words.
pub fn describe(boot: &Boot) -> String {
    boot.report.action.to_string()
}

fn say_flash(format: Format, name: &str, stats: &Stats) -> Result<()> {
    let busy = stats.busy_ns as f64 / 1e9;
    let text = format!(
        "erases: {} of {} KiB, {} of 32 KiB, {} of 64 KiB; programs: {} ({} bytes); busy {busy:.2} s",
        stats.erases_4k + stats.erases_8k,
        if stats.erases_8k > 0 { 8 } else { 4 },
        stats.erases_32k,
        stats.erases_64k,
        stats.programs,
        stats.program_bytes,
    );
    format.fact(
        &json!({
            "event": "flash", "flash": name, "erases_4k": stats.erases_4k, "erases_8k": stats.erases_8k,
            "erases_32k": stats.erases_32k, "erases_64k": stats.erases_64k, "programs": stats.programs,
            "program_bytes": stats.program_bytes, "busy_s": busy,
        }),
        format_args!("{}", named(name, &text)),
    )?;
    Ok(())
}
