// SPDX-License-Identifier: Apache-2.0
//! Data objects: the image, from Create to the last Execute.

use super::{Answer, Object, SecureDfu, Then};
use crate::event::{Event, Refusal};
use crate::init_check::Accepted;
use crate::note;
use crate::upload::{Expected, Fate, Present, TransferError, Unfit, Upload};
use bledfu_slot::areas::Areas;
use bledfu_slot::verify::Crypto;
use bledfu_text::text;
use bledfu_wire::secure_dfu::{op, ExtendedCode, ObjectType, Reply, ResultCode};

impl<'k> SecureDfu<'k> {
    #[inline(never)]
    pub(super) fn create_data<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        size: u32,
    ) -> Answer {
        let refused = |code| Answer::refused(op::CREATE, code);
        self.current = Some(ObjectType::Data);
        self.gap = false;
        self.receipts.restart();
        let Some(accepted) = self.command.executed else {
            return refused(ResultCode::OperationNotPermitted);
        };
        if upload.is_staged() || upload.is_promised() || self.present.is_some() {
            return refused(ResultCode::OperationNotPermitted);
        }
        // `closed` and `size` are bounded by the slot and the wire, but their sum must be checked.
        let start = upload.closed();
        let end = start.checked_add(size);
        if size == 0 {
            return refused(ResultCode::InvalidParameter);
        }
        let is_too_long = end.is_none_or(|end| end > accepted.size);
        let is_part = size.is_multiple_of(upload.sector_size()) || end == Some(accepted.size);
        if self.is_unproven && size <= self.object_size(upload) && (is_too_long || !is_part) {
            // The peer goes back by an object because the CRC does not match its file.
            self.drop_wrong(upload);
        }
        let is_received = |object: Object| upload.progress().offset == object.end();
        if self.is_unproven && self.object.is_some_and(is_received) {
            // The whole object arrived, and the peer begins it again: the CRC up to here does not match its file.
            self.drop_wrong(upload);
            return refused(ResultCode::OperationNotPermitted);
        }
        if !is_part {
            return refused(ResultCode::InvalidParameter);
        }
        if size > self.object_size(upload) {
            return refused(ResultCode::InsufficientResources);
        }
        if is_too_long {
            return refused(ResultCode::OperationNotPermitted);
        }
        self.rewind(upload);
        if let Err(obstacle) = upload.repeat(self.now_ms) {
            note::warn(&obstacle);
            return refused(ResultCode::OperationFailed);
        }
        // Select has done it, unless the object is sent again over the same link.
        self.reserve_records(upload, size);
        if upload.prepare_object(size, self.now_ms).is_err() {
            return refused(ResultCode::OperationFailed);
        }
        self.has_begun = true;
        self.object = Some(Object {
            start,
            size,
            is_kept: false,
            has_gap: false,
        });
        Answer::reply(Reply::Created)
    }

    /// The peer will continue an object that was begun over an earlier link: makes room for the rest of it. If that is
    /// not possible, the object is forgotten, and the peer creates it again.
    #[inline(never)]
    pub(super) fn continue_object<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        self.reopen(upload);
        let Some(object) = self.object.filter(|object| object.is_kept) else {
            // What the first Create would have to erase besides; see the Execute of the init packet.
            let length = self.object_size(upload);
            upload.prepare_far(length);
            self.reserve_records(upload, length);
            return;
        };
        let rest = object.end() - upload.progress().offset;
        self.reserve_records(upload, rest);
        let is_ready = match upload.repeat(self.now_ms) {
            Ok(()) => upload.prepare(rest).is_ok(),
            Err(obstacle) => {
                note::warn(&obstacle);
                false
            }
        };
        if !is_ready {
            self.rewind(upload);
        }
    }

    /// A journal that erases while packets arrive needs a ring that holds them. Starts and repeated objects use up the room that
    /// was made for an earlier object.
    pub(super) fn reserve_records<A: Areas, C: Crypto>(&self, upload: &mut Upload<'_, A, C>, length: u32) {
        if !self.config.is_object_buffered {
            upload.reserve_records(length);
        }
    }

    /// An earlier peer had smaller objects, and closed one where this peer expects an open one.
    fn reopen<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        let Some(accepted) = self.command.executed else {
            return;
        };
        if self.object.is_some() || self.has_begun || self.present.is_some() || upload.is_staged() {
            return;
        }
        let progress = upload.progress();
        if progress.offset < accepted.size && !progress.offset.is_multiple_of(self.object_size(upload)) {
            self.resume(upload, accepted.size, progress);
        }
    }

    /// Goes back to the start of the open object, which is forgotten.
    pub(super) fn rewind<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) {
        self.object = None;
        upload.rewind_object();
    }

    /// A packet that does not fit the open object is dropped whole; the checksum shows it to the peer.
    pub(super) fn write_data<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>, bytes: &[u8]) {
        let Some(object) = &mut self.object else {
            return;
        };
        object.is_kept = false;
        let end = object.end();
        if bytes.len() > end.saturating_sub(upload.progress().offset) as usize {
            note::warn(&text!(
                "a packet of {} bytes is beyond the end of the object",
                bytes.len() as u32
            ));
            return;
        }
        // A flash failure is answered at Execute, the first message that has room for it.
        let _ = upload.write_object(bytes, end);
    }

    #[inline(never)]
    pub(super) fn execute_data<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>) -> Answer {
        let refused = |code| Answer::refused(op::EXECUTE, code);
        let Some(accepted) = self.command.executed else {
            return refused(ResultCode::OperationNotPermitted);
        };
        let ends = |then| Answer {
            then,
            ..Answer::reply(Reply::Executed)
        };
        match self.present {
            Some(Present { is_staged: false, .. }) => return ends(Then::Disconnect),
            Some(_) if upload.is_promised() => return Answer::HELD,
            Some(_) => return ends(Then::Reset),
            None if upload.is_staged() => return ends(Then::Reset),
            None => {}
        }
        if let Some(object) = self.object {
            let is_whole = upload.progress().offset == object.end();
            if !is_whole && !object.is_kept {
                // A client that executes although it was told what is missing (IOS-DFU-Library) takes this for an object
                // executed before, and would send the rest of the image to the wrong place. After a new connection it
                // continues where the bytes end.
                let then = if object.has_gap {
                    Then::Disconnect
                } else {
                    Then::Continue
                };
                return Answer {
                    then,
                    ..refused(ResultCode::OperationNotPermitted)
                };
            }
            if let Err(error) = upload.commit() {
                note::error(&error);
                self.rewind(upload);
                return refused(ResultCode::OperationFailed);
            }
            upload.close_object();
            self.reserve_records(upload, self.config.object_size);
            self.object = None;
            if let Err(reason) = upload.judge_received() {
                note::error(&text!("the image is refused: {}", reason));
                self.command.create(0);
                upload.close_session();
                return refused(final_code(match reason {
                    Unfit::Header(_) => TransferError::NotAnImage,
                    Unfit::Older(_) => TransferError::Older,
                    Unfit::NoRoom => TransferError::NoRoom,
                }));
            }
        }
        // A client executes only what has the CRC of its file.
        self.is_unproven = false;
        self.has_begun = true;
        // At an object boundary Execute may be repeated and changes nothing. At the end of the image it verifies, also
        // if the device was reset between the last object and the verdict.
        if upload.committed() != accepted.size {
            return Answer::reply(Reply::Executed);
        }
        match self.finish(upload, &accepted) {
            Ok(Fate::Staged) => ends(Then::Reset),
            Ok(_) => Answer::HELD,
            // There is nothing to install, and that is what the peer wanted.
            Err(TransferError::Runs) => {
                note::info(&TransferError::Runs);
                self.command.create(0);
                ends(Then::Disconnect)
            }
            Err(error) => {
                note::error(&error);
                self.command.create(0);
                refused(final_code(error))
            }
        }
    }

    pub(super) fn finish<A: Areas, C: Crypto>(
        &mut self,
        upload: &mut Upload<'_, A, C>,
        accepted: &Accepted,
    ) -> Result<Fate, TransferError> {
        let expected = self.expected(accepted);
        if upload.is_packed() {
            return upload.finish_packed(&expected);
        }
        let info = upload.finish(&expected)?;
        note::info(&text!(
            "image {} is staged; reset to install it",
            info.header.version
        ));
        Ok(Fate::Staged)
    }

    /// What the file of an accepted init packet must match.
    pub(super) fn expected(&self, accepted: &Accepted) -> Expected<'k> {
        let keys = self.config.init.package_keys;
        Expected {
            sha256: Some(accepted.sha256),
            file_signature: accepted.file_signature.map(|signature| (signature, keys)),
            file_validation_unknown: accepted.unknown_boot_validation,
            fw_version: accepted.fw_version,
        }
    }

    /// The answer to the last Execute of a packed update, which was held until now. Still being expanded: the peer learns that
    /// it will be installed, as the journal knows it.
    pub fn release<A: Areas, C: Crypto>(&mut self, upload: &mut Upload<'_, A, C>, fate: Fate) -> Answer {
        match fate {
            Fate::Pending(_) | Fate::Staged => Answer {
                then: Then::Reset,
                ..Answer::reply(Reply::Executed)
            },
            Fate::Failed(error) => {
                self.command.create(0);
                let code = final_code(error);
                let opcode = op::EXECUTE;
                upload
                    .events
                    .push(Event::Refused(Refusal::SecureDfu { opcode, code }));
                Answer::refused(opcode, code)
            }
        }
    }
}

/// The answer to the final Execute.
const fn final_code(error: TransferError) -> ResultCode {
    match error {
        TransferError::WrongHash | TransferError::NotAnImage | TransferError::WrongFileSignature => {
            ResultCode::Extended(ExtendedCode::VerificationFailed)
        }
        TransferError::Older | TransferError::OtherBase => {
            ResultCode::Extended(ExtendedCode::FirmwareVersion)
        }
        TransferError::NoRoom => ResultCode::Extended(ExtendedCode::InsufficientSpace),
        TransferError::NotReceiving => ResultCode::OperationNotPermitted,
        TransferError::Write | TransferError::Erase | TransferError::NotMarked | TransferError::Runs => {
            ResultCode::OperationFailed
        }
    }
}
