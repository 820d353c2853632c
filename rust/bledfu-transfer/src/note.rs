// SPDX-License-Identifier: Apache-2.0
//! Log lines, for the features `log` and `defmt`; without either the binary contains none. A macro of `log` at each
//! place would keep its file, module and line in flash: 80 bytes that a device's log does not show.

use core::fmt::Arguments;

#[derive(Clone, Copy)]
enum Level {
    Error,
    Warn,
    Info,
}

/// Something failed.
pub fn error(line: Arguments<'_>) {
    write(Level::Error, line);
}

/// A warning.
pub fn warn(line: Arguments<'_>) {
    write(Level::Warn, line);
}

/// Information.
pub fn info(line: Arguments<'_>) {
    write(Level::Info, line);
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
