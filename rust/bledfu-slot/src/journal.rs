// SPDX-License-Identifier: Apache-2.0
//! What survives a reset in the middle of an update: the open session, its progress, and which firmware versions are
//! installed.
//!
//! The records live in `sequential-storage`'s map on at least two flash sectors: each record is a key byte and a value,
//! protected by a CRC and appended after the last one. A torn record is ignored, and the one before it still counts.
//! The sectors take turns, which spreads wear.
//!
//! ```text
//! key 0  session    the init packet as received, 1..=512 bytes; absent or empty: no session
//! key 1  progress   session u32 │ offset u32 │ check u32                  (CRC-32 of image[..offset], or another check)
//! key 2  versions   base fw u32 │ base digest 8 bytes │ staged fw u32 │ staged digest 8 bytes
//! ```
//! The high half of the key is the number of the image that the record is for, 0 for the application.
//!
//! `session` in the progress record is the CRC-32 of the init packet it belongs to, so that progress of an older
//! session is never taken for that of a newer one, whatever was cut between the two writes.
//!
//! A cut erase can leave bytes in a sector that the storage takes for erased, as it does not look for them; records
//! written over them do not read back. So each erase is checked and repeated if need be, [`Journal::open`] erases what
//! a cut erase has left, and each record is read back. If one differs, the area is erased and the records are written
//! again.
//!
//! Anyone with a probe on the board can rewrite external flash, so a record proves nothing: an init packet from here is
//! validated again, and the image bytes are hashed again.

use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::map::{MapConfig, MapStorage};
use sequential_storage::Error as StorageError;

use crate::crc32::crc32;
use crate::flash::{read_bytes, Aligned, MAX_WRITE_SIZE};
use crate::layout::MAX_IMAGE_NUMBER;
use crate::retry::blank;

/// Size of the longest init packet that the journal keeps, in bytes.
pub const MAX_SESSION: usize = 512;

const KEY_SESSION: u8 = 0;
const KEY_PROGRESS: u8 = 1;
const KEY_VERSIONS: u8 = 2;

/// Room for one key, the longest value, and rounding to any write size up to 32.
const BUFFER: usize = MAX_SESSION + 32;

/// Why the journal could not do what was asked. None of these errors endangers an image: without a journal, an update
/// that a reset interrupts starts over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// The flash failed.
    Flash(NorFlashErrorKind),
    /// The records cannot be read or written; the journal must be erased.
    Corrupted,
    /// The area is smaller than two sectors, or not a whole number of them.
    BadArea,
    /// A record does not read back, even after the area was erased.
    NotKept,
    /// The journal has stopped writing because an earlier record did not read back.
    Off,
    /// The init packet is empty or has more than [`MAX_SESSION`] bytes.
    BadSession,
}

impl core::fmt::Display for JournalError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flash(kind) => write!(f, "the journal's flash failed: {kind:?}"),
            Self::Corrupted => f.write_str("the journal's records are damaged"),
            Self::BadArea => f.write_str("the journal needs at least two whole flash sectors"),
            Self::NotKept => f.write_str("the journal does not keep what is written"),
            Self::Off => f.write_str("the journal is off until the next start"),
            Self::BadSession => f.write_str("a journal session has 1 to 512 bytes"),
        }
    }
}

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

/// The journal on one flash area (at least two sectors).
#[derive(Debug)]
pub struct Journal<J> {
    flash: J,
    is_off: bool,
    /// Number of the image whose records these are.
    number: u8,
}

impl<J: NorFlash> Journal<J> {
    /// A journal that uses the whole of `flash`.
    pub const fn new(flash: J) -> Self {
        Self {
            flash,
            is_off: false,
            number: 0,
        }
    }

    /// Stops writing records: an earlier one did not read back, and more tries would only wear the flash.
    #[must_use]
    pub fn off_if(self, is_off: bool) -> Self {
        Self { is_off, ..self }
    }

    /// To be called once after a start. Erases sectors that the storage would take for erased although a cut erase has
    /// left bytes in them.
    ///
    /// # Errors
    /// The flash's error.
    pub fn open(&mut self) -> Result<(), JournalError> {
        let (size, sector) = (self.flash.capacity() as u32, J::ERASE_SIZE as u32);
        let mut from = 0;
        while from < size {
            let to = from.saturating_add(sector).min(size);
            if !self.is_marked(from)? && !self.is_marked(to.saturating_sub(J::READ_SIZE as u32))? {
                let is_blank = blank(&mut self.flash, from, to).map_err(flash_failed)?;
                if !is_blank {
                    erase(&mut self.flash, from, to).map_err(flash_failed)?;
                }
            }
            from = to;
        }
        Ok(())
    }

    /// Whether the storage takes the bytes at `offset` for one of its marks, which are at the start and the end of a
    /// sector: it does if one read unit has at least half a byte of zeros.
    fn is_marked(&mut self, offset: u32) -> Result<bool, JournalError> {
        let mut bytes = Aligned([0xFF; MAX_WRITE_SIZE]);
        let mark = bytes.0.get_mut(..J::READ_SIZE).unwrap_or_default();
        read_bytes(&mut self.flash, offset, mark).map_err(flash_failed)?;
        Ok(mark.iter().map(|byte| byte.count_zeros()).sum::<u32>() >= 4)
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

    /// Opens a session: from now on progress belongs to this init packet.
    ///
    /// # Errors
    /// [`JournalError::BadSession`] for a packet that is empty or too long; else an error of the flash or of the
    /// records.
    pub fn begin(&mut self, init_packet: &[u8]) -> Result<(), JournalError> {
        if init_packet.is_empty() || init_packet.len() > MAX_SESSION {
            return Err(JournalError::BadSession);
        }
        self.store(&mut Aligned([0; BUFFER]), KEY_SESSION, init_packet)
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
    /// An error of the flash or of the records.
    pub fn session(
        &mut self,
        out: &mut [u8; MAX_SESSION],
    ) -> Result<Option<(usize, Progress)>, JournalError> {
        let mut buffer = Aligned([0; BUFFER]);
        let packet = self.fetch(&mut buffer, KEY_SESSION)?;
        if packet.is_empty() {
            return Ok(None);
        }
        let length = packet.len();
        let place = out.get_mut(..length).ok_or(JournalError::Corrupted)?;
        place.copy_from_slice(packet);
        let id = session_id(place);
        let record = words(self.fetch(&mut buffer, KEY_PROGRESS)?);
        let progress = match record {
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
        let mut buffer = Aligned([0; BUFFER]);
        if self.fetch(&mut buffer, KEY_SESSION)?.is_empty() {
            return Ok(());
        }
        self.store(&mut buffer, KEY_SESSION, &[])
    }

    /// Which firmware is installed, if that was ever recorded.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    pub fn versions(&mut self) -> Result<Option<Versions>, JournalError> {
        let mut buffer = Aligned([0; BUFFER]);
        let record = words(self.fetch(&mut buffer, KEY_VERSIONS)?);
        Ok(record.map(Versions::from_words))
    }

    /// Records which firmware is installed.
    ///
    /// # Errors
    /// An error of the flash or of the records.
    pub fn set_versions(&mut self, versions: Versions) -> Result<(), JournalError> {
        self.store_words(KEY_VERSIONS, &versions.to_words())
    }

    /// Erases the area with the records of all images: the way out of [`JournalError::Corrupted`].
    ///
    /// # Errors
    /// The flash's error.
    pub fn reset(&mut self) -> Result<(), JournalError> {
        run(Self::map(&mut self.flash)?.erase_all())
    }

    /// The value of a record; empty if there is none. One function for all kinds of records, so that the storage's code
    /// is compiled once.
    #[inline(never)]
    fn fetch<'b>(&mut self, buffer: &'b mut Aligned<BUFFER>, key: u8) -> Result<&'b [u8], JournalError> {
        let key = self.key(key);
        run(Self::map(&mut self.flash)?.fetch_item(&mut buffer.0, &key)).map(Option::unwrap_or_default)
    }

    #[inline(never)]
    fn store(&mut self, buffer: &mut Aligned<BUFFER>, key: u8, value: &[u8]) -> Result<(), JournalError> {
        if self.is_off {
            return Err(JournalError::Off);
        }
        match self.put(buffer, key, value) {
            Ok(()) => Ok(()),
            // A driver may refuse to write next to bytes that are not erased, and only an erase ends that. A flash that
            // does not answer at all keeps its contents, because the erase fails as well.
            Err(_) => self.store_anew(buffer, key, value),
        }
    }

    /// Writes a record, and reads it back.
    #[inline(never)]
    fn put(&mut self, buffer: &mut Aligned<BUFFER>, key: u8, value: &[u8]) -> Result<(), JournalError> {
        let of_image = self.key(key);
        run(Self::map(&mut self.flash)?.store_item(&mut buffer.0, &of_image, &value))?;
        match self.fetch(buffer, key)? == value {
            true => Ok(()),
            false => Err(JournalError::NotKept),
        }
    }

    /// Erases the area and writes the records of this image again, those that could be read and the new one.
    #[inline(never)]
    fn store_anew(
        &mut self,
        buffer: &mut Aligned<BUFFER>,
        key: u8,
        value: &[u8],
    ) -> Result<(), JournalError> {
        let mut session = [0; MAX_SESSION];
        let mut others = [[0; 24]; 2];
        let [progress, versions] = &mut others;
        let places: [(u8, &mut [u8]); 3] = [
            (KEY_SESSION, &mut session),
            (KEY_PROGRESS, progress),
            (KEY_VERSIONS, versions),
        ];
        let places = places.map(|(kind, place)| {
            let found = self.fetch(buffer, kind).unwrap_or_default();
            let place = place.get_mut(..found.len()).unwrap_or_default();
            place.copy_from_slice(found.get(..place.len()).unwrap_or_default());
            (kind, place)
        });
        self.reset()?;
        for (kind, kept) in places {
            if kind != key && !kept.is_empty() {
                self.put(buffer, kind, kept)?;
            }
        }
        self.put(buffer, key, value)
    }

    fn store_words<const N: usize>(&mut self, key: u8, words: &[u32; N]) -> Result<(), JournalError> {
        let bytes = words.map(u32::to_le_bytes);
        self.store(&mut Aligned([0; BUFFER]), key, bytes.as_flattened())
    }

    fn map(flash: &mut J) -> Result<MapStorage<u8, Blocking<'_, J>, NoCache>, JournalError> {
        let size = u32::try_from(flash.capacity()).map_err(|_| JournalError::BadArea)?;
        let config = MapConfig::try_new(0..size).map_err(|_| JournalError::BadArea)?;
        Ok(MapStorage::new(Blocking(flash), config, Cache::new_uncached()))
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

/// No cache: reading a few records in two sectors takes a millisecond, and a cache would cost RAM and code.
type NoCache = Cache<Uncached, Uncached, Uncached, u8>;

/// Runs a storage call to completion. Every flash call below it blocks, so the future is ready at the first poll.
fn run<T, E: embedded_storage::nor_flash::NorFlashError>(
    call: impl Future<Output = Result<T, StorageError<E>>>,
) -> Result<T, JournalError> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(value)) => Ok(value),
        Poll::Ready(Err(StorageError::Storage { value, .. })) => Err(JournalError::Flash(value.kind())),
        Poll::Ready(Err(_)) | Poll::Pending => Err(JournalError::Corrupted),
    }
}

fn flash_failed<E: NorFlashError>(error: E) -> JournalError {
    JournalError::Flash(error.kind())
}

/// Erases, and erases once more if anything is left.
fn erase<F: NorFlash>(flash: &mut F, from: u32, to: u32) -> Result<(), EraseError<F::Error>> {
    for _ in 0..2 {
        flash.erase(from, to).map_err(EraseError::Flash)?;
        if blank(flash, from, to).map_err(EraseError::Flash)? {
            return Ok(());
        }
    }
    Err(EraseError::NotBlank)
}

/// Why a sector of the journal is not erased.
#[derive(Debug)]
enum EraseError<E> {
    Flash(E),
    NotBlank,
}

impl<E: NorFlashError> NorFlashError for EraseError<E> {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Flash(error) => error.kind(),
            Self::NotBlank => NorFlashErrorKind::Other,
        }
    }
}

/// A blocking flash with the interface that `sequential-storage` needs.
struct Blocking<'f, F>(&'f mut F);

impl<F: NorFlash> embedded_storage_async::nor_flash::ErrorType for Blocking<'_, F> {
    type Error = EraseError<F::Error>;
}

impl<F: NorFlash> embedded_storage_async::nor_flash::ReadNorFlash for Blocking<'_, F> {
    const READ_SIZE: usize = F::READ_SIZE;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes).map_err(EraseError::Flash)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl<F: NorFlash> embedded_storage_async::nor_flash::NorFlash for Blocking<'_, F> {
    const WRITE_SIZE: usize = F::WRITE_SIZE;
    const ERASE_SIZE: usize = F::ERASE_SIZE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        erase(self.0, from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.0.write(offset, bytes).map_err(EraseError::Flash)
    }
}

#[cfg(test)]
mod tests;
