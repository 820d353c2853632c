// SPDX-License-Identifier: Apache-2.0
use super::*;

const fn geometry(slot_size: u32, write_size: u32) -> Geometry {
    Geometry {
        slot_size,
        sector_size: 4096,
        write_size,
    }
}

fn trailer_of(algorithm: Algorithm, write_size: u32, max_align: u32, max_sectors: u32) -> TrailerLayout {
    let geometry = geometry(0x10000, write_size);
    TrailerLayout::new(algorithm, geometry, write_size, max_align, max_sectors).unwrap()
}

fn trailer(write_size: u32, max_align: u32, max_sectors: u32) -> TrailerLayout {
    trailer_of(Algorithm::SwapMove, write_size, max_align, max_sectors)
}

/// Distance from the end of the slot.
fn back(layout: &TrailerLayout, offset: u32) -> u32 {
    layout.slot_size() - offset
}

#[test]
fn info_fields_are_where_mcuboot_has_them() {
    for (max_align, expected) in [
        (8, [16, 24, 32, 40, 48]),
        (16, [16, 32, 48, 64, 80]),
        (32, [16, 64, 96, 128, 160]),
    ] {
        let t = trailer(4, max_align, 128);
        let found = [
            t.magic(),
            t.image_ok(),
            t.copy_done(),
            t.swap_info(),
            t.swap_size(),
        ]
        .map(|at| back(&t, at));
        assert_eq!(found, expected);
    }
}

#[test]
fn trailers_are_as_large_as_mcuboots() {
    // Write unit, alignment, sectors; size of the trailer.
    for (w, ma, m, size) in [
        (1, 8, 128, 432),
        (2, 8, 128, 816),
        (4, 8, 128, 1584),
        (8, 8, 128, 3120),
        (1, 16, 128, 464),
        (2, 16, 128, 848),
        (4, 16, 128, 1616),
        (8, 16, 128, 3152),
        (16, 16, 128, 6224),
        (1, 32, 128, 544),
        (2, 32, 128, 928),
        (4, 32, 128, 1696),
        (8, 32, 128, 3232),
        (16, 32, 128, 6304),
        (32, 32, 128, 12448),
        (1, 8, 256, 816),
        (2, 8, 256, 1584),
        (4, 8, 256, 3120),
        (8, 8, 256, 6192),
    ] {
        let t = trailer(w, ma, m);
        assert_eq!(t.trailer_size(), size, "W={w} MA={ma} M={m}");
        assert_eq!(t.status_start(), 0x10000 - size);
        assert_eq!(t.first_sector(), 0x10000 - size.next_multiple_of(4096));
    }
}

#[test]
fn swap_using_offset_has_two_records_per_sector_and_one_more_field() {
    for (w, m, size) in [(1, 128, 312), (2, 128, 568), (4, 128, 1080), (8, 128, 2104)] {
        assert_eq!(trailer_of(Algorithm::SwapOffset, w, 8, m).trailer_size(), size);
    }
    for (max_align, expected) in [(8, [48, 56]), (16, [80, 96]), (32, [160, 192])] {
        let t = trailer_of(Algorithm::SwapOffset, 4, max_align, 128);
        assert_eq!(
            [t.tlv_sizes().unwrap(), t.swap_size()].map(|at| back(&t, at)),
            expected
        );
        assert_eq!(t.swap_info(), trailer(4, max_align, 128).swap_info());
    }
}

#[test]
fn before_mcuboot_2_3_swap_using_offset_had_no_field_for_tlv_sizes() {
    for (w, max_align, size) in [(4, 8, 1072), (8, 8, 2096), (16, 16, 4176)] {
        let g = geometry(0x10000, w);
        let layout = Layout::new(Algorithm::SwapOffset, g, g, max_align, 128).unwrap();
        let older = layout.without_tlv_sizes();
        for (new, old) in [
            (layout.primary_trailer(), older.primary_trailer()),
            (layout.secondary_trailer(), older.secondary_trailer()),
        ] {
            assert_eq!((old.tlv_sizes(), Some(old.swap_size())), (None, new.tlv_sizes()));
            assert_eq!((old.trailer_size(), old.swap_info()), (size, new.swap_info()));
        }
        assert_eq!(older.with_tlv_sizes(), layout);
    }
    let g = geometry(0x10000, 4);
    let layout = Layout::new(Algorithm::SwapMove, g, g, 8, 128).unwrap();
    assert_eq!(layout.without_tlv_sizes(), layout);
}

#[test]
fn a_scratch_area_holds_the_records_of_one_sector() {
    let g = geometry(0x10000, 4);
    let scratch = |size, write_size| {
        let spare = Some(geometry(size, write_size));
        Layout::with_spare(Algorithm::SwapScratch, g, g, spare, 8, 128)
    };
    let t = scratch(0x1000, 4).unwrap().spare_trailer().unwrap();
    assert_eq!(t.trailer_size(), 3 * 4 + 4 * 8 + 16);
    assert_eq!(scratch(0x1000, 8).map(|_| ()), Err(LayoutError::ScratchUnits)); // mcuboot case 82
    assert_eq!(scratch(0x800, 4).map(|_| ()), Err(LayoutError::ScratchUnits)); // mcuboot case 81
    assert_eq!(scratch(0, 4).map(|_| ()), Err(LayoutError::ScratchUnits));
    let large = Geometry {
        sector_size: 0x10000,
        slot_size: 0x40000,
        write_size: 4,
    };
    let small = geometry(0x40000, 4);
    let pair =
        |spare| Layout::with_spare(Algorithm::SwapScratch, small, large, Some(spare), 8, 128).map(|_| ());
    assert_eq!(pair(geometry(0x1000, 4)), Err(LayoutError::ScratchUnits)); // mcuboot case 75
    assert_eq!(pair(geometry(0x10000, 4)), Ok(()));
}

#[test]
fn a_spare_area_is_required_exactly_where_the_algorithm_needs_one() {
    let g = geometry(0x10000, 4);
    for algorithm in Algorithm::ALL {
        let with = |spare| Layout::with_spare(algorithm, g, g, spare, 8, 128).map(|_| ());
        assert_eq!(
            with(None).is_ok(),
            !algorithm.has_spare(),
            "{}",
            algorithm.as_str()
        );
        assert_eq!(
            with(Some(g)).is_ok(),
            algorithm.has_spare(),
            "{}",
            algorithm.as_str()
        );
    }
}

#[test]
fn the_places_of_copy_change_their_roles() {
    let (small, large) = (geometry(0x8000, 4), geometry(0x10000, 4));
    let layout = Layout::with_spare(Algorithm::Copy, small, small, Some(large), 8, 128).unwrap();
    let other = layout.with_incoming(Place::Second);
    assert_eq!(layout.with_incoming(Place::First), layout);
    assert_eq!(
        (other.incoming(), layout.incoming()),
        (Place::Second, Place::First)
    );
    assert_eq!((other.secondary(), other.spare()), (large, Some(small)));
    assert_eq!(Some(other.secondary_trailer()), layout.spare_trailer());
    assert_eq!(other.max_image_size(), layout.max_image_size());
    assert_eq!(other.with_incoming(Place::First), layout);
    let swap = Layout::new(Algorithm::SwapMove, small, small, 8, 128).unwrap();
    assert_eq!(swap.with_incoming(Place::Second), swap);
}

#[test]
fn the_magic_is_written_in_whole_alignment_units() {
    assert_eq!(back(&trailer(4, 8, 128), trailer(4, 8, 128).magic_write()), 16);
    assert_eq!(
        back(&trailer(16, 16, 128), trailer(16, 16, 128).magic_write()),
        16
    );
    assert_eq!(back(&trailer(4, 32, 128), trailer(4, 32, 128).magic_write()), 32);
}

#[test]
fn image_limits_are_those_of_mcuboot() {
    let limit = |algorithm, primary, secondary, m| {
        Layout::new(algorithm, geometry(primary, 4), geometry(secondary, 4), 8, m)
            .unwrap()
            .max_image_size()
    };
    assert_eq!(limit(Algorithm::SwapMove, 0x10000, 0x10000, 128), 0xE000);
    assert_eq!(limit(Algorithm::SwapMove, 0x11000, 0x10000, 128), 0xF000);
    assert_eq!(limit(Algorithm::SwapMove, 0xE8000, 0xE8000, 256), 0xE6000);
    assert_eq!(limit(Algorithm::Overwrite, 0x10000, 0x10000, 128), 0xFFD8);
    assert_eq!(limit(Algorithm::SwapOffset, 0x10000, 0x10000, 128), 0xE000);
    assert_eq!(limit(Algorithm::SwapOffset, 0x10000, 0x11000, 128), 0xF000);
    assert_eq!(limit(Algorithm::SwapOffset, 0xE8000, 0xE8000, 256), 0xE6000);
    let scratch = |size| {
        let g = geometry(0x10000, 4);
        Layout::with_spare(Algorithm::SwapScratch, g, g, Some(geometry(size, 4)), 8, 128)
            .unwrap()
            .max_image_size()
    };
    assert_eq!(scratch(0x1000), 0xF9D0);
    // The trailer is 44 bytes larger than a sector, and the scratch trailer has 60 bytes: the difference is padding,
    // unless the other slot has larger sectors.
    let wide = |sector_size| {
        let other = Geometry {
            sector_size,
            ..geometry(0x10000, 4)
        };
        let (g, spare) = (geometry(0x10000, 4), Some(geometry(0x2000, 4)));
        Layout::with_spare(Algorithm::SwapScratch, g, other, spare, 8, 341)
            .unwrap()
            .max_image_size()
    };
    assert_eq!(wide(0x1000), 0x10000 - 4140 - 16);
    assert_eq!(wide(0x2000), 0x10000 - 4140);
}

#[test]
fn slots_that_do_not_fit_an_algorithm_are_refused() {
    let g = geometry(0x10000, 4);
    let large = Geometry {
        sector_size: 0x10000,
        slot_size: 0x40000,
        write_size: 4,
    };
    let pair = |algorithm, p, s, m| Layout::new(algorithm, p, s, 8, m).map(|_| ());
    use Algorithm::{Overwrite, SwapMove};
    assert_eq!(pair(SwapMove, g, large, 128), Err(LayoutError::SectorSizesDiffer)); // mcuboot case 75
    assert_eq!(pair(Overwrite, g, large, 128), Ok(()));
    assert_eq!(
        pair(SwapMove, geometry(0x12000, 4), g, 128),
        Err(LayoutError::SectorCountsDiffer)
    ); // mcuboot case 76
    assert_eq!(
        pair(SwapMove, g, geometry(0x11000, 4), 128),
        Err(LayoutError::SectorCountsDiffer)
    );
    assert_eq!(pair(SwapMove, geometry(0x11000, 4), g, 128), Ok(()));
    use Algorithm::SwapOffset;
    assert_eq!(pair(SwapOffset, g, geometry(0x11000, 4), 128), Ok(()));
    assert_eq!(
        pair(SwapOffset, geometry(0x11000, 4), g, 128),
        Err(LayoutError::SectorCountsDiffer)
    );
    assert_eq!(pair(SwapMove, g, g, 15), Err(LayoutError::TooManySectors)); // mcuboot case 77
    assert_eq!(pair(SwapMove, g, g, 16), Ok(()));
    assert_eq!(pair(SwapMove, g, g, 1 << 30), Err(LayoutError::TooSmall));
    assert_eq!(
        pair(SwapMove, geometry(0x10001, 4), g, 128),
        Err(LayoutError::SlotSize)
    );
    assert_eq!(pair(SwapMove, geometry(0, 4), g, 128), Err(LayoutError::SlotSize));
    assert_eq!(
        pair(SwapMove, geometry(0x2000, 4), geometry(0x2000, 4), 128),
        Err(LayoutError::TooSmall)
    );
    assert_eq!(
        pair(SwapMove, geometry(0x10000, 16), g, 128),
        Err(LayoutError::WriteSize)
    );
    assert_eq!(
        pair(SwapMove, geometry(0x10000, 3), g, 128),
        Err(LayoutError::WriteSize)
    );
    assert_eq!(
        pair(SwapMove, geometry(0x10000, 0), g, 128),
        Err(LayoutError::WriteSize)
    );
    let tiny = Geometry { sector_size: 32, ..g };
    assert_eq!(pair(Overwrite, tiny, g, 128), Err(LayoutError::SectorSize));
    let odd = Geometry { sector_size: 0, ..g };
    assert_eq!(pair(Overwrite, odd, g, 128), Err(LayoutError::SectorSize));
    // Received bytes are written in pages of 256 bytes.
    let small = |sector_size| Geometry { sector_size, ..g };
    assert_eq!(pair(Overwrite, g, small(128), 1024), Err(LayoutError::SectorSize));
    assert!(pair(Overwrite, g, small(256), 1024).is_ok());
    assert!(pair(Overwrite, small(128), g, 1024).is_ok());
    assert_eq!(
        Layout::new(SwapMove, g, g, 64, 128).map(|_| ()),
        Err(LayoutError::MaxAlign)
    );
}

#[test]
fn the_image_number_is_carried_by_every_trailer_and_moves_no_field() {
    for algorithm in Algorithm::ALL {
        let spare = algorithm.has_spare().then_some(geometry(0x10000, 4));
        let slot = geometry(0x10000, 4);
        let layout = Layout::with_spare(algorithm, slot, slot, spare, 8, 128).unwrap();
        assert_eq!(layout.image_number(), 0);
        for number in [0, 1, 15] {
            let numbered = layout.with_image_number(number);
            assert_eq!(numbered.image_number(), number);
            let trailers = [
                Some(numbered.primary_trailer()),
                Some(numbered.secondary_trailer()),
                numbered.spare_trailer(),
            ];
            assert!(trailers
                .iter()
                .flatten()
                .all(|trailer| trailer.image_number() == number));
            assert_eq!(numbered.max_image_size(), layout.max_image_size());
            // It is kept when the roles change and in the older trailer.
            let other = numbered.with_incoming(Place::Second).without_tlv_sizes();
            assert_eq!(other.image_number(), number);
            assert_eq!(numbered.with_image_number(0), layout);
        }
        assert_eq!(layout.with_image_number(16).image_number(), 15);
    }
}
