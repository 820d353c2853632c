// SPDX-License-Identifier: Apache-2.0
//! Values of options, read in the same way wherever they are typed.

use anyhow::{bail, Result};
use bledfu_sim::parts::{self, Part};
use bledfu_slot::Algorithm;
use bledfu_transfer::init_check::SoftDevicePolicy;

/// A number in the tools' notation: decimal, or hexadecimal after 0x.
///
/// # Errors
/// A sentence.
pub fn parse_u32(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would accept a sign after the prefix.
        Some(digits) if digits.starts_with(['+', '-']) => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| format!("{text} is not a number from 0 to 0xFFFFFFFF"))
}

/// The install algorithm with this name.
///
/// # Errors
/// A sentence that lists the known names.
pub fn find_algorithm(name: &str) -> Result<Algorithm> {
    let found = Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.as_str() == name);
    match found {
        Some(algorithm) => Ok(algorithm),
        None => bail!(
            "there is no install algorithm {name:?}; known are: {}",
            Algorithm::ALL.map(Algorithm::as_str).join(", ")
        ),
    }
}

/// The external part or internal flash with this name.
///
/// # Errors
/// A sentence that lists the known names.
pub fn find_part(name: &str, internal: bool) -> Result<&'static Part> {
    let (what, known) = match internal {
        true => ("internal flash", parts::internal_names()),
        false => ("part", parts::external_names()),
    };
    match parts::find(name).filter(|part| part.internal == internal) {
        Some(part) => Ok(part),
        None => bail!("there is no {what} {name:?}; known are: {}", known.join(", ")),
    }
}

/// Parses `--sd-policy`.
///
/// # Errors
/// A sentence that lists the accepted values.
pub fn parse_sd_policy(text: &str) -> Result<SoftDevicePolicy<'static>> {
    Ok(match text {
        "none" => SoftDevicePolicy::Absent,
        "ignore" => SoftDevicePolicy::Ignore,
        list => {
            let ids: Result<Vec<u32>, _> = list.split(',').map(|id| parse_u32(id.trim())).collect();
            match ids {
                Ok(ids) => SoftDevicePolicy::ActAs(ids.leak()),
                Err(_) => bail!("--sd-policy takes none, ignore, or a list of numbers, not {list:?}"),
            }
        }
    })
}
