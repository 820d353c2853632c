// SPDX-License-Identifier: Apache-2.0
//! Values that several subcommands take.

/// A number as the tools take it: decimal, or hexadecimal behind 0x.
///
/// # Errors
/// A sentence.
pub fn parse_u32(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign behind the prefix.
        Some(digits) if digits.starts_with(['+', '-']) => None,
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| format!("{text} is not a number from 0 to 0xFFFFFFFF"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse_u32("52"), Ok(52));
        assert_eq!(parse_u32("0xFFFFFFFF"), Ok(u32::MAX));
        for bad in ["", "0x", "-1", "0x-1", "0x+1", "4294967296", "ten"] {
            assert!(parse_u32(bad).is_err(), "{bad}");
        }
    }
}
