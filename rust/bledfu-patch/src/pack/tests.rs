// SPDX-License-Identifier: Apache-2.0
//! Streams that no packer makes.

use std::vec;
use std::vec::Vec;

use super::range::Encoder;
use super::{expand, ExpandError};
use crate::coder::Coder;
use crate::model::{Event, Model};
use crate::record::{Method, Pack, RamRange};
use crate::{DecodeError, StreamError};

/// A stream as the model writes it, right or wrong.
struct Forged {
    model: Model<96>,
    coder: Encoder,
}

impl Forged {
    fn new(base_len: u32, out_size: u32) -> Self {
        let mut model = Model::new();
        model.reset(&Pack {
            method: Method::Delta,
            table: 3,
            out_size,
            base_len,
            base_addr: 0x1_0000,
            ram: RamRange::default(),
        });
        Self {
            model,
            coder: Encoder::new(),
        }
    }

    fn jump(&mut self, in_base: bool, position: u32) -> &mut Self {
        self.model.event(&mut self.coder, Event::Jump);
        let _ = self.model.jump(&mut self.coder, in_base, position);
        self
    }

    fn literal(&mut self) -> &mut Self {
        self.model.event(&mut self.coder, Event::Literal);
        self.model.literal(&mut self.coder, 0x41);
        self.model.advance_literal();
        self
    }

    fn run(&mut self, units: u32) -> &mut Self {
        self.model.event(&mut self.coder, Event::Run);
        self.model.run(&mut self.coder, units);
        self.model.begin_run();
        self.model.advance(units);
        self
    }

    fn expand(&mut self) -> Result<Vec<u8>, ExpandError> {
        let coder = core::mem::replace(&mut self.coder, Encoder::new());
        let base = vec![7; self.model.pack.base_len as usize];
        expand(&base, &coder.finish(), &self.model.pack)
    }
}

const OUTSIDE: Result<Vec<u8>, ExpandError> = Err(DecodeError::Stream(StreamError::ReadsOutside));

#[test]
fn jumps_to_where_nothing_is_are_errors() {
    // small-updates case 9
    let forged = || Forged::new(100, 200);
    assert_eq!(forged().jump(true, 100).expand(), OUTSIDE);
    assert_eq!(forged().jump(true, u32::MAX).expand(), OUTSIDE);
    assert_eq!(
        forged().jump(false, 0).expand(),
        OUTSIDE,
        "nothing is produced yet"
    );
    assert_eq!(
        forged().literal().jump(false, u32::MAX).expand(),
        OUTSIDE,
        "before the first byte"
    );
    let twice = forged().jump(true, 5).jump(true, 6).expand();
    assert_eq!(twice, Err(DecodeError::Stream(StreamError::TwoJumps)));
    let right = forged()
        .jump(true, 99)
        .run(1)
        .jump(true, 0)
        .run(100)
        .jump(false, 0)
        .run(99)
        .expand();
    assert_eq!(right.map(|image| image.len()), Ok(200));
}

#[test]
fn a_run_that_makes_too_many_bytes_writes_none_of_them() {
    // small-updates case 10
    let too_many = Err(DecodeError::Stream(StreamError::TooManyBytes));
    assert_eq!(Forged::new(300, 200).run(201).expand(), too_many);
    assert_eq!(Forged::new(300, 200).run(200).expand(), Ok(vec![7; 200]));
    // And one that goes on behind its base.
    assert_eq!(Forged::new(100, 200).run(101).expand(), OUTSIDE);
}

#[test]
fn a_correction_of_the_output_has_no_neighbour() {
    let mut forged = Forged::new(100, 200);
    let branch = [0x00_u8, 0xF0, 0x02, 0xF8];
    for byte in branch {
        forged.model.event(&mut forged.coder, Event::Literal);
        forged.model.literal(&mut forged.coder, u32::from(byte));
        forged.model.advance_literal();
    }
    forged.jump(false, 0);
    forged.model.event(&mut forged.coder, Event::Fix);
    // The bit for a neighbour.
    let mut half = crate::coder::HALF;
    forged.coder.bit(&mut half, 0);
    assert_eq!(forged.expand(), Err(DecodeError::Stream(StreamError::Correction)));
}
