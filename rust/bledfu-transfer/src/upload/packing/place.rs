// SPDX-License-Identifier: Apache-2.0
//! Where a file goes, which its first bytes say.

use super::{File, Packing, Phase};
use crate::upload::{Protocol, State, TransferError, Unfit, Upload};
use bledfu_patch::record::{Header, HEADER_SIZE};
use bledfu_slot::areas::Areas;
use bledfu_slot::flash::{read_bytes, Aligned};
use bledfu_slot::header::{HeaderError, ImageHeader, ImageStart};
use bledfu_slot::journal::Progress;
use bledfu_slot::layout::Layout;
use bledfu_slot::retry::{blank, Retry};
use bledfu_slot::verify::{Crypto, ImageInfo};
use bledfu_slot::writer::{Erase, Place, WriteError};

const HEAD: usize = HEADER_SIZE as usize;

/// The place of a packed update of this size; `None` if there is none beside an image that is larger than the file.
#[inline(never)]
pub(super) fn far(layout: &Layout, size: u32) -> Option<Place> {
    let sector = layout.secondary().sector_size;
    let end = layout.secondary_trailer().first_sector();
    let size = size.checked_next_multiple_of(sector)?;
    let start = end.checked_sub(size)?;
    let room = start.checked_sub(layout.upload_offset())?;
    (size > 0 && room >= size).then(|| Place::new(start, end))
}

/// Whether a header is that of a packed update; what else it says is checked when the file is complete.
fn is_header_of_packed(header: &ImageHeader) -> bool {
    header.flags == bledfu_slot::header::flags::NON_BOOTABLE && u32::from(header.header_size) == HEADER_SIZE
}

impl<A: Areas, C: Crypto> Upload<'_, A, C> {
    /// A file of `size` bytes begins.
    pub(in crate::upload) fn begin_packing(&mut self, size: u32) {
        self.packing.forget();
        if let Some(far) = far(&self.setup.layout, size) {
            self.packing.phase = Phase::Unknown { far };
        }
    }

    /// As [`SlotWriter::prepare_by`](bledfu_slot::writer::SlotWriter::prepare_by), at both places as long as the right one is not
    /// known.
    pub(in crate::upload) fn prepare_places(
        &mut self,
        length: u32,
        erase: Erase,
    ) -> Result<(), WriteError<super::super::SecondaryError<A>>> {
        let mut slot = Retry(self.areas.all().secondary);
        self.payload.writer().prepare_by(&mut slot, length, erase)?;
        self.prepare_at_far(length)
    }

    #[inline(never)]
    fn prepare_at_far(&mut self, length: u32) -> Result<(), WriteError<super::super::SecondaryError<A>>> {
        let Phase::Unknown { far } = &mut self.packing.phase else {
            return Ok(());
        };
        let writer = self.payload.writer();
        let near = writer.exchange(*far);
        let prepared = writer.prepare(&mut Retry(self.areas.all().secondary), length);
        *far = writer.exchange(near);
        prepared
    }

    /// Does a part of the first erase earlier: that at the place of a packed update, for up to `length` bytes. What fails is
    /// tried again, and refused, when it is needed.
    pub(crate) fn prepare_far(&mut self, length: u32) {
        let size = self.receiving().map_or(0, |transfer| transfer.size);
        // With small objects there is nothing to divide; even nothing would erase what is in front of the place.
        if length > 0 {
            let _ = self.prepare_at_far(length.min(size));
        }
    }

    /// Splits `bytes` where the file's kind is known.
    pub(in crate::upload) fn split_head<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let at = self.payload.received() as usize;
        match self.packing.phase {
            Phase::Unknown { .. } if at < HEAD && bytes.len() <= self.payload.erased_ahead() as usize => {
                bytes.split_at(bytes.len().min(HEAD - at))
            }
            _ => (&[], bytes),
        }
    }

    /// Chooses the place by the bytes that wait in the page buffer, if they are enough.
    pub(in crate::upload) fn choose_place(&mut self) {
        let Phase::Unknown { far } = self.packing.phase else {
            return;
        };
        let size = self.receiving().map_or(0, |transfer| transfer.size);
        let writer = self.payload.writer();
        let Some(first) = writer.pending().first_chunk::<HEAD>() else {
            return;
        };
        self.packing.phase = match Header::decode(first, size).is_ok() {
            true => Phase::File {
                near: writer.exchange(far),
            },
            false => Phase::Image,
        };
    }

    /// Nothing of the file is held any more: what comes next may be another one.
    pub(in crate::upload) fn reconsider_place(&mut self) {
        let State::Receiving(transfer) = self.state else {
            return;
        };
        if self.payload.received() != 0 || self.packing.is_past_file() {
            return;
        }
        match self.packing.phase {
            Phase::File { near } => {
                let far = self.payload.writer().exchange(near);
                self.packing.phase = Phase::Unknown { far };
            }
            Phase::Image => self.begin_packing(transfer.size),
            _ => {}
        }
    }

    /// Chooses the place of a file of which the journal recorded `stored`, before it is read.
    pub(in crate::upload) fn find_place(&mut self, size: u32, stored: Progress) {
        self.packing.forget();
        // Back to where updates begin.
        let _ = self
            .payload
            .begin::<super::super::SecondaryError<A>>(0, self.crypto.sha256());
        let Some(far) = far(&self.setup.layout, size) else {
            return;
        };
        if stored.offset == 0 {
            let far = far.distrusted();
            self.packing.phase = Phase::Unknown { far };
            return;
        }
        let mut first = Aligned([0; HEAD]);
        let slot = &mut Retry(self.areas.all().secondary);
        let is_read = read_bytes(slot, far.start(), &mut first.0).is_ok();
        // The place was erased before the file came, so nothing older is found there.
        if is_read && Header::decode(&first.0, size).is_ok() {
            let near = self.payload.writer().exchange(far);
            let start = near.start();
            let sector = self.setup.layout.secondary().sector_size;
            // The image was being made, and the erase of any of its sectors may have been cut.
            let is_used = !blank(slot, start, start.saturating_add(sector)).unwrap_or(false);
            self.packing.phase = Phase::File {
                near: if is_used { near.distrusted() } else { near },
            };
            self.packing.is_old = true;
        }
    }

    /// Notes the file that is complete now.
    pub(in crate::upload) fn note_file(&mut self) {
        if !matches!(self.packing.phase, Phase::File { .. })
            || !self.is_complete()
            || self.catch_up_all().is_err()
        {
            return;
        }
        let digest = self.payload.digest();
        let header = digest.start().header();
        if let (Ok(header), Some(image)) = (header, digest.image_digest()) {
            let size = self.payload.committed();
            self.packing.file = Some(File {
                size,
                sha256: digest.file_digest(),
                crc: self.crc.clone().finalize(),
                info: ImageInfo {
                    header,
                    total_size: size,
                    digest: image,
                    security_counter: None,
                },
            });
        }
    }

    /// The verdict on a kind of image that is never started here, unless it may be a packed update.
    ///
    /// # Errors
    /// `unfit`.
    pub(in crate::upload) fn judge_packed(&self, start: &ImageStart, unfit: Unfit) -> Result<(), Unfit> {
        match start.header() {
            Ok(header)
                if unfit == Unfit::Header(HeaderError::NotBootable) && is_header_of_packed(&header) =>
            {
                Ok(())
            }
            _ => Err(unfit),
        }
    }

    /// Whether a packed update was received to where its image would have to go.
    pub(in crate::upload) fn is_misplaced(&self) -> bool {
        let header = self.payload.digest().start().header();
        let size = self.receiving().map_or(0, |transfer| transfer.size);
        header.is_ok_and(|header| is_header_of_packed(&header)) && far(&self.setup.layout, size).is_none()
    }

    /// Why a packed update of `size` bytes cannot be received, if it begins with `start`.
    ///
    /// # Errors
    /// [`TransferError::NoRoom`].
    pub(crate) fn judge_room(&self, start: &ImageStart, size: u32) -> Result<(), TransferError> {
        match start.header() {
            Ok(header) if is_header_of_packed(&header) && far(&self.setup.layout, size).is_none() => {
                Err(TransferError::NoRoom)
            }
            _ => Ok(()),
        }
    }
}

/// Whether SMP may begin to expand the file without being asked: what Secure DFU sends is checked first against its init
/// packet.
pub(super) fn may_expand_unasked(packing: &Packing<'_>, owner: Option<Protocol>) -> bool {
    // After a reset only a peer that asks is worth the wear.
    owner == Some(Protocol::Smp) && !packing.is_old
}
