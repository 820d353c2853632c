// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::{Geometry, ImagePolicy, SoftCrypto};
use bledfu_testkit::{Image, Key, Nor, Power, Tear, SECTOR};

const SLOT: u32 = 0x10000;

fn layout_with<const W: usize>(max_align: u32) -> Layout {
    let geometry = Geometry {
        slot_size: SLOT,
        sector_size: SECTOR as u32,
        write_size: W as u32,
    };
    Layout::new(Algorithm::SwapMove, geometry, geometry, max_align, 128).unwrap()
}

fn flash<const W: usize>() -> Nor<W> {
    Nor::new('s', SLOT as usize / SECTOR, &Power::new())
}

fn verified<'l, const W: usize>(flash: &mut Nor<W>, layout: &'l Layout) -> Slot<'l, Verified> {
    flash.load(0, &Image::bare(0x200, 100, 1).sign(Key(1)).bytes());
    let keys = [crate::Key::new(Key(1).public())];
    let policy = ImagePolicy {
        keys: &keys,
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    Slot::new(layout).verify(flash, &policy, &SoftCrypto).unwrap()
}

/// All bytes from the start of the status region that are not erased.
fn written<const W: usize>(flash: &Nor<W>) -> std::vec::Vec<(usize, u8)> {
    (0xF000..SLOT as usize)
        .map(|at| (at, flash.bytes[at]))
        .filter(|(_, byte)| *byte != 0xFF)
        .collect()
}

fn magic_at_end(max_align: u32) -> std::vec::Vec<(usize, u8)> {
    (0xFFF0..0x10000).zip(magic_bytes(max_align)).collect()
}

#[test]
fn a_test_request_has_the_bytes_of_mcuboot() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let slot = verified(&mut flash, &layout);
    request_test(&mut flash, &slot).unwrap();
    let mut expected = std::vec![(0xFFD8, 2)];
    expected.extend(magic_at_end(8));
    assert_eq!(written(&flash), expected);
}

#[test]
fn a_permanent_request_has_the_bytes_of_mcuboot() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let slot = verified(&mut flash, &layout);
    request_permanent(&mut flash, &slot).unwrap();
    let mut expected = std::vec![(0xFFD8, 3), (0xFFE8, 1)];
    expected.extend(magic_at_end(8));
    assert_eq!(written(&flash), expected);
}

#[test]
fn magics_of_larger_alignments_name_the_alignment() {
    assert_eq!(magic_bytes(16)[..4], [0x10, 0x00, 0x2D, 0xE1]);
    assert_eq!(magic_bytes(32)[..4], [0x20, 0x00, 0x2D, 0xE1]);
    assert_eq!(Magic::parse(&magic_bytes(16), 8), Magic::Bad); // mcuboot case 66
    assert_eq!(Magic::parse(&magic_bytes(32), 32), Magic::Good);
    assert_eq!(Magic::parse(&[0xFF; 16], 32), Magic::Unset);
}

fn fields_keep_their_places<const W: usize>(max_align: u32) {
    let (mut flash, layout) = (flash::<W>(), layout_with::<W>(max_align).primary_trailer());
    write_swap_info(&mut flash, &layout, SwapType::Permanent).unwrap();
    write_image_ok(&mut flash, &layout).unwrap();
    write_copy_done(&mut flash, &layout).unwrap();
    write_swap_size(&mut flash, &layout, 0x0102_0304).unwrap();
    write_magic(&mut flash, &layout).unwrap();
    let field = |offset| (offset as usize, 1);
    let mut expected: std::vec::Vec<(usize, u8)> =
        (layout.swap_size() as usize..).zip([4, 3, 2, 1]).collect();
    expected.extend([
        (layout.swap_info() as usize, 3),
        field(layout.copy_done()),
        field(layout.image_ok()),
    ]);
    expected.extend(magic_at_end(max_align));
    assert_eq!(written(&flash), expected, "W={W} MA={max_align}");
    let trailer = Trailer::read(&mut flash, &layout).unwrap();
    let set = Flag::Set;
    let (magic, swap_info, swap_size) = (Magic::Good, 3, 0x0102_0304);
    assert_eq!(
        trailer,
        Trailer {
            magic,
            image_ok: set,
            copy_done: set,
            swap_info,
            swap_size
        }
    );
}

#[test]
fn fields_keep_their_places_for_every_write_unit() {
    fields_keep_their_places::<1>(8);
    fields_keep_their_places::<2>(8);
    fields_keep_their_places::<4>(8);
    fields_keep_their_places::<8>(8);
    fields_keep_their_places::<4>(16);
    fields_keep_their_places::<16>(16);
    fields_keep_their_places::<4>(32);
    fields_keep_their_places::<16>(32);
    fields_keep_their_places::<32>(32); // mcuboot case 112
}

#[test]
fn a_permanent_request_after_a_test_request_changes_nothing() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let slot = verified(&mut flash, &layout);
    request_test(&mut flash, &slot).unwrap();
    let before = flash.bytes.clone();
    request_permanent(&mut flash, &slot).unwrap();
    assert_eq!(flash.bytes, before); // mcuboot case 72
}

#[test]
fn a_damaged_magic_blocks_requests_until_the_trailer_is_erased() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let slot = verified(&mut flash, &layout);
    flash.load(0xFFF0, &[0x76]);
    let before = flash.bytes.clone();
    assert_eq!(request_test(&mut flash, &slot), Err(TrailerError::BadMagic)); // mcuboot case 52
    assert_eq!(flash.bytes, before);
    erase_trailer(&mut flash, &layout.secondary_trailer()).unwrap();
    assert_eq!(request_test(&mut flash, &slot), Ok(()));
}

#[test]
fn a_permanent_request_cut_after_its_magic_is_a_test() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let slot = verified(&mut flash, &layout);
    flash.power.cut_at(1, Tear::Before);
    assert!(request_permanent(&mut flash, &slot).is_err());
    flash.power.on();
    let trailer = Trailer::read(&mut flash, &layout.secondary_trailer()).unwrap();
    assert_eq!((trailer.magic, trailer.image_ok), (Magic::Good, Flag::Unset));
    // mcuboot case 74
}

#[test]
fn an_image_that_was_never_swapped_in_needs_no_confirmation() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    confirm(&mut flash, &layout).unwrap();
    assert!(is_erased(&flash.bytes)); // mcuboot case 73
    assert!(Trailer::read(&mut flash, &layout.primary_trailer())
        .unwrap()
        .is_confirmed(&layout));
}

#[test]
fn confirming_writes_one_flag_once() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    write_magic(&mut flash, &layout.primary_trailer()).unwrap();
    write_copy_done(&mut flash, &layout.primary_trailer()).unwrap();
    assert!(!Trailer::read(&mut flash, &layout.primary_trailer())
        .unwrap()
        .is_confirmed(&layout));
    confirm(&mut flash, &layout).unwrap();
    let operations = flash.power.ops();
    confirm(&mut flash, &layout).unwrap();
    assert_eq!(flash.power.ops(), operations);
    assert_eq!(flash.bytes[0xFFE8..0xFFEC], [1, 0xFF, 0xFF, 0xFF]);
    assert!(Trailer::read(&mut flash, &layout.primary_trailer())
        .unwrap()
        .is_confirmed(&layout));
}

#[test]
fn a_factory_image_with_a_magic_is_confirmed_and_can_be_confirmed_for_others() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    write_magic(&mut flash, &layout.primary_trailer()).unwrap(); // imgtool --pad
    let read = |flash: &mut Nor<4>| Trailer::read(flash, &layout.primary_trailer()).unwrap();
    assert!(read(&mut flash).is_confirmed(&layout));
    confirm(&mut flash, &layout).unwrap();
    let trailer = read(&mut flash);
    // Zephyr's `boot_is_img_confirmed`.
    assert_eq!((trailer.magic, trailer.image_ok), (Magic::Good, Flag::Set));
    assert_eq!(trailer.copy_done, Flag::Unset);
}

/// For every primary trailer and write unit: an image is confirmed exactly if the next boot does not revert it, and it
/// stays confirmed.
fn confirmed_is_what_the_next_boot_says<const W: usize>(max_align: u32) {
    for algorithm in Algorithm::ALL {
        let geometry = Geometry {
            slot_size: SLOT,
            sector_size: SECTOR as u32,
            write_size: W as u32,
        };
        let spare = algorithm.has_spare().then_some(geometry);
        let layout = Layout::with_spare(algorithm, geometry, geometry, spare, max_align, 128).unwrap();
        let of_primary = layout.primary_trailer();
        for magic in [&magic_bytes(max_align)[..], &[0xFF; 16], &[0x77; 16]] {
            for (copy_done, image_ok) in [0x01, 0xFF, 0x5B]
                .into_iter()
                .flat_map(|a| [0x01, 0xFF, 0x5B].map(|b| (a, b)))
            {
                let mut flash = flash::<W>();
                flash.load(of_primary.magic() as usize, magic);
                flash.load(of_primary.copy_done() as usize, &[copy_done]);
                flash.load(of_primary.image_ok() as usize, &[image_ok]);
                let read = |flash: &mut Nor<W>| Trailer::read(flash, &of_primary).unwrap();
                let good = magic == magic_bytes(max_align);
                let done = copy_done == 0x01 || (copy_done == 0x5B && W > 4);
                let expected = !(good && done && image_ok == 0xFF && algorithm != Algorithm::Overwrite);
                let what = (algorithm, W, magic, copy_done, image_ok);
                assert_eq!(read(&mut flash).is_confirmed(&layout), expected, "{what:?}");
                let confirmed = confirm(&mut flash, &layout);
                assert_eq!(confirmed.is_ok(), good || magic[0] == 0xFF, "{what:?}");
                if confirmed.is_ok() {
                    assert!(read(&mut flash).is_confirmed(&layout), "{what:?}");
                    let set = read(&mut flash).image_ok == Flag::Set || (image_ok == 0x5B && W > 4);
                    assert!(set || !good, "{what:?}");
                }
            }
        }
    }
}

#[test]
fn confirmed_is_what_the_next_boot_says_for_every_write_unit() {
    confirmed_is_what_the_next_boot_says::<1>(8);
    confirmed_is_what_the_next_boot_says::<4>(8);
    confirmed_is_what_the_next_boot_says::<8>(8);
    confirmed_is_what_the_next_boot_says::<16>(16);
    confirmed_is_what_the_next_boot_says::<32>(32);
}

#[test]
fn confirming_while_a_job_is_stored_does_not_make_its_image_permanent() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    let trailer = layout.primary_trailer();
    write_swap_info(&mut flash, &trailer, SwapType::Test).unwrap();
    write_swap_size(&mut flash, &trailer, 9000).unwrap();
    write_magic(&mut flash, &trailer).unwrap();
    let before = flash.bytes.clone();
    confirm(&mut flash, &layout).unwrap();
    assert_eq!(flash.bytes, before);
}

#[test]
fn a_torn_confirmation_is_completed() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8));
    write_magic(&mut flash, &layout.primary_trailer()).unwrap();
    flash.load(0xFFE8, &[0x5B]);
    confirm(&mut flash, &layout).unwrap();
    assert_eq!(flash.bytes[0xFFE8], 1);
    flash.load(0xFFE8, &[0x02]); // a torn write does not leave this
    assert_eq!(confirm(&mut flash, &layout), Err(TrailerError::BadFlag));
    flash.load(0xFFF0, &[0]);
    assert_eq!(confirm(&mut flash, &layout), Err(TrailerError::BadMagic));
}

#[test]
fn every_trailer_sector_is_erased_the_magic_first() {
    let geometry = Geometry {
        slot_size: SLOT,
        sector_size: SECTOR as u32,
        write_size: 8,
    };
    let layout = TrailerLayout::new(Algorithm::SwapMove, geometry, 8, 8, 256).unwrap();
    let mut flash = flash::<8>();
    flash.bytes.fill(0);
    flash.power.record();
    erase_trailer(&mut flash, &layout).unwrap(); // mcuboot case 79
    assert!(is_erased(&flash.bytes[0xE000..]) && flash.bytes[..0xE000].iter().all(|byte| *byte == 0));
    use bledfu_testkit::Op;
    assert_eq!(
        flash.power.recorded(),
        [15, 14].map(|sector| Op::Erase { chip: 's', sector })
    );
}

#[test]
fn swap_types_that_are_never_stored_read_as_none() {
    for (byte, kind, number) in [
        (0xFF, SwapType::None, 0),
        (0x12, SwapType::Test, 1),
        (0x05, SwapType::None, 0),
        (0x24, SwapType::Revert, 2),
    ] {
        let trailer = Trailer {
            swap_info: byte,
            ..Trailer::ERASED
        };
        assert_eq!((trailer.swap_type(), trailer.image_number()), (kind, number));
    }
}

#[test]
fn a_request_names_its_image_number_and_a_job_with_another_number_is_ignored() {
    let (mut flash, layout) = (flash::<4>(), layout_with::<4>(8).with_image_number(2));
    let slot = verified(&mut flash, &layout);
    request_test(&mut flash, &slot).unwrap();
    assert_eq!(flash.bytes[0xFFD8], 0x22);
    let trailer = layout.primary_trailer();
    let mut flash = self::flash::<4>();
    write_swap_info(&mut flash, &trailer, SwapType::Test).unwrap();
    write_swap_size(&mut flash, &trailer, 9000).unwrap();
    write_magic(&mut flash, &trailer).unwrap();
    let trailer = Trailer::read(&mut flash, &trailer).unwrap();
    assert_eq!((trailer.swap_type(), trailer.image_number()), (SwapType::Test, 2));
    assert!(trailer.holds_job(&layout));
    assert!(!trailer.holds_job(&layout.with_image_number(0)));
}
