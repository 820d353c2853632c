// SPDX-License-Identifier: Apache-2.0
//! What commands print: lines on the standard output, as text or as JSON (a line each), in 80 columns.
//!
//! Printing can fail. A full disk is an error like any other; a reader that is gone (`| head -1`) ends the program
//! silently, as with other Unix tools. So nothing here panics, and commands return the error.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

pub use bledfu_explain::text::{sentence, wrap, wrapping, WIDTH};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::Value;

/// Exit code when the reader of the output is gone: the code that a shell reports for a tool ended by SIGPIPE.
const PIPE_CLOSED: u8 = 128 + 13;

static QUIET: AtomicBool = AtomicBool::new(false);

/// The standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to the standard output")]
pub struct OutputError(#[from] io::Error);

/// From now on, nothing is printed: the exit code is the only result.
pub fn set_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether nothing is printed, progress bars included.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Prints text unchanged.
///
/// # Errors
/// [`OutputError`].
pub fn print(text: Arguments<'_>) -> Result<(), OutputError> {
    if is_quiet() {
        return Ok(());
    }
    let mut out = io::stdout().lock();
    out.write_fmt(text)?;
    Ok(out.flush()?)
}

/// Prints a line, at once.
///
/// # Errors
/// [`OutputError`].
pub fn line(text: Arguments<'_>) -> Result<(), OutputError> {
    print(format_args!("{text}\n"))
}

/// [`line()`] with the arguments of `println!`.
#[macro_export]
macro_rules! outln {
    () => { $crate::output::line(format_args!("")) };
    ($($arg:tt)*) => { $crate::output::line(format_args!($($arg)*)) };
}

/// The form of a command's results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one JSON object in each line.
    Json,
}

impl Format {
    /// JSON, if requested.
    pub const fn of(json: bool) -> Self {
        match json {
            true => Self::Json,
            false => Self::Text,
        }
    }

    /// Prints one fact, in the chosen form.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn fact(self, json: &Value, text: Arguments<'_>) -> Result<(), OutputError> {
        match self {
            Self::Text => line(text),
            Self::Json => line(format_args!("{json}")),
        }
    }

    /// Prints text that has no JSON form.
    ///
    /// # Errors
    /// [`OutputError`].
    pub fn text(self, text: Arguments<'_>) -> Result<(), OutputError> {
        match self {
            Self::Text => line(text),
            Self::Json => Ok(()),
        }
    }
}

/// Prints a table row by row. A cell too long for its column is wrapped.
#[derive(Clone, Copy, Debug)]
pub struct Columns<const N: usize>(pub [(usize, CellAlignment); N]);

impl<const N: usize> Columns<N> {
    /// One row, without a newline at its end.
    pub fn row<T: ToString>(&self, cells: [T; N]) -> String {
        let mut table = Table::new();
        table
            .load_style(comfy_table::presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .add_row(cells.map(|cell| cell.to_string()));
        for (column, (width, alignment)) in table.column_iter_mut().zip(self.0) {
            column.set_padding((0, 1));
            column.set_cell_alignment(alignment);
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width as u16 + 1)));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// Prints why a command failed, and returns the exit code.
pub fn failed(error: &anyhow::Error) -> ExitCode {
    let of_output = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<OutputError>());
    if of_output.is_some_and(|error| error.0.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::from(PIPE_CLOSED);
    }
    // If even this cannot be printed, the exit code remains.
    let _ = writeln!(io::stderr(), "error: {}", sentence(error));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the key: {source}")]
    struct Whole {
        source: io::Error,
    }

    #[test]
    fn a_cause_included_in_its_error_is_not_repeated() {
        let whole = Whole {
            source: io::Error::other("no such file"),
        };
        let error = anyhow::Result::<()>::Err(whole.into())
            .context("the option --key")
            .unwrap_err();
        assert_eq!(
            sentence(&error),
            "the option --key: cannot read the key: no such file"
        );
    }

    #[test]
    fn a_long_cell_is_wrapped_into_its_column() {
        let columns = Columns([
            (8, CellAlignment::Left),
            (12, CellAlignment::Left),
            (6, CellAlignment::Right),
        ]);
        assert_eq!(
            columns.row(["copy", "16 in 8 KiB, error codes", "12345"]),
            "copy     16 in 8 KiB,  12345\n         error codes"
        );
    }
}
