// SPDX-License-Identifier: Apache-2.0
//! A peer directly at the device's ring: requests in, answers out, byte for byte, with no link in between.
//!
//! The device is that of the Secure DFU conformance list: hardware version 52, firmware version 1, objects of 512 and
//! 4096 bytes, signature required, no SoftDevice. Its package key is the list's.
#![allow(dead_code)] // every test binary uses another part of this

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::OnceLock;

use bledfu_sim::device::{Board, Device, Keys, Setup};
use bledfu_sim::init_packet::InitFields;
use bledfu_sim::keys::SigningKey;
use bledfu_sim::make::ImageSpec;
use bledfu_sim::package::{Package, Part};
use bledfu_sim::phone::secure_dfu::{crc32, Client, Phone};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_sim::power::Power;
use bledfu_slot::Version;
use bledfu_swap::BootReport;
use bledfu_transfer::event::Event;
use bledfu_transfer::ring::{Channel, Frame, PushError};
use bledfu_transfer::secure_dfu::{Then, Transport};
use bledfu_transfer::service::Step;
use sha2::{Digest, Sha256};

/// Size of P, and of the real images that replace it where a test needs an image.
pub const P_SIZE: usize = 5000;
/// Bytes of a data object.
pub const OBJECT: usize = 4096;
/// Size of a packet at MTU 247.
pub const PACKET: usize = 244;

/// I, the list's signed init packet for P.
pub const PACKET_I: &str = "\
    1288010A420801123E080210341A0100200028003000388827422408031220FB8AFC751487E795430E5791E823AB44BB8B1D518D9BB5DF\
    D9F77B29858B3934480052040801120010001A402220E65C6CD48F7D339CEA0999A2253DC8D3126A65F9981FABF78617CD7EA4408CF21D\
    78BB61D21D7EE018C724F0E067B1D5F1511AB9B22FE5E30FC123F2E395";

/// The bytes of a hexadecimal text; blanks are ignored.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits
        .chunks(2)
        .map(|pair| byte(pair).expect("hexadecimal digits"))
        .collect()
}

/// Bytes in the list's notation: `60 06 01`.
pub fn show(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(" ")
}

/// A number as it is sent over the air: `00 10 00 00`.
pub fn le(number: usize) -> String {
    show(&(number as u32).to_le_bytes())
}

/// The answer to Checksum, and the receipt, for a device that holds exactly these bytes.
pub fn checksum(held: &[u8]) -> String {
    format!("60 03 01 {} {}", le(held.len()), le(crc32(held) as usize))
}

/// The answer to Select of a device that holds exactly these bytes and accepts objects of `max` bytes.
pub fn selected(max: usize, held: &[u8]) -> String {
    format!(
        "60 06 01 {} {} {}",
        le(max),
        le(held.len()),
        le(crc32(held) as usize)
    )
}

/// Create of a command object.
pub fn create_command(size: usize) -> String {
    format!("01 01 {}", le(size))
}

/// Create of a data object.
pub fn create_data(size: usize) -> String {
    format!("01 02 {}", le(size))
}

/// P, the image of the list: byte i is 7·i + 3. It is not an MCUboot image.
pub fn image_p() -> Vec<u8> {
    (0..P_SIZE as u32).map(|i| (7 * i + 3) as u8).collect()
}

pub fn packet_i() -> Vec<u8> {
    hex(PACKET_I)
}

/// U: I without its signature.
pub fn packet_u() -> Vec<u8> {
    let mut packet = vec![0x0A, 0x42];
    packet.extend_from_slice(&packet_i()[5..71]);
    packet
}

/// The list's key: private number 01 02 … 20.
pub fn package_key() -> SigningKey {
    let scalar: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
    SigningKey::from_scalar(&scalar).expect("a number below the order")
}

/// Signs images; not the key of packages, so that no test can confuse them.
pub fn image_key() -> SigningKey {
    SigningKey::from_scalar(&[0x33; 32]).expect("a number below the order")
}

/// A key that the device does not know.
pub fn strange_key() -> SigningKey {
    SigningKey::from_scalar(&[0x44; 32]).expect("a number below the order")
}

pub const fn version(major: u8) -> Version {
    Version {
        major,
        minor: 0,
        revision: 0,
        build: 0,
    }
}

/// The image that runs first: version 1.0.0.
pub fn factory_image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        ImageSpec::demo(version(1), 9_000, &image_key())
            .expect("room for TLVs")
            .build()
    })
}

/// The recipe of [`update_image`].
pub fn update_spec() -> ImageSpec {
    ImageSpec::demo(version(2), P_SIZE, &image_key()).expect("room for TLVs")
}

/// A real image of the size of P, version 2.0.0: two objects, and the last Execute can succeed.
pub fn update_image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| update_spec().build())
}

/// The update after [`update_image`]: version 3.0.0.
pub fn next_image() -> &'static [u8] {
    static IMAGE: OnceLock<Vec<u8>> = OnceLock::new();
    IMAGE.get_or_init(|| {
        ImageSpec::demo(version(3), P_SIZE, &image_key())
            .expect("room for TLVs")
            .build()
    })
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The fields of a correct init packet for `image`: firmware version 2, hardware version 52.
pub fn fields_for(image: &[u8]) -> InitFields {
    InitFields::application(2, 52, &[0], image.len() as u32, &sha256(image))
}

/// A correct init packet for `image`.
pub fn init_for(image: &[u8]) -> Vec<u8> {
    fields_for(image).signed(&package_key())
}

/// A package, as a client takes it out of a zip.
pub fn package(init: &[u8], firmware: &[u8]) -> Package {
    let application = Part {
        init: init.to_vec(),
        firmware: firmware.to_vec(),
        dat_file: "app.dat".into(),
        bin_file: "app.bin".into(),
    };
    Package {
        application,
        system: None,
    }
}

/// The package that updates the device to [`update_image`].
pub fn update_package() -> Package {
    package(&init_for(update_image()), update_image())
}

pub fn keys() -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    *KEYS.get_or_init(|| Keys::new(package_key().public(), image_key().public(), Vec::new()))
}

/// The device of the list: objects of 4096 bytes, and slots of 16 sectors.
pub fn setup() -> Setup {
    Setup {
        keys: keys(),
        object_size: 4096,
        ..Setup::small(16)
    }
}

/// A device and its peer. A request is answered before the next one is sent, unless a test uses `burst`.
pub struct Peer {
    /// Survives resets.
    pub board: Board,
    /// What the last answer asks of the caller: nothing, closing the link, or a reset.
    pub then: Then,
    /// Bytes per packet.
    pub payload: usize,
    /// The worker does its idle work (erases ahead) whenever no frame waits, as on a device.
    pub idles: bool,
    /// Longest virtual time from a frame to its answer, in ns.
    pub slowest_ns: u64,
    /// What the product was told since the last reset.
    pub events: Vec<Event>,
    device: Option<Device>,
    transport: Transport,
    inbox: VecDeque<Vec<u8>>,
}

impl Peer {
    /// Connected to a fresh device over Bluetooth.
    pub fn new() -> Self {
        Self::with(setup())
    }

    /// Connected to a fresh device over a serial line with frames of `mtu` bytes.
    pub fn serial(mtu: u16) -> Self {
        let mut peer = Self::new();
        peer.drop_link();
        peer.transport = Transport::Serial { mtu };
        peer.connect();
        peer
    }

    pub fn with(setup: Setup) -> Self {
        Self::with_factory(setup, factory_image())
    }

    pub fn with_factory(setup: Setup, factory: &[u8]) -> Self {
        let board = Board::new(setup, &Power::new()).expect("slots that fit");
        board.program_factory(factory).expect("an image that fits");
        Self::on(board)
    }

    /// Boots the board and connects.
    pub fn on(board: Board) -> Self {
        let mut peer = Self {
            board,
            then: Then::Continue,
            payload: PACKET,
            idles: true,
            slowest_ns: 0,
            events: Vec::new(),
            device: None,
            transport: Transport::Ble,
            inbox: VecDeque::new(),
        };
        peer.reboot();
        peer
    }

    /// A device that has accepted `init`.
    pub fn after_init(init: &[u8]) -> Self {
        let mut peer = Self::new();
        assert_eq!(peer.send_init(init), "60 04 01");
        peer
    }

    /// A device that has accepted I and executed the first object of P.
    pub fn after_first_object() -> Self {
        let mut peer = Self::after_init(&packet_i());
        peer.object(&image_p(), 0, OBJECT);
        peer.ask("04", "60 04 01");
        peer
    }

    /// From the next connection on.
    pub fn set_transport(&mut self, transport: Transport) {
        self.transport = transport;
    }

    pub fn device(&mut self) -> &mut Device {
        self.device.as_mut().expect("the device is on")
    }

    // ---- link and power ----

    pub fn connect(&mut self) {
        let transport = self.transport;
        self.then = Then::Continue;
        self.device().link_up(transport);
        self.settle();
    }

    pub fn drop_link(&mut self) {
        self.inbox.clear();
        self.device().link_down();
        self.settle();
    }

    pub fn reconnect(&mut self) {
        self.drop_link();
        self.connect();
    }

    /// Power on or reset: boot stage, application, connection.
    pub fn reboot(&mut self) -> BootReport {
        let report = self.restart();
        self.connect();
        report
    }

    /// Power on or reset: boot stage and application; nobody is connected yet.
    pub fn restart(&mut self) -> BootReport {
        self.device = None;
        self.inbox.clear();
        self.events.clear();
        self.board.power.power_on();
        let report = self.board.boot().expect("a device that boots");
        self.device = Some(
            self.board
                .start(&report.image)
                .expect("an application that starts"),
        );
        report
    }

    /// Idle work until there is none left.
    pub fn idle(&mut self) {
        self.settle();
        while !self.board.power.is_off() && self.device().step().is_none() {}
    }

    /// Handles the content of the inbox, without background work.
    fn settle(&mut self) {
        while self.work_once() {}
    }

    /// Actions of the device `ms` later, without any frame meanwhile.
    pub fn wait(&mut self, ms: u64) -> Then {
        self.idle();
        self.board.power.advance_ns(ms * 1_000_000);
        self.then = Then::Continue;
        if self.device().step() == Some(Step::Disconnect) {
            self.then = Then::Disconnect;
        }
        self.then
    }

    // ---- requests and packets ----

    /// Puts a frame into the ring. If there is no room, the link holds it back while the worker continues.
    pub fn burst(&mut self, channel: Channel, bytes: &[u8]) {
        loop {
            match self.device().offer(Frame { channel, bytes }) {
                Ok(()) => return,
                Err(PushError::Full) => {
                    self.work_once();
                }
                Err(PushError::Lost | PushError::TooLong) => panic!("{} bytes in one write", bytes.len()),
            }
        }
    }

    /// One step of the device. False when there is nothing to do.
    fn work_once(&mut self) -> bool {
        let began = self.board.power.now_ns();
        let device = self.device.as_mut().expect("the device is on");
        if self.board.power.is_off() || (device.is_settled() && device.is_inbox_empty()) {
            return false;
        }
        match device.step() {
            None => self.slowest_ns = self.slowest_ns.max(self.board.power.now_ns() - began),
            Some(Step::Send { bytes, .. } | Step::Answer { bytes }) if !self.board.power.is_off() => {
                self.inbox.push_back(bytes.to_vec());
            }
            Some(Step::Tell(event)) => self.events.push(event),
            Some(Step::Wait { until_ms }) => {
                let now_ms = self.board.power.now_ns() / 1_000_000;
                self.board
                    .power
                    .advance_ns(until_ms.saturating_sub(now_ms) * 1_000_000);
            }
            Some(Step::Disconnect) => self.then = Then::Disconnect,
            Some(Step::Reset) => self.then = Then::Reset,
            Some(_) => {}
        }
        true
    }

    /// The worker empties the inbox; then it idles.
    pub fn work(&mut self) {
        self.settle();
        if self.idles {
            self.idle();
        }
    }

    /// Answers that were not read yet.
    pub fn answers(&mut self) -> Vec<String> {
        self.inbox.drain(..).map(|bytes| show(&bytes)).collect()
    }

    /// All notifications after one control point write (or serial frame).
    pub fn control(&mut self, request: &[u8]) -> Vec<String> {
        self.send(Channel::Control, request);
        self.answers()
    }

    fn send(&mut self, channel: Channel, bytes: &[u8]) {
        self.burst(channel, bytes);
        self.work();
    }

    /// The one answer to a request.
    #[track_caller]
    pub fn answer(&mut self, request: &str) -> String {
        let mut answers = self.control(&hex(request));
        assert_eq!(answers.len(), 1, "answers to {request}: {answers:?}");
        answers.remove(0)
    }

    /// Sends a request and compares its one answer.
    #[track_caller]
    pub fn ask(&mut self, request: &str, answer: &str) {
        let came = self.answer(request);
        assert_eq!(came, show(&hex(answer)), "the answer to {request}");
    }

    /// Sends a request that is not answered.
    #[track_caller]
    pub fn ask_nothing(&mut self, request: &str) {
        let none: [&str; 0] = [];
        assert_eq!(self.control(&hex(request)), none, "answers to {request}");
    }

    /// Sends bytes in packets of `size`; returns the receipts.
    pub fn packets(&mut self, bytes: &[u8], size: usize) -> Vec<String> {
        for packet in bytes.chunks(size) {
            match self.transport {
                Transport::Ble => self.send(Channel::Packet, packet),
                Transport::Serial { .. } => {
                    let mut request = vec![0x08];
                    request.extend_from_slice(packet);
                    self.send(Channel::Control, &request);
                }
            }
        }
        self.answers()
    }

    /// Sends bytes in packets of MTU 247 and checks that nothing is sent back.
    #[track_caller]
    pub fn data(&mut self, bytes: &[u8]) {
        let payload = self.payload;
        let none: [&str; 0] = [];
        assert_eq!(
            self.packets(bytes, payload),
            none,
            "nothing is sent without being asked for"
        );
    }

    /// Creates the command object, fills it, executes it; returns the last answer.
    pub fn send_init(&mut self, init: &[u8]) -> String {
        self.ask(&create_command(init.len()), "60 01 01");
        self.data(init);
        self.ask("03", &checksum(init));
        self.answer("04")
    }

    /// Creates and fills the data object `begin..end` of `image`, without Execute.
    #[track_caller]
    pub fn object(&mut self, image: &[u8], begin: usize, end: usize) {
        self.ask(&create_data(end - begin), "60 01 01");
        self.data(&image[begin..end]);
        self.ask("03", &checksum(&image[..end]));
    }

    /// Sends `image` from `from` (an object boundary) to its end; returns the answer to the last Execute.
    #[track_caller]
    pub fn image_from(&mut self, image: &[u8], from: usize) -> String {
        let mut at = from;
        loop {
            let end = (at + OBJECT).min(image.len());
            self.object(image, at, end);
            let answer = self.answer("04");
            if end == image.len() {
                return answer;
            }
            assert_eq!(answer, "60 04 01");
            at = end;
        }
    }

    /// A whole transfer, from Create to the answer to the last Execute.
    #[track_caller]
    pub fn transfer(&mut self, init: &[u8], image: &[u8]) -> String {
        assert_eq!(self.send_init(init), "60 04 01");
        self.image_from(image, 0)
    }

    /// One session of a real client's program.
    ///
    /// # Errors
    /// The client's: refused, link lost.
    pub fn client(&mut self, phone: Phone, receipts: u16, package: &Package) -> Result<(), PhoneError> {
        Client::new(self, phone, receipts)
            .update(package, &mut |_| ())
            .map(drop)
    }

    /// Updates to [`update_image`], or to [`next_image`] if that one is running already, resets, confirms: proves that
    /// a device works.
    #[track_caller]
    pub fn update_and_confirm(&mut self) {
        let runs = bledfu_sim::device::image_digest(update_image());
        let image = match Some(self.device().image().digest) == runs {
            true => next_image(),
            false => update_image(),
        };
        self.update_and_confirm_with(image);
    }

    /// The same with this image.
    #[track_caller]
    pub fn update_and_confirm_with(&mut self, image: &[u8]) {
        self.reconnect();
        let sent = self.client(Phone::Nrfutil, 0, &package(&init_for(image), image));
        assert_eq!(sent, Ok(()));
        self.install_and_confirm(image);
    }

    /// The image that was sent is running already: the peer is told that it is done, and nothing happens.
    #[track_caller]
    pub fn assert_ran_already(&mut self, image: &[u8]) {
        assert_eq!(
            self.then,
            Then::Disconnect,
            "after the last answer the link is closed"
        );
        self.assert_pending(false);
        let digest = bledfu_sim::device::image_digest(image);
        assert_eq!(Some(self.device().image().digest), digest);
    }

    /// The staged image is installed, runs and confirms itself.
    #[track_caller]
    pub fn install_and_confirm(&mut self, image: &[u8]) {
        assert_eq!(self.then, Then::Reset, "after the last answer the device resets");
        assert!(self.board.is_pending().expect("a trailer"), "the image is staged");
        let report = self.reboot();
        let digest = bledfu_sim::device::image_digest(image).expect("an image");
        assert_eq!(
            report.image.digest, digest,
            "the new image runs: {}",
            report.action
        );
        self.device().confirm().expect("a flash that works");
        assert_eq!(self.reboot().image.digest, digest, "it stays");
    }

    // ---- content of the board ----

    #[track_caller]
    pub fn assert_pending(&self, pending: bool) {
        assert_eq!(
            self.board.is_pending().expect("a trailer"),
            pending,
            "an update is staged"
        );
    }

    /// Checks that the secondary slot holds these bytes from where an update starts.
    #[track_caller]
    pub fn assert_held(&self, bytes: &[u8]) {
        assert!(
            self.board.received().starts_with(bytes),
            "flash does not hold what was sent"
        );
    }

    /// Fills the secondary slot, including its trailer, as an old image and its swap leave it.
    pub fn dirty_slot(&self) {
        let size = self.board.secondary.size() as usize;
        let old: Vec<u8> = (0..size).map(|i| (i / 64 + 5 * i) as u8 & 0x5B).collect();
        self.board
            .secondary
            .set_contents(0, &old)
            .expect("within the slot");
    }

    /// Virtual time in ms.
    pub fn now_ms(&self) -> u64 {
        self.board.power.now_ns() / 1_000_000
    }
}

impl DfuLink for Peer {
    fn payload(&self) -> usize {
        self.payload
    }

    fn control(&mut self, request: &[u8]) -> Result<(), PhoneError> {
        self.link()?;
        self.send(Channel::Control, request);
        self.link()
    }

    fn packet(&mut self, bytes: &[u8]) -> Result<(), PhoneError> {
        self.link()?;
        self.send(Channel::Packet, bytes);
        self.link()
    }

    fn notification(&mut self) -> Result<Vec<u8>, PhoneError> {
        self.inbox.pop_front().ok_or(PhoneError::NoAnswer(0))
    }

    fn wait_ms(&mut self, ms: u64) -> Result<(), PhoneError> {
        self.board.power.advance_ns(ms * 1_000_000);
        self.link()
    }

    fn now_ns(&self) -> u64 {
        self.board.power.now_ns()
    }
}

impl Peer {
    fn link(&self) -> Result<(), PhoneError> {
        if self.board.power.is_off() {
            Err(PhoneError::LinkLost)
        } else {
            Ok(())
        }
    }
}

// ---- the device's log ----

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Records from now on the log lines of this thread's devices; drops earlier ones.
pub fn listen() {
    // Another test of this binary may have installed it already.
    let _ = log::set_logger(&Recorder);
    log::set_max_level(log::LevelFilter::Info);
    LINES.with_borrow_mut(Vec::clear);
}

/// Checks that one line of the log contains this sentence.
#[track_caller]
pub fn assert_said(sentence: &str) {
    let lines = LINES.with_borrow_mut(std::mem::take);
    assert!(
        lines.iter().any(|line| line.contains(sentence)),
        "not said: {sentence}\nbut: {lines:#?}"
    );
}
