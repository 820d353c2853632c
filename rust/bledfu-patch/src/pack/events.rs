// SPDX-License-Identifier: Apache-2.0
//! Writes the stream for a list of copies, with the model of the decoder.

use std::vec::Vec;

use super::range::Encoder;
use super::{Copy, Counts, LARGEST_TABLE};
use crate::model::{Correction, Event, Kind, Model, Unit, MOST};
use crate::record::Pack;
use crate::thumb;

/// The stream, and what it consists of.
pub(super) fn write(
    base: &[u8],
    image: &[u8],
    pack: &Pack,
    copies: &[Copy],
    progress: &mut dyn FnMut(usize),
) -> (Vec<u8>, Counts) {
    let mut model = std::boxed::Box::new(Model::new());
    model.reset(pack);
    let mut writer = Writer {
        base,
        image,
        model,
        coder: Encoder::new(),
        counts: Counts::default(),
    };
    for copy in copies {
        writer.literals(copy.at);
        writer.copy(copy);
        progress(writer.produced());
    }
    writer.literals(image.len());
    let bits = writer.coder.bits;
    let counts = Counts {
        bits,
        ..writer.counts
    };
    (writer.coder.finish(), counts)
}

struct Writer<'f> {
    base: &'f [u8],
    image: &'f [u8],
    model: std::boxed::Box<Model<LARGEST_TABLE>>,
    coder: Encoder,
    counts: Counts,
}

impl Writer<'_> {
    fn produced(&self) -> usize {
        self.model.produced as usize
    }

    /// Literals up to a place of the image.
    fn literals(&mut self, end: usize) {
        while self.produced() < end {
            self.literal();
        }
    }

    fn literal(&mut self) {
        let byte = self.image[self.produced()];
        self.model.event(&mut self.coder, Event::Literal);
        self.model.literal(&mut self.coder, u32::from(byte));
        self.model.advance_literal();
        self.counts.literals += 1;
    }

    /// What is left of a copy, as the one before it may have ended late.
    fn copy(&mut self, copy: &Copy) {
        let end = copy.at + copy.len;
        let skipped = self.produced() - copy.at;
        if skipped >= copy.len {
            return;
        }
        let from = (copy.from + skipped) as u32;
        if self.model.in_base != copy.in_base || self.model.position != from {
            self.model.event(&mut self.coder, Event::Jump);
            let is_readable = self.model.jump(&mut self.coder, copy.in_base, from);
            debug_assert!(is_readable.is_some() && self.model.position == from);
            self.counts.jumps += 1;
        }
        while self.produced() < end {
            self.run(end);
            if self.produced() < end && !self.fix() {
                // The unit reaches behind the end of the image.
                self.literal();
                return;
            }
        }
    }

    /// The unit at the read position.
    fn unit(&self) -> Option<Unit> {
        let file = match self.model.in_base {
            true => self.base,
            false => self.image,
        };
        let available = self.model.limit().checked_sub(self.model.position)?;
        let at = self.model.position as usize;
        let mut word = 0;
        for place in 0..available.min(4) {
            word |= u32::from(file[at + place as usize]) << (8 * place);
        }
        (available > 0).then(|| self.model.unit(word, available))
    }

    /// The bytes of the image where a unit is to be produced; `None` if it has fewer.
    fn wanted(&self, unit: &Unit) -> Option<u32> {
        let bytes = self.image.get(self.produced()..)?.get(..unit.len() as usize)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u32::from(*byte)),
        )
    }

    /// Whether the unit at the read position becomes what the image has.
    fn is_predicted(&self) -> Option<u32> {
        let unit = self.unit()?;
        (self.wanted(&unit)? == self.model.predict(&unit)).then_some(unit.len())
    }

    /// As many units as are predicted, if there is one, up to `end`.
    fn run(&mut self, end: usize) {
        let (table, position, produced) =
            (self.model.table.clone(), self.model.position, self.model.produced);
        self.model.begin_run();
        let mut units = 0;
        while self.produced() < end && units < MOST {
            let Some(len) = self.is_predicted() else {
                break;
            };
            self.model.advance(len);
            units += 1;
        }
        let after = (self.model.position, self.model.produced);
        (self.model.position, self.model.produced) = (position, produced);
        if units == 0 {
            self.model.table = table;
            return;
        }
        self.model.event(&mut self.coder, Event::Run);
        self.model.run(&mut self.coder, units);
        (self.model.position, self.model.produced) = after;
        self.counts.runs += 1;
        self.counts.units += u64::from(units);
    }

    /// The unit at the read position, corrected. False if that is not possible.
    fn fix(&mut self) -> bool {
        let Some(unit) = self.unit() else {
            return false;
        };
        let Some(wanted) = self.wanted(&unit) else {
            return false;
        };
        let correction = self.correction(&unit, wanted);
        self.model.event(&mut self.coder, Event::Fix);
        let corrected = self.model.correct(&mut self.coder, &unit, correction);
        debug_assert_eq!(corrected, Some(wanted), "{unit:?}, {correction:?}");
        self.model.advance(unit.len());
        match unit.kind {
            Kind::Byte => self.counts.bytes += 1,
            _ => self.counts.words += 1,
        }
        true
    }

    /// The cheapest correction that makes `wanted` of a unit.
    fn correction(&self, unit: &Unit, wanted: u32) -> Correction {
        let word = Correction::Word(wanted);
        let neighbour = self.model.table.neighbour(unit.target);
        if self.model.in_base && self.model.moved(unit, neighbour) == wanted {
            return match unit.kind {
                Kind::Byte => word,
                _ => Correction::Neighbour,
            };
        }
        let displacement = match unit.kind {
            Kind::Byte => return word,
            Kind::Pointer => wanted.wrapping_sub(unit.word),
            Kind::Branch => {
                let address = self.model.pack.base_addr.wrapping_add(self.model.produced);
                thumb::target(wanted, address).wrapping_sub(unit.target)
            }
        };
        // Not every word can be made so: another instruction, or a distance that a branch or a number cannot hold.
        let predicted = self.model.displacement(unit);
        let step = unit.step(predicted);
        let steps = displacement.wrapping_sub(predicted) as i32 >> step;
        let displacement = predicted.wrapping_add((steps << step) as u32);
        let is_coded = steps.unsigned_abs() < 1 << 22;
        match is_coded && self.model.moved(unit, displacement) == wanted {
            true => Correction::Displacement(displacement),
            false => word,
        }
    }
}
