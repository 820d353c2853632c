// SPDX-License-Identifier: Apache-2.0
//! The decoder of packed updates, without what reads its sources.
#![no_std]
#![no_main]

use bledfu_patch::{Decoder, Method, Pack, RamRange, Source};
use core::hint::black_box;

struct Sources;

const PACK: Pack = Pack {
    method: Method::Delta,
    table: 3,
    out_size: 480_000,
    base_len: 470_000,
    base_addr: 0xC000,
    ram: RamRange {
        start: 0x2000_0000,
        len: 0x4_0000,
    },
};

impl Source for Sources {
    type Error = ();

    #[inline(never)]
    fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }

    #[inline(never)]
    fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }

    #[inline(never)]
    fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        black_box((offset, bytes));
        black_box(Ok(()))
    }
}

#[no_mangle]
extern "C" fn _start() -> ! {
    const NEW: Decoder<96> = Decoder::new();
    let mut decoder = NEW;
    let decoder = black_box(&mut decoder);
    let pack = black_box(&PACK);
    let _ = black_box(decoder.start(pack, black_box(9_000)));
    let mut page = [0; 256];
    let page = black_box(&mut page);
    let _ = black_box(decoder.fill(&mut Sources, page));
    bledfu_size::halt()
}
