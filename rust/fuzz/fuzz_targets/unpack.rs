// SPDX-License-Identifier: Apache-2.0
//! Any base, stream and `PACK` for the decoder: it reads only where it may, never gives more than announced, and always ends.
#![no_main]

use bledfu_patch::{Decoder, Pack, Source};
use libfuzzer_sys::fuzz_target;

struct Memory<'f> {
    base: &'f [u8],
    stream: &'f [u8],
    image: Vec<u8>,
    reads: usize,
}

impl Memory<'_> {
    fn read(&mut self, from: &[u8], offset: u32, bytes: &mut [u8]) {
        self.reads += 1;
        bytes.copy_from_slice(&from[offset as usize..][..bytes.len()]);
    }
}

impl Source for Memory<'_> {
    type Error = ();

    fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        self.read(self.base, offset, bytes);
        Ok(())
    }

    fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        bytes.copy_from_slice(&self.image[offset as usize..][..bytes.len()]);
        self.reads += 1;
        Ok(())
    }

    fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ()> {
        self.read(self.stream, offset, bytes);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    // The entry, the size of a page, how many bytes are the base, both files.
    let Some(([page, low, high], rest)) = data.split_first_chunk() else {
        return;
    };
    let Some((entry, files)) = rest.split_at_checked(Pack::SIZE) else {
        return;
    };
    let mut entry = entry.to_vec();
    // Sizes beyond what a fuzzer writes would only be refused.
    (entry[0], entry[3], entry[6], entry[7]) = (1, 0, 0, 0);
    let base_len = usize::from(u16::from_le_bytes([*low, *high])).min(files.len());
    let (base, stream) = files.split_at(base_len);
    let needed = if entry[1] == 2 { 0 } else { base_len as u32 };
    entry[8..12].copy_from_slice(&needed.to_le_bytes());
    let Ok(pack) = Pack::decode(&entry, 1 << 16, 96) else {
        return;
    };
    let mut decoder = Decoder::<96>::new();
    decoder
        .start(&pack, stream.len() as u32)
        .expect("an entry that decodes");
    let mut source = Memory {
        base,
        stream,
        image: Vec::new(),
        reads: 0,
    };
    let mut page = vec![0; 1 + usize::from(*page)];
    while !decoder.is_complete() {
        let Ok(filled) = decoder.fill(&mut source, &mut page) else {
            return;
        };
        source.image.extend_from_slice(&page[..filled]);
        assert!(source.image.len() <= pack.out_size as usize);
        assert!(source.reads <= 8 + 4 * (source.image.len() + page.len()) + stream.len());
    }
    assert_eq!(source.image.len(), pack.out_size as usize);
});
