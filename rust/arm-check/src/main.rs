// SPDX-License-Identifier: Apache-2.0
//! Signatures of 16 keys, each as it is and with bits changed in every part: both implementations must say the same.
#![no_std]
#![no_main]

use bledfu_slot::verify::{Crypto, Key, Signature, SignatureCheck, SoftCrypto};
use cortex_m_semihosting::{debug, hprintln};
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::EncodedPoint;

/// What the crate `p256` says.
fn expected(key: &[u8; 64], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let point = EncodedPoint::from_untagged_bytes(key.into());
    let Ok(key) = VerifyingKey::from_encoded_point(&point) else {
        return false;
    };
    match p256::ecdsa::Signature::from_bytes(signature.into()) {
        Ok(signature) => key.verify_prehash(digest, &signature).is_ok(),
        Err(_) => false,
    }
}

fn compare(key: &[u8; 64], digest: &[u8; 32], signature: &[u8; 64]) -> bool {
    let mut halves = [0; 64];
    for (to, from) in halves.chunks_exact_mut(32).zip(signature.chunks_exact(32)) {
        for (to, from) in to.iter_mut().zip(from.iter().rev()) {
            *to = *from;
        }
    }
    let found = SoftCrypto.verify(&Key::new(*key), digest, &Signature::from_le_halves(&halves));
    let good = expected(key, digest, signature);
    let same = found
        == if good {
            SignatureCheck::Good
        } else {
            SignatureCheck::Bad
        };
    if !same {
        hprintln!(
            "p256 says {}, p256-cm4 says {:?}: {:02x?} {:02x?} {:02x?}",
            good,
            found,
            key,
            digest,
            signature
        );
    }
    same
}

#[cortex_m_rt::entry]
fn main() -> ! {
    let (mut good, mut bad, mut same) = (0, 0, true);
    for number in 1..=16u8 {
        let Ok(secret) = SigningKey::from_slice(&[number.wrapping_mul(15); 32]) else {
            continue;
        };
        let point = secret.verifying_key().to_encoded_point(false);
        let mut key = [0; 64];
        key.copy_from_slice(&point.as_bytes()[1..]);
        let digest = [number ^ 0xA5; 32];
        let signed: Result<p256::ecdsa::Signature, _> = secret.sign_prehash(&digest);
        let Ok(signed) = signed else { continue };
        let mut signature = [0; 64];
        signature.copy_from_slice(&signed.to_bytes());

        same &= compare(&key, &digest, &signature);
        good += u32::from(expected(&key, &digest, &signature));
        for bit in (usize::from(number)..64 * 8).step_by(61) {
            let flip = |bytes: &mut [u8]| bytes[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
            let (mut other_key, mut other_digest, mut other_signature) = (key, digest, signature);
            flip(&mut other_key);
            flip(&mut other_digest);
            flip(&mut other_signature);
            same &= compare(&other_key, &digest, &signature);
            same &= compare(&key, &other_digest, &signature);
            same &= compare(&key, &digest, &other_signature);
            bad += 3;
        }
        // Numbers out of range.
        for part in 0..2 {
            for byte in [0, 0xFF] {
                let mut out = signature;
                out[part * 32..][..32].fill(byte);
                same &= compare(&key, &digest, &out);
                let mut out = key;
                out[part * 32..][..32].fill(byte);
                same &= compare(&out, &digest, &signature);
                bad += 2;
            }
        }
    }
    hprintln!(
        "{} good signatures, {} changed ones: {}",
        good,
        bad,
        if same { "the same" } else { "DIFFERENT" }
    );
    debug::exit(if same && good == 16 {
        debug::EXIT_SUCCESS
    } else {
        debug::EXIT_FAILURE
    });
    loop {}
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    debug::exit(debug::EXIT_FAILURE);
    loop {}
}
