// SPDX-License-Identifier: Apache-2.0
//! What to send, and how the libraries differ.

use super::FOR_EVER_MS;

/// An init packet and the image it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'p> {
    /// The init packet: the content of the `.dat` file.
    pub init: &'p [u8],
    /// The image: the content of the `.bin` file.
    pub firmware: &'p [u8],
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package<'p> {
    /// A part for SoftDevice or bootloader, sent first. A device that refuses it may still take the application.
    pub system: Option<Part<'p>>,
    /// The application.
    pub application: Part<'p>,
}

impl<'p> Package<'p> {
    /// A package with an application only.
    pub const fn of(application: Part<'p>) -> Self {
        Self {
            system: None,
            application,
        }
    }
}

/// When receipts are switched off for the init packet, which is sent in one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitReceipts {
    /// Before Create, as Android does.
    OffBeforeCreate,
    /// After Create, as iOS does.
    OffAfterCreate,
    /// Never, as nrfutil does: its receipts are off by default, and otherwise also apply to the init packet.
    AsSet,
}

/// How a client reacts to a receipt or checksum that does not match what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// Android: a receipt with another CRC stops the sending, and the checksum decides. If bytes are missing, the
    /// receipt interval is set to 1 and the missing tail is sent without Create; the arithmetic is only right for a
    /// full object. If the CRC differs, the object is created again.
    SendTail,
    /// iOS: a receipt with another offset is an error. A checksum is compared at the offset that it reports, even if
    /// bytes are missing. If the CRC differs, the object is created again.
    FailOnReceipt,
    /// nrfutil: receipts and checksums must match what was sent; otherwise the object is created again.
    CreateAgain,
}

/// How the libraries differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The size of a packet is a multiple of this, 1 to 20 bytes.
    pub packet_alignment: u8,
    /// Packets per receipt; 0: no receipts.
    pub receipts: u16,
    /// Receipts are set before anything else in a connection.
    pub sets_receipts_first: bool,
    /// If receipts are off, they are not switched off again before the image.
    pub omits_receipts_off: bool,
    /// When receipts are off during the init packet.
    pub init_receipts: InitReceipts,
    /// How lost bytes are handled.
    pub on_loss: LossPolicy,
    /// Pause after the first Create of a data object in a connection, in ms.
    pub first_object_delay_ms: u32,
    /// Pause after every Create of a data object, in ms: the *prepare data object delay* of the applications.
    pub object_delay_ms: u32,
    /// How long to wait for an answer, in ms.
    pub answer_timeout_ms: u32,
    /// *Operation not permitted* in answer to the Execute that follows a resume means that the object was executed
    /// before.
    pub forgives_resume: bool,
    /// The same for every Execute of a data object.
    pub forgives_execute: bool,
    /// *Invalid object* in answer to the last Execute: Execute is sent again, and every later answer is ignored.
    pub repeats_last_execute: bool,
    /// A link that ends after the last Execute is a success, answered or not.
    pub close_is_success: bool,
    /// After an error, the client sends Abort and waits until the device closes the link.
    pub sends_abort: bool,
    /// Number of times the client reconnects by itself after a lost link.
    pub retries: u8,
    /// Pause before it reconnects, in ms; also between two parts of a package.
    pub reconnect_ms: u32,
}

impl Settings {
    /// Android-DFU-Library and nRF DFU for Android with their defaults.
    pub const fn android() -> Self {
        Self {
            packet_alignment: 1,
            receipts: 0,
            sets_receipts_first: false,
            omits_receipts_off: true,
            init_receipts: InitReceipts::OffBeforeCreate,
            on_loss: LossPolicy::SendTail,
            first_object_delay_ms: 0,
            object_delay_ms: 0,
            answer_timeout_ms: FOR_EVER_MS,
            forgives_resume: true,
            forgives_execute: false,
            repeats_last_execute: true,
            close_is_success: false,
            sends_abort: false,
            retries: 0,
            reconnect_ms: 10,
        }
    }

    /// IOS-DFU-Library with its defaults; nRF DFU for iOS turns receipts off.
    pub const fn ios() -> Self {
        Self {
            packet_alignment: 4,
            receipts: 12,
            omits_receipts_off: false,
            init_receipts: InitReceipts::OffAfterCreate,
            on_loss: LossPolicy::FailOnReceipt,
            first_object_delay_ms: 400,
            forgives_execute: true,
            repeats_last_execute: false,
            close_is_success: true,
            sends_abort: true,
            reconnect_ms: 1_000,
            ..Self::android()
        }
    }

    /// nrfutil over Bluetooth LE.
    pub const fn nrfutil() -> Self {
        Self {
            sets_receipts_first: true,
            omits_receipts_off: false,
            init_receipts: InitReceipts::AsSet,
            on_loss: LossPolicy::CreateAgain,
            answer_timeout_ms: 20_000,
            forgives_resume: false,
            repeats_last_execute: false,
            reconnect_ms: 3_000,
            ..Self::android()
        }
    }

    /// Size of a packet in bytes on a link that carries `payload` bytes.
    pub(super) const fn packet_size(&self, payload: usize) -> usize {
        let alignment = match self.packet_alignment {
            0 => 1,
            alignment => alignment as usize,
        };
        match payload - payload % alignment {
            0 => 1,
            size => size,
        }
    }
}
