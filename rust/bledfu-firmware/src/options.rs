// SPDX-License-Identifier: Apache-2.0
//! Options of the build (`CONFIG_BLEDFU_*`), as `build.rs` found them.

include!(concat!(env!("OUT_DIR"), "/options.rs"));
