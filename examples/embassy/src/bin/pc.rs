// SPDX-License-Identifier: Apache-2.0
//! The device on a PC: its controller is behind a TCP port that speaks H4, its flashes are files.
//!
//! ```text
//! pc HOST:PORT INTERNAL.bin EXTERNAL.bin
//! ```
//! Files that do not exist are made, erased. It ends with exit code 0 when the device would reset: what a boot stage would find
//! is in the files. Killing it is a power cut.

use bledfu_example_embassy::device::{self, Device};
use bledfu_example_embassy::handover::Handover;
use bledfu_example_embassy::{ble, worker};
use bledfu_transfer::event::Event;
use bt_hci_serial::SerialTransport;
use core::cell::RefCell;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::blocking_mutex::Mutex;
use embedded_io_adapters::tokio_1::FromTokio;
use embedded_storage_file::NorMemoryInFile;
use std::error::Error;
use std::future::Future;
use std::process::ExitCode;
use std::{env, io, process, thread};
use tokio::net::TcpStream;

/// Units of the two flashes, as those of an nRF52840 and its QSPI peripheral.
type Internal = NorMemoryInFile<1, 4, 4096>;
type External = NorMemoryInFile<4, 4, 4096>;
const INTERNAL_SIZE: usize = 1024 * 1024;
const EXTERNAL_SIZE: usize = 2 * 1024 * 1024;
/// Static random: the two highest bits are ones.
const ADDRESS: [u8; 6] = [0x01, 0x00, 0x00, 0xDF, 0xE5, 0xC0];

static HANDOVER: Handover = Handover::new();

fn main() -> ExitCode {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .target(env_logger::Target::Stdout)
        .init();
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [controller, internal, external] = arguments.as_slice() else {
        eprintln!("usage: pc HOST:PORT INTERNAL.bin EXTERNAL.bin");
        return ExitCode::from(2);
    };
    match run(controller, internal.clone(), external.clone()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The Bluetooth host here, the worker in a thread of its own: its flash calls block.
fn run(controller: &str, internal: String, external: String) -> Result<(), Box<dyn Error>> {
    thread::spawn(move || {
        if let Err(error) = update_service(&internal, &external) {
            eprintln!("error: no updates: {error}");
            process::exit(1);
        }
    });
    block_on(async {
        let stream = TcpStream::connect(controller).await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let transport =
            SerialTransport::<NoopRawMutex, _, _>::new(FromTokio::new(reader), FromTokio::new(writer));
        ble::run(transport, ADDRESS, &HANDOVER)
            .await
            .map_err(|error| format!("the Bluetooth host has ended: {error:?}"))?;
        Ok(())
    })?
}

fn update_service(internal: &str, external: &str) -> Result<(), Box<dyn Error>> {
    let internal = Mutex::new(RefCell::new(Internal::new(internal, INTERNAL_SIZE)?));
    let external = Mutex::new(RefCell::new(External::new(external, EXTERNAL_SIZE)?));
    let mut memory = device::Memory::new();
    let mut service =
        device::updates(&internal, &external, &mut memory, false).map_err(|error| error.to_string())?;
    // The self-test of this application is that it has come this far.
    HANDOVER.confirm();
    block_on(worker::run(&mut service, &HANDOVER, &mut Pc))?
}

fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(future))
}

struct Pc;

impl Device for Pc {
    fn tell(&mut self, event: Event) {
        log::info!("{event:?}");
    }

    fn reset(&mut self) {
        log::info!("reset");
        process::exit(0);
    }
}
