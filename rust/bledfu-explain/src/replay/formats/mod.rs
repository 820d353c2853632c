// SPDX-License-Identifier: Apache-2.0
//! Readers: what a line says, one table of patterns for each format. Lines are found by their body, because apps put their own
//! time, tag and level in front. The first pattern that fits a line wins.

use std::sync::LazyLock;

use regex_lite::{Captures, Regex};

use super::fact::{Fact, Format, Place};

mod android;
mod console;
mod device_manager;
mod ios;
mod nrfutil;
mod sdk;
mod zephyr;

/// A pattern of a line, and what its captures say; `None` for a line that looks like it and is not.
pub struct Pattern(pub &'static str, pub fn(&Captures<'_>) -> Option<Fact>);

struct Readers {
    patterns: Vec<(Format, Regex, &'static Pattern)>,
    known: Vec<(Format, Regex)>,
}

/// The tables, and what they know besides.
const TABLES: [(Format, &[Pattern], &str); 7] = [
    (Format::Nrfutil, nrfutil::PATTERNS, nrfutil::KNOWN),
    (Format::Sdk, sdk::PATTERNS, sdk::KNOWN),
    (
        Format::DeviceManager,
        device_manager::PATTERNS,
        device_manager::KNOWN,
    ),
    (Format::Zephyr, zephyr::PATTERNS, zephyr::KNOWN),
    (Format::Ios, ios::PATTERNS, ios::KNOWN),
    (Format::Android, android::PATTERNS, android::KNOWN),
    (Format::Console, console::PATTERNS, console::KNOWN),
];

#[expect(
    clippy::unwrap_used,
    reason = "the patterns are constants, and a test compiles them"
)]
static READERS: LazyLock<Readers> = LazyLock::new(|| {
    let all = TABLES
        .into_iter()
        .flat_map(|(format, table, _)| table.iter().map(move |pattern| (format, pattern)));
    Readers {
        patterns: all
            .map(|(format, pattern)| (format, Regex::new(pattern.0).unwrap(), pattern))
            .collect(),
        known: TABLES
            .into_iter()
            .map(|(format, _, known)| (format, Regex::new(known).unwrap()))
            .collect(),
    }
});

/// What a line says, and in which format; `None` when no reader knows it.
pub fn read(body: &str) -> Option<(Format, Fact)> {
    let readers = &*READERS;
    let fact = readers.patterns.iter().find_map(|(format, regex, pattern)| {
        let fact = pattern.1(&regex.captures(body)?)?;
        Some((*format, fact))
    });
    fact.or_else(|| {
        let mut known = readers.known.iter();
        let (format, _) = known.find(|(_, regex)| regex.is_match(body))?;
        Some((*format, Fact::Known))
    })
}

/// A decimal number.
fn dec(found: &Captures<'_>, group: usize) -> Option<u32> {
    found.get(group)?.as_str().parse().ok()
}

/// A hexadecimal number.
fn hex(found: &Captures<'_>, group: usize) -> Option<u32> {
    u32::from_str_radix(found.get(group)?.as_str(), 16).ok()
}

/// A result code.
fn code(number: u32) -> Option<u8> {
    u8::try_from(number).ok()
}

/// Bytes in hexadecimal, with hyphens or without.
fn bytes(found: &Captures<'_>, group: usize) -> Option<Vec<u8>> {
    let text = found.get(group)?.as_str();
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(
        pairs
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8))
            .collect(),
    )
}

/// The characteristic with this UUID.
fn place(found: &Captures<'_>, group: usize) -> Option<Place> {
    let uuid = found.get(group)?.as_str().to_ascii_lowercase();
    Some(match uuid.get(..8)? {
        "8ec90001" | "00001531" => Place::Control,
        "8ec90002" | "00001532" => Place::Packet,
        "8ec90003" | "8ec90004" | "8e400001" => Place::Buttonless,
        _ => return None,
    })
}

/// An address as a number, to be compared.
fn address(found: &Captures<'_>, group: usize) -> Option<u64> {
    let text = found.get(group)?.as_str();
    u64::from_str_radix(&text.replace([':', '-'], ""), 16).ok()
}

/// A number of Android's library: what `onError` gives, and `Error n` in logs.
fn library_error(number: u32) -> Option<Fact> {
    Some(match number {
        8 | 19 | 22 | 34 | 62 | 133 => Fact::LinkError {
            dfu: true,
            code: number,
        },
        256..=511 => return None,
        512..=1023 => Fact::Remote(code(number - 512)?),
        1024..=2047 => Fact::Extended(code(number - 1024)?),
        2048..=2303 => Fact::Buttonless(code(number - 2048)?),
        4098 => Fact::BadFile,
        4108 => Fact::BadFile,
        4096..=4351 => Fact::Library(number),
        // While it is raw: a remote error, in old versions without its kind.
        8704..=9215 => Fact::Remote(code(number - 8704)?),
        9216..=10239 => Fact::Extended(code(number - 9216)?),
        10240..=10495 => Fact::Buttonless(code(number - 10240)?),
        8192..=8447 => Fact::Remote(code(number - 8192)?),
        _ => return None,
    })
}

/// The result code with this name, in the spellings of the tools.
fn result_name(name: &str) -> Option<u8> {
    let letters: String = name
        .chars()
        .filter(|c| c.is_ascii_alphabetic())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    Some(match letters.as_str() {
        "opcodenotsupported" | "notsupported" => 2,
        "invalidparameter" => 3,
        "insufficientresources" => 4,
        "invalidobject" => 5,
        "unsupportedtype" => 7,
        "operationnotpermitted" => 8,
        "operationfailed" => 10,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_an_unknown_line_is_none() {
        assert_eq!(read("the quick brown fox"), None);
        assert!(READERS.patterns.len() > 100);
    }

    #[test]
    fn the_numbers_of_androids_library_are_told_apart() {
        assert_eq!(library_error(520), Some(Fact::Remote(8)));
        assert_eq!(library_error(8712), Some(Fact::Remote(8)));
        assert_eq!(library_error(8202), Some(Fact::Remote(10)));
        assert_eq!(library_error(1029), Some(Fact::Extended(5)));
        assert_eq!(library_error(4102), Some(Fact::Library(4102)));
        assert_eq!(library_error(1_000_000), None);
    }
}
