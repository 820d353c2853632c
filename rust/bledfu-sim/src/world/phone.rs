// SPDX-License-Identifier: Apache-2.0
//! The phone's half of the simulation: a client of `bledfu-client` on the simulated link, and its user, who presses
//! *Start* again when the link breaks.

use bledfu_client::{secure_dfu, smp, Action, Characteristic, Progress, Stage, UpdateClient};
use bledfu_swap::BootAction;
use bledfu_transfer::ring::Channel;
use sha2::{Digest, Sha256};

use super::{Boot, Outcome, WorldError, WorldOf, Write, MAX_SESSIONS, MS};
use crate::device;
use crate::link::LinkParams;
use crate::nor::Units;
use crate::package::Package;
use crate::packed;
use crate::phone::secure_dfu::{parts, Phone};
use crate::phone::smp::{Settings as SmpSettings, ANSWER_SIZE, REQUEST_SIZE};
use crate::phone::{DfuLink, PhoneError, Session};

/// Writes that the phone's stack queues before it makes its application wait.
const PHONE_QUEUE: usize = 32;
/// A caller that uses the link directly waits this long for an answer.
const PATIENCE_NS: u64 = 60_000 * MS;
/// Time in which the user sees the failure and presses *Start* again, and the phone scans and connects.
const USER_NS: u64 = 1_000 * MS;
/// Maximum time between the end of the link and the reset, if there is one: the application may copy its image first.
const RESET_NS: u64 = 120_000 * MS;

/// How a client's run ended.
enum End {
    /// It reports that the update is done.
    Done,
    /// A boot after a power cut has installed the wanted image; nothing is left to send.
    Installed(Boot),
}

/// What is recorded while clients run.
struct Notes<'p> {
    session: Session,
    sessions: u32,
    /// When the first session began.
    first_ns: Option<u64>,
    /// The session's times start with the connection, not with the upload.
    begins_with_link: bool,
    progress: &'p mut dyn FnMut(u32),
}

impl<'p> Notes<'p> {
    fn new(begins_with_link: bool, progress: &'p mut dyn FnMut(u32)) -> Self {
        Self {
            session: Session::default(),
            sessions: 0,
            first_ns: None,
            begins_with_link,
            progress,
        }
    }

    fn connected(&mut self, at: Progress, now_ns: u64) {
        self.sessions += 1;
        if self.begins_with_link || at.stage == Stage::Sending {
            self.begin(now_ns);
        }
    }

    fn begin(&mut self, now_ns: u64) {
        self.first_ns.get_or_insert(now_ns);
        self.session = Session {
            started_ns: now_ns,
            ..Session::default()
        };
    }

    fn note(&mut self, before: &mut Progress, now: Progress, now_ns: u64) {
        let began = before.stage == Stage::Preparing && now.stage > Stage::Preparing;
        if began && now.stage == Stage::Sending && !self.begins_with_link {
            self.begin(now_ns);
        }
        self.session.note(*before, now, now_ns);
        if now.stage > Stage::Preparing && (began || now.held != before.held) {
            (self.progress)(now.held);
        }
        *before = now;
    }
}

impl<I: Units, X: Units> WorldOf<I, X> {
    /// Sends `package` with a client like `phone`'s, with a receipt every `receipts` packets (0: none), again after
    /// every lost link or power cut, up to the device's reset and the boot of the new image. It is not confirmed yet.
    /// # Errors
    /// [`WorldError`].
    pub fn update(
        &mut self,
        package: &Package,
        phone: Phone,
        receipts: u16,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Outcome, WorldError> {
        self.update_with(package, phone.with_receipts(receipts), progress)
    }

    /// The same with a client of any settings.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn update_with(
        &mut self,
        package: &Package,
        settings: secure_dfu::Settings,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Outcome, WorldError> {
        let wanted = packed::makes(&package.application.firmware);
        let mut notes = Notes::new(true, progress);
        loop {
            let mut client = secure_dfu::Client::new(parts(package), settings);
            let boot = match self.drive(&mut client, wanted, &mut notes) {
                Ok(End::Installed(boot)) => boot,
                Ok(End::Done) => {
                    self.await_reset();
                    if self.device.is_none() {
                        continue;
                    }
                    if self.reset_due {
                        self.power_up()?.clone()
                    } else {
                        // The image was running already, and nothing was installed.
                        let ran = self.boots.last().cloned();
                        match ran.filter(|boot| Some(boot.report.image.digest) == wanted) {
                            Some(boot) => boot,
                            // A client may take the end of the link for the end of the update; its user then sees the
                            // old version.
                            None => {
                                self.pass(USER_NS);
                                continue;
                            }
                        }
                    }
                }
                Err(WorldError::Phone(error)) if error.is_of_the_link() => {
                    self.pass(USER_NS);
                    continue;
                }
                Err(error) => return Err(error),
            };
            return Ok(Outcome {
                session: notes.session,
                sessions: notes.sessions,
                started_ns: notes.first_ns.unwrap_or_default(),
                boot,
            });
        }
    }

    /// Updates to `image` over SMP with a client of these `settings`, again after every lost link or power cut, until
    /// the client reports that it is done.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn update_smp(
        &mut self,
        image: &[u8],
        settings: SmpSettings,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Outcome, WorldError> {
        let hash = device::image_digest(image).ok_or(PhoneError::NotAnImage)?;
        let wanted = packed::makes(image).unwrap_or(hash);
        let first_boot = self.boots.len();
        let mut notes = Notes::new(false, progress);
        let to_send = smp::Image {
            bytes: image,
            sha: Sha256::digest(image).into(),
            hash,
        };
        loop {
            let (mut request, mut answer) = ([0; REQUEST_SIZE], [0; ANSWER_SIZE]);
            let buffers = smp::Buffers {
                request: &mut request,
                answer: &mut answer,
            };
            let mut client = smp::Client::new(to_send, settings.client(), buffers);
            match self.drive(&mut client, None, &mut notes) {
                Ok(_) => break,
                Err(WorldError::Phone(error)) if error.is_of_the_link() => self.pass(USER_NS),
                Err(error) => return Err(error),
            }
        }
        // The last reset, of a client that does not wait for what follows it.
        self.await_reset();
        if self.device.is_none() || self.reset_due {
            self.power_up()?;
        }
        let installed = self
            .boots
            .iter()
            .skip(first_boot)
            .rfind(|boot| boot.report.action != BootAction::None && boot.report.image.digest == wanted);
        let boot = installed.or(self.boots.last()).cloned();
        Ok(Outcome {
            session: notes.session,
            sessions: notes.sessions,
            started_ns: notes.first_ns.unwrap_or_default(),
            boot: boot.ok_or(WorldError::TooManySessions)?,
        })
    }

    /// Performs a client's actions until it has ended. The device is on when it connects.
    fn drive<C: UpdateClient>(
        &mut self,
        client: &mut C,
        wanted: Option<[u8; 32]>,
        notes: &mut Notes<'_>,
    ) -> Result<End, WorldError>
    where
        PhoneError: From<C::Error>,
    {
        let mut before = client.progress();
        let mut has_link = false;
        loop {
            while let Some(notification) = self.inbox.pop_front() {
                client.received(self.now_ns / MS, &notification.bytes);
                notes.note(&mut before, client.progress(), self.now_ns);
            }
            if has_link && !self.connected {
                has_link = false;
                client.disconnected(self.now_ns / MS);
            }
            let now_ns = self.now_ns;
            let mut wait_until_ms = None;
            match client.poll(now_ns / MS) {
                Action::Write { to, bytes } => {
                    let channel = match to {
                        Characteristic::ControlPoint => Channel::Control,
                        Characteristic::Packet => Channel::Packet,
                        Characteristic::Smp => Channel::Smp,
                    };
                    // The client has already counted the write as sent; a link that breaks meanwhile is noticed next.
                    let bytes = bytes.to_vec();
                    notes.note(&mut before, client.progress(), now_ns);
                    let _ = self.enqueue(channel, &bytes);
                }
                Action::Wait { until_ms } | Action::Pause { until_ms } => wait_until_ms = Some(until_ms),
                Action::Connect { at_ms } => {
                    if notes.sessions >= MAX_SESSIONS {
                        return Err(WorldError::TooManySessions);
                    }
                    self.pass((at_ms * MS).saturating_sub(self.now_ns));
                    if self.device.is_none() || self.reset_due {
                        let boot = self.power_up()?.clone();
                        if wanted.is_some_and(|wanted| boot.report.image.digest == wanted) {
                            return Ok(End::Installed(boot));
                        }
                    }
                    self.connect();
                    has_link = true;
                    client.connected(self.now_ns / MS, self.link.payload());
                    notes.connected(before, self.now_ns);
                }
                Action::Disconnect => self.link_lost(),
                Action::Done => {
                    self.link_lost();
                    return Ok(End::Done);
                }
                Action::Failed(error) => {
                    self.link_lost();
                    return Err(PhoneError::from(error).into());
                }
            }
            notes.note(&mut before, client.progress(), self.now_ns);
            if wait_until_ms.is_some_and(|until| self.now_ns / MS < until) && self.connected {
                self.connection_event();
            }
        }
    }

    /// The reset follows the end of the link, unless the image was running already.
    fn await_reset(&mut self) {
        self.run_worker(self.now_ns + RESET_NS);
        if self.reset_due {
            self.now_ns = self.now_ns.max(self.worker_free_ns);
        }
    }

    /// Lets time pass in which no phone does anything.
    pub fn pass(&mut self, ns: u64) {
        self.now_ns += ns;
        self.run_worker(self.now_ns);
    }

    fn take_notification(&mut self, channel: Channel) -> Option<Vec<u8>> {
        let at = self.inbox.iter().position(|found| found.channel == channel)?;
        self.inbox.remove(at).map(|found| found.bytes)
    }

    fn enqueue(&mut self, channel: Channel, bytes: &[u8]) -> Result<(), PhoneError> {
        while self.connected && self.writes.len() >= PHONE_QUEUE {
            self.connection_event();
        }
        if !self.connected {
            return Err(PhoneError::LinkLost);
        }
        let fragments_left = LinkParams::fragments(bytes.len());
        self.writes.push_back(Write {
            channel,
            bytes: bytes.to_vec(),
            fragments_left,
        });
        Ok(())
    }
}

impl<I: Units, X: Units> DfuLink for WorldOf<I, X> {
    fn payload(&self) -> usize {
        self.link.payload()
    }

    fn control(&mut self, request: &[u8]) -> Result<(), PhoneError> {
        self.enqueue(Channel::Control, request)
    }

    fn packet(&mut self, bytes: &[u8]) -> Result<(), PhoneError> {
        self.enqueue(Channel::Packet, bytes)
    }

    fn notification(&mut self) -> Result<Vec<u8>, PhoneError> {
        let patience = self.now_ns + PATIENCE_NS;
        loop {
            if let Some(bytes) = self.take_notification(Channel::Control) {
                return Ok(bytes);
            }
            if !self.connected {
                return Err(PhoneError::LinkLost);
            }
            if self.now_ns > patience {
                return Err(PhoneError::NoAnswer(0));
            }
            self.connection_event();
        }
    }

    fn wait_ms(&mut self, ms: u64) -> Result<(), PhoneError> {
        let until = self.now_ns + ms * MS;
        while self.connected && self.now_ns < until {
            self.connection_event();
        }
        if self.connected {
            Ok(())
        } else {
            Err(PhoneError::LinkLost)
        }
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}
