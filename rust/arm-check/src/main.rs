// SPDX-License-Identifier: Apache-2.0
//! Signatures of 16 keys, each as it is and with bits changed in every part, and Wycheproof's vectors: both implementations
//! must say the same. Then prints the stack that a check needs.
//!
//! `p256-cm4` has an `ldm` of a single register, which the Armv7-M manual calls unpredictable. Cortex-M4 processors load the
//! register; QEMU raises a usage fault. So the handler of that fault loads it here ([`load_single_register`]).
#![no_std]
#![no_main]

use bledfu_slot::verify::{Crypto, Key, Signature, SignatureCheck, SoftCrypto};
use cortex_m_semihosting::{debug, hprintln};
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::ecdsa::{SigningKey, VerifyingKey};
use p256::EncodedPoint;

/// One of Wycheproof's vectors, as `build.rs` writes them.
struct Vector {
    key: &'static [u8; 64],
    digest: &'static [u8; 32],
    /// r and s.
    signature: &'static [u8; 64],
    is_good: bool,
}

fn wycheproof() -> impl Iterator<Item = Vector> {
    const ALL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wycheproof.bin"));
    ALL.chunks_exact(64 + 32 + 64 + 1).map(|vector| {
        let (key, rest) = vector.split_first_chunk().unwrap();
        let (digest, rest) = rest.split_first_chunk().unwrap();
        let (signature, result) = rest.split_first_chunk().unwrap();
        Vector {
            key,
            digest,
            signature,
            is_good: result == [1],
        }
    })
}

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
    let found = SoftCrypto.verify(&Key::new(*key), digest, &Signature::from_be(*signature));
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

/// System Handler Control and State Register, and its bit that enables the usage fault (Armv7-M manual, B3.2.13).
const SHCSR: *mut u32 = 0xE000_ED24 as *mut u32;
const USGFAULTENA: u32 = 1 << 18;

// r0: what the processor stacked (r0 to r3, r12, lr, pc, xPSR). r1: r4 to r11.
core::arch::global_asm!(
    ".section .text.UsageFault, \"ax\"",
    ".global UsageFault",
    ".thumb_func",
    "UsageFault:",
    "mrs r0, msp",
    "push {{r4-r11}}",
    "mov r1, sp",
    "push {{r0, lr}}",
    "bl load_single_register",
    "pop {{r0, lr}}",
    "pop {{r4-r11}}",
    "bx lr",
);

/// Does what a Cortex-M4 does with `ldm Rn, {Rt}` (Armv7-M manual, A7.7.41, encoding T2 without write-back).
///
/// # Safety
/// `stacked` and `others` are the registers of the faulting code, as `UsageFault` hands them over.
#[no_mangle]
unsafe extern "C" fn load_single_register(stacked: *mut u32, others: *mut u32) {
    let register = |number: u32| match number {
        0..=3 => stacked.add(number as usize),
        4..=11 => others.add(number as usize - 4),
        12 => stacked.add(4),
        14 => stacked.add(5),
        _ => panic!("an instruction that QEMU does not know"),
    };
    let pc = stacked.add(6);
    let instruction = *pc as *const u16;
    let (first, list) = (u32::from(*instruction), u32::from(*instruction.add(1)));
    if first & 0xFFF0 != 0xE890 || list.count_ones() != 1 {
        panic!("an instruction that QEMU does not know");
    }
    *register(list.trailing_zeros()) = *(*register(first & 0xF) as *const u32);
    *pc += 4;
}

/// Bytes of the stack that `work` needs, of at most `DEPTH`.
#[inline(never)]
fn stack_of(work: impl FnOnce()) -> usize {
    const DEPTH: usize = 16 * 1024;
    const PAINT: u32 = 0xA5A5_5A5A;
    // Out of reach of this function's own frame.
    const MARGIN: usize = 256;
    let here = 0u32;
    let top = core::ptr::addr_of!(here) as usize & !3;
    let words = (top - DEPTH..top - MARGIN).step_by(4);
    for at in words.clone() {
        // SAFETY: RAM below this function's frame, which nothing uses yet.
        unsafe { (at as *mut u32).write_volatile(PAINT) };
    }
    work();
    let lowest = words
        .clone()
        // SAFETY: the same words, which are free again.
        .find(|at| unsafe { (*at as *const u32).read_volatile() } != PAINT);
    lowest.map_or(0, |at| top - at)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    // SAFETY: a register of the processor, before any fault.
    unsafe { SHCSR.write_volatile(SHCSR.read_volatile() | USGFAULTENA) };
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
    let mut vectors = 0;
    for vector in wycheproof() {
        same &= compare(vector.key, vector.digest, vector.signature);
        same &= expected(vector.key, vector.digest, vector.signature) == vector.is_good;
        vectors += 1;
    }
    hprintln!(
        "{} vectors of Wycheproof: {}",
        vectors,
        if same { "the same" } else { "DIFFERENT" }
    );

    let vector = wycheproof().find(|vector| vector.is_good).unwrap();
    let parsed = (Key::new(*vector.key), Signature::from_be(*vector.signature));
    let mut found = [false; 2];
    let [assembly, portable] = &mut found;
    let stack = [
        stack_of(|| {
            *assembly = SoftCrypto.verify(&parsed.0, vector.digest, &parsed.1) == SignatureCheck::Good
        }),
        stack_of(|| *portable = expected(vector.key, vector.digest, vector.signature)),
    ];
    hprintln!(
        "stack of a check: {} bytes, {} in portable Rust",
        stack[0],
        stack[1]
    );
    same &= found == [true; 2];
    debug::exit(if same && good == 16 && vectors > 200 {
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
