// SPDX-License-Identifier: Apache-2.0
//! The one loop that drives a device. It owns the upload with its partitions and lends them to the two front ends; it takes
//! the next thing out of the inbox, or does one step of background work, and says what its caller must do.
//!
//! ```text
//!   Inbox ──► Service::step ──► secure_dfu, smp ──► upload ──► secondary slot, journal, primary trailer
//!                  │
//!                  └──► Step: send, tell the product, hurry, wait, disconnect, reset
//! ```
//! A device performs steps with Zephyr, the simulator in virtual time, `bledfu serve` with sockets in real time. None of them
//! has a rule of its own. [`Service::step`] never waits but for flash.
//!
//! Both protocols may talk at any time; the rules by which one takes the slot from the other are in [`crate::upload`]. The
//! front end that lost it forgets its transfer.
//!
//! The end of a transfer, and of a link that is to be closed behind an answer:
//! ```text
//!   Send (last answer) ─► Deliver ─► Wait LAST_ANSWER_MS ─► Disconnect ─► Wait LAST_ANSWER_MS + reset_delay_ms ─► Reset
//! ```
//! The link of a peer that writes during the last wait is closed at once: the product may keep the reset, and then nothing
//! else would tell that peer that its request is lost.
//!
//! `SMP` is the longest SMP frame in bytes; 0 is a service without SMP, of which no code remains.

use crate::doors::Peer;
use crate::event::Event;
use crate::inbox::{Inlet, Next};
use crate::note;
use crate::ring::{Channel, Frame, MAX_FRAME};
use crate::secure_dfu::{self, SecureDfu, Then, Transport, INACTIVITY_MS, LAST_ANSWER_MS};
use crate::smp::{self, Reassembly, Smp, ANSWER_SIZE, ERASE_AHEAD};
use crate::upload::{Protocol, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::journal::MAX_SESSION;
use bledfu_slot::verify::Crypto;
use bledfu_wire::smp::Header;

/// How long the last answer may take to leave; the update is staged, so it is installed all the same.
const DELIVERY_MS: u64 = 2_000;
/// No deadline: until something comes.
pub const FOREVER: u64 = u64::MAX;

/// What the caller does, before it asks for the next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'o> {
    /// Sends these bytes to the peer. Where it cannot, it says so with [`Service::not_sent`].
    Send {
        /// Secure DFU control point, or SMP characteristic.
        channel: Channel,
        /// An answer; as many notifications as the MTU asks for.
        bytes: &'o [u8],
    },
    /// Sends these bytes back where the datagram came from.
    Answer {
        /// One SMP frame.
        bytes: &'o [u8],
    },
    /// Tells the product.
    Tell(Event),
    /// A transfer begins: asks for a short connection interval, long packets and a fast radio mode.
    Hurry,
    /// Waits until everything that was sent has left, at most until this time in ms.
    Deliver {
        /// On the clock of the caller.
        until_ms: u64,
    },
    /// Has nothing to do until this time in ms ([`FOREVER`]: no time), or until something comes into the inbox.
    Wait {
        /// On the clock of the caller.
        until_ms: u64,
    },
    /// Closes the link to the peer, if there is one (reason 0x13).
    Disconnect,
    /// Resets, if the product agrees: the boot stage has an update to install, or the peer asked for it.
    Reset,
}

/// Settings of a service.
#[derive(Clone, Copy, Debug)]
pub struct Config<'k> {
    /// Secure DFU.
    pub secure_dfu: secure_dfu::Config<'k>,
    /// SMP.
    pub smp: smp::Config<'k>,
    /// Between the end of the link and the reset, in ms, beside [`LAST_ANSWER_MS`].
    pub reset_delay_ms: u32,
}

/// How a link, or the run, comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Not at all.
    None,
    /// The answer is to be delivered.
    Deliver(Then),
    /// It was, or had its time.
    Delivered(Then),
    /// The link is closed at this time.
    CloseAt(u64, Then),
    /// The link is closed; the reset comes at this time.
    ResetAt(u64),
    /// The product did not want the reset.
    Over,
}

/// What waits in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    None,
    To(Channel, usize),
    /// To where the datagram came from.
    Back(usize),
}

/// The service of one device. The worker owns it.
pub struct Service<'k, A: Areas, C: Crypto, const SMP: usize> {
    upload: Upload<'k, A, C>,
    secure_dfu: SecureDfu<'k>,
    smp: Smp<'k>,
    reassembly: Reassembly<SMP>,
    /// The frame that is handled, and then its answer: two would be on the stack below which a signature is checked.
    buffer: [u8; MAX_FRAME],
    reply: Reply,
    hurry: bool,
    ending: Ending,
    is_linked: bool,
    /// Who is on the link.
    peer: Peer,
    /// When the peer last said something.
    heard_ms: u64,
    /// The peer's last word was SMP.
    speaks_smp: bool,
    /// Erasing ahead failed, or found nothing to erase: the next frame is not held back for it.
    is_level: bool,
    reset_delay_ms: u32,
}

impl<'k, A: Areas, C: Crypto, const SMP: usize> Service<'k, A, C, SMP> {
    const _ANSWER_FITS: () = assert!(ANSWER_SIZE <= MAX_FRAME);

    /// A service on `upload`. It does not know the journal's session yet: [`Service::start`] comes next, when the service is
    /// where it will stay.
    pub fn new(upload: Upload<'k, A, C>, config: Config<'k>) -> Self {
        let () = Self::_ANSWER_FITS;
        Self {
            upload,
            secure_dfu: SecureDfu::new(config.secure_dfu),
            smp: Smp::new(config.smp, SMP),
            reassembly: Reassembly::new(),
            buffer: [0; MAX_FRAME],
            reply: Reply::None,
            hurry: false,
            ending: Ending::None,
            is_linked: false,
            peer: Peer::Stranger,
            heard_ms: 0,
            speaks_smp: false,
            is_level: false,
            reset_delay_ms: config.reset_delay_ms,
        }
    }

    /// Goes on with the transfer of the journal, if there is one, and is ready; before the first link.
    #[inline(never)]
    pub fn start(&mut self) {
        self.restore();
        let event = Event::Ready {
            confirmed: self.upload.running().confirmed,
            fw_version: self.upload.running_version(),
        };
        self.upload.events.push(event);
    }

    #[inline(never)]
    fn restore(&mut self) {
        self.upload.open_journal();
        let mut stored = [0; MAX_SESSION];
        let Some((length, progress)) = self.upload.stored_session(&mut stored) else {
            return;
        };
        let stored = stored.get(..length).unwrap_or_default();
        if !smp::is_session(stored) {
            self.secure_dfu.restore(&mut self.upload, stored, progress);
        } else if SMP > 0 {
            self.smp.restore(&mut self.upload, stored, progress);
        } else {
            note::warn(format_args!(
                "the interrupted upload is dropped: this firmware has no SMP"
            ));
            self.upload.abandon_session();
        }
    }

    /// The upload, for its state.
    pub fn upload(&self) -> &Upload<'k, A, C> {
        &self.upload
    }

    /// The upload, for what is asked of the flash.
    pub fn upload_mut(&mut self) -> &mut Upload<'k, A, C> {
        &mut self.upload
    }

    /// Bytes of the image that is being received, or is staged.
    pub fn incoming(&self) -> Option<u32> {
        let secure_dfu = self.secure_dfu.incoming().map(|accepted| accepted.size);
        secure_dfu.or_else(|| self.smp.incoming().filter(|_| SMP > 0))
    }

    /// Nothing is left to do for what was handled so far: the next [`Service::step`] takes the next thing, or works in the
    /// background.
    pub fn is_settled(&self) -> bool {
        self.reply == Reply::None
            && !self.hurry
            && self.ending == Ending::None
            && self.upload.events.is_empty()
            && !self.is_behind()
    }

    /// The next step. `None`: something was handled, and there is nothing to do for it.
    pub fn step<I: Inlet>(&mut self, inlet: &mut I, now_ms: u64) -> Option<Step<'_>> {
        self.upload.guard.start(now_ms);
        match core::mem::replace(&mut self.reply, Reply::None) {
            // One that has gone while its request was handled must not leave its answer to the next one.
            Reply::To(..) if inlet.is_link_gone() => {}
            Reply::To(channel, length) => {
                let bytes = self.buffer.get(..length).unwrap_or_default();
                return Some(Step::Send { channel, bytes });
            }
            Reply::Back(length) => {
                let bytes = self.buffer.get(..length).unwrap_or_default();
                return Some(Step::Answer { bytes });
            }
            Reply::None => {}
        }
        if core::mem::take(&mut self.hurry) {
            return Some(Step::Hurry);
        }
        if let Some(event) = self.upload.events.pop() {
            return Some(Step::Tell(event));
        }
        if self.ending != Ending::None {
            return self.end(inlet, now_ms);
        }
        // The next frame must not wait for an erase in its own time.
        if self.is_behind() {
            self.is_level = !self.background();
            return None;
        }
        if let Some(next) = inlet.next(&mut self.buffer) {
            self.take(next, now_ms);
            return None;
        }
        if self.background() {
            return None;
        }
        let closes_ms = match self.is_linked && !self.speaks_smp {
            true => self.heard_ms.saturating_add(INACTIVITY_MS),
            false => FOREVER,
        };
        if now_ms < closes_ms {
            return Some(Step::Wait { until_ms: closes_ms });
        }
        note::warn(format_args!(
            "the peer has said nothing for two minutes: the link is closed"
        ));
        self.heard_ms = now_ms;
        Some(Step::Disconnect)
    }

    /// Handles the first SMP frame of a datagram, and says how many bytes of it are done with: what is behind them is the next
    /// frame, to be handed over when no step is left of this one. For doors that know no link, and know whose datagrams they let
    /// in; whoever is on the link stays there.
    #[inline(never)]
    pub fn datagram(&mut self, bytes: &[u8], peer: Peer, now_ms: u64) -> usize {
        let Some(header) = Header::decode(bytes).filter(|_| SMP > 0 && self.ending == Ending::None) else {
            return bytes.len();
        };
        let (frame, behind) = bytes.split_at(header.frame_length().min(bytes.len()));
        self.hear_smp(now_ms);
        self.upload.guard.meet(peer);
        let answer = self.smp.handle(&mut self.upload, frame, now_ms, &mut self.buffer);
        let is_damaged = answer.is_some_and(|answer| answer.is_damaged);
        self.answer_smp(answer, Reply::Back);
        // Where a damaged frame ends is not certain, as in Zephyr.
        if is_damaged || self.ending != Ending::None {
            return bytes.len();
        }
        bytes.len() - behind.len()
    }

    /// The peer did not take the bytes of the last [`Step::Send`]: its link is closed, unless all is done anyhow.
    pub fn not_sent(&mut self) {
        if self.ending == Ending::None {
            self.ending = Ending::CloseAt(0, Then::Disconnect);
        }
    }

    fn take(&mut self, next: Next, now_ms: u64) {
        match next {
            Next::Up(transport) => self.link_up(transport, now_ms),
            Next::Down => self.link_down(),
            Next::Peer(peer) => {
                self.peer = peer;
                self.upload.guard.meet(peer);
            }
            // Tells the product itself.
            Next::Confirm => drop(self.upload.confirm()),
            Next::Allow => self.upload.allow_updates(),
            Next::Frame(channel, length) => {
                self.upload.guard.meet(self.peer);
                match channel {
                    Channel::Smp => self.take_fragment(length, now_ms),
                    _ => self.take_frame(channel, length, now_ms),
                }
            }
            Next::Lost(packets) => {
                note::warn(format_args!(
                    "{packets} packets are lost: the peer sent more than it may before it waits"
                ));
                let answer = self.secure_dfu.lost(&self.upload, packets);
                self.answer(answer);
            }
        }
    }

    fn link_up(&mut self, transport: Transport, now_ms: u64) {
        self.is_linked = true;
        self.speaks_smp = false;
        self.heard_ms = now_ms;
        self.reassembly.reset();
        self.secure_dfu.link_up(transport);
    }

    /// Of a Secure DFU transfer the open object is forgotten; an SMP upload stays where it is.
    fn link_down(&mut self) {
        self.is_linked = false;
        self.peer = Peer::Stranger;
        self.reassembly.reset();
        self.secure_dfu.link_down(&mut self.upload);
    }

    #[inline(never)]
    fn take_frame(&mut self, channel: Channel, length: usize, now_ms: u64) {
        self.heard_ms = now_ms;
        self.speaks_smp = false;
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let answer = self
            .secure_dfu
            .handle(&mut self.upload, Frame { channel, bytes }, now_ms);
        self.answer(answer);
    }

    fn answer(&mut self, answer: secure_dfu::Answer) {
        if let Some(reply) = answer.reply {
            let reply = reply.encode();
            let bytes = reply.as_bytes();
            if let Some(place) = self.buffer.get_mut(..bytes.len()) {
                place.copy_from_slice(bytes);
                self.reply = Reply::To(Channel::Control, bytes.len());
            }
        }
        self.then(answer.then, answer.hurry);
    }

    #[inline(never)]
    fn take_fragment(&mut self, length: usize, now_ms: u64) {
        if SMP == 0 {
            return;
        }
        self.hear_smp(now_ms);
        let fragment = self.buffer.get(..length).unwrap_or_default();
        if self.reassembly.push(fragment, now_ms).is_none() {
            return;
        }
        let frame = self.reassembly.frame();
        let answer = self.smp.handle(&mut self.upload, frame, now_ms, &mut self.buffer);
        self.answer_smp(answer, |length| Reply::To(Channel::Smp, length));
    }

    fn hear_smp(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.speaks_smp = true;
    }

    fn answer_smp(&mut self, answer: Option<smp::Answer>, reply: fn(usize) -> Reply) {
        // What was executed over Secure DFU counts no more when SMP has begun an upload or emptied the slot.
        let is_lost = match self.upload.owner() {
            Some(owner) => owner == Protocol::Smp,
            None => !self.upload.is_staged(),
        };
        if is_lost && self.secure_dfu.incoming().is_some() {
            self.secure_dfu.forget();
        }
        self.is_level = false;
        if let Some(answer) = answer {
            self.reply = reply(answer.length);
            self.then(answer.then, answer.hurry);
        }
    }

    fn then(&mut self, then: Then, hurry: bool) {
        self.hurry = hurry;
        self.ending = match then {
            Then::Continue => return,
            // Without an answer there is nothing to wait for.
            Then::Disconnect if self.reply == Reply::None => Ending::CloseAt(0, then),
            Then::Disconnect | Then::Reset => Ending::Deliver(then),
        };
    }

    /// The last steps. What comes from the peer meanwhile is dropped: nothing counts any more, and its link is closed soon. A
    /// peer that comes while the reset is awaited has no answer to hope for either; its link is closed as soon as it asks.
    fn end<I: Inlet>(&mut self, inlet: &mut I, now_ms: u64) -> Option<Step<'_>> {
        if self.ending == Ending::Over {
            // Before anything is taken out of the inbox: the next peer wants answers.
            note::info(format_args!(
                "the product resets when it likes; then the update is installed"
            ));
            self.ending = Ending::None;
            return None;
        }
        if let Some(next) = inlet.next(&mut self.buffer) {
            match next {
                Next::Up(_) | Next::Peer(_) | Next::Confirm | Next::Allow => self.take(next, now_ms),
                Next::Down => {
                    self.link_down();
                    // The next peer's link is not the one to close.
                    self.closed(now_ms);
                }
                Next::Frame(..) | Next::Lost(_) => {
                    if self.is_linked && matches!(self.ending, Ending::ResetAt(_)) {
                        // Once: the rest of what it sent goes with the link.
                        self.is_linked = false;
                        return Some(Step::Disconnect);
                    }
                }
            }
            return None;
        }
        match self.ending {
            Ending::Deliver(then) => {
                self.ending = Ending::Delivered(then);
                let until_ms = now_ms.saturating_add(DELIVERY_MS);
                return Some(Step::Deliver { until_ms });
            }
            Ending::Delivered(then) => {
                self.ending = Ending::CloseAt(now_ms.saturating_add(LAST_ANSWER_MS), then);
            }
            Ending::CloseAt(until_ms, _) | Ending::ResetAt(until_ms) if now_ms < until_ms => {
                return Some(Step::Wait { until_ms });
            }
            Ending::CloseAt(..) => {
                self.closed(now_ms);
                return Some(Step::Disconnect);
            }
            Ending::ResetAt(_) => {
                self.ending = Ending::Over;
                return Some(Step::Reset);
            }
            Ending::Over | Ending::None => {}
        }
        None
    }

    /// The link of the last answer is closed, or gone.
    fn closed(&mut self, now_ms: u64) {
        self.ending = match self.ending {
            Ending::Deliver(Then::Reset)
            | Ending::Delivered(Then::Reset)
            | Ending::CloseAt(_, Then::Reset) => {
                let delay = LAST_ANSWER_MS.saturating_add(self.reset_delay_ms.into());
                Ending::ResetAt(now_ms.saturating_add(delay))
            }
            reset @ (Ending::ResetAt(_) | Ending::Over) => reset,
            _ => Ending::None,
        };
    }

    /// Whether the next SMP frame would wait for an erase. Then the erase comes before it, for the peer has the answer to the
    /// last one already.
    fn is_behind(&self) -> bool {
        SMP > 0
            && !self.is_level
            && self.upload.owner() == Some(Protocol::Smp)
            && self.upload.erased_ahead() < SMP as u32
    }

    /// One erase while nothing waits; false when there is nothing to erase.
    fn background(&mut self) -> bool {
        if self.upload.owner() == Some(Protocol::Smp) {
            return self.upload.idle(ERASE_AHEAD, true);
        }
        let ahead = self.secure_dfu.wants_erased(&self.upload);
        self.upload.idle(ahead, self.is_linked)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::inbox::Inbox;
    use crate::init_check::{InitPolicy, SoftDevicePolicy};
    use crate::secure_dfu::Chip;
    use crate::upload::{Running, Setup};
    use bledfu_slot::areas::{NoFlash, Partitions};
    use bledfu_slot::verify::{ImagePolicy, SoftCrypto};
    use bledfu_slot::Algorithm;
    use bledfu_testkit::{Nor, Power};
    use std::vec::Vec;

    const SMP: usize = 600;
    const DELAY_MS: u32 = 5_000;
    /// Reset, with an empty map.
    const RESET: &[u8] = &[0x0A, 0, 0, 1, 0, 0, 1, 5, 0xA0];
    const SELECT_COMMAND: &[u8] = &[6, 1];

    type Flash = Partitions<Nor<4>, Nor<4>, NoFlash, Nor<4>>;

    struct Device {
        service: Service<'static, Flash, SoftCrypto, SMP>,
        inbox: Inbox<[u8; 1024]>,
        now_ms: u64,
    }

    /// A [`Step`] without what it borrows.
    #[derive(Debug, PartialEq, Eq)]
    enum Did {
        Send(Channel),
        Deliver,
        Disconnect,
        Reset,
        Wait(u64),
    }

    impl Device {
        fn new() -> Self {
            let power = Power::new();
            let mut areas = Partitions {
                primary: Nor::new('p', 8, &power),
                secondary: Nor::new('s', 8, &power),
                spare: NoFlash,
                journal: Nor::new('j', 2, &power),
            };
            let setup = Setup {
                layout: areas.layout(Algorithm::SwapOffset, 8, 32).unwrap(),
                image_policy: ImagePolicy {
                    keys: &[],
                    trusted_digests: &[],
                    unsigned: false,
                    address: None,
                },
                rules: Default::default(),
                running: Running {
                    digest: [0; 8],
                    fw_version: 1,
                    confirmed: true,
                },
                admit: |_| true,
                doors: Default::default(),
                floor: Default::default(),
                must_keep_version: true,
            };
            let init = InitPolicy {
                package_keys: &[],
                signature_required: true,
                hw_version: 52,
                soft_device: SoftDevicePolicy::Absent,
                downgrade_allowed: false,
                same_version_allowed: true,
                debug_build: false,
            };
            let config = Config {
                secure_dfu: secure_dfu::Config {
                    init,
                    object_size: 4096,
                    chip: Chip::default(),
                },
                smp: smp::Config::default(),
                reset_delay_ms: DELAY_MS,
            };
            Self {
                service: Service::new(Upload::new(areas, SoftCrypto, setup), config),
                inbox: Inbox::new(),
                now_ms: 0,
            }
        }

        fn write(&mut self, channel: Channel, bytes: &[u8]) {
            self.inbox.push(Frame { channel, bytes }, self.now_ms).unwrap();
        }

        /// All steps up to the next wait.
        fn run(&mut self) -> Vec<Did> {
            let mut done = Vec::new();
            loop {
                let did = match self.service.step(&mut self.inbox, self.now_ms) {
                    None | Some(Step::Hurry | Step::Tell(_)) => continue,
                    Some(Step::Send { channel, .. }) => Did::Send(channel),
                    Some(Step::Answer { .. }) => panic!("nobody sends datagrams here"),
                    Some(Step::Deliver { .. }) => Did::Deliver,
                    Some(Step::Disconnect) => Did::Disconnect,
                    Some(Step::Reset) => Did::Reset,
                    Some(Step::Wait { until_ms }) => Did::Wait(until_ms),
                };
                let is_wait = matches!(did, Did::Wait(_));
                done.push(did);
                if is_wait {
                    return done;
                }
            }
        }

        /// Up to the wait before the reset, which a peer has asked for. That peer has gone.
        fn awaits_its_reset() -> Self {
            let mut device = Self::new();
            device.inbox.link_up(Transport::Ble);
            device.inbox.peer(Peer::Trusted);
            device.write(Channel::Smp, RESET);
            let closes_ms = LAST_ANSWER_MS;
            let answered = [Did::Send(Channel::Smp), Did::Deliver, Did::Wait(closes_ms)];
            assert_eq!(device.run(), answered);
            device.now_ms = closes_ms;
            assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Self::RESET_MS)]);
            device.inbox.link_down();
            assert_eq!(device.run(), [Did::Wait(Self::RESET_MS)]);
            device
        }

        const RESET_MS: u64 = 2 * LAST_ANSWER_MS + DELAY_MS as u64;
    }

    #[test]
    fn a_peer_that_asks_during_the_reset_delay_has_its_link_closed_and_is_answered_when_the_reset_is_kept() {
        let mut device = Device::awaits_its_reset();
        device.now_ms += 1_000;
        device.inbox.link_up(Transport::Ble);
        device.write(Channel::Control, SELECT_COMMAND);
        device.write(Channel::Control, SELECT_COMMAND);
        assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Device::RESET_MS)]);
        device.inbox.link_down();
        assert_eq!(device.run(), [Did::Wait(Device::RESET_MS)]);

        device.now_ms = Device::RESET_MS;
        // The product keeps the reset.
        assert_eq!(device.run(), [Did::Reset, Did::Wait(FOREVER)]);
        device.inbox.link_up(Transport::Ble);
        device.write(Channel::Control, SELECT_COMMAND);
        assert_eq!(device.run()[0], Did::Send(Channel::Control));
    }

    #[test]
    fn a_peer_that_lost_packets_during_the_reset_delay_has_its_link_closed_too() {
        let mut device = Device::awaits_its_reset();
        device.inbox.link_up(Transport::Ble);
        let packet = Frame {
            channel: Channel::Packet,
            bytes: &[0; 500],
        };
        while device.inbox.push(packet, device.now_ms).is_ok() {}
        assert_eq!(device.run(), [Did::Disconnect, Did::Wait(Device::RESET_MS)]);
    }

    #[test]
    fn a_peer_that_says_nothing_during_the_reset_delay_keeps_its_link_and_is_answered_when_the_reset_is_kept()
    {
        let mut device = Device::awaits_its_reset();
        device.inbox.link_up(Transport::Ble);
        assert_eq!(device.run(), [Did::Wait(Device::RESET_MS)]);
        device.now_ms = Device::RESET_MS;
        assert_eq!(
            device.service.step(&mut device.inbox, device.now_ms),
            Some(Step::Reset)
        );
        // Between the question to the product and its answer.
        device.write(Channel::Control, SELECT_COMMAND);
        assert_eq!(device.run()[0], Did::Send(Channel::Control));
    }
}
