// SPDX-License-Identifier: Apache-2.0
//! What a boot does with given flash contents: the cases of MCUboot's behaviour that are not about power cuts.

#[path = "../common/mod.rs"]
mod common;
mod device;
mod failures;
mod geometries;
mod jobs;
mod policies;
mod repairs;
mod requests;
mod reverts;
