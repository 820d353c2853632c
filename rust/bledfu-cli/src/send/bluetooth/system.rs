// SPDX-License-Identifier: Apache-2.0
//! `--ble`: the computer's own Bluetooth through the crate `btleplug`: BlueZ on Linux, Core Bluetooth on macOS, WinRT on
//! Windows.

use std::collections::BTreeMap;
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use btleplug::api::{
    Central as _, CentralEvent, Characteristic, Manager as _, Peripheral as _, ScanFilter, WriteType,
};
use btleplug::platform::{Adapter, Manager, Peripheral};
use futures::StreamExt;
use tokio::runtime::Runtime;

use super::super::transport::LinkError;
use super::central::{Central, Seen, Uuid};

/// How long a connection attempt takes at most.
const CONNECT: Duration = Duration::from_secs(15);
/// How long a request to the device, or to the system, takes at most.
const REQUEST: Duration = Duration::from_secs(30);
/// How often a scan looks what was seen.
const SCAN_STEP: Duration = Duration::from_millis(100);

enum Event {
    Received(Uuid, Vec<u8>),
    Lost,
}

/// The computer's own Bluetooth.
pub struct System {
    runtime: Runtime,
    adapter: Adapter,
    /// What was seen, by address.
    seen: BTreeMap<String, Peripheral>,
    link: Option<Link>,
}

struct Link {
    peripheral: Peripheral,
    characteristics: Vec<Characteristic>,
    events: Receiver<Event>,
}

impl System {
    /// The first adapter of the system.
    ///
    /// # Errors
    /// A sentence.
    pub fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start a thread for Bluetooth")?;
        let adapter = runtime.block_on(async {
            let manager = Manager::new().await.context(
                "the system's Bluetooth does not answer (on Linux this is bluetoothd; --hci does without it)",
            )?;
            let mut adapters = manager
                .adapters()
                .await
                .context("the system does not list its Bluetooth adapters")?;
            match adapters.is_empty() {
                true => anyhow::bail!(
                    "the system has no Bluetooth adapter; one behind a port can be used with --hci"
                ),
                false => Ok(adapters.remove(0)),
            }
        })?;
        Ok(Self {
            runtime,
            adapter,
            seen: BTreeMap::new(),
            link: None,
        })
    }

    fn link(&self) -> Result<&Link, LinkError> {
        self.link
            .as_ref()
            .ok_or_else(|| LinkError::Lost("it was closed".to_owned()))
    }

    fn characteristic(&self, uuid: Uuid) -> Result<(&Peripheral, &Characteristic), LinkError> {
        let link = self.link()?;
        let found = link.characteristics.iter().find(|at| at.uuid.as_u128() == uuid.0);
        match found {
            Some(found) => Ok((&link.peripheral, found)),
            None => Err(LinkError::Unusable(format!(
                "the device has no characteristic {uuid:?}"
            ))),
        }
    }

    /// Waits for the system, with a limit.
    fn wait<T>(
        &self,
        limit: Duration,
        work: impl std::future::Future<Output = btleplug::Result<T>>,
    ) -> Result<T, LinkError> {
        let result = self
            .runtime
            .block_on(async { tokio::time::timeout(limit, work).await });
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(of_system(&error)),
            Err(_) => Err(LinkError::Lost(
                "the system's Bluetooth does not answer".to_owned(),
            )),
        }
    }
}

/// What does not pass by itself, and what may.
fn of_system(error: &btleplug::Error) -> LinkError {
    let text = error.to_string();
    match error {
        btleplug::Error::PermissionDenied | btleplug::Error::NotSupported(_) => LinkError::Unusable(text),
        // BlueZ hands the code of ATT on only as text.
        _ if text.contains("ATT error") => {
            LinkError::Unusable(format!("the device refuses a request: {text}"))
        }
        _ => LinkError::Lost(text),
    }
}

/// Its address; macOS hides it, and has an identifier instead.
fn address_of(peripheral: &Peripheral) -> String {
    let address = peripheral.address();
    match address.into_inner() {
        [0, 0, 0, 0, 0, 0] => peripheral.id().to_string(),
        _ => address.to_string().to_uppercase(),
    }
}

impl Central for System {
    fn scan(
        &mut self,
        patience: Duration,
        is_enough: &mut dyn FnMut(&[Seen]) -> bool,
    ) -> Result<Vec<Seen>, LinkError> {
        self.wait(REQUEST, self.adapter.start_scan(ScanFilter::default()))?;
        let until = Instant::now() + patience;
        let mut seen = Vec::new();
        let mut result = Ok(());
        loop {
            let found = self.wait(REQUEST, async {
                let mut found = Vec::new();
                for peripheral in self.adapter.peripherals().await? {
                    // The system also knows devices from earlier days: those have no signal.
                    let properties = peripheral
                        .properties()
                        .await?
                        .filter(|properties| properties.rssi.is_some());
                    if let Some(properties) = properties {
                        found.push((peripheral, properties));
                    }
                }
                Ok(found)
            });
            match found {
                Ok(found) => {
                    seen.clear();
                    for (peripheral, properties) in found {
                        let address = address_of(&peripheral);
                        seen.push(Seen {
                            address: address.clone(),
                            name: properties.advertisement_name.or(properties.local_name),
                            rssi: properties.rssi,
                            services: properties
                                .services
                                .iter()
                                .map(|uuid| Uuid(uuid.as_u128()))
                                .collect(),
                        });
                        self.seen.insert(address, peripheral);
                    }
                }
                Err(error) => result = Err(error),
            }
            if result.is_err() || is_enough(&seen) || Instant::now() >= until {
                break;
            }
            std::thread::sleep(SCAN_STEP);
        }
        // A scan that another program has stopped is no failure.
        let _ = self.wait(REQUEST, self.adapter.stop_scan());
        result.map(|()| seen)
    }

    fn connect(&mut self, address: &str) -> Result<Vec<Uuid>, LinkError> {
        let Some(peripheral) = self.seen.get(address).cloned() else {
            return Err(LinkError::NotFound(format!("{address} does not advertise")));
        };
        let (sender, events) = channel();
        let connected = self.wait(CONNECT, async {
            let happens = self.adapter.events().await?;
            peripheral.connect().await?;
            peripheral.discover_services().await?;
            let values = peripheral.notifications().await?;
            let (id, lost) = (peripheral.id(), sender.clone());
            self.runtime.spawn(tell_loss(happens, id, lost));
            self.runtime.spawn(tell_values(values, sender));
            Ok(())
        });
        if let Err(error) = connected {
            let _ = self.wait(REQUEST, peripheral.disconnect());
            return Err(LinkError::NotFound(format!(
                "no connection to {address}: {error}"
            )));
        }
        let characteristics: Vec<Characteristic> = peripheral.characteristics().into_iter().collect();
        let uuids = characteristics.iter().map(|at| Uuid(at.uuid.as_u128())).collect();
        self.link = Some(Link {
            peripheral,
            characteristics,
            events,
        });
        Ok(uuids)
    }

    fn mtu(&self) -> usize {
        self.link.as_ref().map_or(23, |link| link.peripheral.mtu().into())
    }

    fn subscribe(&mut self, characteristic: Uuid) -> Result<(), LinkError> {
        let (peripheral, at) = self.characteristic(characteristic)?;
        self.wait(REQUEST, peripheral.subscribe(at))
    }

    fn write(&mut self, to: Uuid, bytes: &[u8], with_response: bool) -> Result<(), LinkError> {
        let kind = match with_response {
            true => WriteType::WithResponse,
            false => WriteType::WithoutResponse,
        };
        let (peripheral, at) = self.characteristic(to)?;
        self.wait(REQUEST, peripheral.write(at, bytes, kind))
    }

    fn read(&mut self, characteristic: Uuid) -> Result<Vec<u8>, LinkError> {
        let (peripheral, at) = self.characteristic(characteristic)?;
        self.wait(REQUEST, peripheral.read(at))
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<(Uuid, Vec<u8>)>, LinkError> {
        let lost = || LinkError::Lost("the device closed it, or is out of reach".to_owned());
        match self.link()?.events.recv_timeout(patience) {
            Ok(Event::Received(from, value)) => Ok(Some((from, value))),
            Ok(Event::Lost) | Err(RecvTimeoutError::Disconnected) => Err(lost()),
            Err(RecvTimeoutError::Timeout) => Ok(None),
        }
    }

    fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            // It may be gone already.
            let _ = self.wait(REQUEST, link.peripheral.disconnect());
        }
    }
}

async fn tell_loss(
    mut happens: impl futures::Stream<Item = CentralEvent> + Unpin,
    id: btleplug::platform::PeripheralId,
    sender: Sender<Event>,
) {
    while let Some(event) = happens.next().await {
        if matches!(&event, CentralEvent::DeviceDisconnected(lost) if *lost == id) {
            return drop(sender.send(Event::Lost));
        }
    }
}

async fn tell_values(
    mut values: impl futures::Stream<Item = btleplug::api::ValueNotification> + Unpin,
    sender: Sender<Event>,
) {
    while let Some(value) = values.next().await {
        if sender
            .send(Event::Received(Uuid(value.uuid.as_u128()), value.value))
            .is_err()
        {
            return;
        }
    }
}
