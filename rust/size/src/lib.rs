// SPDX-License-Identifier: Apache-2.0
//! What every measured program shares: a flash and cryptography that the optimiser cannot see through, and a panic
//! handler that costs nothing.
#![no_std]

use bledfu_slot::layout::{Algorithm, Geometry, Layout};
use bledfu_slot::verify::{Crypto, Key, Sha256, Signature, SignatureCheck};
use core::hint::black_box;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

/// A flash behind a driver.
pub struct Driver;

impl ErrorType for Driver {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Driver {
    const READ_SIZE: usize = 4;

    #[inline(never)]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }

    fn capacity(&self) -> usize {
        black_box(0xE8000)
    }
}

impl NorFlash for Driver {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        black_box((from, to));
        black_box(Ok(()))
    }

    #[inline(never)]
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }
}

/// Cryptography that somebody else links: what is left is our own code.
#[derive(Clone)]
pub struct Elsewhere;

impl Sha256 for Elsewhere {
    fn new() -> Self {
        Self
    }

    #[inline(never)]
    fn update(&mut self, bytes: &[u8]) {
        black_box(bytes);
    }

    #[inline(never)]
    fn finish(self) -> [u8; 32] {
        black_box([0; 32])
    }
}

impl Crypto for Elsewhere {
    type Sha256 = Self;

    #[inline(never)]
    fn verify(&self, key: &Key, digest: &[u8; 32], signature: &Signature) -> SignatureCheck {
        black_box((key, digest, signature));
        black_box(SignatureCheck::Good)
    }
}

/// The nRF52840 DK's slots.
pub fn layout() -> Layout {
    const SLOT: Geometry = Geometry {
        slot_size: 0xE8000,
        sector_size: 4096,
        write_size: 4,
    };
    const LAYOUT: Result<Layout, bledfu_slot::layout::LayoutError> =
        Layout::new(Algorithm::SwapOffset, SLOT, SLOT, 8, 256);
    match LAYOUT {
        Ok(layout) => layout,
        Err(_) => halt(),
    }
}

/// The end of every program.
pub fn halt() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    halt()
}
