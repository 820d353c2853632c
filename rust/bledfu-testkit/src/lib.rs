// SPDX-License-Identifier: Apache-2.0
//! Test doubles that all crates of bledfu share.
//!
//! | Module | Holds |
//! |---|---|
//! | [`nor`] | [`Nor`], a NOR flash in RAM that checks its caller and fails on demand |
//! | [`power`] | [`Power`], the supply of all chips: counts operations and cuts one of them short, as [`Tear`] says |
//! | [`hostile`] | weak cells and wrong reads of a [`Nor`], as in the simulator |
//! | [`image`] | [`Image`] and [`Key`], to build and sign MCUboot images, broken ones included |
//! | [`program`] | [`Program`], firmware for a Cortex-M that changes as between two releases |
//! | [`random`] | [`Random`], a small seeded generator |
//!
//! This crate depends on no other crate of bledfu, so that their unit tests can use it: it is a dev-dependency by path
//! and is never published. It panics when a test uses it wrongly.
//!
//! ```
//! use bledfu_testkit::{Nor, Power, Tear};
//! use embedded_storage::nor_flash::NorFlash;
//!
//! let power = Power::new();
//! let mut flash = Nor::<4>::new('s', 2, &power);
//! power.cut_at(1, Tear::Before);
//! let page = [0x5A_A5_5A_A5_u32; 2]; // words: buffers must be word-aligned
//! let bytes: Vec<u8> = page.iter().flat_map(|word| word.to_le_bytes()).collect();
//! flash.write(0, &bytes).unwrap();
//! assert!(flash.write(8, &bytes).is_err(), "the supply fails at the second operation");
//! power.on();
//! assert_eq!(flash.bytes[..8], bytes);
//! assert_eq!(flash.bytes[8..16], [0xFF; 8]);
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

// One model for both: the simulator is published with it, this crate is not.
#[path = "../../bledfu-sim/src/hostile.rs"]
pub mod hostile;
pub mod image;
pub mod nor;
pub mod power;
#[path = "../../bledfu-sim/src/program.rs"]
pub mod program;
#[path = "../../bledfu-sim/src/random.rs"]
pub mod random;

pub use hostile::{Choice, Misreads, Weak, WeakCells};
pub use image::{der_integer, der_signature, sha256, Image, Key};
pub use nor::{Nor, NorError, SECTOR};
pub use power::{Op, Power, Tear};
pub use program::Program;
pub use random::Random;
