// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image: the power fails before or inside every operation of whole updates, several in a row,
//! once and again during the recovery. Also what an install costs, and what happens with places that do not hold what
//! their roles say.

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod device;
mod places;
