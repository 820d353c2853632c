// SPDX-License-Identifier: Apache-2.0
//! bledfu on a PC: a device in a box, and the tools around it.
//!
//! | Modules | What |
//! |---|---|
//! | [`world`], [`update`] | one update from phone to confirmation in virtual time; `bledfu update` |
//! | [`device`], [`cost`] | the device: flashes, boot stage, application; what its arithmetic costs |
//! | [`serve`] | the same device in real time, for real clients; `bledfu serve` |
//! | [`link`], [`phone`], [`smp_client`] | Bluetooth timing, and the clients of Android, iOS, nrfutil and smpclient |
//! | [`nor`], [`parts`], [`power`] | NOR flash with its rules, times and faults; the power that may be cut |
//! | [`package`], [`init_packet`], [`make`], [`keys`], [`demo`] | packages, init packets, images, keys |
//! | [`install`], [`cut`], [`bench`] | one boot on slot files; the power-cut campaign; what installs cost |
//! | [`mcuboot`] | hand-overs between MCUboot and this boot stage, from traces of MCUboot; part of `bledfu cut` |
//! | [`plain`] | a slot as plain bytes with any units, for these three |
//! | [`inspect`] | what is in a file and what is wrong with it; `bledfu inspect` |
#![forbid(unsafe_code)]

pub mod bench;
pub mod cost;
pub mod cut;
pub mod demo;
pub mod device;
pub mod init_packet;
pub mod inspect;
pub mod install;
pub mod keys;
pub mod link;
pub mod make;
pub mod mcuboot;
pub mod nor;
pub mod package;
pub mod parts;
pub mod phone;
pub mod plain;
pub mod power;
pub mod serve;
pub mod smp_client;
pub mod update;
pub mod world;
