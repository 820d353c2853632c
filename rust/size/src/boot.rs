// SPDX-License-Identifier: Apache-2.0
//! The boot stage, with the cryptography it is given.

use bledfu_size::{halt, layout, Driver};
use bledfu_slot::verify::{Crypto, ImagePolicy, Key};
use bledfu_swap::swap_offset::SwapOffset;
use bledfu_swap::{boot_by, BootConfig, Downgrade, NoEvidence, NoFlash};
use core::hint::black_box;

static KEYS: [Key; 1] = [Key::new([7; 64])];

pub fn run<C: Crypto>(crypto: C) -> ! {
    let policy = ImagePolicy {
        keys: black_box(&KEYS),
        trusted_digests: &[],
        unsigned: false,
        address: None,
    };
    let config = BootConfig {
        layout: layout(),
        policy,
        downgrade: Downgrade::Allowed,
        verify_primary: true,
    };
    let _ = black_box(boot_by::<SwapOffset, _, _, _, C>(
        &mut Driver,
        &mut Driver,
        &mut NoFlash,
        &config,
        &crypto,
        &mut NoEvidence,
        &mut |progress| {
            black_box(progress);
        },
    ));
    halt()
}
