// SPDX-License-Identifier: Apache-2.0
//! A device and a client that writes directly into its ring: there is no radio, and time passes only in the device.

use std::cell::RefCell;
use std::sync::OnceLock;

use bledfu_client::{Action, Characteristic, UpdateClient};
use bledfu_sim::device::{image_digest, Board, Device, Keys, Setup, StartError};
use bledfu_sim::init_packet::InitFields;
use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::nor::Area;
use bledfu_sim::power::Power;
use bledfu_slot::{evidence, Algorithm, Trailer, Version};
use bledfu_swap::{BootReport, Downgrade};
use bledfu_transfer::doors::Peer;
use bledfu_transfer::ring::{Channel, Frame, PushError};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step;
use bledfu_wire::smp::{self, Request};
use bledfu_wire::smp_answer::Answer;
use sha2::{Digest, Sha256};

pub const SECTOR: usize = 4096;
/// Number of bytes in a write at MTU 247.
const PAYLOAD: usize = 244;
/// A client that polls more often than this makes no progress.
const MAX_POLLS: u32 = 20_000;
/// Version of every package: higher than that of any running image.
const FW_VERSION: u32 = 1000;

/// An image and its init packet.
pub struct Update {
    pub bytes: Vec<u8>,
    pub sha: [u8; 32],
    pub digest: [u8; 32],
    pub init: Vec<u8>,
}

impl Update {
    fn of(bytes: Vec<u8>) -> Self {
        let sha: [u8; 32] = Sha256::digest(&bytes).into();
        let fields = InitFields::application(FW_VERSION, 52, &[0], bytes.len() as u32, &sha);
        Self {
            sha,
            digest: image_digest(&bytes).expect("an image"),
            init: fields.signed(&package_key()),
            bytes,
        }
    }

    fn demo(major: u8, size: usize) -> Self {
        let version = Version {
            major,
            minor: 0,
            revision: 0,
            build: 0,
        };
        let key = SigningKey::from_scalar(&[0x33; 32]).expect("a number below the order");
        Self::of(
            ImageSpec::demo(version, size, &key)
                .expect("room for TLVs")
                .build(),
        )
    }
}

pub fn package_key() -> SigningKey {
    SigningKey::from_scalar(&[0x55; 32]).expect("a number below the order")
}

/// Images that devices run and receive. The first [`SMALL`] have 5 to 6 KB.
pub fn updates() -> &'static [Update] {
    static UPDATES: OnceLock<Vec<Update>> = OnceLock::new();
    UPDATES.get_or_init(|| {
        let demo = [
            (1, 5_000),
            (2, 5_100),
            (3, 6_000),
            (4, 24_500),
            (5, 27_000),
            (6, 28_600),
            (7, 22_000),
        ];
        let mut updates: Vec<_> = demo.map(|(major, size)| Update::demo(major, size)).into();
        updates.extend(bledfu_cli::mcuboot::images().map(|image| Update::of(image.to_vec())));
        updates
    })
}

/// Images for devices that refuse older ones: newer than any that may run. They have 5 to 6 KB.
pub fn newest() -> &'static [Update] {
    static NEWEST: OnceLock<Vec<Update>> = OnceLock::new();
    NEWEST.get_or_init(|| {
        [(8, 5_200), (9, 5_900)]
            .map(|(major, size)| Update::demo(major, size))
            .into()
    })
}

/// Number of images that are sent. Devices only start with the others.
pub const SMALL: usize = 3;

fn keys() -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    *KEYS.get_or_init(|| {
        let known = updates().iter().chain(newest());
        let digests = known.map(|update| update.digest).collect();
        // Images are trusted by their digests: verifying signatures would take most of the time, and is tested elsewhere.
        Keys {
            image: &[],
            ..Keys::new(package_key().public(), package_key().public(), digests)
        }
    })
}

/// A device with slots of eight sectors, as in the traces of MCUboot. It accepts older images.
pub fn setup(algorithm: Algorithm) -> Setup {
    Setup {
        algorithm,
        downgrade: Downgrade::Allowed,
        max_sectors: 128,
        keys: keys(),
        ..Setup::small(8)
    }
}

/// What the device did in one step.
enum Did {
    Something,
    /// There is nothing to do until the next event.
    Nothing,
    Said(Vec<u8>),
    Closed,
    Reset,
    /// The power is gone.
    Off,
}

/// Why a client did not finish.
#[derive(Debug)]
pub enum Stopped {
    /// It was refused, or gave up.
    Failed(String),
    /// It makes no progress and does not end.
    Stuck,
    /// The power was cut.
    Off,
    /// Nothing starts after a reset.
    NoStart(String),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "{reason}"),
            Self::Stuck => write!(f, "the client makes no progress and does not end"),
            Self::Off => write!(f, "the power is off"),
            Self::NoStart(reason) => write!(f, "nothing starts after a reset: {reason}"),
        }
    }
}

pub struct Bench {
    pub board: Board,
    device: Option<Device>,
    is_linked: bool,
    sequence: u8,
    /// Reports of the boots, in order.
    pub boots: Vec<BootReport>,
}

impl Bench {
    /// A board with erased flashes that is off.
    pub fn new(setup: Setup) -> Self {
        let board = Board::new(setup, &Power::new()).expect("slots that fit");
        Self {
            board,
            device: None,
            is_linked: false,
            sequence: 0,
            boots: Vec::new(),
        }
    }

    /// The same flashes on another board.
    pub fn copy(&self) -> Self {
        let copy = Self::new(self.board.setup);
        let cells = |chip: &bledfu_sim::nor::Chip| chip.contents();
        let put = |chip: &bledfu_sim::nor::Chip, cells: Vec<u8>| chip.set_contents(0, &cells);
        put(&copy.board.internal, cells(&self.board.internal)).expect("a chip of the same size");
        put(&copy.board.external, cells(&self.board.external)).expect("a chip of the same size");
        copy
    }

    /// Power on or reset: runs the boot stage and starts the application.
    pub fn boot(&mut self) -> Result<BootReport, StartError> {
        self.device = None;
        self.is_linked = false;
        self.board.power.power_on();
        let report = self.board.boot()?;
        self.device = Some(self.board.start(&report.image)?);
        if is_traced() {
            trace(&format!("boot: {}; runs", report.action), &report.image.digest);
        }
        self.show();
        self.boots.push(report);
        Ok(report)
    }

    /// Prints the trailers, if only one device is made.
    pub fn show(&self) {
        if !is_traced() {
            return;
        }
        let layout = self.board.setup.layout();
        let areas = [
            ("primary", &self.board.primary, Some(layout.primary_trailer())),
            (
                "secondary",
                &self.board.secondary,
                Some(layout.secondary_trailer()),
            ),
            ("spare", &spare(&self.board), layout.spare_trailer()),
        ];
        for (name, area, trailer) in areas {
            if let Some(trailer) = trailer {
                let found = Trailer::read(&mut area.clone(), &trailer);
                trace(&format!("{name} {found:?}"), &area.contents());
            }
        }
        let evidence = evidence::last(&mut self.board.trust.clone());
        trace(&format!("evidence {evidence:?}"), &[]);
        if let Ok((mut receiving, layout)) = self.board.receiving() {
            let (mut primary, mut spare) = (self.board.primary.clone(), self.board.spare.clone());
            let outlook = bledfu_slot::outlook(&layout, &mut primary, &mut receiving, &mut spare);
            trace(
                &format!("outlook {outlook:?}, incoming {:?}", layout.incoming()),
                &[],
            );
        }
    }

    pub fn device(&mut self) -> &mut Device {
        self.device.as_mut().expect("the device is on")
    }

    pub fn running(&mut self) -> [u8; 32] {
        self.device().image().digest
    }

    fn now_ms(&self) -> u64 {
        self.board.power.now_ns() / 1_000_000
    }

    fn pass(&self, until_ms: u64) {
        let now_ms = self.now_ms();
        self.board
            .power
            .advance_ns(until_ms.saturating_sub(now_ms).saturating_mul(1_000_000));
    }

    fn step(&mut self) -> Did {
        let device = self.device.as_mut().expect("the device is on");
        let is_settled = device.is_settled();
        let did = match device.step() {
            _ if self.board.power.is_off() => return Did::Off,
            Some(Step::Send { bytes, .. } | Step::Answer { bytes }) => Did::Said(bytes.to_vec()),
            Some(Step::Disconnect) => Did::Closed,
            Some(Step::Reset) => Did::Reset,
            Some(Step::Wait { .. }) if is_settled => Did::Nothing,
            Some(Step::Wait { until_ms }) => {
                self.pass(until_ms);
                Did::Something
            }
            None | Some(Step::Tell(_) | Step::Hurry | Step::Deliver { .. }) => Did::Something,
        };
        if let Did::Said(bytes) = &did {
            trace("from the device", bytes);
        }
        if matches!(did, Did::Closed) {
            self.hang_up();
        }
        did
    }

    fn hang_up(&mut self) {
        if std::mem::take(&mut self.is_linked) {
            self.device().link_down();
        }
    }

    /// So much time passes, with nobody connected.
    pub fn wait(&mut self, minutes: u64) {
        self.hang_up();
        self.pass(self.now_ms() + minutes * 60_000);
    }

    /// From now on the peer has paired.
    pub fn pair(&mut self) {
        self.hang_up();
        self.board.setup.peer = Peer::Trusted;
        self.device().meet(Peer::Trusted);
    }

    /// The button of the product.
    pub fn press(&mut self) {
        self.device().allow_updates();
        self.idle();
    }

    fn connect(&mut self) {
        self.device().link_up(Transport::Ble);
        self.is_linked = true;
    }

    /// Background work, until there is none left.
    pub fn idle(&mut self) {
        while !matches!(self.step(), Did::Nothing | Did::Off) {}
    }

    /// The steps after the last answer, up to the reset if there is one.
    fn end(&mut self) -> Result<(), Stopped> {
        self.hang_up();
        loop {
            match self.step() {
                Did::Off => return Err(Stopped::Off),
                Did::Reset => return self.reset(),
                Did::Nothing => return Ok(()),
                _ => {}
            }
        }
    }

    fn reset(&mut self) -> Result<(), Stopped> {
        match self.boot() {
            Ok(_) => Ok(()),
            Err(_) if self.board.power.is_off() => Err(Stopped::Off),
            Err(error) => Err(Stopped::NoStart(error.to_string())),
        }
    }

    /// Runs `client` to its end, and the device until it has nothing left to do.
    pub fn run<C: UpdateClient>(&mut self, client: &mut C) -> Result<(), Stopped>
    where
        C::Error: std::fmt::Display,
    {
        for _ in 0..MAX_POLLS {
            let now_ms = self.now_ms();
            let until_ms = match client.poll(now_ms) {
                Action::Connect { at_ms } => {
                    self.pass(at_ms);
                    self.end()?;
                    self.connect();
                    client.connected(self.now_ms(), PAYLOAD);
                    continue;
                }
                Action::Write { to, bytes } => {
                    let channel = match to {
                        Characteristic::ControlPoint => Channel::Control,
                        Characteristic::Packet => Channel::Packet,
                        Characteristic::Smp => Channel::Smp,
                    };
                    let bytes = bytes.to_vec();
                    trace("to the device", &bytes);
                    while self.device().offer(Frame {
                        channel,
                        bytes: &bytes,
                    }) == Err(PushError::Full)
                    {
                        self.tell(client)?;
                    }
                    continue;
                }
                Action::Wait { until_ms } | Action::Pause { until_ms } => until_ms,
                Action::Disconnect => {
                    self.hang_up();
                    client.disconnected(now_ms);
                    continue;
                }
                Action::Done => return self.end(),
                Action::Failed(error) => {
                    let reason = error.to_string();
                    self.end()?;
                    return Err(Stopped::Failed(reason));
                }
            };
            if !self.tell(client)? {
                self.pass(until_ms);
            }
        }
        Err(Stopped::Stuck)
    }

    /// One step of the device, with its result passed to the client; false if there is nothing to do.
    fn tell<C: UpdateClient>(&mut self, client: &mut C) -> Result<bool, Stopped> {
        let was_linked = self.is_linked;
        let did = self.step();
        let now_ms = self.now_ms();
        match did {
            Did::Off => return Err(Stopped::Off),
            Did::Nothing => return Ok(false),
            Did::Said(bytes) => client.received(now_ms, &bytes),
            Did::Reset => {
                if was_linked {
                    client.disconnected(now_ms);
                }
                self.reset()?;
            }
            Did::Closed if was_linked => client.disconnected(now_ms),
            Did::Something | Did::Closed => {}
        }
        Ok(true)
    }

    /// Sends one SMP request on the open link, or on a new one; returns what `read` makes of the answer.
    pub fn ask<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(&Answer<'_>) -> T,
    ) -> Result<T, Stopped> {
        if !self.is_linked {
            self.connect();
        }
        let mut frame = [0; 2475];
        self.sequence = self.sequence.wrapping_add(1);
        let length = smp::encode_request(smp::Version::V2, self.sequence, request, &mut frame);
        let frame = &frame[..length.expect("a request that fits")];
        trace("to the device", frame);
        for bytes in frame.chunks(PAYLOAD) {
            let channel = Channel::Smp;
            let pushed = self.device().offer(Frame { channel, bytes });
            assert_eq!(pushed, Ok(()), "room for one request");
        }
        loop {
            match self.step() {
                Did::Off => return Err(Stopped::Off),
                Did::Nothing | Did::Closed | Did::Reset => {
                    return Err(Stopped::Failed("the request is not answered".into()))
                }
                Did::Something => {}
                Did::Said(bytes) => {
                    let answer =
                        Answer::decode(&bytes).map_err(|error| Stopped::Failed(error.to_string()))?;
                    return match answer.error {
                        Some(error) => {
                            let command = answer.header.command;
                            Err(Stopped::Failed(format!("command {command} of SMP: {error}")))
                        }
                        None => Ok(read(&answer)),
                    };
                }
            }
        }
    }

    /// Requests a reset over SMP.
    pub fn ask_reset(&mut self) -> Result<(), Stopped> {
        let request = bledfu_wire::os_group::Request::Reset {
            force: false,
            boot_mode: None,
        };
        self.ask(&Request::Os(request), |_| ())?;
        self.end()
    }
}

/// Whether the traffic is printed: only if one device is made.
fn is_traced() -> bool {
    static IS_ON: OnceLock<bool> = OnceLock::new();
    *IS_ON.get_or_init(|| std::env::var_os("WAY_OUT_DEVICE").is_some())
}

fn trace(what: &str, bytes: &[u8]) {
    if is_traced() {
        println!(
            "{what}: {} bytes {:02x?}",
            bytes.len(),
            &bytes[..bytes.len().min(20)]
        );
    }
}

// ---- the log of the device ----

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            trace(&record.args().to_string(), &[]);
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Records the log of the devices of this thread.
pub fn listen() {
    // Another test of this binary may have installed it already.
    let _ = log::set_logger(&Recorder);
    log::set_max_level(log::LevelFilter::Warn);
    LINES.with_borrow_mut(Vec::clear);
}

/// The lines logged since the last call.
pub fn said() -> Vec<String> {
    let mut lines = LINES.with_borrow_mut(std::mem::take);
    lines.dedup();
    lines
}

/// The spare area. On these devices all areas have the same units.
pub fn spare(board: &Board) -> Area {
    board.spare.with_units().expect("units of the other areas")
}
