// SPDX-License-Identifier: Apache-2.0
//! A client on a link to the device, in virtual time.

use crate::common::pattern;
use crate::device::Device;
use bledfu_client::secure_dfu::{Client, Error, Package, Part, Settings};
use bledfu_client::{Action, Characteristic, Stage, UpdateClient};

/// An init packet.
pub fn init() -> Vec<u8> {
    (0..139).map(|i| (i * 5 + 1) as u8).collect()
}

/// A run of a client.
pub struct Run<'d> {
    device: &'d mut Device,
    pub now: u64,
    pub packets: Vec<usize>,
    /// Times at which packets were written.
    pub times: Vec<u64>,
    pub stages: Vec<Stage>,
}

impl<'d> Run<'d> {
    pub fn new(device: &'d mut Device) -> Self {
        Self {
            device,
            now: 1_000,
            packets: Vec::new(),
            times: Vec::new(),
            stages: Vec::new(),
        }
    }

    pub fn update(&mut self, package: Package<'_>, settings: Settings) -> Result<(), Error> {
        self.run(&mut Client::new(package, settings), 244)
    }

    fn look(&mut self, client: &Client<'_>) {
        let stage = client.progress().stage;
        if self.stages.last() != Some(&stage) {
            self.stages.push(stage);
        }
    }

    pub fn run(&mut self, client: &mut Client<'_>, payload: usize) -> Result<(), Error> {
        for _ in 0..1_000_000 {
            let (reply, closes) = match client.poll(self.now) {
                Action::Connect { at_ms } => {
                    self.now = self.now.max(at_ms);
                    self.device.connect();
                    client.connected(self.now, payload);
                    (None, false)
                }
                Action::Write {
                    to: Characteristic::ControlPoint,
                    bytes,
                } => self.device.control(bytes),
                Action::Write { bytes, .. } => {
                    assert!(!bytes.is_empty() && bytes.len() <= payload);
                    self.packets.push(bytes.len());
                    self.times.push(self.now);
                    self.device.packet(bytes)
                }
                Action::Wait { until_ms } | Action::Pause { until_ms } => {
                    self.now = until_ms;
                    (None, false)
                }
                Action::Disconnect => (None, true),
                Action::Done => return Ok(()),
                Action::Failed(error) => return Err(error),
            };
            self.look(client);
            if let Some(reply) = reply {
                client.received(self.now, reply.encode().as_bytes());
                self.look(client);
            }
            if closes {
                client.disconnected(self.now);
            }
        }
        panic!(
            "it does not terminate: {:?}",
            &self.device.log[self.device.log.len() - 20..]
        );
    }
}

pub fn package<'p>(init: &'p [u8], firmware: &'p [u8]) -> Package<'p> {
    Package::of(Part { init, firmware })
}

/// One update of `size` bytes: the control point requests, and the result.
pub fn update(device: &mut Device, settings: Settings) -> (Vec<String>, Result<(), Error>) {
    let (init, image) = (init(), pattern(device.size));
    let end = Run::new(device).update(package(&init, &image), settings);
    if end.is_ok() && !device.closes_at_last_execute {
        assert_eq!(device.commands, [init, image], "the device holds what was sent");
    }
    (std::mem::take(&mut device.log), end)
}

/// How many requests begin so.
pub fn count(log: &[String], begin: &str) -> usize {
    log.iter().filter(|line| line.starts_with(begin)).count()
}
