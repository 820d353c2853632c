// SPDX-License-Identifier: Apache-2.0
//! A saved text as lines with times: posts hold prose, colours, indentation, several logs, and some run newest first.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

/// Longest part of a line that is read, in bytes. The longest lines of the formats are init packets and CBOR in hex.
const LONGEST_LINE: usize = 16 * 1024;
/// A clock that goes back by more than this has passed midnight, in ms.
const HALF_A_DAY: i64 = 12 * 3600 * 1000;
const DAY: i64 = 24 * 3600 * 1000;

/// One line.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Its time in ms, if it has one. From midnight, or from the start of the device.
    pub at_ms: Option<i64>,
    /// Its text, without colours and indentation.
    pub body: Cow<'a, str>,
}

#[expect(
    clippy::unwrap_used,
    reason = "the patterns are constants, and a test compiles them"
)]
fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

static CLOCK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:^|[^0-9:.])(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,3})(?:,(\d{3}))?)?(?:[^0-9:]|$)")
});
static COLOUR: LazyLock<Regex> = LazyLock::new(|| pattern("\u{1b}\\[[0-9;]*[A-Za-z]"));
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:nRF Connect|nRF Toolbox|nRF Logger|DFU|nRF DFU|Device Manager|nRF Connect Device Manager|Mesh|nRF Blinky), \d{4}-\d{2}-\d{2}\s*$",
    )
});

/// Where in a line its time must end: behind that it is text.
const CLOCK_COLUMNS: usize = 48;

/// Splits a text into logs, and each into lines. A new log begins with the head that the apps write; a text without such heads is
/// one log.
pub fn logs(text: &str) -> Vec<Vec<Line<'_>>> {
    let mut logs: Vec<Vec<Line<'_>>> = vec![Vec::new()];
    for (index, line) in text.lines().enumerate() {
        let mut end = line.len().min(LONGEST_LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let line = line.get(..end).unwrap_or_default();
        let body = match COLOUR.replace_all(line, "") {
            Cow::Borrowed(line) => Cow::Borrowed(line.trim()),
            Cow::Owned(line) => Cow::Owned(line.trim().to_owned()),
        };
        if HEAD.is_match(&body) {
            logs.push(Vec::new());
        }
        let at_ms = clock(&body);
        if let Some(log) = logs.last_mut() {
            log.push(Line {
                number: index + 1,
                at_ms,
                body,
            });
        }
    }
    logs.retain(|log| !log.is_empty());
    for log in &mut logs {
        order(log);
    }
    logs
}

fn clock(body: &str) -> Option<i64> {
    let found = CLOCK.captures(body)?;
    let seconds = found.get(3)?;
    if seconds.end() > CLOCK_COLUMNS {
        return None;
    }
    let number = |group: usize| -> Option<i64> { found.get(group)?.as_str().parse().ok() };
    let fraction = found.get(4).map_or("", |part| part.as_str());
    let ms: i64 = format!("{fraction:0<3}").parse().ok()?;
    let (hour, minute, second) = (number(1)?, number(2)?, number(3)?);
    (minute < 60 && second < 61).then_some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Puts a log that runs newest first into its order, and lets the clock go on over midnight.
fn order(log: &mut [Line<'_>]) {
    let mut rises = 0_usize;
    let mut falls = 0_usize;
    let mut last = None;
    for at in log.iter().filter_map(|line| line.at_ms) {
        if let Some(last) = last {
            rises += usize::from(at > last);
            falls += usize::from(at < last);
        }
        last = Some(at);
    }
    if falls > rises && falls > 2 {
        log.reverse();
    }
    let mut days = 0;
    let mut last = None;
    for line in log {
        let Some(at) = line.at_ms else { continue };
        if last.is_some_and(|last| at + HALF_A_DAY < last) {
            days += 1;
        }
        last = Some(at);
        line.at_ms = Some(at + days * DAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_notation_and_text_is_not_taken_for_a_time() {
        for (line, ms) in [
            ("V\t00:00:01.234\tConnecting", Some(1234)),
            ("2025-03-05 00:00:02,101 Sending", Some(2101)),
            ("[00:00:00.004,000] <inf> mcuboot: x", Some(4)),
            ("03-05 00:01:00.5  123  456 D DfuImpl: x", Some(60_500)),
            ("[00:00:03] INFO x", Some(3000)),
            ("00:00:04,DFU,normal,x", Some(4000)),
            ("C0:FF:EE:00:00:02", None),
            ("V: Starting", None),
            (
                "a text that goes on and on for many columns before it says 10:00:00.000",
                None,
            ),
        ] {
            assert_eq!(clock(line), ms, "{line}");
        }
    }

    #[test]
    fn a_log_that_runs_newest_first_is_turned_and_midnight_is_passed() {
        let log = &logs("I 10:00:03.000 c\nI 10:00:02.500 b\nI 10:00:02.000 b\nI 10:00:01.000 a")[0];
        assert_eq!(
            log.iter().map(|line| line.number).collect::<Vec<_>>(),
            [4, 3, 2, 1]
        );
        let log = &logs("I 23:59:59.000 a\nI 00:00:01.000 b")[0];
        assert_eq!(log[1].at_ms, Some(DAY + 1000));
    }

    #[test]
    fn a_file_with_several_logs_is_split_at_their_heads() {
        let logs = logs(
            "prose\n  nRF Connect, 2025-03-01\nI 10:00:00.000 a\nDFU, 2025-03-02\n\u{1b}[31mred\u{1b}[0m",
        );
        assert_eq!(logs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2]);
        assert_eq!(logs[2][1].body, "red");
    }
}
