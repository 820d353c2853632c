// SPDX-License-Identifier: Apache-2.0
//! Build options (`CONFIG_BLEDFU_*`), written by `build.rs`.

include!(concat!(env!("OUT_DIR"), "/options.rs"));
