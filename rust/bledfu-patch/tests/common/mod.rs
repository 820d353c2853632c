// SPDX-License-Identifier: Apache-2.0
//! Sources that check what a decoder does with them.

use bledfu_patch::{DecodeError, Decoder, Pack, Source};

/// A read that failed, as a test has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadError;

/// Base, stream and output in memory. Panics when a read goes beyond what it may read, and when there are more reads than
/// the work of a decoder can need.
pub struct Checked<'f> {
    base: &'f [u8],
    stream: &'f [u8],
    pub image: Vec<u8>,
    /// Calls of [`Source::base`].
    pub base_reads: usize,
    reads: usize,
    /// From this read on, all fail.
    pub fails_after: usize,
}

impl<'f> Checked<'f> {
    pub fn new(base: &'f [u8], stream: &'f [u8]) -> Self {
        Self {
            base,
            stream,
            image: Vec::new(),
            base_reads: 0,
            reads: 0,
            fails_after: usize::MAX,
        }
    }

    /// Expands all of it with the decoder of a device.
    pub fn expand(&mut self, pack: &Pack, page: usize) -> Result<Vec<u8>, DecodeError<ReadError>> {
        let mut decoder = Box::new(Decoder::<256>::new());
        decoder.start(pack, self.stream.len() as u32).unwrap();
        let mut page = vec![0xEE; page];
        loop {
            match decoder.fill(self, &mut page)? {
                0 => break,
                filled => self.image.extend_from_slice(&page[..filled]),
            }
            assert!(
                self.image.len() <= pack.out_size as usize,
                "more bytes than announced"
            );
            // Each byte of the image may need a jump and a unit, and a unit may lie across two windows.
            let bound = 8 + 4 * (self.image.len() + page.len()) + self.stream.len();
            assert!(
                self.reads <= bound,
                "{} reads for {} bytes",
                self.reads,
                self.image.len()
            );
        }
        assert_eq!(self.image.len(), pack.out_size as usize);
        Ok(std::mem::take(&mut self.image))
    }

    fn read(&mut self, from: &[u8], offset: u32, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.reads += 1;
        if self.reads > self.fails_after {
            return Err(ReadError);
        }
        assert!(offset.is_multiple_of(4), "a read at {offset}");
        assert!(!bytes.is_empty(), "a read of nothing");
        bytes.copy_from_slice(&from[offset as usize..][..bytes.len()]);
        Ok(())
    }
}

impl Source for Checked<'_> {
    type Error = ReadError;

    fn base(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.base_reads += 1;
        self.read(self.base, offset, bytes)
    }

    fn output(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ReadError> {
        let image = std::mem::take(&mut self.image);
        let result = self.read(&image, offset, bytes);
        self.image = image;
        result
    }

    fn stream(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ReadError> {
        self.read(self.stream, offset, bytes)
    }
}
