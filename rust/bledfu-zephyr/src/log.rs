// SPDX-License-Identifier: Apache-2.0
//! Sends the `log` crate's lines to Zephyr's log. No heap: a line has a fixed maximum length and is cut beyond it.

use log::{LevelFilter, Log, Metadata, Record};

struct Zephyr;

impl Log for Zephyr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        write(record);
    }

    fn flush(&self) {}
}

/// Writes the line that is the target of the record, with a zero byte at its end: see the feature `whole-lines` of
/// `bledfu-transfer`. Records of others are not shown.
#[cfg(feature = "whole-lines")]
fn write(record: &Record<'_>) {
    let line = record.target().as_bytes();
    if line.last() == Some(&0) {
        // SAFETY: the bytes end with a zero byte; C copies the text.
        unsafe { crate::abi::bledfu_shim_log(record.level() as u8, line.as_ptr()) }
    }
}

#[cfg(not(feature = "whole-lines"))]
use formatted::write;

#[cfg(not(feature = "whole-lines"))]
mod formatted {
    use core::fmt::Write;

    use log::Record;

    use crate::abi;

    /// Maximum length of a line in bytes; it is on the stack, with a final zero byte, while it is written.
    const LINE: usize = 160;

    /// A line that takes whole characters as long as they fit, and keeps room for a final zero byte.
    struct Line(heapless::Vec<u8, { LINE + 1 }>);

    impl Write for Line {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let taken = bledfu_text::fitting(text, LINE - self.0.len());
            match self.0.extend_from_slice(taken.as_bytes()) {
                Ok(()) if taken.len() == text.len() => Ok(()),
                _ => Err(core::fmt::Error),
            }
        }
    }

    pub(super) fn write(record: &Record<'_>) {
        let mut line = Line(heapless::Vec::new());
        // A line that is too long is cut, and one with a zero byte ends there.
        let _ = line.write_fmt(*record.args());
        let _ = line.0.push(0);
        // SAFETY: the bytes end with a zero byte, for which `write_str` leaves room; C copies the text.
        unsafe { abi::bledfu_shim_log(record.level() as u8, line.0.as_ptr()) }
    }
}

/// From now on, sends lines up to `level` to Zephyr's log: 0 none, 1 errors, 2 warnings, 3 information, 4 all, as
/// Zephyr counts.
pub fn init(level: u8) {
    let level = match level {
        0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    log::set_max_level(level);
    // Only the first call can set the logger; every later one would set the same.
    let _ = log::set_logger(&Zephyr);
}

#[cfg(all(test, not(feature = "whole-lines")))]
mod tests {
    use super::*;
    use crate::fake;
    use std::string::String;

    #[test]
    fn lines_have_their_level_and_long_ones_are_cut_at_a_character() {
        let device = fake::device();
        init(3);
        log::warn!("{} bytes", 7);
        log::debug!("not shown");
        log::error!("{}", "ä".repeat(100));
        let lines = device.lines();
        assert_eq!(lines[0], (2, String::from("7 bytes")));
        assert_eq!(lines[1], (1, "ä".repeat(80)));
        assert_eq!(lines.len(), 2);
    }
}

#[cfg(all(test, feature = "whole-lines"))]
mod tests {
    use super::*;
    use crate::fake;
    use std::string::String;

    #[test]
    fn only_whole_lines_are_shown() {
        let device = fake::device();
        init(3);
        log::error!("of another crate");
        let mut record = Record::builder();
        record.level(log::Level::Warn).args(format_args!(""));
        log::logger().log(&record.target("7 bytes\0").build());
        assert_eq!(device.lines(), [(2, String::from("7 bytes"))]);
    }
}
