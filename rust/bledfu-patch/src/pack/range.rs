// SPDX-License-Identifier: Apache-2.0
//! The encoding half of the range coder.

use std::vec::Vec;

use crate::coder::{adapt_to_0, adapt_to_1, Coder, BITS, LEAST_RANGE};
use crate::decode::MOST_PAST_END;

/// Encodes bits.
pub(super) struct Encoder {
    /// Start of the interval: 32 bits, and a carry above them.
    low: u64,
    range: u32,
    /// Bytes that no carry can change any more.
    bytes: Vec<u8>,
    /// The byte that a carry may still change; none before the first.
    held: Option<u8>,
    /// Bytes FF behind it, which a carry would make 00.
    all_ones: usize,
    /// Bits that were encoded.
    pub bits: u64,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            low: 0,
            range: u32::MAX,
            bytes: Vec::new(),
            held: None,
            all_ones: 0,
            bits: 0,
        }
    }

    /// Moves the highest byte of the interval out.
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        let top = (self.low >> 24) as u8;
        if carry == 0 && top == 0xFF && self.held.is_some() {
            // Whether this byte stays is not known yet.
            self.all_ones += 1;
        } else {
            if let Some(held) = self.held {
                self.bytes.push(held.wrapping_add(carry));
            }
            let ones = 0xFF_u8.wrapping_add(carry);
            self.bytes.extend(core::iter::repeat_n(ones, self.all_ones));
            self.all_ones = 0;
            self.held = Some(top);
        }
        self.low = (self.low & 0x00FF_FFFF) << 8;
    }

    fn grow(&mut self) {
        while self.range < LEAST_RANGE {
            self.range <<= 8;
            self.shift();
        }
    }

    /// The stream. Zeros at its end are left out, as far as a decoder accepts that.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.grow();
        // Of the numbers in the interval, one with many zeros.
        self.low = (self.low + u64::from(LEAST_RANGE) - 1) & !(u64::from(LEAST_RANGE) - 1);
        for _ in 0..5 {
            self.shift();
        }
        let mut stream = self.bytes;
        // A stream is a payload, and an image has one.
        let least = stream.len().saturating_sub(MOST_PAST_END as usize).max(1);
        while stream.len() > least && stream.last() == Some(&0) {
            stream.pop();
        }
        stream
    }
}

impl Coder for Encoder {
    fn bit(&mut self, probability: &mut u16, bit: u32) -> u32 {
        self.bits += 1;
        self.grow();
        let bound = (self.range >> BITS) * u32::from(*probability);
        if bit == 0 {
            self.range = bound;
            adapt_to_0(probability);
        } else {
            self.low += u64::from(bound);
            self.range -= bound;
            adapt_to_1(probability);
        }
        bit
    }

    fn raw(&mut self, bit: u32) -> u32 {
        self.bits += 1;
        self.grow();
        self.range >>= 1;
        if bit != 0 {
            self.low += u64::from(self.range);
        }
        bit
    }
}
