// SPDX-License-Identifier: Apache-2.0
//! What a line of a log says, whoever wrote it. Numbers only: names and addresses do not get past this point.

/// Who wrote a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// nRF Connect, nRF DFU and others with Android-DFU-Library, or Android's own log.
    Android,
    /// IOS-DFU-Library.
    Ios,
    /// nrfutil 6.
    Nrfutil,
    /// The bootloader of the nRF5 SDK.
    Sdk,
    /// nRF Connect Device Manager.
    DeviceManager,
    /// smpmgr, or mcumgr in Go.
    Console,
    /// Zephyr and MCUboot.
    Zephyr,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Android,
        Self::Ios,
        Self::Nrfutil,
        Self::Sdk,
        Self::DeviceManager,
        Self::Console,
        Self::Zephyr,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Android => "nRF Connect or nRF DFU for Android",
            Self::Ios => "a DFU app for iOS",
            Self::Nrfutil => "nrfutil",
            Self::Sdk => "bootloader of the nRF5 SDK",
            Self::DeviceManager => "nRF Connect Device Manager",
            Self::Console => "mcumgr or smpmgr",
            Self::Zephyr => "Zephyr or MCUboot",
        }
    }
}

/// A characteristic of the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// DFU Control Point.
    Control,
    /// DFU Packet.
    Packet,
    /// Buttonless DFU.
    Buttonless,
}

/// Fields of an SMP frame that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmpSent {
    /// Group.
    pub group: u16,
    /// Command in the group.
    pub command: u8,
    /// Whether it is a write.
    pub write: bool,
    /// Sequence number.
    pub seq: Option<u8>,
    /// Offset of an upload.
    pub off: Option<u32>,
    /// Size of the image.
    pub len: Option<u32>,
    /// Size of the frame in bytes.
    pub bytes: Option<u32>,
}

/// Fields of an SMP answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmpGot {
    /// Group and command, if they are said.
    pub of: Option<(u16, u8)>,
    /// Sequence number.
    pub seq: Option<u8>,
    /// Result of SMP version 1.
    pub rc: Option<u32>,
    /// Group and code of an error of SMP version 2.
    pub err: Option<(u16, u32)>,
    /// Offset the server expects next.
    pub off: Option<u32>,
    /// Whether the slot has the announced SHA-256.
    pub matches: Option<bool>,
}

/// The trailer of a slot in a boot log: magic (`Some(true)` good, `Some(false)` bad, `None` unset), flags as MCUboot prints them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootTrailer {
    /// Of the primary slot, or of the secondary.
    pub primary: bool,
    /// Magic.
    pub magic: Option<bool>,
    /// 1 none, 2 test, 3 permanent, 4 revert.
    pub swap_type: u32,
    /// 1 set, 2 bad, 3 unset.
    pub copy_done: u32,
    /// 1 set, 2 bad, 3 unset.
    pub image_ok: u32,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// The head of a log, or a line that is known and says nothing about the update.
    Known,
    /// A connection to this device. The address is only compared.
    ConnectedTo { dfu: bool, address: u64 },
    /// The phone's stack says that a connection has changed.
    LinkState { dfu: bool, status: u32, up: bool },
    /// An error of the phone's stack.
    LinkError { dfu: bool, code: u32 },
    /// Supervision time-out in ms.
    Timeout(u32),
    /// ATT MTU.
    Mtu(u32),
    /// The link of the update is gone.
    Ended,
    /// The phone closes it.
    Closing,

    /// A write.
    Write { to: Place, bytes: Vec<u8> },
    /// A notification.
    Notify { from: Place, bytes: Vec<u8> },
    /// The jump to the bootloader was accepted.
    JumpAccepted,
    /// The phone looks for the bootloader.
    Scanning,
    /// The bootloader was found.
    Found,
    /// The bootloader was not found.
    NotFound,
    /// Answer to Select.
    Info {
        command: bool,
        max: u32,
        offset: u32,
        crc: u32,
    },
    /// An object was created; a data object with its number and the number of all.
    Created { object: Option<(u32, u32)> },
    /// Packets are sent.
    Uploading,
    /// Answer to Checksum, or a receipt.
    Checksum { offset: u32, crc: u32 },
    /// The client found the checksum wrong.
    CrcWrong,
    /// An object was executed.
    Executed { command: bool },
    /// The client found bytes missing.
    Lost(u32),
    /// The client sent more than the receipt says.
    SentTold { sent: u32, told: u32 },
    /// Receipts after this many packets; 0 for none.
    Receipts(u32),
    /// The device refused: result code.
    Remote(u8),
    /// The device refused: extended code.
    Extended(u8),
    /// The buttonless service refused.
    Buttonless(u8),
    /// An error of Android's library, from 4096 on.
    Library(u32),
    /// The client could not use the file.
    BadFile,
    /// The service of the update was not found.
    NoService,
    /// nrfutil had no connection, or an answer to another request.
    NoPing,
    /// The client reports success.
    Completed,

    /// The bootloader of the SDK handles a request.
    SdkHandle { op: u8, command: bool },
    /// It creates an object.
    SdkCreating { size: u32, offset: u32 },
    /// It tells offset and CRC.
    SdkOffset { offset: u32, crc: u32 },
    /// It executes an object that is not complete.
    SdkInvalidData { expected: u32, got: u32 },
    /// The result of a request.
    SdkResult { op: Option<u8>, code: u8 },
    /// A receive buffer was taken.
    SdkAcquired,
    /// A receive buffer was given back.
    SdkFreed,
    /// No receive buffer was left.
    SdkNoBuffer,
    /// A flash operation failed.
    SdkFlashFailed,
    /// A check of the init packet or the image failed: extended code.
    SdkCheck(u8),
    /// The image is not valid at the start.
    SdkBootInvalid,

    /// An SMP request.
    SmpSent(SmpSent),
    /// An SMP answer.
    SmpGot(SmpGot),
    /// A request timed out; with its sequence number or offset, if they are said.
    SmpTimeout { seq: Option<u8>, off: Option<u32> },
    /// An upload request with this offset, by a tool that logs no frames.
    SmpOffset(u32),
    /// Bytes were lost on the way.
    SmpLost { off: Option<u32> },
    /// A slot in an image list.
    Slot(u32),
    /// Its flags.
    Flags {
        pending: bool,
        confirmed: bool,
        active: bool,
    },
    /// The request flag is not set.
    NotPending,
    /// No MTU was agreed.
    NoMtu,
    /// The file is not an image.
    BadMagic,
    /// The server's SHA-256 differs.
    WrongSha,
    /// The server could not write flash.
    ServerFlash,
    /// The server could not look into the image: error of the image group.
    ServerInspect(u32),
    /// The server prepares a slot or its trailer for an update.
    Staged,
    /// The server could not mark the image.
    ServerMark,
    /// A device has no buffer for an answer.
    NoTxBuffer,

    /// A start: of MCUboot, or of an application.
    Banner { boot: bool },
    /// A trailer.
    Trailer(BootTrailer),
    /// The decision: 1 none, 2 test, 3 permanent, 4 revert.
    SwapType(u32),
    /// The boot stage refuses an image.
    Invalid { primary: bool },
    /// It has no room for a swap.
    NoRoom,
    /// It finds no image.
    NoImage,
    /// Slots and algorithm do not fit.
    Incompatible,
    /// A flash area does not open.
    NoArea,
}
