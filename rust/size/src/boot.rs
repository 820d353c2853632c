// SPDX-License-Identifier: Apache-2.0
//! The boot stage, with the cryptography it is given.

use bledfu_size::{halt, layout, Driver};
use bledfu_slot::verify::{Crypto, ImagePolicy, PublicKey};
use bledfu_swap::{boot, BootConfig};
use core::hint::black_box;

static KEYS: [PublicKey; 1] = [PublicKey::new([7; 64])];

pub fn run<C: Crypto>(crypto: C) -> ! {
    let policy = ImagePolicy {
        keys: black_box(&KEYS),
        trusted_digests: &[],
    };
    let config = BootConfig {
        layout: layout(),
        policy,
    };
    let _ = black_box(boot(
        &mut Driver,
        &mut Driver,
        &config,
        &crypto,
        &mut |progress| {
            black_box(progress);
        },
    ));
    halt()
}
