// SPDX-License-Identifier: Apache-2.0
//! The model of a stream: its events, their probabilities, and what the bytes at the read position mean. Packer and decoder
//! run the same code, one with a coder that encodes, the other with one that decodes.

use crate::coder::{Coder, HALF};
use crate::record::Pack;
use crate::table::Table;
use crate::thumb;

/// What comes next in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Units that are as predicted.
    Run,
    /// One unit that differs from its prediction.
    Fix,
    /// A byte without prediction.
    Literal,
    /// Another read position.
    Jump,
}

impl Event {
    const fn from_bits(bits: u32) -> Self {
        match bits {
            0 => Self::Run,
            1 => Self::Fix,
            2 => Self::Literal,
            _ => Self::Jump,
        }
    }
}

/// The meaning of the bytes at the read position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One byte.
    Byte,
    /// A word with an address of the base, or of RAM.
    Pointer,
    /// A branch with its target.
    Branch,
}

/// What is at the read position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub kind: Kind,
    /// Its bytes, little-endian; of a [`Kind::Byte`] only the lowest.
    pub word: u32,
    /// The address that it names; of a [`Kind::Byte`] nothing.
    pub target: u32,
}

impl Unit {
    const fn byte(word: u32) -> Self {
        Self {
            kind: Kind::Byte,
            word: word & 0xFF,
            target: 0,
        }
    }

    /// Branches go to even addresses: how far their target has moved beyond the prediction is sent without its lowest bit,
    /// unless the prediction is odd.
    pub const fn step(&self, predicted: u32) -> u32 {
        matches!(self.kind, Kind::Branch) as u32 & !predicted
    }

    /// Bytes that it takes, in the base and in the image.
    pub const fn len(&self) -> u32 {
        match self.kind {
            Kind::Byte => 1,
            Kind::Pointer | Kind::Branch => 4,
        }
    }
}

/// How a unit differs from its prediction. A decoder only finds out.
#[cfg_attr(not(feature = "std"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// It has moved as the neighbouring part of the table.
    Neighbour,
    /// It has moved by this distance.
    Displacement(u32),
    /// It is this word.
    Word(u32),
}

// The probabilities lie in one array, in this order.
const EVENTS: usize = 0;
const LITERALS: usize = EVENTS + 16 * 3;
const FIXES: usize = LITERALS + 2 * 256;
const NUMBERS: usize = FIXES + 256;
const CORRECTIONS: usize = NUMBERS + 5 * NUMBER;
const SIGNS: usize = CORRECTIONS + 2 * 2;
const SOURCES: usize = SIGNS + 2;
const PROBABILITIES: usize = SOURCES + 2;

// Within the probabilities of a number.
const NUMBER: usize = 74;
const HIGHEST: usize = 24;
const SECOND_HIGHEST: usize = 48;
const LOWEST: usize = 72;
const SECOND_LOWEST: usize = 73;
/// Bits of a number, without the highest one, are at most this many.
const MOST_BITS: u32 = 23;
/// The largest number that can be coded.
#[cfg(feature = "std")]
pub(crate) const MOST: u32 = (1 << (MOST_BITS + 1)) - 2;

/// What a number is of: each kind has its own probabilities.
#[derive(Clone, Copy)]
enum NumberOf {
    RunFromOutput = 0,
    RunFromBase = 1,
    JumpInBase = 2,
    JumpInOutput = 3,
    Displacement = 4,
}

/// Probabilities, table and positions. What is small comes first: instructions of 16 bits reach it.
#[derive(Clone)]
#[repr(C)]
pub(crate) struct Model<const N: usize> {
    /// Bytes produced.
    pub(crate) produced: u32,
    /// Where the next unit is read, in the base or among the bytes produced.
    pub(crate) position: u32,
    /// The file that is made, and what it is made from.
    pub(crate) pack: Pack,
    /// Whether the next unit is read from the base.
    pub(crate) in_base: bool,
    /// The last event, and whether it was read from the base.
    last: u8,
    pub(crate) table: Table<N>,
    probabilities: [u16; PROBABILITIES],
}

impl<const N: usize> Model<N> {
    /// A model of nothing.
    pub(crate) const fn new() -> Self {
        Self {
            // Zeros, so that a static decoder needs no place in flash.
            probabilities: [0; PROBABILITIES],
            table: Table::new(),
            pack: Pack::NOTHING,
            produced: 0,
            position: 0,
            in_base: false,
            last: 0,
        }
    }

    /// Begins a stream.
    pub(crate) fn reset(&mut self, pack: &Pack) {
        self.probabilities = [HALF; PROBABILITIES];
        self.table.reset(pack.table_entries(), pack.ram.start);
        self.pack = *pack;
        self.produced = 0;
        self.position = 0;
        self.in_base = true;
        self.last = 0;
    }

    /// The position behind the last byte that may be read.
    pub(crate) const fn limit(&self) -> u32 {
        match self.in_base {
            true => self.pack.base_len,
            false => self.produced,
        }
    }

    /// Whether no branch or pointer can be at the read position, and the next byte is only a byte.
    pub(crate) const fn is_odd(&self) -> bool {
        (self.position | self.produced) & 1 != 0
    }

    /// Whether a pointer can be at the read position.
    pub(crate) const fn is_aligned(&self) -> bool {
        self.in_base && (self.position | self.produced) & 3 == 0
    }

    /// Whether a word of the base is an address of the base or of RAM.
    #[inline(always)] // Asked for every word, in a loop: less time, and no more code.
    pub(crate) const fn is_pointer(&self, word: u32) -> bool {
        // Up to 48 bytes behind the image: its linker puts the end of what it loads there.
        let into_base = word.wrapping_sub(self.pack.base_addr).wrapping_sub(16);
        word >> 16 != 0
            && (into_base < self.pack.base_len.wrapping_add(48)
                || word.wrapping_sub(self.pack.ram.start) < self.pack.ram.len)
    }

    /// What is at the read position; `word` are the bytes there, of which `available` may be read.
    pub(crate) const fn unit(&self, word: u32, available: u32) -> Unit {
        if self.is_odd() || available < 4 {
            return Unit::byte(word);
        }
        if self.is_aligned() && self.is_pointer(word) {
            return Unit {
                kind: Kind::Pointer,
                word,
                target: word & !1,
            };
        }
        match thumb::is_branch(word) {
            true => Unit {
                kind: Kind::Branch,
                word,
                target: thumb::target(word, self.pack.base_addr.wrapping_add(self.position)),
            },
            false => Unit::byte(word),
        }
    }

    /// The bytes of a unit whose target has moved by `displacement`.
    pub(crate) const fn moved(&self, unit: &Unit, displacement: u32) -> u32 {
        let address = self.pack.base_addr.wrapping_add(self.produced);
        match unit.kind {
            Kind::Byte => unit.word,
            Kind::Pointer => unit.word.wrapping_add(displacement),
            Kind::Branch => thumb::to(unit.word, address, unit.target.wrapping_add(displacement)),
        }
    }

    /// How far the target of a unit has moved, as far as the table knows. What is copied from the output does not move.
    pub(crate) fn displacement(&self, unit: &Unit) -> u32 {
        match self.in_base {
            true => self.table.displacement(unit.target),
            false => 0,
        }
    }

    /// The bytes that a unit is expected to become.
    pub(crate) fn predict(&self, unit: &Unit) -> u32 {
        match unit.kind {
            Kind::Byte => unit.word,
            _ => self.moved(unit, self.displacement(unit)),
        }
    }

    /// A unit was produced.
    pub(crate) const fn advance(&mut self, bytes: u32) {
        self.produced = self.produced.wrapping_add(bytes);
        self.position = self.position.wrapping_add(bytes);
    }

    /// Begins a run: what is read here has moved by the distance of the two positions.
    pub(crate) fn begin_run(&mut self) {
        if self.in_base {
            let address = self.pack.base_addr.wrapping_add(self.position);
            self.table
                .learn(address, self.produced.wrapping_sub(self.position));
        }
    }

    // ---- coded

    #[inline(never)]
    fn bit<C: Coder>(&mut self, coder: &mut C, index: usize, bit: u32) -> u32 {
        match self.probabilities.get_mut(index) {
            Some(probability) => coder.bit(probability, bit & 1),
            None => 0,
        }
    }

    /// A byte, its highest bit first; each bit has a probability for all that came before it.
    #[inline(never)]
    fn tree<C: Coder>(&mut self, coder: &mut C, first: usize, byte: u32) -> u32 {
        let mut node = 1;
        for place in (0..8).rev() {
            node = node << 1 | self.bit(coder, first + node as usize, byte >> place);
        }
        node & 0xFF
    }

    /// A number: how many bits it has, then the bits.
    #[inline(never)]
    fn number<C: Coder>(&mut self, coder: &mut C, of: NumberOf, number: u32) -> u32 {
        let first = NUMBERS + of as usize * NUMBER;
        let wanted = number.wrapping_add(1).max(1);
        let wanted_bits = 31 - wanted.leading_zeros();
        let mut bits = 0;
        while bits < MOST_BITS && self.bit(coder, first + bits as usize, u32::from(wanted_bits > bits)) != 0 {
            bits += 1;
        }
        let mut value = 1;
        for place in (0..bits).rev() {
            let bit = wanted >> place & 1;
            let index = match place {
                _ if place + 1 == bits => HIGHEST + bits as usize,
                0 => LOWEST,
                _ if place + 2 == bits => SECOND_HIGHEST + bits as usize,
                1 => SECOND_LOWEST,
                _ => {
                    value = value << 1 | coder.raw(bit);
                    continue;
                }
            };
            value = value << 1 | self.bit(coder, first + index, bit);
        }
        value - 1
    }

    /// A number with a sign.
    #[inline(never)]
    fn signed<C: Coder>(&mut self, coder: &mut C, of: NumberOf, number: i32) -> u32 {
        let magnitude = self.number(coder, of, number.unsigned_abs());
        let sign = SIGNS + usize::from(matches!(of, NumberOf::Displacement));
        match magnitude != 0 && self.bit(coder, sign, u32::from(number < 0)) != 0 {
            true => magnitude.wrapping_neg(),
            false => magnitude,
        }
    }

    /// The next event.
    pub(crate) fn event<C: Coder>(&mut self, coder: &mut C, event: Event) -> Event {
        let context = EVENTS + 3 * (usize::from(self.last & 7) << 1 | (self.produced & 1) as usize);
        let wanted = event as u32;
        let high = self.bit(coder, context, wanted >> 1);
        let low = self.bit(coder, context + 1 + high as usize, wanted);
        let bits = high << 1 | low;
        self.last = bits as u8 | u8::from(self.in_base) << 2;
        Event::from_bits(bits)
    }

    /// The units of a run, at least one.
    pub(crate) fn run<C: Coder>(&mut self, coder: &mut C, units: u32) -> u32 {
        let of = match self.in_base {
            true => NumberOf::RunFromBase,
            false => NumberOf::RunFromOutput,
        };
        self.number(coder, of, units.wrapping_sub(1)) + 1
    }

    /// A byte without prediction.
    pub(crate) fn literal<C: Coder>(&mut self, coder: &mut C, byte: u32) -> u32 {
        let first = LITERALS + 256 * (self.produced & 1) as usize;
        self.tree(coder, first, byte)
    }

    /// The byte that a literal is: only then do the positions move on.
    pub(crate) const fn advance_literal(&mut self) {
        self.produced = self.produced.wrapping_add(1);
        if !self.in_base {
            self.position = self.position.wrapping_add(1);
        }
    }

    /// The bytes that a unit becomes after a correction. `None` for a correction that has no meaning.
    pub(crate) fn correct<C: Coder>(
        &mut self,
        coder: &mut C,
        unit: &Unit,
        wanted: Correction,
    ) -> Option<u32> {
        if unit.kind == Kind::Byte {
            let word = match wanted {
                Correction::Word(word) => word,
                _ => 0,
            };
            return Some(self.differences(coder, unit, word));
        }
        let of_kind = CORRECTIONS + 2 * usize::from(unit.kind == Kind::Branch);
        let not_neighbour = u32::from(wanted != Correction::Neighbour);
        let displacement = if self.bit(coder, of_kind, not_neighbour) == 0 {
            if !self.in_base {
                return None;
            }
            self.table.neighbour(unit.target)
        } else {
            let is_word = u32::from(matches!(wanted, Correction::Word(_)));
            if self.bit(coder, of_kind + 1, is_word) != 0 {
                let word = match wanted {
                    Correction::Word(word) => word,
                    _ => 0,
                };
                return Some(self.differences(coder, unit, word));
            }
            let predicted = self.displacement(unit);
            let step = unit.step(predicted);
            let displacement = match wanted {
                Correction::Displacement(displacement) => displacement,
                _ => predicted,
            };
            let steps = displacement.wrapping_sub(predicted) as i32 >> step;
            let steps = self.signed(coder, NumberOf::Displacement, steps);
            predicted.wrapping_add(steps << step)
        };
        if self.in_base {
            self.table.learn(unit.target, displacement);
        }
        Some(self.moved(unit, displacement))
    }

    /// The bytes of a unit, as differences from those of the base.
    fn differences<C: Coder>(&mut self, coder: &mut C, unit: &Unit, wanted: u32) -> u32 {
        let mut word = 0;
        for place in 0..unit.len() {
            let shift = 8 * place;
            let old = unit.word >> shift;
            let difference = self.tree(coder, FIXES, (wanted >> shift).wrapping_sub(old) & 0xFF);
            word |= (old.wrapping_add(difference) & 0xFF) << shift;
        }
        word
    }

    /// Another read position, in the base or among the bytes produced. `None` if there is nothing to read.
    pub(crate) fn jump<C: Coder>(&mut self, coder: &mut C, in_base: bool, position: u32) -> Option<()> {
        let source = SOURCES + usize::from(self.in_base);
        let into_base = self.bit(coder, source, u32::from(in_base)) != 0;
        self.position = match into_base {
            true => {
                let from = match self.in_base {
                    true => self.position,
                    false => self.produced,
                };
                let distance = self.signed(coder, NumberOf::JumpInBase, position.wrapping_sub(from) as i32);
                from.wrapping_add(distance)
            }
            false => {
                let back = self.produced.wrapping_sub(position).wrapping_sub(1);
                let back = self.number(coder, NumberOf::JumpInOutput, back);
                self.produced.checked_sub(back)?.checked_sub(1)?
            }
        };
        self.in_base = into_base;
        (self.position < self.limit()).then_some(())
    }
}
