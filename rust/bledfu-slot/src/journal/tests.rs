// SPDX-License-Identifier: Apache-2.0
//! Records that are written, cut, torn and read back.

mod model;

use super::*;
use bledfu_testkit::{Nor, Power, Random, Tear};
use std::vec::Vec;

fn flash() -> Nor<4> {
    Nor::new('j', 2, &Power::new())
}

fn open(journal: &mut Journal<&mut Nor<4>>) -> Option<(Vec<u8>, Progress)> {
    let mut init = [0; MAX_SESSION];
    let session = journal.session(&mut init).unwrap();
    session.map(|(length, progress)| (init[..length].to_vec(), progress))
}

#[test]
fn an_erased_journal_has_no_session_and_no_versions() {
    let mut flash = flash();
    let mut journal = Journal::new(&mut flash);
    assert_eq!(open(&mut journal), None);
    assert_eq!(journal.versions(), Ok(None));
    assert_eq!(journal.close(), Ok(()));
    assert_eq!(flash.power.ops(), 0, "looking writes nothing");
}

#[test]
fn a_session_of_the_longest_init_packet_comes_back_with_its_progress() {
    let mut flash = flash();
    let init: Vec<u8> = (0..MAX_SESSION).map(|i| i as u8).collect();
    let progress = Progress {
        offset: 8192,
        check: 0x1234_5678,
    };
    let mut journal = Journal::new(&mut flash);
    journal.begin(&init).unwrap();
    journal.progress(session_id(&init), progress).unwrap();
    assert_eq!(open(&mut Journal::new(&mut flash)), Some((init, progress)));
}

#[test]
fn progress_of_another_session_does_not_count() {
    let mut flash = flash();
    let mut journal = Journal::new(&mut flash);
    journal.begin(b"one").unwrap();
    journal
        .progress(
            session_id(b"one"),
            Progress {
                offset: 4096,
                check: 1,
            },
        )
        .unwrap();
    journal.begin(b"two").unwrap();
    assert_eq!(open(&mut journal), Some((b"two".to_vec(), Progress::default())));
}

#[test]
fn a_closed_session_is_gone_and_versions_stay() {
    let mut flash = flash();
    let mut journal = Journal::new(&mut flash);
    let image = |fw_version, byte| Installed {
        fw_version,
        digest: [byte; 8],
    };
    let versions = Versions {
        base: image(1, 0xA1),
        staged: image(2, 0xB2),
    };
    journal.begin(b"init").unwrap();
    journal.set_versions(versions).unwrap();
    journal.close().unwrap();
    assert_eq!(open(&mut journal), None);
    assert_eq!(journal.versions(), Ok(Some(versions)));
    assert_eq!(versions.of(&[0xA1; 8]), Some(1));
    assert_eq!(versions.of(&[0xB2; 8]), Some(2));
    assert_eq!(versions.of(&[0; 8]), None);
}

#[test]
fn an_empty_or_over_long_session_is_refused() {
    let mut flash = flash();
    let mut journal = Journal::new(&mut flash);
    assert_eq!(journal.begin(&[]), Err(JournalError::BadSession));
    assert_eq!(
        journal.begin(&[0; MAX_SESSION + 1]),
        Err(JournalError::BadSession)
    );
}

#[test]
fn one_sector_is_no_area_for_a_journal() {
    let mut flash = Nor::<4>::new('j', 1, &Power::new());
    assert_eq!(
        Journal::new(&mut flash).begin(b"init"),
        Err(JournalError::BadArea)
    );
}

/// Two updates of 117 objects each, so the sectors are recycled in between.
fn two_updates(flash: &mut Nor<4>) -> Result<(), JournalError> {
    let mut journal = Journal::new(flash);
    for init in [b"first", b"again"] {
        journal.progress(session_id(init), Progress::default())?;
        journal.begin(init)?;
        for object in 1..=117 {
            journal.progress(
                session_id(init),
                Progress {
                    offset: object * 4096,
                    check: object,
                },
            )?;
        }
    }
    Ok(())
}

#[test]
fn a_cut_at_any_write_or_erase_leaves_the_state_before_or_after_it() {
    let mut calm = flash();
    two_updates(&mut calm).unwrap();
    let before_cut = |op| {
        let mut flash = flash();
        flash.power.cut_at(op, Tear::Before);
        two_updates(&mut flash).unwrap_err();
        flash.power.on();
        flash
    };
    for op in 0..calm.power.ops() {
        let last = open(&mut Journal::new(&mut before_cut(op)));
        let mut torn = flash();
        torn.power.cut_at(
            op,
            Tear::Inside {
                percent: 50,
                seed: op,
            },
        );
        two_updates(&mut torn).unwrap_err();
        torn.power.on();
        let found = open(&mut Journal::new(&mut torn));
        // The state is the one before the torn record or the one after it.
        let offset =
            |session: &Option<(Vec<u8>, Progress)>| session.as_ref().map(|(_, progress)| progress.offset);
        let next = [offset(&last), Some(0), offset(&last).map(|offset| offset + 4096)];
        assert!(
            next.contains(&offset(&found)),
            "operation {op}: {last:?} became {found:?}"
        );
        let mut journal = Journal::new(&mut torn);
        journal.begin(b"after the cut").unwrap();
        assert_eq!(
            open(&mut journal),
            Some((b"after the cut".to_vec(), Progress::default()))
        );
    }
}

/// A flash that accepts every command and does nothing.
struct Worn<'f>(&'f mut Nor<4>);

impl embedded_storage::nor_flash::ErrorType for Worn<'_> {
    type Error = bledfu_testkit::NorError;
}

impl embedded_storage::nor_flash::ReadNorFlash for Worn<'_> {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.0.read(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.0.capacity()
    }
}

impl NorFlash for Worn<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), Self::Error> {
        Ok(())
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// A journal in use. An erase of its second sector was cut and has left `bits` bits.
fn with_residue(bits: u32, seed: u64) -> Nor<4> {
    let mut flash = flash();
    // Programming over those bits raises none of them and reports no error.
    flash.lenient = true;
    let mut journal = Journal::new(&mut flash);
    journal.begin(b"one").unwrap();
    journal.set_versions(VERSIONS).unwrap();
    let mut random = Random::new(seed);
    for _ in 0..bits {
        // Anywhere except in the words that hold the marks.
        let at = 4096 + 4 + random.next() as usize % 4088;
        flash.bytes[at] &= !(1 << (random.next() % 8));
    }
    flash
}

const VERSIONS: Versions = Versions {
    base: Installed {
        fw_version: 1,
        digest: [1; 8],
    },
    staged: Installed {
        fw_version: 2,
        digest: [2; 8],
    },
};

// boot-trust case 54
#[test]
fn every_store_over_what_a_cut_erase_left_reads_back() {
    for bits in [1, 2, 5, 17, 64, 300, 1024] {
        for seed in 0..5 {
            for is_opened in [true, false] {
                let mut flash = with_residue(bits, seed);
                let mut journal = Journal::new(&mut flash);
                if is_opened {
                    journal.open().unwrap();
                }
                for round in 0..200 {
                    if !is_opened {
                        // Other records may be lost when the storage moves them onto those bytes.
                        journal.begin(b"one").unwrap();
                    }
                    let progress = Progress {
                        offset: round * 4096,
                        check: round,
                    };
                    journal.progress(session_id(b"one"), progress).unwrap();
                    assert_eq!(
                        open(&mut journal),
                        Some((b"one".to_vec(), progress)),
                        "{bits} bits, seed {seed}, {round}"
                    );
                }
                if is_opened {
                    assert_eq!(journal.versions(), Ok(Some(VERSIONS)));
                }
            }
        }
    }
}

#[test]
fn opening_a_good_journal_writes_nothing() {
    let mut flash = flash();
    Journal::new(&mut flash).open().unwrap();
    two_updates(&mut flash).unwrap();
    let before = flash.power.ops();
    Journal::new(&mut flash).open().unwrap();
    assert_eq!(flash.power.ops(), before);
}

// boot-trust case 54: a store that cannot be kept is an error
#[test]
fn a_record_on_a_worn_out_flash_is_an_error_and_a_journal_that_is_off_writes_nothing() {
    let mut flash = flash();
    Journal::new(&mut flash).begin(b"one").unwrap();
    let mut worn = Journal::new(Worn(&mut flash));
    assert!(worn.set_versions(VERSIONS).is_err());
    assert_eq!(worn.versions(), Ok(None));
    let mut journal = Journal::new(&mut flash).off_if(true);
    assert_eq!(journal.begin(b"two"), Err(JournalError::Off));
    assert_eq!(open(&mut journal).map(|(init, _)| init), Some(b"one".to_vec()));
}

#[test]
fn uploads_of_two_images_keep_separate_progress() {
    let mut flash = flash();
    let at = |offset| Progress { offset, check: 7 };
    let mut application = Journal::new(&mut flash);
    application.begin(b"application").unwrap();
    application
        .progress(session_id(b"application"), at(4096))
        .unwrap();
    let mut network = Journal::new(&mut flash).of_image(1);
    assert_eq!(open(&mut network), None);
    network.begin(b"network").unwrap();
    network.progress(session_id(b"network"), at(8192)).unwrap();
    let mut application = Journal::new(&mut flash);
    assert_eq!(open(&mut application), Some((b"application".to_vec(), at(4096))));
    application.close().unwrap();
    let mut network = Journal::new(&mut flash).of_image(1);
    assert_eq!(open(&mut network), Some((b"network".to_vec(), at(8192))));
}

fn comes_back_with_write_units_of<const W: usize>() {
    let mut flash = Nor::<W>::new('j', 2, &Power::new());
    flash.program_once = W > 4;
    let init: Vec<u8> = (0..141).collect();
    let mut journal = Journal::new(&mut flash);
    for round in 1..=400u32 {
        journal.begin(&init).unwrap();
        let progress = Progress {
            offset: round * 4096,
            check: round,
        };
        journal.progress(session_id(&init), progress).unwrap();
        let mut out = [0; MAX_SESSION];
        assert_eq!(
            journal.session(&mut out),
            Ok(Some((141, progress))),
            "W={W} {round}"
        );
    }
    journal.close().unwrap();
    assert_eq!(journal.session(&mut [0; MAX_SESSION]), Ok(None));
}

#[test]
fn records_come_back_with_every_write_unit() {
    comes_back_with_write_units_of::<1>();
    comes_back_with_write_units_of::<2>();
    comes_back_with_write_units_of::<8>();
    comes_back_with_write_units_of::<16>();
    comes_back_with_write_units_of::<32>();
}
