// SPDX-License-Identifier: Apache-2.0
//! What door threads and worker share, as the Bluetooth thread and the worker do on the device: the ring, and who is
//! on the link.
//!
//! A door thread copies a frame into the ring and goes back to its wire. Finds it the ring full, it waits, and does not
//! read meanwhile: that holds the peer back. One peer at a time owns the device.
//!
//! SMP over UDP or a console knows no connections: its packets wait beside the ring, each with the way back, and whoever is on
//! the link stays there.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bledfu_transfer::ring::{Frame, PushError, Ring, DEFAULT_RING_SIZE, MAX_FRAME};

use bledfu_transfer::smp::DEFAULT_FRAME_COUNT;
use bledfu_wire::smp_console;

use super::wire::{Framing, Wire};
use bledfu_sim::device::Service;

/// Every wait for the other side ends after this long, to look again.
const STEP: Duration = Duration::from_secs(1);

/// The link, for both sides.
#[derive(Default)]
pub struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ring: Box<Ring<DEFAULT_RING_SIZE>>,
    packets: VecDeque<Packet>,
    peer: Option<Peer>,
    /// Peers so far.
    count: u64,
    /// The device runs; it lets nobody in while it resets.
    running: bool,
    stopping: bool,
}

/// SMP frames that came together, without a connection.
pub struct Packet {
    /// One frame, or several one behind the other.
    pub bytes: Vec<u8>,
    /// Who sent it.
    pub origin: Origin,
}

/// Where the answers to a packet go.
pub enum Origin {
    /// To this address.
    Udp(Arc<UdpSocket>, SocketAddr),
    /// To whoever has the terminal open.
    Console(Arc<Wire>),
}

impl Origin {
    /// Sends one answer. Nobody is told when it gets lost: that is for the client to find out.
    pub fn send(&self, answer: &[u8]) {
        let sent = match self {
            Self::Udp(socket, address) => socket.send_to(answer, address).map(drop),
            // Else it would wait there for the next client.
            Self::Console(wire) if wire.is_hung_up() => Ok(()),
            Self::Console(wire) => wire.send(&console_lines(answer)).map_err(Into::into),
        };
        if let Err(error) = sent {
            log::warn!("an answer was not delivered: {error}");
        }
    }
}

fn console_lines(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut line = [0; smp_console::MAX_LINE];
    // No answer is as long as a packet may be.
    if let Some(mut encoder) = smp_console::Encoder::new(frame) {
        while let Some(line) = encoder.next_line(&mut line) {
            bytes.extend_from_slice(line);
        }
    }
    bytes
}

/// The way to a peer.
#[derive(Clone)]
pub struct Remote {
    /// Its bytes.
    pub wire: Arc<Wire>,
    /// How frames lie in them.
    pub framing: Framing,
}

impl Remote {
    /// Sends an answer.
    ///
    /// # Errors
    /// The peer is gone, or takes nothing any more.
    pub fn send(&self, service: Service, answer: &[u8]) -> rustix::io::Result<()> {
        self.wire.send(&self.framing.encode(service, answer))
    }
}

struct Peer {
    number: u64,
    remote: Remote,
    /// The worker knows of it.
    announced: bool,
    /// It hung up; the worker is still to be told.
    gone: bool,
}

impl State {
    fn is_connected(&self, number: u64) -> bool {
        self.peer
            .as_ref()
            .is_some_and(|peer| peer.number == number && !peer.gone)
    }

    fn nothing_happened(&self) -> bool {
        let peer_is_settled = self.peer.as_ref().is_none_or(|peer| peer.announced && !peer.gone);
        !self.stopping && peer_is_settled && self.ring.is_empty() && self.packets.is_empty()
    }
}

/// What the worker is told.
pub enum Event<'b> {
    /// The process is to end.
    Stop,
    /// A peer is there.
    Connected(Remote),
    /// The peer is gone, and with it what it sent and nobody looked at yet.
    Disconnected,
    /// The oldest frame in the ring.
    Frame(Frame<'b>),
    /// The oldest packet.
    Packet(Packet),
    /// Nothing.
    Quiet,
}

/// The session of this peer is over.
#[derive(Debug)]
pub struct Over;

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked held the lock for one copy; what it left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.changed
            .wait_timeout(state, STEP)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Door: lets a peer in, or turns it away because another one owns the device. A connection that comes while the
    /// device resets waits for it; bytes on a terminal are lost then, as on the UART of a device that resets.
    pub fn admit(self: &Arc<Self>, remote: &Remote) -> Option<Session> {
        let mut state = self.lock();
        loop {
            let running = state.running;
            match &mut state.peer {
                // The old peer may be gone while its last bytes are still being read.
                Some(peer) if peer.gone || peer.remote.wire.is_hung_up() => {
                    peer.gone = true;
                    self.changed.notify_all();
                }
                Some(_) => return None,
                None if running => break,
                None if remote.wire.is_terminal() => return None,
                None => {}
            }
            state = self.wait(state);
        }
        state.count += 1;
        let number = state.count;
        state.peer = Some(Peer {
            number,
            remote: remote.clone(),
            announced: false,
            gone: false,
        });
        self.changed.notify_all();
        Some(Session {
            link: self.clone(),
            number,
        })
    }

    /// Worker: what happened, in the order in which it counts; waits up to `patience` for something to.
    pub fn next<'b>(&self, buffer: &'b mut [u8; MAX_FRAME], patience: Duration) -> Event<'b> {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| state.nothing_happened());
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.stopping {
            return Event::Stop;
        }
        match &mut state.peer {
            Some(peer) if peer.gone => {
                self.forget_peer(state);
                return Event::Disconnected;
            }
            Some(peer) if !peer.announced => {
                peer.announced = true;
                return Event::Connected(peer.remote.clone());
            }
            _ => {}
        }
        if let Some(packet) = state.packets.pop_front() {
            self.changed.notify_all();
            return Event::Packet(packet);
        }
        match state.ring.pop(buffer) {
            Some(frame) => {
                self.changed.notify_all();
                Event::Frame(frame)
            }
            None => Event::Quiet,
        }
    }

    /// Door: leaves a packet for the worker; waits while there are as many as the device has buffers for. A packet that comes
    /// while the device resets is lost, as on the device.
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

    /// Worker: disconnects the peer.
    pub fn disconnect(&self) {
        self.forget_peer(self.lock());
    }

    fn forget_peer(&self, mut state: MutexGuard<'_, State>) {
        if let Some(peer) = state.peer.take() {
            peer.remote.wire.close();
        }
        state.ring.clear();
        self.changed.notify_all();
    }

    /// Worker: the device runs.
    pub fn up(&self) {
        self.lock().running = true;
        self.changed.notify_all();
    }

    /// Worker: the device resets; the link goes with it.
    pub fn down(&self) {
        let mut state = self.lock();
        state.running = false;
        state.packets.clear();
        self.forget_peer(state);
    }

    /// The process is to end; false when it was told so before.
    pub fn stop(&self) -> bool {
        let first = !std::mem::replace(&mut self.lock().stopping, true);
        self.changed.notify_all();
        first
    }
}

/// A peer that was let in. Dropped when it hangs up.
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
            match state.ring.push(frame) {
                Ok(()) => {
                    self.link.changed.notify_all();
                    return Ok(());
                }
                Err(PushError::Full) => state = self.link.wait(state),
                Err(error @ PushError::TooLong) => {
                    log::warn!("{error}");
                    return Ok(());
                }
            }
        }
        Err(Over)
    }

    /// Neither side has ended it.
    pub fn is_connected(&self) -> bool {
        self.link.lock().is_connected(self.number)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.link.lock();
        if let Some(peer) = state.peer.as_mut().filter(|peer| peer.number == self.number) {
            peer.gone = true;
            self.link.changed.notify_all();
        }
    }
}
