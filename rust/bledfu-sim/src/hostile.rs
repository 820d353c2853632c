// SPDX-License-Identifier: Apache-2.0
//! Unreliable flash: cells left weak by an operation that lost power, and reads that go wrong.
//!
//! A cell whose program or erase was cut may hold a charge between 0 and 1. It may then read differently each time,
//! until it is fully erased or programmed. No data sheet says how often; the model is meant to be worse than any real
//! part:
//!
//! * A torn program leaves every byte weak that it was changing; a torn erase every byte of its sector that was not
//!   erased.
//!   Before 30 %, an erase has changed nothing yet; after 90 %, at most one byte in 16 still reads its old value.
//! * A weak byte has two values, the ones before and after the operation. [`Choice`] decides for each boot or for each
//!   read which one is read.
//! * It is stable again after a complete erase, or after a complete program of its later value.
//!
//! [`Misreads`] are errors of the bus, not of the cells: a read returns wrong bytes, and may return the right ones when
//! repeated.
//!
//! This file uses nothing of its crate: `bledfu-testkit` includes it, so that both flash models fail in the same ways.

use std::ops::Range;

/// Which of its two values a weak byte reads as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Chosen for each byte and boot; one of the values is read once in this many boots, the other one otherwise.
    PerBoot(u64),
    /// Chosen for each byte and read, likewise.
    PerRead(u64),
    /// In boot number `n` after the cut, counted from 0, all bytes read as written or erased if bit `n` is set,
    /// otherwise as they were before; from boot 63 on, bit 63 applies.
    Boots(u64),
}

/// What operations that are cut inside leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weak {
    /// How weak bytes read.
    pub choice: Choice,
    /// Seed of the choice.
    pub seed: u64,
}

/// Bytes of one cut operation.
#[derive(Clone, Debug)]
struct Torn {
    start: u32,
    /// Each byte before and after the operation; equal if the byte is stable.
    values: Vec<[u8; 2]>,
    weak: Weak,
    /// Boots before the cut.
    boot: u64,
    /// Which of the values is the rarer one.
    rarer: usize,
}

impl Torn {
    fn end(&self) -> u32 {
        self.start + self.values.len() as u32
    }

    /// The values of an address inside.
    fn at(&mut self, address: u32) -> &mut [u8; 2] {
        &mut self.values[(address - self.start) as usize]
    }

    /// The part of `range` inside.
    fn overlap(&self, range: &Range<u32>) -> Range<u32> {
        range.start.max(self.start)..range.end.min(self.end())
    }

    fn choose(&self, address: u32, boot: u64, read: u64) -> usize {
        let (moment, one_in) = match self.weak.choice {
            Choice::Boots(pattern) => {
                // The boot with the power cut has ended: the first boot after it has number 0.
                let number = boot.saturating_sub(self.boot + 1).min(63);
                return (pattern >> number & 1) as usize;
            }
            Choice::PerBoot(one_in) => (boot, one_in),
            Choice::PerRead(one_in) => (read, one_in),
        };
        let chance = mix(self.weak.seed ^ u64::from(address) << 32 ^ moment);
        match chance.is_multiple_of(one_in.max(2)) {
            true => self.rarer,
            false => 1 - self.rarer,
        }
    }
}

/// The weak bytes of one memory.
#[derive(Clone, Debug, Default)]
pub struct WeakCells {
    torn: Vec<Torn>,
    reads: u64,
}

impl WeakCells {
    /// All bytes are stable.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a byte of this range is weak.
    #[must_use]
    pub fn any_in(&self, range: Range<u32>) -> bool {
        self.torn.iter().any(|torn| {
            torn.overlap(&range).any(|address| {
                let [before, behind] = torn.values[(address - torn.start) as usize];
                before != behind
            })
        })
    }

    /// Replaces weak bytes of the bytes read at `address` with one of their values. `boot` is the number of the boot.
    pub fn read(&mut self, address: u32, bytes: &mut [u8], boot: u64) {
        if self.torn.is_empty() {
            return;
        }
        self.reads += 1;
        let range = address..address + bytes.len() as u32;
        for torn in &self.torn {
            for at in torn.overlap(&range) {
                let [before, behind] = torn.values[(at - torn.start) as usize];
                if before != behind {
                    bytes[(at - address) as usize] = [before, behind][torn.choose(at, boot, self.reads)];
                }
            }
        }
    }

    /// `wanted` was completely programmed at `address`. `replaces`: bits can change in both directions.
    pub fn programmed(&mut self, address: u32, wanted: &[u8], replaces: bool) {
        let range = address..address + wanted.len() as u32;
        self.change(range, |at, value| {
            let wanted = wanted[(at - address) as usize];
            if replaces {
                wanted
            } else {
                value & wanted
            }
        });
    }

    /// `length` bytes at `address` were completely erased.
    pub fn erased(&mut self, address: u32, length: u32) {
        self.change(address..address + length, |_, _| 0xFF);
    }

    fn change(&mut self, range: Range<u32>, new: impl Fn(u32, u8) -> u8) {
        if self.torn.is_empty() {
            return;
        }
        for torn in &mut self.torn {
            for at in torn.overlap(&range) {
                let values = torn.at(at);
                *values = values.map(|value| new(at, value));
            }
        }
        self.torn
            .retain(|torn| torn.values.iter().any(|[before, behind]| before != behind));
    }

    /// The program of `wanted` over `held` at `address` was cut. Returns the content to store.
    pub fn torn_program(
        &mut self,
        (address, held, wanted): (u32, &[u8], &[u8]),
        replaces: bool,
        weak: Weak,
        boot: u64,
    ) -> Vec<u8> {
        self.add((address, held), weak, boot, |i, value| match replaces {
            true => wanted[i],
            false => value & wanted[i],
        })
    }

    /// The erase of `held` at `address` was cut when this share of it was done, 0.0 to 1.0. Returns the content to
    /// store.
    pub fn torn_erase(
        &mut self,
        (address, held): (u32, &[u8]),
        fraction: f64,
        weak: Weak,
        boot: u64,
    ) -> Vec<u8> {
        if fraction < 0.3 {
            return held.to_vec();
        }
        let is_late = fraction > 0.9;
        // Almost done: a byte rarely reads its old value, if it does at all.
        let choice = match weak.choice {
            Choice::PerBoot(one_in) if is_late => Choice::PerBoot(one_in.max(16)),
            Choice::PerRead(one_in) if is_late => Choice::PerRead(one_in.max(16)),
            choice => choice,
        };
        let kept = self.add((address, held), Weak { choice, ..weak }, boot, |_, _| 0xFF);
        if let (true, Some(torn)) = (is_late, self.torn.last_mut()) {
            torn.rarer = 0;
        }
        kept
    }

    /// Makes bytes weak between their content and what `new` makes of it.
    fn add(
        &mut self,
        (start, held): (u32, &[u8]),
        weak: Weak,
        boot: u64,
        new: impl Fn(usize, u8) -> u8,
    ) -> Vec<u8> {
        let range = start..start + held.len() as u32;
        let mut values: Vec<[u8; 2]> = held.iter().map(|held| [*held; 2]).collect();
        // A byte that is already weak continues from either value; it still has only two afterwards.
        for torn in &mut self.torn {
            for at in torn.overlap(&range) {
                let old = std::mem::take(torn.at(at));
                if old[0] != old[1] {
                    values[(at - start) as usize] = old;
                }
            }
        }
        for (i, [_, behind]) in values.iter_mut().enumerate() {
            *behind = new(i, *behind);
        }
        let kept = values.iter().map(|[before, _]| *before).collect();
        self.torn.push(Torn {
            start,
            values,
            weak,
            boot,
            rarer: (mix(weak.seed ^ u64::from(start) ^ boot << 40) & 1) as usize,
        });
        self.torn
            .retain(|torn| torn.values.iter().any(|[before, behind]| before != behind));
        kept
    }
}

/// Reads of one memory that go wrong.
#[derive(Clone, Debug, Default)]
pub struct Misreads {
    /// On average, one bit is wrong in one of this many reads; 0: never.
    pub one_in: u64,
    /// One bit of the reads with these numbers is wrong.
    pub flipped: Range<u64>,
    /// The reads with these numbers return all ones.
    pub blank: Range<u64>,
    /// Bits that always read as 0: address, and a mask with those bits set.
    pub stuck: Vec<(u32, u8)>,
    /// Seed of the wrong bits.
    pub seed: u64,
    /// Reads so far.
    pub reads: u64,
}

impl Misreads {
    /// All reads are right; they are only counted.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One bit in one of `one_in` reads is wrong.
    #[must_use]
    pub fn one_in(one_in: u64, seed: u64) -> Self {
        Self {
            one_in,
            seed,
            ..Self::default()
        }
    }

    /// Corrupts the bytes read at `address`.
    pub fn read(&mut self, address: u32, bytes: &mut [u8]) {
        let number = self.reads;
        self.reads += 1;
        if bytes.is_empty() {
            return;
        }
        if self.blank.contains(&number) {
            bytes.fill(0xFF);
        }
        let chance = mix(self.seed ^ number << 8);
        if self.flipped.contains(&number) || self.one_in > 0 && chance.is_multiple_of(self.one_in) {
            let place = mix(chance);
            let at = (place >> 8) as usize % bytes.len();
            bytes[at] ^= 1 << (place % 8);
        }
        for (at, mask) in &self.stuck {
            if let Some(byte) = at.checked_sub(address).and_then(|i| bytes.get_mut(i as usize)) {
                *byte &= !mask;
            }
        }
    }
}

/// A pseudo-random number derived from any number (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITTEN_THEN_ERASED: Weak = Weak {
        choice: Choice::Boots(0b01),
        seed: 0,
    };

    fn weak(choice: Choice, seed: u64) -> Weak {
        Weak { choice, seed }
    }

    fn read(cells: &mut WeakCells, held: &[u8], boot: u64) -> Vec<u8> {
        let mut bytes = held.to_vec();
        cells.read(0, &mut bytes, boot);
        bytes
    }

    #[test]
    fn a_torn_program_leaves_weak_bytes_where_it_changes_them() {
        let mut cells = WeakCells::new();
        let kept = cells.torn_program(
            (0, &[0xFF; 4], &[1, 0xFF, 0xFF, 0]),
            false,
            WRITTEN_THEN_ERASED,
            7,
        );
        assert_eq!(kept, [0xFF; 4]);
        assert_eq!(read(&mut cells, &kept, 8), [1, 0xFF, 0xFF, 0]);
        assert_eq!(read(&mut cells, &kept, 9), [0xFF; 4]);
        assert!(cells.any_in(0..1) && !cells.any_in(1..3) && cells.any_in(3..9));
    }

    #[test]
    fn a_weak_byte_is_stable_after_an_erase_or_another_program() {
        let mut cells = WeakCells::new();
        cells.torn_program((8, &[0xFF; 2], &[1, 2]), false, WRITTEN_THEN_ERASED, 0);
        cells.programmed(8, &[0xFF, 0xFF], false);
        assert!(
            cells.any_in(8..9) && cells.any_in(9..10),
            "filler changes nothing"
        );
        cells.programmed(8, &[1], false);
        assert!(!cells.any_in(8..9) && cells.any_in(9..10));
        cells.erased(0, 16);
        assert!(!cells.any_in(0..16));
        assert!(cells.torn.is_empty(), "what is strong costs nothing");
    }

    #[test]
    fn a_choice_per_boot_holds_for_the_boot_and_one_per_read_does_not() {
        let choices = |choice, moments: &mut dyn Iterator<Item = u64>| -> Vec<u8> {
            let mut cells = WeakCells::new();
            cells.torn_program((0, &[0xFF], &[0]), false, weak(choice, 5), 0);
            moments.map(|boot| read(&mut cells, &[0xFF], boot)[0]).collect()
        };
        let same = choices(Choice::PerBoot(2), &mut std::iter::repeat_n(3, 64));
        assert!(same.iter().all(|value| *value == same[0]));
        let count = |values: &[u8]| values.iter().filter(|value| **value == 0).count();
        for found in [
            choices(Choice::PerBoot(2), &mut (0..4096)),
            choices(Choice::PerRead(2), &mut std::iter::repeat_n(3, 4096)),
        ] {
            assert!((1900..2200).contains(&count(&found)), "{}", count(&found));
        }
        let rare = choices(Choice::PerRead(16), &mut std::iter::repeat_n(3, 4096));
        let fewer = count(&rare).min(4096 - count(&rare));
        assert!((200..320).contains(&fewer), "one in sixteen: {fewer}");
    }

    #[test]
    fn an_erase_is_weak_in_its_middle_and_almost_done_at_its_end() {
        let old = [0x5A; 4096];
        let erase = |fraction| {
            let mut cells = WeakCells::new();
            let kept = cells.torn_erase((0, &old), fraction, weak(Choice::PerRead(2), 1), 0);
            let found = read(&mut cells, &kept, 1);
            assert!(found.iter().all(|byte| [0x5A, 0xFF].contains(byte)));
            found.iter().filter(|byte| **byte == 0x5A).count()
        };
        assert_eq!(erase(0.2), 4096);
        assert!((1800..2300).contains(&erase(0.5)));
        assert!((1..400).contains(&erase(0.95)));
    }

    #[test]
    fn a_byte_that_is_torn_again_has_two_values_as_before() {
        let mut cells = WeakCells::new();
        let kept = cells.torn_erase((0, &[0x0F; 4]), 0.5, weak(Choice::Boots(0b1), 1), 0);
        let kept = cells.torn_program((0, &kept, &[0x3F; 4]), false, weak(Choice::Boots(0b10), 1), 1);
        assert_eq!(cells.torn.len(), 1);
        assert_eq!(read(&mut cells, &kept, 2), [0x0F; 4]);
        let kept = cells.torn_erase((0, &kept), 0.5, weak(Choice::Boots(0b10), 1), 3);
        assert_eq!(read(&mut cells, &kept, 5), [0xFF; 4]);
    }

    #[test]
    fn a_torn_program_may_set_bits_where_bits_go_both_ways() {
        let mut cells = WeakCells::new();
        let kept = cells.torn_program((0, &[0x0F], &[0xF0]), true, WRITTEN_THEN_ERASED, 0);
        assert_eq!(read(&mut cells, &kept, 1), [0xF0]);
        cells.programmed(0, &[0x33], true);
        assert!(!cells.any_in(0..1));
    }

    #[test]
    fn wrong_reads_have_their_rate_and_are_right_when_repeated() {
        let mut reads = Misreads::one_in(60, 3);
        let wrong = (0..60_000).filter(|_| {
            let mut bytes = [0x55; 64];
            reads.read(0, &mut bytes);
            let bits: u32 = bytes.iter().map(|byte| (byte ^ 0x55).count_ones()).sum();
            assert!(bits <= 1);
            bits == 1
        });
        assert!((850..1150).contains(&wrong.count()));
    }

    #[test]
    fn chosen_reads_are_wrong_or_blank_and_a_stuck_bit_stays() {
        let mut reads = Misreads {
            flipped: 1..2,
            blank: 2..3,
            stuck: vec![(10, 0x81)],
            ..Misreads::none()
        };
        let mut found: [[u8; 4]; 4] = [[0x0F; 4]; 4];
        for bytes in &mut found {
            reads.read(0, bytes);
        }
        assert_eq!((found[0], found[2], found[3]), ([0x0F; 4], [0xFF; 4], [0x0F; 4]));
        let bits: u32 = found[1].iter().map(|byte| (byte ^ 0x0F).count_ones()).sum();
        assert_eq!(bits, 1);
        let mut bytes = [0xFF; 4];
        reads.read(8, &mut bytes);
        assert_eq!(bytes, [0xFF, 0xFF, 0x7E, 0xFF]);
        assert_eq!(reads.reads, 5);
    }
}
