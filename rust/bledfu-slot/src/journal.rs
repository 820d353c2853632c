// SPDX-License-Identifier: Apache-2.0
//! What survives a reset in the middle of an update: the open session, its progress, and which firmware versions are
//! installed.
//!
//! The records are values of an append log on at least two flash sectors of its own. All numbers are little-endian.
//!
//! ```text
//! area   | page 0 | page 1 | ...          a page is one sector, or 4 KiB of smaller ones; the pages take turns
//! page   | cell | cell | ... | ff ...
//!
//! cell, 32 bytes, programmed at once
//!   0  b1                format
//!   1  nk                n: number of the image, 0 for the application; k: kind, + 8 if not the first cell of its value
//!   2  nn nn             bytes of the value from here to its end; the cell holds the first 20 of them
//!   4  nn nn nn nn       sequence number, the same in all cells of a value; below 80000000
//!   8  20 bytes          value, filled with ff
//!  28  nn nn nn nn       CRC-32 of bytes 0 to 27
//!
//! kind 0  session    the init packet as received, 1 to 512 bytes; 0 bytes: no session
//!      1  progress   session u32 | offset u32 | check u32        (CRC-32 of image[..offset], or another check)
//!      2  versions   base fw u32 | base digest 8 bytes | staged fw u32 | staged digest 8 bytes
//!      3  intent     digest of a packed update 32 bytes | digest of its image 8 bytes | CRC-32 u32 | flags u8
//!                    (1: for good, 2: a reset follows, 4: by SMP); 0 bytes: none
//!      4  only a number: the end of the copies in a page
//! The cells of a value are in reverse order: the first one is written last.
//! ```
//! Of each kind and image, the value with the highest number counts. When a page is full, and at the first store after
//! a start, what counts is copied to the next page, which is erased just before. Why no power cut can hurt is said in
//! `journal/log.rs`. Each cell is read back. If one differs, the store moves to the next page and is tried there; if
//! that fails as well, it is an error.
//!
//! `session` in the progress record is the CRC-32 of the init packet it belongs to, so that progress of an older
//! session is never taken for that of a newer one, whatever was cut between the two writes.
//!
//! Anyone with a probe on the board can rewrite external flash, so a record proves nothing: an init packet from here is
//! validated again, and the image bytes are hashed again. Bytes in another format, such as that of another journal, are
//! no records; the first store erases them.

mod log;

use core::borrow::BorrowMut;

use bledfu_text::{words, Line, Text};
use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};

use self::log::{cells_of, Contents, Log, Next};
use crate::crc32::crc32;
use crate::layout::MAX_IMAGE_NUMBER;

/// Size of the longest init packet that the journal keeps, in bytes.
pub const MAX_SESSION: usize = 512;

const KEY_SESSION: u8 = 0;
const KEY_PROGRESS: u8 = 1;
const KEY_VERSIONS: u8 = 2;
const KEY_INTENT: u8 = 3;

/// Why the journal could not do what was asked. None of these errors endangers an image: without a journal, an update
/// that a reset interrupts starts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// The flash failed.
    Flash(NorFlashErrorKind),
    /// The area is not a whole number of sectors, or not at least two of them with 3.7 KiB.
    BadArea,
    /// A sector does not read as erased after an erase, or a record does not read back in it.
    NotKept,
    /// The journal has stopped writing because an earlier record did not read back.
    Off,
    /// The init packet is empty or has more than [`MAX_SESSION`] bytes.
    BadSession,
}

impl Text for JournalError {
    fn put(&self, line: &mut dyn Line) {
        match self {
            Self::Flash(_) => words!("the journal's flash failed").put(line),
            Self::BadArea => {
                words!("the journal needs at least two whole flash sectors, and 3.7 KiB").put(line)
            }
            Self::NotKept => words!("the journal does not keep what is written").put(line),
            Self::Off => words!("the journal is off until the next start").put(line),
            Self::BadSession => words!("a journal session has 1 to 512 bytes").put(line),
        }
    }
}

bledfu_text::display!(JournalError);

impl core::error::Error for JournalError {}

/// How far the session has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the image that are in flash and were read back.
    pub offset: u32,
    /// A check value over these bytes: their CRC-32, or another one that the protocol chose.
    pub check: u32,
}

/// One installed firmware: its version number as in the init packet, and the first bytes of its image's SHA-256, by
/// which it is recognised when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed {
    /// `fw_version` of the init packet that brought it.
    pub fw_version: u32,
    /// First 8 bytes of the image digest.
    pub digest: [u8; 8],
}

/// Which firmware was installed before, and which one was staged last. The running one is recognised by its digest, so
/// the answer is still right after a revert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The firmware that ran when `staged` was received.
    pub base: Installed,
    /// The firmware that was received last.
    pub staged: Installed,
}

impl Versions {
    fn to_words(self) -> [u32; 6] {
        let [b0, b1] = digest_words(self.base.digest);
        let [s0, s1] = digest_words(self.staged.digest);
        [self.base.fw_version, b0, b1, self.staged.fw_version, s0, s1]
    }

    fn from_words([base, b0, b1, staged, s0, s1]: [u32; 6]) -> Self {
        Self {
            base: Installed {
                fw_version: base,
                digest: digest_bytes([b0, b1]),
            },
            staged: Installed {
                fw_version: staged,
                digest: digest_bytes([s0, s1]),
            },
        }
    }

    /// The version of the image whose digest begins with `digest`, if it is one of the two.
    pub fn of(&self, digest: &[u8; 8]) -> Option<u32> {
        [self.staged, self.base]
            .iter()
            .find(|image| image.digest == *digest)
            .map(|image| image.fw_version)
    }
}

/// What a peer was told about a packed update before its image was whole: the image will be staged. It also says which
/// image was made of which file, so that a peer that knows only the file recognises its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What the peer knows the packed update by: over SMP its digest, as an image has one; else the SHA-256 of the file.
    pub file: [u8; 32],
    /// First 8 bytes of the digest of the image that is made.
    pub image: [u8; 8],
    /// CRC-32 of the packed update; only over Secure DFU.
    pub crc: u32,
    /// The image is installed for good, without a trial.
    pub is_permanent: bool,
    /// The device resets when the image is staged, without being asked again.
    pub resets: bool,
    /// SMP began it, which knows images by their digests.
    pub by_smp: bool,
}

impl Intent {
    const SIZE: usize = 45;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let flags = u8::from(self.is_permanent) | u8::from(self.resets) << 1 | u8::from(self.by_smp) << 2;
        let mut bytes = [flags; Self::SIZE];
        if let Some((file, rest)) = bytes.split_first_chunk_mut() {
            *file = self.file;
            if let Some((image, rest)) = rest.split_first_chunk_mut() {
                *image = self.image;
                if let Some(crc) = rest.first_chunk_mut() {
                    *crc = self.crc.to_le_bytes();
                }
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (file, rest) = bytes.split_first_chunk()?;
        let (image, rest) = rest.split_first_chunk()?;
        let (crc, &[flags]) = rest.split_first_chunk()? else {
            return None;
        };
        Some(Self {
            file: *file,
            image: *image,
            crc: u32::from_le_bytes(*crc),
            is_permanent: flags & 1 != 0,
            resets: flags & 2 != 0,
            by_smp: flags & 4 != 0,
        })
    }

    /// Whether the image with this digest is the one that is made.
    pub fn makes(&self, digest: &[u8]) -> bool {
        digest.starts_with(&self.image)
    }
}

fn digest_words(digest: [u8; 8]) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = digest;
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

fn digest_bytes([low, high]: [u32; 2]) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (low.to_le_bytes(), high.to_le_bytes());
    [a, b, c, d, e, f, g, h]
}

/// The number by which progress refers to its session: the CRC-32 of the init packet.
pub fn session_id(init_packet: &[u8]) -> u32 {
    let mut crc = crc32();
    crc.update(init_packet);
    crc.finalize()
}

/// What a journal remembers from one store to the next. It must not outlive a power cycle: a journal that remembers
/// nothing moves to the next page first, which costs an erase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory(Option<Next>);

/// The journal on one flash area (at least two sectors).
#[derive(Debug)]
pub struct Journal<J, M = Memory> {
    flash: J,
    memory: M,
    is_off: bool,
    /// Number of the image whose records these are.
    number: u8,
}

impl<J> Journal<J> {
    /// A journal that uses the whole of `flash`.
    pub const fn new(flash: J) -> Self {
        Self::with(flash, Memory(None))
    }
}

impl<J, M> Journal<J, M> {
    /// A journal that uses the whole of `flash`, and continues with what an earlier one of this power cycle remembers.
    pub const fn with(flash: J, memory: M) -> Self {
        Self {
            flash,
            memory,
            is_off: false,
            number: 0,
        }
    }
}

impl<J: NorFlash, M: BorrowMut<Memory>> Journal<J, M> {
    /// Stops writing records: an earlier one did not read back, and more tries would only wear the flash.
    #[must_use]
    pub fn off_if(self, is_off: bool) -> Self {
        Self { is_off, ..self }
    }

    /// Reads the journal, so that an area that cannot be used is known before it is needed. Writes nothing.
    ///
    /// # Errors
    /// [`JournalError::BadArea`], or the flash's error.
    pub fn open(&mut self) -> Result<(), JournalError> {
        Log::new(&mut self.flash)?.survey(&mut Contents::new())
    }

    /// A journal for the image with this number, 1 to 15; number 0 is the application. The records of all images are in
    /// the same area and do not mix. A number that is too large is replaced with the largest.
    #[must_use]
    pub fn of_image(self, number: u8) -> Self {
        Self {
            number: number.min(MAX_IMAGE_NUMBER),
            ..self
        }
    }

    /// The key of one kind of record for this image.
    fn key(&self, kind: u8) -> u8 {
        kind | self.number << 4
    }

    /// Makes room for `count` records of progress, so that storing them needs no erase.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] or an error of the flash.
    pub fn make_room(&mut self, count: u32) -> Result<(), JournalError> {
        if self.is_off {
            return Err(JournalError::Off);
        }
        let memory = self.memory.borrow_mut();
        let mut log = Log::new(&mut self.flash)?;
        match memory.0 {
            Some(next) if log.has_room(&next, count) => {}
            last => memory.0 = Some(log.move_on(self.number, count, last)?),
        }
        Ok(())
    }

    /// Does one erase that later records would wait for: first the move that a start needs, then the erase of the page for
    /// the move after it. Returns false if none is left.
    ///
    /// # Errors
    /// [`JournalError::NotKept`] or an error of the flash: the next record will try again.
    pub fn prepare(&mut self) -> Result<bool, JournalError> {
        if self.is_off {
            return Err(JournalError::Off);
        }
        let memory = self.memory.borrow_mut();
        let mut log = Log::new(&mut self.flash)?;
        match &mut memory.0 {
            Some(next) => log.erase_ahead(next),
            None => {
                memory.0 = Some(log.move_on(self.number, 0, None)?);
                Ok(true)
            }
        }
    }

    /// Opens a session: from now on progress belongs to this init packet.
    ///
    /// # Errors
    /// [`JournalError::BadSession`] for a packet that is empty or too long; else an error of the flash or of the
    /// records.
    pub fn begin(&mut self, init_packet: &[u8]) -> Result<(), JournalError> {
        if init_packet.is_empty() || init_packet.len() > MAX_SESSION {
            return Err(JournalError::BadSession);
        }
        self.store(KEY_SESSION, init_packet)
    }

    /// Records that `progress.offset` bytes of the image are in flash.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    pub fn progress(&mut self, session: u32, progress: Progress) -> Result<(), JournalError> {
        self.store_words(KEY_PROGRESS, &[session, progress.offset, progress.check])
    }

    /// The open session: copies its init packet into `out` and returns the packet's length and the progress.
    ///
    /// # Errors
    /// An error of the flash.
    pub fn session(
        &mut self,
        out: &mut [u8; MAX_SESSION],
    ) -> Result<Option<(usize, Progress)>, JournalError> {
        let length = self.fetch(KEY_SESSION, out)?.len();
        if length == 0 {
            return Ok(None);
        }
        let id = session_id(out.get(..length).unwrap_or_default());
        let progress = match words(self.fetch(KEY_PROGRESS, &mut [0; 12])?) {
            Some([session, offset, check]) if session == id => Progress { offset, check },
            _ => Progress::default(),
        };
        Ok(Some((length, progress)))
    }

    /// Closes the session; nothing is resumed after this. Writes nothing when none is open.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    #[inline(never)]
    pub fn close(&mut self) -> Result<(), JournalError> {
        self.clear(KEY_SESSION)
    }

    /// Which firmware is installed, if that was ever recorded.
    ///
    /// # Errors
    /// An error of the flash.
    pub fn versions(&mut self) -> Result<Option<Versions>, JournalError> {
        let record = words(self.fetch(KEY_VERSIONS, &mut [0; 24])?);
        Ok(record.map(Versions::from_words))
    }

    /// Records which firmware is installed.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    pub fn set_versions(&mut self, versions: Versions) -> Result<(), JournalError> {
        self.store_words(KEY_VERSIONS, &versions.to_words())
    }

    /// The intent that was recorded last, if it was not cleared since.
    ///
    /// # Errors
    /// An error of the flash.
    #[inline(never)]
    pub fn intent(&mut self) -> Result<Option<Intent>, JournalError> {
        let mut buffer = [0; Intent::SIZE];
        Ok(Intent::from_bytes(self.fetch(KEY_INTENT, &mut buffer)?))
    }

    /// Records an intent, or that there is none any more; the latter writes nothing if there is none anyway.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    #[inline(never)]
    pub fn set_intent(&mut self, intent: Option<Intent>) -> Result<(), JournalError> {
        match intent {
            Some(intent) => self.store(KEY_INTENT, &intent.to_bytes()),
            None => self.clear(KEY_INTENT),
        }
    }

    /// Erases the area with the records of all images.
    ///
    /// # Errors
    /// The flash's error.
    pub fn reset(&mut self) -> Result<(), JournalError> {
        self.memory.borrow_mut().0 = None;
        Log::new(&mut self.flash)?.erase_all()
    }

    /// The value of a record, at the start of `buffer`; empty if there is none.
    fn fetch<'b>(&mut self, kind: u8, buffer: &'b mut [u8]) -> Result<&'b [u8], JournalError> {
        let key = self.key(kind);
        Log::new(&mut self.flash)?.value(key, buffer)
    }

    /// Stores that there is no such record any more; writes nothing if there is none anyway.
    #[inline(never)]
    fn clear(&mut self, kind: u8) -> Result<(), JournalError> {
        let key = self.key(kind);
        match Log::new(&mut self.flash)?.has(key)? {
            true => self.store(kind, &[]),
            false => Ok(()),
        }
    }

    #[inline(never)]
    fn store(&mut self, kind: u8, value: &[u8]) -> Result<(), JournalError> {
        if self.is_off {
            return Err(JournalError::Off);
        }
        let key = self.key(kind);
        let memory = self.memory.borrow_mut();
        let mut log = Log::new(&mut self.flash)?;
        // What comes next is known again when the value is stored: a place where a write failed is not used.
        let mut last = memory.0.take();
        if let Some(next) = &mut last {
            if log.append(next, key, value).is_ok() {
                memory.0 = last;
                return Ok(());
            }
        }
        // One wrong bit may be in the page of the move as well, which is then erased once more.
        let mut moved = Err(JournalError::NotKept);
        for last in [last, None] {
            moved = log
                .move_on(self.number, cells_of(value), last)
                .and_then(|mut next| {
                    log.append(&mut next, key, value)?;
                    Ok(next)
                });
            if moved.is_ok() {
                break;
            }
        }
        memory.0 = Some(moved?);
        Ok(())
    }

    fn store_words<const N: usize>(&mut self, kind: u8, words: &[u32; N]) -> Result<(), JournalError> {
        self.store(kind, words.map(u32::to_le_bytes).as_flattened())
    }
}

/// The words of a record, little-endian; `None` if it has another length.
fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let (chunks, []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let chunks: &[[u8; 4]; N] = chunks.try_into().ok()?;
    Some(chunks.map(u32::from_le_bytes))
}

#[cfg(test)]
mod tests;
