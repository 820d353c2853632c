// SPDX-License-Identifier: Apache-2.0
//! Whether a packed update can be expanded here: everything that is known before the first erase of the output area.

use super::{Packing, Phase, Target};
use crate::note;
use crate::payload::packed::{BaseRefusal, Limits, Packed, PackedError, Running};
use crate::upload::{TransferError, Upload};
use bledfu_patch::{PackError, TABLE};
use bledfu_slot::areas::Areas;
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::Crypto;
use bledfu_slot::writer::Place;
use bledfu_text::text;

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// Checks the file in the order of the format, and begins to expand it.
    ///
    /// # Errors
    /// Why it cannot be expanded. Nothing was erased.
    #[inline(never)]
    pub(super) fn begin_expanding(&mut self) -> Result<(), TransferError> {
        let (&Phase::File { near }, Some(file)) = (&self.packing.phase, &self.packing.file) else {
            return Err(TransferError::NotReceiving);
        };
        let size = file.size;
        let far = super::place::far(&self.setup.layout, size).ok_or(TransferError::NoRoom)?;
        let flash = &mut Retry(self.areas.all().secondary);
        let (start, policy) = (far.start(), &self.setup.image_policy);
        let checked = Packed::verify(flash, start, size, policy, &self.crypto, &file.info.digest);
        let info = match &checked {
            Ok(info) => info,
            Err(error) => return Err(refused(error)),
        };
        // In packages a file is filled up to whole words.
        let len = match size - info.total_size {
            0..4 => info.total_size,
            _ => size,
        };
        let limits = Limits {
            largest: self.setup.layout.max_image_size(),
            table: TABLE,
        };
        let read = Packed::read(flash, start, len, limits);
        // By reference: it is large, and is moved nowhere.
        let packed = match &read {
            Ok(packed) => packed,
            Err(error) => return Err(refused(error)),
        };
        self.check_room(packed, far)?;
        if self.setup.floor.refuses_image(info) {
            return Err(TransferError::Older);
        }
        self.check_base(packed)?;
        let started = self.packing.decoder.start(&packed.pack, packed.stream_len);
        let place = near.up_to(far.start());
        let began = self
            .payload
            .writer()
            .begin_at::<()>(place, packed.pack.out_size, self.crypto.sha256());
        if started.is_err() || began.is_err() {
            return Err(TransferError::NotAnImage);
        }
        note::info(&text!(
            "the packed update is good: it is expanded to {} bytes",
            packed.pack.out_size
        ));
        self.packing.phase = Phase::Expanding(Target {
            size: packed.pack.out_size,
            sha256: packed.out_sha,
            digest: packed.out_hash,
        });
        Ok(())
    }

    fn check_room(&self, packed: &Packed, far: Place) -> Result<(), TransferError> {
        let layout = &self.setup.layout;
        let image = packed
            .pack
            .out_size
            .checked_next_multiple_of(layout.secondary().sector_size);
        let room = far.start() - layout.upload_offset();
        match image.is_some_and(|image| image <= room) {
            true => Ok(()),
            false => {
                note::warn(&text!(
                    "the packed update makes {} bytes; beside it, the slot has room for {}",
                    packed.pack.out_size,
                    room
                ));
                Err(TransferError::NoRoom)
            }
        }
    }

    fn check_base(&mut self, packed: &Packed) -> Result<(), TransferError> {
        let image = self.primary_image().ok_or(TransferError::OtherBase)?;
        let running = Running {
            digest: image.digest,
            hashed_len: image.header.hashed_size().unwrap_or_default(),
            // Where the build does not say it, any is right: it only predicts branches.
            address: match self.setup.image_policy.address {
                Some(slot) => slot.start,
                None => packed.pack.base_addr,
            },
        };
        packed.check_base(&running).map_err(|refusal| match refusal {
            BaseRefusal::Runs => TransferError::Runs,
            _ => {
                let version = image.header.version;
                note::warn(&text!("{}; {} runs", refusal, version));
                TransferError::OtherBase
            }
        })
    }
}

fn refused<E: core::fmt::Debug>(error: &PackedError<E>) -> TransferError {
    note::error(&text!("the packed update is refused: {}", error));
    match error {
        PackedError::Flash(_) => TransferError::NotMarked,
        PackedError::Image(error) if !error.is_about_image() => TransferError::NotMarked,
        PackedError::Pack(PackError::Size(_)) => TransferError::NoRoom,
        _ => TransferError::NotAnImage,
    }
}

impl Packing<'_> {
    /// Whether the file waits for its check.
    pub(super) fn is_unchecked(&self) -> bool {
        matches!(self.phase, Phase::File { .. }) && self.file.is_some()
    }
}
