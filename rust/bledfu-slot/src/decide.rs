// SPDX-License-Identifier: Apache-2.0
//! Trailer contents to swap type, on a fresh boot (MCUboot `bootutil_public.c`, `boot_swap_tables`). The boot stage acts on it;
//! the application tells it to who asks for the state of the images.
//!
//! The order matters: a request in the secondary slot is looked at before a revert that is due in the primary, so an
//! update received by a test image replaces it. The stored swap type plays no part, and a flag that is neither set nor
//! erased matches no row that asks for either.

use crate::layout::Algorithm;
use crate::trailer::{Flag, Magic, SwapType, Trailer};

/// One row: what the fields must be (`None` = anything), and what follows.
struct Row {
    primary_magic: Option<Magic>,
    secondary_magic: Option<Magic>,
    primary_image_ok: Option<Flag>,
    secondary_image_ok: Option<Flag>,
    primary_copy_done: Option<Flag>,
    result: SwapType,
}

/// The first matching row wins; none matching means nothing to do.
const TABLE: [Row; 3] = [
    // A new image that has not been asked to stay.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Unset),
        primary_copy_done: None,
        result: SwapType::Test,
    },
    // A new image that is to stay.
    Row {
        primary_magic: None,
        secondary_magic: Some(Magic::Good),
        primary_image_ok: None,
        secondary_image_ok: Some(Flag::Set),
        primary_copy_done: None,
        result: SwapType::Permanent,
    },
    // A swapped-in image that has not confirmed itself. The secondary magic does not matter (MCUboot since v2.2): a
    // magic torn while the revert was prepared must not keep the revert from happening.
    Row {
        primary_magic: Some(Magic::Good),
        secondary_magic: None,
        primary_image_ok: Some(Flag::Unset),
        secondary_image_ok: None,
        primary_copy_done: Some(Flag::Set),
        result: SwapType::Revert,
    },
];

fn fits<T: PartialEq>(wanted: &Option<T>, found: &T) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == found)
}

/// What the two trailers ask for; an unreadable secondary is passed as [`Trailer::ERASED`].
pub fn decide(primary: &Trailer, secondary: &Trailer) -> SwapType {
    TABLE
        .iter()
        .find(|row| {
            fits(&row.primary_magic, &primary.magic)
                && fits(&row.secondary_magic, &secondary.magic)
                && fits(&row.primary_image_ok, &primary.image_ok)
                && fits(&row.secondary_image_ok, &secondary.image_ok)
                && fits(&row.primary_copy_done, &primary.copy_done)
        })
        .map_or(SwapType::None, |row| row.result)
}

/// [`decide`] for swap using offset, whose table has one row more, the first.
pub fn decide_by_offset(primary: &Trailer, secondary: &Trailer) -> SwapType {
    if asks_for_revert(secondary) {
        return SwapType::Revert;
    }
    decide(primary, secondary)
}

/// What the next boot makes of the two trailers, with the table of `algorithm`.
pub fn next_boot(algorithm: Algorithm, primary: &Trailer, secondary: &Trailer) -> SwapType {
    match algorithm {
        Algorithm::SwapOffset => decide_by_offset(primary, secondary),
        _ => decide(primary, secondary),
    }
}

/// Swap using offset: a request in the secondary that is marked with `copy_done` is one to go back.
pub fn asks_for_revert(secondary: &Trailer) -> bool {
    (secondary.magic, secondary.image_ok, secondary.copy_done) == (Magic::Good, Flag::Unset, Flag::Set)
}

#[cfg(test)]
mod tests {
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
    fn a_pending_secondary_goes_before_a_due_revert() {
        assert_eq!(decide(&REVERT_DUE, &PENDING), SwapType::Test); // mcuboot case 62
    }

    #[test]
    fn a_damaged_primary_magic_does_not_keep_an_update_out() {
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
    fn a_damaged_secondary_magic_does_not_keep_a_revert_from_happening() {
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
}
