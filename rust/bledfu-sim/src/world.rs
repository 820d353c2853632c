// SPDX-License-Identifier: Apache-2.0
//! The whole product in virtual time: phone, link, device with its two flashes, reset, boot stage, confirmation.
//!
//! ```text
//!  phone ──writes──► link ──► ring ──► worker ──► flash          reset ──► boot stage ──► application ──► confirm
//!        ◄─notifications──────────────┘  (its own time line)
//! ```
//! Timelines: the link has connection events. The worker performs the steps of the device's own service loop
//! (`bledfu_transfer::service`), and is busy while its flash operations and computations take time. Frames that arrive
//! meanwhile wait in the device's inbox, and are lost if it is full. Both run on one clock: before the link looks at
//! the device at time `t`, the worker is run up to `t`.

use std::collections::VecDeque;

use bledfu_swap::{BootAction, BootReport};
use bledfu_transfer::event::Event;
use bledfu_transfer::ring::{Channel, Frame, PushError};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;

use crate::device::{BoardOf, DeviceOf, Setup, StartError};
use crate::link::LinkParams;
use crate::nor::{NorError, Units, Words};
use crate::phone::{PhoneError, Session};
use crate::power::{set_thread_now_ns, Power};
use crate::trace::{Lane, Moment};

mod phone;

const MS: u64 = 1_000_000;
/// How long the Bluetooth thread waits for room for a packet, as in `zephyr/shim/peer.c`.
const ROOM_NS: u64 = 20 * MS;
/// Sessions after which an update has finally failed.
const MAX_SESSIONS: u32 = 100;

/// Planned mishaps.
#[derive(Clone, Debug, Default)]
pub struct Mishaps {
    /// The link is dropped when this many image bytes have been sent over it, counted over all sessions; ascending.
    pub drop_link_at: VecDeque<u64>,
    /// Every such packet of the phone is damaged on the air, and sent again: 100 is a loss of 1 %. 0: none.
    pub repeat_every: u32,
}

/// What one boot did and how long it took.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The boot stage's report.
    pub report: BootReport,
    /// Virtual time of the boot stage in ns.
    pub took_ns: u64,
}

/// The result of an update.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Times of the last session.
    pub session: Session,
    /// Number of sessions; 1 without mishaps.
    pub sessions: u32,
    /// When the first session began; with SMP, the first upload. In ns of virtual time.
    pub started_ns: u64,
    /// The boot that installed the image.
    pub boot: Boot,
}

/// Why the simulation stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// The device refused, or misbehaved.
    #[error(transparent)]
    Phone(#[from] PhoneError),
    /// The device does not boot.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The device did not close the link after its last answer.
    #[error("the device did not close the link after the update")]
    LinkStaysOpen,
    /// The update was interrupted too often.
    #[error("the update was interrupted {MAX_SESSIONS} times")]
    TooManySessions,
}

/// A write in flight.
struct Write {
    channel: Channel,
    bytes: Vec<u8>,
    fragments_left: u32,
}

/// A notification in flight.
struct Notification {
    channel: Channel,
    bytes: Vec<u8>,
}

/// What the worker does before it asks for the next step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// It asks at once.
    None,
    /// It sleeps until this time in ns, or until something arrives.
    Until(u64),
    /// It waits until all notifications have been sent, at most until this time in ns.
    Delivered(u64),
}

/// The whole simulation. `I` are the units of the internal flash, `X` those of the external one.
pub struct WorldOf<I: Units, X: Units> {
    /// The board; survives resets.
    pub board: BoardOf<I, X>,
    /// The link's parameters.
    pub link: LinkParams,
    /// The planned mishaps.
    pub mishaps: Mishaps,
    /// Boots so far, the newest last.
    pub boots: Vec<Boot>,
    /// Longest time from a request's arrival to its answer, in ns.
    pub slowest_answer_ns: u64,
    /// Longest time that the Bluetooth thread waited for room for one packet, in ns.
    pub longest_wait_ns: u64,
    /// Packets for which it waited, and packets that were lost after the wait.
    pub packets_waited: u32,
    /// Packets that found no room even then.
    pub packets_lost: u32,
    /// What the product was told since the last reset.
    pub events: Vec<Event>,
    /// What the application has cost so far.
    pub awake: Awake,
    device: Option<DeviceOf<I, X>>,
    now_ns: u64,
    next_event_ns: u64,
    connected: bool,
    worker_free_ns: u64,
    rest: Rest,
    /// Arrival times and lengths of the frames in the ring, and how many frames the worker took before them.
    arrivals: VecDeque<(u64, u32)>,
    taken: u64,
    /// Arrival time of the last frame that the worker took.
    last_arrival_ns: u64,
    /// Notifications with the time when they are ready.
    outbox: VecDeque<(u64, Notification)>,
    /// The worker has reached the reset: nothing else happens before it.
    reset_due: bool,
    writes: VecDeque<Write>,
    inbox: VecDeque<Notification>,
    image_bytes_sent: u64,
    /// Packets of the phone on the air.
    packets: u32,
    /// Totals of the devices before the last reset.
    ring_high_water: usize,
}

/// The external flash may power down this long after its last use (`AWAKE_MS` in `zephyr/shim/flash.c`).
const FLASH_OFF_NS: u64 = 200 * MS;

/// For how long the application keeps the device from sleeping. The boot stage is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awake {
    /// How often the worker was woken.
    pub wakes: u64,
    /// For how long the external flash was on, in ns.
    pub flash_ns: u64,
    /// When it was, or will be, turned off.
    flash_off_ns: u64,
}

impl Awake {
    fn used_flash(&mut self, from_ns: u64, to_ns: u64) {
        let off_ns = to_ns + FLASH_OFF_NS;
        self.flash_ns += off_ns.saturating_sub(self.flash_off_ns.max(from_ns));
        self.flash_off_ns = off_ns;
    }
}

/// Everything, with the units of an nRF52840.
pub type World = WorldOf<Words, Words>;

impl<I: Units, X: Units> WorldOf<I, X> {
    /// A device with `factory` in its primary slot, started.
    ///
    /// # Errors
    /// [`StartError`] when the factory image cannot be started.
    pub fn new(setup: Setup, factory: &[u8], link: LinkParams) -> Result<Self, StartError> {
        let board = BoardOf::new(setup, &Power::new())?;
        board.program_factory(factory)?;
        let mut world = Self::with_board(board, link);
        world.power_up()?;
        Ok(world)
    }

    /// A device that is still off.
    pub fn with_board(board: BoardOf<I, X>, link: LinkParams) -> Self {
        Self {
            board,
            link,
            mishaps: Mishaps::default(),
            boots: Vec::new(),
            slowest_answer_ns: 0,
            longest_wait_ns: 0,
            packets_waited: 0,
            packets_lost: 0,
            events: Vec::new(),
            awake: Awake::default(),
            device: None,
            now_ns: 0,
            next_event_ns: 0,
            connected: false,
            worker_free_ns: 0,
            rest: Rest::None,
            arrivals: VecDeque::new(),
            taken: 0,
            last_arrival_ns: 0,
            outbox: VecDeque::new(),
            reset_due: false,
            writes: VecDeque::new(),
            inbox: VecDeque::new(),
            image_bytes_sent: 0,
            packets: 0,
            ring_high_water: 0,
        }
    }

    /// The application, if the device is on.
    pub fn device(&self) -> Option<&DeviceOf<I, X>> {
        self.device.as_ref()
    }

    /// Virtual time in ns.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Maximum number of bytes in the ring so far.
    pub fn ring_high_water(&self) -> usize {
        self.device
            .as_ref()
            .map_or(0, DeviceOf::ring_high_water)
            .max(self.ring_high_water)
    }

    /// Reset: boot stage, then the application. A power cut on the way is followed by another boot.
    ///
    /// # Errors
    /// [`StartError`] when nothing can be started.
    pub fn power_up(&mut self) -> Result<&Boot, StartError> {
        self.link_lost();
        self.ring_high_water = self.ring_high_water();
        self.device = None;
        self.reset_due = false;
        self.rest = Rest::None;
        self.taken = 0;
        self.events.clear();
        self.board.power.set_now_ns(self.now_ns.max(self.worker_free_ns));
        loop {
            self.board.power.power_on();
            let started = self.board.power.now_ns();
            self.board.power.moment(started, Moment::Boot);
            let booted = self.board.boot();
            let took_ns = self.board.power.now_ns() - started;
            self.board.power.was_busy(Lane::Boot, started, started + took_ns);
            let outcome = booted.and_then(|report| {
                let device = self.board.start(&report.image)?;
                Ok((report, device))
            });
            // A cut during the start of the application only shows in the power domain.
            if self.board.power.is_off() {
                log::info!("the power was cut in the boot, and is back");
                self.board
                    .power
                    .moment(self.board.power.now_ns(), Moment::PowerCut);
                continue;
            }
            let (report, device) = outcome?;
            self.device = Some(device);
            if report.action != BootAction::None {
                log::info!("boot stage: {}; {:.2} s", report.action, took_ns as f64 / 1e9);
            }
            self.boots.push(Boot { report, took_ns });
            self.now_ns = self.board.power.now_ns();
            self.worker_free_ns = self.now_ns;
            return self.boots.last().ok_or(StartError::Boot(String::new()));
        }
    }

    /// The application's self-test passes and it confirms itself. After a power cut meanwhile there is a boot, and
    /// another attempt unless that boot returned to the old image.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn confirm(&mut self) -> Result<(), StartError> {
        for _ in 0..MAX_SESSIONS {
            let Some(device) = &mut self.device else {
                self.power_up()?;
                continue;
            };
            self.board.power.set_now_ns(self.now_ns);
            let confirmed = device.confirm();
            self.now_ns = self.board.power.now_ns();
            self.worker_free_ns = self.worker_free_ns.max(self.now_ns);
            if !self.board.power.is_off() {
                return confirmed;
            }
            self.power_up()?;
        }
        Ok(())
    }

    /// Lets the device finish its idle work (clearing the slot), without a link.
    pub fn settle(&mut self) {
        loop {
            let before = self.worker_free_ns;
            self.run_worker(u64::MAX - 1);
            self.now_ns = self.now_ns.max(self.worker_free_ns);
            if self.worker_free_ns == before {
                return;
            }
        }
    }

    /// Image bytes sent over the link so far, in all sessions.
    pub const fn image_bytes_sent(&self) -> u64 {
        self.image_bytes_sent
    }

    /// A phone connects, exchanges the MTU and turns notifications on.
    pub fn connect(&mut self) {
        self.link_lost();
        if let Some(device) = &mut self.device {
            set_thread_now_ns(self.now_ns);
            log::info!("the phone connects");
            self.board.power.moment(self.now_ns, Moment::LinkUp);
            device.link_up(Transport::Ble);
            self.connected = true;
            self.next_event_ns = self.now_ns + self.link.interval_ns();
            self.wake();
        }
    }

    /// The link is gone, whichever side dropped it.
    pub fn link_lost(&mut self) {
        if self.connected {
            set_thread_now_ns(self.now_ns);
            log::info!("the link is down");
            self.board.power.moment(self.now_ns, Moment::LinkDown);
        }
        self.connected = false;
        self.writes.clear();
        self.inbox.clear();
        self.outbox.clear();
        self.arrivals.clear();
        if let Some(device) = &mut self.device {
            device.link_down();
            self.wake();
        }
    }

    /// A notification has been sent.
    fn has_left(&mut self) {
        if let Rest::Delivered(_) = self.rest {
            self.wake();
        }
    }

    /// Something arrived in the inbox, or left the outbox: a worker that waited for it continues.
    fn wake(&mut self) {
        let is_over = match self.rest {
            Rest::None => false,
            Rest::Until(_) => true,
            Rest::Delivered(_) => self.outbox.is_empty(),
        };
        if is_over {
            self.awake.wakes += 1;
            self.rest = Rest::None;
            self.worker_free_ns = self.worker_free_ns.max(self.now_ns);
        }
    }

    /// Runs the worker up to `until`. A step that it begins before then is completed, and keeps it busy.
    fn run_worker(&mut self, until: u64) {
        while self.worker_free_ns <= until && !self.reset_due {
            let Some(device) = &mut self.device else {
                return;
            };
            match self.rest {
                Rest::Until(at) if device.is_inbox_empty() => {
                    if at > until {
                        return;
                    }
                    self.worker_free_ns = self.worker_free_ns.max(at);
                }
                Rest::Delivered(at) if self.connected && !self.outbox.is_empty() => {
                    if at > until {
                        return;
                    }
                    self.worker_free_ns = self.worker_free_ns.max(at);
                }
                _ => {}
            }
            self.awake.wakes += u64::from(self.rest != Rest::None);
            self.rest = Rest::None;
            self.board.power.set_now_ns(self.worker_free_ns);
            let started = self.worker_free_ns;
            let before = self.board.external.stats();
            let mut closes = false;
            match device.step() {
                None | Some(Step::Hurry) => {}
                Some(Step::Send { channel, bytes }) => {
                    let ready = self.board.power.now_ns();
                    self.slowest_answer_ns = self.slowest_answer_ns.max(ready - self.last_arrival_ns);
                    // An answer of Secure DFU fits the smallest MTU.
                    for bytes in bytes.chunks(self.link.payload()) {
                        let bytes = bytes.to_vec();
                        self.outbox.push_back((ready, Notification { channel, bytes }));
                    }
                }
                Some(Step::Answer { .. }) => unreachable!("nobody sends datagrams here"),
                Some(Step::Tell(event)) => self.events.push(event),
                Some(Step::Deliver { until_ms }) => self.rest = Rest::Delivered(until_ms.saturating_mul(MS)),
                Some(Step::Wait { until_ms }) => self.rest = Rest::Until(until_ms.saturating_mul(MS)),
                Some(Step::Disconnect) => closes = true,
                Some(Step::Reset) => self.reset_due = true,
            }
            self.worker_free_ns = self.board.power.now_ns();
            if self.board.external.stats() != before {
                self.awake.used_flash(started, self.worker_free_ns);
            }
            while self.taken < device.frames_taken() {
                self.taken += 1;
                if let Some((at, _)) = self.arrivals.pop_front() {
                    self.last_arrival_ns = at;
                }
            }
            let power = &self.board.power;
            power.was_busy(Lane::Worker, started, self.worker_free_ns);
            power.ring_holds(self.worker_free_ns, waiting(&self.arrivals));
            if self.board.power.is_off() {
                log::info!("the power is cut");
                self.board.power.moment(self.worker_free_ns, Moment::PowerCut);
                self.device = None;
                closes = true;
            }
            if closes {
                self.link_lost();
            }
        }
    }

    /// One connection event: packets go both ways until neither side has any left, or the event is full.
    fn connection_event(&mut self) {
        let start = self.next_event_ns.max(self.now_ns);
        self.next_event_ns = start + self.link.interval_ns();
        self.now_ns = start;
        for _ in 0..self.link.exchanges_per_event() {
            self.run_worker(self.now_ns);
            if !self.connected {
                return;
            }
            let down = self
                .outbox
                .front()
                .filter(|(ready, _)| *ready <= self.now_ns)
                .is_some();
            let up = self.writes.front().is_some();
            if !down && !up {
                break;
            }
            let mut down_packet = 0;
            if let Some((_, notification)) = down.then(|| self.outbox.pop_front()).flatten() {
                down_packet = LinkParams::packet(notification.bytes.len());
                set_thread_now_ns(self.now_ns);
                log::debug!("answer  {}", short(&notification.bytes));
                self.inbox.push_back(notification);
                self.has_left();
            }
            if up {
                self.send_fragment(down_packet);
            } else {
                self.now_ns += LinkParams::exchange_ns(0, down_packet);
            }
            if !self.connected {
                return;
            }
        }
        self.board.power.was_busy(Lane::Link, start, self.now_ns);
        self.now_ns = self.now_ns.max(self.next_event_ns - 1);
    }

    /// One link layer packet from the phone, answered by one of `down_packet` bytes.
    fn send_fragment(&mut self, down_packet: usize) {
        let Some(write) = self.writes.front_mut() else {
            return;
        };
        self.now_ns += LinkParams::exchange_ns(LinkParams::packet(write.bytes.len()), down_packet);
        self.packets = self.packets.wrapping_add(1);
        if self.mishaps.repeat_every > 0 && self.packets.is_multiple_of(self.mishaps.repeat_every) {
            return;
        }
        write.fragments_left = write.fragments_left.saturating_sub(1);
        if write.fragments_left > 0 {
            return;
        }
        // What the device did before the write arrived.
        self.run_worker(self.now_ns);
        let (Some(write), Some(device)) = (self.writes.front(), &mut self.device) else {
            return;
        };
        let frame = Frame {
            channel: write.channel,
            bytes: &write.bytes,
        };
        self.board.power.set_now_ns(self.now_ns);
        if write.channel != Channel::Packet {
            log::debug!("request {}", short(&write.bytes));
        }
        let received = match write.channel {
            Channel::Packet => device.try_receive(frame),
            _ => device.receive(frame),
        };
        self.wake();
        let Some(write) = self.writes.pop_front() else {
            return;
        };
        let received = match received {
            Err(PushError::Full) if write.channel == Channel::Packet => self.wait_for_room(&write.bytes),
            received => received,
        };
        match received {
            Ok(()) => {
                self.arrivals.push_back((self.now_ns, write.bytes.len() as u32));
                self.board.power.ring_holds(self.now_ns, waiting(&self.arrivals));
                if write.channel != Channel::Control {
                    self.image_bytes_sent += write.bytes.len() as u64;
                }
                if self
                    .mishaps
                    .drop_link_at
                    .front()
                    .is_some_and(|&at| self.image_bytes_sent >= at)
                {
                    self.mishaps.drop_link_at.pop_front();
                    self.run_worker(self.now_ns);
                    self.link_lost();
                }
            }
            Err(error) => {
                self.packets_lost += u32::from(write.channel == Channel::Packet);
                log::error!("a write is lost: {error}");
                self.board.power.moment(self.now_ns, Moment::WriteLost);
            }
        }
    }

    /// The Bluetooth thread waits for room for a packet. The phone's packets are refused meanwhile, and it repeats them.
    fn wait_for_room(&mut self, bytes: &[u8]) -> Result<(), PushError> {
        let began_ns = self.now_ns;
        let until_ns = began_ns + ROOM_NS;
        self.packets_waited += 1;
        let frame = Frame {
            channel: Channel::Packet,
            bytes,
        };
        loop {
            let next_ns = self.worker_free_ns.max(self.now_ns + 1);
            self.now_ns = next_ns.min(until_ns);
            self.run_worker(self.now_ns);
            let Some(device) = &mut self.device else {
                return Err(PushError::Full);
            };
            if !self.connected {
                return Err(PushError::Full);
            }
            self.board.power.set_now_ns(self.now_ns);
            let received = match self.now_ns >= until_ns {
                true => device.receive(frame),
                false => device.try_receive(frame),
            };
            self.wake();
            if received.is_ok() || self.now_ns >= until_ns {
                self.longest_wait_ns = self.longest_wait_ns.max(self.now_ns - began_ns);
                return received;
            }
        }
    }
}

/// Bytes of the frames in the ring.
fn waiting(arrivals: &VecDeque<(u64, u32)>) -> u32 {
    arrivals.iter().map(|(_, length)| length).sum()
}

/// The first bytes of a message, for the log.
fn short(bytes: &[u8]) -> String {
    const SHOWN: usize = 24;
    let shown = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}"));
    let shown = shown.collect::<Vec<_>>().join(" ");
    match bytes.len() {
        0..=SHOWN => shown,
        length => format!("{shown} ... ({length} bytes)"),
    }
}

impl From<NorError> for WorldError {
    fn from(error: NorError) -> Self {
        Self::Start(error.into())
    }
}
