// SPDX-License-Identifier: Apache-2.0
//! Any two files: what is packed expands to what it was, whatever they have in common.
#![no_main]

use bledfu_patch::pack::{expand, pack, Options};
use bledfu_patch::RamRange;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some(([table, how, low, high, a, b, c, d], rest)) = data.split_first_chunk() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (base, rest) = rest.split_at(at);
    let mut image = rest.to_vec();
    if how & 1 != 0 {
        // What follows the base is inserted into a copy of it.
        image = base.to_vec();
        let place = usize::from(*how) * image.len() / 255;
        image.splice(place..place, rest.iter().copied());
    }
    image.resize(image.len().max(33), *how);
    let base = if base.len() < 33 { &[] } else { base };
    let address = u32::from_le_bytes([*a, *b, *c, *d]);
    let options = Options {
        base_addr: address,
        ram: RamRange {
            start: address.rotate_left(9),
            len: address >> (how >> 3),
        },
        table: 1 + table % 8,
    };
    let packed = pack(base, &image, &options, &mut |_| ()).expect("files of these sizes");
    assert_eq!(expand(base, &packed.stream, &packed.pack), Ok(image));
});
