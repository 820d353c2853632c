// SPDX-License-Identifier: Apache-2.0
//! Plays a rebuilt exchange to the project's own target: the same service loop, upload and simulated flash as `bledfu update`.
//!
//! Image bytes are never in a log, but their CRCs are: the image is made up so that it has them. An init packet that is logged whole
//! is sent as it is, to a device whose key is the one that signed it; else a made-up one stands for it. The last Execute is not
//! played, because no made-up image has the SHA-256 of the init packet.

use std::collections::BTreeMap;

use anyhow::{anyhow, Result};
use bledfu_sim::device::{image_digest, Board, Device, Keys, Setup};
use bledfu_sim::init_packet::InitFields;
use bledfu_sim::keys::{key_that_signed, swap_halves, SigningKey};
use bledfu_sim::make::ImageSpec;
use bledfu_sim::phone::secure_dfu::crc32;
use bledfu_sim::power::Power;
use bledfu_slot::decide::next_boot;
use bledfu_slot::{Algorithm, Flag, Magic, SwapType, Trailer, Version};
use bledfu_transfer::init_check::SoftDevicePolicy;
use bledfu_transfer::ring::{Channel, Frame};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::Step as ServiceStep;
use bledfu_wire::init_packet::InitPacket;
use sha2::{Digest as _, Sha256};

use super::fact::{BootTrailer, Fact};
use super::story::{op, Answer, Exchange, Spot, Step, Story};

/// Object size of the targets in logs.
const OBJECT: u32 = 4096;
/// Most image bytes that are made up: the longest image that a replay needs is that of the bytes sent.
const MOST_BYTES: u32 = 4 << 20;
/// Longest packet of the replay, as with an MTU of 247.
const PACKET: usize = 244;
/// Most requests that are played.
const MOST_REQUESTS: usize = 20_000;
/// Most steps of the device for one packet or request.
const MOST_STEPS: usize = 10_000;

/// What the logs of a file know of a package, by the CRC of its init packet.
#[derive(Clone, Debug, Default)]
pub struct Package {
    init: Option<Vec<u8>>,
    /// CRC of the image up to an offset.
    crcs: BTreeMap<u32, u32>,
}

/// The packages in a file.
#[derive(Clone, Debug, Default)]
pub struct Packages(BTreeMap<u32, Package>);

impl Packages {
    /// Takes what a log says; `wrong` is the line of its wrong answer.
    pub fn learn(&mut self, story: &Story, wrong: Option<Spot>) {
        let package = self.0.entry(init_crc(story)).or_default();
        if InitPacket::decode(&story.init).is_ok() {
            package.init = Some(story.init.clone());
        }
        for exchange in story.exchanges.iter().filter(|exchange| !exchange.command) {
            let Some(answer) = exchange
                .answer
                .as_ref()
                .filter(|answer| Some(answer.spot) != wrong)
            else {
                continue;
            };
            if exchange.op == op::CHECKSUM {
                if let Some((offset, crc)) = answer.checksum().filter(|(offset, _)| *offset > 0) {
                    package.crcs.entry(offset).or_insert(crc);
                }
            }
        }
    }
}

/// A small image 1.0.0: a device needs one to run, no log asks for its bytes.
pub fn factory_image(key: &SigningKey) -> Vec<u8> {
    let version = Version {
        major: 1,
        ..Version::default()
    };
    ImageSpec::new(version, vec![0; 256], key).build()
}

/// The device, as it comes from the factory: there is nothing to install, so no boot stage has to look for it.
///
/// # Errors
/// One sentence, if it cannot start.
pub fn started(board: &Board, factory: &[u8]) -> Result<Device> {
    board.program_factory(factory)?;
    let image = board
        .primary_image()
        .ok_or_else(|| anyhow!("the device refuses its factory image"))?;
    Ok(board.start(&image)?)
}

/// CRC of the init packet of a log, 0 if it does not say.
fn init_crc(story: &Story) -> u32 {
    if InitPacket::decode(&story.init).is_ok() {
        return crc32(&story.init);
    }
    let told = story
        .exchanges
        .iter()
        .filter(|exchange| exchange.command)
        .find_map(|exchange| {
            let answer = exchange.answer.as_ref()?;
            match exchange.op {
                op::CHECKSUM => answer.checksum().map(|(_, crc)| crc),
                op::SELECT => answer.info().map(|(_, _, crc)| crc),
                _ => None,
            }
        });
    told.unwrap_or_default()
}

/// How an answer compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// To the byte.
    Yes,
    /// The same result; the values are those of a made-up init packet.
    InMeaning,
    /// Another answer.
    No,
    /// The log has none.
    Unanswered,
}

/// A request, the answer in the log, and the target's.
#[derive(Clone, Debug)]
pub struct Played {
    /// The request's place.
    pub spot: Spot,
    /// What was sent.
    pub request: Vec<u8>,
    /// The answer in the log.
    pub logged: Option<Answer>,
    /// The target's answer; empty if it gave none.
    pub answer: Vec<u8>,
    /// After this time on its own clock, in ms.
    pub took_ms: f64,
    /// How they compare.
    pub same: Same,
}

/// A replay.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Requests in order.
    pub played: Vec<Played>,
    /// Whether the init packet is the log's.
    pub own_init: bool,
    /// The last Execute was left out.
    pub left_out: Option<Spot>,
}

impl Replay {
    /// Answers that are the same, in bytes or in meaning.
    pub fn same(&self) -> usize {
        let is_same = |played: &&Played| matches!(played.same, Same::Yes | Same::InMeaning);
        self.played.iter().filter(is_same).count()
    }
}

/// Plays a log; `None` when it has no exchange of Secure DFU.
///
/// # Errors
/// The simulated device does not start.
pub fn play(story: &Story, packages: &Packages, verdict: Option<&str>) -> Result<Option<Replay>> {
    if story.exchanges.is_empty() {
        return Ok(None);
    }
    let nothing = Package::default();
    let package = packages.0.get(&init_crc(story)).unwrap_or(&nothing);
    let mut player = Player::new(story, package, verdict)?;
    player.run(story)?;
    Ok(Some(player.replay))
}

struct Player {
    device: Device,
    power: Power,
    init: Vec<u8>,
    image: Vec<u8>,
    size: u32,
    replay: Replay,
    /// The init packet was sent and executed.
    has_init: bool,
    /// Bytes of the image that are executed, and the end of the open object.
    base: u32,
    open: Option<u32>,
    sent: u32,
    command_open: bool,
    number: u32,
}

impl Player {
    fn new(story: &Story, package: &Package, verdict: Option<&str>) -> Result<Self> {
        let decoded = package
            .init
            .as_deref()
            .map(|init| InitPacket::decode(init).map(|packet| (init, packet)));
        let decoded = decoded.and_then(Result::ok);
        let size = decoded
            .as_ref()
            .and_then(|(_, packet)| packet.init.app_size)
            .unwrap_or_else(|| size_of(story));
        let image = made_up_image(size.min(bytes_needed(story)), &package.crcs);
        let own =
            SigningKey::from_scalar(&[0x17; 32]).ok_or_else(|| anyhow!("no key for the made-up package"))?;
        let (init, key, hw_version, fw_version) = match &decoded {
            Some((init, packet)) => {
                let digest: [u8; 32] = Sha256::digest(packet.init.signed_bytes()).into();
                let signature = packet.signature.as_ref().map(|signature| signature.bytes);
                let halves: Option<[u8; 64]> = signature.and_then(|bytes| bytes.try_into().ok());
                let key = halves.and_then(|halves| key_that_signed(&digest, &swap_halves(&halves)));
                let packet = &packet.init;
                ((*init).to_vec(), key, packet.hw_version, packet.fw_version)
            }
            None => {
                let fields = InitFields::application(2, 52, &[0], size, &[0; 32]);
                (fields.signed(&own), Some(own.public()), Some(52), Some(2))
            }
        };
        let key = match verdict {
            // The device of the log has another key.
            Some("S14") => None,
            _ => key,
        };
        let factory = factory_image(&own);
        let digest = image_digest(&factory).ok_or_else(|| anyhow!("the factory image has no header"))?;
        let key = key.unwrap_or(
            SigningKey::from_scalar(&[0x18; 32])
                .ok_or_else(|| anyhow!("no key"))?
                .public(),
        );
        let hw_version = hw_version.unwrap_or(52);
        let extended = |code: u8| verdict_code(story) == Some(code);
        let fw_version = fw_version.unwrap_or(1);
        let setup = Setup {
            keys: Keys::new(key, own.public(), vec![digest]),
            // As the device of the log must be; the nRF5 SDK has these objects.
            object_size: 4096,
            hw_version: if extended(6) {
                hw_version.wrapping_add(1)
            } else {
                hw_version
            },
            fw_version: if extended(5) {
                fw_version.saturating_add(1)
            } else {
                fw_version.min(1)
            },
            soft_device: if extended(7) {
                SoftDevicePolicy::ActAs(&[0xFFFE_FFFD])
            } else {
                SoftDevicePolicy::Ignore
            },
            ..Setup::demo()
        };
        let power = Power::new();
        let board = Board::new(setup, &power)?;
        let mut device = started(&board, &factory)?;
        device.link_up(Transport::Ble);
        Ok(Self {
            device,
            power,
            init,
            image,
            size,
            replay: Replay {
                played: Vec::new(),
                own_init: decoded.is_some(),
                left_out: None,
            },
            has_init: false,
            base: 0,
            open: None,
            sent: 0,
            command_open: false,
            number: 0,
        })
    }

    fn run(&mut self, story: &Story) -> Result<()> {
        for step in &story.steps {
            match step {
                Step::Exchange(index) => {
                    let Some(exchange) = story.exchanges.get(*index) else {
                        continue;
                    };
                    if self.replay.played.len() >= MOST_REQUESTS || !self.exchange(story, *index, exchange)? {
                        return Ok(());
                    }
                }
                Step::Packets(_) => self.send_object(),
                Step::Mark(index) => {
                    let mark = story.marks.get(*index).map(|mark| &mark.fact);
                    if matches!(
                        mark,
                        Some(
                            Fact::Ended
                                | Fact::LinkState {
                                    dfu: true,
                                    up: false,
                                    ..
                                }
                        )
                    ) {
                        self.reconnect();
                    }
                }
                Step::Receipt { .. } => {}
            }
        }
        Ok(())
    }

    fn reconnect(&mut self) {
        self.device.link_down();
        self.wait();
        self.device.link_up(Transport::Ble);
        self.open = None;
        self.sent = self.base;
    }

    /// Plays one exchange; false at the end of what can be played.
    fn exchange(&mut self, story: &Story, index: usize, exchange: &Exchange) -> Result<bool> {
        let request = match (exchange.op, exchange.command) {
            (op::SELECT, command) => {
                let held = exchange
                    .answer
                    .as_ref()
                    .and_then(Answer::info)
                    .map_or(0, |(_, offset, _)| offset);
                self.hold(command, held);
                vec![op::SELECT, if command { 1 } else { 2 }]
            }
            (op::CREATE, true) => {
                self.command_open = true;
                let size = exchange.size.filter(|_| self.replay.own_init);
                let size = size.unwrap_or(u32::try_from(self.init.len())?);
                create(1, size)
            }
            (op::CREATE, false) => {
                self.hold(true, u32::MAX);
                let end = self.end_of(story, index, exchange);
                self.open = Some(end);
                self.sent = self.base;
                create(2, exchange.size.unwrap_or(end - self.base))
            }
            (op::RECEIPTS, _) => {
                let count = exchange.receipts.unwrap_or_default() as u16;
                let [low, high] = count.to_le_bytes();
                vec![op::RECEIPTS, low, high]
            }
            (op::CHECKSUM | op::EXECUTE, true) => {
                if !self.command_open && !self.has_init {
                    self.write(Channel::Control, &create(1, u32::try_from(self.init.len())?));
                    self.command_open = true;
                }
                self.send_init();
                vec![exchange.op]
            }
            (op::CHECKSUM | op::EXECUTE, false) => {
                self.hold(true, u32::MAX);
                if self.open.is_none() {
                    let end = self.end_of(story, index, exchange);
                    self.write(Channel::Control, &create(2, end - self.base));
                    self.open = Some(end);
                    self.sent = self.base;
                }
                self.send_object();
                if exchange.op == op::EXECUTE && self.open.is_some_and(|end| end >= self.size) {
                    self.replay.left_out = Some(exchange.spot);
                    return Ok(false);
                }
                vec![exchange.op]
            }
            _ => return Ok(true),
        };
        let started = self.power.now_ns();
        let answers = self.write(Channel::Control, &request);
        let took_ms = (self.power.now_ns() - started) as f64 / 1e6;
        let answer = answers
            .into_iter()
            .rfind(|answer| answer.get(1) == Some(&exchange.op))
            .unwrap_or_default();
        if answer.get(2) == Some(&1) && exchange.op == op::EXECUTE {
            match exchange.command {
                true => self.has_init = true,
                false => {
                    self.base = self.open.take().unwrap_or(self.base);
                    self.sent = self.base;
                }
            }
        }
        let same = match &exchange.answer {
            None => Same::Unanswered,
            Some(logged) if logged.bytes == answer => Same::Yes,
            Some(logged)
                if exchange.command
                    && !self.replay.own_init
                    && matches!(exchange.op, op::CHECKSUM | op::SELECT)
                    && answer.get(2) == Some(&logged.code()) =>
            {
                Same::InMeaning
            }
            Some(_) => Same::No,
        };
        self.replay.played.push(Played {
            spot: exchange.spot,
            request,
            logged: exchange.answer.clone(),
            answer,
            took_ms,
            same,
        });
        Ok(true)
    }

    /// Where the data object ends that `exchange` creates, or that is open in the log without its Create.
    fn end_of(&mut self, story: &Story, index: usize, exchange: &Exchange) -> u32 {
        self.number = exchange
            .object
            .map_or(self.number.saturating_add(1), |(number, _)| number);
        let whole = self
            .base
            .saturating_add(OBJECT)
            .min(self.size.max(self.base.saturating_add(1)));
        let told = || {
            let rest = story.exchanges.get(index..)?.iter();
            let mut told = rest
                .take_while(|later| later.spot == exchange.spot || later.op != op::CREATE)
                .filter_map(|later| {
                    let (offset, _) = later.answer.as_ref()?.checksum()?;
                    (!later.command && offset > self.base && offset <= self.base.saturating_add(OBJECT))
                        .then_some(offset)
                });
            told.next()
        };
        let is_last = exchange.object.is_none_or(|(number, all)| number >= all);
        match exchange.size.filter(|size| (1..=OBJECT).contains(size)) {
            Some(size) => self.base.saturating_add(size),
            None if is_last => told().unwrap_or(whole),
            None => whole,
        }
    }

    /// Brings the target to what the device of the log holds already, without a word: the init packet, and this many bytes.
    fn hold(&mut self, command: bool, held: u32) {
        if held > 0 && !self.has_init && !self.command_open {
            let size = u32::try_from(self.init.len()).unwrap_or_default();
            self.write(Channel::Control, &create(1, size));
            self.command_open = true;
            self.send_init();
            self.write(Channel::Control, &[op::EXECUTE]);
            self.has_init = true;
            if held != u32::MAX {
                // It came with an earlier connection.
                self.reconnect();
            }
        }
        if command || held == u32::MAX {
            return;
        }
        let held = held.min(MOST_BYTES);
        while self.base < held && self.base.saturating_add(OBJECT) <= held.min(self.size) {
            let end = self.base + OBJECT;
            self.write(Channel::Control, &create(2, OBJECT));
            self.open = Some(end);
            self.sent = self.base;
            self.send_object();
            self.write(Channel::Control, &[op::EXECUTE]);
            self.base = end;
            self.open = None;
        }
    }

    fn send_init(&mut self) {
        if std::mem::take(&mut self.command_open) {
            let init = self.init.clone();
            self.write(Channel::Packet, &init);
        }
    }

    /// Sends what the open object still lacks.
    fn send_object(&mut self) {
        let Some(end) = self.open.filter(|end| *end > self.sent) else {
            return;
        };
        let range = self.sent as usize..end as usize;
        let mut bytes = self
            .image
            .get(range.start..self.image.len().min(range.end))
            .unwrap_or_default()
            .to_vec();
        bytes.resize(range.len().min(OBJECT as usize), 0xFF);
        self.write(Channel::Packet, &bytes);
        self.sent = end;
    }

    fn write(&mut self, channel: Channel, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for bytes in bytes.chunks(PACKET) {
            // The ring is empty between two writes, so it takes each.
            if self.device.receive(Frame { channel, bytes }).is_err() {
                return answers;
            }
            answers.extend(self.wait());
        }
        answers
    }

    fn wait(&mut self) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        for _ in 0..MOST_STEPS {
            match self.device.step() {
                Some(ServiceStep::Send { bytes, .. }) => answers.push(bytes.to_vec()),
                Some(ServiceStep::Wait { .. } | ServiceStep::Deliver { .. } | ServiceStep::Reset) => break,
                _ => {}
            }
        }
        answers
    }
}

fn create(kind: u8, size: u32) -> Vec<u8> {
    let mut request = vec![op::CREATE, kind];
    request.extend(size.to_le_bytes());
    request
}

/// The extended code with which the device of the log refused the init packet.
fn verdict_code(story: &Story) -> Option<u8> {
    let executes = story
        .exchanges
        .iter()
        .filter(|exchange| exchange.op == op::EXECUTE);
    executes
        .filter_map(|exchange| exchange.answer.as_ref()?.extended())
        .next()
}

/// Size of an image whose init packet is not known.
fn size_of(story: &Story) -> u32 {
    let told = story
        .exchanges
        .iter()
        .filter(|exchange| !exchange.command)
        .filter_map(|exchange| exchange.answer.as_ref()?.checksum().map(|(offset, _)| offset));
    let told = told.max().unwrap_or_default();
    match story.objects() {
        Some(objects) => {
            let least = objects.saturating_sub(1).saturating_mul(OBJECT);
            if told > least {
                told
            } else {
                least.saturating_add(OBJECT)
            }
        }
        None => told.max(1).checked_next_multiple_of(OBJECT).unwrap_or(u32::MAX),
    }
}

/// Bytes that the log's client has sent at most.
fn bytes_needed(story: &Story) -> u32 {
    let creates = story
        .exchanges
        .iter()
        .filter(|exchange| exchange.op == op::CREATE && !exchange.command)
        .count();
    let held = story
        .exchanges
        .iter()
        .filter(|exchange| !exchange.command)
        .filter_map(|exchange| {
            let answer = exchange.answer.as_ref()?;
            answer
                .info()
                .map(|(_, offset, _)| offset)
                .or_else(|| answer.checksum().map(|(offset, _)| offset))
        });
    let created = u32::try_from(creates + 1)
        .unwrap_or(u32::MAX)
        .saturating_mul(OBJECT);
    created
        .saturating_add(held.max().unwrap_or_default())
        .min(MOST_BYTES)
}

/// Image bytes with these CRCs: the last four bytes before each offset are chosen for it.
fn made_up_image(size: u32, crcs: &BTreeMap<u32, u32>) -> Vec<u8> {
    let mut image: Vec<u8> = (0..size)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut fixed = 0;
    for (&end, &wanted) in crcs {
        let end = end as usize;
        if end > image.len() || end < fixed + 4 {
            continue;
        }
        // Run the register back from the wanted CRC over four zero bytes; its difference from the state before them is the bytes.
        let mut register = !wanted;
        for _ in 0..32 {
            register = match register & 0x8000_0000 {
                0 => register << 1,
                _ => (register ^ 0xEDB8_8320) << 1 | 1,
            };
        }
        let before = !crc32(image.get(..end - 4).unwrap_or_default());
        if let Some(last) = image.get_mut(end - 4..end) {
            last.copy_from_slice(&(before ^ register).to_le_bytes());
        }
        fixed = end;
    }
    image
}

/// A decision of a boot stage in the log, and ours for the same trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Where the log tells it.
    pub spot: Spot,
    /// Its swap type, as MCUboot numbers them.
    pub logged: u32,
    /// Ours.
    pub ours: SwapType,
}

/// The decisions in a log of MCUboot, taken again from the trailers that it prints.
pub fn decisions(story: &Story) -> Vec<Decision> {
    let mut trailers = [Trailer::ERASED; 2];
    let mut seen = false;
    let mut decisions = Vec::new();
    for mark in &story.marks {
        match &mark.fact {
            Fact::Banner { .. } => {
                trailers = [Trailer::ERASED; 2];
                seen = false;
            }
            Fact::Trailer(found) => {
                seen = true;
                let [primary, secondary] = &mut trailers;
                *(if found.primary { primary } else { secondary }) = trailer(found);
            }
            Fact::SwapType(logged) if seen => {
                let [primary, secondary] = &trailers;
                decisions.push(Decision {
                    spot: mark.spot,
                    logged: *logged,
                    ours: next_boot(Algorithm::SwapMove, primary, secondary),
                });
            }
            _ => {}
        }
    }
    decisions
}

fn trailer(found: &BootTrailer) -> Trailer {
    let flag = |number| match number {
        1 => Flag::Set,
        3 => Flag::Unset,
        _ => Flag::Bad,
    };
    Trailer {
        magic: match found.magic {
            Some(true) => Magic::Good,
            Some(false) => Magic::Bad,
            None => Magic::Unset,
        },
        image_ok: flag(found.image_ok),
        copy_done: flag(found.copy_done),
        ..Trailer::ERASED
    }
}
