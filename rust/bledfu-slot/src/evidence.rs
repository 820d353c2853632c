// SPDX-License-Identifier: Apache-2.0
//! What the boot stage remembers in internal flash: which image runs for good, which one a revert may bring back, how
//! old an image may be, and how far an interrupted install has certainly come. The external flash cannot be trusted
//! with any of this, because anyone with a probe on the board can write there. The evidence is a log on two internal
//! pages of its own, the trust area, and only the boot stage writes it. MCUboot neither reads nor writes it, and the
//! trailers stay as MCUboot defines them.
//!
//! ```text
//!   0  62 6c 66 74       "blft"
//!   4  01                format
//!   5  00|02|03|04       00 settled: `to` runs for good; else the swap type of the install that was begun
//!   6  nn                boots in a row at which the image to go back to was not valid
//!   7  nn                reverts since an image was last confirmed (saturates)
//!   8  nn nn nn nn       sequence; the highest valid one counts
//!  12  nn nn nn nn       size of the job, like swap_size in the trailer. Beside settled: 0, or that of a copy of the
//!                        running image that was begun outside
//!  16  nn nn nn nn       units of the job known to be done; bit 31 = in doubt; ff ff ff ff = never noted. Beside settled:
//!                        of a repair of the primary slot, with copy
//!  20  mm nn rr rr       floor: major, minor, revision
//!  24  nn nn nn nn       floor: security counter + 1; 0 = none
//!  28  32 bytes          from: digest of the image that ran when the job began; zeros = none
//!  60  32 bytes          to: digest of the image that is being installed, or of the one that runs
//!  92  ff ..             free, erased
//! 124  nn nn nn nn       CRC-32 of bytes 0 to 123
//!
//! page 0 | record | record | (torn) | record | ff ..        page 1 | older ones, or anything
//! ```
//! Numbers are little-endian. A record is programmed with one operation, read back twice, and never written again. Its
//! 128 bytes are a multiple of every write unit.
//!
//! # Why a power cut cannot hurt
//! A torn record has a wrong CRC, so the one before it counts. What the torn record was to allow has not been done,
//! because a record is appended first. When a page is full, the other one is erased and written next; it holds only
//! lower sequence numbers, so a torn erase there loses nothing. A page that reads erased is not trusted: it is erased
//! immediately before its first record.
//!
//! The first place that reads as erased may hold a torn record whose cells read as written at a later boot. Before the
//! first record of a boot it is filled with zeros, which no record is.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};

use crate::crc32::crc32;
use crate::flash::{is_erased, read_bytes, Aligned, MAX_WRITE_SIZE};
use crate::trailer::SwapType;
use crate::verify::{Digest, ImageInfo};

/// Size of a record, in bytes.
pub const RECORD_SIZE: u32 = 128;

const SIZE: usize = RECORD_SIZE as usize;
const CHECKED: usize = SIZE - 4;
const MAGIC: [u8; 4] = *b"blft";
const FORMAT: u8 = 1;
const IN_DOUBT: u32 = 1 << 31;

/// How many places are tried for one record.
const TRIES: u32 = 4;

const _: () = assert!(SIZE.is_multiple_of(MAX_WRITE_SIZE));

/// No image.
pub const NO_DIGEST: Digest = [0; 32];

/// The lowest version and security counter that an image may have to be installed or started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Major, minor, revision; build numbers do not count.
    pub version: (u8, u8, u16),
    /// The lowest security counter; `None` if no image with one was ever confirmed.
    pub security_counter: Option<u32>,
}

impl Floor {
    /// The version and the counter of an image.
    pub const fn of(image: &ImageInfo) -> Self {
        let version = image.header.version;
        Self {
            version: (version.major, version.minor, version.revision),
            security_counter: image.security_counter,
        }
    }

    /// The floor after an image with these values is confirmed.
    #[must_use]
    pub fn raised(self, other: Self) -> Self {
        Self {
            version: self.version.max(other.version),
            // None is less than any counter.
            security_counter: self.security_counter.max(other.security_counter),
        }
    }
}

/// How far an install has come, as far as this record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was begun; nothing more is known.
    Unknown,
    /// A boot resumed it at this unit. That unit may be done by now; the units after it are not.
    InDoubt(u32),
    /// All units below this one are done; this one may have begun.
    Passed(u32),
}

/// A record of the trust area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The install that was begun; `None` if settled, which means that `to` runs for good.
    pub begun: Option<SwapType>,
    /// Number of boots in a row at which the image to go back to was not valid.
    pub invalid_way_back: u8,
    /// Number of reverts since an image was last confirmed; saturates.
    pub taken_back: u8,
    /// Size of the job in bytes, like `swap_size` in the trailer. If settled 0, or that of a copy of the running image that
    /// was begun outside.
    pub size: u32,
    /// How far the job has come.
    pub done: Done,
    /// The lowest version and counter that an image may have.
    pub floor: Floor,
    /// Digest of the image that ran when the job began, or before the last revert; [`NO_DIGEST`] if there was none.
    pub from: Digest,
    /// Digest of the image that is being installed, or of the one that runs if settled.
    pub to: Digest,
}

impl Evidence {
    /// The evidence of a device about which nothing is known.
    pub const NONE: Self = Self {
        begun: None,
        invalid_way_back: 0,
        taken_back: 0,
        size: 0,
        done: Done::Unknown,
        floor: Floor {
            version: (0, 0, 0),
            security_counter: None,
        },
        from: NO_DIGEST,
        to: NO_DIGEST,
    };
}

impl Evidence {
    /// Whether this is the image that is to be replaced with another one.
    pub fn replaces(&self, running: Option<&Digest>) -> bool {
        running == Some(&self.from) && self.from != self.to
    }

    /// Nothing is under way any more: this image stays.
    #[inline(never)]
    pub fn end(&mut self, image: Digest) {
        self.begun = None;
        self.invalid_way_back = 0;
        self.size = 0;
        self.done = Done::Unknown;
        self.to = image;
    }
}

/// A record and its place in the sequence.
#[derive(Clone, Copy)]
struct Numbered {
    sequence: u32,
    evidence: Evidence,
}

// Where the fields of a record are.
const HEAD: usize = 0;
const SEQUENCE: usize = 8;
const JOB_SIZE: usize = 12;
const DONE: usize = 16;
const VERSION: usize = 20;
const COUNTER: usize = 24;
const FROM: usize = 28;
const TO: usize = 60;

/// Puts a field into a record. Not inlined, as there are nine calls.
#[inline(never)]
fn put(record: &mut [u8; SIZE], at: usize, field: &[u8]) {
    for (to, from) in record.iter_mut().skip(at).zip(field) {
        *to = *from;
    }
}

/// Four bytes of a record, at an offset.
#[inline(never)]
fn word(record: &[u8; SIZE], at: usize) -> [u8; 4] {
    let bytes = record.get(at..).and_then(|bytes| bytes.first_chunk());
    *bytes.unwrap_or(&[0; 4])
}

fn digest(record: &[u8; SIZE], at: usize) -> Digest {
    let bytes = record.get(at..).and_then(|bytes| bytes.first_chunk());
    *bytes.unwrap_or(&NO_DIGEST)
}

#[inline(never)]
fn checksum(record: &[u8; SIZE]) -> [u8; 4] {
    let mut crc = crc32();
    crc.update(record.get(..CHECKED).unwrap_or_default());
    crc.finalize().to_le_bytes()
}

impl Evidence {
    #[inline(never)]
    fn encode(&self, sequence: u32) -> Aligned<SIZE> {
        let done = match self.done {
            Done::Unknown => u32::MAX,
            Done::InDoubt(unit) => unit | IN_DOUBT,
            Done::Passed(unit) => unit & !IN_DOUBT,
        };
        let (major, minor, revision) = self.floor.version;
        let [low, high] = revision.to_le_bytes();
        let counter = self
            .floor
            .security_counter
            .map_or(0, |counter| counter.saturating_add(1));
        let begun = self.begun.map_or(0, |swap_type| swap_type as u8);
        let mut record = Aligned::<SIZE>::erased();
        let bytes = &mut record.0;
        put(bytes, HEAD, &MAGIC);
        put(
            bytes,
            HEAD + 4,
            &[FORMAT, begun, self.invalid_way_back, self.taken_back],
        );
        put(bytes, SEQUENCE, &sequence.to_le_bytes());
        put(bytes, JOB_SIZE, &self.size.to_le_bytes());
        put(bytes, DONE, &done.to_le_bytes());
        put(bytes, VERSION, &[major, minor, low, high]);
        put(bytes, COUNTER, &counter.to_le_bytes());
        put(bytes, FROM, &self.from);
        put(bytes, TO, &self.to);
        let checksum = checksum(bytes);
        put(bytes, CHECKED, &checksum);
        record
    }

    fn decode(bytes: &[u8; SIZE]) -> Option<Numbered> {
        if word(bytes, HEAD) != MAGIC || word(bytes, CHECKED) != checksum(bytes) {
            return None;
        }
        let [format, begun, invalid_way_back, taken_back] = word(bytes, HEAD + 4);
        let [major, minor, low, high] = word(bytes, VERSION);
        let begun = match begun {
            0 => None,
            2 => Some(SwapType::Test),
            3 => Some(SwapType::Permanent),
            4 => Some(SwapType::Revert),
            _ => return None,
        };
        (format == FORMAT).then_some(Numbered {
            sequence: u32::from_le_bytes(word(bytes, SEQUENCE)),
            evidence: Self {
                begun,
                invalid_way_back,
                taken_back,
                size: u32::from_le_bytes(word(bytes, JOB_SIZE)),
                done: match u32::from_le_bytes(word(bytes, DONE)) {
                    u32::MAX => Done::Unknown,
                    unit if unit & IN_DOUBT != 0 => Done::InDoubt(unit & !IN_DOUBT),
                    unit => Done::Passed(unit),
                },
                floor: Floor {
                    version: (major, minor, u16::from_le_bytes([low, high])),
                    security_counter: u32::from_le_bytes(word(bytes, COUNTER)).checked_sub(1),
                },
                from: digest(bytes, FROM),
                to: digest(bytes, TO),
            },
        })
    }
}

/// Where the boot stage keeps its evidence.
pub trait Store {
    /// Whether there is a trust area at all. Without one, the boot stage has only the trailers to decide from.
    fn is_kept(&self) -> bool;

    /// The last record; `None` if there is none, or if the pages cannot be read.
    fn last(&mut self) -> Option<Evidence>;

    /// Appends a record, which counts from now on.
    ///
    /// # Errors
    /// The record does not read back as it was written. The one before it still counts.
    fn append(&mut self, evidence: &Evidence) -> Result<(), NorFlashErrorKind>;
}

/// No trust area: for devices in the field whose layout has no two free pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvidence;

impl Store for NoEvidence {
    fn is_kept(&self) -> bool {
        false
    }

    fn last(&mut self) -> Option<Evidence> {
        None
    }

    fn append(&mut self, _: &Evidence) -> Result<(), NorFlashErrorKind> {
        Ok(())
    }
}

/// The trust area: two pages of internal flash.
#[derive(Debug)]
pub struct Log<'f, F> {
    flash: &'f mut F,
    /// Found once per boot: searching two pages takes longer than most of what a boot does.
    last: Option<Last>,
}

/// What the pages hold.
#[derive(Clone, Copy, Debug)]
struct Last {
    evidence: Option<Evidence>,
    /// The page that holds the record.
    home: Option<u32>,
    /// The highest number given to a record so far.
    sequence: u32,
    /// The page that is being written.
    page: u32,
    /// Where the next record goes, counted from the start of that page.
    next: u32,
    /// The first erased place may be one where an earlier boot was cut while it wrote.
    is_suspect: bool,
}

impl<'f, F: NorFlash> Log<'f, F> {
    /// The trust area is the whole of `flash`; each half of it is a page.
    pub fn new(flash: &'f mut F) -> Self {
        Self { flash, last: None }
    }

    fn last_in_flash(&mut self) -> Last {
        if let Some(last) = self.last {
            return last;
        }
        let last = find(self.flash);
        self.last = Some(last);
        last
    }

    /// Whether a place reads as erased, in two reads.
    fn is_blank(&mut self, offset: u32) -> bool {
        let mut bytes = Aligned([0; SIZE]);
        (0..2).all(|_| read_bytes(self.flash, offset, &mut bytes.0).is_ok() && is_erased(&bytes.0))
    }

    /// Programs a place and reads it back twice.
    fn program(&mut self, offset: u32, record: &Aligned<SIZE>) -> Result<(), NorFlashErrorKind> {
        // What reads back decides whether it was written, not what the driver reports.
        let written = self.flash.write(offset, &record.0);
        let mut bytes = Aligned([0; SIZE]);
        let same =
            (0..2).all(|_| read_bytes(self.flash, offset, &mut bytes.0).is_ok() && bytes.0 == record.0);
        match written {
            _ if same => Ok(()),
            Err(error) => Err(error.kind()),
            Ok(()) => Err(NorFlashErrorKind::Other),
        }
    }
}

impl<F: NorFlash> Store for Log<'_, F> {
    fn is_kept(&self) -> bool {
        page_size(self.flash) >= RECORD_SIZE
    }

    fn last(&mut self) -> Option<Evidence> {
        self.last_in_flash().evidence
    }

    fn append(&mut self, evidence: &Evidence) -> Result<(), NorFlashErrorKind> {
        let page_size = page_size(self.flash);
        let mut last = self.last_in_flash();
        let mut failure = NorFlashErrorKind::OutOfBounds;
        let mut tries = 0;
        while tries < TRIES {
            if last.next + RECORD_SIZE > page_size {
                // The full page is left alone until the other one has a record.
                let page = (last.page + 1) % 2;
                if last.home == Some(page) {
                    break;
                }
                tries += 1;
                (last.page, last.next, last.is_suspect) = (page, 0, false);
                let start = page * page_size;
                if let Err(error) = self.flash.erase(start, start + page_size) {
                    failure = error.kind();
                    last.next = page_size;
                    continue;
                }
            }
            let at = last.page * page_size + last.next;
            last.next += RECORD_SIZE;
            // A place that is skipped may read as a record one day, so its number is not used again.
            last.sequence = last.sequence.saturating_add(1);
            if !self.is_blank(at) {
                continue;
            }
            if core::mem::take(&mut last.is_suspect) {
                // If the flash refuses that, it has an error code for what was written there.
                let _ = self.flash.write(at, &Aligned([0; SIZE]).0);
                continue;
            }
            tries += 1;
            match self.program(at, &evidence.encode(last.sequence)) {
                Ok(()) => {
                    last.evidence = Some(*evidence);
                    last.home = Some(last.page);
                    self.last = Some(last);
                    return Ok(());
                }
                Err(error) => failure = error,
            }
        }
        self.last = Some(last);
        Err(failure)
    }
}

/// Half of the area, in whole erase units.
fn page_size<F: NorFlash>(flash: &F) -> u32 {
    let half = flash.capacity() / 2;
    (half - half % F::ERASE_SIZE) as u32
}

/// Compares the last record of each page: the one with the higher sequence number counts.
fn find<F: NorFlash>(flash: &mut F) -> Last {
    let page_size = page_size(flash);
    let mut last = Last {
        evidence: None,
        home: None,
        sequence: 0,
        // So that the very first record goes to page 0, which is erased for it.
        page: 1,
        next: page_size,
        is_suspect: false,
    };
    for page in 0..2 {
        let mut at = page_size - page_size % RECORD_SIZE;
        while at >= RECORD_SIZE {
            at -= RECORD_SIZE;
            let mut bytes = Aligned([0; SIZE]);
            if read_bytes(flash, page * page_size + at, &mut bytes.0).is_err() {
                continue;
            }
            let Some(found) = Evidence::decode(&bytes.0) else {
                continue;
            };
            if last.home.is_none() || found.sequence > last.sequence {
                last = Last {
                    evidence: Some(found.evidence),
                    home: Some(page),
                    sequence: found.sequence,
                    page,
                    next: at + RECORD_SIZE,
                    is_suspect: true,
                };
            }
            break;
        }
    }
    last
}

/// The record that counts in the trust area `flash`; `None` if there is none. For the application, which only reads it.
pub fn last<F: NorFlash>(flash: &mut F) -> Option<Evidence> {
    find(flash).evidence
}

#[cfg(test)]
mod tests {
    use super::*;
    use bledfu_testkit::{Choice, Nor, Power, Random, Tear, Weak, SECTOR};

    fn numbered(number: u32) -> Evidence {
        Evidence {
            begun: [
                None,
                Some(SwapType::Test),
                Some(SwapType::Permanent),
                Some(SwapType::Revert),
            ][number as usize % 4],
            invalid_way_back: 1,
            taken_back: 2,
            size: number,
            done: [Done::Unknown, Done::InDoubt(number), Done::Passed(number)][number as usize % 3],
            floor: Floor {
                version: (1, 2, 0x304),
                security_counter: number.checked_sub(1),
            },
            from: [0xA5; 32],
            to: [number as u8; 32],
        }
    }

    fn area<const W: usize>() -> Nor<W> {
        let mut flash = Nor::new('t', 2, &Power::new());
        flash.program_once = true;
        flash.takes_zeros = true;
        flash
    }

    #[test]
    fn a_record_has_the_bytes_that_are_drawn() {
        let evidence = Evidence {
            done: Done::InDoubt(7),
            ..numbered(1)
        };
        let bytes = evidence.encode(0x0102_0304).0;
        assert_eq!(bytes[..12], *b"blft\x01\x02\x01\x02\x04\x03\x02\x01");
        assert_eq!(bytes[12..28], [1, 0, 0, 0, 7, 0, 0, 0x80, 1, 2, 4, 3, 1, 0, 0, 0]);
        assert_eq!(bytes[28..60], [0xA5; 32]);
        assert_eq!(bytes[60..92], [1; 32]);
        assert!(is_erased(&bytes[92..124]));
        for number in 0..12 {
            let found = Evidence::decode(&numbered(number).encode(number).0).unwrap();
            assert_eq!((found.sequence, found.evidence), (number, numbered(number)));
        }
    }

    fn the_last_record_counts<const W: usize>() {
        let mut flash = area::<W>();
        assert_eq!(last(&mut flash), None);
        for number in 0..200 {
            let mut log = Log::new(&mut flash);
            assert!(log.is_kept());
            log.append(&numbered(number)).unwrap();
            assert_eq!(log.last(), Some(numbered(number)));
            assert_eq!(last(&mut flash), Some(numbered(number)), "W={W}");
        }
    }

    #[test]
    fn the_last_record_counts_for_every_write_unit() {
        the_last_record_counts::<1>();
        the_last_record_counts::<2>();
        the_last_record_counts::<4>();
        the_last_record_counts::<8>();
        the_last_record_counts::<16>();
        the_last_record_counts::<32>();
    }

    // boot-trust case 29
    #[test]
    fn an_append_cut_anywhere_leaves_the_record_before_or_the_new_one() {
        let inside = |percent, seed| Tear::Inside { percent, seed };
        let prefix = |bytes, next| Tear::Prefix { bytes, next };
        let tears = [
            Tear::Before,
            prefix(1, 0),
            prefix(127, 0xFF),
            prefix(128, 0),
            inside(10, 1),
            inside(50, 2),
            inside(90, 3),
            inside(100, 4),
        ];
        for tear in tears {
            let mut flash = area::<4>();
            Log::new(&mut flash).append(&numbered(0)).unwrap();
            for number in 1..1000u32 {
                let before = last(&mut flash).unwrap();
                // The cut is at one of the operations of an append: zeros, sometimes the erase of a page, the record.
                flash.power.cut_at(u64::from(number / 2 % 3), tear);
                let _ = Log::new(&mut flash).append(&numbered(number));
                flash.power.on();
                let found = last(&mut flash);
                assert!(
                    found == Some(before) || found == Some(numbered(number)),
                    "{tear:?} {number}"
                );
            }
        }
    }

    // boot-trust case 30
    #[test]
    fn a_record_with_any_wrong_bit_does_not_count() {
        let mut flash = area::<4>();
        flash.lenient = true;
        let mut log = Log::new(&mut flash);
        log.append(&numbered(1)).unwrap();
        log.append(&numbered(2)).unwrap();
        for bit in 0..SIZE * 8 {
            let (at, mask) = (SIZE + bit / 8, 1 << (bit % 8));
            if (92..124).contains(&(bit / 8)) {
                assert_eq!(flash.bytes[at], 0xFF);
            }
            flash.bytes[at] ^= mask;
            assert_eq!(last(&mut flash), Some(numbered(1)), "bit {bit}");
            flash.bytes[at] ^= mask;
        }
    }

    // boot-trust case 28
    #[test]
    fn pages_full_of_anything_hold_no_record_and_take_the_next_ones() {
        for seed in 0..50 {
            let mut flash = area::<8>();
            let mut random = Random::new(seed);
            flash.bytes.fill_with(|| random.byte());
            assert_eq!(last(&mut flash), None);
            for number in 0..100 {
                Log::new(&mut flash).append(&numbered(number)).unwrap();
                assert_eq!(last(&mut flash), Some(numbered(number)));
            }
        }
    }

    #[test]
    fn places_that_refuse_a_record_are_left_behind_until_too_many_do() {
        let mut flash = area::<4>();
        Log::new(&mut flash).append(&numbered(1)).unwrap();
        flash.refuse_writes = RECORD_SIZE..3 * RECORD_SIZE;
        Log::new(&mut flash).append(&numbered(2)).unwrap();
        assert_eq!(last(&mut flash), Some(numbered(2)));
        flash.refuse_writes = 0..2 * SECTOR as u32;
        let mut log = Log::new(&mut flash);
        assert!(log.append(&numbered(3)).is_err());
        assert_eq!(log.last(), Some(numbered(2)));
        // The page with the record that counts is never erased for another try.
        for _ in 0..100 {
            let _ = log.append(&numbered(3));
        }
        assert_eq!(last(&mut flash), Some(numbered(2)));
        flash.refuse_writes = 0..0;
        Log::new(&mut flash).append(&numbered(4)).unwrap();
        assert_eq!(last(&mut flash), Some(numbered(4)));
    }

    #[test]
    fn a_torn_record_that_reads_as_whole_later_does_not_outlive_its_successor() {
        let mut flash = area::<4>();
        let mut log = Log::new(&mut flash);
        for number in 0..31 {
            log.append(&numbered(number)).unwrap();
        }
        // The last place of the page is torn and does not read as erased now.
        let torn = numbered(100).encode(32);
        let at = 31 * SIZE;
        flash.bytes[at] = 0;
        Log::new(&mut flash).append(&numbered(31)).unwrap();
        flash.bytes[at..at + SIZE].copy_from_slice(&torn.0);
        assert_eq!(last(&mut flash), Some(numbered(31)));
    }

    #[test]
    fn a_torn_record_that_reads_as_erased_at_the_next_boot_does_not_damage_its_successor() {
        for pattern in [0b10, 0b110, 0b1110] {
            let mut flash = area::<4>();
            Log::new(&mut flash).append(&numbered(1)).unwrap();
            flash.power.set_weak(Some(Weak {
                choice: Choice::Boots(pattern),
                seed: 1,
            }));
            flash.power.on();
            // Each boot is cut while it writes its record, the last one is not.
            for number in 2..5 {
                flash.power.cut_at(1, Tear::Inside { percent: 50, seed: 1 });
                assert!(Log::new(&mut flash).append(&numbered(number)).is_err());
                flash.power.on();
            }
            Log::new(&mut flash).append(&numbered(5)).unwrap();
            for _ in 0..6 {
                assert_eq!(last(&mut flash), Some(numbered(5)), "{pattern:b}");
                flash.power.on();
            }
        }
    }

    #[test]
    fn a_floor_only_rises() {
        let floor = |version, security_counter| Floor {
            version,
            security_counter,
        };
        let a = floor((1, 9, 3), Some(4));
        assert_eq!(a.raised(floor((2, 0, 0), None)), floor((2, 0, 0), Some(4)));
        assert_eq!(a.raised(floor((1, 8, 9), Some(5))), floor((1, 9, 3), Some(5)));
        assert_eq!(Floor::default().raised(a), a);
    }

    #[test]
    fn without_an_area_nothing_is_kept_and_nothing_fails() {
        assert!(!NoEvidence.is_kept());
        assert_eq!(NoEvidence.append(&numbered(1)), Ok(()));
        assert_eq!(NoEvidence.last(), None);
        assert!(!Log::new(&mut crate::areas::NoFlash).is_kept());
    }
}
