// SPDX-License-Identifier: Apache-2.0
//! State shared by door threads and worker, as by the Bluetooth thread and the worker on a device: the inbox, and the
//! peer on the link.
//!
//! A door thread copies a frame into the inbox and returns to its connection. If the ring is full, it waits without
//! reading, which holds the peer back. One peer at a time owns the device.
//!
//! SMP over UDP or a console has no connections: its packets wait beside the inbox, each with its return address, and
//! the peer on the link stays connected.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bledfu_transfer::doors;
use bledfu_transfer::inbox::{Inbox, Inlet, Next};
use bledfu_transfer::ring::{Channel, Frame, PushError, MAX_FRAME};
use bledfu_transfer::smp::DEFAULT_FRAME_COUNT;
use bledfu_wire::smp_console;

use super::wire::{Framing, Wire};

/// Every wait for the other side ends after this time, to check again.
const STEP: Duration = Duration::from_secs(1);

/// A peer that connects while another one is present is turned away after this time.
const HAND_OVER: Duration = Duration::from_millis(100);

/// The link, for both sides.
pub struct Link {
    state: Mutex<State>,
    changed: Condvar,
    clock: Instant,
}

struct State {
    inbox: Inbox<Box<[u8]>>,
    /// Whether new peers count as paired.
    kind: doors::Peer,
    packets: VecDeque<Packet>,
    peer: Option<Peer>,
    /// Number of peers so far.
    count: u64,
    /// The device is running; it accepts no peers while it resets.
    running: bool,
    stopping: bool,
}

/// SMP frames of one datagram, without a connection.
pub struct Packet {
    /// One frame, or several in a row.
    pub bytes: Vec<u8>,
    /// The sender.
    pub origin: Origin,
}

/// Where to send the answers to a packet.
pub enum Origin {
    /// To this address.
    Udp(Arc<UdpSocket>, SocketAddr),
    /// To the client that has the terminal open.
    Console(Arc<Wire>),
}

impl Origin {
    /// Sends one answer. A lost answer is not reported: the client notices it.
    pub fn send(&self, answer: &[u8]) {
        let sent = match self {
            Self::Udp(socket, address) => socket.send_to(answer, address).map(drop),
            // Otherwise it would wait there for the next client.
            Self::Console(wire) if wire.is_hung_up() => Ok(()),
            Self::Console(wire) => wire.send(&console_lines(answer)).map_err(Into::into),
        };
        if let Err(error) = sent {
            log::warn!("an answer was not delivered: {error}");
        }
    }
}

/// A frame as the lines of SMP's console.
pub(crate) fn console_lines(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut line = [0; smp_console::MAX_LINE];
    // No frame here is as long as the maximum packet.
    if let Some(mut encoder) = smp_console::Encoder::new(frame) {
        while let Some(line) = encoder.next_line(&mut line) {
            bytes.extend_from_slice(line);
        }
    }
    bytes
}

/// The connection to a peer.
#[derive(Clone)]
pub struct Remote {
    /// Its byte stream.
    pub wire: Arc<Wire>,
    /// Its framing.
    pub framing: Framing,
}

impl Remote {
    /// Sends an answer.
    ///
    /// # Errors
    /// The peer is gone, or accepts no more bytes.
    pub fn send(&self, channel: Channel, answer: &[u8]) -> rustix::io::Result<()> {
        self.wire.send(&self.framing.encode(channel, answer))
    }
}

/// The peer on the link.
#[derive(Clone)]
struct Peer {
    number: u64,
    remote: Remote,
}

impl State {
    fn is_connected(&self, number: u64) -> bool {
        self.peer.as_ref().is_some_and(|peer| peer.number == number)
    }

    /// The peer is gone; what it sent and was not handled is dropped.
    fn end_peer(&mut self) {
        if let Some(peer) = self.peer.take() {
            peer.remote.wire.close();
            self.inbox.link_down();
        }
    }
}

/// The session of this peer has ended.
#[derive(Debug)]
pub struct Over;

impl Link {
    /// No peer, and the device is not running yet. `paired` is the trust of new peers.
    pub fn new(inbox: Inbox<Box<[u8]>>, kind: doors::Peer) -> Self {
        Self {
            state: Mutex::new(State {
                inbox,
                kind,
                packets: VecDeque::new(),
                peer: None,
                count: 0,
                running: false,
                stopping: false,
            }),
            changed: Condvar::new(),
            clock: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked held the lock only for a copy; the data is intact.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait_timeout(state, STEP)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn now_ms(&self) -> u64 {
        self.clock.elapsed().as_millis() as u64
    }

    /// Door: accepts a peer, or turns it away because another one owns the device. A connection during a reset waits
    /// for it; bytes on a terminal are lost then, as on the UART of a device that resets.
    pub fn admit(self: &Arc<Self>, remote: &Remote) -> Option<Session> {
        let patience = Instant::now() + HAND_OVER;
        let mut state = self.lock();
        loop {
            match &state.peer {
                // The old peer may be gone while its last bytes are still being read.
                Some(peer) if peer.remote.wire.is_hung_up() => {
                    state.end_peer();
                    self.changed.notify_all();
                }
                // The end of a socket that was closed just now may not have arrived yet.
                Some(_) if Instant::now() < patience => {
                    state = self
                        .changed
                        .wait_timeout(state, Duration::from_millis(5))
                        .unwrap_or_else(PoisonError::into_inner)
                        .0;
                }
                Some(_) => return None,
                None if state.running => break,
                None if remote.wire.is_terminal() => return None,
                None => state = self.wait(state),
            }
        }
        state.count += 1;
        let number = state.count;
        state.peer = Some(Peer {
            number,
            remote: remote.clone(),
        });
        state.inbox.link_up(remote.framing.transport());
        let kind = state.kind;
        state.inbox.peer(kind);
        self.changed.notify_all();
        Some(Session {
            link: self.clone(),
            number,
        })
    }

    /// Worker: waits up to `patience` for an event.
    pub fn rest(&self, patience: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), patience, |state| {
            !state.stopping && state.inbox.is_empty() && state.packets.is_empty()
        });
        drop(waited);
    }

    /// Worker: the oldest packet.
    pub fn next_packet(&self) -> Option<Packet> {
        let packet = self.lock().packets.pop_front();
        if packet.is_some() {
            self.changed.notify_all();
        }
        packet
    }

    /// Worker: the number of the peer that is connected.
    pub fn peer(&self) -> Option<u64> {
        self.lock().peer.as_ref().map(|peer| peer.number)
    }

    /// Worker: whether the process is to end.
    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Door: passes a packet to the worker; waits while all of the device's buffers are in use. A packet that arrives
    /// during a reset is lost, as on a device.
    pub fn push(&self, packet: Packet) {
        let mut state = self.lock();
        while state.running && state.packets.len() >= DEFAULT_FRAME_COUNT {
            state = self.wait(state);
        }
        if state.running {
            state.packets.push_back(packet);
            self.changed.notify_all();
        } else {
            log::warn!("{} bytes are lost: the device resets", packet.bytes.len());
        }
    }

    /// Worker: the device is running.
    pub fn up(&self) {
        self.lock().running = true;
        self.changed.notify_all();
    }

    /// Worker: the device resets, which closes the link.
    pub fn down(&self) {
        let mut state = self.lock();
        state.running = false;
        state.packets.clear();
        state.end_peer();
        self.changed.notify_all();
    }

    /// Tells the process to end; false if it was told before.
    pub fn stop(&self) -> bool {
        let first = !std::mem::replace(&mut self.lock().stopping, true);
        self.changed.notify_all();
        first
    }
}

/// An accepted peer. Dropped when it disconnects.
pub struct Session {
    link: Arc<Link>,
    number: u64,
}

impl Session {
    /// Copies a frame into the ring; waits while it is full.
    ///
    /// # Errors
    /// [`Over`].
    pub fn push(&self, frame: Frame<'_>) -> Result<(), Over> {
        let mut state = self.link.lock();
        while state.is_connected(self.number) {
            let now_ms = self.link.now_ms();
            match state.inbox.offer(frame, now_ms) {
                Ok(()) => {
                    self.link.changed.notify_all();
                    return Ok(());
                }
                Err(PushError::Full) => state = self.link.wait(state),
                Err(error @ (PushError::Lost | PushError::TooLong)) => {
                    log::warn!("{error}");
                    let _ = state.inbox.push(frame, now_ms);
                    return Ok(());
                }
            }
        }
        Err(Over)
    }

    /// Whether neither side has ended it.
    pub fn is_connected(&self) -> bool {
        self.link.lock().is_connected(self.number)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if state.is_connected(self.number) {
            state.end_peer();
            self.link.changed.notify_all();
        }
    }
}

/// The worker's side of the link: received items, and the current peer.
pub struct WorkerSide {
    link: Arc<Link>,
    /// As of the last link event that the worker took.
    peer: Option<Peer>,
}

impl WorkerSide {
    /// The worker does not know of a peer yet.
    pub fn new(link: Arc<Link>) -> Self {
        Self { link, peer: None }
    }

    /// Sends an answer to the peer.
    ///
    /// # Errors
    /// The peer is gone, or accepts no more bytes.
    pub fn send(&self, channel: Channel, answer: &[u8]) -> rustix::io::Result<()> {
        match &self.peer {
            Some(peer) => peer.remote.send(channel, answer),
            None => Err(rustix::io::Errno::NOTCONN),
        }
    }

    /// Disconnects this peer, but not one that connected after it.
    pub fn disconnect(&self) {
        let mut state = self.link.lock();
        if self
            .peer
            .as_ref()
            .is_some_and(|peer| state.is_connected(peer.number))
        {
            state.end_peer();
            self.link.changed.notify_all();
        }
    }
}

impl Inlet for WorkerSide {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        let mut state = self.link.lock();
        let next = state.inbox.next(buffer)?;
        match next {
            Next::Up(_) => self.peer = state.peer.clone(),
            Next::Down => self.peer = None,
            Next::Peer(_) | Next::Confirm | Next::Allow | Next::Frame(..) | Next::Lost(_) => {}
        }
        self.link.changed.notify_all();
        Some(next)
    }

    fn is_link_gone(&self) -> bool {
        self.link.lock().inbox.is_link_gone()
    }
}
