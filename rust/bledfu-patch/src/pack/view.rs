// SPDX-License-Identifier: Apache-2.0
//! Views of a file in which code that has only moved is equal.

use std::vec::Vec;

use crate::record::Pack;
use crate::thumb;

fn word_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// Replaces the words of a file: `replace` gets place and word, and returns what to write there instead, or `None` for a
/// halfword that stays.
fn replaced(bytes: &[u8], mut replace: impl FnMut(usize, u32) -> Option<u32>) -> Vec<u8> {
    let mut view = bytes.to_vec();
    let mut at = 0;
    while let Some(word) = word_at(bytes, at) {
        at += match replace(at, word) {
            Some(new) => {
                view[at..at + 4].copy_from_slice(&new.to_le_bytes());
                4
            }
            None => 2,
        };
    }
    view
}

/// Without the targets of branches and pointers: what is equal here has the same instructions.
pub(super) fn without_targets(bytes: &[u8], pack: &Pack) -> Vec<u8> {
    /// What stands for all pointers.
    const POINTER: u32 = 0x00CC_BBAA;
    let reach = pack.base_len.max(pack.out_size).saturating_add(48);
    replaced(bytes, |at, word| {
        let into_image = word.wrapping_sub(pack.base_addr).wrapping_sub(16) < reach;
        if at % 4 == 0 && word >> 16 != 0 && into_image {
            // The highest byte is that of the slot's address.
            return Some(POINTER | word & 0xFF00_0000);
        }
        thumb::is_branch(word).then(|| thumb::without_offset(word))
    })
}

/// With the targets of branches counted from the start of the file: what is equal here becomes equal when it is copied.
pub(super) fn absolute_targets(bytes: &[u8]) -> Vec<u8> {
    replaced(bytes, |at, word| {
        thumb::is_branch(word).then(|| thumb::to(word, 0, thumb::target(word, at as u32)))
    })
}
