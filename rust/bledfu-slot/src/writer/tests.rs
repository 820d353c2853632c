// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::layout::{Algorithm, Geometry};
use crate::trailer::{write_magic, Magic, Trailer};
use crate::verify::{Crypto, SoftCrypto};
use bledfu_testkit::{sha256, Nor, Op, Power, Tear, SECTOR};
use proptest::prelude::*;
use std::vec::Vec;

const SECTORS: usize = 8;
type Writer = SlotWriter<<SoftCrypto as Crypto>::Sha256>;

fn layout() -> Layout {
    let slot = Geometry {
        slot_size: (SECTORS * SECTOR) as u32,
        sector_size: SECTOR as u32,
        write_size: 4,
    };
    Layout::new(Algorithm::SwapMove, slot, slot, 8, 32).unwrap()
}

fn writer() -> Writer {
    SlotWriter::new(layout(), SoftCrypto.sha256())
}

fn flash() -> Nor<4> {
    Nor::new('s', SECTORS, &Power::new())
}

fn image(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 256) as u8).collect()
}

fn write_all(writer: &mut Writer, flash: &mut Nor<4>, image: &[u8], packet: usize) {
    for object in image.chunks(SECTOR) {
        writer.prepare(flash, object.len() as u32).unwrap();
        for packet in object.chunks(packet) {
            writer.accept(flash, packet).unwrap();
        }
        writer.flush(flash).unwrap();
        writer.commit();
    }
}

/// Writes an image while the read with number `wrong` returns wrong bytes; returns how many reads there were.
fn write_with_a_wrong_read<const W: usize>(wrong: u64) -> u64 {
    let slot = Geometry {
        write_size: W as u32,
        ..layout().secondary()
    };
    let layout = Layout::new(Algorithm::SwapMove, slot, slot, W.max(8) as u32, 32).unwrap();
    let mut writer = SlotWriter::new(layout, SoftCrypto.sha256());
    let mut flash = Nor::<W>::new('s', SECTORS, &Power::new());
    let image = image(SECTOR);
    writer
        .begin::<()>(image.len() as u32, SoftCrypto.sha256())
        .unwrap();
    writer.prepare(&mut flash, image.len() as u32).unwrap();
    flash.misreads.reads = 0;
    flash.misreads.flipped = wrong..wrong + 1;
    for packet in image.chunks(244) {
        writer.accept(&mut flash, packet).unwrap();
    }
    writer.flush(&mut flash).unwrap();
    writer.commit();
    assert_eq!(flash.bytes[..image.len()], image);
    flash.misreads.reads
}

#[test]
fn a_page_that_was_read_back_wrongly_once_is_not_wrong() {
    for wrong in 0..write_with_a_wrong_read::<4>(u64::MAX - 1) {
        write_with_a_wrong_read::<4>(wrong);
    }
    // Where nothing is programmed twice, only reading again can tell.
    for wrong in 0..write_with_a_wrong_read::<16>(u64::MAX - 1) {
        write_with_a_wrong_read::<16>(wrong);
    }
}

#[test]
fn packets_of_any_size_become_whole_pages_and_one_program_each() {
    for packet in [1, 7, 20, 182, 244, 256, 495, 4096] {
        let (mut flash, mut writer) = (flash(), writer());
        let image = image(2 * SECTOR + 300);
        writer
            .begin::<()>(image.len() as u32, SoftCrypto.sha256())
            .unwrap();
        flash.power.record();
        write_all(&mut writer, &mut flash, &image, packet);
        let programs: Vec<usize> = flash
            .power
            .recorded()
            .iter()
            .filter_map(|op| match op {
                Op::Write { bytes, .. } => Some(bytes.len()),
                Op::Erase { .. } => None,
            })
            .collect();
        assert_eq!(programs.len(), image.len().div_ceil(PAGE), "packets of {packet}");
        assert!(programs[..programs.len() - 1]
            .iter()
            .all(|&length| length == PAGE));
        assert_eq!(flash.bytes[..image.len()], image);
        assert_eq!(writer.digest().file_digest(), sha256(&image));
        assert_eq!(writer.committed(), image.len() as u32);
    }
}

#[test]
fn an_odd_end_is_padded_with_ff_to_the_write_size() {
    let (mut flash, mut writer) = (flash(), writer());
    let image = image(301);
    writer.begin::<()>(301, SoftCrypto.sha256()).unwrap();
    write_all(&mut writer, &mut flash, &image, 244);
    assert_eq!(flash.bytes[..301], image);
    assert_eq!(flash.bytes[301..304], [0xFF; 3]);
    assert_eq!(writer.digest().file_digest(), sha256(&image));
}

#[test]
fn the_old_trailer_is_erased_before_anything_else() {
    let (mut flash, mut writer) = (flash(), writer());
    let trailer = layout().secondary_trailer();
    flash.load(0, &image(SECTOR));
    write_magic(&mut flash, &trailer).unwrap();
    flash.power.record();
    writer.begin::<()>(SECTOR as u32, SoftCrypto.sha256()).unwrap();
    writer.prepare(&mut flash, SECTOR as u32).unwrap();
    let erased: Vec<u32> = flash
        .power
        .recorded()
        .iter()
        .map(|op| match op {
            Op::Erase { sector, .. } => *sector,
            Op::Write { .. } => panic!("nothing is written yet"),
        })
        .collect();
    assert_eq!(erased, [SECTORS as u32 - 1, 0]);
    assert_eq!(Trailer::read(&mut flash, &trailer).unwrap().magic, Magic::Unset);
}

#[test]
fn blank_sectors_are_not_erased_again_but_rewound_ones_always_are() {
    const MANY: usize = 32;
    let mut flash = Nor::<4>::new('s', MANY, &Power::new());
    let slot = Geometry::of::<Nor<4>>((MANY * SECTOR) as u32);
    let layout = Layout::new(Algorithm::SwapMove, slot, slot, 8, 32).unwrap();
    let mut writer = Writer::new(layout, SoftCrypto.sha256());
    writer
        .begin::<()>(layout.max_image_size(), SoftCrypto.sha256())
        .unwrap();
    flash.power.record();
    writer.prepare(&mut flash, layout.max_image_size()).unwrap();
    assert_eq!(
        erased(&flash),
        [MANY as u32 - 1, 29],
        "the slot is blank: its trailer, and the end of what an image may occupy"
    );
    writer
        .begin::<()>(2 * SECTOR as u32, SoftCrypto.sha256())
        .unwrap();
    writer.accept(&mut flash, &[0xFF; PAGE]).unwrap();
    writer.rewind();
    flash.power.record();
    writer.prepare(&mut flash, SECTOR as u32).unwrap();
    assert_eq!(
        flash.power.recorded(),
        [Op::Erase { chip: 's', sector: 0 }],
        "though it reads blank"
    );
}

#[test]
fn a_rewound_object_leaves_no_trace_in_digest_or_flash() {
    let (mut flash, mut writer) = (flash(), writer());
    let image = image(2 * SECTOR);
    writer
        .begin::<()>(image.len() as u32, SoftCrypto.sha256())
        .unwrap();
    write_all(&mut writer, &mut flash, &image[..SECTOR], 244);
    writer.prepare(&mut flash, SECTOR as u32).unwrap();
    writer.accept(&mut flash, &[0x55; 1000]).unwrap();
    writer.rewind();
    assert_eq!(writer.position(), SECTOR as u32);
    write_all(&mut writer, &mut flash, &image[SECTOR..], 244);
    assert_eq!(flash.bytes[..image.len()], image);
    assert_eq!(writer.digest().file_digest(), sha256(&image));
}

#[test]
fn bytes_that_were_not_prepared_for_are_refused_whole() {
    let (mut flash, mut writer) = (flash(), writer());
    writer.begin::<()>(5000, SoftCrypto.sha256()).unwrap();
    assert_eq!(writer.accept(&mut flash, &[1]), Err(WriteError::OutOfBounds));
    writer.prepare(&mut flash, SECTOR as u32).unwrap();
    assert_eq!(
        writer.accept(&mut flash, &[1; SECTOR + 1]),
        Err(WriteError::OutOfBounds)
    );
    assert_eq!(writer.position(), 0);
    assert_eq!(writer.prepare(&mut flash, 5001), Err(WriteError::OutOfBounds));
    let limit = layout().max_image_size();
    assert_eq!(
        writer.begin::<()>(limit + 1, SoftCrypto.sha256()),
        Err(WriteError::OutOfBounds)
    );
}

#[test]
fn a_page_that_cannot_be_written_loses_the_object_and_only_it() {
    let (mut flash, mut writer) = (flash(), writer());
    let image = image(SECTOR);
    writer
        .begin::<()>(image.len() as u32, SoftCrypto.sha256())
        .unwrap();
    writer.prepare(&mut flash, SECTOR as u32).unwrap();
    flash.refuse_writes = 512..513;
    assert!(matches!(
        writer.accept(&mut flash, &image[..1000]),
        Err(WriteError::Flash(_))
    ));
    assert_eq!(writer.position(), 1000, "offsets stay those of the peer");
    assert_eq!(writer.accept(&mut flash, &image[1000..]), Ok(()));
    assert_eq!(writer.flush(&mut flash), Err(WriteError::ObjectLost));
    flash.refuse_writes = 0..0;
    writer.rewind();
    write_all(&mut writer, &mut flash, &image, 244);
    assert_eq!(flash.bytes[..image.len()], image);
}

#[test]
fn after_a_reset_the_digest_is_taken_from_flash_and_the_next_sectors_are_erased() {
    let (mut flash, mut writer) = (flash(), writer());
    let image = image(3 * SECTOR + 5);
    writer
        .begin::<()>(image.len() as u32, SoftCrypto.sha256())
        .unwrap();
    write_all(&mut writer, &mut flash, &image[..SECTOR], 244);
    flash.bytes[SECTOR + 3] = 0; // a torn page of the next object

    let mut writer = self::writer();
    let mut seen = Vec::new();
    let size = image.len() as u32;
    writer
        .resume(&mut flash, size, SECTOR as u32, 0, SoftCrypto.sha256())
        .unwrap();
    while writer
        .catch_up(&mut flash, u32::MAX, |bytes| seen.extend_from_slice(bytes))
        .unwrap()
    {}
    assert_eq!(seen, image[..SECTOR]);
    write_all(&mut writer, &mut flash, &image[SECTOR..], 244);
    assert_eq!(flash.bytes[..image.len()], image);
    assert_eq!(writer.digest().file_digest(), sha256(&image));
}

#[test]
fn a_resume_offset_from_a_damaged_journal_is_refused() {
    let (mut flash, mut writer) = (flash(), writer());
    for (size, offset) in [(5000, 5001), (5000, 100), (u32::MAX, 4096)] {
        let resumed = writer.resume(&mut flash, size, offset, 0, SoftCrypto.sha256());
        assert_eq!(resumed, Err(WriteError::OutOfBounds), "{offset} of {size}");
    }
}

fn erased(flash: &Nor<4>) -> Vec<u32> {
    let sector = |op: &Op| match op {
        Op::Erase { sector, .. } => Some(*sector),
        Op::Write { .. } => None,
    };
    flash.power.recorded().iter().filter_map(sector).collect()
}

// boot-trust case 53
#[test]
fn a_sector_whose_erase_was_cut_at_its_end_is_erased_again_before_it_is_used() {
    let limit = layout().max_image_size();
    for by_block in [false, true] {
        for cut in 0..SECTORS as u64 - 1 {
            for seed in 0..4 {
                let (mut flash, mut writer) = (flash(), writer());
                flash.bytes.fill(0x5A);
                flash.power.record();
                flash.power.cut_at(cut, Tear::Inside { percent: 100, seed });
                let block = if by_block { 64 * 1024 } else { SECTOR as u32 };
                while writer.clear_step(&mut flash, block).is_ok_and(|goes_on| goes_on) {}
                let torn = *erased(&flash).last().unwrap() as usize;
                let cells = &flash.bytes[torn * SECTOR..][..SECTOR];
                assert!(cells.iter().all(|&cell| cell == 0xFF), "it reads blank");
                // The next power cycle clears the rest, or not; then an image arrives.
                for clears in [false, true] {
                    let mut flash = flash.fork(&Power::new());
                    let mut writer = self::writer();
                    flash.power.record();
                    while clears && writer.clear_step(&mut flash, block).unwrap() {}
                    writer.begin::<()>(limit, SoftCrypto.sha256()).unwrap();
                    writer.prepare(&mut flash, limit).unwrap();
                    let again = erased(&flash);
                    assert!(
                        again.contains(&(torn as u32)),
                        "{torn}, blocks {by_block}, clears {clears}: {again:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_device_that_only_starts_and_stops_erases_nothing_of_a_clear_slot() {
    let (mut flash, mut writer) = (flash(), writer());
    while writer.clear_step(&mut flash, 64 * 1024).unwrap() {}
    assert_eq!(flash.power.ops(), 0);
}

#[test]
fn clearing_makes_all_an_image_can_occupy_blank_and_then_stops() {
    let (mut flash, mut writer) = (flash(), writer());
    flash.bytes.fill(0);
    while writer.clear_step(&mut flash, 64 * 1024).unwrap() {}
    let limit = layout().max_image_size() as usize;
    let trailer = layout().secondary_trailer().first_sector() as usize;
    let mut cleared = flash.bytes[..limit].iter().chain(&flash.bytes[trailer..]);
    assert!(cleared.all(|&byte| byte == 0xFF));
    writer
        .begin::<()>(2 * SECTOR as u32, SoftCrypto.sha256())
        .unwrap();
    let before = flash.power.ops();
    writer.prepare(&mut flash, 2 * SECTOR as u32).unwrap();
    assert_eq!(
        flash.power.ops(),
        before,
        "an update into a clear slot erases nothing"
    );
}

fn writes_with_units_of<const W: usize>() {
    let power = Power::new();
    let mut flash = Nor::<W>::new('s', SECTORS, &power);
    // A flash with error correction takes each unit only once.
    flash.program_once = true;
    let slot = Geometry::of::<Nor<W>>((SECTORS * SECTOR) as u32);
    let layout = Layout::new(Algorithm::SwapOffset, slot, slot, (W as u32).max(8), 32).unwrap();
    for size in [1, W - 1, W, W + 1, 300, SECTOR, SECTOR + 1, 2 * SECTOR + 333] {
        let image = image(size);
        let mut writer = Writer::new(layout, SoftCrypto.sha256());
        writer.begin::<()>(size as u32, SoftCrypto.sha256()).unwrap();
        for object in image.chunks(SECTOR) {
            writer.prepare(&mut flash, object.len() as u32).unwrap();
            for packet in object.chunks(244) {
                writer.accept(&mut flash, packet).unwrap();
            }
            writer.flush(&mut flash).unwrap();
            writer.commit();
        }
        assert_eq!(flash.bytes[SECTOR..SECTOR + size], image, "W={W} {size}");
        assert_eq!(writer.digest().file_digest(), sha256(&image));
        flash.bytes[SECTOR..].fill(0xFF);
    }
}

#[test]
fn images_of_any_size_are_written_with_every_write_unit() {
    writes_with_units_of::<1>();
    writes_with_units_of::<2>();
    writes_with_units_of::<4>();
    writes_with_units_of::<8>();
    writes_with_units_of::<16>();
    writes_with_units_of::<32>();
}

/// How many sectors are erased for each of three objects, of 8, 8 and 4 sectors, in a slot whose sectors from `used` to the 30th
/// are used.
fn erases_of(used: usize, erase: Erase) -> [u32; 3] {
    const LARGE: usize = 40;
    let slot = Geometry {
        slot_size: (LARGE * SECTOR) as u32,
        ..layout().secondary()
    };
    let layout = Layout::new(Algorithm::SwapMove, slot, slot, 8, 64).unwrap();
    let mut writer = SlotWriter::new(layout, SoftCrypto.sha256());
    let mut flash = Nor::<4>::new('s', LARGE, &Power::new());
    let size = 20 * SECTOR;
    flash.bytes[used * SECTOR..30 * SECTOR].fill(0);
    writer.begin::<()>(size as u32, SoftCrypto.sha256()).unwrap();
    // The trailer goes first in any case.
    writer.prepare(&mut flash, 0).unwrap();
    let image = image(size);
    let mut objects = image.chunks(8 * SECTOR);
    let erased = core::array::from_fn(|_| {
        let object = objects.next().unwrap();
        flash.power.record();
        writer.prepare_by(&mut flash, object.len() as u32, erase).unwrap();
        let erased = flash.power.recorded().len() as u32;
        assert_eq!(writer.take_erased(), erased);
        writer.accept(&mut flash, object).unwrap();
        writer.flush(&mut flash).unwrap();
        writer.commit();
        erased
    });
    assert_eq!(flash.bytes[..size], image);
    erased
}

#[test]
fn a_used_block_is_erased_at_once_and_the_end_of_the_image_by_sectors() {
    assert_eq!(erases_of(0, Erase::Sectors), [8, 8, 4]);
    assert_eq!(erases_of(0, Erase::Blocks), [16, 0, 4]);
}

#[test]
fn a_block_that_is_blank_is_not_erased() {
    assert_eq!(erases_of(30, Erase::Blocks), [0; 3]);
    // Blank sectors in front of a used one may be what a cut erase has left.
    assert_eq!(erases_of(16, Erase::Blocks), [16, 0, 4]);
}

/// What a receiver may do with the writer.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Object { is_kept: bool },
    Sector,
    Rewind,
    RewindToMark,
    CatchUp { pages: u8 },
    Reset,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => any::<bool>().prop_map(|is_kept| Deed::Object { is_kept }),
        2 => Just(Deed::Sector),
        1 => Just(Deed::Rewind),
        1 => Just(Deed::RewindToMark),
        3 => (0u8..40).prop_map(|pages| Deed::CatchUp { pages }),
        1 => Just(Deed::Reset),
    ];
    proptest::collection::vec(deed, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_digest_is_that_of_the_image_however_late_it_comes(deeds in deeds()) {
        let image = image(SECTORS * SECTOR / 2 + 77);
        let (size, sector) = (image.len() as u32, SECTOR as u32);
        let mut flash = flash();
        let mut writer = writer();
        writer.begin::<()>(size, SoftCrypto.sha256()).unwrap();
        let next = |writer: &mut Writer, flash: &mut Nor<4>| {
            let from = writer.position() as usize;
            let to = image.len().min(from + SECTOR);
            writer.prepare(flash, (to - from) as u32).unwrap();
            writer.accept(flash, &image[from..to]).unwrap();
            writer.flush(flash).unwrap();
        };
        for deed in deeds {
            match deed {
                Deed::Object { is_kept } => {
                    next(&mut writer, &mut flash);
                    writer.commit();
                    if is_kept {
                        writer.mark();
                    }
                }
                Deed::Sector => next(&mut writer, &mut flash),
                Deed::Rewind => writer.rewind(),
                Deed::RewindToMark => writer.rewind_to_mark(),
                Deed::CatchUp { pages } => {
                    for _ in 0..pages {
                        writer.catch_up(&mut flash, u32::MAX, |_| ()).unwrap();
                    }
                }
                Deed::Reset => {
                    let (offset, mark) = (writer.committed(), writer.marked());
                    writer = self::writer();
                    writer.resume(&mut flash, size, offset, mark, SoftCrypto.sha256()).unwrap();
                }
            }
            prop_assert!(writer.marked() <= writer.committed() && writer.committed() <= writer.position());
            prop_assert!(writer.position() == size || writer.position().is_multiple_of(sector));
        }
        while writer.position() < size {
            next(&mut writer, &mut flash);
        }
        writer.commit();
        while writer.catch_up(&mut flash, u32::MAX, |_| ()).unwrap() {}
        prop_assert!(!writer.is_behind());
        prop_assert_eq!(writer.digest().file_digest(), sha256(&image));
        prop_assert_eq!(&flash.bytes[..image.len()], &image[..]);
    }
}
