// SPDX-License-Identifier: Apache-2.0
//! Log lines, for the features `log` and `defmt`; without either the binary contains none. A macro of `log` at each
//! place would keep its file, module and line in flash: 80 bytes that a device's log does not show.

use core::fmt::Arguments;

/// As the crate `log` counts.
#[derive(Clone, Copy)]
enum Level {
    Error = 1,
    Warn,
    Info,
}

/// Something failed.
#[inline(always)]
pub fn error(line: Arguments<'_>) {
    if is_built(Level::Error) {
        write(Level::Error, line);
    }
}

/// A warning.
#[inline(always)]
pub fn warn(line: Arguments<'_>) {
    if is_built(Level::Warn) {
        write(Level::Warn, line);
    }
}

/// Information.
#[inline(always)]
pub fn info(line: Arguments<'_>) {
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
fn write(level: Level, line: Arguments<'_>) {
    #[cfg(feature = "log")]
    log::log!(
        match level {
            Level::Error => log::Level::Error,
            Level::Warn => log::Level::Warn,
            Level::Info => log::Level::Info,
        },
        "{line}"
    );
    // The text is formatted on the device: defmt cannot store a format string on the host that it does not see at
    // compile time.
    #[cfg(feature = "defmt")]
    match level {
        Level::Error => defmt::error!("{}", defmt::Display2Format(&line)),
        Level::Warn => defmt::warn!("{}", defmt::Display2Format(&line)),
        Level::Info => defmt::info!("{}", defmt::Display2Format(&line)),
    }
    #[cfg(not(any(feature = "log", feature = "defmt")))]
    let _ = (level, line);
}
