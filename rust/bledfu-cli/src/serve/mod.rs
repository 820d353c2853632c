// SPDX-License-Identifier: Apache-2.0
//! `bledfu serve`: the device in real time, with transports for real clients and flashes in files. Killing the process
//! is a power cut.
//!
//! ```text
//!  client ──► door thread ──► inbox ──► worker: the device's service loop ──► files
//!         ◄─────────────replies─────────┘     after the last Execute: reset, boot stage, self-test, confirmation
//! ```
//! | Module | What |
//! |---|---|
//! | [`doors`] | where clients come in |
//! | [`wire`] | their bytes: SLIP, and Bluetooth writes as frames on a socket |
//! | [`link`] | the inbox, the peer, and connectionless packets, shared by doors and worker |

pub mod doors;
pub mod link;
pub mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bledfu_sim::device::{inbox, is_linked_for, BoardOf, DeviceOf, Setup, StartError, WithUnits};
use bledfu_sim::nor::Units;
use bledfu_sim::power::Power;
use bledfu_sim::trace::{Lane, Moment};
use bledfu_slot::header::Version;
use bledfu_slot::trailer::SwapType;
use bledfu_swap::{BootAction, BootReport};
use bledfu_transfer::doors::Peer;
use bledfu_transfer::service::Step;
use clap::{Args, ValueEnum};

use crate::args::DeviceArgs;
use crate::folder;
use crate::output::is_quiet;
use crate::picture::{self, ReportArgs, Run, Stages};
use doors::DoorArgs;
use link::{Link, Packet, WorkerSide};

/// A frame that was taken is drawn this long, in ns: in real time the air is not known.
const FRAME_NS: u64 = 1_000_000;

/// A worker without work looks at the clock once a day.
const LONGEST_REST: Duration = Duration::from_secs(24 * 60 * 60);

/// Duration of flash operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FlashTime {
    /// Typical times of the data sheets.
    Real,
    /// None.
    None,
}

/// Options of `bledfu serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Folder of the device, with its flashes. An empty folder becomes a new device.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    doors: DoorArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Flash operations take the time of the data sheet, or none.
    #[arg(long, value_enum, default_value = "real")]
    flash_time: FlashTime,
    /// Peers count as unpaired: they may begin twelve uploads, then two an hour, and can neither confirm an image nor
    /// reset a device on trial. Without this option all peers are trusted, as on a wire.
    #[arg(long)]
    stranger: bool,
    /// New images do not confirm themselves: the next reset restores the old one.
    #[arg(long)]
    no_confirm: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs `bledfu serve`, until the process is told to end.
///
/// # Errors
/// One sentence: why there is no device, or no door.
pub fn cmd_serve(args: &ServeArgs) -> Result<ExitCode> {
    args.doors.check()?;
    let (mut setup, factory) = args.device.setup()?;
    if args.stranger {
        setup.peer = Peer::Stranger;
    }
    setup.with_units(Serve { args, setup, factory })?
}

/// `bledfu serve` for a device with known units.
struct Serve<'a> {
    args: &'a ServeArgs,
    setup: Setup,
    factory: Vec<u8>,
}

impl WithUnits for Serve<'_> {
    type Output = Result<ExitCode>;

    fn run<I: Units, X: Units>(self) -> Self::Output {
        serve::<I, X>(self.args, self.setup, &self.factory)
    }
}

fn serve<I: Units, X: Units>(args: &ServeArgs, setup: Setup, factory: &[u8]) -> Result<ExitCode> {
    let power = Power::new();
    let mut board = folder::open::<I, X>(setup, factory, &args.state, &power)?;
    if args.device.check_address.is_none() {
        // The folder may contain a device with another factory image.
        board.setup.check_address = is_linked_for(&board.primary.contents(), board.setup.address());
    }
    let other = args.report.other()?;
    if args.report.is_wanted() {
        power.trace();
    }
    power.set_real_time(args.flash_time == FlashTime::Real);

    let link = Arc::new(Link::new(inbox(board.setup.object_size), board.setup.peer));
    let told = link.clone();
    ctrlc::set_handler(move || {
        // At the second signal it does not finish a boot in progress: that is a harmless power cut.
        if !told.stop() {
            std::process::exit(1);
        }
    })
    .context("cannot wait for signals")?;

    let mut worker = Worker {
        board,
        link,
        confirms: !args.no_confirm,
        clock: Instant::now(),
    };
    let mut device = worker.power_up(None)?;
    let doors = args.doors.open(&worker.link)?;
    say(&format!("serving {}", doors.description));
    while let Ended::Reset = worker.run(&mut device) {
        worker.link.down();
        // A trailer that cannot be read is for the boot stage to handle.
        say(match worker.board.is_pending() {
            Ok(false) => "resetting",
            _ => "resetting to install the update",
        });
        let before = device.image().header.version;
        device = worker.power_up(Some(before))?;
    }
    let page = page(&worker.board.setup, &power, worker.clock.elapsed());
    args.report.write(&page, other.as_ref())?;
    Ok(ExitCode::SUCCESS)
}

/// The life of the process as a page. Its clock is the real one.
fn page(setup: &Setup, power: &Power, lived: Duration) -> Run {
    let mut trace = power.traced();
    let to_ns = u64::try_from(lived.as_nanos()).unwrap_or(u64::MAX);
    let stages = Stages {
        from_ns: 0,
        to_ns,
        verify_ns: (0, 0),
    };
    let moments = picture::update::moments(&trace, &stages);
    // Packets have no link that could be away, and whoever connects does not say since when it wanted to.
    trace.moments = vec![(0, Moment::LinkUp)];
    let shares = picture::seconds(&trace, &stages).into_iter();
    let shares = shares.map(|(name, seconds)| match name.as_str() {
        picture::WAITING => ("nothing to do".to_owned(), seconds),
        _ => (name, seconds),
    });
    Run {
        title: format!("A device in real time, {}", setup.algorithm.as_str()),
        facts: vec![("external flash".to_owned(), setup.part.name.to_owned())],
        total_s: lived.as_secs_f64(),
        seconds: shares.collect(),
        lanes: picture::lanes(&trace, 0, to_ns, 0),
        moments,
        slots: picture::slots(&trace, &picture::update::areas(setup)),
        ..Run::default()
    }
}

/// Prints one line at once, for the process that started this one.
fn say(line: &str) {
    if is_quiet() {
        return;
    }
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: the device continues.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// After the boot, and again if a self-test has changed it.
fn say_running<I: Units, X: Units>(version: Version, device: &DeviceOf<I, X>) {
    let state = if device.is_confirmed() {
        "confirmed"
    } else {
        "test"
    };
    say(&format!("running {version} ({state})"));
}

enum Ended {
    Stop,
    Reset,
}

/// The thread that owns the flashes.
struct Worker<I, X> {
    board: BoardOf<I, X>,
    link: Arc<Link>,
    confirms: bool,
    clock: Instant,
}

impl<I: Units, X: Units> Worker<I, X> {
    /// Reset: boot stage, application, self-test. `before` is the version that ran, if known.
    fn power_up(&mut self, before: Option<Version>) -> Result<DeviceOf<I, X>, StartError> {
        let started = self.clock.elapsed().as_nanos() as u64;
        self.board.power.set_now_ns(started);
        self.board.power.moment(started, Moment::Boot);
        let report = self.board.boot()?;
        self.board
            .power
            .was_busy(Lane::Boot, started, self.board.power.now_ns());
        if report.action != BootAction::None {
            say(&format!("boot stage: {}", report.action));
        }
        let mut device = self.board.start(&report.image)?;
        let version = report.image.header.version;
        // A reader of this line may connect at once.
        self.link.up();
        say_running(version, &device);
        if self.confirms && !device.is_confirmed() {
            device.confirm()?;
            say_running(version, &device);
        }
        self.tell_outcome(&report, before, device.is_confirmed());
        Ok(device)
    }

    fn tell_outcome(&self, report: &BootReport, before: Option<Version>, confirmed: bool) {
        let version = report.image.header.version;
        let BootAction::Installed { swap_type, .. } = report.action else {
            return;
        };
        // After a restart of the process, the old image is where the boot stage put it.
        let before = before.or_else(|| Some(self.board.secondary_image()?.header.version));
        let before = before.map_or_else(|| "another version".to_owned(), |before| before.to_string());
        if swap_type == SwapType::Revert {
            say(&format!("reverted {before} -> {version}"));
        } else {
            let confirmed = if confirmed { "confirmed" } else { "not confirmed" };
            say(&format!("updated {before} -> {version}, {confirmed}"));
        }
    }

    /// The application, up to the next reset: performs the steps of the service.
    fn run(&mut self, device: &mut DeviceOf<I, X>) -> Ended {
        let mut side = WorkerSide::new(self.link.clone());
        let mut packet: Option<(Packet, usize)> = None;
        let mut peer = None;
        loop {
            if self.link.is_stopping() {
                return Ended::Stop;
            }
            let now_ns = self.clock.elapsed().as_nanos() as u64;
            self.board.power.set_now_ns(now_ns);
            let connected = self.link.peer();
            if connected != peer {
                if peer.is_some() {
                    self.board.power.moment(now_ns, Moment::LinkDown);
                }
                if connected.is_some() {
                    self.board.power.moment(now_ns, Moment::LinkUp);
                }
                peer = connected;
            }
            if device.is_settled() {
                // The rest of a datagram comes before the next one.
                packet = packet
                    .filter(|(packet, at)| *at < packet.bytes.len())
                    .or_else(|| Some((self.link.next_packet()?, 0)));
                if let Some((packet, at)) = &mut packet {
                    *at += device.datagram(&packet.bytes[*at..]);
                    self.board.power.was_busy(Lane::Link, now_ns, now_ns + FRAME_NS);
                    continue;
                }
            }
            let before = device.frames_taken();
            let sent = match device.step_from(&mut side) {
                None | Some(Step::Hurry | Step::Deliver { .. }) => Ok(()),
                Some(Step::Send { channel, bytes }) => side.send(channel, bytes),
                Some(Step::Answer { bytes }) => {
                    if let Some((packet, _)) = &packet {
                        packet.origin.send(bytes);
                    }
                    Ok(())
                }
                Some(Step::Tell(event)) => {
                    log::debug!("{event:?}");
                    Ok(())
                }
                Some(Step::Wait { until_ms }) => {
                    let left_ms = until_ms.saturating_sub(now_ns / 1_000_000);
                    self.link.rest(Duration::from_millis(left_ms).min(LONGEST_REST));
                    Ok(())
                }
                Some(Step::Disconnect) => {
                    log::info!("the device closes the link");
                    side.disconnect();
                    Ok(())
                }
                Some(Step::Reset) => return Ended::Reset,
            };
            let power = &self.board.power;
            power.was_busy(Lane::Worker, now_ns, power.now_ns());
            if device.frames_taken() > before {
                power.was_busy(Lane::Link, now_ns, now_ns + FRAME_NS);
            }
            if let Err(error) = sent {
                log::warn!("the answer was not delivered: {error}");
                device.not_sent();
            }
        }
    }
}
