// SPDX-License-Identifier: Apache-2.0
//! How far which part of the base has moved: a table that packer and decoder keep alike, so that nothing of it is sent.
//!
//! An entry holds from its key (an address in the base) up to the next key. Two entries are pinned: address 0, and the
//! start of RAM, where an image moves nothing.

/// An address of the base, and the distance by which what begins there has moved.
#[derive(Clone, Copy)]
struct Entry {
    key: u32,
    displacement: u32,
}

const ZERO: Entry = Entry {
    key: 0,
    displacement: 0,
};

/// Entries sorted by key, at most `N` of them.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct Table<const N: usize> {
    /// Entries in use.
    count: usize,
    /// Entries that may be in use, at most `N`.
    limit: usize,
    /// The entry that was dropped last.
    dropped: usize,
    /// Key of the second pinned entry.
    ram: u32,
    entries: [Entry; N],
}

impl<const N: usize> Table<N> {
    /// A table in which nothing has moved, without room.
    pub(crate) const fn new() -> Self {
        Self {
            entries: [ZERO; N],
            count: 0,
            limit: 0,
            dropped: 0,
            ram: 0,
        }
    }

    /// Begins anew, with room for `limit` entries, of which `N` are used at most. `ram` is the start of RAM, or 0.
    pub(crate) fn reset(&mut self, limit: usize, ram: u32) {
        self.set(0, ZERO);
        self.set(1, Entry { key: ram, ..ZERO });
        self.count = 2;
        self.limit = limit.min(N);
        self.dropped = 0;
        self.ram = ram;
    }

    fn at(&self, index: usize) -> Entry {
        self.entries.get(index).copied().unwrap_or(ZERO)
    }

    fn set(&mut self, index: usize, entry: Entry) {
        if let Some(place) = self.entries.get_mut(index) {
            *place = entry;
        }
    }

    /// Index of the last entry whose key is not above `key`.
    fn floor(&self, key: u32) -> usize {
        let (mut low, mut high) = (0, self.count);
        while high - low > 1 {
            let middle = (low + high) / 2;
            match self.at(middle).key <= key {
                true => low = middle,
                false => high = middle,
            }
        }
        low
    }

    /// How far what is at address `key` has moved.
    pub(crate) fn displacement(&self, key: u32) -> u32 {
        self.at(self.floor(key)).displacement
    }

    /// How far the part after the one with `key` has moved; for the last part, the one before it.
    pub(crate) fn neighbour(&self, key: u32) -> u32 {
        let index = self.floor(key);
        let neighbour = match index + 1 < self.count {
            true => index + 1,
            false => index.saturating_sub(1),
        };
        self.at(neighbour).displacement
    }

    /// Notes that what begins at address `key` has moved by `displacement`.
    #[inline(never)]
    pub(crate) fn learn(&mut self, key: u32, displacement: u32) {
        let index = self.floor(key);
        if self.at(index).displacement == displacement {
            return;
        }
        if self.at(index).key == key {
            return self.set(index, Entry { key, displacement });
        }
        let next = self.at(index + 1);
        if index + 1 < self.count && next.displacement == displacement && next.key != self.ram {
            // The same part begins earlier than was known.
            return self.set(index + 1, Entry { key, displacement });
        }
        let index = match self.count < self.limit {
            true => {
                self.count += 1;
                self.count - 1
            }
            false => self.next_to_drop(),
        };
        self.place(index, Entry { key, displacement });
    }

    /// Puts an entry in the place of another one, and then where its key belongs.
    fn place(&mut self, mut index: usize, entry: Entry) {
        while index > 0 && self.at(index - 1).key > entry.key {
            self.set(index, self.at(index - 1));
            index -= 1;
        }
        while index + 1 < self.count && self.at(index + 1).key < entry.key {
            self.set(index, self.at(index + 1));
            index += 1;
        }
        self.set(index, entry);
    }

    /// The entry that is dropped next: each in its turn, but never a pinned one.
    fn next_to_drop(&mut self) -> usize {
        self.dropped = self.after(self.dropped);
        if self.at(self.dropped).key == self.ram {
            self.dropped = self.after(self.dropped);
        }
        self.dropped
    }

    /// The entry whose turn is after `index`. The first one is pinned.
    const fn after(&self, index: usize) -> usize {
        match index + 1 >= self.limit {
            true => 1,
            false => index + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn keys<const N: usize>(table: &Table<N>) -> Vec<u32> {
        table.entries[..table.count]
            .iter()
            .map(|entry| entry.key)
            .collect()
    }

    /// A table of 32 with RAM at 0x2000_0000.
    fn table() -> Table<96> {
        let mut table = Table::new();
        table.reset(32, 0x2000_0000);
        table
    }

    #[test]
    fn a_part_reaches_up_to_the_next_one() {
        let mut table = table();
        table.learn(0x1000, 8);
        table.learn(0x3000, 12);
        let moved =
            [0, 0xFFF, 0x1000, 0x2FFF, 0x3000, 0x1FFF_FFFF, 0x2000_0000].map(|key| table.displacement(key));
        assert_eq!(moved, [0, 0, 8, 8, 12, 12, 0]);
        assert_eq!(table.neighbour(0x1000), 12);
        // The last part has none behind it.
        assert_eq!(table.neighbour(0x2000_0000), 12);
    }

    #[test]
    fn what_is_known_takes_no_entry() {
        let mut table = table();
        table.learn(0x1000, 8);
        table.learn(0x1800, 8);
        assert_eq!(keys(&table), [0, 0x1000, 0x2000_0000]);
        table.learn(0x800, 8); // begins earlier
        assert_eq!(keys(&table), [0, 0x800, 0x2000_0000]);
        table.learn(0x800, 4); // has moved otherwise
        assert_eq!(keys(&table), [0, 0x800, 0x2000_0000]);
        assert_eq!(table.displacement(0x900), 4);
    }

    #[test]
    fn a_full_table_drops_in_turn_and_never_what_is_pinned() {
        // Case D11 of the design.
        let mut table = table();
        for number in 0..1_000_u32 {
            let key = number.wrapping_mul(2_654_435_761) >> 2;
            table.learn(key, number + 1);
            let keys = keys(&table);
            assert!(keys.len() <= 32 && keys.is_sorted(), "{keys:x?}");
            assert!(
                keys.contains(&0) && keys.contains(&0x2000_0000),
                "{number}: {keys:x?}"
            );
            assert_eq!(table.displacement(key), number + 1, "{number}");
        }
        assert_eq!(keys(&table).len(), 32);
    }

    #[test]
    fn without_ram_both_pinned_entries_are_address_0() {
        let mut table = Table::<96>::new();
        table.reset(32, 0);
        for number in 1..200 {
            table.learn(number * 0x100, number);
        }
        assert_eq!(keys(&table)[..2], [0, 0]);
        assert_eq!(table.displacement(0), 0);
    }
}
