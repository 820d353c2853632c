// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]

mod explain;
mod update;

/// An error as JavaScript sees it: a sentence.
fn sentence(error: &anyhow::Error) -> String {
    bledfu_explain::text::sentence(error)
}

/// A key is never made here, so a random number is never drawn.
fn no_random_numbers(_: &mut [u8]) -> Result<(), getrandom::Error> {
    Err(getrandom::Error::UNSUPPORTED)
}

getrandom::register_custom_getrandom!(no_random_numbers);
