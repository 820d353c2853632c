// SPDX-License-Identifier: Apache-2.0
//! `bledfu send`: updates a real device from a computer.
//!
//! ```text
//!  file ──► [client of bledfu-client] ──actions──► drive ──► transport ──► device
//!                     ▲───────────────events─────────┘
//!  reset … the boot stage installs … connect again ──► proof: does the new version run?
//! ```
//! | Module | What |
//! |---|---|
//! | [`mod@file`] | what is sent |
//! | [`drive`] | performs the actions of a client |
//! | [`transport`] | what a transport must do; [`serial`], [`udp`], [`bluetooth`] do it |
//! | [`images`], [`proof`] | which version runs |
//! | [`show`] | lines, progress bar, JSON, report |

pub mod bluetooth;
pub mod drive;
pub mod file;
pub mod images;
pub mod proof;
pub mod serial;
pub mod show;
pub mod transport;
pub mod udp;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail, Result};
use bledfu_client::{secure_dfu, smp, Characteristic};
use bledfu_sender::settings::{self, DFU_ANSWER_MS, RECONNECT_MS};
use bledfu_wire::secure_dfu::{ObjectType, Reply, Request};
use clap::Args;
use serde_json::json;

use crate::output::{sentence, Format};
use crate::picture::ReportArgs;
use crate::update::Protocol;
use bluetooth::{Bluetooth, Target};
use drive::{Driver, Ended, SendError};
use file::File;
use images::{running, Asker, Image};
use serial::Serial;
use show::Show;
use transport::{Offer, Transport};
use udp::Udp;

/// Longest answer of SMP.
const ANSWER_SIZE: usize = 4096;

/// Options of `bledfu send`.
#[derive(Args, Clone, Debug)]
pub struct SendArgs {
    /// Package (.zip), or signed image (.bin, .hex) for a device with SMP.
    #[arg(required_unless_present = "list")]
    file: Option<PathBuf>,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    line: LineArgs,
    /// Protocol [default: what the device offers; of both, Secure DFU for a package].
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// Secure DFU: packet receipt after every N packets; 0: none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prn: u16,
    /// SMP: upload requests in flight, 1 to 25 [default: 3; on a serial port 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=25))]
    window: Option<u8>,
    /// SMP: leave the new version on trial: it must confirm itself, or the next reset restores the old one.
    #[arg(long)]
    no_confirm: bool,
    /// How often to begin again after a failure that may pass.
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,
    /// How long to look for the device, at the start and while it installs the new version.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Ask the device, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// JSON instead of text: one object in each line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Where the device is.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct TargetArgs {
    /// Serial port: Secure DFU in SLIP frames, or SMP on a console.
    #[arg(long, value_name = "PORT", conflicts_with_all = ["udp", "ble", "hci", "all", "list"])]
    serial: Option<PathBuf>,
    /// SMP over UDP; without a port 1337.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with_all = ["ble", "hci", "all", "list"])]
    udp: Option<String>,
    /// Bluetooth: the device with this name or address.
    #[arg(long, value_name = "NAME|ADDRESS")]
    ble: Option<String>,
    /// Bluetooth through this controller instead of the computer's own Bluetooth: H4 behind a TCP port, or on a serial
    /// port. Without --ble, the only device that offers updates.
    #[arg(long, value_name = "tcp:HOST:PORT|DEVICE")]
    hci: Option<String>,
    /// Bluetooth: every device that offers updates, or has the name of --ble, one after the other.
    #[arg(long, conflicts_with = "report")]
    all: bool,
    /// Bluetooth: list the devices that advertise, and send nothing.
    #[arg(long, conflicts_with_all = ["all", "report"])]
    list: bool,
}

/// Settings of a serial port.
#[derive(Args, Clone, Debug)]
pub struct LineArgs {
    /// Rate of the serial port.
    #[arg(long, value_name = "BAUD", default_value_t = 115_200, requires = "serial")]
    baud: u32,
    /// The serial port has the lines RTS and CTS, as nrfutil expects.
    #[arg(long, requires = "serial")]
    rtscts: bool,
}

impl TargetArgs {
    fn transport(&self, line: &LineArgs) -> Result<Box<dyn Transport>> {
        if let Some(path) = &self.serial {
            return Ok(Box::new(Serial::new(path.clone(), line.baud, line.rtscts)));
        }
        if let Some(address) = &self.udp {
            return Ok(Box::new(Udp::new(address)));
        }
        let host = bluetooth::host(self.hci.as_deref())?;
        Ok(Box::new(Bluetooth::new(host, self.device())))
    }

    fn device(&self) -> Target {
        Target::parse(self.ble.as_deref().unwrap_or_default())
    }
}

/// Runs `bledfu send`.
///
/// # Errors
/// One sentence: why the new version does not run.
pub fn cmd_send(args: &SendArgs) -> Result<ExitCode> {
    let format = Format::of(args.json);
    let result = run(args, format);
    if let (Err(error), Format::Json) = (&result, format) {
        // A program that reads the output finds the result here. The error itself also goes to the standard error.
        let _ = format.fact(
            &json!({ "event": "error", "message": sentence(error) }),
            format_args!(""),
        );
    }
    result
}

fn run(args: &SendArgs, format: Format) -> Result<ExitCode> {
    let Some(path) = args.file.as_ref().filter(|_| !args.target.list) else {
        list(args, format)?;
        return Ok(ExitCode::SUCCESS);
    };
    let file = file::read(path, args.protocol)?;
    let other = args.report.other()?;
    let sending = Sending { args, file: &file };
    if args.target.all {
        return sending.send_to_all(format);
    }
    let mut transport = args.target.transport(&args.line)?;
    let mut show = Show::new(format, file.size());
    let sent = sending.send(&mut *transport, &mut show);
    show.end();
    transport.close();
    if args.report.is_wanted() {
        let facts = sent.as_ref().map(Clone::clone).unwrap_or_default();
        let title = format!("{} sent to a device", file.name);
        args.report.write(&show.page(title, facts), other.as_ref())?;
    }
    sent?;
    Ok(ExitCode::SUCCESS)
}

/// `--list`: the devices that advertise.
fn list(args: &SendArgs, format: Format) -> Result<()> {
    let mut host = bluetooth::host(args.target.hci.as_deref())?;
    let all = bluetooth::scan_all(&mut *host)?;
    for seen in &all {
        let offers = if seen.offers_updates() {
            "  offers updates"
        } else {
            ""
        };
        let rssi = seen.rssi.map_or(String::new(), |rssi| format!("{rssi} dBm"));
        format.fact(
            &json!({
                "event": "device", "address": seen.address, "name": seen.name, "rssi": seen.rssi,
                "offers_updates": seen.offers_updates(),
            }),
            format_args!("{seen:<48} {rssi:>8}{offers}"),
        )?;
    }
    format.text(format_args!("{} devices advertise", all.len()))?;
    Ok(())
}

/// Facts for the report: name and value.
type Facts = Vec<(String, String)>;

/// One update of one device.
struct Sending<'a> {
    args: &'a SendArgs,
    file: &'a File,
}

impl Sending<'_> {
    /// `--all`: one after the other; one that fails does not keep the others from theirs.
    fn send_to_all(&self, format: Format) -> Result<ExitCode> {
        let target = &self.args.target;
        let mut host = bluetooth::host(target.hci.as_deref())?;
        let found = bluetooth::find_all(&mut *host, &target.device())?;
        if found.is_empty() {
            bail!("no device that offers updates advertises");
        }
        let mut failed = Vec::new();
        for seen in &found {
            let mut transport = Bluetooth::new(host, Target::Address(seen.address.clone()));
            let mut show = Show::new(format, self.file.size());
            let sent = self.send(&mut transport, &mut show);
            show.end();
            transport.close();
            if let Err(error) = sent {
                let message = sentence(&error);
                show.event(
                    &json!({ "event": "failed", "device": seen.to_string(), "message": message }),
                    &format!("failed       {message}"),
                );
                failed.push(seen.to_string());
            }
            host = transport.into_central();
        }
        if !failed.is_empty() {
            bail!(
                "{} of {} devices failed: {}",
                failed.len(),
                found.len(),
                failed.join(", ")
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    fn send(&self, transport: &mut dyn Transport, show: &mut Show) -> Result<Facts> {
        let patience = Duration::from_secs(self.args.patience);
        let mut driver = Driver::new(transport, show, patience);
        let offer = driver.open()?;
        let protocol = self.choose(&offer)?;
        self.say_plan(&mut driver, &offer, protocol);
        if self.args.dry_run {
            return self.rehearse(&mut driver, &offer, protocol);
        }
        let (before, running, is_there) = self.version_before(&mut driver, &offer)?;
        if is_there {
            driver.show.event(
                &json!({ "event": "already" }),
                "already      the device runs this very image: nothing is sent",
            );
        } else {
            self.update_again_and_again(&mut driver, protocol, running)?;
        }
        let confirms = protocol == Protocol::Smp && !self.args.no_confirm;
        driver.show.await_device();
        let runs = proof::prove(&mut driver, self.file, &offer, confirms, !is_there)?;
        driver.show.end();
        let seconds = driver.show.seconds();
        let state = match runs.is_confirmed {
            Some(true) => ", confirmed",
            Some(false) => ", on trial: the next reset restores the old version unless it is confirmed",
            None => "",
        };
        let was = before
            .as_ref()
            .map_or(String::new(), |before| format!(" (before: {before})"));
        driver.show.event(
            &json!({
                "event": "runs", "version": runs.version, "confirmed": runs.is_confirmed, "proof": runs.how,
                "before": before, "seconds": seconds,
            }),
            &format!("runs         {}{state}{was}, as {} shows", runs.version, runs.how),
        );
        driver.show.event(
            &json!({ "event": "end", "seconds": seconds }),
            &format!("total        {seconds:.1} s"),
        );
        Ok(vec![
            ("device".to_owned(), offer.device),
            ("protocol".to_owned(), name_of(protocol).to_owned()),
            ("bytes".to_owned(), self.file.size().to_string()),
            (
                "before".to_owned(),
                before.unwrap_or_else(|| "not known".to_owned()),
            ),
            ("runs".to_owned(), format!("{}{state}", runs.version)),
        ])
    }

    /// Attempts until one succeeds, or fails for good.
    fn update_again_and_again(
        &self,
        driver: &mut Driver<'_>,
        protocol: Protocol,
        running: Option<[u8; 32]>,
    ) -> Result<()> {
        let mut left = self.args.retries;
        driver.show.begin();
        loop {
            match self.update(driver, protocol) {
                Ok(()) => {
                    driver.show.end();
                    return Ok(());
                }
                Err(error) if error.is_temporary() && left > 0 => {
                    left -= 1;
                    driver.show.again(&error);
                    driver.close();
                    std::thread::sleep(Duration::from_millis(RECONNECT_MS.into()));
                }
                // The device can only return a code; the file itself may show more.
                Err(error) => {
                    return Err(match self.file.problem(running) {
                        Some(problem) => anyhow!("{error}: {problem}"),
                        None => error.into(),
                    });
                }
            }
        }
    }

    /// The protocol for this device and this file.
    fn choose(&self, offer: &Offer) -> Result<Protocol> {
        if let Some(protocol) = self.args.protocol {
            if !offer.protocols.contains(&protocol) {
                let names: Vec<&str> = offer
                    .protocols
                    .iter()
                    .map(|protocol| name_of(*protocol))
                    .collect();
                bail!(
                    "the device offers {}, not {}: leave --protocol out",
                    names.join(" and "),
                    name_of(protocol)
                );
            }
            return Ok(protocol);
        }
        let fits = |protocol: &&Protocol| self.file.check((**protocol).into()).is_ok();
        match (offer.protocols.iter().find(fits), offer.protocols.first()) {
            (Some(protocol), _) => Ok(*protocol),
            (None, Some(first)) => {
                self.file.check((*first).into())?;
                Ok(*first)
            }
            (None, None) => bail!("the device offers neither Secure DFU nor SMP"),
        }
    }

    fn say_plan(&self, driver: &mut Driver<'_>, offer: &Offer, protocol: Protocol) {
        let (file, size, version) = (&self.file.name, self.file.size(), self.file.version());
        driver.show.event(
            &json!({
                "event": "plan", "device": offer.device, "protocol": name_of(protocol), "file": file, "bytes": size,
                "version": self.file.image().map(|image| &image.version),
            }),
            &format!("device       {}, {}", offer.device, name_of(protocol)),
        );
        driver
            .show
            .line(&format!("file         {file}: {size} bytes, {version}"));
    }

    /// The running version, where the device can be asked without a change, the hash of its image, and whether it is the file's.
    fn version_before(
        &self,
        driver: &mut Driver<'_>,
        offer: &Offer,
    ) -> Result<(Option<String>, Option<[u8; 32]>, bool)> {
        if !offer.protocols.contains(&Protocol::Smp) {
            return Ok((driver.transport.told_version(), None, false));
        }
        let payload = driver.choose(Protocol::Smp)?;
        // An old device may refuse the list, and still take an update.
        let images = Asker::new(driver.transport, payload).list().unwrap_or_default();
        let is_ours = |now: &Image| {
            self.file
                .image()
                .is_some_and(|image| image.is_listed_as(now.hash))
        };
        Ok(match running(&images) {
            Some(now) => (Some(now.version.clone()), now.hash, is_ours(now)),
            None => (None, None, false),
        })
    }

    /// One attempt: everything up to the reset.
    fn update(&self, driver: &mut Driver<'_>, protocol: Protocol) -> Result<(), SendError> {
        if driver.protocol != Some(protocol) {
            // The version was asked over the other one, on the same link.
            driver.choose(protocol)?;
        }
        match (protocol, self.file.parts(), self.file.smp_image()) {
            (Protocol::SecureDfu, Some(parts), _) => {
                let settings = settings::secure_dfu(self.args.prn);
                let mut client = secure_dfu::Client::new(parts, settings);
                driver.run(&mut client, &|_| false)?;
            }
            (Protocol::Smp, _, Some(image)) => {
                let limits = driver.transport.smp_limits();
                let (mut request, mut answer) = (vec![0; limits.frame_size], vec![0; ANSWER_SIZE]);
                let buffers = smp::Buffers {
                    request: &mut request,
                    answer: &mut answer,
                };
                let settings = settings::smp(self.args.window.unwrap_or(limits.window), limits.frame_margin);
                let mut client = smp::Client::new(image, settings, buffers);
                driver.run(&mut client, &|_| false)?;
            }
            _ => unreachable!("the file was checked for this protocol"),
        }
        Ok(())
    }

    /// `--dry-run`: what would be done, without a change on the device.
    fn rehearse(&self, driver: &mut Driver<'_>, offer: &Offer, protocol: Protocol) -> Result<Facts> {
        let version = self.file.version();
        if let (Some(before), ..) = self.version_before(driver, offer)? {
            let text = format!("now          {before} runs");
            driver
                .show
                .event(&json!({ "event": "now", "version": before }), &text);
        }
        if protocol == Protocol::SecureDfu && !offer.enters_bootloader {
            driver.choose(protocol)?;
            if let Some(held) = held_bytes(driver.transport)? {
                let text = format!("held         {held} bytes of an update, this one or another");
                driver
                    .show
                    .event(&json!({ "event": "held", "bytes": held }), &text);
            }
        }
        driver.show.event(
            &json!({ "event": "dry_run" }),
            &format!("dry run      {version} would be sent; nothing was changed"),
        );
        Ok(Vec::new())
    }
}

/// Bytes of an image that a device holds, by its own account.
fn held_bytes(transport: &mut dyn Transport) -> Result<Option<u32>> {
    let select = Request::Select {
        object: ObjectType::Data,
    };
    transport.write(Characteristic::ControlPoint, select.encode().as_bytes())?;
    let answer = transport.receive(Duration::from_millis(DFU_ANSWER_MS.into()))?;
    Ok(match answer.as_deref().map(Reply::decode) {
        Some(Ok(Reply::Selected { offset, .. })) => Some(offset),
        _ => None,
    })
}

/// The name of a protocol for people.
pub fn name_of(protocol: Protocol) -> &'static str {
    bledfu_sender::Protocol::from(protocol).name()
}

/// Whether a run has shown that the device would have to receive the image.
fn is_done(ended: Ended) -> bool {
    ended == Ended::Done
}
