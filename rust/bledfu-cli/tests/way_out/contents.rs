// SPDX-License-Identifier: Apache-2.0
//! Contents of the flashes of a device: random, as MCUboot leaves them, as the factory leaves them, as a cut update leaves
//! them.

use bledfu_sim::device::Board;
use bledfu_sim::nor::Area;
use bledfu_sim::power::{Power, Random, Tear};
use bledfu_slot::copy_roles::{self, Place, Record};
use bledfu_slot::evidence::{Done, Evidence, Floor, Log, Store, NO_DIGEST};
use bledfu_slot::journal::{session_id, Installed, Journal, Progress, Versions};
use bledfu_slot::trailer::magic_bytes;
use bledfu_slot::{Algorithm, Layout, SwapType, TrailerLayout};
use sha2::{Digest, Sha256};

use crate::bench::{spare, updates, Bench, Update, SECTOR, SMALL};
use crate::{attempt, Way};

/// Random choices from one seed.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub fn below(&mut self, count: usize) -> usize {
        (((self.0.bits() >> 32) * count as u64) >> 32) as usize
    }

    /// True once in `count` times, on average.
    pub fn once_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn seed(&mut self) -> u64 {
        self.0.bits()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.0.bits().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    fn u32(&mut self) -> u32 {
        self.0.bits() as u32
    }

    /// The cells after a cut write of `wanted` to erased flash, or after a cut erase of it.
    fn torn(&mut self, wanted: &[u8]) -> Vec<u8> {
        let cells = wanted.iter().map(|wanted| wanted | self.0.byte()).collect();
        cells
    }
}

fn put(area: &Area, at: usize, bytes: &[u8]) {
    let room = (area.size() as usize).saturating_sub(at);
    let bytes = &bytes[..bytes.len().min(room)];
    area.set_contents(at as u32, bytes).expect("within the area");
}

fn fill(area: &Area, byte: u8) {
    put(area, 0, &vec![byte; area.size() as usize]);
}

/// Any trailer: random bytes, fields that are each valid, or torn ones.
pub fn scribble(area: &Area, layout: &TrailerLayout, dice: &mut Dice) {
    let start = layout.status_start() as usize;
    let end = layout.slot_size() as usize;
    match dice.below(8) {
        0 => put(area, start, &dice.bytes(end - start)),
        1 => return,
        kind => {
            let old = area.contents();
            let mut cells = vec![0xFF; end - start];
            if kind == 2 {
                cells.copy_from_slice(&old[start..end]);
            }
            if kind > 3 {
                for record in 0..dice.below(14) {
                    cells[record * layout.status_unit() as usize] = *dice.pick(&[1, 2, 3, 1]);
                }
            }
            put(area, start, &cells);
            let size = *dice.pick(&[
                0,
                1,
                5_000,
                5_100,
                9_400,
                13_636,
                24_576,
                28_672,
                1 << 20,
                u32::MAX,
                u32::MAX,
            ]);
            put(area, layout.swap_size() as usize, &size.to_le_bytes());
            let info = *dice.pick(&[0x02, 0x03, 0x04, 0x12, 0x05, 0x00, 0xFF, 0xFF]);
            put(area, layout.swap_info() as usize, &[info]);
        }
    }
    damage_flags(area, layout, dice);
    let magic = magic_bytes(layout.max_align());
    let cells = match dice.below(8) {
        0 => vec![0xFF; 16],
        1 => dice.torn(&magic),
        2 => vec![0; 16],
        3 => magic_bytes(16).to_vec(),
        _ => magic.to_vec(),
    };
    put(area, layout.magic() as usize, &cells);
}

fn damage_flags(area: &Area, layout: &TrailerLayout, dice: &mut Dice) {
    for at in [layout.image_ok(), layout.copy_done()] {
        let flag = match dice.below(5) {
            0 | 1 => 0xFF,
            2 | 3 => 0x01,
            _ => *dice.pick(&[0x00, 0x03, 0x5B, 0xFE, 0x81]),
        };
        put(area, at as usize, &[flag]);
    }
}

/// Damages one thing in one of the areas.
pub fn damage(board: &Board, dice: &mut Dice) {
    let layout = board.setup.layout();
    let areas = [
        (&board.primary, Some(layout.primary_trailer())),
        (&board.secondary, Some(layout.secondary_trailer())),
        (&spare(board), layout.spare_trailer()),
        (&board.journal, None),
    ];
    let (area, trailer) = dice.pick(&areas);
    let size = area.size() as usize;
    if size == 0 {
        return;
    }
    match (dice.below(8), trailer) {
        (0, Some(trailer)) => scribble(area, trailer, dice),
        (1 | 2, Some(trailer)) => damage_flags(area, trailer, dice),
        (3, Some(trailer)) => {
            let torn = dice.torn(&magic_bytes(8));
            put(area, trailer.magic() as usize, &torn);
        }
        (4, Some(trailer)) => put(area, trailer.magic() as usize, &magic_bytes(8)),
        (5, _) => {
            let sector = dice.below(size / SECTOR) * SECTOR;
            put(area, sector, &[0xFF; SECTOR]);
        }
        (6, _) => {
            let at = dice.below(size);
            let bytes = dice.bytes(64);
            put(area, at, &bytes);
        }
        _ => {
            // One bit, where the flash is not erased.
            let cells = area.contents();
            let at = dice.below(size);
            let at = (at..size).find(|&at| cells[at] != 0xFF).unwrap_or(at);
            put(area, at, &[cells[at] ^ 1 << dice.below(8)]);
        }
    }
}

/// Bytes that may be where an image is expected.
fn any_image(dice: &mut Dice) -> Vec<u8> {
    let image = dice.pick(updates()).bytes.clone();
    altered(image, dice)
}

/// The image, mostly damaged.
fn altered(mut image: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    match dice.below(12) {
        // A part of it, as after a cut upload.
        0 => image.truncate(dice.below(image.len())),
        1 => {
            let at = dice.below(image.len());
            image[at] ^= 1 << dice.below(8);
        }
        // Sizes of the header.
        2 => image[12..16].copy_from_slice(&dice.u32().to_le_bytes()),
        3 => image[14] = 0x7F,
        // Encrypted, compressed, not bootable.
        4 => image[16] |= *dice.pick(&[0x04, 0x10, 0x20]),
        5 => image = dice.bytes(image.len()),
        6 => image.clear(),
        7 => image[..4].copy_from_slice(&dice.u32().to_le_bytes()),
        _ => {}
    }
    image
}

/// A primary slot as the factory programs it, mostly with an image that starts.
fn any_primary(board: &Board, dice: &mut Dice) {
    let image = match dice.below(16) {
        0 => any_image(dice),
        1 => dice.pick(updates()).bytes.clone(),
        _ => updates()[dice.below(SMALL)].bytes.clone(),
    };
    put(&board.primary, 0, &image);
}

/// Random bytes in all areas, or in some.
pub fn any_bytes(board: &Board, dice: &mut Dice) {
    for area in [&board.primary, &board.secondary, &spare(board), &board.journal] {
        match dice.below(4) {
            0 => {}
            1 => fill(area, 0),
            _ => put(area, 0, &dice.bytes(area.size() as usize)),
        }
    }
    if !dice.once_in(16) {
        any_primary(board, dice);
    }
    let layout = board.setup.layout();
    if dice.once_in(4) {
        scribble(&board.primary, &layout.primary_trailer(), dice);
    }
}

/// Any trailers, with complete or damaged images.
pub fn any_trailers(board: &Board, dice: &mut Dice) {
    let layout = board.setup.layout();
    any_primary(board, dice);
    let start = layout.upload_offset() as usize;
    if !dice.once_in(4) {
        put(&board.secondary, start, &any_image(dice));
    }
    if start > 0 && dice.once_in(2) {
        let room = if dice.once_in(2) { SECTOR } else { start + SECTOR };
        let image = any_image(dice);
        put(&board.secondary, 0, &image[..image.len().min(room)]);
    }
    if layout.algorithm() == Algorithm::Copy {
        match dice.below(3) {
            0 => {}
            1 => put(&spare(board), 0, &any_image(dice)),
            _ => put(&spare(board), 0, &board.primary.contents()[..8 * SECTOR - SECTOR]),
        }
    } else if dice.once_in(2) {
        put(&spare(board), 0, &dice.bytes(board.spare.size() as usize));
    }
    let written = if dice.once_in(4) {
        layout.without_tlv_sizes()
    } else {
        layout
    };
    if !dice.once_in(4) {
        scribble(&board.secondary, &written.secondary_trailer(), dice);
    }
    if let Some(trailer) = written.spare_trailer() {
        scribble(&spare(board), &trailer, dice);
    }
    if !dice.once_in(3) {
        scribble(&board.primary, &written.primary_trailer(), dice);
        if layout.algorithm() == Algorithm::Copy && dice.once_in(2) {
            any_roles(board, &layout, dice);
        }
    }
    if dice.once_in(4) {
        any_journal(board, dice);
    }
}

fn any_roles(board: &Board, layout: &Layout, dice: &mut Dice) {
    let image = &updates()[dice.below(SMALL)];
    let record = Record {
        source: *dice.pick(&[Place::First, Place::Second]),
        swap_type: *dice.pick(&[SwapType::Test, SwapType::Permanent]),
        size: image.bytes.len() as u32,
        digest: image.digest,
    };
    let primary = &mut board.primary.clone();
    let trailer = layout.primary_trailer();
    let start = trailer.status_start() as usize;
    put(primary, start, &[0xFF; 96]);
    record.write(primary, &trailer).expect("a flash that works");
    if dice.once_in(3) {
        copy_roles::write_reverted(primary, &trailer).expect("a flash that works");
    }
}

/// As the factory programs it: images with `--pad`, with `--pad --confirm` or with neither, of any size that the header check
/// accepts; and as overwrite only leaves it.
pub fn of_the_factory(board: &Board, dice: &mut Dice) {
    let layout = board.setup.layout();
    let image = &dice.pick(updates()).bytes;
    put(&board.primary, 0, image);
    let trailer = layout.primary_trailer();
    let marks = dice.below(8);
    if marks & 1 != 0 {
        put(&board.primary, trailer.magic() as usize, &magic_bytes(8));
    }
    if marks & 2 != 0 {
        put(&board.primary, trailer.image_ok() as usize, &[1]);
    }
    if marks & 4 != 0 && dice.once_in(2) {
        put(&board.primary, trailer.copy_done() as usize, &[1]);
    }
    // The factory programs the second image, too.
    if dice.once_in(2) {
        let second = &dice.pick(updates()).bytes;
        put(&board.secondary, layout.upload_offset() as usize, second);
        let trailer = layout.secondary_trailer();
        if dice.once_in(2) {
            put(&board.secondary, trailer.magic() as usize, &magic_bytes(8));
            let image_ok = *dice.pick(&[0xFF, 0x01, 0x5B]);
            put(&board.secondary, trailer.image_ok() as usize, &[image_ok]);
        }
    }
    if dice.once_in(4) {
        damage(board, dice);
    }
}

/// An image in the primary slot, and nothing else.
pub fn of_the_factory_alone(board: &Board, dice: &mut Dice) {
    let image = &updates()[dice.below(SMALL)].bytes;
    put(&board.primary, 0, image);
}

/// Any trust area: records about another image, as after somebody has programmed one with a debugger; torn records; pages with
/// random bytes; pages that are almost full.
pub fn any_evidence(board: &Board, dice: &mut Dice) {
    let area = &board.trust;
    let size = area.size() as usize;
    match dice.below(8) {
        0 => return,
        1 => put(area, 0, &dice.bytes(size)),
        2 => fill(area, 0),
        _ => {
            let mut pages = area.clone();
            for _ in 0..1 + dice.below(80) {
                let evidence = some_evidence(dice);
                Log::new(&mut pages)
                    .append(&evidence)
                    .expect("a flash that works");
            }
        }
    }
    match dice.below(4) {
        // A torn record.
        0 => {
            let at = dice.below(size / 128) * 128;
            let held = area.contents()[at..at + 128].to_vec();
            let torn = dice.torn(&held);
            put(area, at, &torn);
        }
        1 => {
            let page = dice.below(2) * (size / 2);
            put(area, page, &dice.bytes(size / 2));
        }
        // Places that are not erased, from one to the end.
        2 => {
            let at = dice.below(size / 128) * 128;
            put(area, at, &vec![0; size - at]);
        }
        _ => {}
    }
}

fn some_evidence(dice: &mut Dice) -> Evidence {
    let mut digest = || match dice.below(6) {
        0 => NO_DIGEST,
        _ => dice.pick(updates()).digest,
    };
    let (from, to) = (digest(), digest());
    let unit = dice.below(12) as u32;
    Evidence {
        begun: *dice.pick(&[
            None,
            Some(SwapType::Test),
            Some(SwapType::Permanent),
            Some(SwapType::Revert),
        ]),
        invalid_way_back: dice.below(4) as u8,
        taken_back: dice.below(5) as u8,
        size: *dice.pick(&[0, 5_000, 5_100, 6_000, u32::MAX]),
        done: *dice.pick(&[Done::Unknown, Done::InDoubt(unit), Done::Passed(unit)]),
        // Not higher than the images that are sent.
        floor: Floor {
            version: (dice.below(4) as u8, dice.below(2) as u8, 0),
            security_counter: None,
        },
        from,
        to,
    }
}

/// An SMP session as the journal stores it.
fn smp_session(length: u32, sha: &[u8]) -> Vec<u8> {
    let mut session = vec![0];
    session.extend_from_slice(&length.to_le_bytes());
    session.extend_from_slice(sha);
    session
}

/// A journal with any session, and a slot that may hold its bytes.
pub fn any_journal(board: &Board, dice: &mut Dice) {
    let layout = board.setup.layout();
    let update = &updates()[dice.below(SMALL)];
    let size = update.bytes.len() as u32;
    let session = match dice.below(16) {
        0..=4 => smp_session(size, &update.sha),
        5 => smp_session(*dice.pick(&[0, 1, 100_000, u32::MAX]), &update.sha),
        6 => {
            let length = dice.below(80);
            let sha = dice.bytes(length);
            smp_session(size, &sha)
        }
        7 => smp_session(size, &dice.bytes(32)),
        8..=11 => update.init.clone(),
        12 => damaged_init(update, dice),
        13 => vec![*dice.pick(&[0, 1, 0x0A, 0x12, 0xFE, 0xFF])],
        _ => {
            let length = 1 + dice.below(512);
            let mut session = dice.bytes(length);
            session[0] = *dice.pick(&[0, 1, 0x0A, 0x12, 0xFE, 0xFF]);
            session
        }
    };
    // The recorded bytes, and some more.
    let start = layout.upload_offset() as usize;
    let offset = *dice.pick(&[
        0,
        0,
        SECTOR as u32,
        size,
        size,
        size - 1,
        2 * SECTOR as u32,
        u32::MAX,
    ]);
    let mut bytes = update.bytes.clone();
    if dice.once_in(3) {
        let at = dice.below(bytes.len());
        bytes[at] ^= 0x10;
    }
    let held = (offset as usize).min(bytes.len());
    let is_smp = session.first() == Some(&0);
    let crc = match dice.below(4) {
        0 => dice.u32(),
        _ if is_smp && held > 0 => {
            let digest = Sha256::digest(&bytes[..held]);
            u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
        }
        _ => session_id(&bytes[..held]),
    };
    if !dice.once_in(4) {
        let more = dice.below(bytes.len() - held + 1);
        put(&board.secondary, start, &bytes[..held + more]);
    }
    let mut journal = Journal::new(board.journal.clone());
    if dice.once_in(2) {
        let mut installed = || Installed {
            fw_version: *dice.pick(&[0, 1, 7, 1000]),
            digest: {
                let digest = dice.pick(updates()).digest;
                std::array::from_fn(|i| digest[i])
            },
        };
        let versions = Versions {
            base: installed(),
            staged: installed(),
        };
        // Fails if the area is full of random bytes; then they stay.
        let _ = journal.set_versions(versions);
    }
    let of = if dice.once_in(8) {
        dice.u32()
    } else {
        session_id(&session)
    };
    let _ = journal.progress(of, Progress { offset, check: crc });
    let _ = journal.begin(&session);
    if dice.once_in(8) {
        let _ = journal.close();
    }
    if dice.once_in(4) {
        let at = dice.below(board.journal.size() as usize);
        let length = 1 + dice.below(64);
        let bytes = dice.bytes(length);
        put(&board.journal, at, &bytes);
    }
}

fn damaged_init(update: &Update, dice: &mut Dice) -> Vec<u8> {
    let mut init = update.init.clone();
    match dice.below(3) {
        0 => init.truncate(1 + dice.below(init.len() - 1)),
        1 => {
            let at = dice.below(init.len());
            init[at] ^= 1 << dice.below(8);
        }
        _ => init.extend_from_slice(&[0; 8]),
    }
    init
}

/// As MCUboot leaves it after any operation, or at the end of a boot.
pub fn of_mcuboot(board: &Board, state: &[Vec<u8>; 3], dice: &mut Dice) {
    let [primary, secondary, scratch] = state;
    put(&board.primary, 0, primary);
    put(&board.secondary, 0, secondary);
    if board.setup.algorithm == Algorithm::SwapScratch {
        put(&spare(board), 0, scratch);
    }
    match dice.below(4) {
        0 => damage(board, dice),
        1 => any_journal_only(board, dice),
        _ => {}
    }
}

/// A journal that does not belong to the slot, which stays as it is.
fn any_journal_only(board: &Board, dice: &mut Dice) {
    let secondary = board.secondary.contents();
    any_journal(board, dice);
    put(&board.secondary, 0, &secondary);
}

/// One of our updates, cut once or twice anywhere: upload, request, install, revert.
pub fn of_a_cut_update(bench: &mut Bench, dice: &mut Dice) {
    let first = dice.below(SMALL);
    put(&bench.board.primary, 0, &updates()[first].bytes);
    // Slots that were used before.
    if dice.once_in(3) {
        let used = dice.bytes(bench.board.secondary.size() as usize);
        put(&bench.board.secondary, 0, &used);
    }
    let mut last: Option<usize> = None;
    for _ in 0..1 + dice.below(2) {
        let power: Power = bench.board.power.clone();
        power.power_on();
        plan_cut(&power, dice);
        if bench.boot().is_ok() {
            let running = bench.running();
            // Mostly the same image again: the user tries once more.
            let which = last.filter(|_| !dice.once_in(3)).unwrap_or(dice.below(SMALL));
            last = Some(which);
            let update = &updates()[which];
            if update.digest != running {
                let way = Way::any(dice);
                let wrong = dice
                    .once_in(5)
                    .then(|| dice.below(update.bytes.len() - 0x200) + 0x200);
                let _ = attempt(bench, update, way, wrong);
            }
        }
        power.cut_at_none();
    }
    bench.board.power.power_on();
    if dice.once_in(3) {
        damage(&bench.board, dice);
    }
}

fn plan_cut(power: &Power, dice: &mut Dice) {
    let tear = if dice.once_in(4) {
        Tear::Before
    } else {
        Tear::Inside {
            fraction: dice.below(5) as f64 / 4.0,
            seed: dice.seed(),
        }
    };
    power.cut_at(power.ops() + dice.below(130) as u64, tear);
}
