// SPDX-License-Identifier: Apache-2.0
//! Cells that a cut operation left weak: they read one way at one boot and another way at the next, until they are
//! erased or written again.

#[path = "common/trust.rs"]
mod trust;

use bledfu_slot::Algorithm;
use bledfu_swap::Downgrade;
use bledfu_testkit::{Choice, Op, Tear, Weak, SECTOR};
use trust::{Claim, Device, FIELD, POLICIES, REVERTING};

/// Reads as written at the boot after the cut, and as erased from then on.
const WRITTEN_THEN_ERASED: Choice = Choice::Boots(0b01);
/// The other way round.
const ERASED_THEN_WRITTEN: Choice = Choice::Boots(!0b01);

const HALF: Tear = Tear::Inside { percent: 50, seed: 0 };

fn requested<const W: usize>(algorithm: Algorithm) -> Device<W> {
    let mut device = Device::<W>::of_units(algorithm, POLICIES[0]);
    device.upload_b(Claim::Test);
    device
}

/// For each operation of the next boot that `is_wanted`: a device on which it was cut in the middle, and its weak bytes
/// read as `choice` says.
fn torn<'d, const W: usize>(
    start: &'d Device<W>,
    choice: Choice,
    is_wanted: impl Fn(&Op) -> bool + 'd,
) -> impl Iterator<Item = (u64, Device<W>)> + 'd {
    let operations = start.operations().into_iter().zip(0..);
    operations.filter_map(move |(operation, number)| {
        if !is_wanted(&operation) {
            return None;
        }
        let mut device = start.fork();
        device.power.set_weak(Some(Weak { choice, seed: number }));
        assert!(device.is_cut_at(number, HALF));
        Some((number, device))
    })
}

/// A record or a flag in the primary.
fn is_mark(operation: &Op) -> bool {
    matches!(operation, Op::Write { chip: 'p', bytes, .. } if bytes.len() <= FIELD)
}

/// A record of the job in the primary.
fn is_record<const W: usize>(device: &Device<W>) -> impl Fn(&Op) -> bool {
    let trailer = device.layout.primary_trailer();
    let records =
        trailer.status_start()..trailer.status_start() + trailer.record_count() * trailer.status_unit();
    move |operation| matches!(operation, Op::Write { chip: 'p', offset, bytes } if bytes.len() <= FIELD && records.contains(offset))
}

/// Checks a device that was cut: in the end an image runs without weak bytes, and the image before is not lost.
fn is_whole<const W: usize>(mut device: Device<W>, what: &str) {
    let (a, size) = (device.images.a.clone(), device.images.b.len() as u32);
    let runs = device.resets(3);
    for runs in &runs {
        assert!(["A", "B"].contains(runs), "{what}: {runs}");
    }
    let last = runs[2];
    assert!(
        last == "A" || device.is_outside(&a),
        "{what}: the way back is gone"
    );
    let image = if last == "A" { a.len() as u32 } else { size };
    assert!(!device.primary.weak.any_in(0..image), "{what}: weak cells run");
    // Nothing was confirmed, so the trial ends.
    if device.layout.algorithm() != Algorithm::Overwrite {
        assert_eq!(device.boots(), "A", "{what}");
        assert!(device.is_outside(&device.images.b) || last == "A", "{what}");
    }
}

/// A torn record reads like this, and then the power is cut at every later operation.
fn a_record_in_doubt<const W: usize>(choice: Choice, every: usize) {
    for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch] {
        let start = requested::<W>(algorithm);
        let mut records = 0;
        for (operation, cut) in torn(&start, choice, is_record(&start)) {
            records += 1;
            is_whole(cut.fork(), &format!("W={W} {algorithm:?} {operation}"));
            for (second, device) in cut.each_cut().step_by(every) {
                let what = format!("W={W} {algorithm:?} {operation} then {second}");
                is_whole(device, &what);
            }
        }
        assert!(records > 4, "{algorithm:?}: {records}");
    }
}

// boot-trust case 46
#[test]
fn a_record_that_reads_written_and_then_erased_loses_nothing() {
    a_record_in_doubt::<4>(WRITTEN_THEN_ERASED, 1);
}

// boot-trust case 47
#[test]
fn a_record_that_reads_erased_and_then_written_loses_nothing() {
    a_record_in_doubt::<4>(ERASED_THEN_WRITTEN, 1);
}

/// Three cuts, the third one after the second, for this write unit.
fn three_cuts<const W: usize>() {
    for choice in [WRITTEN_THEN_ERASED, ERASED_THEN_WRITTEN] {
        a_record_in_doubt::<W>(choice, 5);
        for algorithm in [Algorithm::SwapOffset, Algorithm::SwapMove, Algorithm::SwapScratch] {
            let start = requested::<W>(algorithm);
            for (operation, cut) in torn(&start, choice, is_record(&start)).step_by(4) {
                for (second, again) in cut.each_cut().step_by(11) {
                    for (third, device) in again.each_cut().step_by(9) {
                        let what = format!("W={W} {algorithm:?} {operation}, {second}, {third}");
                        is_whole(device, &what);
                    }
                }
            }
        }
    }
}

// boot-trust case 48
#[test]
fn three_cuts_lose_nothing_with_any_write_unit() {
    // `bledfu cut --weak` tries the others.
    three_cuts::<2>();
    three_cuts::<4>();
    three_cuts::<32>();
}

// boot-trust case 49
#[test]
fn an_erase_that_was_cut_is_done_again_whatever_the_sector_reads() {
    for algorithm in Algorithm::ALL {
        for choice in [
            WRITTEN_THEN_ERASED,
            ERASED_THEN_WRITTEN,
            Choice::PerBoot(2),
            Choice::PerRead(2),
            Choice::PerBoot(16),
            Choice::PerRead(16),
        ] {
            let start = requested::<4>(algorithm);
            let is_erase = |operation: &Op| matches!(operation, Op::Erase { .. });
            for (operation, cut) in torn(&start, choice, is_erase) {
                let what = format!("{algorithm:?} {choice:?} {operation}");
                if algorithm != Algorithm::Overwrite {
                    is_whole(cut.fork(), &what);
                }
                for (second, mut device) in cut.each_cut().step_by(5) {
                    let what = format!("{what} then {second}");
                    match algorithm {
                        Algorithm::Overwrite => assert_eq!(device.resets(2), ["B"; 2], "{what}"),
                        _ => is_whole(device, &what),
                    }
                }
            }
        }
    }
}

// boot-trust case 50
#[test]
fn a_torn_mark_leads_to_one_end_or_the_other_and_stays_there() {
    for choice in [
        WRITTEN_THEN_ERASED,
        ERASED_THEN_WRITTEN,
        Choice::PerBoot(2),
        Choice::PerRead(2),
    ] {
        for algorithm in REVERTING {
            // The flags of an install for good, and of a revert.
            let mut permanent = Device::new(algorithm, POLICIES[0]);
            permanent.upload_b(Claim::Permanent);
            let trial = Device::on_trial(algorithm, POLICIES[0]);
            for (start, end) in [(&permanent, "B"), (&trial, "A")] {
                for (operation, mut device) in torn(start, choice, is_mark) {
                    let what = format!("{algorithm:?} {choice:?} {operation}");
                    device.resets(3);
                    assert_eq!(device.resets(3), [end; 3], "{what}");
                }
            }
            // Those of the install of a test: if its flag is lost, a trial may stay as it is.
            let start = requested::<4>(algorithm);
            for (operation, mut device) in torn(&start, choice, is_mark) {
                let what = format!("{algorithm:?} {choice:?} {operation}");
                let end = device.resets(4)[3];
                assert_eq!(device.resets(3), [end; 3], "{what}");
                let a = device.images.a.clone();
                assert!(end == "A" || end == "B" && device.is_outside(&a), "{what}: {end}");
            }
            // The confirmation that the application writes.
            for seed in 0..8 {
                let mut device = Device::on_trial(algorithm, POLICIES[0]);
                device.power.on();
                device.power.set_weak(Some(Weak { choice, seed }));
                device.power.cut_at(0, HALF);
                let cut = bledfu_slot::trailer::confirm(&mut device.primary, &device.layout);
                assert!(cut.is_err());
                let what = format!("{algorithm:?} {choice:?} {seed}");
                let first = device.resets(4);
                assert_eq!(device.resets(2), [first[3]; 2], "{what}: {first:?}");
                assert!(
                    first
                        .iter()
                        .skip_while(|runs| **runs == "B")
                        .all(|runs| *runs == "A"),
                    "{what}: {first:?}"
                );
            }
        }
    }
}

// boot-trust case 51
#[test]
fn a_torn_record_of_evidence_never_lowers_the_floor() {
    for choice in [
        WRITTEN_THEN_ERASED,
        ERASED_THEN_WRITTEN,
        Choice::PerRead(2),
        Choice::PerRead(16),
    ] {
        for algorithm in REVERTING {
            let mut start = Device::on_trial(algorithm, POLICIES[0]);
            start.confirm();
            let is_append = |operation: &Op| {
                matches!(
                    operation,
                    Op::Write { chip: 't', .. } | Op::Erase { chip: 't', .. }
                )
            };
            for (operation, mut device) in torn(&start, choice, is_append) {
                let what = format!("{algorithm:?} {choice:?} {operation}");
                let mut floor = 8;
                for _ in 0..4 {
                    assert_eq!(device.boots(), "B", "{what}");
                    let found = device.floor();
                    assert!(found >= floor, "{what}: {found} behind {floor}");
                    floor = found;
                }
                assert_eq!(floor, 9, "{what}");
                let old = device.images.a.clone();
                device.rewrite(device.layout.upload_offset() as usize, &old, Claim::Permanent);
                assert_eq!(device.resets(2), ["B"; 2], "{what}");
            }
        }
    }
}

// boot-trust case 52
#[test]
fn a_page_whose_program_was_cut_at_its_end_is_written_again_although_it_reads_right() {
    let mut left = Vec::new();
    for algorithm in Algorithm::ALL {
        let mut start = Device::new(algorithm, Downgrade::Allowed);
        start.upload_b(Claim::Test);
        let mut pages = 0;
        for (number, operation) in start.operations().into_iter().enumerate() {
            let Op::Write {
                chip: 'p',
                offset,
                bytes,
            } = operation
            else {
                continue;
            };
            let sector = offset / SECTOR as u32;
            if bytes.len() <= FIELD {
                continue;
            }
            let mut device = start.fork();
            let whole = Tear::Prefix {
                bytes: bytes.len(),
                next: 0xFF,
            };
            assert!(device.is_cut_at(number as u64, whole));
            device.power.on();
            device.power.record();
            let _ = device.boot();
            let again = device
                .power
                .recorded()
                .iter()
                .any(|op| matches!(op, Op::Erase { chip: 'p', sector: erased } if *erased == sector));
            if !again {
                left.push(format!("{algorithm:?} operation {number} at {offset:#x}"));
            }
            assert_eq!(device.runs(), "B", "{algorithm:?}");
            pages += 1;
        }
        assert!(pages > 2, "{algorithm:?}: {pages}");
    }
    assert!(left.is_empty(), "not written again: {left:?}");
}
