// SPDX-License-Identifier: Apache-2.0
//! Fills what no part of the base resembles: with literals, and with copies from anywhere in the base or in the image so far.
//!
//! Each gap is filled in the cheapest way by dynamic programming from its start to its end, with fixed prices: the real ones
//! depend on all that comes before.

use std::vec;
use std::vec::Vec;

use super::align::equal_start;
use super::{view, Copy};

/// Prices are in 1/16 of a bit.
type Price = u32;

const LITERAL: Price = 110;
/// A jump in the image so far, without its distance.
const JUMP_IN_OUTPUT: Price = 77;
/// A jump in the base, without its distance.
const JUMP_IN_BASE: Price = 122;
/// A run, without its length.
const RUN: Price = 42;

/// Copies from the image begin to pay with this many bytes, copies from the base with one more than [`SHORTEST_IN_BASE`].
const SHORTEST_IN_OUTPUT: usize = 3;
const SHORTEST_IN_BASE: usize = 5;
/// Places that are tried for each byte.
const MOST_TRIED: usize = 300;
/// A copy of so many bytes is taken without looking for a better one.
const LONG: usize = 512;

const NONE: u32 = u32::MAX;

/// Bits of a number above its highest: what its length costs.
fn bits(number: usize) -> Price {
    (number + 1).ilog2()
}

/// What a run of so many bytes costs.
fn run(len: usize) -> Price {
    // 1.15 bits for each bit of the length.
    RUN + bits(len - 1) * 18
}

/// What a distance costs.
fn distance(distance: usize) -> Price {
    // 0.95 bits for each bit of the distance.
    bits(distance) * 15
}

/// Places with the same three bytes, the latest first.
struct Chains {
    heads: Vec<u32>,
    before: Vec<u32>,
}

impl Chains {
    fn new(len: usize) -> Self {
        Self {
            heads: vec![NONE; 1 << 16],
            before: vec![NONE; len],
        }
    }

    fn head(bytes: &[u8], at: usize) -> Option<usize> {
        let three = bytes.get(at..at + 3)?;
        let three = u32::from_le_bytes([three[0], three[1], three[2], 0]);
        Some((three.wrapping_mul(2_654_435_761) >> 16) as usize)
    }

    fn insert(&mut self, bytes: &[u8], at: usize) {
        if let Some(head) = Self::head(bytes, at) {
            self.before[at] = self.heads[head];
            self.heads[head] = at as u32;
        }
    }

    fn places<'c>(&'c self, bytes: &[u8], at: usize) -> impl Iterator<Item = usize> + 'c {
        let mut place = Self::head(bytes, at).map_or(NONE, |head| self.heads[head]);
        core::iter::from_fn(move || {
            let here = (place != NONE).then_some(place as usize)?;
            place = self.before[here];
            Some(here)
        })
    }
}

/// The cheapest way to a byte of a gap.
#[derive(Clone, Copy)]
struct Way {
    price: Price,
    /// Where its last step begins, in the gap.
    from: usize,
    /// The copy of its last step; `None` for a literal.
    copy: Option<(bool, usize)>,
    /// How far back in the image the last copy was read, as long as nothing but literals follow it.
    back: Option<usize>,
}

/// Fills the gaps between `copies`.
pub(super) fn fill(
    base: &[u8],
    image: &[u8],
    copies: Vec<Copy>,
    progress: &mut dyn FnMut(usize),
) -> Vec<Copy> {
    let base = view::absolute_targets(base);
    let image = view::absolute_targets(image);
    let mut in_base = Chains::new(base.len());
    for at in 0..base.len() {
        in_base.insert(&base, at);
    }
    let mut filler = Filler {
        base: &base,
        image: &image,
        in_base,
        in_output: Chains::new(image.len()),
        inserted: 0,
        ways: Vec::new(),
    };
    let mut all = Vec::new();
    let mut at = 0;
    for copy in copies {
        filler.gap(at, copy.at, &mut all, progress);
        at = copy.at + copy.len;
        all.push(copy);
    }
    filler.gap(at, image.len(), &mut all, progress);
    all
}

struct Filler<'f> {
    base: &'f [u8],
    image: &'f [u8],
    in_base: Chains,
    in_output: Chains,
    /// Bytes of the image that are in `in_output`.
    inserted: usize,
    ways: Vec<Way>,
}

impl Filler<'_> {
    fn gap(&mut self, start: usize, end: usize, all: &mut Vec<Copy>, progress: &mut dyn FnMut(usize)) {
        if start >= end {
            return;
        }
        let unknown = Way {
            price: Price::MAX,
            from: 0,
            copy: None,
            back: None,
        };
        self.ways.clear();
        self.ways.resize(end - start + 1, unknown);
        self.ways[0].price = 0;
        let mut skip = 0;
        for place in 0..end - start {
            let at = start + place;
            progress(at);
            while self.inserted < at {
                self.in_output.insert(self.image, self.inserted);
                self.inserted += 1;
            }
            if place >= skip {
                skip = self.steps(start, end, place);
            }
        }
        let first = all.len();
        let mut place = end - start;
        while place > 0 {
            let way = self.ways[place];
            if let Some((in_base, from)) = way.copy {
                all.push(Copy {
                    at: start + way.from,
                    from,
                    len: place - way.from,
                    in_base,
                });
            }
            place = way.from;
        }
        all[first..].reverse();
    }

    /// Tries all steps from a place of a gap. Returns the place from where the next ones are to be tried.
    fn steps(&mut self, start: usize, end: usize, place: usize) -> usize {
        let (image, base) = (self.image, self.base);
        let at = start + place;
        let rest = &image[at..end];
        let Way { price, back, .. } = self.ways[place];
        self.step(place, place + 1, price + LITERAL, None, back);

        // On with the last copy, without a jump.
        if let Some(back) = back {
            let len = equal_start(&image[at - back..], rest).min(LONG);
            for len in 1..=len {
                let copy = Some((false, at - back));
                self.step(place, place + len, price + run(len), copy, Some(back));
            }
        }
        let mut longest = SHORTEST_IN_OUTPUT - 1;
        let places: Vec<usize> = self.in_output.places(image, at).take(MOST_TRIED).collect();
        for from in places {
            let len = equal_start(&image[from..], rest);
            if len <= longest {
                continue;
            }
            let jump = price + JUMP_IN_OUTPUT + distance(at - from - 1);
            let copy = Some((false, from));
            for len in longest + 1..=len.min(LONG) {
                self.step(place, place + len, jump + run(len), copy, Some(at - from));
            }
            longest = len;
            if len >= LONG {
                self.step(place, place + len, jump + run(len), copy, Some(at - from));
                return place + len;
            }
        }
        let mut longest = SHORTEST_IN_BASE - 1;
        let places: Vec<usize> = self.in_base.places(image, at).take(MOST_TRIED).collect();
        for from in places {
            let len = equal_start(&base[from..], rest);
            if len <= longest {
                continue;
            }
            let jump = price + JUMP_IN_BASE + distance(at.abs_diff(from));
            let copy = Some((true, from));
            for len in SHORTEST_IN_BASE..=len.min(LONG) {
                self.step(place, place + len, jump + run(len), copy, None);
            }
            longest = len;
            if len >= LONG {
                self.step(place, place + len, jump + run(len), copy, None);
                return place + len;
            }
        }
        place + 1
    }

    /// A step from `from` to `to` in the gap, if it is the cheapest way there.
    fn step(
        &mut self,
        from: usize,
        to: usize,
        price: Price,
        copy: Option<(bool, usize)>,
        back: Option<usize>,
    ) {
        let way = &mut self.ways[to];
        if price < way.price {
            *way = Way {
                price,
                from,
                copy,
                back,
            };
        }
    }
}
