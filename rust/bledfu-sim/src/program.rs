// SPDX-License-Identifier: Apache-2.0
//! Programs for a Cortex-M as a linker lays them out: functions that call each other and hold addresses of each other, behind a
//! vector table. A change in one of them moves what is behind it, as between two releases.

use crate::random::Random;

/// A part of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// An instruction of 16 bits.
    Instruction(u16),
    /// `BL` to the function with this name.
    Call(u32),
    /// The address of the function with this name, in the literal pool.
    Address(u32),
    /// A number, in the literal pool.
    Constant(u32),
}

/// A function; its name never changes, its place does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    name: u32,
    parts: Vec<Part>,
}

/// Words of the vector table.
const VECTORS: u32 = 64;
/// RAM of the program: start and size.
pub const RAM: (u32, u32) = (0x2000_0000, 0x4_0000);

/// A program that is not linked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    functions: Vec<Function>,
    next_name: u32,
}

impl Program {
    /// A program with so many functions, about 110 bytes each. Same seed, same program.
    #[must_use]
    pub fn new(seed: u64, functions: u32) -> Self {
        let mut program = Self {
            functions: Vec::new(),
            next_name: 0,
        };
        let mut random = Random::new(seed);
        for _ in 0..functions {
            let function = program.function(&mut random, functions);
            program.functions.push(function);
        }
        program
    }

    fn function(&mut self, random: &mut Random, names: u32) -> Function {
        let name = self.next_name;
        self.next_name += 1;
        let mut parts = vec![Part::Instruction(0xB5F0)]; // push {r4-r7, lr}
        for _ in 0..8 + random.below(40) {
            parts.push(match random.below(12) {
                0 | 1 => Part::Call(random.below(names as usize) as u32),
                2 => Part::Address(random.below(names as usize) as u32),
                3 => Part::Constant(match random.below(2) {
                    0 => RAM.0 + random.below(RAM.1 as usize / 4) as u32 * 4,
                    _ => random.below(0x10000) as u32,
                }),
                // Few instructions are as frequent as most are.
                4..=7 => Part::Instruction([0x4620, 0x2000, 0x4628, 0x6820][random.below(4)]),
                _ => Part::Instruction(0x1800 | random.below(0x600) as u16),
            });
        }
        parts.push(Part::Instruction(0xBDF0)); // pop {r4-r7, pc}
        Function { name, parts }
    }

    /// Adds a function that nothing calls yet, before function number `at`.
    pub fn add_function(&mut self, at: usize, seed: u64) {
        let names = self.functions.len() as u32;
        let function = self.function(&mut Random::new(seed), names);
        self.functions.insert(at, function);
    }

    /// Adds instructions, and a call of the last function, to function number `at`.
    pub fn grow(&mut self, at: usize, instructions: usize) {
        let last = self.next_name - 1;
        let parts = &mut self.functions[at].parts;
        parts.insert(1, Part::Call(last));
        parts.splice(
            1..1,
            (0..instructions as u16).map(|number| Part::Instruction(0x3000 | number & 0x7FF)),
        );
    }

    /// Changes one constant: moves nothing.
    pub fn change_constant(&mut self) {
        let mut parts = self.functions.iter_mut().flat_map(|function| &mut function.parts);
        let constant = parts.find_map(|part| match part {
            Part::Constant(value) if *value < RAM.0 => Some(value),
            _ => None,
        });
        *constant.expect("a program of this size has a constant") ^= 0x155;
    }

    /// The bytes of the program for a vector table at `address`.
    #[must_use]
    pub fn link(&self, address: u32) -> Vec<u8> {
        let mut places = vec![0; self.next_name as usize];
        let mut at = 4 * VECTORS;
        for function in &self.functions {
            places[function.name as usize] = address.wrapping_add(at);
            at += function.size();
        }
        let mut bytes = Vec::with_capacity(at as usize);
        bytes.extend((RAM.0 + RAM.1).to_le_bytes());
        for vector in 1..VECTORS as usize {
            let handler = &self.functions[vector % self.functions.len()];
            bytes.extend((places[handler.name as usize] | 1).to_le_bytes());
        }
        for function in &self.functions {
            function.link(address, &places, &mut bytes);
        }
        bytes
    }
}

impl Function {
    fn code_size(&self) -> u32 {
        let size = |part: &Part| match part {
            Part::Call(_) => 4,
            _ => 2,
        };
        self.parts.iter().map(size).sum::<u32>().next_multiple_of(4)
    }

    fn pool(&self) -> impl Iterator<Item = &Part> {
        self.parts
            .iter()
            .filter(|part| matches!(part, Part::Address(_) | Part::Constant(_)))
    }

    fn size(&self) -> u32 {
        self.code_size() + 4 * self.pool().count() as u32
    }

    fn link(&self, address: u32, places: &[u32], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        let pool = start + self.code_size() as usize;
        let mut pooled = 0;
        for part in &self.parts {
            match part {
                Part::Instruction(halfword) => bytes.extend(halfword.to_le_bytes()),
                Part::Call(name) => {
                    let from = address.wrapping_add(bytes.len() as u32 + 4);
                    let offset = places[*name as usize].wrapping_sub(from) as i32 >> 1;
                    let sign = u16::from(offset < 0);
                    let bit = |place: u32| (offset >> place & 1) as u16;
                    let first = 0xF000 | sign << 10 | (offset >> 11 & 0x3FF) as u16;
                    let (j1, j2) = (1 ^ bit(22) ^ sign, 1 ^ bit(21) ^ sign);
                    let second = 0xD000 | j1 << 13 | j2 << 11 | (offset & 0x7FF) as u16;
                    bytes.extend(first.to_le_bytes());
                    bytes.extend(second.to_le_bytes());
                }
                Part::Address(_) | Part::Constant(_) => {
                    // ldr r0, [pc, #..]
                    let from = (bytes.len() as u32 + 4) & !3;
                    let distance = (pool as u32 + 4 * pooled - from) / 4;
                    pooled += 1;
                    bytes.extend((0x4800 | distance.min(0xFF) as u16).to_le_bytes());
                }
            }
        }
        bytes.resize(pool, 0);
        for part in self.pool() {
            let word = match part {
                Part::Address(name) => places[*name as usize] | 1,
                Part::Constant(value) => *value,
                _ => unreachable!("only these are in the pool"),
            };
            bytes.extend(word.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_the_same_each_time_and_moves_with_its_address() {
        let program = Program::new(1, 200);
        let here = program.link(0xC200);
        assert_eq!(here, Program::new(1, 200).link(0xC200));
        let there = program.link(0x1_C200);
        assert_eq!(here.len(), there.len());
        // Calls are relative: only addresses differ, by one byte each.
        let differ = here
            .iter()
            .zip(&there)
            .filter(|(here, there)| here != there)
            .count();
        assert!(
            differ > 63 && differ < here.len() / 10,
            "{differ} of {}",
            here.len()
        );
    }

    #[test]
    fn a_call_goes_to_its_function() {
        // Two functions; the first calls the second, which is behind it.
        let program = Program {
            functions: vec![
                Function {
                    name: 0,
                    parts: vec![Part::Call(1), Part::Call(0)],
                },
                Function {
                    name: 1,
                    parts: vec![Part::Instruction(0x4770)],
                },
            ],
            next_name: 2,
        };
        let bytes = program.link(0);
        let start = 4 * VECTORS as usize;
        // bl .+8; bl .-4, as an assembler prints them.
        assert_eq!(
            bytes[start..start + 8],
            [0x00, 0xF0, 0x02, 0xF8, 0xFF, 0xF7, 0xFC, 0xFF]
        );
    }
}
