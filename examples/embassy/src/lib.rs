// SPDX-License-Identifier: Apache-2.0
//! A device without Zephyr that takes updates: [trouble-host] is its Bluetooth host, [embassy] its runtime, and its partitions are
//! those that `embassy-boot` uses. What a device does with an update is in `bledfu-transfer` and `bledfu-slot`, which are the same
//! as on Zephyr; here is only what connects them.
//!
//! ```text
//!  high priority: ble::run                                   low priority: worker::run
//!  GATT writes, link ── push, link_up, link_down ──► Handover ──► Service::step ──► partitions
//!  notifications     ◄── Order: notify, hurry, close ───┘ ◄────────── Step ──┘
//! ```
//! The two run at two priorities (interrupts on the nRF52840, threads on the PC), because a flash call blocks: the Bluetooth host
//! never waits for one.
//!
//! [trouble-host]: https://crates.io/crates/trouble-host
//! [embassy]: https://embassy.dev
#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod ble;
pub mod device;
pub mod handover;
pub mod worker;
