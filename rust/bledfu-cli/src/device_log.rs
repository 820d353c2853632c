// SPDX-License-Identifier: Apache-2.0
//! `bledfu log`: the log of a device that logs numbers, as sentences, line by line as they come.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use bledfu_explain::device_log::{is_foreign, readable};
use clap::Args;
use serial2::SerialPort;

use crate::outln;

/// Speed of the console of most boards.
const BAUD: u32 = 115_200;
/// Longest line in bytes; what is behind them is shown as the next one.
const MOST_BYTES: usize = 1 << 16;

/// Options of `bledfu log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// A file, or the serial port of the device's console; - is the standard input.
    #[arg(default_value = "-")]
    pub log: PathBuf,
    /// Speed of a serial port.
    #[arg(long, default_value_t = BAUD, value_name = "BAUD")]
    pub baud: u32,
}

/// Runs `bledfu log`, until the file ends or the port is gone.
///
/// # Errors
/// One sentence: the log could not be read.
pub fn cmd_log(args: &LogArgs) -> Result<ExitCode> {
    let shown = args.log.display();
    let source = open(&args.log, args.baud).with_context(|| format!("cannot read {shown}"))?;
    let mut source = BufReader::new(source);
    let (mut bytes, mut is_told) = (Vec::new(), false);
    loop {
        let room = (MOST_BYTES - bytes.len()) as u64;
        match source.by_ref().take(room).read_until(b'\n', &mut bytes) {
            Ok(0) => return Ok(ExitCode::SUCCESS),
            Ok(_) => {}
            // A port without news: what has come of a line waits for the rest.
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim_end_matches(['\r', '\n']);
        if !is_told && is_foreign(line) {
            is_told = true;
            log::warn!(
                "a line has a number that this version of bledfu does not know: the device runs another version"
            );
        }
        outln!("{}", readable(line))?;
        bytes.clear();
    }
}

/// Only a serial port has a speed; anything else is read as a file.
fn open(path: &Path, baud: u32) -> io::Result<Box<dyn Read>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let is_file = path.metadata().is_ok_and(|found| found.is_file());
    Ok(match is_file {
        true => Box::new(File::open(path)?),
        false => match SerialPort::open(path, baud) {
            Ok(port) => Box::new(port),
            // A pipe, for example.
            Err(_) if path.exists() => Box::new(File::open(path)?),
            Err(error) => return Err(error),
        },
    })
}
