// SPDX-License-Identifier: Apache-2.0
//! Branches of the Thumb instruction set with 32 bits: `BL` (encoding T1) and `B.W` (encoding T4).
//!
//! ```text
//! first halfword   1 1 1 1 0 S imm10         second halfword   1 L J1 1 J2 imm11       L = 1: BL, L = 0: B.W
//! offset from the instruction's address + 4 = S:I1:I2:imm10:imm11:0, with I1 = not (J1 xor S), I2 = not (J2 xor S)
//! ```
//! Source: Armv7-M Architecture Reference Manual, A7.7.12 and A7.7.18. A word here is the two halfwords as they are in
//! memory, little-endian: the first halfword is its lower half.

/// Bits that decide whether a word is such a branch, without the bit that distinguishes `BL` from `B.W`.
const FIXED: u32 = 0x9000_F800;
const BRANCH: u32 = 0x9000_F000;
/// Bits that hold the offset.
const OFFSET: u32 = 0x2FFF_07FF;

/// Whether the word is `BL` or `B.W`.
pub(crate) const fn is_branch(word: u32) -> bool {
    word & FIXED == BRANCH
}

/// J1 and J2 are I1 and I2, inverted where the offset is not negative.
const INVERTED: u32 = 0x00C0_0000;

/// The address to which the branch at address `pc` goes.
pub(crate) const fn target(word: u32, pc: u32) -> u32 {
    let low = (word & 0x3FF) << 12 | (word >> 16 & 0x7FF) << 1;
    let high = (word & 0x400) << 14 | (word & 0x2000_0000) >> 6 | (word & 0x0800_0000) >> 5;
    // 25 bits, signed.
    let mut offset = ((high | low) << 7) as i32 >> 7;
    if offset >= 0 {
        offset ^= INVERTED as i32;
    }
    pc.wrapping_add(4).wrapping_add(offset as u32)
}

/// The branch of the same kind as `word` that goes to `target` from address `pc`. Of an offset that a branch cannot hold,
/// the bits that fit.
pub(crate) const fn to(word: u32, pc: u32, target: u32) -> u32 {
    let mut offset = target.wrapping_sub(pc).wrapping_sub(4);
    let sign = offset >> 14 & 0x400;
    if sign == 0 {
        offset ^= INVERTED;
    }
    let high = (offset & 0x80_0000) << 6 | (offset & 0x40_0000) << 5;
    let low = offset >> 12 & 0x3FF | (offset & 0xFFE) << 15;
    word & !OFFSET | sign | high | low
}

/// The word without its offset: equal for all branches of its kind.
#[cfg(feature = "std")]
pub(crate) const fn without_offset(word: u32) -> u32 {
    word & !OFFSET
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halfwords and target as an assembler printed them for address 0x1000.
    const KNOWN: [(u16, u16, u32); 5] = [
        (0xF000, 0xF802, 0x1008),      // bl
        (0xF7FF, 0xFFFE, 0x1000),      // bl to itself
        (0xF7FE, 0xBFFE, 0x0000_0000), // b.w
        (0xF3FF, 0xD7FF, 0x0100_1002), // bl, the farthest forward
        (0xF400, 0xD000, 0xFF00_1004), // bl, the farthest back
    ];

    #[test]
    fn targets_are_those_of_an_assembler() {
        for (first, second, goes_to) in KNOWN {
            let word = u32::from(first) | u32::from(second) << 16;
            assert!(is_branch(word), "{word:#x}");
            assert_eq!(target(word, 0x1000), goes_to, "{word:#x}");
            assert_eq!(to(word, 0x1000, goes_to), word, "{word:#x}");
        }
    }

    #[test]
    fn every_branch_can_be_made_again_for_its_own_target() {
        for seed in 0..200_000_u32 {
            let random = seed.wrapping_mul(2_654_435_761) ^ seed.rotate_left(13);
            let word = random & !FIXED | BRANCH;
            let pc = random.rotate_left(7) & !1;
            assert_eq!(to(word, pc, target(word, pc)), word, "{word:#x} at {pc:#x}");
        }
    }

    #[test]
    fn conditional_branches_and_data_are_no_branches() {
        assert!(!is_branch(0x8000_F000)); // b<c>.w
        assert!(!is_branch(0xF800_4770));
        assert!(!is_branch(0xE800_F000)); // blx has no meaning on a Cortex-M
    }
}
