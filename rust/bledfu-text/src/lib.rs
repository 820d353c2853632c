// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

use core::fmt;

/// Where a line is written.
pub trait Line {
    /// Appends characters.
    fn add(&mut self, part: &str);
}

/// The first characters of `part`, as many as fit into `room` bytes: none is cut in half.
#[must_use]
pub fn fitting(part: &str, room: usize) -> &str {
    let mut end = part.len().min(room);
    while !part.is_char_boundary(end) {
        end -= 1;
    }
    part.get(..end).unwrap_or_default()
}

/// What can stand in a line: a sentence, or a value.
pub trait Text {
    /// Appends it.
    fn put(&self, line: &mut dyn Line);
}

/// A sentence of the program, with `{}` in place of each value.
#[derive(Clone, Copy)]
pub struct Words(
    #[cfg(not(feature = "numbers"))] &'static str,
    #[cfg(feature = "numbers")] u32,
);

/// Digits of the number of a sentence.
pub const DIGITS: u32 = 6;

/// The number of a sentence: FNV-1a with 32 bits, folded to 24.
#[must_use]
pub const fn number(text: &str) -> u32 {
    let (mut bytes, mut hash) = (text.as_bytes(), 0x811C_9DC5_u32);
    while let [first, rest @ ..] = bytes {
        hash = (hash ^ *first as u32).wrapping_mul(0x0100_0193);
        bytes = rest;
    }
    (hash >> 24) ^ (hash & 0xFF_FFFF)
}

/// Number of values in a sentence.
#[must_use]
pub const fn values(text: &str) -> usize {
    let (mut bytes, mut count) = (text.as_bytes(), 0);
    while let [first, rest @ ..] = bytes {
        if *first == b'{' {
            count += 1;
        }
        bytes = rest;
    }
    count
}

impl Words {
    /// For the macros [`words!`] and [`text!`], which let it happen at compile time.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        #[cfg(not(feature = "numbers"))]
        return Self(text);
        #[cfg(feature = "numbers")]
        return Self(number(text));
    }
}

impl Text for Words {
    fn put(&self, line: &mut dyn Line) {
        put_sentence(*self, &[], line);
    }
}

/// A sentence with its values; see [`text!`].
#[derive(Clone, Copy)]
pub struct Sentence<'a> {
    /// The sentence.
    pub words: Words,
    /// As many as it has room for.
    pub values: &'a [&'a dyn Text],
}

impl Text for Sentence<'_> {
    fn put(&self, line: &mut dyn Line) {
        put_sentence(self.words, self.values, line);
    }
}

#[cfg(not(feature = "numbers"))]
fn put_sentence(words: Words, values: &[&dyn Text], line: &mut dyn Line) {
    let mut rest = words.0;
    // A search with `core` would be more code than all of this.
    for value in values {
        let place = rest.bytes().take_while(|byte| *byte != b'{').count();
        line.add(rest.get(..place).unwrap_or_default());
        value.put(line);
        rest = rest.get(place + "{}".len()..).unwrap_or_default();
    }
    line.add(rest);
}

#[cfg(feature = "numbers")]
fn put_sentence(words: Words, values: &[&dyn Text], line: &mut dyn Line) {
    line.add("#");
    put_digits(words.0, 16, DIGITS, line);
    for value in values {
        line.add(" ");
        value.put(line);
    }
}

/// A sentence of the program without values.
#[macro_export]
macro_rules! words {
    ($text:literal) => {{
        const WORDS: $crate::Words = {
            assert!($crate::values($text) == 0, "this sentence needs values: text!");
            $crate::Words::new($text)
        };
        WORDS
    }};
}

/// A sentence of the program, and a value for each `{}`. It lives as long as the statement, like `format_args!`.
#[macro_export]
macro_rules! text {
    ($text:literal $(, $value:expr)* $(,)?) => {
        $crate::Sentence {
            words: {
                const WORDS: $crate::Words = {
                    const VALUES: &[&str] = &[$(stringify!($value)),*];
                    assert!($crate::values($text) == VALUES.len(), "a sentence needs one value for each place");
                    $crate::Words::new($text)
                };
                WORDS
            },
            values: &[$(&$value as &dyn $crate::Text),*],
        }
    };
}

/// At least `least` digits.
fn put_digits(value: u32, base: u32, least: u32, line: &mut dyn Line) {
    let mut unit = 1;
    let mut digits = 1;
    while digits < least || value / unit >= base {
        unit *= base;
        digits += 1;
    }
    while unit > 0 {
        let digit = (value / unit % base) as usize;
        line.add("0123456789abcdef".get(digit..=digit).unwrap_or_default());
        unit /= base;
    }
}

impl Text for u32 {
    fn put(&self, line: &mut dyn Line) {
        put_digits(*self, 10, 1, line);
    }
}

impl Text for u16 {
    fn put(&self, line: &mut dyn Line) {
        u32::from(*self).put(line);
    }
}

impl Text for u8 {
    fn put(&self, line: &mut dyn Line) {
        u32::from(*self).put(line);
    }
}

/// As a length or a number of things, it is below 2³² on every device.
impl Text for usize {
    fn put(&self, line: &mut dyn Line) {
        u32::try_from(*self).unwrap_or(u32::MAX).put(line);
    }
}

impl Text for i32 {
    fn put(&self, line: &mut dyn Line) {
        if *self < 0 {
            line.add("-");
        }
        self.unsigned_abs().put(line);
    }
}

/// Characters that are known only at run time. They must not contain a space.
impl Text for str {
    fn put(&self, line: &mut dyn Line) {
        line.add(self);
    }
}

impl<T: Text + ?Sized> Text for &T {
    fn put(&self, line: &mut dyn Line) {
        (**self).put(line);
    }
}

/// A number as `0x` and at least so many hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Hex(pub u32, pub u32);

impl Text for Hex {
    fn put(&self, line: &mut dyn Line) {
        line.add("0x");
        put_digits(self.0, 16, self.1, line);
    }
}

/// A byte as two hexadecimal digits, as protocols write their op codes: `0B`.
#[derive(Clone, Copy)]
pub struct Octet(pub u8);

impl Text for Octet {
    fn put(&self, line: &mut dyn Line) {
        for digit in [self.0 >> 4, self.0 & 15].map(usize::from) {
            line.add("0123456789ABCDEF".get(digit..=digit).unwrap_or_default());
        }
    }
}

/// Several values that are one, such as a version: nothing stands between them.
#[derive(Clone, Copy)]
pub struct Joined<'a>(pub &'a [&'a dyn Text]);

impl Text for Joined<'_> {
    fn put(&self, line: &mut dyn Line) {
        for part in self.0 {
            part.put(line);
        }
    }
}

/// Where `core::fmt` writes.
struct Formatted<'a, 'f> {
    to: &'a mut fmt::Formatter<'f>,
    result: fmt::Result,
}

impl Line for Formatted<'_, '_> {
    fn add(&mut self, part: &str) {
        if self.result.is_ok() {
            self.result = self.to.write_str(part);
        }
    }
}

/// Writes a text with `core::fmt`.
///
/// # Errors
/// That of the formatter.
pub fn format(text: &dyn Text, to: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = Formatted { to, result: Ok(()) };
    text.put(&mut line);
    line.result
}

/// A text for `core::fmt`.
pub struct Shown<'a>(pub &'a dyn Text);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format(self.0, f)
    }
}

/// `core::fmt::Display` of types that are a [`Text`].
#[macro_export]
macro_rules! display {
    ($($type:ty),+ $(,)?) => {$(
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                $crate::format(self, f)
            }
        }
    )+};
}

display!(Words, Sentence<'_>);

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use super::*;

    struct Whole(String);

    impl Line for Whole {
        fn add(&mut self, part: &str) {
            self.0.push_str(part);
        }
    }

    fn line(text: &dyn Text) -> String {
        let mut whole = Whole(String::new());
        text.put(&mut whole);
        assert_eq!(whole.0, Shown(text).to_string());
        whole.0
    }

    struct Reason;

    impl Text for Reason {
        fn put(&self, line: &mut dyn Line) {
            text!("{} of {}", 3_u32, 5_u32).put(line);
        }
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for (text, wanted) in [
            (&0_u32 as &dyn Text, "0"),
            (&7_u8, "7"),
            (&65_535_u16, "65535"),
            (&u32::MAX, "4294967295"),
            (&1_000_000_000_u32, "1000000000"),
            (&i32::MIN, "-2147483648"),
            (&usize::MAX, "4294967295"),
            (&Hex(0, 4), "0x0000"),
            (&Hex(0xBFA0, 1), "0xbfa0"),
            (&Hex(u32::MAX, 8), "0xffffffff"),
            (&Octet(0x0B), "0B"),
            (&Joined(&[&1_u8, &".", &0_u8]), "1.0"),
        ] {
            assert_eq!(line(text), wanted);
        }
    }

    #[test]
    fn a_sentence_is_its_text_or_its_number() {
        let [over, refused] = [
            line(&words!("it is over")),
            line(&text!("refused with {}: {}!", -5_i32, Reason)),
        ];
        if cfg!(feature = "numbers") {
            let [first, second, third] = ["it is over", "refused with {}: {}!", "{} of {}"]
                .map(|text| std::format!("#{:06x}", number(text)));
            assert_eq!([over, refused], [first, std::format!("{second} -5 {third} 3 5")]);
        } else {
            assert_eq!(
                [over.as_str(), refused.as_str()],
                ["it is over", "refused with -5: 3 of 5!"]
            );
        }
    }
}
