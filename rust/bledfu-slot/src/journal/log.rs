// SPDX-License-Identifier: Apache-2.0
//! The append log under the journal: values with a key, in cells of 32 bytes. The format is drawn in
//! [`journal`](super); this file says why it is safe.
//!
//! # Rules
//! 1. A page is only written by the power cycle that erased it, from its start and without a gap. So the first store
//!    after a start moves to the next page, and no cell is programmed that an earlier power cut may have left weak.
//! 2. The first cell of a value, its head, is programmed last, after the others were read back. A value counts when its
//!    head is valid.
//! 3. Of two values with the same key, the one with the higher sequence number counts, in whichever page it is.
//! 4. A move erases the next page and copies all values that count, with their numbers. The page they come from is not
//!    touched before the mark of rule 5 reads back, so at every moment one page has all of them. After that the page for
//!    the next move may be erased ahead.
//! 5. After the copies, a move writes a mark, which only takes the next number. A page without one may hold a copy that
//!    is torn, reads as valid now and not after the next start; the page that it came from must not be erased for it.
//!    And the number of a torn value, which reads as blank now and as valid later, may only be given again to a mark.
//!
//! # What remains
//! A cell that is damaged later is lost, and then an older value of its key counts again. So it may be after a chain of
//! cuts, one of them in a mark and the next one in an erase, if the cells of both then read as before and as after in
//! the wrong order. A session that is cut, not seen when it is closed, and seen again later is open then. In external flash all of it
//! may be forged. So whoever reads a value must be safe with an old or a forged one.

use embedded_storage::nor_flash::{NorFlash, NorFlashError};

use super::{JournalError, MAX_SESSION};
use crate::crc32::crc32;
use crate::flash::{is_erased, read_bytes, Aligned, MAX_WRITE_SIZE};
use crate::layout::MAX_IMAGE_NUMBER;
use crate::retry::blank;

/// Bytes of a cell: a multiple of every write unit.
const CELL: usize = 32;
/// Value bytes of a cell.
const VALUE: usize = 20;
/// Where the value begins in a cell, after format, key, bytes left and sequence number.
const START: usize = 8;
/// Where the check begins in a cell.
const CHECK: usize = START + VALUE;

const FORMAT: u8 = 0xB1;

/// Bit of a key: the cell is not the first one of its value.
const REST: u8 = 8;
/// Kinds of values, in the low bits of a key.
const KINDS: u8 = 4;
/// Key of a cell that only takes a number.
const MARK: u8 = 4;
/// Places for the values of all images.
const KEYS: usize = (MAX_IMAGE_NUMBER as usize + 1) * 4;

/// A page has this many bytes if its flash has small sectors.
const PAGE_SIZE: u32 = 4096;
/// A longer area is not used up to its end. Bounded so that a set of pages fits into a byte.
const MAX_PAGES: u32 = 8;
/// Cells of one image: a longest session, progress, versions, which take two, and an intent, which takes three.
const IMAGE_CELLS: u32 = LONGEST + 6;
/// Cells of the longest value.
const LONGEST: u32 = MAX_SESSION.div_ceil(VALUE) as u32;
/// A page must have room for all cells of one image, the mark, and the longest value once more.
const MIN_CELLS: u32 = IMAGE_CELLS + 1 + LONGEST;

/// Cells with a higher number are not valid.
const HIGHEST: u32 = 1 << 31;
/// From here on, a move begins with number 0 in an empty area. No flash lives long enough to get there, so somebody has
/// written the number there.
const TOO_HIGH: u32 = HIGHEST / 2;

const _: () = assert!(CELL.is_multiple_of(MAX_WRITE_SIZE) && CHECK + 4 == CELL);

/// A cell whose check is right.
struct Cell(Aligned<CELL>);

impl Cell {
    fn new(key: u8, left: usize, sequence: u32, value: &[u8]) -> Self {
        let mut cell = Self(Aligned::erased());
        let [low, high] = (left as u16).to_le_bytes();
        cell.put(0, &[FORMAT, key, low, high]);
        cell.put(4, &sequence.to_le_bytes());
        cell.put(START, value);
        let check = cell.check();
        cell.put(CHECK, &check);
        cell
    }

    #[inline(never)]
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0 .0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn check(&self) -> [u8; 4] {
        let mut crc = crc32();
        crc.update(self.0 .0.get(..CHECK).unwrap_or_default());
        crc.finalize().to_le_bytes()
    }

    fn word(&self, at: usize) -> [u8; 4] {
        let word = self.0 .0.get(at..).and_then(|bytes| bytes.first_chunk());
        *word.unwrap_or(&[0; 4])
    }

    fn is_valid(&self) -> bool {
        let [format, ..] = self.word(0);
        format == FORMAT && self.sequence() < HIGHEST && self.word(CHECK) == self.check()
    }

    /// Kind and image number.
    fn key(&self) -> u8 {
        let [_, key, ..] = self.word(0);
        key
    }

    /// Bytes of the value from the start of this cell to the end of the value.
    fn left(&self) -> u16 {
        let [_, _, low, high] = self.word(0);
        u16::from_le_bytes([low, high])
    }

    fn sequence(&self) -> u32 {
        u32::from_le_bytes(self.word(4))
    }

    fn value(&self) -> &[u8] {
        self.0 .0.get(START..CHECK).unwrap_or_default()
    }

    /// Whether it is the first cell of a value.
    fn is_head(&self) -> bool {
        self.key() & REST == 0
    }

    /// The place in [`Contents`] of the value that this cell belongs to; `None` for a cell without a value.
    fn place(&self) -> Option<usize> {
        let key = self.key();
        (key & (REST - 1) < KINDS).then(|| place_of(key))
    }
}

/// The place of a value in [`Contents`].
fn place_of(key: u8) -> usize {
    usize::from(key >> 2 & 0x3C | key & 3)
}

/// What a place of the log holds.
enum Found {
    Blank,
    Damaged,
    Valid(Cell),
}

/// What counts, for each place. It has 328 bytes, so it is filled where it is, and never returned.
pub(super) struct Contents {
    /// Sequence numbers.
    numbers: [u32; KEYS],
    /// The pages that have the head, one bit for each; 0 if there is no value.
    pages: [u8; KEYS],
    /// The highest number of all cells.
    sequence: u32,
    /// A page that has all values.
    home: u32,
}

impl Contents {
    pub(super) const fn new() -> Self {
        Self {
            numbers: [0; KEYS],
            pages: [0; KEYS],
            sequence: 0,
            home: 0,
        }
    }

    /// Whether the cell belongs to a value that counts.
    fn counts(&self, cell: &Cell) -> bool {
        let number = cell.place().and_then(|place| self.numbers.get(place));
        number == Some(&cell.sequence())
    }
}

/// Where the next cell goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    page: u32,
    index: u32,
    /// Number of the cell before it.
    sequence: u32,
    /// This power cycle has erased the page after this one, and nothing was written there since.
    is_ahead: bool,
}

/// The log on one flash.
pub(super) struct Log<'f, F> {
    flash: &'f mut F,
    page_size: u32,
    pages: u32,
}

impl<'f, F: NorFlash> Log<'f, F> {
    /// The log on the whole of `flash`.
    #[inline(never)]
    pub(super) fn new(flash: &'f mut F) -> Result<Self, JournalError> {
        let sector = F::ERASE_SIZE as u32;
        let size = u32::try_from(flash.capacity()).map_err(|_| JournalError::BadArea)?;
        let half = size / sector / 2 * sector;
        let page_size = half.min(PAGE_SIZE.next_multiple_of(sector));
        if !size.is_multiple_of(sector) || page_size / (CELL as u32) < MIN_CELLS {
            return Err(JournalError::BadArea);
        }
        Ok(Self {
            flash,
            page_size,
            pages: (size / page_size).min(MAX_PAGES),
        })
    }

    fn cells(&self) -> u32 {
        self.page_size / CELL as u32
    }

    fn offset(&self, page: u32, index: u32) -> u32 {
        page * self.page_size + index * CELL as u32
    }

    /// Reads a place until it is valid, or was found blank or damaged twice: one wrong read must not lose a value.
    #[inline(never)]
    fn read(&mut self, page: u32, index: u32) -> Result<Found, JournalError> {
        let at = self.offset(page, index);
        let mut cell = Cell(Aligned::erased());
        let mut seen = [false; 2];
        loop {
            read_bytes(self.flash, at, &mut cell.0 .0).map_err(flash_failed)?;
            if cell.is_valid() {
                return Ok(Found::Valid(cell));
            }
            let is_blank = is_erased(&cell.0 .0);
            let [blank, damaged] = &mut seen;
            let (before, result) = match is_blank {
                true => (blank, Found::Blank),
                false => (damaged, Found::Damaged),
            };
            if core::mem::replace(before, true) {
                return Ok(result);
            }
        }
    }

    /// Visits the valid cells of all pages. A page ends at its first blank place.
    #[inline(never)]
    fn each(&mut self, visit: &mut dyn FnMut(u32, &Cell)) -> Result<(), JournalError> {
        for page in 0..self.pages {
            for index in 0..self.cells() {
                match self.read(page, index)? {
                    Found::Blank => break,
                    Found::Damaged => {}
                    Found::Valid(cell) => visit(page, &cell),
                }
            }
        }
        Ok(())
    }

    /// Reads all pages into `found`, which must be [new](Contents::new).
    #[inline(never)]
    pub(super) fn survey(&mut self, found: &mut Contents) -> Result<(), JournalError> {
        let mut marks = [0; MAX_PAGES as usize];
        self.each(&mut |page, cell| {
            let number = cell.sequence();
            found.sequence = found.sequence.max(number);
            let Some(place) = cell.place() else {
                if let Some(mark) = marks.get_mut(page as usize) {
                    *mark = number;
                }
                return;
            };
            let newest = found.numbers.get_mut(place).zip(found.pages.get_mut(place));
            if let Some((newest, pages)) = newest.filter(|_| cell.is_head()) {
                if number > *newest {
                    (*newest, *pages) = (number, 0);
                }
                if number == *newest {
                    *pages |= 1 << page;
                }
            }
        })?;
        let with_all = found
            .pages
            .iter()
            .filter(|&&pages| pages != 0)
            .fold(u8::MAX, |all, pages| all & pages);
        // Of the pages with all values, the one that was marked last: another one may be half erased. If no page has all
        // values, because cells are damaged, the one that was marked last has most of them.
        let mut best = (false, 0);
        for (page, mark) in (0..self.pages).zip(marks) {
            let rank = (with_all & 1 << page != 0, mark);
            // In an empty log, the last page, so that the first move goes to the first one.
            if rank >= best {
                (best, found.home) = (rank, page);
            }
        }
        Ok(())
    }

    /// Number and length of the value that counts; 0 if there is none.
    #[inline(never)]
    fn newest(&mut self, key: u8) -> Result<(u32, usize), JournalError> {
        let mut newest = (0, 0);
        self.each(&mut |_, cell| {
            let is_wanted = cell.is_head() && cell.place() == Some(place_of(key));
            if is_wanted && cell.sequence() > newest.0 {
                newest = (cell.sequence(), usize::from(cell.left()));
            }
        })?;
        Ok(newest)
    }

    /// Whether there is a value of at least one byte.
    pub(super) fn has(&mut self, key: u8) -> Result<bool, JournalError> {
        Ok(self.newest(key)?.1 > 0)
    }

    /// Copies a value to `out` and returns it; empty if there is none, if not all of it can be read, or if it is longer
    /// than `out`.
    #[inline(never)]
    pub(super) fn value<'o>(&mut self, key: u8, out: &'o mut [u8]) -> Result<&'o [u8], JournalError> {
        let wanted = place_of(key);
        let (number, length) = self.newest(key)?;
        if length > out.len() {
            return Ok(&[]);
        }
        // One bit for each cell.
        let mut found = 0u32;
        self.each(&mut |_, cell| {
            if cell.sequence() != number || cell.place() != Some(wanted) {
                return;
            }
            let at = length.checked_sub(usize::from(cell.left()));
            let part = at.and_then(|at| out.get_mut(at..length));
            if let (Some(at), Some(part)) = (at, part) {
                for (to, from) in part.iter_mut().zip(cell.value()) {
                    *to = *from;
                }
                found |= 1 << (at / VALUE);
            }
        })?;
        let all = (1 << length.div_ceil(VALUE)) - 1;
        Ok(match found & all == all {
            true => out.get(..length).unwrap_or_default(),
            false => &[],
        })
    }

    /// Appends a value behind the cell of `next`.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] if there is no room, if the cell before it is not the one that was written, or if the
    /// value does not read back; else the flash's error. Only a move helps then.
    #[inline(never)]
    pub(super) fn append(&mut self, next: &mut Next, key: u8, value: &[u8]) -> Result<(), JournalError> {
        let before = self.read(next.page, next.index.wrapping_sub(1))?;
        let is_ours = matches!(before, Found::Valid(cell) if cell.sequence() == next.sequence);
        if !is_ours || !self.has_room(next, cells_of(value)) {
            return Err(JournalError::NotKept);
        }
        let sequence = next.sequence + 1;
        let (head, rest) = value.split_at_checked(VALUE).unwrap_or((value, &[]));
        for (i, part) in rest.chunks(VALUE).enumerate().rev() {
            let cell = Cell::new(key | REST, rest.len() - i * VALUE, sequence, part);
            self.write(next, &cell)?;
        }
        self.write(next, &Cell::new(key, value.len(), sequence, head))?;
        next.sequence = sequence;
        Ok(())
    }

    /// Whether this many cells fit into the page.
    pub(super) fn has_room(&self, next: &Next, cells: u32) -> bool {
        next.index + cells <= self.cells()
    }

    /// Moves to the next page, where `room` cells remain free. Values of the image with number `image` have priority: if
    /// somebody has forged more values than fit into a page, those of other images are left out.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] if the page is not erased or a copy does not read back; else the flash's error. The
    /// values are still where they were.
    #[inline(never)]
    pub(super) fn move_on(&mut self, image: u8, room: u32, last: Option<Next>) -> Result<Next, JournalError> {
        let mut contents = Contents::new();
        self.survey(&mut contents)?;
        let mut erased = last
            .filter(|last| last.is_ahead)
            .map(|last| self.page_after(last.page));
        if contents.sequence >= TOO_HIGH {
            self.erase_all()?;
            contents = Contents::new();
            self.survey(&mut contents)?;
            erased = None;
        }
        let home = contents.home;
        let page = self.page_after(home);
        let (start, end) = self.page(page);
        if erased != Some(page) || !blank(self.flash, start, end).map_err(flash_failed)? {
            self.erase(start, end)?;
        }
        let mut next = Next {
            page,
            index: 0,
            sequence: contents.sequence + 1,
            is_ahead: false,
        };
        for index in 0..self.cells() {
            let cell = match self.read(home, index)? {
                Found::Blank => break,
                Found::Damaged => continue,
                Found::Valid(cell) => cell,
            };
            let reserved = if cell.key() >> 4 == image {
                1
            } else {
                1 + IMAGE_CELLS
            };
            if contents.counts(&cell) && self.has_room(&next, 1 + reserved + room) {
                self.write(&mut next, &cell)?;
            }
        }
        let mark = Cell::new(MARK, 0, next.sequence, &[]);
        self.write(&mut next, &mark)?;
        Ok(next)
    }

    /// Erases the page of the next move, so that it need not be erased then; returns false if it is erased already. `next`
    /// must come from a move.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] if the page is not erased; else the flash's error. The move will try again.
    pub(super) fn erase_ahead(&mut self, next: &mut Next) -> Result<bool, JournalError> {
        if next.is_ahead {
            return Ok(false);
        }
        let (start, end) = self.page(self.page_after(next.page));
        self.erase(start, end)?;
        next.is_ahead = true;
        Ok(true)
    }

    fn page_after(&self, page: u32) -> u32 {
        if page + 1 < self.pages {
            page + 1
        } else {
            0
        }
    }

    /// Where a page begins and ends.
    fn page(&self, page: u32) -> (u32, u32) {
        let start = self.offset(page, 0);
        (start, start + self.page_size)
    }

    /// Programs a cell and reads it back.
    #[inline(never)]
    fn write(&mut self, next: &mut Next, cell: &Cell) -> Result<(), JournalError> {
        let at = self.offset(next.page, next.index);
        if !matches!(self.read(next.page, next.index)?, Found::Blank) {
            return Err(JournalError::NotKept);
        }
        self.flash.write(at, &cell.0 .0).map_err(flash_failed)?;
        match self.read(next.page, next.index)? {
            Found::Valid(back) if back.0 == cell.0 => {}
            _ => return Err(JournalError::NotKept),
        }
        next.index += 1;
        Ok(())
    }

    pub(super) fn erase_all(&mut self) -> Result<(), JournalError> {
        self.erase(0, self.flash.capacity() as u32)
    }

    /// Erases, and erases once more if anything is left.
    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), JournalError> {
        for _ in 0..2 {
            self.flash.erase(from, to).map_err(flash_failed)?;
            if blank(self.flash, from, to).map_err(flash_failed)? {
                return Ok(());
            }
        }
        Err(JournalError::NotKept)
    }
}

/// Number of cells that a value takes.
pub(super) fn cells_of(value: &[u8]) -> u32 {
    value.len().div_ceil(VALUE).max(1) as u32
}

fn flash_failed<E: NorFlashError>(error: E) -> JournalError {
    JournalError::Flash(error.kind())
}
