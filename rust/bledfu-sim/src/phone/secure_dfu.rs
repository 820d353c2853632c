// SPDX-License-Identifier: Apache-2.0
//! Secure DFU clients: the order of requests, the packet sizes, the waits and the way to resume of the Android
//! library, the iOS library and nrfutil.

use bledfu_wire::secure_dfu::{op, ObjectType, Reply, Request, ResultCode};

pub use super::Session;
use super::{DfuLink, PhoneError};
use crate::package::Package;

/// Whose client it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phone {
    /// Android-DFU-Library: packets of MTU − 3, receipts off.
    Android,
    /// IOS-DFU-Library: packets a multiple of 4, init packet created before receipts are set, 400 ms wait.
    Ios,
    /// nrfutil: receipts set first, Execute at every resume.
    Nrfutil,
}

impl Phone {
    /// Bytes this client puts into one packet on a link that carries `payload`.
    pub fn packet_size(self, payload: usize) -> usize {
        match self {
            Self::Ios => payload & !3,
            Self::Android | Self::Nrfutil => payload,
        }
    }

    /// What the iOS library waits after the first data Create, for bootloaders that erase while they receive.
    fn wait_after_first_create_ms(self) -> u64 {
        match self {
            Self::Ios => 400,
            Self::Android | Self::Nrfutil => 0,
        }
    }
}

/// One session of a client: from a fresh connection to the answer to the last Execute.
pub struct Client<'l, L> {
    link: &'l mut L,
    phone: Phone,
    /// Packets per receipt; 0: none.
    receipts: u16,
    /// What was last set in this connection.
    receipts_set: Option<u16>,
    since_receipt: u16,
}

const ATTEMPTS: usize = 3;

impl<'l, L: DfuLink> Client<'l, L> {
    /// A client on a fresh connection.
    pub fn new(link: &'l mut L, phone: Phone, receipts: u16) -> Self {
        Self {
            link,
            phone,
            receipts,
            receipts_set: None,
            since_receipt: 0,
        }
    }

    /// Sends the package, from where the device stands. `progress` gets image bytes that the device has executed.
    ///
    /// # Errors
    /// [`PhoneError`].
    pub fn update(mut self, package: &Package, progress: &mut dyn FnMut(u32)) -> Result<Session, PhoneError> {
        let mut session = Session {
            started_ns: self.link.now_ns(),
            ..Session::default()
        };
        if self.phone == Phone::Nrfutil {
            self.set_receipts(self.receipts)?;
        }
        if let Some((kind, part)) = &package.system {
            // A part for SoftDevice or bootloader goes first. Refused, the phones go on with the application on
            // the same connection.
            match self.send_init(&part.init) {
                Err(PhoneError::Refused { .. }) => {
                    log::info!("the device does not take the {} part", kind.key())
                }
                Err(error) => return Err(error),
                Ok(()) => return Err(PhoneError::Unexpected(op::EXECUTE)),
            }
        }
        self.send_init(&package.application.init)?;
        self.set_receipts(self.receipts)?;
        self.send_firmware(&package.application.firmware, progress, &mut session)?;
        Ok(session)
    }

    fn send_init(&mut self, init: &[u8]) -> Result<(), PhoneError> {
        let (_, offset, crc) = self.select(ObjectType::Command)?;
        let known = init
            .get(..offset as usize)
            .filter(|known| offset > 0 && crc32(known) == crc);
        match known {
            Some(known) if known.len() == init.len() => return self.execute(),
            Some(known) => {
                self.set_receipts(0)?;
                self.send(init, known.len(), init.len())?;
            }
            None => self.create_init(init)?,
        }
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.create_init(init)?;
            }
            let (offset, crc) = self.checksum()?;
            if (offset as usize, crc) == (init.len(), crc32(init)) {
                return self.execute();
            }
        }
        Err(PhoneError::BytesLost { offset: 0 })
    }

    fn create_init(&mut self, init: &[u8]) -> Result<(), PhoneError> {
        // The init packet goes in one burst: Android switches receipts off for it first, iOS afterwards.
        if self.phone == Phone::Ios {
            self.create(ObjectType::Command, init.len() as u32)?;
            self.set_receipts(0)?;
        } else {
            if self.phone == Phone::Android {
                self.set_receipts(0)?;
            }
            self.create(ObjectType::Command, init.len() as u32)?;
        }
        self.send(init, 0, init.len())
    }

    fn send_firmware(
        &mut self,
        firmware: &[u8],
        progress: &mut dyn FnMut(u32),
        session: &mut Session,
    ) -> Result<(), PhoneError> {
        let size = firmware.len();
        let (max, offset, crc) = self.select(ObjectType::Data)?;
        let max = max.max(1) as usize;
        let mut at = match firmware.get(..offset as usize) {
            Some(known) if crc32(known) == crc => known.len(),
            // The device holds something else: back to the start of that object.
            _ => (offset as usize).saturating_sub(1).min(size) / max * max,
        };
        session.resumed_at = at as u32;
        progress(at as u32);
        let at_boundary = at % max == 0 || at == size;
        if at > 0 && at_boundary {
            // Nobody knows whether the last object was executed before the link broke, so it is executed again.
            if at == size {
                session.received_ns = self.link.now_ns();
            }
            self.execute_again()?;
        }
        let mut first = true;
        let mut open = !at_boundary;
        while at < size {
            let end = (at / max * max + max).min(size);
            let begin = at / max * max;
            self.send_object(firmware, at, begin, end, &mut open, &mut first)?;
            at = end;
            if at == size {
                session.received_ns = self.link.now_ns();
            }
            self.execute()?;
            progress(at as u32);
        }
        session.verified_ns = self.link.now_ns();
        Ok(())
    }

    fn send_object(
        &mut self,
        firmware: &[u8],
        at: usize,
        begin: usize,
        end: usize,
        open: &mut bool,
        first: &mut bool,
    ) -> Result<(), PhoneError> {
        let mut offset = 0;
        for _ in 0..ATTEMPTS {
            let mut from = at;
            if !std::mem::take(open) {
                from = begin;
                self.create(ObjectType::Data, (end - begin) as u32)?;
                if std::mem::take(first) {
                    self.link.wait_ms(self.phone.wait_after_first_create_ms())?;
                }
            }
            self.send(firmware, from, end)?;
            let (reported, crc) = self.checksum()?;
            if (reported as usize, crc) == (end, crc32(&firmware[..end])) {
                return Ok(());
            }
            offset = reported;
        }
        Err(PhoneError::BytesLost { offset })
    }

    /// Sends `bytes[from..to]` in packets, and waits for each receipt that is due.
    fn send(&mut self, bytes: &[u8], from: usize, to: usize) -> Result<(), PhoneError> {
        let size = self.phone.packet_size(self.link.payload());
        let mut sent = from;
        for packet in bytes[from..to].chunks(size) {
            self.link.packet(packet)?;
            sent += packet.len();
            if self.receipts_set.unwrap_or(0) == 0 {
                continue;
            }
            self.since_receipt += 1;
            if self.since_receipt == self.receipts_set.unwrap_or(0) {
                self.since_receipt = 0;
                match self.reply(op::CHECKSUM)? {
                    Reply::Checksum { offset, crc }
                        if (offset as usize, crc) == (sent, crc32(&bytes[..sent])) => {}
                    // Stop sending: the checksum after the object says the same, and it is sent again.
                    Reply::Checksum { .. } => break,
                    _ => return Err(PhoneError::Unexpected(op::CHECKSUM)),
                }
            }
        }
        Ok(())
    }

    fn set_receipts(&mut self, every: u16) -> Result<(), PhoneError> {
        if self.receipts_set == Some(every) {
            return Ok(());
        }
        self.request(Request::SetReceipts { every })?;
        self.receipts_set = Some(every);
        self.since_receipt = 0;
        Ok(())
    }

    fn create(&mut self, object: ObjectType, size: u32) -> Result<(), PhoneError> {
        self.since_receipt = 0;
        self.request(Request::Create { object, size }).map(drop)
    }

    fn select(&mut self, object: ObjectType) -> Result<(u32, u32, u32), PhoneError> {
        match self.request(Request::Select { object })? {
            Reply::Selected {
                max_size,
                offset,
                crc,
            } => Ok((max_size, offset, crc)),
            _ => Err(PhoneError::Unexpected(op::SELECT)),
        }
    }

    fn checksum(&mut self) -> Result<(u32, u32), PhoneError> {
        match self.request(Request::Checksum)? {
            Reply::Checksum { offset, crc } => Ok((offset, crc)),
            _ => Err(PhoneError::Unexpected(op::CHECKSUM)),
        }
    }

    fn execute(&mut self) -> Result<(), PhoneError> {
        self.request(Request::Execute).map(drop)
    }

    /// The phone libraries forgive *not permitted* here, nrfutil does not.
    fn execute_again(&mut self) -> Result<(), PhoneError> {
        match self.execute() {
            Err(PhoneError::Refused {
                code: ResultCode::OperationNotPermitted,
                ..
            }) if self.phone != Phone::Nrfutil => Ok(()),
            other => other,
        }
    }

    fn request(&mut self, request: Request<'_>) -> Result<Reply, PhoneError> {
        self.link.control(request.encode().as_bytes())?;
        self.reply(request.opcode())
    }

    fn reply(&mut self, opcode: u8) -> Result<Reply, PhoneError> {
        let bytes = self.link.notification().map_err(|error| match error {
            PhoneError::NoAnswer(_) => PhoneError::NoAnswer(opcode),
            other => other,
        })?;
        match Reply::decode(&bytes) {
            Ok(Reply::Refused {
                opcode: refused,
                code,
            }) if refused == opcode => Err(PhoneError::Refused { opcode, code }),
            Ok(reply) if reply.opcode() == opcode => Ok(reply),
            _ => Err(PhoneError::Unexpected(opcode)),
        }
    }
}

/// The CRC-32 of Secure DFU and of zip.
pub fn crc32(bytes: &[u8]) -> u32 {
    crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes)
}
