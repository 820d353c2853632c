// SPDX-License-Identifier: Apache-2.0
//! Packs one file as a difference from another, expands it again, and prints the sizes.
//!
//! `cargo run --release --features std --example pack -- OLD NEW ADDRESS RAM_START RAM_SIZE`, numbers in hexadecimal.

use std::process::ExitCode;

use bledfu_patch::pack::{expand, pack, Options};
use bledfu_patch::RamRange;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [old, new, address, ram_start, ram_len] = &words[..] else {
        return Err("usage: pack OLD NEW ADDRESS RAM_START RAM_SIZE".into());
    };
    let number = |text: &str| u32::from_str_radix(text, 16);
    let (base, image) = (std::fs::read(old)?, std::fs::read(new)?);
    let options = Options {
        base_addr: number(address)?,
        ram: RamRange {
            start: number(ram_start)?,
            len: number(ram_len)?,
        },
        ..Options::default()
    };
    let packed = pack(&base, &image, &options, &mut |_| ())?;
    if expand(&base, &packed.stream, &packed.pack)? != image {
        return Err("the stream expands to something else".into());
    }
    println!("{} {}", packed.stream.len(), image.len());
    Ok(ExitCode::SUCCESS)
}
