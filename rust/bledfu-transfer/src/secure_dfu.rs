// SPDX-License-Identifier: Apache-2.0
//! The Secure DFU target: control point requests and packets in, replies and receipts out.
//!
//! ```text
//!                      Create(command)          packets         Execute, accepted
//!   command   Nothing ───────────────► Open ───────────► Open ──────────────────► Executed
//!                                                                                    │ opens an Upload
//!             Create(data)      packets      Execute                                 ▼
//!   data      ────────────► object ──────► object ───────► none ──► … last Execute: verify, mark, Answer::then = Reset
//! ```
//! Rules that differ from the reference (nRF5 SDK `nrf_dfu_req_handler.c`), each because the reference's rule hurt a
//! client:
//! - *Create* is answered after the flash is erased; *Execute* after the object is programmed, read back and recorded
//!   in the journal. The reference queues the erase and answers at once.
//! - A disconnect rolls back to the last whole sector. The open object stays open there, and a client sends the rest of it
//!   without Create, as all libraries do; one that begins the object again may do so. An object that has no whole sector
//!   yet is forgotten: a client that finds an offset at an object boundary executes, and then creates.
//! - Clients divide an image by the largest object that Select reports. One that divides it otherwise than the peer before
//!   it (serial links have smaller objects) executes at the offset that it finds; that closes the object there.
//! - All flash of an object is erased before Create, or the Select that continues it, is answered. While an object is open
//!   nothing is erased, unless the ring holds a whole object.
//! - Receipts are off at the start of every connection, and a receipt always has the success form with the true offset.
//! - A request that is too short or too long is refused; the reference reads past its end.
//! - A phone that missed the last answer reconnects with the same init packet. It is told that everything was received,
//!   and its last Execute succeeds; nothing is installed twice.
//! - The last Execute is never answered with *invalid object* (05): Android-DFU-Library would repeat it and then wait
//!   for an answer until the link is closed.

mod command;
mod data;

use crate::event::{Event, Refusal};
use crate::init_check::{Accepted, InitPolicy};
use crate::note;
use crate::ring::{Channel, Frame};
use crate::upload::{Present, Protocol, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::crc32;
use bledfu_slot::journal::Progress;
use bledfu_slot::verify::Crypto;
use bledfu_text::{text, words};
use bledfu_wire::init_packet::MAX_INIT_PACKET;
use bledfu_wire::secure_dfu::{DecodeError, FirmwareType, ObjectType, Reply, Request, ResultCode};
use command::Command;

/// A link without a request or packet for this long is closed (the reference resets then).
pub const INACTIVITY_MS: u64 = 120_000;

/// Largest data object over a serial link in bytes, or one sector if that is larger: nrfutil waits one second for an
/// answer there, and an erase takes longer than that where objects are large.
pub const SERIAL_OBJECT_SIZE: u32 = 4096;

/// How long to keep the link after the last answer of a transfer was delivered: two connection intervals of the slowest
/// phone. If the link is closed earlier, a phone may lose the answer and report a failure.
pub const LAST_ANSWER_MS: u64 = 100;

/// The transport of the peer; it determines which requests exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bluetooth: op codes 00, 07 to 0B are not offered, as in the reference's Bluetooth builds.
    Ble,
    /// Serial: data arrives as request 08.
    Serial {
        /// Longest SLIP-encoded frame in bytes, reported to the peer.
        mtu: u16,
    },
}

/// What the device reports about itself over the serial transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Chip {
    pub part: u32,
    pub variant: u32,
    pub rom_size: u32,
    pub ram_size: u32,
    pub rom_page_size: u32,
    /// Version, address and length in bytes of the boot stage.
    pub boot: (u32, u32, u32),
    /// Address of the primary slot.
    pub application_address: u32,
    /// Size of the running image in bytes.
    pub application_length: u32,
}

/// Settings of the target.
#[derive(Clone, Copy, Debug)]
pub struct Config<'k> {
    /// What an init packet must satisfy.
    pub init: InitPolicy<'k>,
    /// Largest data object in bytes; a multiple of the flash sector. Over a serial link at most [`SERIAL_OBJECT_SIZE`].
    pub object_size: u32,
    /// The receive ring holds a whole object ([`ring_size`](crate::ring::ring_size)): the next object's sectors may be
    /// erased while this one arrives.
    pub is_object_buffered: bool,
    /// For the serial transport; `None` over Bluetooth.
    pub chip: Chip,
}

/// What the caller does after it has delivered the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Continues.
    Continue,
    /// Closes the link (reason 0x13).
    Disconnect,
    /// Waits [`LAST_ANSWER_MS`], closes the link, then resets: the boot stage has an update to install.
    Reset,
}

/// The result of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The notification or frame to send: a receipt, or the reply to a request.
    pub reply: Option<Reply>,
    /// What follows.
    pub then: Then,
    /// A transfer begins: a faster link is worth its energy.
    pub hurry: bool,
    /// The reply comes later: a packed update is being expanded, see [`SecureDfu::release`].
    pub is_held: bool,
}

impl Answer {
    const NOTHING: Self = Self {
        reply: None,
        then: Then::Continue,
        hurry: false,
        is_held: false,
    };

    const HELD: Self = Self {
        is_held: true,
        ..Self::NOTHING
    };

    const fn reply(reply: Reply) -> Self {
        Self {
            reply: Some(reply),
            ..Self::NOTHING
        }
    }

    const fn refused(opcode: u8, code: ResultCode) -> Self {
        Self::reply(Reply::Refused { opcode, code })
    }
}

/// The peer's receipts: one after every `every` packets.
#[derive(Default)]
struct Receipts {
    every: u16,
    left: u16,
}

impl Receipts {
    fn set(&mut self, every: u16) {
        self.every = every;
        self.restart();
    }

    fn restart(&mut self) {
        self.left = self.every;
    }

    /// Counts one packet, accepted or dropped; true when a receipt is due.
    fn count(&mut self) -> bool {
        if self.every == 0 {
            return false;
        }
        self.left -= 1;
        let due = self.left == 0;
        if due {
            self.restart();
        }
        due
    }
}

/// The open data object.
#[derive(Clone, Copy)]
struct Object {
    /// Where it begins in the image, in bytes.
    start: u32,
    /// Its size in bytes.
    size: u32,
    /// It was begun over an earlier link, or before a reset, and nothing has been written to it since.
    is_kept: bool,
    /// Packets of it were lost.
    has_gap: bool,
}

impl Object {
    const fn end(self) -> u32 {
        self.start.saturating_add(self.size)
    }
}

/// The Secure DFU target. It borrows the upload for each call.
pub struct SecureDfu<'k> {
    config: Config<'k>,
    command: Command,
    object: Option<Object>,
    /// The peer has created or executed a data object over this link: it knows where the next one begins.
    has_begun: bool,
    /// The image of the executed command need not be sent: it runs already, or is staged.
    present: Option<Present>,
    /// The object that Checksum, Execute and packets refer to; `None` after a request with an unknown type.
    current: Option<ObjectType>,
    receipts: Receipts,
    /// The transfer was restored from the journal, and no peer has confirmed yet that the slot holds its file.
    is_unproven: bool,
    /// Packets were lost, so what follows would go to the wrong offset: nothing is accepted until the peer asks for the
    /// offset (Checksum, Select) or starts the object again (Create).
    gap: bool,
    link: Option<Transport>,
    now_ms: u64,
}

impl<'k> SecureDfu<'k> {
    /// A target without a transfer.
    pub fn new(config: Config<'k>) -> Self {
        Self {
            config,
            command: Command::none(),
            object: None,
            has_begun: false,
            present: None,
            is_unproven: false,
            current: Some(ObjectType::Command),
            receipts: Receipts::default(),
            gap: false,
            link: None,
            now_ms: 0,
        }
    }

    /// Continues the journal's session with init packet `init` and progress `progress`, before the first link. The
    /// packet passes the same checks as when it arrived: the external flash may have been tampered with, and the keys
    /// or the running version may have changed.
    #[inline(never)]
    pub fn restore<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        init: &[u8],
        progress: Progress,
    ) {
        self.command.create(init.len());
        self.command.write(init);
        match self.check_init(upload) {
            Ok(accepted) => {
                let resumed = self.resume(upload, accepted.size, progress);
                if upload.is_complete() && upload.whole_digest() != Some(accepted.sha256) {
                    self.drop_wrong(upload);
                    return;
                }
                note::info(&text!(
                    "an update of {} bytes goes on at {}",
                    accepted.size,
                    resumed.offset
                ));
                self.command.executed = Some(accepted);
                self.is_unproven = resumed.offset > 0;
                if !upload.recall(Some(&self.expected(&accepted)), accepted.fw_version) {
                    self.forget();
                }
            }
            Err(refusal) => {
                note::warn(&text!("the interrupted update is dropped: {}", refusal));
                self.command.create(0);
                upload.abandon_session();
            }
        }
    }

    /// Continues at `progress`, in the middle of an object if it is no multiple of the largest one.
    fn resume<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        size: u32,
        progress: Progress,
    ) -> Progress {
        let start = progress.offset - progress.offset % self.config.object_size.max(1);
        let init = &self.command.bytes;
        let resumed = upload.resume(Protocol::SecureDfu, init, size, progress, start);
        self.object = (resumed.offset > start && resumed.offset < size).then(|| Object {
            start,
            size: self.config.object_size.min(size - start),
            is_kept: true,
            has_gap: false,
        });
        if self.object.is_none() {
            upload.close_object();
        }
        resumed
    }

    /// The slot's content differs from the announced file and from the peer's. The peer can only start over, which a
    /// client does when it is told that there is no init packet.
    fn drop_wrong<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        note::warn(&words!("the interrupted update is dropped: the slot holds other bytes than the peer's file; send it again"));
        self.forget();
        upload.close_session();
    }

    /// The upload has begun anew: what the journal said of it was wrong.
    pub fn start_over(&mut self) {
        self.is_unproven = false;
        self.object = None;
        self.has_begun = false;
    }

    /// The slot belongs to another transfer now: what was executed here no longer counts.
    pub fn forget(&mut self) {
        self.is_unproven = false;
        self.command.create(0);
        self.object = None;
        self.present = None;
    }

    /// The firmware that is being received, or is staged.
    pub fn incoming(&self) -> Option<&Accepted> {
        self.command.executed.as_ref()
    }

    /// Bytes to erase ahead: those of the object to come, and what is missing of the open one. Nothing while packets of an
    /// open object may arrive that the ring does not hold during an erase.
    pub fn wants_erased<A: Areas, C: Crypto>(&self, upload: &Upload<'_, A, C>) -> u32 {
        let missing = self
            .object
            .map_or(0, |object| object.end().saturating_sub(upload.progress().offset));
        if missing > 0 && !self.config.is_object_buffered {
            return 0;
        }
        missing.saturating_add(self.object_size(upload))
    }

    /// The largest object for this peer in bytes.
    fn object_size<A: Areas, C: Crypto>(&self, upload: &Upload<'_, A, C>) -> u32 {
        let size = self.config.object_size;
        match self.link {
            Some(Transport::Serial { .. }) => size.min(upload.sector_size().max(SERIAL_OBJECT_SIZE)),
            _ => size,
        }
    }

    /// A peer is connected and has turned notifications on.
    pub fn link_up(&mut self, transport: Transport) {
        self.link = Some(transport);
        self.has_begun = false;
        self.receipts.set(0);
        self.current = Some(ObjectType::Command);
    }

    /// `packets` packets were lost because there was no room: the peer sent more than it may before it waits. They
    /// count for receipts. The object accepts nothing more, so offset and CRC stay those of the bytes before the gap,
    /// and Execute of an object with a gap is refused as incomplete.
    pub fn lost<A: Areas, C: Crypto>(&mut self, upload: &Upload<'_, A, C>, packets: u32) -> Answer {
        self.gap = true;
        if let Some(object) = &mut self.object {
            object.has_gap = true;
        }
        let mut due = false;
        for _ in 0..packets {
            due |= self.receipts.count();
        }
        self.receipt(upload, due)
    }

    /// The peer has disconnected: rolls back to the last whole sector.
    pub fn link_down<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        self.link = None;
        self.gap = false;
        self.receipts.set(0);
        upload.release();
        // Without an open object there is nothing to roll back, and the slot may hold another protocol's bytes.
        if let Some(object) = self.object {
            upload.rewind();
            self.object = (upload.committed() > object.start).then_some(Object {
                is_kept: true,
                has_gap: false,
                ..object
            });
        }
    }

    /// Handles one frame from the peer. `now_ms` is any monotonic time.
    pub fn handle<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        frame: Frame<'_>,
        now_ms: u64,
    ) -> Answer {
        self.now_ms = now_ms;
        upload.touch(Protocol::SecureDfu, now_ms);
        let answer = match frame.channel {
            Channel::Packet => self.packet(upload, frame.bytes),
            // An SMP frame: the service never passes one to this front end.
            Channel::Smp => Answer::NOTHING,
            Channel::Control => match Request::decode(frame.bytes) {
                Ok(request) => self.request(upload, request),
                Err(error) => {
                    note::warn(&error);
                    if let DecodeError::UnknownObjectType { .. } = error {
                        self.current = None;
                    }
                    Answer {
                        reply: error.refusal(),
                        ..Answer::NOTHING
                    }
                }
            },
        };
        if let Some(Reply::Refused { opcode, code }) = answer.reply {
            upload
                .events
                .push(Event::Refused(Refusal::SecureDfu { opcode, code }));
        }
        answer
    }

    fn request<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        request: Request<'_>,
    ) -> Answer {
        let opcode = request.opcode();
        let mtu = match self.link {
            Some(Transport::Serial { mtu }) => Some(mtu),
            _ => None,
        };
        match (request, mtu) {
            (
                Request::Create {
                    object: ObjectType::Command,
                    size,
                },
                _,
            ) => self.create_command(upload, size),
            (
                Request::Create {
                    object: ObjectType::Data,
                    size,
                },
                _,
            ) => self.create_data(upload, size),
            (Request::SetReceipts { every }, _) => {
                self.receipts.set(every);
                Answer::reply(Reply::ReceiptsSet)
            }
            (Request::Checksum, _) => {
                self.gap = false;
                match self.position(upload) {
                    Some((offset, crc)) => Answer::reply(Reply::Checksum { offset, crc }),
                    None => Answer::refused(opcode, ResultCode::InvalidObject),
                }
            }
            (Request::Execute, _) => match self.current {
                Some(ObjectType::Command) => self.execute_command(upload),
                Some(ObjectType::Data) => self.execute_data(upload),
                None => Answer::refused(opcode, ResultCode::InvalidObject),
            },
            (Request::Select { object }, _) => {
                self.current = Some(object);
                self.gap = false;
                if object == ObjectType::Data {
                    self.continue_object(upload);
                }
                let (offset, crc) = self.position(upload).unwrap_or_default();
                let max_size = match object {
                    ObjectType::Command => MAX_INIT_PACKET as u32,
                    ObjectType::Data => self.object_size(upload),
                };
                Answer::reply(Reply::Selected {
                    max_size,
                    offset,
                    crc,
                })
            }
            (Request::Abort, _) => {
                note::info(&words!("the peer aborts"));
                Answer {
                    then: Then::Disconnect,
                    ..Answer::NOTHING
                }
            }
            (_, None) => Answer::refused(opcode, ResultCode::OpCodeNotSupported),
            (Request::ProtocolVersion, Some(_)) => Answer::reply(Reply::ProtocolVersion(1)),
            (Request::Mtu, Some(mtu)) => Answer::reply(Reply::Mtu(mtu)),
            (Request::Write(bytes), Some(_)) => self.packet(upload, bytes),
            (Request::Ping { id }, Some(_)) => Answer::reply(Reply::Pong(id)),
            (Request::HardwareVersion, Some(_)) => {
                let Chip {
                    part,
                    variant,
                    rom_size,
                    ram_size,
                    rom_page_size,
                    ..
                } = self.config.chip;
                Answer::reply(Reply::HardwareVersion {
                    part,
                    variant,
                    rom_size,
                    ram_size,
                    rom_page_size,
                })
            }
            (Request::FirmwareVersion { image }, Some(_)) => {
                Answer::reply(self.firmware_version(upload, image))
            }
        }
    }

    fn firmware_version<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>, image: u8) -> Reply {
        let chip = self.config.chip;
        let (kind, (version, address, length)) = match image {
            0 => (FirmwareType::Bootloader, chip.boot),
            1 => {
                let version = upload.running_version();
                (
                    FirmwareType::Application,
                    (version, chip.application_address, chip.application_length),
                )
            }
            _ => (FirmwareType::Unknown, (0, 0, 0)),
        };
        Reply::FirmwareVersion {
            kind,
            version,
            address,
            length,
        }
    }

    /// Offset and CRC-32 of the current object's type.
    fn position<A: Areas, C: Crypto>(&self, upload: &Upload<'_, A, C>) -> Option<(u32, u32)> {
        Some(match self.current? {
            ObjectType::Command => (
                self.command.bytes.len() as u32,
                self.command.crc.clone().finalize(),
            ),
            ObjectType::Data => {
                // Without an init packet this protocol has no image.
                let Some(accepted) = &self.command.executed else {
                    return Some((0, crc32().finalize()));
                };
                if let Some(present) = self.present {
                    return Some((accepted.size, present.crc));
                }
                let progress = upload.progress();
                (progress.offset, progress.check)
            }
        })
    }

    #[inline(never)]
    fn packet<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>, bytes: &[u8]) -> Answer {
        match self.current {
            _ if self.gap => {}
            Some(ObjectType::Command) => self.command.write(bytes),
            Some(ObjectType::Data) => self.write_data(upload, bytes),
            None => {}
        }
        let due = self.receipts.count();
        self.receipt(upload, due)
    }

    /// The receipt, if one is due.
    fn receipt<A: Areas, C: Crypto>(&self, upload: &Upload<'_, A, C>, due: bool) -> Answer {
        if !due {
            return Answer::NOTHING;
        }
        let (offset, crc) = self.position(upload).unwrap_or_default();
        Answer::reply(Reply::Checksum { offset, crc })
    }
}
