// SPDX-License-Identifier: Apache-2.0
//! `bledfu send` to a target that was not written here: the crate `nrf-dfu-target`, behind a terminal. It takes the whole flash as
//! one object, answers Execute at once, knows no init packet after a reset, and never tells what runs.

use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use bledfu_wire::slip;
use embedded_storage_async::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use nrf_dfu_target::prelude::{DfuRequest, DfuStatus, DfuTarget, FirmwareInfo, FirmwareType, HardwareInfo};
use rustix::pty::OpenptFlags;

use crate::common::vector;
use crate::send::Sending;

const MTU: usize = 132;
const CAPACITY: usize = 64 * 1024;

/// Flash as bytes.
struct Flash(Arc<Mutex<Vec<u8>>>);

impl ErrorType for Flash {
    type Error = std::convert::Infallible;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        let at = offset as usize;
        bytes.copy_from_slice(&self.0.lock().unwrap()[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        CAPACITY
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.0.lock().unwrap()[from as usize..to as usize].fill(0xFF);
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let at = offset as usize;
        let flash = &mut self.0.lock().unwrap()[at..at + bytes.len()];
        flash.iter_mut().zip(bytes).for_each(|(old, new)| *old &= new);
        Ok(())
    }
}

fn target() -> DfuTarget<MTU> {
    DfuTarget::new(
        CAPACITY as u32,
        FirmwareInfo {
            ftype: FirmwareType::Application,
            version: 1,
            addr: 0,
            len: 0,
        },
        HardwareInfo {
            part: 0x52840,
            variant: 0,
            rom_size: 0,
            ram_size: 0,
            rom_page_size: 4096,
        },
    )
}

/// The device: it resets when it is told that the transfer is done.
fn serve(terminal: &impl AsFd, flash: &Arc<Mutex<Vec<u8>>>) {
    let mut memory = Flash(flash.clone());
    let mut device = target();
    let mut decoder = slip::Decoder::<1024>::new();
    let mut chunk = [0; 1024];
    loop {
        let Ok(length @ 1..) = rustix::io::read(terminal, &mut chunk) else {
            // Nobody has the terminal open.
            std::thread::sleep(std::time::Duration::from_millis(5));
            continue;
        };
        for &byte in &chunk[..length] {
            let Some(Ok(frame)) = decoder.push(byte) else {
                continue;
            };
            let Ok((request, _)) = DfuRequest::decode(frame) else {
                continue;
            };
            let is_write = matches!(request, DfuRequest::Write { .. });
            let (response, status) = pollster::block_on(device.process(request, &mut memory));
            let mut answer = [0; 64];
            let length = response.encode(&mut answer).unwrap();
            // Without receipts a write has no answer.
            if !is_write {
                let bytes: Vec<u8> = slip::encode(&answer[..length]).collect();
                rustix::io::write(terminal, &bytes).unwrap();
            }
            if status == DfuStatus::DoneReset {
                device = target();
            }
        }
    }
}

#[test]
fn a_target_that_was_not_written_here_receives_every_byte_and_is_not_said_to_run_it() {
    let terminal = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&terminal).unwrap();
    rustix::pty::unlockpt(&terminal).unwrap();
    let path = rustix::pty::ptsname(&terminal, Vec::new())
        .unwrap()
        .into_string()
        .unwrap();
    let flash = Arc::new(Mutex::new(vec![0; CAPACITY]));
    let held = flash.clone();
    std::thread::spawn(move || serve(&terminal, &held));
    let mut sending = Sending::start("packages/medium-2.3.4.zip", &["--serial", &path]);
    let (status, said) = sending.end();
    let image = std::fs::read(vector("images/medium-2.3.4.signed.bin")).unwrap();
    assert!(flash.lock().unwrap().starts_with(&image), "{said}");
    assert!(sending.has("verified"));
    assert!(!status.success() && !sending.has("runs"));
    assert!(said.contains("or this device never tells"), "{said}");
}
