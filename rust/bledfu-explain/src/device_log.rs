// SPDX-License-Identifier: Apache-2.0
//! Log lines of devices that were built with `CONFIG_BLEDFU_LOG_NUMBERS`: numbers back into sentences.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use bledfu_text::{number, DIGITS};

/// Every sentence of this version, one a line (`scripts/texts.py`).
const TEXTS: &str = include_str!("device_log/texts.txt");

/// Sentences inside of each other, more than a device writes. Any log may be read here.
const MOST_LEVELS: u32 = 8;

static SENTENCES: LazyLock<HashMap<u32, &str>> =
    LazyLock::new(|| TEXTS.lines().map(|text| (number(text), text)).collect());

/// The number that a word is, as a device writes it: `#4f06b2`.
fn number_in(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('#')?;
    let is_number = digits.len() == DIGITS as usize && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u32::from_str_radix(digits, 16).ok().filter(|_| is_number)
}

/// The sentence that `word` is the number of, with values from `words`; a word that is no number stands for itself. A value may
/// be a sentence, too, down to `levels`.
fn sentence<'a>(word: &'a str, words: &mut impl Iterator<Item = &'a str>, levels: u32) -> Cow<'a, str> {
    let found = number_in(word).and_then(|number| SENTENCES.get(&number));
    let Some(text) = found.filter(|_| levels > 0) else {
        return Cow::Borrowed(word);
    };
    let mut whole = String::new();
    let mut rest = *text;
    while let Some((before, behind)) = rest.split_once("{}") {
        whole += before;
        whole += &match words.next() {
            Some(word) => sentence(word, words, levels - 1),
            // The device cuts a line that is too long.
            None => Cow::Borrowed("..."),
        };
        rest = behind;
    }
    whole += rest;
    Cow::Owned(whole)
}

/// The line with its number, and all behind it, as a sentence; as it is, if it has none that is known.
#[must_use]
pub fn readable(line: &str) -> Cow<'_, str> {
    let Some(at) = line.match_indices('#').map(|(at, _)| at).find(|at| {
        let word = line[*at..].split_ascii_whitespace().next();
        word.and_then(number_in)
            .is_some_and(|number| SENTENCES.contains_key(&number))
    }) else {
        return Cow::Borrowed(line);
    };
    let (before, behind) = line.split_at(at);
    let mut words = behind.split_ascii_whitespace();
    let mut whole = before.to_owned();
    if let Some(word) = words.next() {
        whole += &sentence(word, &mut words, MOST_LEVELS);
    }
    for word in words {
        whole.push(' ');
        whole += word;
    }
    Cow::Owned(whole)
}

/// Whether the line has a number that no sentence of this version has: the device runs another one.
#[must_use]
pub fn is_foreign(line: &str) -> bool {
    let is_log = line.contains("bledfu");
    is_log
        && line
            .split_ascii_whitespace()
            .filter_map(number_in)
            .any(|number| !SENTENCES.contains_key(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(text: &str) -> String {
        format!("#{:06x}", number(text))
    }

    #[test]
    fn every_sentence_has_a_number_of_its_own() {
        assert_eq!(SENTENCES.len(), TEXTS.lines().count());
        assert!(SENTENCES.len() > 200);
    }

    #[test]
    fn a_line_becomes_the_sentence_with_its_values() {
        let line = format!(
            "[00:00:12.345,678] <inf> bledfu: {} 401408 0\r",
            numbered("an update of {} bytes goes on at {}")
        );
        assert_eq!(
            readable(&line),
            "[00:00:12.345,678] <inf> bledfu: an update of 401408 bytes goes on at 0"
        );
    }

    #[test]
    fn a_value_may_be_a_sentence_with_values() {
        let line = format!(
            "<wrn> bledfu: {} {} 3 4",
            numbered("refused: {}"),
            numbered("the package is for hardware version {}, this is {}")
        );
        assert_eq!(
            readable(&line),
            "<wrn> bledfu: refused: the package is for hardware version 3, this is 4"
        );
        let cut = &line[..line.len() - 2];
        assert_eq!(
            readable(cut),
            "<wrn> bledfu: refused: the package is for hardware version 3, this is ..."
        );
    }

    #[test]
    fn a_line_of_nothing_but_sentences_in_sentences_is_read_to_its_end() {
        let word = numbered("refused: {}");
        let line = vec![word.as_str(); 100_000].join(" ");
        let whole = readable(&line);
        assert_eq!(whole.matches("refused: ").count(), MOST_LEVELS as usize);
        assert!(whole.ends_with(&word));
    }

    #[test]
    fn other_lines_stay_as_they_are() {
        for line in [
            "",
            "#",
            "issue #12",
            "colour #12ab",
            "<inf> bledfu: reset",
            "#ffffff is white",
            "ä #é",
        ] {
            assert_eq!(readable(line), line);
        }
        assert!(is_foreign("<inf> bledfu: #000001 5") && !is_foreign("the colour #000001"));
        assert!(!is_foreign(&format!("<inf> bledfu: {}", numbered("reset"))));
    }
}
