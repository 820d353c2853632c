// SPDX-License-Identifier: Apache-2.0
//! The adaptive binary range coder: one trait for both directions, and the decoding half.
//!
//! A probability is that of a 0, in units of 1/4096. It begins at 1/2 and moves by 1/16 of what is missing with each bit, so
//! it stays within 15..=4081.

/// The probability of a bit of which nothing is known yet.
pub(crate) const HALF: u16 = 1 << (BITS - 1);
/// Bits of a probability.
pub(crate) const BITS: u32 = 12;
/// How fast a probability adapts.
const SHIFT: u16 = 4;
/// Below this, the range grows by a byte.
pub(crate) const LEAST_RANGE: u32 = 1 << 24;

/// Either encodes the bits that it is given, or decodes bits and ignores what it is given.
pub(crate) trait Coder {
    /// A bit that adapts its probability. Returns the bit: the given one, or the decoded one.
    fn bit(&mut self, probability: &mut u16, bit: u32) -> u32;

    /// A bit that is 0 as often as 1.
    fn raw(&mut self, bit: u32) -> u32;
}

/// After a 0.
pub(crate) fn adapt_to_0(probability: &mut u16) {
    *probability += ((1 << BITS) - *probability) >> SHIFT;
}

/// After a 1.
pub(crate) fn adapt_to_1(probability: &mut u16) {
    *probability -= *probability >> SHIFT;
}

/// The state of the decoding half.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    range: u32,
    code: u32,
}

impl Range {
    /// Before the first byte.
    pub(crate) const fn new() -> Self {
        Self { range: 0, code: 0 }
    }
}

/// A stream, and how far it is decoded.
pub(crate) trait Stream {
    /// The state.
    fn range(&mut self) -> &mut Range;

    /// The next byte; zeros behind the end.
    fn next(&mut self) -> u8;
}

/// Takes the next byte.
#[inline(never)]
fn shift<S: Stream>(stream: &mut S) {
    let next = u32::from(stream.next());
    let state = stream.range();
    state.range <<= 8;
    state.code = state.code << 8 | next;
}

/// Takes the first four bytes.
pub(crate) fn start<S: Stream>(stream: &mut S) {
    for _ in 0..4 {
        shift(stream);
    }
    stream.range().range = u32::MAX;
}

/// More than one byte may be missing: the least probability leaves a range of 16 bits.
fn grow<S: Stream>(stream: &mut S) -> &mut Range {
    while stream.range().range < LEAST_RANGE {
        shift(stream);
    }
    stream.range()
}

/// Decodes a bit that adapts its probability.
pub(crate) fn bit<S: Stream>(stream: &mut S, probability: &mut u16) -> u32 {
    let state = grow(stream);
    let bound = (state.range >> BITS) * u32::from(*probability);
    match state.code < bound {
        true => {
            state.range = bound;
            adapt_to_0(probability);
            0
        }
        false => {
            state.range -= bound;
            state.code -= bound;
            adapt_to_1(probability);
            1
        }
    }
}

/// Decodes a bit that is 0 as often as 1.
pub(crate) fn raw<S: Stream>(stream: &mut S) -> u32 {
    let state = grow(stream);
    state.range >>= 1;
    match state.code >= state.range {
        true => {
            state.code -= state.range;
            1
        }
        false => 0,
    }
}
