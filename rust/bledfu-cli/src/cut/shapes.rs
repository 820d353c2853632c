// SPDX-License-Identifier: Apache-2.0
//! The devices and stories of a campaign: units, sizes, and what happens after an update was requested.

use bledfu_sim::parts::Rewrite;
use bledfu_slot::Algorithm;

/// What follows the request of an update, one step per reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// The update is installed on trial and runs.
    Upgrade,
    /// It confirms itself.
    Confirm,
    /// It never confirms itself, and the previous image is restored.
    Revert,
    /// The update is installed permanently.
    Permanent,
}

impl Story {
    pub(super) const ALL: [Self; 4] = [Self::Upgrade, Self::Confirm, Self::Revert, Self::Permanent];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Confirm => "confirm",
            Self::Revert => "revert",
            Self::Permanent => "permanent",
        }
    }

    pub(super) const fn resets(self) -> u32 {
        match self {
            Self::Upgrade => 1,
            Self::Confirm | Self::Permanent => 2,
            Self::Revert => 3,
        }
    }
}

/// Units and sizes of a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub name: &'static str,
    /// Sectors and sector size.
    pub primary: (u32, u32),
    pub secondary: (u32, u32),
    pub spare: (u32, u32),
    pub write_size: u32,
    /// Write unit of the external flash.
    pub outside: u32,
    /// How the internal flash handles a unit that is written twice.
    pub rewrite: Rewrite,
    pub max_align: u32,
    pub max_sectors: u32,
}

const KIB: u32 = 1024;
pub(super) const SECTOR: u32 = 4 * KIB;

const fn shape(name: &'static str, primary: u32, secondary: u32) -> Shape {
    Shape {
        name,
        primary: (primary, SECTOR),
        secondary: (secondary, SECTOR),
        spare: (0, SECTOR),
        write_size: 4,
        outside: 4,
        rewrite: Rewrite::ClearsBits,
        max_align: 8,
        max_sectors: 128,
    }
}

const fn aligned(name: &'static str, write_size: u32, max_align: u32, max_sectors: u32) -> Shape {
    Shape {
        write_size,
        outside: write_size,
        max_align,
        max_sectors,
        ..shape(name, 10, 10)
    }
}

/// Internal memories of other makers, unlike NOR flash that is written in words and whose driver reports pages of one
/// size.
const OTHERS: [Shape; 3] = [
    Shape {
        rewrite: Rewrite::Refused,
        outside: 4,
        ..aligned("8 inside, error codes", 8, 8, 64)
    },
    Shape {
        rewrite: Rewrite::Replaces,
        outside: 4,
        ..aligned("16 inside, RRAM", 16, 16, 64)
    },
    Shape {
        rewrite: Rewrite::Refused,
        outside: 4,
        primary: (5, 2 * SECTOR),
        secondary: (5, 2 * SECTOR),
        spare: (0, 2 * SECTOR),
        ..aligned("16 in 8 KiB, error codes", 16, 16, 64)
    },
];

/// [`OTHERS`], with the spare area of the algorithm.
pub(super) fn others(algorithm: Algorithm) -> impl Iterator<Item = Shape> {
    OTHERS.into_iter().map(move |shape| Shape {
        spare: match algorithm {
            Algorithm::SwapScratch => (1, shape.primary.1),
            Algorithm::Copy => shape.secondary,
            _ => shape.spare,
        },
        ..shape
    })
}

/// The large device: an nRF52840 with an external flash.
const LARGE: Shape = Shape {
    max_sectors: 256,
    ..shape("nRF52840, 928 KiB slots", 232, 232)
};

/// The small devices on which an algorithm is tested.
pub(super) fn shapes(algorithm: Algorithm) -> Vec<Shape> {
    let plain = shape("4 KiB sectors", 8, 8);
    let with = |shape: Shape, sectors, size| Shape {
        spare: (sectors, size),
        ..shape
    };
    let coarse = |name| Shape {
        name,
        secondary: (3, 64 * KIB),
        ..plain
    };
    let mut found = match algorithm {
        Algorithm::SwapOffset => vec![shape("one sector more outside", 7, 8)],
        Algorithm::SwapMove => vec![shape("one sector more inside", 8, 7)],
        Algorithm::SwapScratch => {
            let double = Shape {
                name: "8 KiB sectors outside",
                secondary: (4, 2 * SECTOR),
                ..plain
            };
            let wide = Shape {
                name: "scratch of 2 sectors",
                ..plain
            };
            return vec![
                with(plain, 1, SECTOR),
                with(wide, 2, SECTOR),
                with(double, 2, SECTOR),
                with(aligned("write unit 8", 8, 8, 128), 1, SECTOR),
            ];
        }
        Algorithm::Overwrite => {
            return vec![
                plain,
                coarse("64 KiB sectors outside"),
                aligned("write unit 8", 8, 8, 64),
            ]
        }
        _ => {
            return vec![
                with(plain, 8, SECTOR),
                with(coarse("64 KiB sectors outside"), 3, 64 * KIB),
                with(aligned("write unit 8", 8, 8, 64), 10, SECTOR),
                with(aligned("write unit 32", 32, 32, 64), 10, SECTOR),
            ]
        }
    };
    found.extend([
        plain,
        aligned("write unit 1", 1, 8, 128),
        aligned("write unit 8, long trailer", 8, 8, 300),
        aligned("write unit 16", 16, 16, 64),
        aligned("write unit 32", 32, 32, 64),
    ]);
    found
}

pub(super) fn large(algorithm: Algorithm) -> Shape {
    let spare = match algorithm {
        Algorithm::SwapScratch => (1, SECTOR),
        Algorithm::Copy => LARGE.secondary,
        _ => (0, SECTOR),
    };
    Shape { spare, ..LARGE }
}

/// Sizes of the old and the new image in bytes; `u32::MAX` is the largest possible.
pub(super) fn sizes(algorithm: Algorithm) -> &'static [[u32; 2]] {
    const MAX: u32 = u32::MAX;
    match algorithm {
        // Both images end in the region that is exchanged first: in its last sector, or one of them in the sector
        // below.
        Algorithm::SwapScratch => &[[5000, 9000], [9000, 2000], [5000, MAX], [MAX, MAX], [MAX, 27_000]],
        _ => &[[5000, 9000], [9000, 2000], [5000, MAX], [MAX, MAX]],
    }
}
