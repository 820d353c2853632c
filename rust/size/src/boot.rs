// SPDX-License-Identifier: Apache-2.0
//! The boot stage, with the cryptography it is given.

use bledfu_size::{halt, layout, Driver};
use bledfu_slot::verify::{Crypto, ImagePolicy, PublicKey};
use bledfu_swap::by_offset::ByOffset;
use bledfu_swap::{boot_by, BootConfig, Downgrade, NoFlash};
use core::hint::black_box;

static KEYS: [PublicKey; 1] = [PublicKey::new([7; 64])];

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
    let _ = black_box(boot_by::<ByOffset, _, _, _, C>(
        &mut Driver,
        &mut Driver,
        &mut NoFlash,
        &config,
        &crypto,
        &mut |progress| {
            black_box(progress);
        },
    ));
    halt()
}
