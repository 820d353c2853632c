// SPDX-License-Identifier: Apache-2.0
//! `bledfu serve`: the device in real time, with doors for real clients and flashes in files. Killing the process is a
//! power cut.
//!
//! ```text
//!  client ──► door thread ──► ring ──► worker: Device, Board ──► files
//!         ◄─────────────replies────────┘     after the last Execute: reset, boot stage, self-test, confirmation
//! ```
//! | Module | What |
//! |---|---|
//! | [`doors`] | where clients come in |
//! | [`wire`] | their bytes: SLIP, and Bluetooth writes as frames on a socket |
//! | [`link`] | the ring, the peer, and packets of nobody in particular, shared by doors and worker |
//! | [`folder`] | the files a device lives in |

pub mod doors;
pub mod folder;
pub mod link;
pub mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bledfu_slot::header::Version;
use bledfu_slot::trailer::SwapType;
use bledfu_swap::{BootAction, BootReport};
use bledfu_transfer::ring::MAX_FRAME;
use bledfu_transfer::secure_dfu::{Then, LAST_ANSWER_MS};
use bledfu_wire::smp::Header;
use clap::{Args, ValueEnum};

use crate::update::DeviceArgs;
use bledfu_sim::device::{Board, Device, Reaction, StartError};
use bledfu_sim::power::Power;
use doors::DoorArgs;
use link::{Event, Link, Packet, Remote};

/// How often a device with nothing to do looks whether its peer is still alive.
const TICK: Duration = Duration::from_secs(1);

/// Whether flash operations take their time.
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
    /// Folder of the device: its flashes are kept here. A new device is made in an empty one.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    #[command(flatten)]
    doors: DoorArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Flash operations take the time of the data sheet, or none.
    #[arg(long, value_enum, default_value = "real")]
    flash_time: FlashTime,
    /// New images do not confirm themselves: the next reset brings the old one back.
    #[arg(long)]
    no_confirm: bool,
}

/// Runs `bledfu serve`, until the process is told to end.
///
/// # Errors
/// One sentence: why there is no device, or no door.
pub fn cmd_serve(args: &ServeArgs) -> Result<ExitCode> {
    args.doors.check()?;
    let (setup, factory) = args.device.setup()?;
    let power = Power::new();
    let board = folder::open(setup, &factory, &args.state, &power)?;
    power.set_real_time(args.flash_time == FlashTime::Real);

    let link = Arc::new(Link::default());
    let told = link.clone();
    ctrlc::set_handler(move || {
        // Asked twice, it does not finish the boot it may be in: that is a power cut, and no harm.
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
        // A trailer that cannot be read is the boot stage's affair.
        say(match worker.board.is_pending() {
            Ok(false) => "resetting",
            _ => "resetting to install the update",
        });
        let before = device.image().header.version;
        device = worker.power_up(Some(before))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for who started us; written at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads it any more: the device goes on.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// After the boot, and once more when a self-test has changed it.
fn say_running(version: Version, device: &Device) {
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
struct Worker {
    board: Board,
    link: Arc<Link>,
    confirms: bool,
    clock: Instant,
}

impl Worker {
    /// Reset: boot stage, application, self-test. `before` is the version that ran, if it is known.
    fn power_up(&mut self, before: Option<Version>) -> Result<Device, StartError> {
        let report = self.board.boot()?;
        if report.action != BootAction::None {
            say(&format!("boot stage: {}", report.action));
        }
        let mut device = self.board.start(&report.image)?;
        let version = report.image.header.version;
        // Who reads that it runs may come at once.
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
        // A process that has just begun finds the old image where the boot stage put it.
        let before = before.or_else(|| Some(self.board.secondary_image()?.header.version));
        let before = before.map_or_else(|| "another version".to_owned(), |before| before.to_string());
        if swap_type == SwapType::Revert {
            say(&format!("reverted {before} -> {version}"));
        } else {
            let confirmed = if confirmed { "confirmed" } else { "not confirmed" };
            say(&format!("updated {before} -> {version}, {confirmed}"));
        }
    }

    /// The application, up to the next reset.
    fn run(&mut self, device: &mut Device) -> Ended {
        let mut buffer = [0; MAX_FRAME];
        let mut peer: Option<Remote> = None;
        let mut patience = Duration::ZERO;
        loop {
            let event = self.link.next(&mut buffer, patience);
            self.board
                .power
                .set_now_ns(self.clock.elapsed().as_nanos() as u64);
            patience = Duration::ZERO;
            let then = match event {
                Event::Stop => return Ended::Stop,
                Event::Connected(remote) => {
                    device.link_up(remote.framing.transport());
                    peer = Some(remote);
                    Then::Continue
                }
                Event::Disconnected => {
                    device.link_down();
                    peer = None;
                    Then::Continue
                }
                Event::Frame(frame) => {
                    let reaction = device.handle(frame);
                    let then = deliver(&reaction, peer.as_ref());
                    catch_up(device);
                    then
                }
                Event::Packet(packet) => answer_packet(device, &packet),
                Event::Quiet => {
                    if !device.idle() {
                        patience = TICK;
                    }
                    device.tick()
                }
            };
            match then {
                Then::Continue => {}
                Then::Disconnect => {
                    log::info!("the device closes the link");
                    self.link.disconnect();
                    device.link_down();
                    peer = None;
                }
                Then::Reset => {
                    std::thread::sleep(Duration::from_millis(LAST_ANSWER_MS));
                    return Ended::Reset;
                }
            }
        }
    }
}

/// Sends the answer; a peer that does not take it is disconnected. A staged update is installed all the same.
fn deliver(reaction: &Reaction, peer: Option<&Remote>) -> Then {
    let (Some(answer), Some(remote)) = (reaction.bytes(), peer) else {
        return reaction.then();
    };
    match remote.send(reaction.service(), &answer) {
        Err(error) if reaction.then() == Then::Continue => {
            log::warn!("the answer was not delivered: {error}");
            Then::Disconnect
        }
        _ => reaction.then(),
    }
}

/// Answers every frame of a packet, in order. An error of the protocol ends the packet, as in Zephyr: where the next frame
/// would begin is not certain then.
fn answer_packet(device: &mut Device, packet: &Packet) -> Then {
    let mut rest = packet.bytes.as_slice();
    while let Some(header) = Header::decode(rest) {
        let (frame, behind) = rest.split_at(header.frame_length().min(rest.len()));
        let reaction = device.handle_smp_frame(frame);
        if let Some(answer) = reaction.bytes() {
            packet.origin.send(&answer);
        }
        if reaction.then() != Then::Continue {
            return reaction.then();
        }
        catch_up(device);
        if reaction.is_protocol_error() {
            break;
        }
        rest = behind;
    }
    Then::Continue
}

/// The answer has left, and the next piece of an upload needs a sector that is not erased yet.
fn catch_up(device: &mut Device) {
    if device.is_behind() {
        device.idle();
    }
}
