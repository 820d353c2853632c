// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! The client side of an update: clients of Secure DFU and of SMP (mcumgr), without I/O.
//!
//! The caller reports events with their time ([`UpdateClient::connected`], [`UpdateClient::disconnected`],
//! [`UpdateClient::received`]), and the client says what to do next ([`UpdateClient::poll`] returns an [`Action`]). The
//! caller owns the link and the clock: a simulated link, a computer's Bluetooth, or a test with a list of bytes.
//!
//! - [`secure_dfu`]: Nordic's Secure DFU: init packet, objects, packet receipts, resume.
//! - [`smp`]: uploads with a window, marks, resets and confirmations of mcumgr's image management.
//!
//! How the libraries in the field differ is in the `Settings` of each module: how long they wait, what they repeat, how
//! they continue after a lost link. There is one client per protocol, not one per library.
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

/// Where to write bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characteristic {
    /// Control point of Secure DFU; written with response.
    ControlPoint,
    /// Packets of Secure DFU; written without response.
    Packet,
    /// Frames of SMP; written without response.
    Smp,
}

/// What the caller must do next. It polls again when that is done, or at once after [`Action::Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a, E> {
    /// Open a link, not before this time; then call [`UpdateClient::connected`]. If that fails, try again.
    Connect {
        /// Time in ms.
        at_ms: u64,
    },
    /// Write these bytes as one value. They are at most as long as the link's payload.
    Write {
        /// Where to.
        to: Characteristic,
        /// The value.
        bytes: &'a [u8],
    },
    /// Wait for a notification or the end of the link, at most until this time.
    Wait {
        /// Time in ms.
        until_ms: u64,
    },
    /// Wait until this time; nothing is expected before.
    Pause {
        /// Time in ms.
        until_ms: u64,
    },
    /// Close the link; then call [`UpdateClient::disconnected`].
    Disconnect,
    /// The update is done.
    Done,
    /// The update failed. The link may still be open.
    Failed(E),
}

/// A client of an update. Times are in ms on any clock that does not run backwards.
pub trait UpdateClient {
    /// Why an update failed.
    type Error;

    /// What to do next. Polled again without an event, it returns the same action, except for a write, which is
    /// returned once.
    fn poll(&mut self, now_ms: u64) -> Action<'_, Self::Error>;

    /// A link is open, notifications are on, and a write carries up to `payload` bytes.
    fn connected(&mut self, now_ms: u64, payload: usize);

    /// The link is gone, whichever side closed it.
    fn disconnected(&mut self, now_ms: u64);

    /// A notification arrived.
    fn received(&mut self, now_ms: u64, bytes: &[u8]);

    /// The progress.
    fn progress(&self) -> Progress;

    /// The device has done everything and only has to close the link. On a transport without links nobody closes it: the
    /// caller reports [`UpdateClient::disconnected`] itself.
    fn awaits_close(&self) -> bool;
}

/// Progress of an update, for a progress bar and for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The current stage.
    pub stage: Stage,
    /// Image bytes that the device held when this connection (over SMP: this upload) began.
    pub resumed_at: u32,
    /// Image bytes that the device is known to hold: executed (over SMP: accepted).
    pub held: u32,
}

/// Stage of an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The client asks for the device's capabilities and state.
    #[default]
    Preparing,
    /// The client sends the image.
    Sending,
    /// Everything is sent: the last Execute is in flight (over SMP: the last piece was answered).
    Sent,
    /// The device has verified the image: the last Execute was answered (over SMP: the image was marked).
    Verified,
}
