// SPDX-License-Identifier: Apache-2.0
//! What the processor's work costs in virtual time: a 64 MHz Cortex-M4 without crypto hardware.
//!
//! | work | cost | where it is from |
//! |---|---|---|
//! | SHA-256 | 1.29 µs a byte | `sha2` compact: 59 instructions a byte, at 1.4 cycles each |
//! | CRC-32 | 0.40 µs a byte | a table of four bits: 18 instructions a byte, likewise |
//! | P-256 verify | 223 ms | `p256` on an STM32WL: 14.3 million cycles |
//!
//! The instruction counts were measured on an emulated core without wait states; the factor 1.4 is the average that
//! real parts add.

use bledfu_slot::verify::{Crypto, Key, Sha256, Signature, SignatureCheck, SoftCrypto};

use crate::power::Power;

/// Nanoseconds to hash one byte.
pub const SHA256_NS_PER_BYTE: u64 = 1_290;
/// Nanoseconds to run one byte through the CRC-32.
pub const CRC32_NS_PER_BYTE: u64 = 400;
/// Nanoseconds of one ECDSA P-256 verification.
pub const P256_VERIFY_NS: u64 = 223_000_000;

/// [`SoftCrypto`] that lets virtual time pass.
#[derive(Clone)]
pub struct SimCrypto {
    power: Power,
}

impl SimCrypto {
    /// Time passes on the clock of `power`.
    pub fn new(power: &Power) -> Self {
        Self { power: power.clone() }
    }
}

impl Crypto for SimCrypto {
    type Sha256 = SimSha256;

    fn verify(&self, key: &Key, digest: &[u8; 32], signature: &Signature) -> SignatureCheck {
        self.power.advance_ns(P256_VERIFY_NS);
        SoftCrypto.verify(key, digest, signature)
    }

    fn sha256(&self) -> SimSha256 {
        SimSha256 {
            power: Some(self.power.clone()),
            ..SimSha256::new()
        }
    }
}

/// A SHA-256 that lets virtual time pass.
#[derive(Clone)]
pub struct SimSha256 {
    inner: <SoftCrypto as Crypto>::Sha256,
    power: Option<Power>,
}

impl Sha256 for SimSha256 {
    fn new() -> Self {
        Self {
            inner: Sha256::new(),
            power: None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some(power) = &self.power {
            power.advance_ns(bytes.len() as u64 * SHA256_NS_PER_BYTE);
        }
        self.inner.update(bytes);
    }

    fn finish(self) -> [u8; 32] {
        self.inner.finish()
    }
}
