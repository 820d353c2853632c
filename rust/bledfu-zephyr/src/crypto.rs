// SPDX-License-Identifier: Apache-2.0
//! Signatures checked by the platform: PSA Crypto (`zephyr/shim/crypto_psa.c`).

use crate::abi;

/// Whether the owner of a P-256 key signed a SHA-256; `None` if that could not be checked. Key and signature are X and Y, r
/// and s, 32 bytes each, big-endian. A key that is not on the curve has signed nothing.
pub fn verify_p256(key: &[u8; 64], digest: &[u8; 32], signature: &[u8; 64]) -> Option<bool> {
    // SAFETY: C reads 64, 32 and 64 bytes, and keeps no pointer.
    match unsafe { abi::bledfu_shim_verify(key.as_ptr(), digest.as_ptr(), signature.as_ptr()) } {
        abi::GOOD => Some(true),
        abi::BAD => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn only_the_exact_answer_for_good_is_good_and_no_answer_is_not_bad() {
        let device = fake::device();
        for (status, found) in [
            (abi::GOOD, Some(true)),
            (abi::BAD, Some(false)),
            (-1, None),
            (1, None),
            (abi::GOOD ^ 1, None),
        ] {
            device.answer_signatures_with(status);
            assert_eq!(verify_p256(&[1; 64], &[2; 32], &[3; 64]), found, "{status:#x}");
        }
        assert_eq!(device.signature(), ([1; 64], [2; 32], [3; 64]));
    }
}
