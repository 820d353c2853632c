// SPDX-License-Identifier: Apache-2.0
//! Finds the parts of the image that resemble a part of the base.
//!
//! Both files are compared without the targets of branches and pointers. Walking through the image, the longest equal part of
//! the base is looked up (suffix array). It is worth a new part only if it is clearly longer than what the present part gets
//! right over the same bytes. Two parts are then extended towards each other, as long as more than half of the bytes are equal,
//! and where they meet, the border is where it makes the fewest differences. This is the approach of bsdiff (C. Percival, 2003).

use std::vec::Vec;

use super::{view, Copy};
use crate::record::Pack;

/// By how many bytes a new part must be better than the present one.
const CLEARLY: usize = 8;
/// Shorter parts are left to the search in the gaps.
const SHORTEST: usize = 4;
/// Equal bytes that are counted at once: keeps the search short where both files repeat one byte.
const MOST_COMPARED: usize = 1_024;

/// The parts of `image` that resemble a part of `base`, in the order of the image, without overlap.
pub(super) fn align(base: &[u8], image: &[u8], pack: &Pack, at: &mut dyn FnMut(usize)) -> Vec<Copy> {
    if base.is_empty() {
        return Vec::new();
    }
    let base = view::without_targets(base, pack);
    let image = view::without_targets(image, pack);
    let (_, suffixes) = divsufsort::sort(&base).into_parts();
    let mut search = Search {
        base: &base,
        image: &image,
        copies: Vec::new(),
        at: 0,
        from: 0,
    };
    let mut scan = 0;
    let mut found = Equal { from: 0, len: 0 };
    while scan < image.len() {
        scan += found.len;
        at(scan.min(image.len()));
        // Bytes that the present part gets right, from `scan` up to `counted`.
        let (mut right, mut counted) = (0, scan);
        while scan < image.len() {
            found = longest(&suffixes, &base, &image[scan..]);
            while counted < scan + found.len {
                right += usize::from(search.gets_right(counted));
                counted += 1;
            }
            if found.len != 0 && found.len == right || found.len > right + CLEARLY {
                break;
            }
            right -= usize::from(right > 0 && search.gets_right(scan));
            scan += 1;
        }
        if found.len != right || scan >= image.len() {
            search.part(scan.min(image.len()), found);
        }
    }
    search.copies
}

/// An equal part.
#[derive(Clone, Copy)]
struct Equal {
    /// Place in the base.
    from: usize,
    len: usize,
}

/// The longest start of `image` that is in the base.
fn longest(suffixes: &[i32], base: &[u8], image: &[u8]) -> Equal {
    let image = &image[..image.len().min(MOST_COMPARED)];
    let suffix = |index: usize| -> &[u8] {
        let suffix = &base[suffixes[index] as usize..];
        &suffix[..suffix.len().min(image.len())]
    };
    // The first suffix that is not below it: the longest equal start is there, or one before.
    let (mut low, mut high) = (0, suffixes.len());
    while low < high {
        let middle = (low + high) / 2;
        match suffix(middle) < image {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    let candidates = [low.saturating_sub(1), low.min(suffixes.len() - 1)];
    let equal = candidates.map(|index| Equal {
        from: suffixes[index] as usize,
        len: equal_start(suffix(index), image),
    });
    match equal[0].len > equal[1].len {
        true => equal[0],
        false => equal[1],
    }
}

/// How many bytes are equal at the start.
pub(super) fn equal_start(one: &[u8], other: &[u8]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// The parts so far.
struct Search<'f> {
    base: &'f [u8],
    image: &'f [u8],
    copies: Vec<Copy>,
    /// Start of the present part, in the image and in the base.
    at: usize,
    from: usize,
}

impl Search<'_> {
    /// Whether the present part gets a byte of the image right.
    fn gets_right(&self, at: usize) -> bool {
        let from = at.wrapping_sub(self.at).wrapping_add(self.from);
        self.base.get(from).is_some_and(|byte| *byte == self.image[at])
    }

    /// Ends the present part, as another one was found at place `scan` of the image.
    fn part(&mut self, scan: usize, found: Equal) {
        let forward = self.extend(scan - self.at, self.base.len() - self.from, |place| {
            self.base[self.from + place] == self.image[self.at + place]
        });
        // At the end of the image there is nothing to extend back.
        let back = match scan < self.image.len() {
            true => self.extend(scan - self.at, found.from, |place| {
                self.base[found.from - 1 - place] == self.image[scan - 1 - place]
            }),
            false => 0,
        };
        let overlap = (self.at + forward).saturating_sub(scan - back);
        let (mut forward, mut back) = (forward, back);
        if overlap > 0 {
            let kept = self.best_border(forward, overlap, scan - back, found.from - back);
            forward -= overlap - kept;
            back -= kept;
        }
        if forward >= SHORTEST {
            self.copies.push(Copy {
                at: self.at,
                from: self.from,
                len: forward,
                in_base: true,
            });
        }
        self.at = scan - back;
        self.from = found.from - back;
    }

    /// How far a part goes on, at most `most` bytes in the image and `room` in the base, so that as many bytes as possible more
    /// are equal than not.
    fn extend(&self, most: usize, room: usize, is_equal: impl Fn(usize) -> bool) -> usize {
        let (mut score, mut best_score, mut best) = (0_isize, 0, 0);
        for place in 0..most.min(room) {
            score += if is_equal(place) { 1 } else { -1 };
            if score > best_score {
                (best_score, best) = (score, place + 1);
            }
        }
        best
    }

    /// How many of the `overlap` bytes stay with the first part, which has `forward` bytes with them; the second part begins at
    /// `at` and `from`.
    fn best_border(&self, forward: usize, overlap: usize, at: usize, from: usize) -> usize {
        let first = forward - overlap;
        let (mut score, mut best_score, mut best) = (0_isize, 0, 0);
        for place in 0..overlap {
            let byte = self.image[at + place];
            score += isize::from(self.base[self.from + first + place] == byte);
            score -= isize::from(self.base[from + place] == byte);
            if score > best_score {
                (best_score, best) = (score, place + 1);
            }
        }
        best
    }
}
