// SPDX-License-Identifier: Apache-2.0
//! The device: two flashes that survive a reset ([`Board`]), and the application that runs between two resets
//! ([`Device`]). All decisions are made in the logic crates; this is the wiring that a product's `firmware` and `boot`
//! contain.
//!
//! ```text
//! internal  the processor's part   0xD000  primary slot        behind it: with scratch, one page
//! external  the part               0       secondary slot      slot size  journal, two sectors
//!                                  behind the journal: with copy, a second place for images
//! ```
//! Write and erase units are constants of the types ([`BoardOf`], [`DeviceOf`]), as on a device. [`Board`] and [`Device`]
//! have those of an nRF52840; [`Setup::with_units`] finds the types of any other.

mod board;
mod keys;
mod setup;

pub use board::{Board, BoardOf, StartError};
pub use keys::{demo_keys, Keys};
pub use setup::{Setup, UnitsError, WithUnits, OBJECT_SIZE};

use bledfu_slot::areas::Partitions;
use bledfu_slot::header::{AddressRange, ImageHeader};
use bledfu_slot::verify::{Crypto, ImageInfo, SoftCrypto, StreamDigest};
use bledfu_transfer::doors::Peer;
use bledfu_transfer::inbox::{Inbox, Inlet, Next};
use bledfu_transfer::ring::{
    holds_object, ring_size_for, smp_ring_size, Channel, Frame, PushError, Ring, MAX_FRAME,
};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::service::{Service, Step};
use bledfu_transfer::smp::{DEFAULT_FRAME_COUNT, DEFAULT_FRAME_SIZE};
use bledfu_transfer::upload::Upload;

use crate::cost::{SimCrypto, CRC32_NS_PER_BYTE, EXPAND_NS_PER_BYTE};
use crate::nor::{AnyUnits, Area, Units, Words};
use crate::power::Power;

/// Where the primary slot begins in flash with pages of 4 KiB: as in `dts/layouts/internal-1m.dtsi`, behind a boot stage of
/// 52 KiB.
pub const PRIMARY_START: u32 = 0xD000;

/// Where the primary slot begins in flash with pages of this size in bytes.
pub const fn primary_start(page_size: u32) -> u32 {
    PRIMARY_START.next_multiple_of(page_size)
}

/// What identifies the image in `firmware` once it runs; `None` when it has no image header.
pub fn image_digest(firmware: &[u8]) -> Option<[u8; 32]> {
    let mut digest = StreamDigest::new(SoftCrypto.sha256());
    digest.update(firmware);
    digest.image_digest()
}

/// Whether the image in `bytes` has a vector table whose reset vector lies in `slot`.
pub fn is_linked_for(bytes: &[u8], slot: AddressRange) -> bool {
    let Ok(header) = ImageHeader::parse(bytes) else {
        return false;
    };
    let payload = bytes.get(usize::from(header.header_size)..).unwrap_or_default();
    match payload {
        [_, _, _, _, a, b, c, d, ..] => header
            .check_address(u32::from_le_bytes([*a, *b, *c, *d]), slot)
            .is_ok(),
        _ => false,
    }
}

/// Longest packet at the smallest MTU, 23.
const SHORTEST_PACKET: usize = 20;

/// Size of the receive ring in bytes of a device with objects of this size; the default of `CONFIG_BLEDFU_RING_SIZE`
/// with SMP.
pub const fn ring_size(object_size: u32) -> usize {
    let objects = ring_size_for(object_size as usize, SHORTEST_PACKET);
    let frames = smp_ring_size(DEFAULT_FRAME_SIZE, DEFAULT_FRAME_COUNT, SHORTEST_PACKET);
    if objects > frames {
        objects
    } else {
        frames
    }
}

/// Whether that ring holds a whole object.
const fn is_object_buffered(object_size: u32) -> bool {
    holds_object(ring_size(object_size), object_size as usize, SHORTEST_PACKET)
}

/// An empty inbox of a device with objects of this size.
pub fn inbox(object_size: u32) -> Inbox<Box<[u8]>> {
    Inbox::on(Ring::on(vec![0; ring_size(object_size)].into_boxed_slice()))
}

/// The areas of the simulated device.
type SimAreas<I, X> = Partitions<Area<I>, Area<X>, Area<AnyUnits>, Area<X>>;

/// The application, from its start to the next reset. `I` are the units of the internal flash, `X` those of the
/// external one.
pub struct DeviceOf<I: Units, X: Units> {
    service: Service<'static, SimAreas<I, X>, SimCrypto, DEFAULT_FRAME_SIZE>,
    inbox: Inbox<Box<[u8]>>,
    /// Frames that the worker took out of the inbox.
    taken: u64,
    /// Bytes of an image made of a packed update when the last step began.
    expanded: u32,
    image: ImageInfo,
    power: Power,
    /// Who connects.
    peer: Peer,
}

/// The application on an nRF52840, or on another processor with the same units.
pub type Device = DeviceOf<Words, Words>;

impl<I: Units, X: Units> DeviceOf<I, X> {
    /// The image that runs.
    pub fn image(&self) -> &ImageInfo {
        &self.image
    }

    /// Whether it is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.service.upload().running().confirmed
    }

    /// The self-test has passed: the image confirms itself at once.
    ///
    /// # Errors
    /// When the trailer cannot be written.
    pub fn confirm(&mut self) -> Result<(), StartError> {
        let confirmed = self.service.upload_mut().confirm();
        confirmed.map_err(|error| StartError::Boot(format!("the image could not be confirmed: {error}")))
    }

    /// Bluetooth thread: a write arrived. It is only put into the inbox.
    ///
    /// # Errors
    /// [`PushError::Full`]: the peer sent more than it may before an answer; the write is lost.
    pub fn receive(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let now_ms = self.now_ms();
        self.inbox.push(frame, now_ms)
    }

    /// The same for a packet; see [`Inbox::try_push`].
    ///
    /// # Errors
    /// [`PushError::Full`]: the Bluetooth thread may wait for room.
    pub fn try_receive(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let now_ms = self.now_ms();
        self.inbox.try_push(frame, now_ms)
    }

    /// Like [`Device::receive`], from a peer that can be held back.
    ///
    /// # Errors
    /// [`PushError::Full`]: the peer has to wait.
    pub fn offer(&mut self, frame: Frame<'_>) -> Result<(), PushError> {
        let now_ms = self.now_ms();
        self.inbox.offer(frame, now_ms)
    }

    /// A peer has connected and turned notifications on.
    pub fn link_up(&mut self, transport: Transport) {
        self.inbox.link_up(transport);
        self.inbox.peer(self.peer);
    }

    /// The trust of the current and the next peer: it has paired, or is a stranger again.
    pub fn meet(&mut self, peer: Peer) {
        self.peer = peer;
        self.inbox.peer(peer);
    }

    /// The product's button was pressed: strangers no longer have to wait.
    pub fn allow_updates(&mut self) {
        self.inbox.allow_updates();
    }

    /// The peer has disconnected; what it sent and was not handled yet is dropped.
    pub fn link_down(&mut self) {
        self.inbox.link_down();
    }

    /// Whether the inbox is empty.
    pub fn is_inbox_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// See [`Service::is_settled`].
    pub fn is_settled(&self) -> bool {
        self.service.is_settled()
    }

    /// Worker: the next step. Virtual time passes on the board's clock.
    pub fn step(&mut self) -> Option<Step<'_>> {
        self.charge_expanding();
        let now_ms = self.now_ms();
        let mut inlet = Costed {
            inlet: &mut self.inbox,
            taken: &mut self.taken,
            power: &self.power,
        };
        self.service.step(&mut inlet, now_ms)
    }

    /// Frames that the worker took out of the inbox since the start.
    pub fn frames_taken(&self) -> u64 {
        self.taken
    }

    /// Worker: like [`Device::step`], for a device whose inbox is kept elsewhere.
    pub fn step_from<N: Inlet>(&mut self, inlet: &mut N) -> Option<Step<'_>> {
        self.charge_expanding();
        let now_ms = self.now_ms();
        let mut inlet = Costed {
            inlet,
            taken: &mut self.taken,
            power: &self.power,
        };
        self.service.step(&mut inlet, now_ms)
    }

    /// What the last step made of a packed update took processor time.
    fn charge_expanding(&mut self) {
        let expanded = self.service.upload().expanded();
        let made = expanded.saturating_sub(self.expanded);
        self.expanded = expanded;
        self.power.advance_ns(u64::from(made) * EXPAND_NS_PER_BYTE);
    }

    /// Worker: see [`Service::datagram`].
    pub fn datagram(&mut self, bytes: &[u8]) -> usize {
        let now_ms = self.now_ms();
        self.service.datagram(bytes, self.peer, now_ms)
    }

    /// Worker: see [`Service::not_sent`].
    pub fn not_sent(&mut self) {
        self.service.not_sent();
    }

    fn now_ms(&self) -> u64 {
        self.power.now_ns() / 1_000_000
    }

    /// Maximum number of bytes in the ring so far.
    pub fn ring_high_water(&self) -> usize {
        self.inbox.high_water()
    }

    /// The upload, to read its state.
    pub fn upload(&self) -> &Upload<'static, SimAreas<I, X>, SimCrypto> {
        self.service.upload()
    }
}

/// Frames take processor time: the CRC-32 of each byte.
struct Costed<'a, I> {
    inlet: &'a mut I,
    taken: &'a mut u64,
    power: &'a Power,
}

impl<I: Inlet> Inlet for Costed<'_, I> {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        let next = self.inlet.next(buffer);
        *self.taken += u64::from(matches!(next, Some(Next::Frame(..))));
        if let Some(Next::Frame(Channel::Control | Channel::Packet, length)) = next {
            self.power.advance_ns(length as u64 * CRC32_NS_PER_BYTE);
        }
        next
    }

    fn is_link_gone(&self) -> bool {
        self.inlet.is_link_gone()
    }
}
