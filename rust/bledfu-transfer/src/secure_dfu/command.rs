// SPDX-License-Identifier: Apache-2.0
//! The command object: the init packet, from Create to Execute.

use super::{Answer, SecureDfu};
use crate::event::{Admission, Incoming};
use crate::init_check::{self, Accepted, InitPolicy, InitRefusal};
use crate::note;
use crate::upload::{Obstacle, Protocol, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::crc32::{crc32, Crc32};
use bledfu_slot::verify::Crypto;
use bledfu_text::{text, words};
use bledfu_wire::init_packet::MAX_INIT_PACKET;
use bledfu_wire::secure_dfu::{op, ObjectType, Reply, ResultCode};
use heapless::Vec;

/// The command object: the init packet while it is received and, once executed, while its image is received.
pub(super) struct Command {
    pub(super) bytes: Vec<u8, MAX_INIT_PACKET>,
    /// Announced size; 0 when the object was not created.
    pub(super) size: usize,
    pub(super) crc: Crc32,
    pub(super) executed: Option<Accepted>,
}

impl Command {
    pub(super) fn none() -> Self {
        Self {
            bytes: Vec::new(),
            size: 0,
            crc: crc32(),
            executed: None,
        }
    }

    /// Becomes an empty object of `size` bytes; 0: none. In place, because a command would take half a kilobyte of
    /// stack.
    pub(super) fn create(&mut self, size: usize) {
        self.bytes.clear();
        self.size = size;
        self.crc = crc32();
        self.executed = None;
    }

    /// Accepts `bytes` whole, or nothing when they are too many.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() <= self.size && self.bytes.extend_from_slice(bytes).is_ok() {
            self.crc.update(bytes);
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.bytes.len() == self.size
    }
}

impl SecureDfu<'_> {
    #[inline(never)]
    pub(super) fn create_command<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        size: u32,
    ) -> Answer {
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
        if !upload.is_free_for(Protocol::SecureDfu, self.now_ms) {
            note::warn(&Obstacle::OtherTransfer);
            return refused(ResultCode::OperationNotPermitted);
        }
        // Execute reports every other obstacle: the init packet may be that of the staged or the running image.
        self.command.create(size as usize);
        self.object = None;
        self.present = None;
        upload.drop_progress();
        Answer::reply(Reply::Created)
    }

    #[inline(never)]
    pub(super) fn check_init<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
    ) -> Result<Accepted, InitRefusal> {
        let (running, limit) = (upload.running_version(), upload.limit());
        init_check::check(
            &self.command.bytes,
            &self.config.init,
            running,
            limit,
            upload.crypto(),
        )
    }

    #[inline(never)]
    pub(super) fn execute_command<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) -> Answer {
        let refused = |code| Answer::refused(op::EXECUTE, code);
        if self.command.size == 0 {
            return refused(ResultCode::InvalidObject);
        }
        if !self.command.is_complete() {
            return refused(ResultCode::OperationNotPermitted);
        }
        if self.command.executed.is_some() {
            return Answer {
                hurry: upload.owner() == Some(Protocol::SecureDfu),
                ..Answer::reply(Reply::Executed)
            };
        }
        match self.check_init(upload) {
            Ok(accepted) => self.accept(upload, accepted),
            Err(refusal) => match self.check_repeated(upload, &refusal) {
                Some(answer) => answer,
                None => {
                    note::warn(&text!("refused: {}", refusal));
                    if !matches!(refusal, InitRefusal::Malformed(_)) {
                        self.command.create(0);
                    }
                    refused(refusal.code())
                }
            },
        }
    }

    /// The init packet is good except for its version, which equals the running one: its image may be the running one.
    #[inline(never)]
    pub(super) fn check_repeated<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        refusal: &InitRefusal,
    ) -> Option<Answer> {
        match refusal {
            InitRefusal::FirmwareVersion { packet, running } if packet == running => {}
            _ => return None,
        }
        let policy = InitPolicy {
            same_version_allowed: true,
            ..self.config.init
        };
        let (running, limit) = (upload.running_version(), upload.limit());
        let accepted =
            init_check::check(&self.command.bytes, &policy, running, limit, upload.crypto()).ok()?;
        self.tell_present(upload, accepted)
    }

    /// The answer to the Execute of an init packet whose image need not be sent.
    pub(super) fn tell_present<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        accepted: Accepted,
    ) -> Option<Answer> {
        let present = upload.find(accepted.size, &accepted.sha256, accepted.fw_version)?;
        let place = if present.is_staged {
            words!("is staged")
        } else {
            words!("runs")
        };
        note::info(&text!(
            "this firmware {} already: nothing needs to be sent",
            place
        ));
        self.present = Some(present);
        self.command.executed = Some(accepted);
        Some(Answer::reply(Reply::Executed))
    }

    #[inline(never)]
    pub(super) fn accept<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        accepted: Accepted,
    ) -> Answer {
        let refused = |code| Answer::refused(op::EXECUTE, code);
        if let Some(answer) = self.tell_present(upload, accepted) {
            return answer;
        }
        note::info(&text!(
            "accepted: firmware version {}, {} bytes",
            accepted.fw_version,
            accepted.size
        ));
        if let Some(obstacle) = upload.obstacle(Protocol::SecureDfu, self.now_ms) {
            note::warn(&obstacle);
            return refused(match obstacle {
                Obstacle::TooSoon { .. } => ResultCode::OperationFailed,
                _ => ResultCode::OperationNotPermitted,
            });
        }
        let incoming = Incoming {
            image: 0,
            size: accepted.size,
            fw_version: accepted.fw_version,
        };
        match upload.admits(incoming) {
            Admission::Accept => {}
            Admission::Later => return refused(ResultCode::OperationFailed),
            Admission::Refuse => return refused(ResultCode::OperationNotPermitted),
        }
        let began = upload.begin(
            Protocol::SecureDfu,
            self.now_ms,
            &self.command.bytes,
            accepted.size,
        );
        if began.is_err() {
            return refused(ResultCode::InsufficientResources);
        }
        self.reserve_records(upload, self.config.object_size);
        // A file that may be a packed update has two places, and Create alone would have to erase at both of them: half of the
        // second one now, the rest with Select.
        let sector = upload.sector_size();
        upload.prepare_far(self.config.object_size / 2 / sector * sector);
        self.command.executed = Some(accepted);
        Answer {
            hurry: true,
            ..Answer::reply(Reply::Executed)
        }
    }
}
