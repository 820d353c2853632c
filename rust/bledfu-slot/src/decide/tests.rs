// SPDX-License-Identifier: Apache-2.0
use super::*;

const ERASED: Trailer = Trailer::ERASED;
const PENDING: Trailer = Trailer {
    magic: Magic::Good,
    ..ERASED
};
const REVERT_DUE: Trailer = Trailer {
    magic: Magic::Good,
    copy_done: Flag::Set,
    ..ERASED
};

#[test]
fn only_swap_using_offset_takes_copy_done_in_the_secondary_for_a_revert() {
    let marked = Trailer {
        copy_done: Flag::Set,
        ..PENDING
    };
    assert_eq!(decide(&ERASED, &marked), SwapType::Test); // mcuboot case 55
    assert_eq!(decide_by_offset(&ERASED, &marked), SwapType::Revert);
    let confirmed = Trailer {
        image_ok: Flag::Set,
        ..marked
    };
    assert_eq!(decide_by_offset(&ERASED, &confirmed), SwapType::Permanent);
    assert_eq!(decide_by_offset(&REVERT_DUE, &PENDING), SwapType::Test);
    assert_eq!(decide_by_offset(&REVERT_DUE, &ERASED), SwapType::Revert);
}

#[test]
fn erased_trailers_ask_for_nothing() {
    assert_eq!(decide(&ERASED, &ERASED), SwapType::None); // mcuboot case 51
}

#[test]
fn a_damaged_secondary_magic_asks_for_nothing() {
    assert_eq!(
        decide(
            &ERASED,
            &Trailer {
                magic: Magic::Bad,
                ..PENDING
            }
        ),
        SwapType::None
    ); // mcuboot case 52, 66
}

#[test]
fn a_pending_secondary_is_a_test() {
    assert_eq!(decide(&ERASED, &PENDING), SwapType::Test);
}

#[test]
fn a_pending_secondary_with_image_ok_is_permanent() {
    assert_eq!(
        decide(
            &ERASED,
            &Trailer {
                image_ok: Flag::Set,
                ..PENDING
            }
        ),
        SwapType::Permanent
    ); // mcuboot case 53
}

#[test]
fn a_pending_secondary_with_a_torn_image_ok_asks_for_nothing() {
    assert_eq!(
        decide(
            &ERASED,
            &Trailer {
                image_ok: Flag::Bad,
                ..PENDING
            }
        ),
        SwapType::None
    ); // mcuboot case 54
}

#[test]
fn copy_done_of_the_secondary_does_not_matter() {
    for copy_done in [Flag::Set, Flag::Bad, Flag::Unset] {
        assert_eq!(decide(&ERASED, &Trailer { copy_done, ..PENDING }), SwapType::Test);
        // mcuboot case 55
    }
}

#[test]
fn swap_info_does_not_matter() {
    for swap_info in [0xFF, 0x02, 0x03, 0x04, 0x00] {
        assert_eq!(decide(&ERASED, &Trailer { swap_info, ..PENDING }), SwapType::Test);
        // mcuboot cases 56, 57
    }
}

#[test]
fn a_factory_image_with_a_magic_asks_for_nothing() {
    assert_eq!(decide(&PENDING, &ERASED), SwapType::None); // mcuboot case 58
}

#[test]
fn an_unconfirmed_swapped_image_is_reverted() {
    assert_eq!(decide(&REVERT_DUE, &ERASED), SwapType::Revert); // mcuboot case 59
}

#[test]
fn a_confirmed_image_stays() {
    assert_eq!(
        decide(
            &Trailer {
                image_ok: Flag::Set,
                ..REVERT_DUE
            },
            &ERASED
        ),
        SwapType::None
    ); // mcuboot case 60
}

#[test]
fn torn_primary_flags_ask_for_nothing() {
    assert_eq!(
        decide(
            &Trailer {
                copy_done: Flag::Bad,
                ..REVERT_DUE
            },
            &ERASED
        ),
        SwapType::None
    ); // mcuboot case 61
    assert_eq!(
        decide(
            &Trailer {
                image_ok: Flag::Bad,
                ..REVERT_DUE
            },
            &ERASED
        ),
        SwapType::None
    );
}

#[test]
fn a_pending_secondary_takes_precedence_over_a_due_revert() {
    assert_eq!(decide(&REVERT_DUE, &PENDING), SwapType::Test); // mcuboot case 62
}

#[test]
fn a_damaged_primary_magic_does_not_prevent_an_update() {
    assert_eq!(
        decide(
            &Trailer {
                magic: Magic::Bad,
                ..ERASED
            },
            &PENDING
        ),
        SwapType::Test
    ); // mcuboot case 63
}

#[test]
fn a_damaged_secondary_magic_does_not_prevent_a_revert() {
    assert_eq!(
        decide(
            &REVERT_DUE,
            &Trailer {
                magic: Magic::Bad,
                ..ERASED
            }
        ),
        SwapType::Revert
    ); // mcuboot case 64
    assert_eq!(
        decide(
            &REVERT_DUE,
            &Trailer {
                image_ok: Flag::Bad,
                ..PENDING
            }
        ),
        SwapType::Revert
    );
}

#[test]
fn a_primary_without_magic_is_never_reverted() {
    assert_eq!(
        decide(
            &Trailer {
                magic: Magic::Unset,
                ..REVERT_DUE
            },
            &ERASED
        ),
        SwapType::None
    );
}

use crate::areas::NoFlash;
use crate::trailer::{self, write_copy_done, write_image_ok, write_magic, write_swap_info, write_swap_size};
use crate::Geometry;
use bledfu_testkit::{Image, Key, Nor, Power, SECTOR};

/// The slots of a device that runs an image of 5000 bytes and holds an update of 9000.
struct Slots {
    layout: Layout,
    primary: Nor<4>,
    secondary: Nor<4>,
}

impl Slots {
    fn new(algorithm: Algorithm) -> Self {
        let power = Power::new();
        let slot = Geometry::of::<Nor<4>>(16 * SECTOR as u32);
        let spare = match algorithm {
            Algorithm::SwapScratch => Some(Geometry::of::<Nor<4>>(SECTOR as u32)),
            Algorithm::Copy => Some(slot),
            _ => None,
        };
        let layout = Layout::with_spare(algorithm, slot, slot, spare, 8, 32).unwrap();
        let mut primary = Nor::new('p', 16, &power);
        primary.load(0, &Image::bare(0x200, 5000, 1).sign(Key(1)).bytes());
        let mut secondary = Nor::new('s', 16, &power);
        let update = Image::bare(0x200, 9000, 2).sign(Key(1)).bytes();
        secondary.load(layout.upload_offset() as usize, &update);
        Self {
            layout,
            primary,
            secondary,
        }
    }

    fn request(mut self) -> Self {
        write_magic(&mut self.secondary, &self.layout.secondary_trailer()).unwrap();
        self
    }

    fn outlook(&mut self) -> Outlook {
        outlook(&self.layout, &mut self.primary, &mut self.secondary, &mut NoFlash)
    }

    fn of_primary(&self) -> crate::TrailerLayout {
        self.layout.primary_trailer()
    }
}

#[test]
fn a_fresh_device_and_a_factory_image_with_a_magic_have_nothing_to_do() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm);
        assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        write_magic(&mut slots.primary, &slots.layout.primary_trailer()).unwrap();
        assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        trailer::confirm(&mut slots.primary, &slots.layout).unwrap();
        assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
    }
}

#[test]
fn a_request_is_carried_out() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm).request();
        assert_eq!(slots.outlook(), Outlook::Install(SwapType::Test), "{algorithm:?}");
        write_image_ok(&mut slots.secondary, &slots.layout.secondary_trailer()).unwrap();
        let expected = Outlook::Install(SwapType::Permanent);
        assert_eq!(slots.outlook(), expected, "{algorithm:?}");
        assert!(expected.needs_secondary());
    }
}

#[test]
fn an_image_on_trial_is_reverted_unless_there_is_no_way_back() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm);
        let of_primary = slots.of_primary();
        write_magic(&mut slots.primary, &of_primary).unwrap();
        write_copy_done(&mut slots.primary, &of_primary).unwrap();
        // The image before is at the start of the slot.
        let before = Image::bare(0x200, 3000, 3).sign(Key(1)).bytes();
        slots.secondary.load(0, &before);
        let expected = match algorithm {
            Algorithm::Overwrite => Outlook::Nothing,
            _ => Outlook::Revert,
        };
        assert_eq!(slots.outlook(), expected, "{algorithm:?}");
        if matches!(
            algorithm,
            Algorithm::SwapMove | Algorithm::SwapOffset | Algorithm::SwapScratch
        ) {
            slots.secondary.bytes[..32].fill(0xFF);
            let expected = Outlook::Impossible(Obstacle::NoImage);
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            assert!(!expected.needs_secondary());
        }
        trailer::confirm(&mut slots.primary, &slots.layout).unwrap();
        assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
    }
}

#[test]
fn a_primary_too_large_to_be_kept_is_known_before_a_transfer() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm).request();
        assert_eq!(obstacle(&slots.layout, &mut slots.primary), Ok(None));
        // An image as large as the header check allows, with its TLV area; the largest one is too large for every
        // algorithm.
        let room = slots.of_primary().swap_info();
        let large = Image::of_total(room, 9, Key(1)).bytes();
        slots.primary.load(0, &large);
        let too_large = (algorithm != Algorithm::Overwrite).then_some(Obstacle::PrimaryTooLarge);
        assert_eq!(
            obstacle(&slots.layout, &mut slots.primary),
            Ok(too_large),
            "{algorithm:?}"
        );
        let expected = too_large.map_or(Outlook::Install(SwapType::Test), Outlook::Impossible);
        assert_eq!(slots.outlook(), expected, "{algorithm:?}");
        // The limit is exact to the byte.
        let limit = slots.layout.max_image_size();
        for (size, found) in [(limit, None), (limit + 1, too_large)] {
            slots.primary.bytes.fill(0xFF);
            let image = Image::of_total(size.min(room), 9, Key(1)).bytes();
            slots.primary.load(0, &image);
            let found = found.filter(|_| image.len() as u32 > limit);
            assert_eq!(
                obstacle(&slots.layout, &mut slots.primary),
                Ok(found),
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn a_request_without_an_image_or_with_one_that_is_too_large_is_impossible() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm).request();
        let start = slots.layout.upload_offset() as usize;
        for (at, byte) in [(0, 0), (16, 0x04), (16, 0x10), (15, 0xFF), (0x200 + 9000, 0)] {
            let good = slots.secondary.bytes[start + at];
            slots.secondary.bytes[start + at] = byte;
            let expected = Outlook::Impossible(Obstacle::NoImage);
            assert_eq!(slots.outlook(), expected, "{algorithm:?} {at}");
            slots.secondary.bytes[start + at] = good;
        }
        assert_eq!(slots.outlook(), Outlook::Install(SwapType::Test));
        let limit = slots.layout.max_image_size();
        let room = slots.of_primary().swap_info() - start as u32;
        if limit < room {
            let large = Image::of_total(limit + 1, 9, Key(1)).bytes();
            slots.secondary.load(start, &large);
            assert_eq!(
                slots.outlook(),
                Outlook::Impossible(Obstacle::TooLarge),
                "{algorithm:?}"
            );
        }
    }
}

#[test]
fn damaged_flags_and_magics_of_the_secondary_block_nothing() {
    for algorithm in Algorithm::ALL {
        let mut slots = Slots::new(algorithm).request();
        let of_secondary = slots.layout.secondary_trailer();
        slots.secondary.load(of_secondary.image_ok() as usize, &[0x5B]);
        let expected = Outlook::Impossible(Obstacle::DamagedRequest);
        assert_eq!(slots.outlook(), expected, "{algorithm:?}");
        slots.secondary.load(of_secondary.magic() as usize, &[0x70]);
        assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
    }
}

#[test]
fn an_outlook_shows_a_job_that_an_earlier_boot_could_not_finish() {
    for algorithm in Algorithm::ALL {
        for (swap_type, expected) in [
            (SwapType::Test, Outlook::Install(SwapType::Test)),
            (SwapType::Permanent, Outlook::Install(SwapType::Permanent)),
            (SwapType::Revert, Outlook::Revert),
        ] {
            let mut slots = Slots::new(algorithm);
            let of_primary = slots.of_primary();
            write_swap_info(&mut slots.primary, &of_primary, swap_type).unwrap();
            write_swap_size(&mut slots.primary, &of_primary, 9644).unwrap();
            write_magic(&mut slots.primary, &of_primary).unwrap();
            let expected = match algorithm {
                Algorithm::Overwrite => Outlook::Nothing,
                _ => expected,
            };
            assert_eq!(slots.outlook(), expected, "{algorithm:?}");
            write_copy_done(&mut slots.primary, &of_primary).unwrap();
            write_image_ok(&mut slots.primary, &of_primary).unwrap();
            assert_eq!(slots.outlook(), Outlook::Nothing, "{algorithm:?}");
        }
    }
}

#[test]
fn an_outlook_shows_a_job_that_only_scratch_knows() {
    let mut slots = Slots::new(Algorithm::SwapScratch);
    let layout = slots.layout;
    let of_scratch = layout.spare_trailer().unwrap();
    let mut scratch = Nor::<4>::new('x', 1, &Power::new());
    write_swap_info(&mut scratch, &of_scratch, SwapType::Test).unwrap();
    write_swap_size(&mut scratch, &of_scratch, layout.max_image_size()).unwrap();
    write_magic(&mut scratch, &of_scratch).unwrap();
    let mut outlook =
        |scratch: &mut Nor<4>| outlook(&layout, &mut slots.primary, &mut slots.secondary, scratch);
    assert_eq!(outlook(&mut scratch), Outlook::Nothing, "nothing has been moved");
    scratch.load(of_scratch.status_start() as usize, &[1]);
    assert_eq!(outlook(&mut scratch), Outlook::Install(SwapType::Test));
}

#[test]
fn a_slot_that_cannot_be_read_leaves_the_outlook_unknown() {
    let mut slots = Slots::new(Algorithm::SwapOffset).request();
    slots.secondary.broken = true;
    assert_eq!(slots.outlook(), Outlook::Unknown(NorFlashErrorKind::Other));
    slots.secondary.broken = false;
    slots.primary.broken = true;
    assert_eq!(slots.outlook(), Outlook::Unknown(NorFlashErrorKind::Other));
}
