// SPDX-License-Identifier: Apache-2.0
//! `--hci`: a Bluetooth host in this program (the crate `trouble-host`) in front of a controller: behind a TCP port, as emulators
//! have it, or on a serial port, as Zephyr's `hci_uart` sample makes one of a board. Both speak H4.
//!
//! The host runs in a thread of its own; calls are commands to it, and what happens comes back as events.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{bail, Result};
use bt_hci::controller::ExternalController;
use bt_hci::param::{AddrKind, LeAdvReportsIter, LeExtAdvReportsIter};
use bt_hci_serial::SerialTransport;
use embassy_futures::select::{select, Either};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embedded_io_adapters::tokio_1::FromTokio;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use trouble_host::advertise::AdStructure;
use trouble_host::prelude::*;

use super::super::transport::LinkError;
use super::central::{self, Central, Seen};

/// How long a connection attempt takes at most.
const CONNECT: Duration = Duration::from_secs(8);
/// Longest silence of the host's thread before a call gives up: more than any request of ATT may take.
const CALL: Duration = Duration::from_secs(40);
/// How often a scan looks whether it has found enough.
const SCAN_STEP: Duration = Duration::from_millis(20);
/// Services of a device that are looked at.
const MAX_SERVICES: usize = 16;
/// Characteristics of a service that are looked at.
const MAX_CHARACTERISTICS: usize = 16;
/// Static random address of this host: the two highest bits are ones.
const ADDRESS: [u8; 6] = [0x02, 0xFD, 0x1E, 0xB0, 0xED, 0xC1];
/// Rate of a controller on a serial port.
const BAUD: u32 = 1_000_000;

type Call<T> = Sender<Result<T, LinkError>>;

enum Command {
    Scan {
        patience: Duration,
        /// Everything seen so far, again and again; nobody listens any more: enough.
        seen: Sender<Vec<Seen>>,
        done: Call<()>,
    },
    Connect {
        address: String,
        /// The characteristics, and the MTU.
        done: Call<(Vec<central::Uuid>, usize)>,
    },
    Subscribe(central::Uuid, Call<()>),
    Write {
        to: central::Uuid,
        bytes: Vec<u8>,
        with_response: bool,
        done: Call<()>,
    },
    Read(central::Uuid, Call<Vec<u8>>),
    Disconnect(Call<()>),
}

enum Event {
    Received(central::Uuid, Vec<u8>),
    Lost(String),
}

/// Where the controller is.
#[derive(Clone, Debug)]
enum Place {
    Tcp(String),
    Serial(String),
}

/// A host in front of a controller.
pub struct Hci {
    place: Place,
    host: Option<Host>,
    mtu: usize,
}

struct Host {
    commands: UnboundedSender<Command>,
    events: Receiver<Event>,
}

impl Hci {
    /// `tcp:HOST:PORT`, or a serial port.
    ///
    /// # Errors
    /// A sentence about the notation.
    pub fn new(controller: &str) -> Result<Self> {
        let place = match controller.split_once(':') {
            Some(("tcp", address)) if address.contains(':') => Place::Tcp(address.to_owned()),
            Some(("tcp", _)) => bail!("--hci takes tcp:HOST:PORT or a serial port, not {controller:?}"),
            _ => Place::Serial(controller.to_owned()),
        };
        Ok(Self {
            place,
            host: None,
            mtu: 23,
        })
    }

    fn host(&mut self) -> Result<&Host, LinkError> {
        if self.host.is_none() {
            self.host = Some(start(&self.place)?);
        }
        self.host.as_ref().ok_or_else(gone)
    }

    fn call<T>(&mut self, command: impl FnOnce(Call<T>) -> Command) -> Result<T, LinkError> {
        let (done, answer) = channel();
        let asked = self.host()?.commands.send(command(done));
        let result = asked
            .map_err(|_| gone())
            .and_then(|()| answer.recv_timeout(CALL).map_err(|_| gone())?);
        if result.as_ref().is_err_and(is_gone) {
            self.host = None;
        }
        result
    }
}

const GONE: &str = "the Bluetooth controller is gone";

fn gone() -> LinkError {
    LinkError::Lost(GONE.to_owned())
}

fn is_gone(error: &LinkError) -> bool {
    matches!(error, LinkError::Lost(reason) if reason == GONE)
}

/// Starts the host's thread.
fn start(place: &Place) -> Result<Host, LinkError> {
    let (commands, inbox) = unbounded_channel();
    let (outbox, events) = channel();
    let (ready, opened) = channel();
    let place = place.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match place {
                Place::Tcp(address) => match open_tcp(&address).await {
                    Ok((reader, writer)) => {
                        let _ = ready.send(Ok(()));
                        run(reader, writer, inbox, outbox).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                },
                Place::Serial(path) => match open_serial(&path) {
                    Ok(port) => {
                        let _ = ready.send(Ok(()));
                        let (reader, writer) = tokio::io::split(port);
                        run(reader, writer, inbox, outbox).await;
                    }
                    Err(error) => drop(ready.send(Err(error))),
                },
            }
        });
    });
    match opened.recv() {
        Ok(Ok(())) => Ok(Host { commands, events }),
        Ok(Err(error)) => Err(LinkError::NotFound(format!(
            "cannot open the Bluetooth controller: {error}"
        ))),
        Err(_) => Err(gone()),
    }
}

async fn open_tcp(
    address: &str,
) -> std::io::Result<(tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf)> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream.into_split())
}

fn open_serial(path: &str) -> std::io::Result<serial2_tokio::SerialPort> {
    serial2_tokio::SerialPort::open(path, |mut settings: serial2_tokio::Settings| {
        settings.set_raw();
        settings.set_baud_rate(BAUD)?;
        settings.set_flow_control(serial2_tokio::FlowControl::RtsCts);
        Ok(settings)
    })
}

/// What was seen, by address.
#[derive(Default)]
struct Sights(RefCell<BTreeMap<String, (Address, Seen)>>);

impl Sights {
    fn note(&self, kind: AddrKind, addr: BdAddr, rssi: i8, data: &[u8]) {
        let address = shown(addr);
        let mut seen = Seen {
            address: address.clone(),
            rssi: Some(rssi.into()),
            ..Seen::default()
        };
        for structure in AdStructure::decode(data).flatten() {
            match structure {
                AdStructure::CompleteLocalName(name) | AdStructure::ShortenedLocalName(name) => {
                    seen.name = Some(String::from_utf8_lossy(name).into_owned());
                }
                AdStructure::CompleteServiceUuids16(uuids) | AdStructure::IncompleteServiceUuids16(uuids) => {
                    let short = |uuid: &[u8; 2]| central::Uuid::short(u16::from_le_bytes(*uuid));
                    seen.services.extend(uuids.iter().map(short));
                }
                AdStructure::CompleteServiceUuids128(uuids)
                | AdStructure::IncompleteServiceUuids128(uuids) => {
                    let long = |uuid: &[u8; 16]| central::Uuid(u128::from_le_bytes(*uuid));
                    seen.services.extend(uuids.iter().map(long));
                }
                _ => {}
            }
        }
        self.0
            .borrow_mut()
            .entry(address)
            .and_modify(|(_, old)| old.merge(seen.clone()))
            .or_insert_with(|| (Address { kind, addr }, seen));
    }

    fn all(&self) -> Vec<Seen> {
        self.0.borrow().values().map(|(_, seen)| seen.clone()).collect()
    }

    fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}

impl EventHandler for Sights {
    fn on_adv_reports(&self, reports: LeAdvReportsIter) {
        for report in reports.flatten() {
            self.note(report.addr_kind, report.addr, report.rssi, report.data);
        }
    }

    fn on_ext_adv_reports(&self, reports: LeExtAdvReportsIter) {
        for report in reports.flatten() {
            self.note(report.addr_kind, report.addr, report.rssi, report.data);
        }
    }
}

fn shown(address: BdAddr) -> String {
    let bytes = address.raw().iter().rev();
    bytes
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

type Controller<R, W> = ExternalController<SerialTransport<NoopRawMutex, FromTokio<R>, FromTokio<W>>, 10>;

/// The host, until its controller or its owner is gone.
async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: R,
    writer: W,
    mut inbox: UnboundedReceiver<Command>,
    outbox: Sender<Event>,
) {
    let transport =
        SerialTransport::<NoopRawMutex, _, _>::new(FromTokio::new(reader), FromTokio::new(writer));
    let controller: Controller<R, W> = ExternalController::new(transport);
    let mut resources: HostResources<DefaultPacketPool, 1, 3> = HostResources::new();
    let stack = trouble_host::new(controller, &mut resources)
        .set_random_address(Address::random(ADDRESS))
        .build();
    let sights = Sights::default();
    let mut runner = stack.runner();
    let work = async {
        while let Some(command) = inbox.recv().await {
            match command {
                Command::Scan { patience, seen, done } => {
                    let mut central = stack.central();
                    let result = scan(&mut central, &sights, patience, &seen).await;
                    let _ = done.send(result);
                }
                Command::Connect { address, done } => {
                    let Some(peer) = sights.0.borrow().get(&address).map(|(peer, _)| *peer) else {
                        let _ = done.send(Err(LinkError::NotFound(format!("{address} does not advertise"))));
                        continue;
                    };
                    let mut central = stack.central();
                    let config = ConnectConfig {
                        scan_config: ScanConfig {
                            filter_accept_list: &[peer],
                            interval: milliseconds(60),
                            window: milliseconds(60),
                            ..ScanConfig::default()
                        },
                        connect_params: parameters(),
                    };
                    let limit = embassy_time::Duration::from_millis(CONNECT.as_millis() as u64);
                    let connected = embassy_time::with_timeout(limit, central.connect(&config)).await;
                    let connection = match connected {
                        Ok(Ok(connection)) => connection,
                        Ok(Err(error)) => {
                            let _ = done.send(Err(LinkError::NotFound(format!(
                                "no connection to {address}: {error:?}"
                            ))));
                            continue;
                        }
                        Err(_) => {
                            let _ =
                                done.send(Err(LinkError::NotFound(format!("no connection to {address}"))));
                            continue;
                        }
                    };
                    let reason = match GattClient::<_, _, MAX_SERVICES>::new(&stack, &connection).await {
                        Ok(client) => {
                            let carried = select(
                                client.task(),
                                carry(&client, &connection, &mut inbox, &outbox, done),
                            )
                            .await;
                            match carried {
                                Either::First(_) => {
                                    Some("the device closed it, or is out of reach".to_owned())
                                }
                                Either::Second(()) => None,
                            }
                        }
                        Err(error) => {
                            let _ = done.send(Err(LinkError::Lost(format!("{error:?}"))));
                            None
                        }
                    };
                    connection.disconnect();
                    // The controller must have heard of it before the next connection.
                    let closed = async {
                        while connection.is_connected() {
                            embassy_time::Timer::after(milliseconds(10)).await;
                        }
                    };
                    let _ = embassy_time::with_timeout(milliseconds(2_000), closed).await;
                    if let Some(reason) = reason {
                        let _ = outbox.send(Event::Lost(reason));
                    }
                }
                Command::Disconnect(done) => drop(done.send(Ok(()))),
                Command::Subscribe(_, done) | Command::Write { done, .. } => drop(done.send(Err(closed()))),
                Command::Read(_, done) => drop(done.send(Err(closed()))),
            }
        }
    };
    if let Either::First(ended) = select(runner.run_with_handler(&sights), work).await {
        log::info!("the Bluetooth host has ended: {ended:?}");
        let _ = outbox.send(Event::Lost(GONE.to_owned()));
    }
}

fn closed() -> LinkError {
    LinkError::Lost("it was closed".to_owned())
}

const fn milliseconds(ms: u64) -> embassy_time::Duration {
    embassy_time::Duration::from_millis(ms)
}

/// As a phone asks for during an update.
fn parameters() -> RequestedConnParams {
    RequestedConnParams {
        min_connection_interval: embassy_time::Duration::from_micros(7_500),
        max_connection_interval: milliseconds(15),
        max_latency: 0,
        supervision_timeout: milliseconds(5_000),
        ..RequestedConnParams::default()
    }
}

async fn scan<C>(
    central: &mut trouble_host::central::Central<'_, C, DefaultPacketPool>,
    sights: &Sights,
    patience: Duration,
    seen: &Sender<Vec<Seen>>,
) -> Result<(), LinkError>
where
    C: trouble_host::Controller
        + bt_hci::controller::ControllerCmdSync<bt_hci::cmd::le::LeSetScanParams>
        + bt_hci::controller::ControllerCmdSync<bt_hci::cmd::le::LeSetScanEnable>
        + bt_hci::controller::ControllerCmdSync<bt_hci::cmd::le::LeClearFilterAcceptList>
        + bt_hci::controller::ControllerCmdSync<bt_hci::cmd::le::LeAddDeviceToFilterAcceptList>,
{
    sights.clear();
    let config = ScanConfig {
        interval: milliseconds(60),
        window: milliseconds(60),
        ..ScanConfig::default()
    };
    let mut scanner = Scanner::new(central);
    let session = scanner
        .scan(&config)
        .await
        .map_err(|error| LinkError::NotFound(format!("the controller does not scan: {error:?}")))?;
    let until = Instant::now() + patience;
    while Instant::now() < until {
        embassy_time::Timer::after(milliseconds(SCAN_STEP.as_millis() as u64)).await;
        if seen.send(sights.all()).is_err() {
            break;
        }
    }
    session.stop().await;
    Ok(())
}

/// A connection, until a command ends it. (That it is lost, `client.task()` tells.)
async fn carry<C: trouble_host::Controller>(
    client: &GattClient<'_, C, DefaultPacketPool, MAX_SERVICES>,
    connection: &Connection<'_, DefaultPacketPool>,
    inbox: &mut UnboundedReceiver<Command>,
    outbox: &Sender<Event>,
    done: Call<(Vec<central::Uuid>, usize)>,
) {
    let found = match discover(client).await {
        Ok(found) => found,
        Err(error) => return drop(done.send(Err(LinkError::Lost(format!("{error:?}"))))),
    };
    let mut listener = match client.listen_all() {
        Ok(listener) => listener,
        Err(error) => return drop(done.send(Err(LinkError::Lost(format!("{error:?}"))))),
    };
    let uuids = found.iter().map(|(uuid, _)| *uuid).collect();
    let _ = done.send(Ok((uuids, connection.att_mtu().into())));
    let by_uuid = |uuid| found.iter().find(|(found, _)| *found == uuid).map(|(_, at)| at);
    let missing =
        |uuid: central::Uuid| LinkError::Unusable(format!("the device has no characteristic {uuid:?}"));
    loop {
        // Answers that are here already come before the next write.
        let command = match select(listener.next(), inbox.recv()).await {
            Either::First(value) => {
                if value.is_indication() {
                    let _ = client.confirm_indication().await;
                }
                let from = found.iter().find(|(_, at)| at.handle == value.handle());
                if let Some((uuid, _)) = from {
                    let _ = outbox.send(Event::Received(*uuid, value.as_ref().to_vec()));
                }
                continue;
            }
            Either::Second(Some(command)) => command,
            Either::Second(None) => return,
        };
        match command {
            Command::Subscribe(uuid, done) => {
                let Some(at) = by_uuid(uuid) else {
                    let _ = done.send(Err(missing(uuid)));
                    continue;
                };
                let value: [u8; 2] = match at.props.to_raw() & CharacteristicProp::Notify as u8 != 0 {
                    true => [1, 0],
                    false => [2, 0],
                };
                let result = match at.cccd_handle {
                    Some(handle) => client.write_handle(handle, &value).await.map_err(lost),
                    None => Err(missing(uuid)),
                };
                let _ = done.send(result);
            }
            Command::Write {
                to,
                bytes,
                with_response,
                done,
            } => {
                let result = match (by_uuid(to), with_response) {
                    (Some(at), true) => client.write_handle(at.handle, &bytes).await.map_err(lost),
                    (Some(at), false) => client
                        .write_handle_without_response(at.handle, &bytes)
                        .await
                        .map_err(lost),
                    (None, _) => Err(missing(to)),
                };
                let _ = done.send(result);
            }
            Command::Read(uuid, done) => {
                let mut value = [0; 64];
                let result = match by_uuid(uuid) {
                    Some(at) => client.read_handle(at.handle, &mut value).await.map_err(lost),
                    None => Err(missing(uuid)),
                };
                let _ = done.send(result.map(|length| value[..length].to_vec()));
            }
            Command::Disconnect(done) => return drop(done.send(Ok(()))),
            Command::Scan { done, .. } => drop(done.send(Err(closed()))),
            Command::Connect { done, .. } => drop(done.send(Err(closed()))),
        }
    }
}

/// An error of ATT does not pass by itself; everything else is the link's.
fn lost<E: core::fmt::Debug>(error: BleHostError<E>) -> LinkError {
    match error {
        BleHostError::BleHost(Error::Att(code)) => {
            LinkError::Unusable(format!("the device refuses a request of ATT: {code:?}"))
        }
        other => LinkError::Lost(format!("{other:?}")),
    }
}

type Found = Vec<(central::Uuid, Characteristic<[u8]>)>;

async fn discover<C: trouble_host::Controller>(
    client: &GattClient<'_, C, DefaultPacketPool, MAX_SERVICES>,
) -> Result<Found, BleHostError<C::Error>> {
    let mut found = Found::new();
    for service in client.services().await? {
        for at in client.characteristics::<MAX_CHARACTERISTICS>(&service).await? {
            let uuid = match at.uuid.as_raw() {
                [low, high] => central::Uuid::short(u16::from_le_bytes([*low, *high])),
                long => central::Uuid(long.try_into().map_or(0, u128::from_le_bytes)),
            };
            found.push((uuid, at));
        }
    }
    Ok(found)
}

impl Central for Hci {
    fn scan(
        &mut self,
        patience: Duration,
        is_enough: &mut dyn FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, LinkError> {
        let (seen, sights) = channel();
        let (done, ended) = channel();
        let command = Command::Scan { patience, seen, done };
        let mut last = Vec::new();
        if self.host()?.commands.send(command).is_err() {
            self.host = None;
            return Err(gone());
        }
        while let Ok(all) = sights.recv() {
            last = all;
            if is_enough(&last) {
                break;
            }
        }
        drop(sights);
        let result = ended
            .recv_timeout(CALL)
            .map_err(|_| gone())
            .and_then(|result| result);
        if result.as_ref().is_err_and(is_gone) {
            self.host = None;
        }
        result.map(|()| last)
    }

    fn connect(&mut self, address: &str) -> Result<Vec<central::Uuid>, LinkError> {
        let address = address.to_owned();
        // What an earlier connection left.
        if let Some(host) = &self.host {
            while host.events.try_recv().is_ok() {}
        }
        let (characteristics, mtu) = self.call(|done| Command::Connect { address, done })?;
        self.mtu = mtu;
        Ok(characteristics)
    }

    fn mtu(&self) -> usize {
        self.mtu
    }

    fn subscribe(&mut self, characteristic: central::Uuid) -> Result<(), LinkError> {
        self.call(|done| Command::Subscribe(characteristic, done))
    }

    fn write(&mut self, to: central::Uuid, bytes: &[u8], with_response: bool) -> Result<(), LinkError> {
        let bytes = bytes.to_vec();
        self.call(|done| Command::Write {
            to,
            bytes,
            with_response,
            done,
        })
    }

    fn read(&mut self, characteristic: central::Uuid) -> Result<Vec<u8>, LinkError> {
        self.call(|done| Command::Read(characteristic, done))
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(central::Uuid, Vec<u8>)>, LinkError> {
        let Some(host) = &self.host else {
            return Err(closed());
        };
        match host.events.recv_timeout(patience) {
            Ok(Event::Received(from, bytes)) => Ok(Some((from, bytes))),
            Ok(Event::Lost(reason)) => {
                let error = LinkError::Lost(reason);
                if is_gone(&error) {
                    self.host = None;
                }
                Err(error)
            }
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                self.host = None;
                Err(gone())
            }
        }
    }

    fn disconnect(&mut self) {
        if self.host.is_some() {
            // If the host is gone, so is the connection.
            let _ = self.call(Command::Disconnect);
        }
    }
}
