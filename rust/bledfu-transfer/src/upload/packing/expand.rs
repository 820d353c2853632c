// SPDX-License-Identifier: Apache-2.0
//! From the packed update to its image, a part of a sector with each step.

use super::{Phase, Target, Wish};
use crate::note;
use crate::upload::{State, TransferError, Upload};
use bledfu_patch::record::HEADER_SIZE;
use bledfu_patch::{DecodeError, Source};
use bledfu_slot::areas::Areas;
use bledfu_slot::flash::{read_bytes, Aligned};
use bledfu_slot::retry::Retry;
use bledfu_slot::verify::{Crypto, Digest};
use bledfu_slot::writer::PAGE;
use bledfu_text::{text, words};
use embedded_storage::nor_flash::ReadNorFlash;

/// Bytes that one step makes, at most: a sector of usual flash, 16 pages of 0.9 ms and the erase before them.
const STEP: u32 = 4096;

/// What the decoder reads. Places are slot offsets.
struct Sources<'f, P, S> {
    primary: &'f mut P,
    secondary: &'f mut S,
    stream: u32,
    output: u32,
}

impl<P: ReadNorFlash, S: ReadNorFlash> Source for Sources<'_, P, S> {
    /// Whether it is the primary slot that cannot be read.
    type Error = bool;

    fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), bool> {
        read_bytes(self.primary, offset, bytes).map_err(|_| true)
    }

    fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), bool> {
        read_bytes(self.secondary, self.output.saturating_add(offset), bytes).map_err(|_| false)
    }

    fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), bool> {
        read_bytes(self.secondary, self.stream.saturating_add(offset), bytes).map_err(|_| false)
    }
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// One step of the work that a packed update causes; `None` if there is no packed update, else whether something was
    /// done.
    #[inline(never)]
    pub(in crate::upload) fn packing_step(&mut self) -> Option<bool> {
        if !self.is_packed() {
            return None;
        }
        let is_wished = self.packing.wish.is_some();
        let done = match self.packing.phase {
            Phase::File { .. }
                if is_wished || super::place::may_expand_unasked(&self.packing, self.owner()) =>
            {
                self.begin_expanding()
            }
            Phase::Expanding(_) => self.expand_part(),
            Phase::Made(digest) => match self.packing.wish {
                Some(wish) => self.stage_made(&digest, wish),
                None => return Some(false),
            },
            _ => return Some(false),
        };
        if let Err(error) = done {
            self.fail(error);
        }
        Some(true)
    }

    /// It cannot be expanded. Whoever asked for it is told, now or with its answer; whoever has not asked yet, when it does.
    fn fail(&mut self, error: TransferError) {
        note::error(&error);
        if self.packing.wish.is_some() {
            self.drop_packed();
            self.packing.failed = Some(error);
        } else {
            self.packing.phase = Phase::Refused(error);
        }
    }

    /// Forgets the packed update, also in the journal.
    pub(super) fn drop_packed(&mut self) {
        self.forget_intent();
        self.drop_file();
    }

    /// Forgets the file, and not which image was made of it.
    #[inline(never)]
    pub(super) fn drop_file(&mut self) {
        self.packing.forget();
        self.state = State::Idle;
        self.restart(0);
        self.close();
    }

    /// Makes the next bytes.
    fn expand_part(&mut self) -> Result<(), TransferError> {
        let (&Phase::Expanding(Target { size, sha256, .. }), Some(file)) =
            (&self.packing.phase, self.packing.file)
        else {
            return Err(TransferError::NotReceiving);
        };
        let layout = self.setup.layout;
        let far = super::place::far(&layout, file.size).ok_or(TransferError::NoRoom)?;
        let sector = layout.secondary().sector_size;
        let begin = self.payload.received();
        let part = sector.min(STEP).min(size.saturating_sub(begin));
        self.prepare_image(part)?;
        while self.payload.received() < begin + part {
            self.expand_page(far.start(), layout.upload_offset())?;
        }
        if begin + part < size {
            return Ok(());
        }
        let writer = self.payload.writer();
        writer
            .flush(&mut Retry(self.areas.all().secondary))
            .map_err(super::super::write_failed)?;
        writer.commit();
        let digest = self.payload.digest();
        if digest.file_digest() != sha256 {
            note::error(&words!(
                "what the packed update makes has another SHA-256 than announced"
            ));
            return Err(TransferError::NotAnImage);
        }
        let digest = digest.image_digest().ok_or(TransferError::NotAnImage)?;
        self.packing.phase = Phase::Made(digest);
        Ok(())
    }

    fn prepare_image(&mut self, length: u32) -> Result<(), TransferError> {
        let prepared = self
            .payload
            .writer()
            .prepare(&mut Retry(self.areas.all().secondary), length);
        prepared.map_err(|error| {
            note::error(&error);
            TransferError::Erase
        })
    }

    #[inline(never)]
    fn expand_page(&mut self, far: u32, near: u32) -> Result<(), TransferError> {
        let areas = self.areas.all();
        let (primary, secondary) = (&mut Retry(areas.primary), &mut Retry(areas.secondary));
        let mut page = Aligned([0; PAGE]);
        let mut sources = Sources {
            primary,
            secondary,
            stream: far + HEADER_SIZE,
            output: near,
        };
        let filled = self
            .packing
            .decoder
            .fill(&mut sources, &mut page.0)
            .map_err(not_decoded)?;
        let bytes = page.0.get(..filled).unwrap_or_default();
        if bytes.is_empty() {
            return Err(TransferError::NotAnImage);
        }
        let written = self.payload.accept(secondary, bytes);
        written.map_err(super::super::write_failed)
    }

    /// The image is as announced, and somebody asked for it: its signature is checked, as that of every image.
    #[inline(never)]
    fn stage_made(&mut self, digest: &Digest, wish: Wish) -> Result<(), TransferError> {
        let size = self.packing.file.map_or(0, |file| file.size);
        let info = self.verify_and_stage(Some(digest), wish.fw_version, wish.swap_type)?;
        self.packing.phase = Phase::Staged;
        self.staged(size, wish.fw_version);
        self.close();
        note::info(&text!(
            "image {} is staged ({}); reset to install it",
            info.header.version,
            wish.swap_type
        ));
        Ok(())
    }

    /// Whether the device resets now of itself: nobody waits for the answer after which it would. True once.
    pub fn takes_reset(&mut self) -> bool {
        let resets = self.packing.wish.is_some_and(|wish| wish.resets) && self.fate_is_staged();
        if resets {
            self.packing.wish = None;
        }
        resets
    }

    fn fate_is_staged(&self) -> bool {
        matches!(self.packing.phase, Phase::Staged)
    }
}

fn not_decoded(error: DecodeError<bool>) -> TransferError {
    match error {
        DecodeError::Source(is_primary) => {
            let slot = if is_primary {
                words!("primary")
            } else {
                words!("secondary")
            };
            note::error(&text!("the {} slot cannot be read for the packed update", slot));
            TransferError::Write
        }
        DecodeError::Stream(error) => {
            note::error(&error);
            TransferError::NotAnImage
        }
        _ => TransferError::NotAnImage,
    }
}
