// SPDX-License-Identifier: Apache-2.0
//! Random bytes in the trailers, the status areas and the scratch area: a boot never panics and never starts an invalid
//! image. What an application is told about the next boot is true, and no unfinished state lasts.

mod common;

use bledfu_slot::copy_roles::{self, Place};
use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::{outlook, Algorithm, Layout, Outlook, SwapType, TrailerLayout};
use bledfu_swap::BootAction;
use bledfu_testkit::{sha256, Image, Key, Nor, Power, Random};
use common::{boot_once, config, geometry, trusted};

const SECTORS: usize = 8;
const ROUNDS: u64 = 4000;

/// Fills a trailer with random fields, some of which make sense.
fn scribble(area: &mut Nor<4>, layout: &TrailerLayout, random: &mut Random) {
    let start = layout.status_start() as usize;
    let end = layout.slot_size() as usize;
    match random.next() % 4 {
        0 => area.bytes[start..end].fill_with(|| random.byte()),
        1 => area.bytes[start..end].fill(0xFF),
        _ => {
            area.bytes[start..end].fill(0xFF);
            for _ in 0..random.next() % 12 {
                let at = start + random.next() as usize % (end - start);
                area.bytes[at] = random.byte();
            }
            let flag = |random: &mut Random| [0x01, 0xFF, 0x00, 0x03][random.next() as usize % 4];
            area.bytes[layout.image_ok() as usize] = flag(random);
            area.bytes[layout.copy_done() as usize] = flag(random);
            area.bytes[layout.swap_info() as usize] = [2, 3, 4, 0xFF][random.next() as usize % 4];
            let size = [0, 5000, 9000, 9644, 20000, u32::MAX][random.next() as usize % 6];
            area.load(layout.swap_size() as usize, &size.to_le_bytes());
            for record in 0..random.next() as u32 % 14 {
                area.bytes[(layout.status_start() + record * layout.status_unit()) as usize] = 1;
            }
        }
    }
    if !random.next().is_multiple_of(4) {
        area.load(layout.magic() as usize, &magic_bytes(8));
    }
}

/// Number of boots in a row: for something interrupted, an install, and the revert.
const BOOTS: u32 = 3;

/// What an application is told about the next boot.
fn next(layout: &Layout, [primary, secondary, third]: [&mut Nor<4>; 3]) -> Outlook {
    let incoming = copy_roles::incoming(primary, secondary, third, layout).unwrap();
    let layout = &layout.with_incoming(incoming);
    match incoming {
        Place::First => outlook(layout, primary, secondary, third),
        Place::Second => outlook(layout, primary, third, secondary),
    }
}

#[test]
fn whatever_the_trailers_say_only_a_valid_image_starts() {
    let old = Image::bare(0x200, 5000, 1).version(1, 0, 0, 0).sign(Key(7));
    let new = Image::bare(0x200, 9000, 2).version(2, 0, 0, 0).sign(Key(7));
    let digests = [old.digest(), new.digest()];
    let (old, new) = (old.bytes(), new.bytes());
    for algorithm in Algorithm::ALL {
        let spare = match algorithm {
            Algorithm::SwapScratch => Some(geometry(1)),
            Algorithm::Copy => Some(geometry(SECTORS)),
            _ => None,
        };
        let (first, second) = (geometry(SECTORS), geometry(SECTORS));
        let layout = Layout::with_spare(algorithm, first, second, spare, 8, 128).unwrap();
        let mut started = 0;
        for round in 0..ROUNDS {
            let mut random = Random::new(round);
            let power = Power::new();
            let mut primary = Nor::<4>::new('p', SECTORS, &power);
            let mut secondary = Nor::<4>::new('s', SECTORS, &power);
            let mut third = Nor::<4>::new('x', spare.map_or(0, |area| area.sectors() as usize), &power);
            for area in [&mut primary, &mut secondary, &mut third] {
                area.lenient = true;
            }
            primary.load(0, &old);
            secondary.load(layout.upload_offset() as usize, &new);
            // Also images in pieces.
            for area in [&mut primary, &mut secondary] {
                if random.next().is_multiple_of(3) {
                    let at = random.next() as usize % 9000;
                    area.bytes[at] = random.byte();
                }
            }
            let written = match random.next() % 4 {
                0 => layout.without_tlv_sizes(), // what MCUboot 2.2 writes
                _ => layout,
            };
            scribble(&mut primary, &written.primary_trailer(), &mut random);
            scribble(&mut secondary, &written.secondary_trailer(), &mut random);
            if let Some(trailer) = layout.spare_trailer() {
                third.bytes.fill_with(|| random.byte());
                scribble(&mut third, &trailer, &mut random);
            }
            let config = config(layout, trusted(&digests));
            for boot in 0..BOOTS {
                let told = next(&layout, [&mut primary, &mut secondary, &mut third]);
                let before = primary.bytes[..old.len()].to_vec();
                let Ok(report) = boot_once(&mut primary, &mut secondary, &mut third, &config) else {
                    continue;
                };
                let what = format!(
                    "{algorithm:?} {round}, boot {boot}: {told:?}, {:?}",
                    report.action
                );
                assert!(digests.contains(&report.image.digest), "{what}");
                let (hashed, size) = (
                    report.image.header.hashed_size().unwrap() as usize,
                    report.image.total_size as usize,
                );
                assert_eq!(sha256(&primary.bytes[..hashed]), report.image.digest);
                assert!(size == old.len() || size == new.len());
                started += 1;
                // What the application was told after the previous boot was true.
                if boot > 0 {
                    let happened = match report.action {
                        // The last flag of an install was torn: it is written again, and no image changes.
                        BootAction::Installed { resumed: true, .. } if primary.bytes.starts_with(&before) => {
                            None
                        }
                        BootAction::Installed { swap_type, .. } => Some(swap_type),
                        _ => None,
                    };
                    let possible = match told {
                        Outlook::Nothing | Outlook::Impossible(_) => happened.is_none(),
                        Outlook::Revert => happened.is_none_or(|kind| kind == SwapType::Revert),
                        Outlook::Install(kind) => happened.is_none_or(|happened| happened == kind),
                        Outlook::Unknown(_) => false,
                    };
                    assert!(possible, "{what}");
                }
            }
            // Nothing is left to do: a test image was reverted, everything else was carried out or removed.
            if boot_once(&mut primary, &mut secondary, &mut third, &config).is_ok() {
                let told = next(&layout, [&mut primary, &mut secondary, &mut third]);
                assert_eq!(told, Outlook::Nothing, "{algorithm:?} {round}");
            }
        }
        assert!(
            started > ROUNDS,
            "{algorithm:?} starts most of the time: {started}"
        );
    }
}
