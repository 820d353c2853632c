// SPDX-License-Identifier: Apache-2.0
//! What the Bluetooth thread passes to the worker: frames, lost packets in their place, and link events.
//!
//! ```text
//!  Bluetooth thread ── push, link_up, link_down ──► Inbox ──► next ──► worker: Service
//! ```
//! On a device a spin lock guards it, held for one copy of at most one MTU.

use crate::doors::Peer;
use crate::ring::{Bytes, Channel, Frame, Memory, PushError, Ring, MAX_FRAME};
use crate::secure_dfu::Transport;
use crate::smp::FRAGMENT_MS;

/// The next thing the worker handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A peer is connected.
    Up(Transport),
    /// The peer has disconnected.
    Down,
    /// The peer's trust has changed: it was a stranger, or it has paired.
    Peer(Peer),
    /// The application confirms its image.
    Confirm,
    /// A person at the device wants an update.
    Allow,
    /// The peer wrote this many bytes.
    Frame(Channel, usize),
    /// This many packets were lost here for lack of room.
    Lost(u32),
}

/// The source of the worker's work: an [`Inbox`], or one behind a lock.
pub trait Inlet {
    /// Takes the next item out; the bytes of a frame are copied into `buffer`.
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next>;

    /// The link that the worker knows has gone, and the worker has not handled that yet.
    fn is_link_gone(&self) -> bool;
}

/// Frames and link events, in the order in which the worker must handle them. `B` is the memory of the ring, see
/// [`ring_size`](crate::ring::ring_size).
#[derive(Debug)]
pub struct Inbox<B> {
    ring: Ring<B>,
    /// Frames in the ring.
    waiting: u32,
    /// Lost packets, and the number of frames before them. Nothing is accepted until the worker has handled those, so
    /// the position of the gap is exact.
    lost: u32,
    lost_behind: u32,
    /// When the last SMP fragment arrived, accepted or not.
    smp_ms: u64,
    up: Arrived,
    is_down: bool,
    /// The peer on the link, and what the worker knows of it.
    peer: Peer,
    told: Peer,
    confirm: bool,
    allow: bool,
}

/// A new peer that the worker has not handled yet. An `Option` of it would not be all zeros when empty, and a static
/// inbox would then store its whole ring in flash.
#[derive(Clone, Copy, Debug)]
enum Arrived {
    Nobody,
    OverBle,
    OverSerial { mtu: u16 },
}

impl<const N: usize> Inbox<[u8; N]> {
    /// An empty inbox with a ring of `N` bytes.
    pub const fn new() -> Self {
        Self::on(Ring::new())
    }
}

impl<const N: usize, const SMP: bool> Inbox<Bytes<N, SMP>> {
    /// An empty inbox of a device that may have no SMP.
    pub const fn of_bytes() -> Self {
        const { assert!(N > MAX_FRAME + 2, "the ring must hold the longest frame") };
        Self::on(Ring::on(Bytes::new()))
    }
}

impl<const N: usize> Default for Inbox<[u8; N]> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Inbox<B> {
    /// An empty inbox. `ring` must be empty.
    pub const fn on(ring: Ring<B>) -> Self {
        Self {
            ring,
            waiting: 0,
            lost: 0,
            lost_behind: 0,
            smp_ms: 0,
            up: Arrived::Nobody,
            is_down: false,
            peer: Peer::Stranger,
            told: Peer::Stranger,
            confirm: false,
            allow: false,
        }
    }

    /// A peer has connected: a stranger, until [`Inbox::peer`] says otherwise.
    pub fn link_up(&mut self, transport: Transport) {
        self.up = match transport {
            Transport::Ble => Arrived::OverBle,
            Transport::Serial { mtu } => Arrived::OverSerial { mtu },
        };
    }

    /// The peer has disconnected; what it sent is dropped. The worker always handles this before the next peer
    /// connects.
    pub fn link_down(&mut self) {
        self.up = Arrived::Nobody;
        self.peer = Peer::Stranger;
        self.is_down = true;
        self.ring.clear();
        (self.waiting, self.lost) = (0, 0);
    }

    /// Sets the trust of the peer. Frames that arrived earlier are handled with the new trust: they come from the same
    /// peer.
    pub fn peer(&mut self, peer: Peer) {
        self.peer = peer;
    }

    /// A person at the device wants an update and proves it with a button: strangers no longer have to wait.
    pub fn allow_updates(&mut self) {
        self.allow = true;
    }

    /// The application's self-test has passed.
    pub fn confirm(&mut self) {
        self.confirm = true;
    }

    /// Whether the inbox is empty.
    pub const fn is_empty(&self) -> bool {
        matches!(self.up, Arrived::Nobody)
            && !self.is_down
            && self.peer as u8 == self.told as u8
            && !self.confirm
            && !self.allow
            && self.lost == 0
            && self.ring.is_empty()
    }

    /// Maximum number of bytes in the ring at once since the start.
    pub const fn high_water(&self) -> usize {
        self.ring.high_water()
    }
}

impl<B: Memory> Inbox<B> {
    /// Takes a write of a peer that cannot be held back (Bluetooth). A request that finds no room is refused. The loss
    /// of a packet would go unnoticed, so it is counted in its place, and nothing after it is accepted until the worker
    /// has handled the loss.
    ///
    /// # Errors
    /// [`PushError`]: the write is lost.
    pub fn push(&mut self, frame: Frame<'_>, now_ms: u64) -> Result<(), PushError> {
        self.push_unless(frame, now_ms, None)
    }

    /// The same for a packet whose sender can be held back for a moment: [`PushError::Full`] loses nothing yet. The
    /// caller waits for room and tries again, at last with [`Inbox::push`].
    ///
    /// # Errors
    /// [`PushError`]; all but [`PushError::Full`] mean that the write is lost.
    pub fn try_push(&mut self, frame: Frame<'_>, now_ms: u64) -> Result<(), PushError> {
        self.push_unless(frame, now_ms, Some(PushError::Full))
    }

    /// Takes a write; every refusal but `spared` loses it.
    fn push_unless(
        &mut self,
        frame: Frame<'_>,
        now_ms: u64,
        spared: Option<PushError>,
    ) -> Result<(), PushError> {
        let is_packet = frame.channel == Channel::Packet;
        let pushed = if is_packet && self.lost > 0 {
            Err(PushError::Lost)
        } else {
            self.offer(frame, now_ms)
        };
        if pushed.is_err() && pushed.err() != spared {
            match frame.channel {
                Channel::Packet => {
                    if self.lost == 0 {
                        self.lost_behind = self.waiting;
                    }
                    self.lost = self.lost.saturating_add(1);
                }
                Channel::Smp if B::TAKES_SMP => {
                    self.waiting += u32::from(self.ring.drop_fragment(frame.bytes));
                }
                Channel::Control | Channel::Smp => {}
            }
        }
        pushed
    }

    /// Takes a write of a peer that can be held back (a serial port, TCP): it waits while this returns
    /// [`PushError::Full`].
    ///
    /// # Errors
    /// [`PushError`]; nothing has changed then. A frame that is too long must be pushed, so that it is dropped.
    pub fn offer(&mut self, frame: Frame<'_>, now_ms: u64) -> Result<(), PushError> {
        if B::TAKES_SMP && frame.channel == Channel::Smp {
            if now_ms.saturating_sub(self.smp_ms) > FRAGMENT_MS {
                self.ring.smp_paused();
            }
            self.smp_ms = now_ms;
        }
        self.ring.push(frame)?;
        self.waiting += 1;
        Ok(())
    }
}

impl<B: Memory> Inlet for Inbox<B> {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        if core::mem::take(&mut self.is_down) {
            self.told = Peer::Stranger;
            return Some(Next::Down);
        }
        match core::mem::replace(&mut self.up, Arrived::Nobody) {
            Arrived::Nobody => {}
            Arrived::OverBle => return Some(Next::Up(Transport::Ble)),
            Arrived::OverSerial { mtu } => return Some(Next::Up(Transport::Serial { mtu })),
        }
        if self.peer != self.told {
            self.told = self.peer;
            return Some(Next::Peer(self.peer));
        }
        if core::mem::take(&mut self.confirm) {
            return Some(Next::Confirm);
        }
        if core::mem::take(&mut self.allow) {
            return Some(Next::Allow);
        }
        if self.lost > 0 && self.lost_behind == 0 {
            return Some(Next::Lost(core::mem::take(&mut self.lost)));
        }
        let (channel, length) = self.ring.pop(buffer)?;
        self.waiting = self.waiting.saturating_sub(1);
        self.lost_behind = self.lost_behind.saturating_sub(1);
        Some(Next::Frame(channel, length))
    }

    fn is_link_gone(&self) -> bool {
        self.is_down
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const SIZE: usize = 600;

    fn packet(bytes: &[u8]) -> Frame<'_> {
        Frame {
            channel: Channel::Packet,
            bytes,
        }
    }

    fn drain(inbox: &mut Inbox<[u8; SIZE]>) -> Vec<Next> {
        let mut buffer = [0; MAX_FRAME];
        std::iter::from_fn(|| inbox.next(&mut buffer)).collect()
    }

    #[test]
    fn lost_packets_are_reported_in_their_place_and_nothing_after_them_is_accepted_before() {
        let mut inbox = Inbox::<[u8; SIZE]>::new();
        inbox.push(packet(&[1; 300]), 0).unwrap();
        inbox.push(packet(&[2; 200]), 0).unwrap();
        assert_eq!(inbox.push(packet(&[3; 200]), 0), Err(PushError::Full));
        assert_eq!(
            inbox.push(packet(&[4; 20]), 0),
            Err(PushError::Lost),
            "behind the gap"
        );
        let control = Frame {
            channel: Channel::Control,
            bytes: &[3],
        };
        inbox.push(control, 0).unwrap();
        let expected = [
            Next::Frame(Channel::Packet, 300),
            Next::Frame(Channel::Packet, 200),
            Next::Lost(2),
            Next::Frame(Channel::Control, 1),
        ];
        assert_eq!(drain(&mut inbox), expected);
        inbox.push(packet(&[5; 20]), 0).unwrap();
        assert_eq!(drain(&mut inbox), [Next::Frame(Channel::Packet, 20)]);
    }

    #[test]
    fn a_disconnect_drops_the_peers_frames_and_is_handled_before_the_next_peer() {
        let mut inbox = Inbox::<[u8; SIZE]>::new();
        inbox.link_up(Transport::Ble);
        inbox.push(packet(&[1; 20]), 0).unwrap();
        inbox.link_down();
        assert!(inbox.is_link_gone());
        inbox.link_up(Transport::Serial { mtu: 129 });
        inbox.push(packet(&[2; 30]), 0).unwrap();
        let expected = [
            Next::Down,
            Next::Up(Transport::Serial { mtu: 129 }),
            Next::Frame(Channel::Packet, 30),
        ];
        assert_eq!(drain(&mut inbox), expected);
        assert!(inbox.is_empty() && !inbox.is_link_gone());
    }

    #[test]
    fn pairing_is_handled_before_the_peers_frames_and_the_next_peer_is_a_stranger() {
        let mut inbox = Inbox::<[u8; SIZE]>::new();
        inbox.link_up(Transport::Ble);
        inbox.push(packet(&[1; 20]), 0).unwrap();
        inbox.peer(Peer::Trusted);
        let up = Next::Up(Transport::Ble);
        let frame = Next::Frame(Channel::Packet, 20);
        assert_eq!(drain(&mut inbox), [up, Next::Peer(Peer::Trusted), frame]);
        inbox.link_down();
        inbox.link_up(Transport::Ble);
        inbox.push(packet(&[1; 20]), 0).unwrap();
        assert_eq!(drain(&mut inbox), [Next::Down, up, frame]);
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_confirmation_is_handled_while_frames_wait() {
        let mut inbox = Inbox::<[u8; SIZE]>::new();
        inbox.push(packet(&[1; 20]), 0).unwrap();
        inbox.confirm();
        assert_eq!(drain(&mut inbox)[0], Next::Confirm);
    }

    #[test]
    fn a_refused_offer_loses_nothing() {
        let mut inbox = Inbox::<[u8; SIZE]>::new();
        inbox.offer(packet(&[1; 500]), 0).unwrap();
        assert_eq!(inbox.offer(packet(&[2; 200]), 0), Err(PushError::Full));
        assert_eq!(drain(&mut inbox), [Next::Frame(Channel::Packet, 500)]);
        inbox.offer(packet(&[2; 200]), 0).unwrap();
        assert_eq!(drain(&mut inbox), [Next::Frame(Channel::Packet, 200)]);
    }
}
