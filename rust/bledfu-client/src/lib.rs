// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! The other side of an update: clients of Secure DFU and of SMP (mcumgr), without I/O.
//!
//! A client is told what happens ([`UpdateClient::connected`], [`UpdateClient::disconnected`],
//! [`UpdateClient::received`]), with the time, and says what to do next ([`UpdateClient::poll`] returns an [`Action`]).
//! Who calls it owns the link and the clock: a simulated one, a computer's Bluetooth, or a test with a list of bytes.
//!
//! - [`secure_dfu`]: Nordic's Secure DFU: init packet, objects, packet receipts, resume.
//! - [`smp`]: uploads with a window, marks, resets and confirmations of mcumgr's image management.
//!
//! What the libraries in the field do differently is in `Settings` of each module: how long they wait, what they repeat,
//! how they go on after a lost link. There is one client for each protocol, not one for each library.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![warn(missing_docs)]

pub mod secure_dfu;
pub mod smp;

/// Where bytes are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characteristic {
    /// Control point of Secure DFU; written with response.
    ControlPoint,
    /// Packets of Secure DFU; written without response.
    Packet,
    /// Frames of SMP; written without response.
    Smp,
}

/// What the caller must do next. When it is done, or at once for [`Action::Write`], it polls again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a, E> {
    /// Open a link, not before that time; then tell [`UpdateClient::connected`]. If there is none yet, try again.
    Connect {
        /// Time in ms.
        at_ms: u64,
    },
    /// Write these bytes, one value. They are as long as the link's payload at the most.
    Write {
        /// Where to.
        to: Characteristic,
        /// The value.
        bytes: &'a [u8],
    },
    /// Wait for a notification or for the end of the link, at most until that time.
    Wait {
        /// Time in ms.
        until_ms: u64,
    },
    /// Let time pass; nothing is expected meanwhile.
    Pause {
        /// Time in ms.
        until_ms: u64,
    },
    /// Close the link; then tell [`UpdateClient::disconnected`].
    Disconnect,
    /// The update is done.
    Done,
    /// The update has failed. The link may still be open.
    Failed(E),
}

/// A client of an update. Times are in ms on any clock that does not run backwards.
pub trait UpdateClient {
    /// Why it fails.
    type Error;

    /// What to do next. Polled again without an event, it says the same, but for a write, which is said once.
    fn poll(&mut self, now_ms: u64) -> Action<'_, Self::Error>;

    /// A link is open, notifications are on, and a write carries up to `payload` bytes.
    fn connected(&mut self, now_ms: u64, payload: usize);

    /// The link is gone, whoever closed it.
    fn disconnected(&mut self, now_ms: u64);

    /// A notification came.
    fn received(&mut self, now_ms: u64, bytes: &[u8]);

    /// How far it is.
    fn progress(&self) -> Progress;
}

/// Where an update is, for a progress bar and for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How far the client got.
    pub stage: Stage,
    /// Image bytes the device had when this connection, or with SMP this upload, began.
    pub resumed_at: u32,
    /// Image bytes the device holds for sure: executed, or with SMP taken.
    pub held: u32,
}

/// How far a client got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It asks what the device can do and where it is.
    #[default]
    Preparing,
    /// It sends the image.
    Sending,
    /// Everything is sent: the last Execute is on its way, or the last piece is answered.
    Sent,
    /// The device has verified the image: the last Execute is answered, or the image marked.
    Verified,
}
