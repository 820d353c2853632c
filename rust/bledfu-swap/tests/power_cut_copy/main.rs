// SPDX-License-Identifier: Apache-2.0
//! Copy with a kept revert image: power fails before or inside every operation of whole updates, several in a row, once and
//! again during the recovery; what an install costs; and what is done with places that hold something else.

#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod device;
mod places;
