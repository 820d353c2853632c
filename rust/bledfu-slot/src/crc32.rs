// SPDX-License-Identifier: Apache-2.0
//! The CRC-32 of Secure DFU and of the journal: ISO-HDLC, the one of zlib.
//!
//! Four bits at a time, with a table of 64 bytes. The crate `crc` offers no table (five times slower: the answer to a
//! checksum request would miss its connection event) or one of 1 KiB.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// What four bits of this value leave behind them, shifted out.
const fn remainder(value: u32) -> u32 {
    let mut remainder = value;
    let mut bit = 0;
    while bit < 4 {
        remainder = (remainder >> 1) ^ ((remainder & 1) * POLYNOMIAL);
        bit += 1;
    }
    remainder
}

#[rustfmt::skip]
static TABLE: [u32; 16] = [
    remainder(0), remainder(1), remainder(2), remainder(3), remainder(4), remainder(5), remainder(6), remainder(7),
    remainder(8), remainder(9), remainder(10), remainder(11), remainder(12), remainder(13), remainder(14), remainder(15),
];

/// A running CRC-32; a clone of it is a snapshot.
#[derive(Clone, Debug)]
pub struct Crc32(u32);

/// The CRC-32 of no bytes yet, which is 0.
pub const fn crc32() -> Crc32 {
    Crc32(!0)
}

impl Crc32 {
    /// Appends the next bytes.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        for &byte in bytes {
            crc = shift(shift(crc ^ u32::from(byte)));
        }
        self.0 = crc;
    }

    /// Continues at this CRC-32.
    pub const fn of(crc: u32) -> Self {
        Self(!crc)
    }

    /// Removes the last bytes, which must be these.
    #[inline(never)]
    pub fn take_back(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        for &byte in bytes.iter().rev() {
            for _ in 0..8 {
                // The polynomial has the highest bit, so this bit says whether it was shifted in.
                crc = if crc & 0x8000_0000 == 0 {
                    crc << 1
                } else {
                    (crc ^ POLYNOMIAL) << 1 | 1
                };
            }
            crc ^= u32::from(byte);
        }
        self.0 = crc;
    }

    /// The CRC-32 of all bytes.
    pub const fn finalize(self) -> u32 {
        !self.0
    }
}

/// The remainder after four more bits.
fn shift(crc: u32) -> u32 {
    let [low, ..] = crc.to_le_bytes();
    (crc >> 4) ^ TABLE.get(usize::from(low & 15)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn check_value_is_that_of_zlib() {
        let mut crc = crc32();
        crc.update(b"123456789");
        assert_eq!(crc.finalize(), 0xCBF4_3926);
        assert_eq!(crc32().finalize(), 0);
    }

    proptest! {
        #[test]
        fn bytes_that_are_taken_back_leave_the_crc_before_them(before: Vec<u8>, behind: Vec<u8>) {
            let mut crc = crc32();
            crc.update(&before);
            let expected = crc.clone().finalize();
            crc.update(&behind);
            let mut crc = Crc32::of(crc.finalize());
            crc.take_back(&behind);
            prop_assert_eq!(crc.finalize(), expected);
        }

        #[test]
        fn any_bytes_in_any_pieces_have_the_crc_of_the_crate_crc(bytes: std::vec::Vec<u8>, at: prop::sample::Index) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let mut crc = crc32();
            crc.update(first);
            crc.update(second);
            let expected = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes);
            prop_assert_eq!(crc.finalize(), expected);
        }
    }
}
