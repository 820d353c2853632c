// SPDX-License-Identifier: Apache-2.0
//! A journal in use, with any bytes over it. Each call ends, without an error; what was stored reads back; after a reset
//! it works.
#![no_main]

use bledfu_slot::journal::{session_id, Installed, Journal, Progress, Versions, MAX_SESSION};
use bledfu_testkit::{Nor, Power, SECTOR};
use libfuzzer_sys::fuzz_target;

const INSTALLED: Installed = Installed {
    fw_version: 7,
    digest: [1; 8],
};
const VERSIONS: Versions = Versions {
    base: INSTALLED,
    staged: INSTALLED,
};

fuzz_target!(|data: &[u8]| {
    let Some(([uses, rounds, is_opened], mut rest)) = data.split_first_chunk() else {
        return;
    };
    let mut flash = Nor::<4>::new('j', 2, &Power::new());
    flash.program_once = true;
    let mut journal = Journal::new(&mut flash);
    for number in 0..u32::from(*uses) {
        journal.begin(&[8; 140]).unwrap();
        let offset = number * 4096;
        journal
            .progress(session_id(&[8; 140]), Progress { offset, check: 1 })
            .unwrap();
    }
    // Place, length, bytes.
    while let Some(([low, high, length], behind)) = rest.split_first_chunk() {
        let at = usize::from(u16::from_le_bytes([*low, *high])) % flash.bytes.len();
        let length = usize::from(*length % 64)
            .min(behind.len())
            .min(flash.bytes.len() - at);
        let (bytes, behind) = behind.split_at(length);
        flash.load(at, bytes);
        rest = behind;
    }
    let mut journal = Journal::new(&mut flash);
    if is_opened % 2 == 1 {
        let _ = journal.open();
    }
    let mut packet = [0; MAX_SESSION];
    let _ = journal.session(&mut packet);
    let _ = journal.versions();
    for number in 0..u32::from(*rounds) {
        let progress = Progress {
            offset: number,
            check: number,
        };
        if number % 20 == 0 {
            journal.begin(&[10; 200]).unwrap();
            let found = journal.session(&mut packet).unwrap();
            assert_eq!(found.map(|(length, _)| length), Some(200));
            journal.set_versions(VERSIONS).unwrap();
            assert_eq!(journal.versions(), Ok(Some(VERSIONS)));
        }
        journal.progress(session_id(&[10; 200]), progress).unwrap();
        assert_eq!(journal.session(&mut packet), Ok(Some((200, progress))));
    }
    journal.reset().unwrap();
    journal.begin(&[9; 100]).unwrap();
    journal.set_versions(VERSIONS).unwrap();
    assert_eq!(journal.session(&mut packet), Ok(Some((100, Progress::default()))));
    journal.close().unwrap();
    assert_eq!(journal.session(&mut packet), Ok(None));
    assert_eq!(journal.versions(), Ok(Some(VERSIONS)));
    assert_eq!(flash.bytes.len(), 2 * SECTOR);
});
