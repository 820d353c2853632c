// SPDX-License-Identifier: Apache-2.0
//! Any two files survive packing and expanding; any stream ends, within its bounds.

mod common;

use bledfu_patch::pack::{pack, Options};
use bledfu_patch::{Method, Pack, RamRange};
use common::Checked;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes as they come in firmware: random ones, branches, addresses, one byte again and again.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..300_usize).prop_map(|(byte, count)| vec![byte; count]),
        vec((0..0x800_u16, 0..0x800_u16), 0..20).prop_map(|branches| {
            let branch = |(first, second): (u16, u16)| {
                [(0xF000 | first).to_le_bytes(), (0xD000 | second).to_le_bytes()]
            };
            branches.into_iter().flat_map(branch).flatten().collect()
        }),
        vec(0..0x4000_u32, 0..20).prop_map(|places| places
            .iter()
            .flat_map(|place| (0x8000 + 0x1_0000 + place).to_le_bytes())
            .collect()),
    ];
    vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// A file, and the same after some changes.
fn changed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let change = (any::<prop::sample::Index>(), 0..30_usize, bytes());
    (bytes(), vec(change, 0..5)).prop_map(|(base, changes)| {
        let mut image = base.clone();
        for (place, removed, inserted) in changes {
            let place = place.index(image.len() + 1);
            let end = (place + removed).min(image.len());
            image.splice(place..end, inserted);
        }
        (base, image)
    })
}

fn options() -> impl Strategy<Value = Options> {
    let address = prop_oneof![Just(0x1_8000), any::<u32>()];
    (address, any::<u32>(), any::<u32>(), 1..9_u8).prop_map(|(base_addr, start, len, table)| Options {
        base_addr,
        ram: RamRange { start, len },
        table,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn any_image_comes_out_as_it_went_in((mut base, mut image) in changed(), options in options(), page in 1..600_usize) {
        if !base.is_empty() {
            base.resize(base.len().max(33), 0);
        }
        image.resize(image.len().max(33), 0);
        let packed = pack(&base, &image, &options, &mut |_| ()).unwrap();
        prop_assert_eq!(&Checked::new(&base, &packed.stream).expand(&packed.pack, page), &Ok(image));
        prop_assert_eq!(Pack::decode(&packed.pack.encode(), u32::MAX, 256), Ok(packed.pack));
    }

    #[test]
    fn any_stream_ends_within_its_bounds(
        mut base in bytes(),
        stream in vec(any::<u8>(), 0..600),
        options in options(),
        out_size in 33..50_000_u32,
        page in 1..600_usize,
    ) {
        let is_delta = base.len() > 32;
        if !is_delta {
            base.clear();
        }
        let pack = Pack {
            method: if is_delta { Method::Delta } else { Method::Full },
            table: options.table,
            out_size,
            base_len: base.len() as u32,
            base_addr: options.base_addr,
            ram: options.ram,
        };
        // `Checked` panics where a bound is broken.
        let _ = Checked::new(&base, &stream).expand(&pack, page);
    }

    #[test]
    fn a_stream_with_a_changed_byte_ends_within_its_bounds(
        (mut base, mut image) in changed(),
        options in options(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        base.resize(base.len().max(33), 0);
        image.resize(image.len().max(33), 0);
        let mut packed = pack(&base, &image, &options, &mut |_| ()).unwrap();
        let place = place.index(packed.stream.len());
        packed.stream[place] = byte;
        let _ = Checked::new(&base, &packed.stream).expand(&packed.pack, 256);
    }

    #[test]
    fn any_entry_decodes_to_what_it_encodes_or_is_refused(value in vec(any::<u8>(), 24..25), first in 0..3_u8, method in 0..4_u8) {
        let mut value = value;
        let (table, reserved) = (value[2] % 12, value[3] % 2);
        value[..4].copy_from_slice(&[first, method, table, reserved]);
        if let Ok(pack) = Pack::decode(&value, u32::MAX, 96) {
            prop_assert_eq!(&pack.encode()[..], &value[..]);
        }
    }
}
