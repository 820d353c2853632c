// SPDX-License-Identifier: Apache-2.0
//! Log lines, for the features `log` and `defmt`; without either the binary contains none. A macro of `log` at each
//! place would keep its file, module and line in flash: 80 bytes that a device's log does not show.

use bledfu_text::Text;

/// As the crate `log` counts.
#[derive(Clone, Copy)]
enum Level {
    Error = 1,
    Warn,
    Info,
}

/// Something failed.
#[inline(always)]
pub fn error(line: &dyn Text) {
    if is_built(Level::Error) {
        write(Level::Error, line);
    }
}

/// A warning.
#[inline(always)]
pub fn warn(line: &dyn Text) {
    if is_built(Level::Warn) {
        write(Level::Warn, line);
    }
}

/// Information.
#[inline(always)]
pub fn info(line: &dyn Text) {
    if is_built(Level::Info) {
        write(Level::Info, line);
    }
}

/// Whether the binary has lines of this level at all: a text that nobody will see is not in flash.
const fn is_built(level: Level) -> bool {
    #[cfg(feature = "log")]
    return level as usize <= log::STATIC_MAX_LEVEL as usize;
    #[cfg(not(feature = "log"))]
    {
        let _ = level;
        cfg!(feature = "defmt")
    }
}

#[cfg_attr(any(feature = "log", feature = "defmt"), inline(never))]
fn write(level: Level, line: &dyn Text) {
    #[cfg(feature = "log")]
    {
        let level = match level {
            Level::Error => log::Level::Error,
            Level::Warn => log::Level::Warn,
            Level::Info => log::Level::Info,
        };
        #[cfg(feature = "whole-lines")]
        whole_line(level, line);
        #[cfg(not(feature = "whole-lines"))]
        log::log!(level, "{}", bledfu_text::Shown(line));
    }
    // The text is formatted on the device: defmt cannot store a format string on the host that it does not see at
    // compile time.
    #[cfg(feature = "defmt")]
    {
        let line = bledfu_text::Shown(line);
        match level {
            Level::Error => defmt::error!("{}", defmt::Display2Format(&line)),
            Level::Warn => defmt::warn!("{}", defmt::Display2Format(&line)),
            Level::Info => defmt::info!("{}", defmt::Display2Format(&line)),
        }
    }
    #[cfg(not(any(feature = "log", feature = "defmt")))]
    let _ = (level, line);
}

/// Passes the line, with a zero byte at its end, as the target of a record without arguments, for a logger that takes it from
/// there. So nothing of `core::fmt` is linked.
#[cfg(feature = "whole-lines")]
fn whole_line(level: log::Level, line: &dyn Text) {
    if level > log::max_level() {
        return;
    }
    let mut whole = Whole(heapless::String::new());
    line.put(&mut whole);
    let _ = whole.0.push('\0');
    let mut record = log::Record::builder();
    record.level(level).target(&whole.0).args(format_args!(""));
    log::logger().log(&record.build());
}

/// Longest whole line in bytes.
#[cfg(feature = "whole-lines")]
const LONGEST: usize = 160;

/// A line that takes whole characters as long as they fit, and keeps room for a final zero byte.
#[cfg(feature = "whole-lines")]
struct Whole(heapless::String<{ LONGEST + 1 }>);

#[cfg(feature = "whole-lines")]
impl bledfu_text::Line for Whole {
    fn add(&mut self, part: &str) {
        let _ = self
            .0
            .push_str(bledfu_text::fitting(part, LONGEST - self.0.len()));
    }
}

#[cfg(all(test, feature = "whole-lines"))]
mod tests {
    extern crate std;

    use bledfu_text::Line;

    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_cut_at_a_character() {
        let mut whole = Whole(heapless::String::new());
        whole.add("a");
        whole.add(&"ä".repeat(100));
        // No half of a character, and room for the zero byte.
        assert_eq!(whole.0.as_str(), std::format!("a{}", "ä".repeat(79)));
        whole.add("b");
        assert_eq!(whole.0.len(), LONGEST);
        assert!(whole.0.push('\0').is_ok());
    }
}
