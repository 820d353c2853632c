// SPDX-License-Identifier: Apache-2.0
//! Any file for `bledfu inspect`, as what it is and as a whole slot, and as a package. It never panics.
#![no_main]

use bledfu_explain::inspect::{inspect, Options};
use bledfu_sim::package::{read_parts, Package};
use bledfu_slot::Algorithm;
use libfuzzer_sys::fuzz_target;

const SLOT: usize = 0x4000;

fuzz_target!(|data: &[u8]| {
    let Some(([units, how], file)) = data.split_first_chunk() else {
        return;
    };
    let options = Options {
        slot_size: (how & 1 != 0).then_some(SLOT as u32),
        slot_address: (how & 2 != 0).then_some(bledfu_sim::device::PRIMARY_START),
        align: 1 << (units % 6),
        max_align: 8 << (units / 6 % 3),
        max_sectors: (how & 4 != 0).then_some(u32::from(*how)),
        algorithm: Algorithm::ALL[usize::from(units / 18) % Algorithm::ALL.len()],
        ..Options::default()
    };
    // A slot has an image at its start and a trailer at its end; a fuzzer's file is too short for both.
    let mut slot = vec![0xFF; SLOT];
    let length = file.len().min(SLOT / 2);
    slot[..length].copy_from_slice(&file[..length]);
    slot[SLOT - length..].copy_from_slice(&file[file.len() - length..]);
    for name in ["it.bin", "it.dat", "it.zip", "it"] {
        for bytes in [file, &slot] {
            let _ = inspect(name, bytes, &options).verdict();
        }
    }
    let _ = Package::read(file);
    let _ = Package::read_unchecked(file);
    let _ = read_parts(file);
});
