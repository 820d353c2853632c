// SPDX-License-Identifier: Apache-2.0
//! The journal against a model: for each kind of record and image, the values that it may show. A store that is done
//! leaves one; a store that is cut adds one.

use super::super::*;
use bledfu_testkit::{Choice, Nor, Power, Random, Tear, Weak, SECTOR};
use std::collections::BTreeSet;
use std::format;
use std::vec::Vec;

/// For each geometry and kind of tear. Among thousands of seeds there are chains of three cuts after which a value is lost:
/// see "What remains" in `log.rs`.
const SEEDS: u64 = 4;

type Stored = Option<(Vec<u8>, Progress)>;

/// What the journal may show of one image.
struct Model {
    sessions: BTreeSet<Vec<u8>>,
    /// Session, offset and check.
    progress: BTreeSet<[u32; 3]>,
    versions: BTreeSet<Option<u32>>,
}

impl Model {
    fn new() -> Self {
        Self {
            sessions: BTreeSet::from([Vec::new()]),
            progress: BTreeSet::from([[0; 3]]),
            versions: BTreeSet::from([None]),
        }
    }

    /// From now on, each of the values may be missing as well.
    fn may_be_lost(&mut self) {
        self.sessions.insert(Vec::new());
        self.progress.insert([0; 3]);
        self.versions.insert(None);
    }

    fn allows(&self, stored: &Stored) -> bool {
        let Some((packet, progress)) = stored else {
            return self.sessions.contains(&Vec::new());
        };
        let id = session_id(packet);
        let is_known = self.progress.contains(&[id, progress.offset, progress.check]);
        let is_none = *progress == Progress::default() && self.progress.iter().any(|record| record[0] != id);
        self.sessions.contains(packet) && (is_known || is_none)
    }
}

fn versions(number: u32) -> Versions {
    let image = |fw_version: u32| Installed {
        fw_version,
        digest: [fw_version as u8; 8],
    };
    Versions {
        base: image(number),
        staged: image(number + 1),
    }
}

/// One call, chosen by `random`; true if it was done.
fn any_call<const W: usize, const E: usize>(
    journal: &mut Journal<&mut Nor<W, E>, &mut Memory>,
    model: &mut Model,
    random: &mut Random,
) -> bool {
    fn store<T: Ord + Clone>(model: &mut BTreeSet<T>, value: &T, done: bool) -> bool {
        if done {
            model.clear();
        }
        model.insert(value.clone());
        done
    }
    match random.below(10) {
        0 => {
            let longest = [160, 160, MAX_SESSION][random.below(3)];
            let length = 1 + random.below(longest);
            let packet: Vec<u8> = (0..length).map(|_| random.byte()).collect();
            let done = journal.begin(&packet).is_ok();
            store(&mut model.sessions, &packet, done)
        }
        1 => {
            let is_certain = model.sessions.len() == 1;
            let done = journal.close().is_ok();
            // With a session whose store was cut, it may have found none and written nothing.
            store(&mut model.sessions, &Vec::new(), done && is_certain);
            done
        }
        2 => {
            let number = random.next() as u32 >> 1;
            let done = journal.set_versions(versions(number)).is_ok();
            store(&mut model.versions, &Some(number), done)
        }
        3 => journal.make_room(1 + random.below(9) as u32).is_ok(),
        4 => journal.prepare().is_ok(),
        _ => {
            let packet = model.sessions.iter().nth(random.below(model.sessions.len()));
            let session = session_id(packet.map(Vec::as_slice).unwrap_or_default());
            let [offset, check] = [random.next() as u32, random.next() as u32];
            let done = journal.progress(session, Progress { offset, check }).is_ok();
            store(&mut model.progress, &[session, offset, check], done)
        }
    }
}

fn shown<const W: usize, const E: usize>(flash: &mut Nor<W, E>, image: usize) -> (Stored, Option<u32>) {
    let mut journal = Journal::new(flash).of_image(image as u8);
    let mut packet = [0; MAX_SESSION];
    let session = journal.session(&mut packet).unwrap();
    let stored = session.map(|(length, progress)| (packet[..length].to_vec(), progress));
    let found = journal.versions().unwrap();
    assert!(found.is_none_or(|found| found == versions(found.base.fw_version)));
    (stored, found.map(|found| found.base.fw_version))
}

fn check<const W: usize, const E: usize>(flash: &mut Nor<W, E>, models: &[Model], what: &str) {
    for (image, model) in models.iter().enumerate() {
        let (stored, versions) = shown(flash, image);
        assert!(model.allows(&stored), "{what}, image {image}: {stored:?}");
        assert!(
            model.versions.contains(&versions),
            "{what}, image {image}: versions {versions:?}"
        );
    }
}

/// Power cuts at any operation of any sequence of calls. Each unit is programmed once between two erases, and no bit is
/// ever to be set by a program: the flash panics otherwise.
fn any_calls_and_cuts<const W: usize, const E: usize>(
    sectors: usize,
    images: usize,
    seed: u64,
    weak: Option<Choice>,
) {
    let mut random = Random::new(seed);
    let mut flash = Nor::<W, E>::with_erase_size('j', sectors, &Power::new());
    flash.program_once = true;
    let mut models: Vec<Model> = (0..images).map(|_| Model::new()).collect();
    flash.power.set_weak(weak.map(|choice| Weak { choice, seed }));
    for boot in 0..30 {
        let what = format!("W={W} E={E} sectors={sectors} seed={seed} weak={weak:?} boot={boot}");
        flash.power.on();
        let latest = [3, 20, 200][random.below(3)];
        let cut = random.below(latest) as u64;
        let tear = match random.below(3) {
            0 => Tear::Before,
            1 => Tear::Prefix {
                bytes: random.below(E),
                next: random.byte(),
            },
            _ => Tear::Inside {
                percent: random.below(101) as u8,
                seed: random.next(),
            },
        };
        let tear = match weak {
            Some(_) => Tear::Inside {
                percent: random.below(101) as u8,
                seed: random.next(),
            },
            None => tear,
        };
        flash.power.cut_at(cut, tear);
        let mut memory = Memory::default();
        loop {
            let image = random.below(images);
            let mut journal = Journal::with(&mut flash, &mut memory).of_image(image as u8);
            let done = any_call(&mut journal, &mut models[image], &mut random);
            if !done {
                assert!(flash.power.is_off(), "{what}: an error without a cause");
                break;
            }
            if random.below(16) == 0 && !matches!(weak, Some(Choice::PerRead(_))) {
                check(&mut flash, &models, &what);
            }
        }
        flash.power.on();
        if let Some(Choice::PerRead(_)) = weak {
            models.iter_mut().for_each(Model::may_be_lost);
        }
        check(&mut flash, &models, &what);
    }
}
fn with_any_tear<const W: usize, const E: usize>(sectors: usize, images: usize) {
    for seed in 0..SEEDS {
        any_calls_and_cuts::<W, E>(sectors, images, seed, None);
        let boots = Choice::Boots(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for choice in [Choice::PerBoot(2), boots] {
            any_calls_and_cuts::<W, E>(sectors, images, seed, Some(choice));
        }
    }
}

#[test]
fn what_the_journal_shows_was_stored_last_or_cut_last_on_4_kib_sectors() {
    with_any_tear::<1, SECTOR>(2, 3);
    with_any_tear::<4, SECTOR>(2, 3);
    with_any_tear::<4, SECTOR>(3, 3);
    with_any_tear::<32, SECTOR>(5, 3);
}

#[test]
fn what_the_journal_shows_was_stored_last_or_cut_last_on_small_large_and_no_sectors() {
    with_any_tear::<2, 512>(8, 1);
    with_any_tear::<8, 2048>(4, 1);
    with_any_tear::<8, 8192>(2, 3);
    // Erased in units of a write: memory that needs no erase.
    with_any_tear::<16, 16>(512, 3);
}

/// Then a value may also be missing: its cells are read more than once.
#[test]
fn cells_that_read_differently_each_time_never_show_what_was_not_stored() {
    for seed in 0..10 {
        any_calls_and_cuts::<4, SECTOR>(2, 2, seed, Some(Choice::PerRead(2)));
        any_calls_and_cuts::<4, SECTOR>(2, 2, seed, Some(Choice::PerRead(20)));
    }
}

/// Everything that was ever stored: sessions, progress and versions.
type History = (Vec<Vec<u8>>, Vec<[u32; 3]>, Vec<u32>);

/// A journal in use.
fn used(random: &mut Random) -> (Nor<4>, History) {
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    let (mut sessions, mut progress, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut journal = Journal::new(&mut flash);
    for _ in 0..1 + random.below(4) {
        let packet: Vec<u8> = (0..100 + random.below(200)).map(|_| random.byte()).collect();
        let session = session_id(&packet);
        journal.begin(&packet).unwrap();
        for _ in 0..random.below(60) {
            let [offset, check] = [random.next() as u32, random.next() as u32];
            journal.progress(session, Progress { offset, check }).unwrap();
            progress.push([session, offset, check]);
        }
        let number = random.next() as u32 >> 1;
        journal.set_versions(versions(number)).unwrap();
        numbers.push(number);
        sessions.push(packet);
    }
    (flash, (sessions, progress, numbers))
}

#[test]
fn after_any_bit_flips_the_journal_shows_older_records_or_none_and_then_works() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let (mut flash, (sessions, progress, numbers)) = used(&mut random);
        let flips = 1 << random.below(12);
        for _ in 0..flips {
            let at = random.below(flash.bytes.len());
            flash.bytes[at] ^= 1 << random.below(8);
        }
        let (stored, found) = shown(&mut flash, 0);
        if let Some((packet, found)) = stored {
            let record = [session_id(&packet), found.offset, found.check];
            assert!(sessions.contains(&packet), "seed {seed}");
            assert!(
                found == Progress::default() || progress.contains(&record),
                "seed {seed}: {record:?}"
            );
        }
        assert!(found.is_none_or(|found| numbers.contains(&found)), "seed {seed}");
        works(&mut flash);
    }
}

/// Any contents end in a journal that works, without an error on the way.
fn works<const W: usize, const E: usize>(flash: &mut Nor<W, E>) {
    flash.program_once = true;
    let mut journal = Journal::new(&mut *flash);
    journal.open().unwrap();
    let mut packet = [0; MAX_SESSION];
    let _ = journal.session(&mut packet).unwrap();
    let _ = journal.versions().unwrap();
    journal.set_versions(versions(3)).unwrap();
    journal.begin(&[7; MAX_SESSION]).unwrap();
    for offset in 0..150 {
        let progress = Progress { offset, check: 9 };
        journal.progress(session_id(&[7; MAX_SESSION]), progress).unwrap();
    }
    let last = Progress {
        offset: 149,
        check: 9,
    };
    assert_eq!(journal.session(&mut packet), Ok(Some((MAX_SESSION, last))));
    assert_eq!(
        (packet, journal.versions()),
        ([7; MAX_SESSION], Ok(Some(versions(3))))
    );
    journal.close().unwrap();
    assert_eq!(journal.session(&mut packet), Ok(None));
}

#[test]
fn any_contents_end_in_a_journal_that_works() {
    for seed in 0..50 {
        let mut random = Random::new(seed);
        let mut flash = Nor::<4>::new('j', 2, &Power::new());
        flash.bytes.fill_with(|| random.byte());
        works(&mut flash);
    }
    for byte in [0, 1, 0x7F, 0x80, 0xB1, 0xFE] {
        let mut flash = Nor::<8, 2048>::with_erase_size('j', 3, &Power::new());
        flash.bytes.fill(byte);
        works(&mut flash);
    }
}

/// Cells that somebody forged, with every field chosen at random among values that are awkward, and with a good check.
#[test]
fn forged_cells_end_in_a_journal_that_works() {
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let mut flash = Nor::<4>::new('j', 2 + random.below(3), &Power::new());
        let base = [0, 1, 5, (1 << 30) - 2, (1 << 31) - 1, u32::MAX][random.below(6)];
        let few_keys = random.below(2) == 0;
        for at in (0..flash.bytes.len()).step_by(32) {
            let mut cell = [random.byte(); 32];
            let key = match few_keys {
                true => [0, 1, 2, 8][random.below(4)],
                false => random.byte(),
            };
            let left = [0, 1, 20, 21, 100, 512, 513, u16::MAX][random.below(8)];
            let sequence = base.wrapping_add(random.below(4) as u32);
            cell[..2].copy_from_slice(&[0xB1, key]);
            cell[2..4].copy_from_slice(&left.to_le_bytes());
            cell[4..8].copy_from_slice(&sequence.to_le_bytes());
            let mut crc = crc32();
            crc.update(&cell[..28]);
            cell[28..].copy_from_slice(&crc.finalize().to_le_bytes());
            flash.load(at, &cell);
        }
        works(&mut flash);
    }
}

#[test]
fn records_of_the_journal_before_this_format_are_no_records_and_no_error() {
    // Two sectors as the map of sequential-storage 8 left them: marks at both ends, an item with a 141-byte packet, and
    // progress.
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    flash.load(0, &[0x00, 0x00, 0x00, 0x00]);
    let packet: Vec<u8> = (0..142).collect();
    flash.load(4, &[0x12, 0x34, 0x56, 0x78, 0x8E, 0x00, 0x8E, 0x00]);
    flash.load(12, &packet);
    for item in 0..50 {
        let value = [item as u8 | 1; 24];
        flash.load(160 + item * 24, &value);
    }
    flash.load(SECTOR, &[0x00, 0x00, 0x00, 0x00]);
    assert_eq!(shown(&mut flash, 0), (None, None));
    works(&mut flash);
}

#[test]
fn pages_are_erased_in_turn() {
    for sectors in [2, 3, 8] {
        let mut flash = Nor::<4>::new('j', sectors, &Power::new());
        flash.power.record();
        let mut journal = Journal::new(&mut flash);
        for offset in 0..4000 {
            journal.progress(1, Progress { offset, check: 0 }).unwrap();
        }
        let mut erases = std::vec![0u32; sectors];
        for op in flash.power.recorded() {
            if let bledfu_testkit::Op::Erase { sector, .. } = op {
                erases[sector as usize] += 1;
            }
        }
        let (least, most) = (erases.iter().min().unwrap(), erases.iter().max().unwrap());
        assert!(most - least <= 1 && *most > 0, "{erases:?}");
        assert!(erases.iter().sum::<u32>() <= 4000 / 120, "{erases:?}");
    }
}

#[test]
fn room_that_was_made_is_used_without_an_erase() {
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    let mut journal = Journal::new(&mut flash);
    journal.begin(&[5; 141]).unwrap();
    for round in 0..40 {
        journal.make_room(9).unwrap();
        let before = round * 9;
        journal.flash.power.record();
        for offset in before..before + 9 {
            journal.progress(1, Progress { offset, check: 0 }).unwrap();
        }
        let is_write = |op: &bledfu_testkit::Op| matches!(op, bledfu_testkit::Op::Write { .. });
        let ops = journal.flash.power.recorded();
        assert!(ops.len() == 9 && ops.iter().all(is_write), "{ops:?}");
    }
    assert_eq!(journal.off_if(true).make_room(1), Err(JournalError::Off));
}

#[test]
fn a_prepared_journal_stores_two_pages_of_records_without_an_erase() {
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    Journal::new(&mut flash).begin(&[5; 141]).unwrap();
    let mut journal = Journal::new(&mut flash);
    assert_eq!(journal.prepare(), Ok(true), "a page of this power cycle");
    assert_eq!(journal.prepare(), Ok(true), "the page after it");
    assert_eq!(journal.prepare(), Ok(false));
    journal.flash.power.record();
    for offset in 0..2 * 110 {
        journal.progress(1, Progress { offset, check: 0 }).unwrap();
    }
    let is_erase = |op: &bledfu_testkit::Op| matches!(op, bledfu_testkit::Op::Erase { .. });
    assert!(!journal.flash.power.recorded().iter().any(is_erase));
    assert_eq!(journal.prepare(), Ok(true), "the first page again");
    assert_eq!(journal.off_if(true).prepare(), Err(JournalError::Off));
}

#[test]
fn a_record_that_reads_back_wrong_once_is_stored_in_the_next_page() {
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    let mut journal = Journal::new(&mut flash);
    journal.begin(b"one").unwrap();
    let progress = |offset| Progress { offset, check: 7 };
    for offset in 1..50 {
        if offset % 5 == 0 {
            // From now on: the store, and if it failed, an erase and everything anew.
            journal.flash.power.on();
            journal.flash.power.spoil(0);
        }
        journal.progress(session_id(b"one"), progress(offset)).unwrap();
        let mut packet = [0; MAX_SESSION];
        assert_eq!(journal.session(&mut packet), Ok(Some((3, progress(offset)))));
    }
}

#[test]
fn one_wrong_read_loses_no_record() {
    for read in 0..400 {
        let mut flash = Nor::<4>::new('j', 2, &Power::new());
        let mut journal = Journal::new(&mut flash);
        journal.begin(&[3; 200]).unwrap();
        journal.set_versions(versions(8)).unwrap();
        let progress = |offset| Progress { offset, check: 7 };
        journal.progress(session_id(&[3; 200]), progress(1)).unwrap();
        flash.misreads.flipped = read..read + 1;
        if read % 2 == 0 {
            flash.misreads.blank = read..read + 1;
        }
        flash.misreads.reads = 0;
        let mut journal = Journal::new(&mut flash);
        for offset in 2..70 {
            let done = journal.progress(session_id(&[3; 200]), progress(offset));
            assert_eq!(done, Ok(()), "read {read}, offset {offset}");
        }
        let (stored, found) = shown(&mut flash, 0);
        assert_eq!(stored, Some(([3; 200].to_vec(), progress(69))), "read {read}");
        assert_eq!(found, Some(8), "read {read}");
    }
}
