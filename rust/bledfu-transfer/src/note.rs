// SPDX-License-Identifier: Apache-2.0
//! Log lines, for the features `log` and `defmt`; with neither they are not in the binary. A macro of `log` at each place
//! would keep file, module and line of it in flash, 80 bytes that a device's log does not show.

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

/// Something is not as it should be.
pub fn warn(line: Arguments<'_>) {
    write(Level::Warn, line);
}

/// What happens.
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
    // The text is made on the device: defmt cannot keep a format string for the host that it has not seen.
    #[cfg(feature = "defmt")]
    match level {
        Level::Error => defmt::error!("{}", defmt::Display2Format(&line)),
        Level::Warn => defmt::warn!("{}", defmt::Display2Format(&line)),
        Level::Info => defmt::info!("{}", defmt::Display2Format(&line)),
    }
    #[cfg(not(any(feature = "log", feature = "defmt")))]
    let _ = (level, line);
}
