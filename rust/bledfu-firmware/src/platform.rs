// SPDX-License-Identifier: Apache-2.0
//! Who checks signatures: `CONFIG_BLEDFU_CRYPTO_*`. Hashes are those of the crate `sha2` in any case.

#[cfg(not(feature = "psa"))]
pub use bledfu_slot::verify::SoftCrypto as Platform;

#[cfg(feature = "psa")]
pub use psa::Platform;

#[cfg(feature = "psa")]
mod psa {
    use bledfu_slot::verify::{Crypto, Digest, Key, Signature, SignatureCheck, SoftSha256};
    use bledfu_zephyr::crypto::verify_p256;

    /// PSA Crypto.
    #[derive(Clone, Copy, Debug)]
    pub struct Platform;

    impl Crypto for Platform {
        type Sha256 = SoftSha256;

        fn verify(&self, key: &Key, digest: &Digest, signature: &Signature) -> SignatureCheck {
            let Key::P256(xy) = key else {
                return SignatureCheck::Unavailable;
            };
            match verify_p256(xy, digest, signature.as_bytes()) {
                Some(true) => SignatureCheck::Good,
                Some(false) => SignatureCheck::Bad,
                None => SignatureCheck::Unavailable,
            }
        }
    }
}
