// SPDX-License-Identifier: Apache-2.0
//! What the Bluetooth host and the worker leave for each other. One lock, held for one copy of at most 512 bytes.

use bledfu_transfer::inbox::{Inbox, Inlet, Next};
use bledfu_transfer::ring::{ring_size, smp_ring_size, Channel, Frame, PushError, MAX_FRAME};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_transfer::smp::{DEFAULT_FRAME_COUNT, DEFAULT_FRAME_SIZE};
use core::cell::RefCell;
use embassy_futures::select::select;
use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::signal::Signal;
use embassy_time::{Instant, Timer};
use heapless::{Deque, Vec};

/// Bytes of a packet at the smallest MTU.
const SHORTEST_PACKET: usize = 20;
/// Largest object of Secure DFU.
pub const OBJECT_SIZE: u32 = 4096;
/// All that a peer may send before it must wait for an answer.
const RING_SIZE: usize = {
    let secure_dfu = ring_size(OBJECT_SIZE as usize, SHORTEST_PACKET);
    let smp = smp_ring_size(DEFAULT_FRAME_SIZE, DEFAULT_FRAME_COUNT, SHORTEST_PACKET);
    if smp > secure_dfu {
        smp
    } else {
        secure_dfu
    }
};
/// Orders that wait. The service gives the next answer only when it has the next request, and receipts are short.
const MAX_ORDERS: usize = 4;

/// What the Bluetooth host does for the worker.
#[derive(Debug)]
pub enum Order {
    /// Sends a notification, or several where the MTU asks for it.
    Notify(Channel, Vec<u8, MAX_FRAME>),
    /// Asks the peer for a fast link.
    Hurry,
    /// Closes the link.
    Disconnect,
}

struct State {
    inbox: Inbox<[u8; RING_SIZE]>,
    orders: Deque<Order, MAX_ORDERS>,
    /// An order has left `orders` and is not carried out yet.
    busy: bool,
}

/// The two sides' meeting point; one static per device.
pub struct Handover {
    state: Mutex<CriticalSectionRawMutex, RefCell<State>>,
    /// Something came into the inbox.
    work: Signal<CriticalSectionRawMutex, ()>,
    /// There is an order.
    ordered: Signal<CriticalSectionRawMutex, ()>,
    /// An order was carried out, or dropped.
    carried_out: Signal<CriticalSectionRawMutex, ()>,
}

impl Default for Handover {
    fn default() -> Self {
        Self::new()
    }
}

impl Handover {
    /// Nothing waits.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(RefCell::new(State {
                inbox: Inbox::new(),
                orders: Deque::new(),
                busy: false,
            })),
            work: Signal::new(),
            ordered: Signal::new(),
            carried_out: Signal::new(),
        }
    }

    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        self.state.lock(|state| f(&mut state.borrow_mut()))
    }

    // ---- the Bluetooth host's side

    /// A peer is there.
    pub fn link_up(&self) {
        self.with(|state| state.inbox.link_up(Transport::Ble));
        self.work.signal(());
    }

    /// The peer has gone, and orders for it go with it.
    pub fn link_down(&self) {
        self.with(|state| {
            state.inbox.link_down();
            state.orders.clear();
            state.busy = false;
        });
        self.carried_out.signal(());
        self.work.signal(());
    }

    /// The peer wrote this.
    ///
    /// # Errors
    /// There is no room: a request is refused then. Of a packet the worker knows, and tells the peer.
    pub fn push(&self, channel: Channel, bytes: &[u8]) -> Result<(), PushError> {
        let now_ms = Instant::now().as_millis();
        let pushed = self.with(|state| state.inbox.push(Frame { channel, bytes }, now_ms));
        self.work.signal(());
        pushed
    }

    /// The next order, when there is one. [`Handover::done`] follows when it is carried out.
    pub async fn order(&self) -> Order {
        loop {
            let order = self.with(|state| {
                let order = state.orders.pop_front();
                state.busy |= order.is_some();
                order
            });
            if let Some(order) = order {
                return order;
            }
            self.ordered.wait().await;
        }
    }

    /// The last order is carried out.
    pub fn done(&self) {
        self.with(|state| state.busy = false);
        self.carried_out.signal(());
    }

    // ---- the application's side

    /// The application's self-test passed: the running image stays.
    pub fn confirm(&self) {
        self.with(|state| state.inbox.confirm());
        self.work.signal(());
    }

    // ---- the worker's side

    /// Leaves an order for the link the worker knows; dropped if that link has gone. False: there was no room until then.
    pub(crate) async fn leave(&self, order: Order, until: Instant) -> bool {
        let mut order = Some(order);
        let placed = self.wait_for(until, |state| {
            if let Some(waiting) = order.take() {
                if !state.inbox.is_link_gone() {
                    order = state.orders.push_back(waiting).err();
                }
            }
            order.is_none()
        });
        let placed = placed.await;
        self.ordered.signal(());
        placed
    }

    /// Until all orders are carried out; false at that time.
    pub(crate) async fn all_done(&self, until: Instant) -> bool {
        self.wait_for(until, |state| state.orders.is_empty() && !state.busy)
            .await
    }

    /// Until something comes into the inbox, or that time.
    pub(crate) async fn work(&self, until: Instant) {
        select(self.work.wait(), Timer::at(until)).await;
    }

    /// Looks whenever an order was carried out.
    async fn wait_for(&self, until: Instant, mut is_so: impl FnMut(&mut State) -> bool) -> bool {
        loop {
            if self.with(&mut is_so) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            select(self.carried_out.wait(), Timer::at(until)).await;
        }
    }
}

/// The worker's door to the inbox.
pub(crate) struct Door<'h>(pub(crate) &'h Handover);

impl Inlet for Door<'_> {
    fn next(&mut self, buffer: &mut [u8; MAX_FRAME]) -> Option<Next> {
        self.0.with(|state| state.inbox.next(buffer))
    }

    fn is_link_gone(&self) -> bool {
        self.0.with(|state| state.inbox.is_link_gone())
    }
}
