// SPDX-License-Identifier: Apache-2.0
//! The CRC-32 of Secure DFU and of the journal: ISO-HDLC, the one of zlib.
//!
//! Without a table: 80 bytes of code instead of 1 KiB. At 1 µs a byte on a 64 MHz Cortex-M4 it takes a sixth of
//! the time a byte needs to arrive over a 2M link.

use crc::{Crc, Digest, NoTable, CRC_32_ISO_HDLC};

static CRC32: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISO_HDLC);

/// A running CRC-32; a clone of it is a snapshot.
pub type Crc32 = Digest<'static, u32, NoTable>;

/// The CRC-32 of no bytes yet, which is 0.
pub fn crc32() -> Crc32 {
    CRC32.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_is_that_of_zlib() {
        let mut crc = crc32();
        crc.update(b"123456789");
        assert_eq!(crc.finalize(), 0xCBF4_3926);
        assert_eq!(crc32().finalize(), 0);
    }
}
