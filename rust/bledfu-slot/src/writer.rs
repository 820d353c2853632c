// SPDX-License-Identifier: Apache-2.0
//! Puts an image into the secondary slot: sequential bytes in, whole pages out, everything read back.
//!
//! ```text
//!   accept      │ page: [u8; 256], word-aligned RAM │   full, or last       ┌─────────── secondary slot ──────────┐
//!  bytes ──────►│ owned by the writer until the     │──── program ─────────►│ committed │ durable │ erased │ …    │
//!               │ same bytes are read back from it  │◄─── read back ────────│           │         │ ahead  │      │
//!               └───────────────────────────────────┘     └► digest         └───────────┴─────────┴────────┴──────┘
//! ```
//! - `committed`: survives a lost link or a reset. Taken back only by [`SlotWriter::begin`], and up to the mark by
//!   [`SlotWriter::rewind_to_mark`].
//! - `durable`: programmed and read back, but not committed; [`SlotWriter::rewind`] drops it.
//! - Erased ahead: no data, and no page programmed since the erase.
//!
//! There is one page buffer and no callback. A page leaves the buffer only in [`SlotWriter::accept`] or
//! [`SlotWriter::flush`]: the flash call has returned, and the bytes read back are equal. So there is no completion
//! that could be missed, which is the failure of the case this project starts from.
//!
//! A sector that reads blank is normally not erased again. But an earlier power cycle may have cut its erase in the
//! last moments, and such cells read blank now and may read differently later. Sectors are erased upwards, so a cut
//! erase can only be where a run of blank sectors meets a used one, or at the trailer, which is erased first. Sectors
//! there are erased again, unless this power cycle erased them. None of this happens before a transfer needs the slot:
//! a device that only starts and stops must not wear it out.
//!
//! The digest is computed over what was read back, not over what was received: it is the digest of the bytes in flash. After
//! a reset it begins anew at the first byte, and comes after the data in steps ([`SlotWriter::catch_up`]): hashing 8 MB takes
//! a Cortex-M4 ten seconds, for which no peer waits.

use core::ops::Range;

use bledfu_text::{text, words, Line, Text};
use embedded_storage::nor_flash::NorFlash;

use crate::flash::{read_bytes, Aligned};
use crate::layout::{round_up, Layout};
use crate::retry::{blank, programs_again};
use crate::trailer::erase_trailer;
use crate::verify::{Sha256, StreamDigest};

/// Bytes of one flash page, the largest unit a NOR flash programs at once. One program operation per page.
pub const PAGE: usize = 256;

/// The largest block that is erased at once. A blank sector this close in front of a used one is not trusted.
const LARGEST_ERASE: u32 = 64 * 1024;

/// How much is erased at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// A sector: the shortest wait.
    Sectors,
    /// 64 KiB where the image reaches that far, else a sector. For a NOR flash this takes 0.6 of the time of its sectors
    /// by typical figures, and is one wait of up to 4 s by maximum figures.
    Blocks,
}

/// How often a page is read back before it counts as wrong.
const READINGS: u32 = 2;

/// Why bytes were not written to the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError<E> {
    /// The flash refused or did not answer in time, and the read-back shows that the operation was not done.
    Flash(E),
    /// What was read back, again and again, was not what was programmed. The object must be sent again.
    ReadBack {
        /// Offset of the page in the image.
        offset: u32,
    },
    /// More bytes than the image has, or an image larger than the slot.
    OutOfBounds,
    /// An earlier page of this object is not in flash; the object must be sent again.
    ObjectLost,
}

/// Without the flash's own error, which only [`Display`](core::fmt::Display) shows.
impl<E> Text for WriteError<E> {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Flash(_) => words!("the secondary slot's flash failed").put(line),
            Self::ReadBack { offset } => text!(
                "the page at image offset {} does not read back as it was written",
                offset
            )
            .put(line),
            Self::OutOfBounds => {
                words!("a write beyond the end of the image or of the slot was refused").put(line)
            }
            Self::ObjectLost => words!("an earlier page of the object could not be written").put(line),
        }
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for WriteError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        bledfu_text::format(self, f)?;
        match self {
            Self::Flash(error) => write!(f, ": {error:?}"),
            _ => Ok(()),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for WriteError<E> {}

/// A part of the slot for one file, and what is known about its sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Slot offset of the first byte; a multiple of the sector size.
    start: u32,
    /// Slot offset behind the last sector that may be erased.
    end: u32,
    /// Bytes from the start that are erased.
    erased_to: u32,
    /// Below this, a sector that reads blank is erased.
    distrust_blank_below: u32,
}

impl Place {
    /// Sectors from `start` to `end`, slot offsets that are multiples of the sector size. Nothing is known about them.
    pub const fn new(start: u32, end: u32) -> Self {
        Self {
            start,
            end,
            erased_to: 0,
            distrust_blank_below: 0,
        }
    }

    /// The same place, where an earlier power cycle may have been cut while it erased: no sector is trusted to stay blank.
    #[must_use]
    pub const fn distrusted(self) -> Self {
        Self {
            distrust_blank_below: u32::MAX,
            ..self
        }
    }

    /// The same place up to the slot offset `end`, which must not be lower than what is erased.
    #[must_use]
    pub const fn up_to(self, end: u32) -> Self {
        Self { end, ..self }
    }

    /// Slot offset of the first byte.
    pub const fn start(&self) -> u32 {
        self.start
    }
}

/// Writer of one image into the secondary slot. RAM: one page and three running digests (about 1,000 bytes).
pub struct SlotWriter<H: Sha256> {
    layout: Layout,
    /// Slot offset of the first byte of the image, and behind the last sector it may use.
    bounds: [u32; 2],
    page: Aligned<PAGE>,
    image_size: u32,
    /// Image bytes accepted, including those in `page`.
    accepted: u32,
    /// Image bytes that were programmed and read back.
    programmed: u32,
    committed_to: u32,
    /// The start of the open object.
    marked_to: u32,
    /// The sectors ahead of `accepted` are erased up to here (image offset, a multiple of the sector size).
    erased_to: u32,
    /// Sectors from `erased_to` up to here read blank, but not all of them can be trusted to stay so.
    blank_to: u32,
    /// Idle clearing has come this far: up to here the slot is blank or was erased.
    cleared_to: u32,
    /// Idle clearing found that the trailer reads blank.
    trailer_cleared: bool,
    /// Below this offset even a sector that reads blank is erased: its last erase may have been cut.
    distrust_blank_below: u32,
    /// This writer erased the sectors of this range (image offsets), and no byte was programmed there since: what a
    /// rewind leaves erased.
    clean: Range<u32>,
    /// Sectors erased since somebody asked.
    erased: u32,
    /// This writer erased the trailer of the slot, and nothing has written one since.
    trailer_erased: bool,
    /// A page of the open object could not be programmed.
    object_lost: bool,
    /// Over the programmed bytes, or fewer of them: then it catches up.
    digest: StreamDigest<H>,
    /// What `digest` was at `committed_to` and at `marked_to`, once it has come so far.
    committed: StreamDigest<H>,
    mark: StreamDigest<H>,
}

impl<H: Sha256> SlotWriter<H> {
    /// A writer that knows nothing about the contents of the slot.
    pub fn new(layout: Layout, digest: H) -> Self {
        let digest = StreamDigest::new(digest);
        Self {
            layout,
            bounds: home(&layout),
            page: Aligned([0xFF; PAGE]),
            image_size: 0,
            accepted: 0,
            programmed: 0,
            committed_to: 0,
            marked_to: 0,
            erased_to: 0,
            blank_to: 0,
            cleared_to: 0,
            trailer_cleared: false,
            distrust_blank_below: 0,
            erased: 0,
            clean: 0..0,
            trailer_erased: false,
            object_lost: false,
            committed: digest.clone(),
            mark: digest.clone(),
            digest,
        }
    }

    /// Starts an image of `image_size` bytes at its first byte, where updates begin. Nothing is erased or written yet.
    ///
    /// # Errors
    /// [`WriteError::OutOfBounds`] when the slot cannot hold it.
    pub fn begin<E>(&mut self, image_size: u32, digest: H) -> Result<(), WriteError<E>> {
        self.go_home();
        self.begin_here(image_size, digest).ok_or(WriteError::OutOfBounds)
    }

    /// [`begin`](Self::begin) elsewhere in the slot.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin), or if the place is too small.
    pub fn begin_at<E>(&mut self, place: Place, image_size: u32, digest: H) -> Result<(), WriteError<E>> {
        self.accepted = 0;
        self.exchange(place);
        self.begin_here(image_size, digest).ok_or(WriteError::OutOfBounds)
    }

    /// `None` if there is no room. Not generic over the flash's error: it is there once.
    #[inline(never)]
    fn begin_here(&mut self, image_size: u32, digest: H) -> Option<()> {
        let [start, end] = self.bounds;
        if image_size > self.layout.max_image_size().min(end - start) {
            return None;
        }
        // Sectors that the last image used are no longer erased: `erased_to` holds only where no byte was accepted.
        if self.accepted > 0 {
            self.use_sectors();
            self.erased_to = 0;
        }
        self.image_size = image_size;
        (self.accepted, self.programmed) = (0, 0);
        (self.committed_to, self.marked_to) = (0, 0);
        self.object_lost = false;
        self.page = Aligned([0xFF; PAGE]);
        self.digest = StreamDigest::new(digest);
        self.committed = self.digest.clone();
        self.mark = self.digest.clone();
        Some(())
    }

    /// Back to where updates begin, if the last file was elsewhere.
    fn go_home(&mut self) {
        let home = home(&self.layout);
        if self.bounds != home {
            let [start, end] = home;
            self.exchange(Place::new(start, end));
        }
    }

    /// Continues elsewhere in the slot; returns the place before. Possible until the first page is programmed, and when the
    /// file there is of no interest any more. Bytes of the file that are in the buffer stay there.
    pub fn exchange(&mut self, place: Place) -> Place {
        let [start, end] = self.bounds;
        let before = Place {
            start,
            end,
            erased_to: self.erased_to,
            distrust_blank_below: self.distrust_blank_below,
        };
        self.use_sectors();
        self.bounds = [place.start, place.end];
        self.erased_to = place.erased_to;
        self.distrust_blank_below = place.distrust_blank_below;
        before
    }

    /// Bytes that were accepted and are not programmed yet.
    pub fn pending(&self) -> &[u8] {
        self.page.0.get(..self.filled()).unwrap_or_default()
    }

    /// Continues after a reset, at the place that [`exchange`](Self::exchange) chose. The first `offset` bytes of an image of
    /// `image_size` bytes are taken as they are in flash; [`catch_up`](Self::catch_up) hashes them later. The next two sectors
    /// will be erased even if they read blank, as the reset may have cut their erase. The mark is set at `mark`, or at
    /// `offset` if that is smaller.
    ///
    /// # Errors
    /// [`WriteError::OutOfBounds`] when the numbers make no sense (they come from flash), or the flash's error.
    pub fn resume<F: NorFlash>(
        &mut self,
        flash: &mut F,
        image_size: u32,
        offset: u32,
        mark: u32,
        digest: H,
    ) -> Result<(), WriteError<F::Error>> {
        let sector = self.sector();
        if offset > image_size || (offset != image_size && !offset.is_multiple_of(sector)) {
            return Err(WriteError::OutOfBounds);
        }
        let trailer = self.layout.secondary_trailer();
        let start = trailer.slot_size() - trailer.trailer_size();
        let is_clear = blank(flash, start, trailer.slot_size()).map_err(WriteError::Flash)?
            && blank(flash, 0, self.layout.upload_offset()).map_err(WriteError::Flash)?;
        // Someone else wrote the trailer. It must be erased before the next byte is written, and image bytes must not
        // be lost with it.
        if !is_clear && offset != image_size && self.slot_offset(offset) > trailer.first_sector() {
            return Err(WriteError::OutOfBounds);
        }
        self.begin_here(image_size, digest)
            .ok_or(WriteError::OutOfBounds)?;
        (self.accepted, self.programmed) = (offset, offset);
        (self.committed_to, self.marked_to) = (offset, mark.min(offset));
        self.erased_to = round_up(offset, sector);
        self.distrust_blank_below = self.erased_to.saturating_add(2 * sector);
        // It is erased once more, unless bytes of the image would go with it.
        self.trailer_erased = is_clear && self.slot_offset(offset) > trailer.first_sector();
        Ok(())
    }

    /// Whether bytes in flash are not hashed yet.
    pub fn is_behind(&self) -> bool {
        self.digest.position() < self.programmed
    }

    /// Hashes bytes that are in flash already: up to one page, and not beyond the image offset `limit`. They go to `seen`,
    /// too. Returns false when there is nothing to do.
    ///
    /// # Errors
    /// The flash's error.
    pub fn catch_up<F: NorFlash>(
        &mut self,
        flash: &mut F,
        limit: u32,
        seen: impl FnOnce(&[u8]),
    ) -> Result<bool, WriteError<F::Error>> {
        let from = self.digest.position();
        // Where somebody may roll back to, a snapshot is taken.
        let stops = [self.marked_to, self.committed_to];
        let mut to = self.programmed.min(limit).min(from.saturating_add(PAGE as u32));
        for stop in stops {
            if stop > from {
                to = to.min(stop);
            }
        }
        let mut page = Aligned([0; PAGE]);
        let Some(bytes) = page.0.get_mut(..to.saturating_sub(from) as usize) else {
            return Ok(false);
        };
        if bytes.is_empty() {
            return Ok(false);
        }
        read_bytes(flash, self.slot_offset(from), bytes).map_err(WriteError::Flash)?;
        self.digest.update(bytes);
        if to == self.marked_to {
            self.mark = self.digest.clone();
        }
        if to == self.committed_to {
            self.committed = self.digest.clone();
        }
        seen(bytes);
        Ok(true)
    }

    /// Sectors are in use now: what was known about blank ones no longer holds.
    fn use_sectors(&mut self) {
        (self.blank_to, self.cleared_to) = (0, 0);
        self.clean = 0..0;
    }

    /// Image bytes accepted so far.
    pub fn position(&self) -> u32 {
        self.accepted
    }

    /// Bytes from [`position`](Self::position) on that can be written without an erase; `u32::MAX` if no more erase is
    /// needed for this image.
    pub fn erased_ahead(&self) -> u32 {
        if self.trailer_erased && self.erased_to >= self.image_size {
            return u32::MAX;
        }
        self.erased_to.saturating_sub(self.accepted)
    }

    /// Image bytes that are committed.
    pub fn committed(&self) -> u32 {
        self.committed_to
    }

    /// Erases until the next `length` bytes can be written: first the trailer, then sector by sector.
    ///
    /// # Errors
    /// The flash's error, after a second try.
    pub fn prepare<F: NorFlash>(&mut self, flash: &mut F, length: u32) -> Result<(), WriteError<F::Error>> {
        self.prepare_by(flash, length, Erase::Sectors)
    }

    /// [`prepare`](Self::prepare) with erases of this size. A block may reach beyond `length`.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_by<F: NorFlash>(
        &mut self,
        flash: &mut F,
        length: u32,
        erase: Erase,
    ) -> Result<(), WriteError<F::Error>> {
        let end = self
            .accepted
            .checked_add(length)
            .filter(|&end| end <= self.image_size);
        let end = end.ok_or(WriteError::OutOfBounds)?;
        while !self.trailer_erased || self.erased_to < end {
            self.erase_next(flash, erase)?;
        }
        Ok(())
    }

    /// Sectors of the image that were erased since the last call; blank ones are not.
    pub fn take_erased(&mut self) -> u32 {
        core::mem::take(&mut self.erased)
    }

    /// Does one erase ahead of the data, for when there is nothing else to do: up to `ahead` bytes beyond what was
    /// accepted, never beyond the image. Returns false when there is nothing to erase.
    ///
    /// # Errors
    /// The flash's error. The sector is tried again when it is needed.
    pub fn erase_ahead<F: NorFlash>(
        &mut self,
        flash: &mut F,
        ahead: u32,
        erase: Erase,
    ) -> Result<bool, WriteError<F::Error>> {
        let end = self.accepted.saturating_add(ahead).min(self.image_size);
        if self.trailer_erased && self.erased_to >= end {
            return Ok(false);
        }
        self.erase_next(flash, erase)?;
        Ok(true)
    }

    /// Does one step of clearing the slot while the device is idle: the trailer first, then up to `block` bytes at a
    /// time (a power of two of sectors), as far as the largest image reaches. It is for a slot whose contents nobody
    /// needs any more. Returns false when the slot is clear.
    ///
    /// # Errors
    /// The flash's error.
    pub fn clear_step<F: NorFlash>(
        &mut self,
        flash: &mut F,
        block: u32,
    ) -> Result<bool, WriteError<F::Error>> {
        self.go_home();
        if self.accepted > 0 {
            self.use_sectors();
            (self.accepted, self.programmed) = (0, 0);
            self.erased_to = 0;
            self.image_size = 0;
        }
        if !self.trailer_erased && !self.trailer_cleared {
            let trailer = self.layout.secondary_trailer();
            let (from, to) = (trailer.first_sector(), trailer.slot_size());
            let head = self.layout.upload_offset();
            self.trailer_cleared = blank(flash, from, to).map_err(WriteError::Flash)?
                && blank(flash, 0, head).map_err(WriteError::Flash)?;
            if !self.trailer_cleared {
                self.erase_trailer(flash)?;
            }
            return Ok(true);
        }
        let end = self.layout.max_image_size();
        let from = self.erased_to.max(self.cleared_to);
        if from >= end {
            return Ok(false);
        }
        let to = round_up(from + 1, block.max(self.sector())).min(round_up(end, self.sector()));
        let (start, behind) = (self.slot_offset(from), self.slot_offset(to));
        if from < self.distrust_blank_below || !blank(flash, start, behind).map_err(WriteError::Flash)? {
            if from > self.erased_to && from > self.distrust_blank_below {
                // This used sector follows blank ones. Once it is erased, nothing shows that those ended in front of a
                // used sector, so they are erased first.
                self.distrust_blank_below = from;
                self.cleared_to = self.erased_to.max(from.saturating_sub(LARGEST_ERASE));
                return Ok(true);
            }
            flash.erase(start, behind).map_err(WriteError::Flash)?;
            if self.erased_to == from {
                self.erased_to = to;
            }
        }
        self.cleared_to = to;
        self.blank_to = self.blank_to.max(to);
        Ok(true)
    }

    /// Accepts the next bytes of the image. [`prepare`](Self::prepare) must have made room for them.
    ///
    /// # Errors
    /// [`WriteError::OutOfBounds`] if there are too many bytes; none is accepted then. The flash's error if a full page
    /// could not be programmed. The object is lost then, and [`SlotWriter::flush`] will say so. Until
    /// [`SlotWriter::rewind`], bytes are counted and dropped, so that offsets stay equal to those of the peer.
    pub fn accept<F: NorFlash>(
        &mut self,
        flash: &mut F,
        mut bytes: &[u8],
    ) -> Result<(), WriteError<F::Error>> {
        let limit = self.erased_to.min(self.image_size);
        let end = u32::try_from(bytes.len())
            .ok()
            .and_then(|length| self.accepted.checked_add(length));
        let end = end.filter(|&end| end <= limit).ok_or(WriteError::OutOfBounds)?;
        self.cleared_to = 0;
        if self.object_lost {
            self.accepted = end;
            return Ok(());
        }
        while !bytes.is_empty() {
            let filled = self.filled();
            let (now, later) = bytes.split_at(bytes.len().min(PAGE - filled));
            if let Some(free) = self.page.0.get_mut(filled..filled + now.len()) {
                free.copy_from_slice(now);
            }
            self.accepted += now.len() as u32;
            bytes = later;
            if filled + now.len() == PAGE {
                self.program_page(flash, PAGE)
                    .inspect_err(|_| self.accepted = end)?;
            }
        }
        Ok(())
    }

    /// Programs what is left in the page buffer. Only the end of an image may leave a partial page; it is padded with
    /// 0xFF to the flash's write size. Does nothing if everything accepted is in flash already.
    ///
    /// # Errors
    /// [`WriteError::ObjectLost`] if an earlier page failed, [`WriteError::OutOfBounds`] if a page is partial in the
    /// middle of the image; else the flash's error.
    pub fn flush<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), WriteError<F::Error>> {
        if self.object_lost {
            return Err(WriteError::ObjectLost);
        }
        if self.programmed == self.accepted {
            return Ok(());
        }
        if self.accepted != self.image_size {
            return Err(WriteError::OutOfBounds);
        }
        self.program_page(flash, self.filled())
    }

    /// Notes that everything accepted is in flash, and commits it.
    pub fn commit(&mut self) {
        self.committed_to = self.programmed;
        if !self.is_behind() {
            self.committed = self.digest.clone();
        }
    }

    /// Marks the committed bytes: the next object begins behind them.
    pub fn mark(&mut self) {
        self.marked_to = self.committed_to;
        if self.digest.position() >= self.marked_to {
            self.mark = self.committed.clone();
        }
    }

    /// Image bytes up to the mark.
    pub fn marked(&self) -> u32 {
        self.marked_to
    }

    /// Drops everything that is not committed. The sectors that held it will be erased again, even if they read blank.
    pub fn rewind(&mut self) {
        let committed = self.committed();
        if self.accepted != committed {
            let sector = self.sector();
            let used_to = round_up(self.accepted, sector);
            self.cleared_to = 0;
            self.distrust_blank_below = self.distrust_blank_below.max(used_to);
            self.clean = if self.clean.contains(&self.erased_to) {
                used_to.max(self.clean.start)..self.clean.end
            } else if self.erased_to < self.clean.start {
                self.clean.clone()
            } else {
                used_to..self.erased_to
            };
            self.erased_to = round_up(committed, sector);
        }
        (self.accepted, self.programmed) = (committed, committed);
        self.object_lost = false;
        self.page = Aligned([0xFF; PAGE]);
        if self.digest.position() > committed {
            self.digest = self.committed.clone();
        }
    }

    /// The same back to the mark.
    pub fn rewind_to_mark(&mut self) {
        self.committed_to = self.marked_to;
        if self.digest.position() >= self.marked_to {
            self.committed = self.mark.clone();
        }
        self.rewind();
    }

    /// The digests over the bytes in flash, as far as they are hashed ([`is_behind`](Self::is_behind)).
    pub fn digest(&self) -> &StreamDigest<H> {
        &self.digest
    }

    /// To be called when someone else wrote a trailer, or may have written anything: it is no longer known what is
    /// erased.
    pub fn forget_erased(&mut self) {
        self.use_sectors();
        self.trailer_cleared = false;
        self.trailer_erased = false;
        self.erased_to = 0;
    }

    fn sector(&self) -> u32 {
        self.layout.secondary().sector_size
    }

    /// Where a byte of the image is in the slot.
    pub fn slot_offset(&self, image_offset: u32) -> u32 {
        let [start, _] = self.bounds;
        start + image_offset
    }

    fn filled(&self) -> usize {
        self.accepted as usize % PAGE
    }

    fn erase_next<F: NorFlash>(&mut self, flash: &mut F, erase: Erase) -> Result<(), WriteError<F::Error>> {
        // The old trailer is erased before the first byte is written: a half-written slot must never look like a
        // pending update.
        if !self.trailer_erased {
            return self.erase_trailer(flash);
        }
        let (from, sector) = (self.erased_to, self.sector());
        let mut to = from + sector;
        let is_clean = self.clean.contains(&from) && to <= self.clean.end;
        if !is_clean && (from < self.distrust_blank_below || !self.is_blank_for_sure(flash, from)?) {
            let (start, block) = (self.slot_offset(from), from.saturating_add(LARGEST_ERASE));
            if erase == Erase::Blocks
                && start.is_multiple_of(LARGEST_ERASE)
                && block <= round_up(self.image_size, sector)
            {
                to = block;
            }
            flash
                .erase(start, self.slot_offset(to))
                .map_err(WriteError::Flash)?;
            self.erased = self.erased.saturating_add((to - from) / sector);
        }
        self.erased_to = to;
        Ok(())
    }

    fn erase_trailer<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), WriteError<F::Error>> {
        let trailer = self.layout.secondary_trailer();
        erase_trailer(flash, &trailer).map_err(WriteError::Flash)?;
        self.clear_head(flash)?;
        self.trailer_erased = true;
        Ok(())
    }

    /// Erases what is in front of an update. Swap using offset leaves the previous image there, and the boot stage
    /// would refuse an update that follows one.
    ///
    /// # Errors
    /// [`WriteError::Flash`].
    pub fn clear_head<F: NorFlash>(&mut self, flash: &mut F) -> Result<(), WriteError<F::Error>> {
        let head = self.layout.upload_offset();
        if !blank(flash, 0, head).map_err(WriteError::Flash)? {
            flash.erase(0, head).map_err(WriteError::Flash)?;
        }
        Ok(())
    }

    /// Whether the sector at image offset `from` is blank and no erase can have been cut there: the next used sector is
    /// far above it, and it is not the last sector. Each sector is read once.
    fn is_blank_for_sure<F: NorFlash>(
        &mut self,
        flash: &mut F,
        from: u32,
    ) -> Result<bool, WriteError<F::Error>> {
        let sector = self.sector();
        let [start, end] = self.bounds;
        let end = end - start;
        let wanted = from.saturating_add(sector).saturating_add(LARGEST_ERASE);
        self.blank_to = self.blank_to.max(from);
        while self.blank_to < wanted {
            if self.blank_to >= end {
                return Ok(from + sector < end);
            }
            let start = self.slot_offset(self.blank_to);
            if !blank(flash, start, start + sector).map_err(WriteError::Flash)? {
                return Ok(false);
            }
            self.blank_to += sector;
        }
        Ok(true)
    }

    /// Programs the first `filled` bytes of the page buffer, reads them back, and empties the buffer.
    fn program_page<F: NorFlash>(
        &mut self,
        flash: &mut F,
        filled: usize,
    ) -> Result<(), WriteError<F::Error>> {
        self.object_lost = true;
        let offset = self.accepted - filled as u32;
        let start = self.slot_offset(offset);
        let length = filled.next_multiple_of(F::WRITE_SIZE);
        let bytes = self.page.0.get(..length).ok_or(WriteError::OutOfBounds)?;
        let mut back = Aligned([0; PAGE]);
        let back = back.0.get_mut(..length).ok_or(WriteError::OutOfBounds)?;

        // Only what reads back counts. A page that differs may be programmed once more with the same bytes, which
        // clears the bits that the first try did not clear, unless the write units are too wide for that. And a page that
        // was read wrongly once is not wrong.
        'written: for _ in 0..=u8::from(programs_again::<F>()) {
            flash.write(start, bytes).map_err(WriteError::Flash)?;
            for _ in 0..READINGS {
                read_bytes(flash, start, back).map_err(WriteError::Flash)?;
                if back == bytes {
                    break 'written;
                }
            }
        }
        if back != bytes {
            return Err(WriteError::ReadBack { offset });
        }
        if self.digest.position() == offset {
            self.digest.update(back.get(..filled).unwrap_or_default());
        }
        self.programmed = self.accepted;
        self.page = Aligned([0xFF; PAGE]);
        self.object_lost = false;
        Ok(())
    }
}

/// Where updates begin, and behind the last sector of the largest one.
fn home(layout: &Layout) -> [u32; 2] {
    let start = layout.upload_offset();
    let sector = layout.secondary().sector_size;
    [start, start + round_up(layout.max_image_size(), sector)]
}

#[cfg(test)]
mod tests;
