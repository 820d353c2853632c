// SPDX-License-Identifier: Apache-2.0
//! `--serial`: Secure DFU in SLIP frames as nrfutil speaks it, or SMP in the lines of a console.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bledfu_client::Characteristic;
use bledfu_wire::secure_dfu::{op, Reply, Request, MAX_REPLY};
use bledfu_wire::{slip, smp_console};
use serial2::{FlowControl, SerialPort, Settings};

use super::transport::{answers_probe, Frames, LinkError, Offer, SmpLimits, Transport, PROBE};
use crate::serve::link::console_lines;
use crate::update::Protocol;

/// Longest frame of SMP: what Zephyr's sample and `bledfu serve` accept at most is less.
const SMP_FRAME: usize = 4096;
/// A frame that every server of SMP takes: Zephyr's smallest default buffer.
const SMALL_FRAME: usize = 384;
/// The CRC that a console adds to a frame takes room in the same buffer of the device.
const CRC_SIZE: u8 = 4;
/// How long to wait for the answer to a probe.
const PROBE_PATIENCE: Duration = Duration::from_millis(700);
/// A port that accepts no byte for this long is stuck.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Shortest wait that the system takes.
const INSTANT: Duration = Duration::from_millis(1);
/// The identifier of our pings.
const PING: u8 = 0xB1;
/// Longest SLIP reply that is read: longer ones are none.
const SLIP_REPLY: usize = 2 * MAX_REPLY;

/// A device on a serial port.
pub struct Serial {
    path: PathBuf,
    baud: u32,
    flow_control: bool,
    port: Option<SerialPort>,
    framing: Framing,
    /// Bytes that were read and not decoded yet.
    unread: Vec<u8>,
    frames: Frames,
    /// Data bytes in a write of Secure DFU.
    payload: usize,
}

enum Framing {
    Slip(slip::Decoder<SLIP_REPLY>),
    Console(Box<smp_console::Decoder<SMP_FRAME>>),
}

impl Framing {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::SecureDfu => Self::Slip(slip::Decoder::new()),
            Protocol::Smp => Self::Console(Box::default()),
        }
    }

    /// A frame that ends with this byte. Damaged ones are dropped: the client asks again.
    fn push(&mut self, byte: u8) -> Option<Vec<u8>> {
        let frame = match self {
            Self::Slip(decoder) => decoder.push(byte)?.map(<[u8]>::to_vec).map_err(|e| e.to_string()),
            Self::Console(decoder) => decoder.push(byte)?.map(<[u8]>::to_vec).map_err(|e| e.to_string()),
        };
        frame.inspect_err(|error| log::info!("{error}")).ok()
    }

    fn encode(&self, frame: &[u8]) -> Vec<u8> {
        match self {
            Self::Slip(_) => slip::encode(frame).collect(),
            Self::Console(_) => console_lines(frame),
        }
    }
}

impl Serial {
    /// A transport over the port at `path`.
    pub fn new(path: PathBuf, baud: u32, flow_control: bool) -> Self {
        Self {
            path,
            baud,
            flow_control,
            port: None,
            framing: Framing::of(Protocol::SecureDfu),
            unread: Vec::new(),
            frames: Frames::default(),
            payload: 1,
        }
    }

    fn port(&mut self) -> Result<&mut SerialPort, LinkError> {
        self.port
            .as_mut()
            .ok_or_else(|| LinkError::Lost("it was closed".to_owned()))
    }

    fn open_port(&self) -> std::io::Result<SerialPort> {
        let settings = |mut settings: Settings| {
            settings.set_raw();
            settings.set_baud_rate(self.baud)?;
            settings.set_flow_control(match self.flow_control {
                true => FlowControl::RtsCts,
                false => FlowControl::None,
            });
            Ok(settings)
        };
        let mut port = SerialPort::open(&self.path, settings)?;
        port.set_write_timeout(WRITE_PATIENCE)?;
        port.discard_input_buffer()?;
        Ok(port)
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        let bytes = self.framing.encode(frame);
        let sent = self.port()?.write_all(&bytes);
        sent.map_err(|error| LinkError::Lost(error.to_string()))
    }

    /// Asks once; the answer that `is_wanted`, others are dropped.
    fn ask(&mut self, frame: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>, LinkError> {
        self.send(frame)?;
        let until = Instant::now() + PROBE_PATIENCE;
        // A console that never stops printing is not the device.
        while Instant::now() < until {
            match self.receive(until.saturating_duration_since(Instant::now()))? {
                Some(answer) if is_wanted(&answer) => return Ok(Some(answer)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    fn offers(&mut self, protocol: Protocol) -> Result<bool, LinkError> {
        self.framing = Framing::of(protocol);
        self.unread.clear();
        Ok(match protocol {
            Protocol::SecureDfu => {
                // Ends whatever the device has received before.
                let ended = self.port()?.write_all(&[0xC0]);
                ended.map_err(|error| LinkError::Lost(error.to_string()))?;
                let ping = Request::Ping { id: PING }.encode();
                let answers = |reply: &[u8]| matches!(Reply::decode(reply), Ok(Reply::Pong(PING)));
                self.ask(ping.as_bytes(), answers)?.is_some()
            }
            Protocol::Smp => self.ask(&PROBE, answers_probe)?.is_some(),
        })
    }
}

impl Transport for Serial {
    fn open(&mut self, expected: Option<Protocol>) -> Result<Offer, LinkError> {
        let shown = self.path.display().to_string();
        self.close();
        let port = self.open_port().map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => LinkError::Unusable(format!(
                "cannot open {shown}: {error}; the user must be allowed to use serial ports (on Linux often the group dialout)"
            )),
            _ => LinkError::NotFound(format!("cannot open {shown}: {error}")),
        })?;
        self.port = Some(port);
        let mut protocols = Vec::new();
        for protocol in [Protocol::SecureDfu, Protocol::Smp] {
            // A port has one protocol: the first that answers.
            if expected.is_none_or(|expected| expected == protocol)
                && protocols.is_empty()
                && self.offers(protocol)?
            {
                protocols.push(protocol);
            }
        }
        if protocols.is_empty() {
            self.close();
            let asked = match expected {
                Some(Protocol::SecureDfu) => "Secure DFU",
                Some(Protocol::Smp) => "SMP",
                None => "Secure DFU or SMP",
            };
            return Err(LinkError::NotFound(format!("nothing answers {asked} at {shown}")));
        }
        Ok(Offer {
            protocols,
            device: shown,
            ..Offer::default()
        })
    }

    fn choose(&mut self, protocol: Protocol) -> Result<usize, LinkError> {
        if protocol == Protocol::Smp {
            return Ok(SMALL_FRAME);
        }
        let is_mtu = |reply: &[u8]| matches!(Reply::decode(reply), Ok(reply) if reply.opcode() == op::MTU);
        let answer = self.ask(Request::Mtu.encode().as_bytes(), is_mtu)?;
        self.payload = match answer.as_deref().map(Reply::decode) {
            // The longest frame if every byte has to be escaped, with op code and END.
            Some(Ok(Reply::Mtu(mtu))) => (usize::from(mtu).saturating_sub(1) / 2).saturating_sub(1),
            // Older targets refuse the question.
            _ => 20,
        };
        if self.payload == 0 {
            return Err(LinkError::Unusable(
                "the device says that its frames have no room for data".to_owned(),
            ));
        }
        Ok(self.payload)
    }

    fn write(&mut self, to: Characteristic, bytes: &[u8]) -> Result<(), LinkError> {
        match to {
            Characteristic::ControlPoint => self.send(bytes),
            Characteristic::Packet => self.send(&[&[op::WRITE], bytes].concat()),
            Characteristic::Smp => match self.frames.push(bytes) {
                Some(frame) => self.send(&frame),
                None => Ok(()),
            },
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, LinkError> {
        let until = Instant::now() + patience;
        let mut is_last = false;
        loop {
            for at in 0..self.unread.len() {
                if let Some(frame) = self.framing.push(self.unread[at]) {
                    self.unread.drain(..=at);
                    return Ok(Some(frame));
                }
            }
            self.unread.clear();
            if is_last {
                return Ok(None);
            }
            let left = until.saturating_duration_since(Instant::now());
            let mut chunk = [0; 1024];
            let port = self.port()?;
            let read = port
                .set_read_timeout(left.max(INSTANT))
                .and_then(|()| port.read(&mut chunk));
            match read {
                Ok(0) => return Err(LinkError::Lost("the port is gone".to_owned())),
                Ok(length) => {
                    self.unread.extend_from_slice(&chunk[..length]);
                    is_last = left.is_zero();
                }
                Err(error) => match error.kind() {
                    ErrorKind::TimedOut | ErrorKind::WouldBlock if left.is_zero() => return Ok(None),
                    ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted => {}
                    _ => return Err(LinkError::Lost(error.to_string())),
                },
            }
        }
    }

    fn close(&mut self) {
        self.port = None;
        self.unread.clear();
        self.frames.clear();
    }

    fn has_links(&self) -> bool {
        false
    }

    fn smp_limits(&self) -> SmpLimits {
        SmpLimits {
            frame_size: SMP_FRAME - usize::from(CRC_SIZE),
            window: 1,
            frame_margin: CRC_SIZE,
        }
    }
}
