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
//! Rules that differ from the reference (nRF5 SDK `nrf_dfu_req_handler.c`), each because a client was hurt:
//! - *Create* is answered when the flash is erased, *Execute* when the object is programmed, read back and in the
//!   journal; the reference queues the erase and hopes.
//! - A disconnect rolls back to the last executed object and forgets the open one, so that the offset a client
//!   finds is always an object boundary whose Execute may be repeated.
//! - Receipts are off at every connection, and a receipt always has the success form with the true offset.
//! - A request that is too short or too long is refused instead of read past its end.

use crate::init_check::{self, Accepted, InitPolicy, InitRefusal};
use crate::note;
use crate::ring::{Channel, Frame};
use crate::upload::{Expected, Protocol, TransferError, Upload};
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::journal::Progress;
use bledfu_slot::verify::Crypto;
use bledfu_wire::init_packet::MAX_INIT_PACKET;
use bledfu_wire::secure_dfu::{
    op, DecodeError, ExtendedCode, FirmwareType, ObjectType, Reply, Request, ResultCode,
};
use embedded_storage::nor_flash::NorFlash;
use heapless::Vec;

/// A link with no request and no packet for this long is closed (the reference resets then).
pub const INACTIVITY_MS: u64 = 120_000;

/// After the last answer of a transfer was delivered, keep the link this long before closing it: two connection
/// intervals of the slowest phone. Earlier, a phone may lose the answer and report a failure.
pub const LAST_ANSWER_MS: u64 = 100;

/// What the peer is connected by; it decides which requests exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Bluetooth: op codes 00, 07 to 0B are not offered, as in the reference's Bluetooth builds.
    Ble,
    /// Serial: data comes as request 08.
    Serial {
        /// Longest SLIP-encoded frame in bytes, told to the peer.
        mtu: u16,
    },
}

/// What the device tells about itself over the serial transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// What an init packet must be.
    pub init: InitPolicy<'k>,
    /// Largest data object in bytes; a multiple of the flash sector. 4096 is what every client is used to.
    pub object_size: u32,
    /// For the serial transport.
    pub chip: Chip,
}

/// What the caller does after it has delivered the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Goes on.
    Continue,
    /// Closes the link (reason 0x13).
    Disconnect,
    /// Waits [`LAST_ANSWER_MS`], closes the link, then resets: the boot stage has an update to install.
    Reset,
}

/// What comes of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The notification or frame to send; a receipt or the reply to a request.
    pub reply: Option<Reply>,
    /// What comes after it.
    pub then: Then,
}

impl Answer {
    const NOTHING: Self = Self {
        reply: None,
        then: Then::Continue,
    };

    const fn reply(reply: Reply) -> Self {
        Self {
            reply: Some(reply),
            then: Then::Continue,
        }
    }

    const fn refused(opcode: u8, code: ResultCode) -> Self {
        Self::reply(Reply::Refused { opcode, code })
    }
}

/// The command object: the init packet while it arrives and, executed, while its image is received.
struct Command {
    bytes: Vec<u8, MAX_INIT_PACKET>,
    /// Announced size; 0 when none was created.
    size: usize,
    crc: Crc32,
    executed: Option<Accepted>,
}

impl Command {
    fn none() -> Self {
        Self {
            bytes: Vec::new(),
            size: 0,
            crc: crc32(),
            executed: None,
        }
    }

    /// Becomes an empty object of `size` bytes; 0: none. In place, for a command is half a kilobyte of stack.
    fn create(&mut self, size: usize) {
        self.bytes.clear();
        self.size = size;
        self.crc = crc32();
        self.executed = None;
    }

    /// Takes all of `bytes` or, when they are too many, none.
    fn write(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() <= self.size && self.bytes.extend_from_slice(bytes).is_ok() {
            self.crc.update(bytes);
        }
    }

    fn is_complete(&self) -> bool {
        self.bytes.len() == self.size
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

    /// Counts one packet, taken or dropped; true when a receipt is due.
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

/// The Secure DFU target on top of one [`Upload`].
pub struct SecureDfu<'k, S, J, C: Crypto> {
    upload: Upload<'k, S, J, C>,
    config: Config<'k>,
    command: Command,
    /// Size of the open data object, from [`Upload::committed`] on.
    object: Option<u32>,
    /// What Checksum, Execute and packets are about; `None` after a request with an unknown type.
    current: Option<ObjectType>,
    receipts: Receipts,
    /// Packets were lost, so what comes next does not belong where it would go: nothing is taken until the peer asks
    /// for the position (Select) or starts the object again (Create).
    gap: bool,
    link: Option<Transport>,
    last_activity_ms: u64,
    admission: fn(&Accepted) -> bool,
}

impl<'k, S: NorFlash, J: NorFlash, C: Crypto> SecureDfu<'k, S, J, C> {
    /// A target that goes on where the journal says a transfer was interrupted by a reset.
    pub fn new(upload: Upload<'k, S, J, C>, config: Config<'k>) -> Self {
        let mut target = Self::new_forgetful(upload, config);
        target.restore();
        target
    }

    /// The first half of [`SecureDfu::new`], for a caller with little stack: it calls [`SecureDfu::restore`] when the
    /// target is where it will stay.
    pub fn new_forgetful(upload: Upload<'k, S, J, C>, config: Config<'k>) -> Self {
        Self {
            upload,
            config,
            command: Command::none(),
            object: None,
            current: Some(ObjectType::Command),
            receipts: Receipts::default(),
            gap: false,
            link: None,
            last_activity_ms: 0,
            admission: |_| true,
        }
    }

    /// Goes on with the transfer of the journal, if there is one; before the first link. The init packet from the journal
    /// goes through the very checks it went through when it came over the air:
    /// external flash may have been tampered with, and the keys or the running version may have changed.
    #[inline(never)]
    pub fn restore(&mut self) {
        let mut stored = [0; MAX_INIT_PACKET];
        if let Some((length, progress)) = self.upload.stored_session(&mut stored) {
            self.restore_from(stored.get(..length).unwrap_or_default(), progress);
        }
    }

    /// [`SecureDfu::restore`] from the journal's session, which is `init` and got to `progress`.
    #[inline(never)]
    pub fn restore_from(&mut self, init: &[u8], progress: Progress) {
        self.command.create(init.len());
        self.command.write(init);
        match self.check_init() {
            Ok(accepted) => {
                let resumed =
                    self.upload
                        .resume(Protocol::SecureDfu, &self.command.bytes, accepted.size, progress);
                note::info(format_args!(
                    "an update of {} bytes goes on at {}",
                    accepted.size, resumed.offset
                ));
                self.command.executed = Some(accepted);
            }
            Err(refusal) => {
                note::warn(format_args!("the interrupted update is dropped: {refusal}"));
                self.command.create(0);
            }
        }
    }

    /// The upload, for its state.
    pub fn upload(&self) -> &Upload<'k, S, J, C> {
        &self.upload
    }

    /// The upload, for the other protocol. A transfer that it begins takes the slot from this one: [`SecureDfu::forget`].
    pub fn upload_mut(&mut self) -> &mut Upload<'k, S, J, C> {
        &mut self.upload
    }

    /// The slot belongs to another transfer now: what was executed here counts no more.
    pub fn forget(&mut self) {
        self.command.create(0);
        self.object = None;
    }

    /// Who is asked before an accepted firmware is received: false refuses it for now ("not permitted"), before
    /// the first byte of flash is touched. Without one, everything accepted is received.
    pub fn set_admission(&mut self, admission: fn(&Accepted) -> bool) {
        self.admission = admission;
    }

    /// The firmware version that runs, as packages count.
    pub fn running_version(&mut self) -> u32 {
        self.upload.running_version()
    }

    /// The firmware that is being received, or is staged.
    pub fn incoming(&self) -> Option<&Accepted> {
        self.command.executed.as_ref()
    }

    /// The application confirmed its image.
    pub fn confirmed(&mut self) {
        self.upload.confirmed();
    }

    /// A peer connected at `now_ms`, and its notifications are on.
    pub fn link_up(&mut self, transport: Transport, now_ms: u64) {
        self.link = Some(transport);
        self.last_activity_ms = now_ms;
        self.receipts.set(0);
        self.current = Some(ObjectType::Command);
    }

    /// `packets` packets came and there was no room for them: the peer sent more than it may before it waits. They
    /// count for receipts. The object takes nothing more, so offset and CRC stay those of the bytes before the gap,
    /// and Execute of an object with a gap is refused as incomplete.
    pub fn lost(&mut self, packets: u32) -> Answer {
        self.gap = true;
        let mut due = false;
        for _ in 0..packets {
            due |= self.receipts.count();
        }
        self.receipt(due)
    }

    /// The peer is gone: back to the last executed object. The open one is forgotten.
    pub fn link_down(&mut self) {
        self.link = None;
        self.gap = false;
        self.receipts.set(0);
        self.upload.release();
        // Without an open object there is nothing to take back, and what is in the slot may be of another protocol.
        if self.object.is_some() {
            self.rewind();
        }
    }

    /// Is the link to be closed because the peer says nothing? Ask once a second or so.
    pub fn tick(&self, now_ms: u64) -> Then {
        let quiet = now_ms.saturating_sub(self.last_activity_ms);
        match self.link {
            Some(_) if quiet >= INACTIVITY_MS => Then::Disconnect,
            _ => Then::Continue,
        }
    }

    /// One erase while no frame waits; false when there is nothing to do.
    pub fn idle(&mut self) -> bool {
        // While an object is filled the next one is erased; before that, the one to come.
        let open = self.object.unwrap_or(0);
        let received = self.upload.progress().offset - self.upload.committed();
        let ahead = open
            .saturating_sub(received)
            .saturating_add(self.config.object_size);
        self.upload.idle(ahead, self.link.is_some())
    }

    /// The peer said something, to whichever protocol.
    pub fn is_alive(&mut self, now_ms: u64) {
        self.last_activity_ms = now_ms;
    }

    /// Handles one frame of the peer. `now_ms` is any monotonic time.
    pub fn handle(&mut self, frame: Frame<'_>, now_ms: u64) -> Answer {
        self.is_alive(now_ms);
        self.upload.touch(Protocol::SecureDfu, now_ms);
        match frame.channel {
            Channel::Packet => self.packet(frame.bytes),
            // Another front end's: whoever hands out the frames knows that.
            Channel::Smp => Answer::NOTHING,
            Channel::Control => match Request::decode(frame.bytes) {
                Ok(request) => self.request(request),
                Err(error) => {
                    note::warn(format_args!("{error}"));
                    if let DecodeError::UnknownObjectType { .. } = error {
                        self.current = None;
                    }
                    Answer {
                        reply: error.refusal(),
                        then: Then::Continue,
                    }
                }
            },
        }
    }

    fn request(&mut self, request: Request<'_>) -> Answer {
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
            ) => self.create_command(size),
            (
                Request::Create {
                    object: ObjectType::Data,
                    size,
                },
                _,
            ) => self.create_data(size),
            (Request::SetReceipts { every }, _) => {
                self.receipts.set(every);
                Answer::reply(Reply::ReceiptsSet)
            }
            (Request::Checksum, _) => match self.position() {
                Some((offset, crc)) => Answer::reply(Reply::Checksum { offset, crc }),
                None => Answer::refused(opcode, ResultCode::InvalidObject),
            },
            (Request::Execute, _) => match self.current {
                Some(ObjectType::Command) => self.execute_command(),
                Some(ObjectType::Data) => self.execute_data(),
                None => Answer::refused(opcode, ResultCode::InvalidObject),
            },
            (Request::Select { object }, _) => {
                self.current = Some(object);
                self.gap = false;
                let (offset, crc) = self.position().unwrap_or_default();
                let max_size = match object {
                    ObjectType::Command => MAX_INIT_PACKET as u32,
                    ObjectType::Data => self.config.object_size,
                };
                Answer::reply(Reply::Selected {
                    max_size,
                    offset,
                    crc,
                })
            }
            (Request::Abort, _) => {
                note::info(format_args!("the peer aborts"));
                Answer {
                    reply: None,
                    then: Then::Disconnect,
                }
            }
            (_, None) => Answer::refused(opcode, ResultCode::OpCodeNotSupported),
            (Request::ProtocolVersion, Some(_)) => Answer::reply(Reply::ProtocolVersion(1)),
            (Request::Mtu, Some(mtu)) => Answer::reply(Reply::Mtu(mtu)),
            (Request::Write(bytes), Some(_)) => self.packet(bytes),
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
            (Request::FirmwareVersion { image }, Some(_)) => Answer::reply(self.firmware_version(image)),
        }
    }

    fn firmware_version(&mut self, image: u8) -> Reply {
        let chip = self.config.chip;
        let (kind, (version, address, length)) = match image {
            0 => (FirmwareType::Bootloader, chip.boot),
            1 => {
                let version = self.upload.running_version();
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

    /// Offset and CRC-32 of the current object's kind.
    fn position(&self) -> Option<(u32, u32)> {
        Some(match self.current? {
            ObjectType::Command => (
                self.command.bytes.len() as u32,
                self.command.crc.clone().finalize(),
            ),
            // Without an init packet there is no image of this protocol.
            ObjectType::Data if self.command.executed.is_none() => (0, crc32().finalize()),
            ObjectType::Data => {
                let progress = self.upload.progress();
                (progress.offset, progress.crc)
            }
        })
    }

    #[inline(never)]
    fn packet(&mut self, bytes: &[u8]) -> Answer {
        match self.current {
            _ if self.gap => {}
            Some(ObjectType::Command) => self.command.write(bytes),
            Some(ObjectType::Data) => self.write_data(bytes),
            None => {}
        }
        let due = self.receipts.count();
        self.receipt(due)
    }

    /// The receipt, if one is due.
    fn receipt(&self, due: bool) -> Answer {
        if !due {
            return Answer::NOTHING;
        }
        let (offset, crc) = self.position().unwrap_or_default();
        Answer::reply(Reply::Checksum { offset, crc })
    }

    #[inline(never)]
    fn create_command(&mut self, size: u32) -> Answer {
        let refused = |code| Answer::refused(op::CREATE, code);
        self.current = Some(ObjectType::Command);
        self.gap = false;
        self.receipts.restart();
        if size == 0 {
            return refused(ResultCode::InvalidParameter);
        }
        if size as usize > MAX_INIT_PACKET {
            return refused(ResultCode::InsufficientResources);
        }
        if self.upload.is_staged() {
            note::warn(format_args!(
                "no new transfer: an update is staged and waits for the reset"
            ));
            return refused(ResultCode::OperationNotPermitted);
        }
        if !self.upload.running().confirmed {
            note::warn(format_args!(
                "no new transfer: the running image is not confirmed, the slot holds the one to go back to"
            ));
            return refused(ResultCode::OperationNotPermitted);
        }
        if !self
            .upload
            .is_free_for(Protocol::SecureDfu, self.last_activity_ms)
        {
            note::warn(format_args!("no new transfer: an SMP upload is going on"));
            return refused(ResultCode::OperationNotPermitted);
        }
        self.command.create(size as usize);
        self.object = None;
        self.upload.drop_progress();
        Answer::reply(Reply::Created)
    }

    #[inline(never)]
    fn check_init(&mut self) -> Result<Accepted, InitRefusal> {
        let (running, limit) = (self.upload.running_version(), self.upload.limit());
        init_check::check(
            &self.command.bytes,
            &self.config.init,
            running,
            limit,
            self.upload.crypto(),
        )
    }

    #[inline(never)]
    fn execute_command(&mut self) -> Answer {
        let refused = |code| Answer::refused(op::EXECUTE, code);
        if self.command.size == 0 {
            return refused(ResultCode::InvalidObject);
        }
        if !self.command.is_complete() {
            return refused(ResultCode::OperationNotPermitted);
        }
        if self.command.executed.is_some() {
            return Answer::reply(Reply::Executed);
        }
        match self.check_init() {
            Ok(accepted) => {
                note::info(format_args!(
                    "accepted: firmware version {}, {} bytes",
                    accepted.fw_version, accepted.size
                ));
                if !(self.admission)(&accepted) {
                    note::warn(format_args!("refused: the product takes no update now"));
                    return refused(ResultCode::OperationNotPermitted);
                }
                // The other protocol may have begun since Create.
                if !self
                    .upload
                    .is_free_for(Protocol::SecureDfu, self.last_activity_ms)
                {
                    note::warn(format_args!("refused: an SMP upload is going on"));
                    return refused(ResultCode::OperationNotPermitted);
                }
                let began = self.upload.begin(
                    Protocol::SecureDfu,
                    self.last_activity_ms,
                    &self.command.bytes,
                    accepted.size,
                );
                if began.is_err() {
                    return refused(ResultCode::InsufficientResources);
                }
                self.command.executed = Some(accepted);
                Answer::reply(Reply::Executed)
            }
            Err(refusal) => {
                note::warn(format_args!("refused: {refusal}"));
                if !matches!(refusal, InitRefusal::Malformed(_)) {
                    self.command.create(0);
                }
                refused(refusal.code())
            }
        }
    }

    #[inline(never)]
    fn create_data(&mut self, size: u32) -> Answer {
        let refused = |code| Answer::refused(op::CREATE, code);
        self.current = Some(ObjectType::Data);
        self.gap = false;
        self.receipts.restart();
        let Some(accepted) = self.command.executed else {
            return refused(ResultCode::OperationNotPermitted);
        };
        if self.upload.is_staged() {
            return refused(ResultCode::OperationNotPermitted);
        }
        // `committed` and `size` are bounded by the slot and the wire: no sum of them can be believed unchecked.
        let end = self.upload.committed().checked_add(size);
        if size == 0 {
            return refused(ResultCode::InvalidParameter);
        }
        if !size.is_multiple_of(self.upload.sector_size()) && end != Some(accepted.size) {
            return refused(ResultCode::InvalidParameter);
        }
        if size > self.config.object_size {
            return refused(ResultCode::InsufficientResources);
        }
        if end.is_none_or(|end| end > accepted.size) {
            return refused(ResultCode::OperationNotPermitted);
        }
        self.rewind();
        if self.upload.prepare(size).is_err() {
            return refused(ResultCode::OperationFailed);
        }
        self.object = Some(size);
        Answer::reply(Reply::Created)
    }

    fn rewind(&mut self) {
        self.object = None;
        self.upload.rewind();
    }

    /// A packet that does not fit the open object is dropped whole; the checksum tells the peer.
    fn write_data(&mut self, bytes: &[u8]) {
        let Some(size) = self.object else {
            return;
        };
        let received = self.upload.progress().offset - self.upload.committed();
        if bytes.len() as u64 + u64::from(received) > u64::from(size) {
            note::warn(format_args!(
                "a packet of {} bytes is beyond the end of the object",
                bytes.len() as u32
            ));
            return;
        }
        // A failure of the flash is answered at Execute, which is the first message that has room for it.
        let _ = self.upload.write(bytes);
    }

    #[inline(never)]
    fn execute_data(&mut self) -> Answer {
        let refused = |code| Answer::refused(op::EXECUTE, code);
        let Some(accepted) = self.command.executed else {
            return refused(ResultCode::OperationNotPermitted);
        };
        if self.upload.is_staged() {
            return Answer {
                reply: Some(Reply::Executed),
                then: Then::Reset,
            };
        }
        if let Some(size) = self.object {
            if self.upload.progress().offset - self.upload.committed() != size {
                return refused(ResultCode::OperationNotPermitted);
            }
            if let Err(error) = self.upload.commit() {
                note::error(format_args!("{error}"));
                self.rewind();
                return refused(ResultCode::OperationFailed);
            }
            self.object = None;
        }
        // At an object boundary Execute may come again and changes nothing. At the end of the image it verifies,
        // also when the device was reset between the last object and the verdict.
        if self.upload.committed() != accepted.size {
            return Answer::reply(Reply::Executed);
        }
        match self.finish(&accepted) {
            Ok(()) => Answer {
                reply: Some(Reply::Executed),
                then: Then::Reset,
            },
            Err(error) => {
                note::error(format_args!("{error}"));
                self.command.create(0);
                refused(final_code(error))
            }
        }
    }

    fn finish(&mut self, accepted: &Accepted) -> Result<(), TransferError> {
        let keys = self.config.init.package_keys;
        let expected = Expected {
            sha256: Some(accepted.sha256),
            file_signature: accepted.file_signature.map(|signature| (signature, keys)),
            file_validation_unknown: accepted.unknown_boot_validation,
            fw_version: accepted.fw_version,
        };
        let info = self.upload.finish(&expected)?;
        note::info(format_args!(
            "image {} is staged; reset to install it",
            info.header.version
        ));
        Ok(())
    }
}

/// What the final Execute answers.
const fn final_code(error: TransferError) -> ResultCode {
    match error {
        TransferError::WrongHash | TransferError::NotAnImage => {
            ResultCode::Extended(ExtendedCode::VerificationFailed)
        }
        TransferError::WrongFileSignature => ResultCode::InvalidObject,
        TransferError::NotReceiving => ResultCode::OperationNotPermitted,
        TransferError::Write | TransferError::Erase | TransferError::NotMarked => ResultCode::OperationFailed,
    }
}
