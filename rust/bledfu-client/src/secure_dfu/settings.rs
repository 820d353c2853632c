// SPDX-License-Identifier: Apache-2.0
//! What is sent, and what differs between the libraries.

use super::FOR_EVER_MS;

/// An init packet and the image it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'p> {
    /// The init packet, as it is in the `.dat` file.
    pub init: &'p [u8],
    /// The image, as it is in the `.bin` file.
    pub firmware: &'p [u8],
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package<'p> {
    /// A part for SoftDevice or bootloader, which goes first. A device that refuses it may still take the application.
    pub system: Option<Part<'p>>,
    /// The application.
    pub application: Part<'p>,
}

impl<'p> Package<'p> {
    /// A package of an application alone.
    pub const fn of(application: Part<'p>) -> Self {
        Self {
            system: None,
            application,
        }
    }
}

/// When receipts are switched off for the init packet, which goes in one burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitReceipts {
    /// Before Create, as Android does.
    OffBeforeCreate,
    /// After Create, as iOS does.
    OffAfterCreate,
    /// Not at all, as nrfutil does: its receipts are off by default, and counted while the init packet goes.
    AsSet,
}

/// What a client makes of a receipt or a checksum that does not fit what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPolicy {
    /// Android: a receipt with another CRC stops the sending, and the checksum decides. If bytes are missing, receipts are
    /// set to 1 and the missing tail is sent without Create; its arithmetic only holds for a full object. If the CRC
    /// differs, the object is created again.
    SendTail,
    /// iOS: a receipt with another offset is an error. A checksum is compared at the offset it names, even if that is
    /// short. If the CRC differs, the object is created again.
    FailOnReceipt,
    /// nrfutil: receipts and checksums must name what was sent, else the object is created again.
    CreateAgain,
}

/// What differs between the libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Packets carry a multiple of so many bytes, 1 to 20.
    pub packet_alignment: u8,
    /// A receipt after so many packets; 0: none.
    pub receipts: u16,
    /// The receipts are set before anything else in a connection.
    pub sets_receipts_first: bool,
    /// Receipts that are off are not switched off once more before the image.
    pub omits_receipts_off: bool,
    /// Receipts of the init packet.
    pub init_receipts: InitReceipts,
    /// What is done about bytes that got lost.
    pub on_loss: LossPolicy,
    /// Pause after the first Create of a data object in a connection, in ms.
    pub first_object_delay_ms: u32,
    /// Pause after every Create of a data object, in ms: the *prepare data object delay* of the applications.
    pub object_delay_ms: u32,
    /// How long an answer is waited for, in ms.
    pub answer_timeout_ms: u32,
    /// *Operation not permitted* as the answer to the Execute that follows a resume is taken for *done already*.
    pub forgives_resume: bool,
    /// The same for every Execute of a data object.
    pub forgives_execute: bool,
    /// *Invalid object* as the answer to the last Execute: Execute is sent again, and every later answer is ignored.
    pub repeats_last_execute: bool,
    /// A link that ends behind the last Execute is a success, answered or not.
    pub close_is_success: bool,
    /// Abort is sent when something goes wrong; then the device is to close the link.
    pub sends_abort: bool,
    /// Times the client connects again by itself after a lost link.
    pub retries: u8,
    /// How long after a lost link it does, in ms; also between two parts of a package.
    pub reconnect_ms: u32,
}

impl Settings {
    /// Android-DFU-Library and nRF DFU for Android, as they are by default.
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

    /// IOS-DFU-Library, as it is by default; nRF DFU for iOS has receipts off.
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

    /// Bytes of a packet on a link that carries `payload` bytes.
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
