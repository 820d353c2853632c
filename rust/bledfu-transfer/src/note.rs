// SPDX-License-Identifier: Apache-2.0
//! Log lines. A macro of `log` at each place would keep file, module and line of it in flash, 80 bytes that a device's
//! log does not show.

use core::fmt::Arguments;
use log::Level;

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

#[inline(never)]
fn write(level: Level, line: Arguments<'_>) {
    log::log!(level, "{line}");
}
