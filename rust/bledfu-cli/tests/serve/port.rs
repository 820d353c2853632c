// SPDX-License-Identifier: Apache-2.0
//! A client's end of a wire: the Bluetooth door, or a serial one.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::{Client, Phone, Session};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_wire::secure_dfu::op;
use bledfu_wire::slip;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::common::vector;
use crate::server::PATIENCE;

const SERIAL_PAYLOAD: usize = 64;

pub fn package(name: &str) -> Package {
    Package::read(&std::fs::read(vector(&format!("packages/{name}.zip"))).unwrap()).unwrap()
}

#[derive(Clone, Copy, PartialEq)]
pub enum Framing {
    Slip,
    Gatt,
}

/// A client's end of a wire.
pub struct Port {
    pub fd: OwnedFd,
    pub framing: Framing,
    pub received: Vec<u8>,
    pub since: Instant,
}

impl Port {
    pub fn new(fd: OwnedFd, framing: Framing) -> Self {
        Self {
            fd,
            framing,
            received: Vec::new(),
            since: Instant::now(),
        }
    }

    pub fn send(&self, bytes: &[u8]) -> Result<(), PhoneError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(&self.fd, rest).map_err(|_| PhoneError::LinkLost)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    pub fn write(&self, kind: u8, bytes: &[u8]) -> Result<(), PhoneError> {
        match self.framing {
            Framing::Gatt => {
                let [low, high] = (bytes.len() as u16).to_le_bytes();
                self.send(&[&[low, high, kind], bytes].concat())
            }
            Framing::Slip if kind == 2 => {
                self.send(&slip::encode(&[&[op::WRITE], bytes].concat()).collect::<Vec<u8>>())
            }
            Framing::Slip => self.send(&slip::encode(bytes).collect::<Vec<u8>>()),
        }
    }

    /// The next frame, if it is whole.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let end = match (self.framing, self.received.as_slice()) {
            (Framing::Gatt, [low, high, 0x81, ..]) => 3 + usize::from(u16::from_le_bytes([*low, *high])),
            (Framing::Gatt, _) => return None,
            (Framing::Slip, bytes) => 1 + bytes.iter().position(|byte| *byte == 0xC0)?,
        };
        if self.received.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.received.drain(..end).collect();
        Some(match self.framing {
            Framing::Gatt => frame[3..].to_vec(),
            Framing::Slip => {
                assert_eq!(frame[0], 0x60, "no end in front");
                let mut decoder = slip::Decoder::<64>::new();
                frame
                    .iter()
                    .find_map(|byte| Some(decoder.push(*byte)?.unwrap().to_vec()))
                    .unwrap()
            }
        })
    }

    /// Waits for more bytes.
    pub fn receive(&mut self) -> Result<(), PhoneError> {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let timeout = Timespec {
            tv_sec: PATIENCE.as_secs() as i64,
            tv_nsec: 0,
        };
        if rustix::event::poll(&mut fds, Some(&timeout)) == Ok(0) {
            return Err(PhoneError::NoAnswer(0));
        }
        let mut chunk = [0; 256];
        match rustix::io::read(&self.fd, &mut chunk) {
            Ok(0) | Err(_) => return Err(PhoneError::LinkLost),
            Ok(length) => self.received.extend_from_slice(&chunk[..length]),
        }
        Ok(())
    }

    pub fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.control(request).unwrap();
        self.notification().unwrap()
    }

    /// Whether the device closes the link without another notification.
    pub fn is_closed(&mut self) -> bool {
        self.notification() == Err(PhoneError::LinkLost)
    }

    pub fn update(&mut self, name: &str) -> Result<Session, PhoneError> {
        Client::new(self, Phone::Android, 0).update(&package(name), &mut |_| ())
    }
}

impl DfuLink for Port {
    fn payload(&self) -> usize {
        match self.framing {
            Framing::Gatt => 244,
            Framing::Slip => SERIAL_PAYLOAD,
        }
    }

    fn control(&mut self, request: &[u8]) -> Result<(), PhoneError> {
        self.write(1, request)
    }

    fn packet(&mut self, bytes: &[u8]) -> Result<(), PhoneError> {
        self.write(2, bytes)
    }

    fn notification(&mut self) -> Result<Vec<u8>, PhoneError> {
        loop {
            if let Some(frame) = self.take() {
                return Ok(frame);
            }
            self.receive()?;
        }
    }

    fn wait_ms(&mut self, ms: u64) -> Result<(), PhoneError> {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.since.elapsed().as_nanos() as u64
    }
}
