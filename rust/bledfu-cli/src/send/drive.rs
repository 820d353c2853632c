// SPDX-License-Identifier: Apache-2.0
//! Runs a client of `bledfu-client` on a transport: it performs the actions, and reports what happens.

use std::time::{Duration, Instant};

use bledfu_client::{secure_dfu, smp, Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_sender::settings;

use super::show::Show;
use super::transport::{LinkError, Offer, Transport};
use crate::update::Protocol;

/// Pause between two attempts to reach a device.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a device may take to close the link when all is done.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait in one call: the client is asked again after it.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long the last bytes may be on their way where nobody closes the link.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// Why an update was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The transport.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The device was not found, again and again.
    #[error("{reason} (tried for {seconds} s)")]
    Away {
        /// The last attempt's.
        reason: LinkError,
        /// How long it was tried.
        seconds: u64,
    },
    /// Secure DFU.
    #[error(transparent)]
    SecureDfu(#[from] secure_dfu::Error),
    /// SMP.
    #[error(transparent)]
    Smp(#[from] smp::Error),
}

impl SendError {
    /// Whether a new attempt may go on where this one stopped.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Link(error) => error.is_temporary(),
            Self::Away { .. } => false,
            Self::SecureDfu(error) => settings::is_temporary_dfu(error),
            Self::Smp(error) => settings::is_temporary_smp(error),
        }
    }
}

/// How a client's run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client is done.
    Done,
    /// The caller ended it.
    Stopped,
}

/// A transport with its clock.
pub struct Driver<'d> {
    /// The way to the device.
    pub transport: &'d mut dyn Transport,
    /// Who is told.
    pub show: &'d mut Show,
    /// The chosen protocol; before that, the first connection asks for all.
    pub protocol: Option<Protocol>,
    /// How long a device may be out of reach: it swaps images meanwhile.
    pub patience: Duration,
    clock: Instant,
    /// What a write carries on the open link that no client knows of yet.
    opened: Option<usize>,
}

impl<'d> Driver<'d> {
    /// A driver without a link.
    pub fn new(transport: &'d mut dyn Transport, show: &'d mut Show, patience: Duration) -> Self {
        Self {
            transport,
            show,
            protocol: None,
            patience,
            clock: Instant::now(),
            opened: None,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Opens the link, as often as the patience allows.
    ///
    /// # Errors
    /// [`SendError::Away`], [`SendError::Link`].
    pub fn open(&mut self) -> Result<Offer, SendError> {
        let started = Instant::now();
        loop {
            match self.transport.open(self.protocol) {
                Ok(offer) => return Ok(offer),
                Err(error) if !error.is_temporary() => return Err(error.into()),
                Err(error) if started.elapsed() >= self.patience => {
                    return Err(SendError::Away {
                        reason: error,
                        seconds: self.patience.as_secs(),
                    });
                }
                Err(error) => {
                    log::info!("{error}");
                    std::thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Chooses the protocol on the open link; the next client begins there.
    ///
    /// # Errors
    /// [`SendError::Link`].
    pub fn choose(&mut self, protocol: Protocol) -> Result<usize, SendError> {
        self.protocol = Some(protocol);
        let payload = self.transport.choose(protocol)?;
        self.opened = Some(payload);
        Ok(payload)
    }

    /// Opens the link and chooses the protocol, as often as the patience allows.
    ///
    /// # Errors
    /// [`SendError::Away`], [`SendError::Link`].
    pub fn connect(&mut self) -> Result<usize, SendError> {
        let started = Instant::now();
        if let Some(payload) = self.opened {
            return Ok(payload);
        }
        loop {
            let offer = self.open()?;
            let protocol = self.protocol.or(offer.protocols.first().copied());
            let chosen =
                protocol.ok_or_else(|| SendError::Link(LinkError::Unusable("no protocol".to_owned())));
            match self.choose(chosen?) {
                Err(error) if !error.is_temporary() || started.elapsed() >= self.patience => {
                    return Err(error)
                }
                Err(error) => {
                    log::info!("{error}");
                    self.close();
                    std::thread::sleep(AGAIN);
                }
                Ok(payload) => return Ok(payload),
            }
        }
    }

    /// Closes the link.
    pub fn close(&mut self) {
        self.opened = None;
        self.transport.close();
    }

    /// Runs a client to its end, or until `is_enough` of its progress.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn run<C: UpdateClient>(
        &mut self,
        client: &mut C,
        is_enough: &dyn Fn(&Progress) -> bool,
    ) -> Result<Ended, SendError>
    where
        SendError: From<C::Error>,
    {
        let mut closing: Option<Instant> = None;
        let mut counted = Counted::default();
        loop {
            let progress = client.progress();
            if is_enough(&progress) {
                self.close();
                return Ok(Ended::Stopped);
            }
            self.show.progress(&progress, counted.position(&progress));
            let now_ms = self.now_ms();
            let result = match client.poll(now_ms) {
                Action::Connect { at_ms } => {
                    std::thread::sleep(Duration::from_millis(at_ms.saturating_sub(now_ms)));
                    let payload = self.connect()?;
                    self.opened = None;
                    closing = None;
                    self.show.connected();
                    client.connected(self.now_ms(), payload);
                    Ok(None)
                }
                Action::Write { to, bytes } => {
                    if to == Characteristic::Packet && progress.stage == Stage::Sending {
                        counted.written += bytes.len();
                    }
                    self.transport.write(to, bytes).map(|()| None)
                }
                Action::Wait { until_ms } | Action::Pause { until_ms } => {
                    let mut patience =
                        Duration::from_millis(until_ms.saturating_sub(now_ms)).min(LONGEST_WAIT);
                    if client.awaits_close() {
                        let limit = match self.transport.has_links() {
                            true => CLOSE_PATIENCE,
                            false => LAST_BYTES,
                        };
                        let since = *closing.get_or_insert_with(Instant::now);
                        patience = patience.min(limit.saturating_sub(since.elapsed()));
                        if patience.is_zero() {
                            self.disconnect(client);
                            continue;
                        }
                    }
                    self.transport.receive(patience)
                }
                Action::Disconnect => {
                    self.disconnect(client);
                    Ok(None)
                }
                Action::Done => {
                    self.close();
                    return Ok(Ended::Done);
                }
                Action::Failed(error) => {
                    self.close();
                    return Err(error.into());
                }
            };
            match result {
                Ok(Some(bytes)) => client.received(self.now_ms(), &bytes),
                Ok(None) => {}
                Err(error) => {
                    if !client.awaits_close() {
                        self.show.lost(&error);
                    }
                    self.disconnect(client);
                }
            }
        }
    }

    fn disconnect<C: UpdateClient>(&mut self, client: &mut C) {
        self.close();
        client.disconnected(self.now_ms());
    }
}

/// Bytes written since the device said what it holds: over Secure DFU it says so once an object.
#[derive(Default)]
struct Counted {
    held: u32,
    written: usize,
}

impl Counted {
    fn position(&mut self, progress: &Progress) -> u64 {
        if self.held != progress.held || progress.stage != Stage::Sending {
            *self = Self {
                held: progress.held,
                written: 0,
            };
        }
        u64::from(progress.held) + self.written as u64
    }
}
