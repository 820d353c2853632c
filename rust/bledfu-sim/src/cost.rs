// SPDX-License-Identifier: Apache-2.0
//! What the processor's work costs in virtual time: a 64 MHz Cortex-M4 without crypto hardware.
//!
//! | work | cost | where it is from |
//! |---|---|---|
//! | SHA-256 | 1.29 µs a byte | `sha2` compact: 59 instructions a byte, at 1.4 cycles each |
//! | expanding a packed update | 1.66 µs a byte | 71 instructions a byte of the image (counted in QEMU), at 1.5 cycles each |
//! | CRC-32 | 0.40 µs a byte | a table of four bits: 18 instructions a byte, likewise |
//! | P-256 verify | 223 ms | `p256` on an STM32WL: 14.3 million cycles |
//! | P-256 verify, Arm assembly | 19.2 ms | `p256-cm4` on the same board: 1.23 million cycles |
//! | SHA-256, CryptoCell 310 | 0.058 µs a byte | 17,385 KB/s on an nRF52840 (mbed-os PR 6794) |
//! | P-256 verify, CryptoCell 310 | 20 ms | assumed: no measurement was found |
//!
//! The instruction counts were measured on an emulated core without wait states; the factor 1.4 is the average that
//! real parts add.

use bledfu_slot::verify::{Crypto, Key, Sha256, Signature, SignatureCheck, SoftCrypto};

use crate::power::Power;

/// Nanoseconds to run one byte through the CRC-32.
pub const CRC32_NS_PER_BYTE: u64 = 400;

/// Nanoseconds to make one byte of an image from a packed update.
pub const EXPAND_NS_PER_BYTE: u64 = 1_664;

/// What computes hashes and signatures, in the application and in the boot stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoCost {
    /// Nanoseconds to hash one byte.
    pub sha256_ns_per_byte: u64,
    /// Nanoseconds of one ECDSA P-256 verification.
    pub p256_verify_ns: u64,
}

impl CryptoCost {
    /// Portable Rust (`CONFIG_BLEDFU_CRYPTO_RUST`).
    pub const SOFTWARE: Self = Self {
        sha256_ns_per_byte: 1_290,
        p256_verify_ns: 223_000_000,
    };
    /// P-256 in Arm assembly (`CONFIG_BLEDFU_CRYPTO_CORTEX_M`).
    pub const CORTEX_M: Self = Self {
        p256_verify_ns: 19_200_000,
        ..Self::SOFTWARE
    };
    /// The CryptoCell of an nRF52840.
    pub const PLATFORM: Self = Self {
        sha256_ns_per_byte: 58,
        p256_verify_ns: 20_000_000,
    };
}

/// [`SoftCrypto`] that lets virtual time pass.
#[derive(Clone)]
pub struct SimCrypto {
    power: Power,
    cost: CryptoCost,
}

impl SimCrypto {
    /// Time passes on the clock of `power`.
    pub fn new(power: &Power, cost: CryptoCost) -> Self {
        Self {
            power: power.clone(),
            cost,
        }
    }
}

impl Crypto for SimCrypto {
    type Sha256 = SimSha256;

    fn verify(&self, key: &Key, digest: &[u8; 32], signature: &Signature) -> SignatureCheck {
        self.power.advance_ns(self.cost.p256_verify_ns);
        SoftCrypto.verify(key, digest, signature)
    }

    fn sha256(&self) -> SimSha256 {
        SimSha256 {
            clock: Some((self.power.clone(), self.cost.sha256_ns_per_byte)),
            ..SimSha256::new()
        }
    }
}

/// A SHA-256 that lets virtual time pass.
#[derive(Clone)]
pub struct SimSha256 {
    inner: <SoftCrypto as Crypto>::Sha256,
    /// The clock, and the nanoseconds to hash one byte.
    clock: Option<(Power, u64)>,
}

impl Sha256 for SimSha256 {
    fn new() -> Self {
        Self {
            inner: Sha256::new(),
            clock: None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        if let Some((power, ns_per_byte)) = &self.clock {
            power.advance_ns(bytes.len() as u64 * ns_per_byte);
        }
        self.inner.update(bytes);
    }

    fn finish(self) -> [u8; 32] {
        self.inner.finish()
    }
}
