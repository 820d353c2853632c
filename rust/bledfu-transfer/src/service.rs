// SPDX-License-Identifier: Apache-2.0
//! The one loop that drives a device. It owns the upload with its partitions and lends them to the two front ends; it
//! takes the next item out of the inbox, or does one step of background work, and returns what its caller must do.
//!
//! ```text
//!   Inbox ──► Service::step ──► secure_dfu, smp ──► upload ──► secondary slot, journal, primary trailer
//!                  │
//!                  └──► Step: send, tell the product, hurry, wait, disconnect, reset
//! ```
//! A device performs the steps with Zephyr, the simulator in virtual time, `bledfu serve` with sockets in real time.
//! None of them has rules of its own. [`Service::step`] waits for nothing but flash.
//!
//! Both protocols may talk at any time; the rules by which one takes over the slot from the other are in
//! [`crate::upload`]. The front end that lost it forgets its transfer.
//!
//! The end of a transfer, and of a link that is closed after an answer:
//! ```text
//!   Send (last answer) ─► Deliver ─► Wait LAST_ANSWER_MS ─► Disconnect ─► Wait LAST_ANSWER_MS + reset_delay_ms ─► Reset
//! ```
//! If a peer writes during the last wait, its link is closed at once: the product may delay the reset, and the peer
//! would otherwise not learn that its request is lost.
//!
//! `SMP` is the longest SMP frame in bytes; with 0 the service has no SMP code.

use crate::doors::Peer;
use crate::event::Event;
use crate::inbox::{Inlet, Next};
use crate::lent::Lent;
use crate::note;
use crate::ring::{Channel, Frame, MAX_FRAME};
use crate::secure_dfu::{self, SecureDfu, Then, Transport, INACTIVITY_MS, LAST_ANSWER_MS};
use crate::smp::{self, Reassembly, Smp, ANSWER_SIZE, ERASE_AHEAD};
use crate::upload::{Fate, Protocol, Upload, EXPANDS};
use bledfu_slot::areas::Areas;
use bledfu_slot::journal::MAX_SESSION;
use bledfu_slot::verify::Crypto;
use bledfu_text::{text, words};
use bledfu_wire::smp::Header;

/// How long the last answer may take to be sent; the update is staged, so it is installed in any case.
const DELIVERY_MS: u64 = 2_000;
/// How long the answer to the last *Execute* of a packed update is held, in ms: some clients wait 5 s for it.
const HELD_EXECUTE_MS: u64 = 4_000;
/// How long the answer to a request to test or confirm a packed update is held, in ms: some clients wait 2 s for it.
const HELD_STATE_MS: u64 = 1_500;
/// No deadline: until something arrives.
pub const FOREVER: u64 = u64::MAX;

/// What the caller does before it asks for the next step.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'o> {
    /// Send these bytes to the peer. If that fails, call [`Service::not_sent`].
    Send {
        /// Secure DFU control point, or SMP characteristic.
        channel: Channel,
        /// An answer, in as many notifications as the MTU requires.
        bytes: &'o [u8],
    },
    /// Send these bytes back to the sender of the datagram.
    Answer {
        /// One SMP frame.
        bytes: &'o [u8],
    },
    /// Tell the product.
    Tell(Event),
    /// A transfer begins: ask for a short connection interval, long packets and a fast radio mode.
    Hurry,
    /// Wait until everything has been sent, at most until this time in ms.
    Deliver {
        /// On the caller's clock.
        until_ms: u64,
    },
    /// Nothing to do until this time in ms ([`FOREVER`]: no time), or until something arrives in the inbox.
    Wait {
        /// On the caller's clock.
        until_ms: u64,
    },
    /// Close the link to the peer, if there is one (reason 0x13).
    Disconnect,
    /// Reset, if the product agrees: the boot stage has an update to install, or the peer asked for it.
    Reset,
}

/// Settings of a service.
#[derive(Clone, Copy, Debug)]
pub struct Config<'k> {
    /// Secure DFU.
    pub secure_dfu: secure_dfu::Config<'k>,
    /// SMP.
    pub smp: smp::Config<'k>,
    /// Pause between the end of the link and the reset, in ms, in addition to [`LAST_ANSWER_MS`].
    pub reset_delay_ms: u32,
}

/// How a link, or the run, ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It does not end.
    None,
    /// The answer is to be delivered.
    Deliver(Then),
    /// The answer was delivered, or timed out.
    Delivered(Then),
    /// The link is closed at this time.
    CloseAt(u64, Then),
    /// The link is closed; the reset follows at this time.
    ResetAt(u64),
    /// The product refused the reset.
    Over,
}

/// An answer that is held until a packed update is staged, at most until a time in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    None,
    Execute {
        until_ms: u64,
    },
    /// For the link, or for the sender of the datagram.
    State {
        until_ms: u64,
        is_back: bool,
    },
}

/// What is in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    None,
    To(Channel, usize),
    /// For the sender of the datagram.
    Back(usize),
}

/// An SMP answer for the peer on the link.
const TO_LINK: fn(usize) -> Reply = |length| Reply::To(Channel::Smp, length);

/// The service of one device, owned by the worker.
#[repr(C)]
pub struct Service<'k, A: Areas, C: Crypto, const SMP: usize> {
    /// When the peer last sent something.
    heard_ms: u64,
    reset_delay_ms: u32,
    reply: Reply,
    held: Held,
    ending: Ending,
    hurry: bool,
    is_linked: bool,
    /// The trust of the peer on the link.
    peer: Peer,
    /// The peer's last frame was SMP.
    speaks_smp: bool,
    /// Erasing ahead failed, or found nothing to erase: the next frame is not delayed for it.
    is_level: bool,
    secure_dfu: SecureDfu<'k>,
    smp: Smp<'k>,
    upload: Upload<'k, A, C>,
    reassembly: Lent<'k, Reassembly<SMP>>,
    /// The frame being handled, and then its answer: two buffers would be on the stack during a signature check.
    buffer: [u8; MAX_FRAME],
}

impl<'k, A: Areas, C: Crypto, const SMP: usize> Service<'k, A, C, SMP> {
    const _ANSWER_FITS: () = assert!(ANSWER_SIZE <= MAX_FRAME);

    /// A service for `upload`. SMP frames are assembled in `reassembly`, which a device lends. The journal's session is not known
    /// yet: [`Service::start`] follows once the service has its final address.
    pub fn new(
        upload: Upload<'k, A, C>,
        config: Config<'k>,
        reassembly: impl Into<Lent<'k, Reassembly<SMP>>>,
    ) -> Self {
        let () = Self::_ANSWER_FITS;
        Self {
            upload,
            secure_dfu: SecureDfu::new(config.secure_dfu),
            smp: Smp::new(config.smp, SMP),
            reassembly: reassembly.into(),
            buffer: [0; MAX_FRAME],
            reply: Reply::None,
            held: Held::None,
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

    /// Continues the journal's transfer, if there is one, and becomes ready; before the first link.
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
        self.upload.open();
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
            note::warn(&words!(
                "the interrupted upload is dropped: this firmware has no SMP"
            ));
            self.upload.abandon_session();
        }
    }

    /// The upload, to read its state.
    pub fn upload(&self) -> &Upload<'k, A, C> {
        &self.upload
    }

    /// The upload, for questions that need the flash.
    pub fn upload_mut(&mut self) -> &mut Upload<'k, A, C> {
        &mut self.upload
    }

    /// The image that is being received, or is staged.
    pub fn incoming(&self) -> Option<u32> {
        let secure_dfu = self.secure_dfu.incoming().map(|accepted| accepted.size);
        secure_dfu.or_else(|| self.smp.incoming().filter(|_| SMP > 0))
    }

    /// Everything handled so far is done: the next [`Service::step`] takes the next item, or works in the background.
    pub fn is_settled(&self) -> bool {
        self.reply == Reply::None
            && matches!(self.held, Held::None)
            && !self.hurry
            && self.ending == Ending::None
            && self.upload.events.is_empty()
            && !self.is_behind()
    }

    /// The next step. `None`: something was handled that needs no action.
    pub fn step<I: Inlet>(&mut self, inlet: &mut I, now_ms: u64) -> Option<Step<'_>> {
        self.upload.guard.start(now_ms);
        self.upload.pace.over(now_ms);
        match core::mem::replace(&mut self.reply, Reply::None) {
            // The answer to a peer that disconnected during its request must not reach the next peer.
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
        if EXPANDS && !matches!(self.held, Held::None) {
            self.hold(inlet.is_link_gone(), now_ms);
            return None;
        }
        // The next frame must not wait for an erase within its own time.
        if self.is_behind() {
            self.is_level = !self.background();
            return None;
        }
        if self.upload.catch_up_owed() {
            self.notice_new_beginning();
            return None;
        }
        if let Some(next) = inlet.next(&mut self.buffer) {
            self.take(next, now_ms);
            return None;
        }
        if self.background() {
            return None;
        }
        if self.upload.takes_reset() {
            // Promised before a reset, or to a peer whose link is gone: nobody else asks for it.
            self.ending = Ending::Deliver(Then::Reset);
            return None;
        }
        let closes_ms = match self.is_linked && !self.speaks_smp {
            true => self.heard_ms.saturating_add(INACTIVITY_MS),
            false => FOREVER,
        };
        if now_ms < closes_ms {
            return Some(Step::Wait { until_ms: closes_ms });
        }
        note::warn(&words!(
            "the peer has said nothing for two minutes: the link is closed"
        ));
        self.heard_ms = now_ms;
        Some(Step::Disconnect)
    }

    /// Handles the first SMP frame of a datagram, and returns its length. The bytes after it are the next frame; pass
    /// them when this frame has no steps left. For transports without links that decide themselves whose datagrams they
    /// accept; the peer on the link stays connected.
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
        self.answer_smp(answer, Reply::Back, now_ms);
        // It is uncertain where a damaged frame ends, as in Zephyr.
        if is_damaged || self.ending != Ending::None {
            return bytes.len();
        }
        bytes.len() - behind.len()
    }

    /// The peer did not receive the bytes of the last [`Step::Send`]: its link is closed, unless everything is done
    /// anyway.
    pub fn not_sent(&mut self) {
        if self.ending == Ending::None {
            self.ending = Ending::CloseAt(0, Then::Disconnect);
        }
    }

    /// One step of what a held answer waits for, or the answer. Frames that arrive meanwhile stay in the inbox, so answers
    /// keep the order of their requests.
    #[inline(never)]
    fn hold(&mut self, is_link_gone: bool, now_ms: u64) {
        let fate = self.upload.fate();
        let (until_ms, is_back) = match self.held {
            Held::Execute { until_ms } => (until_ms, false),
            Held::State { until_ms, is_back } => (until_ms, is_back),
            Held::None => return,
        };
        if is_link_gone && !is_back {
            // What was promised in the journal is done all the same.
            self.held = Held::None;
            self.smp.forget_held();
            return;
        }
        if let Fate::Pending(may_be_told) = fate {
            // Without a journal a client of Secure DFU waits for the end, which most do.
            let is_due = now_ms >= until_ms && (may_be_told || !matches!(self.held, Held::Execute { .. }));
            if !is_due {
                self.upload.idle(0, true);
                return;
            }
        }
        match core::mem::replace(&mut self.held, Held::None) {
            Held::Execute { .. } => {
                let answer = self.secure_dfu.release(&mut self.upload, fate);
                self.answer(answer, now_ms);
            }
            Held::State { is_back, .. } if SMP > 0 => {
                let answer = self.smp.release(&mut self.upload, fate, &mut self.buffer);
                self.answer_smp(answer, if is_back { Reply::Back } else { TO_LINK }, now_ms);
            }
            Held::State { .. } | Held::None => {}
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
            // Passes an event to the product.
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
                note::warn(&text!(
                    "{} packets are lost: the peer sent more than it may without waiting",
                    packets
                ));
                let answer = self.secure_dfu.lost(&self.upload, packets);
                self.answer(answer, now_ms);
            }
        }
    }

    fn link_up(&mut self, transport: Transport, now_ms: u64) {
        // Before the peer asks for the position: then it need not be disconnected.
        self.upload.catch_up_for_link();
        self.notice_new_beginning();
        self.is_linked = true;
        self.speaks_smp = false;
        self.heard_ms = now_ms;
        self.reassembly.reset();
        self.secure_dfu.link_up(transport);
    }

    /// A Secure DFU transfer forgets its open object; an SMP upload keeps its position.
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
        self.answer(answer, now_ms);
    }

    fn answer(&mut self, answer: secure_dfu::Answer, now_ms: u64) {
        if EXPANDS && answer.is_held {
            let until_ms = now_ms.saturating_add(HELD_EXECUTE_MS);
            self.held = Held::Execute { until_ms };
        }
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
        self.answer_smp(answer, TO_LINK, now_ms);
    }

    fn hear_smp(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.speaks_smp = true;
    }

    fn answer_smp(&mut self, answer: Option<smp::Answer>, reply: fn(usize) -> Reply, now_ms: u64) {
        if EXPANDS && answer.is_some_and(|answer| answer.is_held) {
            let until_ms = now_ms.saturating_add(HELD_STATE_MS);
            let is_back = matches!(reply(0), Reply::Back(_));
            self.held = Held::State { until_ms, is_back };
            return;
        }
        // What was executed over Secure DFU no longer counts after SMP began an upload or emptied the slot.
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

    /// The last steps. What the peer sends meanwhile is dropped, and its link is closed soon. A peer that connects
    /// during the wait for the reset cannot get an answer either; its link is closed as soon as it sends a request.
    fn end<I: Inlet>(&mut self, inlet: &mut I, now_ms: u64) -> Option<Step<'_>> {
        if self.ending == Ending::Over {
            // Before anything is taken out of the inbox: the next peer expects answers.
            note::info(&words!(
                "the product delays the reset; the update is installed at the next one"
            ));
            self.ending = Ending::None;
            // It was asked.
            let _ = self.upload.takes_reset();
            return None;
        }
        if let Some(next) = inlet.next(&mut self.buffer) {
            match next {
                Next::Up(_) | Next::Peer(_) | Next::Confirm | Next::Allow => self.take(next, now_ms),
                Next::Down => {
                    self.link_down();
                    // The next peer's link must stay open.
                    self.closed(now_ms);
                }
                Next::Frame(..) | Next::Lost(_) => {
                    if self.is_linked && matches!(self.ending, Ending::ResetAt(_)) {
                        // Only once: what else it sent is dropped with the link.
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
            // What the peer was promised, or told, comes before the reset.
            Ending::ResetAt(_) if self.upload.is_promised() => {
                self.upload.idle(0, false);
                if let fate @ Fate::Failed(_) = self.upload.fate() {
                    if self.secure_dfu.incoming().is_some() {
                        // Nobody waits for the answer, but the product is told.
                        let _ = self.secure_dfu.release(&mut self.upload, fate);
                    }
                    note::error(&words!(
                        "no reset: there is nothing to install; send the full image"
                    ));
                    self.ending = Ending::None;
                }
            }
            // Rather now than by the boot stage: until the reset the product still works.
            Ending::ResetAt(_) if self.upload.is_staged() && self.upload.keep_copy() => {}
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

    /// Whether the next SMP frame would wait for an erase. The erase then comes before it, as the peer has already got
    /// the answer to the last one.
    fn is_behind(&self) -> bool {
        SMP > 0
            && !self.is_level
            && self.upload.owner() == Some(Protocol::Smp)
            // What is erased for the image of a packed update is of no concern to a frame.
            && !self.upload.is_packed()
            && self.upload.erased_ahead() < SMP as u32
    }

    /// One erase in idle time; false when there is nothing to erase.
    fn background(&mut self) -> bool {
        if self.upload.owner() == Some(Protocol::Smp) {
            return self.upload.idle(ERASE_AHEAD, true);
        }
        let ahead = self.secure_dfu.wants_erased(&self.upload);
        let has_worked = self.upload.idle(ahead, self.is_linked);
        self.notice_new_beginning();
        has_worked
    }

    /// A client of Secure DFU only asks where to continue when it connects; SMP's answers say it each time.
    fn notice_new_beginning(&mut self) {
        if self.upload.take_begun_anew() && self.upload.owner() == Some(Protocol::SecureDfu) {
            self.secure_dfu.start_over();
            if self.is_linked {
                self.ending = Ending::CloseAt(0, Then::Disconnect);
            }
        }
    }
}

#[cfg(test)]
mod tests;
