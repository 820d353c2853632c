// SPDX-License-Identifier: Apache-2.0
//! Updates a device with the crate `nrf_dfu`, over a TCP socket or a serial port that carries its SLIP bytes.
//!
//! `nrf-dfu-client [--force] tcp:HOST:PORT|PATH PACKAGE.zip`
//!
//! Every frame is printed on standard output as the harness expects it: `--> 06 02`, `<-- 60 06 01 …`.
//! The crate offers no way to set its receipt interval (3); the harness builds it a second time with that one
//! constant read from `NRF_DFU_PRN`.

use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use nrf_dfu::archive::FirmwareArchive;
use nrf_dfu::slip::SlipCodec;
use nrf_dfu::updater::{NordicDevice, ResetMode, Updater};

const END: u8 = 0xC0;
const ESC: u8 = 0xDB;

/// Longer than any flash operation of the device; without it a missing answer would hang the crate for ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

struct Device {
    input: BufReader<Box<dyn Read>>,
    output: Box<dyn Write>,
    answer: Vec<u8>,
}

impl Device {
    fn open(port: &str) -> Result<Device, Box<dyn Error>> {
        let (input, output): (Box<dyn Read>, Box<dyn Write>) =
            if let Some(address) = port.strip_prefix("tcp:") {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            } else {
                let file = OpenOptions::new().read(true).write(true).open(port)?;
                // After the open: a terminal forgets its settings with the last one who has it open. With
                // `min 0` a read ends after `time` tenths of a second.
                let raw = ["raw", "-echo", "min", "0", "time", "100"];
                if !Command::new("stty")
                    .arg("-F")
                    .arg(port)
                    .args(raw)
                    .status()?
                    .success()
                {
                    return Err("stty could not set the port to raw mode".into());
                }
                (Box::new(file.try_clone()?), Box::new(file))
            };
        Ok(Device {
            input: BufReader::new(input),
            output,
            answer: Vec::new(),
        })
    }
}

fn print_frame(arrow: &str, encoded: &[u8]) {
    let mut line = String::from(arrow);
    let mut bytes = encoded.iter();
    while let Some(&byte) = bytes.next() {
        let byte = match byte {
            END => continue,
            ESC => match bytes.next() {
                Some(0xDC) => END,
                _ => ESC,
            },
            other => other,
        };
        line.push_str(&format!(" {byte:02x}"));
    }
    println!("{line}");
}

impl Read for Device {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "no answer"));
        }
        let count = self.input.read(buffer)?;
        for &byte in &buffer[..count] {
            self.answer.push(byte);
            if byte == END {
                print_frame("<--", &self.answer);
                self.answer.clear();
            }
        }
        Ok(count)
    }
}

impl Write for Device {
    /// The crate hands over one frame per call and does not look at the count.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        print_frame("-->", frame);
        self.output.write_all(frame)?;
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

impl NordicDevice for Device {
    type Codec = SlipCodec;

    /// Only asked for after a bootloader package, which the device refuses.
    fn reset(&mut self, _: ResetMode) {}
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let force = arguments
        .first()
        .is_some_and(|argument| argument == "--force");
    if force {
        arguments.remove(0);
    }
    let [port, package] = arguments.as_slice() else {
        return Err("usage: nrf-dfu-client [--force] tcp:HOST:PORT|PATH PACKAGE.zip".into());
    };
    let archive = FirmwareArchive::new(package);
    let mut device = Device::open(port)?;
    Updater::new(&mut device, force)
        .update(&archive)
        .map_err(|error| format!("{error:?}"))?;
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("updated");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed: {error}");
            ExitCode::FAILURE
        }
    }
}
