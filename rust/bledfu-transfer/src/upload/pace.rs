// SPDX-License-Identifier: Apache-2.0
//! How quickly the flash of the slot erases, measured while it does: whether an object may wait for a block of 64 KiB.
//!
//! By the data sheet of the MX25R series a sector takes 48 ms, at most 240, and a block 480 ms, at most 3,840. So blocks save
//! 0.3 s of each 64 KiB of a used slot, but an old or cold flash would exceed what the peers wait for the answer to *Create*. The
//! first object is erased by sectors, and tells.

use bledfu_slot::writer::Erase;

/// Above this time for a sector, in ms, the flash erases by sectors: half of the longest in the data sheet.
const LIMIT_MS: u32 = 120;
/// Objects that are smaller are sent by clients that wait for a second only.
const SMALLEST_OBJECT: u32 = 32 * 1024;

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When an erase began, and of how many sectors.
    begun: Option<(u64, u32)>,
    /// The last one took so long for a sector, in ms.
    sector_ms: Option<u32>,
}

impl Pace {
    /// How to erase for `length` bytes: an object, or what is erased ahead of one.
    pub fn erase(&self, length: u32) -> Erase {
        match self.sector_ms {
            Some(sector_ms) if sector_ms <= LIMIT_MS && length >= SMALLEST_OBJECT => Erase::Blocks,
            _ => Erase::Sectors,
        }
    }

    /// At `now_ms` an erase of this many sectors began.
    pub fn began(&mut self, now_ms: u64, sectors: u32) {
        self.begun = (sectors > 0).then_some((now_ms, sectors));
    }

    /// At `now_ms` it is over, if one had begun.
    pub fn over(&mut self, now_ms: u64) {
        if let Some((begun_ms, sectors)) = self.begun.take() {
            // Times fit into 32 bits, whose division is one instruction.
            let took_ms = u32::try_from(now_ms.saturating_sub(begun_ms)).unwrap_or(u32::MAX);
            self.sector_ms = Some(took_ms / sectors.max(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sectors: u32, took_ms: u64) -> Erase {
        let mut pace = Pace::default();
        pace.began(1_000, sectors);
        pace.over(1_000 + took_ms);
        pace.erase(SMALLEST_OBJECT)
    }

    #[test]
    fn blocks_are_erased_once_sectors_were_quick() {
        assert_eq!(Pace::default().erase(SMALLEST_OBJECT), Erase::Sectors);
        assert_eq!(after(8, 8 * 48), Erase::Blocks);
        assert_eq!(after(8, 8 * 240), Erase::Sectors);
        assert_eq!(after(1, u64::MAX / 2), Erase::Sectors);
    }

    #[test]
    fn a_blank_object_says_nothing_about_erases() {
        assert_eq!(after(0, 2), Erase::Sectors);
    }

    #[test]
    fn a_slow_block_is_the_last_one() {
        let mut pace = Pace::default();
        pace.began(0, 8);
        pace.over(400);
        pace.began(500, 16);
        pace.over(500 + 3_840);
        assert_eq!(pace.erase(SMALLEST_OBJECT), Erase::Sectors);
    }

    #[test]
    fn small_objects_are_erased_by_sectors() {
        let mut pace = Pace::default();
        pace.began(0, 1);
        pace.over(48);
        assert_eq!(pace.erase(4096), Erase::Sectors);
    }
}
