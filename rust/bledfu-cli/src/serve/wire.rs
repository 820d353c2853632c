// SPDX-License-Identifier: Apache-2.0
//! A peer's connection: a socket or the device's side of a pseudo-terminal, and its framing.
//!
//! ```text
//! SLIP   escaped bytes … C0                both ways, one request or reply a frame
//! GATT   u16le n │ u8 kind │ n bytes       kind 01 control point write, 02 packet write, 81 notification of the control point,
//!                                               03 SMP write, 83 SMP notification: both in fragments of up to MTU − 3 bytes
//! ```
//! Every call has a time limit.

use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bledfu_transfer::ring::{Channel, Frame, MAX_FRAME};
use bledfu_transfer::secure_dfu::Transport;
use bledfu_wire::slip;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

const CONTROL_WRITE: u8 = 0x01;
const PACKET_WRITE: u8 = 0x02;
const SMP_WRITE: u8 = 0x03;
const NOTIFICATION: u8 = 0x81;
const SMP_NOTIFICATION: u8 = 0x83;

/// A peer that accepts no byte of an answer for this long is gone.
const SEND_PATIENCE: Duration = Duration::from_secs(5);

/// The peer has closed its end, even if bytes of it are still to be read.
#[cfg(target_os = "linux")]
const CLOSED: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const CLOSED: PollFlags = PollFlags::empty();

/// The framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Serial frames with at most this many data bytes after the op code.
    Slip {
        /// 1 to 511.
        payload: u16,
    },
    /// Bluetooth writes and notifications.
    Gatt {
        /// ATT MTU, 23 to 515: a write carries MTU − 3 bytes.
        mtu: u16,
    },
}

impl Framing {
    /// The transport as the device sees it.
    pub fn transport(self) -> Transport {
        match self {
            Self::Slip { payload } => Transport::Serial {
                mtu: slip::mtu_for_payload(payload),
            },
            Self::Gatt { .. } => Transport::Ble,
        }
    }

    /// The encoded bytes of an answer on `channel`.
    pub fn encode(self, channel: Channel, answer: &[u8]) -> Vec<u8> {
        match (self, channel) {
            (Self::Slip { .. }, _) => slip::encode(answer).collect(),
            (Self::Gatt { .. }, Channel::Control | Channel::Packet) => notification(NOTIFICATION, answer),
            (Self::Gatt { mtu }, Channel::Smp) => answer
                .chunks(usize::from(mtu) - 3)
                .flat_map(|fragment| notification(SMP_NOTIFICATION, fragment))
                .collect(),
        }
    }

    /// A decoder that waits for the first byte of a frame.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::Slip { .. } => Decoder::Slip(Box::default()),
            Self::Gatt { mtu } => Decoder::Gatt(GattDecoder {
                longest: usize::from(mtu) - 3,
                bytes: Vec::new(),
            }),
        }
    }
}

fn notification(kind: u8, value: &[u8]) -> Vec<u8> {
    let [low, high] = (value.len() as u16).to_le_bytes();
    [&[low, high, kind], value].concat()
}

/// Why received bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A serial frame was dropped; the next one is read normally.
    #[error(transparent)]
    Slip(#[from] slip::FrameError),
    /// Clients never send this kind byte.
    #[error("a frame of kind {0:#04x}, which a client does not send")]
    Kind(u8),
    /// Longer than a Bluetooth stack would send.
    #[error("a write of {length} bytes does not fit the MTU: at most {longest}")]
    TooLong {
        /// The announced length.
        length: usize,
        /// MTU − 3.
        longest: usize,
    },
}

impl WireError {
    /// Nothing after it can be decoded: the link must be closed.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Slip(_))
    }
}

/// Assembles frames from single bytes.
pub enum Decoder {
    /// Of serial frames.
    Slip(Box<slip::Decoder<MAX_FRAME>>),
    /// Of Bluetooth writes.
    Gatt(GattDecoder),
}

impl Decoder {
    /// Takes one byte; `Some` when it completes a frame or reveals an error.
    pub fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, WireError>> {
        match self {
            Self::Slip(decoder) => {
                let frame = decoder.push(byte)?;
                Some(
                    frame
                        .map(|bytes| Frame {
                            channel: Channel::Control,
                            bytes,
                        })
                        .map_err(WireError::from),
                )
            }
            Self::Gatt(decoder) => decoder.push(byte),
        }
    }
}

/// State for Bluetooth writes; useless after an error.
pub struct GattDecoder {
    longest: usize,
    /// The frame so far, or the last one.
    bytes: Vec<u8>,
}

const HEADER: usize = 3;

impl GattDecoder {
    fn push(&mut self, byte: u8) -> Option<Result<Frame<'_>, WireError>> {
        if self.missing() == 0 {
            self.bytes.clear();
        }
        self.bytes.push(byte);
        let &[low, high, kind, ..] = self.bytes.as_slice() else {
            return None;
        };
        let length = usize::from(u16::from_le_bytes([low, high]));
        if length > self.longest {
            return Some(Err(WireError::TooLong {
                length,
                longest: self.longest,
            }));
        }
        let channel = match kind {
            CONTROL_WRITE => Channel::Control,
            PACKET_WRITE => Channel::Packet,
            SMP_WRITE => Channel::Smp,
            _ => return Some(Err(WireError::Kind(kind))),
        };
        if self.missing() > 0 {
            return None;
        }
        Some(Ok(Frame {
            channel,
            bytes: &self.bytes[HEADER..],
        }))
    }

    /// Bytes missing in the frame, as far as known.
    fn missing(&self) -> usize {
        match *self.bytes.as_slice() {
            [low, high, _, ref payload @ ..] => usize::from(u16::from_le_bytes([low, high])) - payload.len(),
            ref begun => HEADER - begun.len(),
        }
    }
}

/// The connection to a peer.
pub struct Wire {
    fd: OwnedFd,
    is_terminal: bool,
}

impl Wire {
    /// A connection.
    ///
    /// # Errors
    /// If it is already broken.
    pub fn socket(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            fd: stream.into(),
            is_terminal: false,
        })
    }

    /// The device's side of a pseudo-terminal.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn terminal(master: OwnedFd) -> std::io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self {
            fd: master,
            is_terminal: true,
        })
    }

    /// It stays open after its peers, like a UART.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Received bytes; none if nothing arrives within `patience`.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn read<'b>(&self, buffer: &'b mut [u8], patience: Duration) -> rustix::io::Result<&'b [u8]> {
        self.poll(PollFlags::IN, patience)?;
        match rustix::io::read(&self.fd, &mut *buffer) {
            Ok(0) => Err(Errno::PIPE),
            Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
            Err(Errno::AGAIN | Errno::INTR) => Ok(&[]),
            Err(gone) => Err(gone),
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The peer is gone, or accepts no more bytes.
    pub fn send(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        let mut rest = bytes;
        let deadline = Instant::now() + SEND_PATIENCE;
        while !rest.is_empty() {
            match rustix::io::write(&self.fd, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::AGAIN | Errno::INTR) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(Errno::TIMEDOUT);
                    }
                    self.poll(PollFlags::OUT, left)?;
                }
                Err(gone) => return Err(gone),
            }
        }
        Ok(())
    }

    /// The peer has closed its end, whether noticed or not.
    pub fn is_hung_up(&self) -> bool {
        let found = self.poll(CLOSED, Duration::ZERO).unwrap_or(PollFlags::HUP);
        found.intersects(CLOSED | PollFlags::HUP | PollFlags::ERR)
    }

    /// Disconnects the peer; a terminal stays open.
    pub fn close(&self) {
        if !self.is_terminal {
            // The other end may have closed it already.
            let _ = rustix::net::shutdown(&self.fd, rustix::net::Shutdown::Both);
        }
    }

    fn poll(&self, what: PollFlags, patience: Duration) -> rustix::io::Result<PollFlags> {
        let mut fds = [PollFd::from_borrowed_fd(self.fd.as_fd(), what)];
        let timeout = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: patience.subsec_nanos().into(),
        };
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[0].revents()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mtu: u16, bytes: &[u8]) -> Vec<Result<(Channel, Vec<u8>), WireError>> {
        let mut decoder = Framing::Gatt { mtu }.decoder();
        let frames = bytes.iter().filter_map(|&byte| {
            let frame = decoder.push(byte)?;
            Some(frame.map(|frame| (frame.channel, frame.bytes.to_vec())))
        });
        frames.collect()
    }

    #[test]
    fn writes_come_one_by_one_and_may_be_empty() {
        let frames = decode(23, &[1, 0, 1, 0x03, 0, 0, 2, 2, 0, 2, 7, 8]);
        assert_eq!(
            frames,
            [
                Ok((Channel::Control, vec![3])),
                Ok((Channel::Packet, vec![])),
                Ok((Channel::Packet, vec![7, 8])),
            ]
        );
    }

    #[test]
    fn a_write_beyond_the_mtu_is_refused_before_it_is_received() {
        let full = [&[20, 0, 2][..], &[9; 20]].concat();
        assert_eq!(decode(23, &full), [Ok((Channel::Packet, vec![9; 20]))]);
        assert_eq!(
            decode(23, &[21, 0, 2]),
            [Err(WireError::TooLong {
                length: 21,
                longest: 20
            })]
        );
        assert_eq!(
            decode(515, &[1, 2, 2]),
            [Err(WireError::TooLong {
                length: 513,
                longest: 512
            })]
        );
    }

    #[test]
    fn an_smp_write_is_a_fragment_of_a_frame() {
        assert_eq!(
            decode(23, &[2, 0, 3, 0x0A, 0x00, 1, 0, 3, 0x00]),
            [Ok((Channel::Smp, vec![0x0A, 0])), Ok((Channel::Smp, vec![0]))]
        );
    }

    #[test]
    fn a_notification_from_a_client_is_refused() {
        assert_eq!(decode(247, &[1, 0, 0x81]), [Err(WireError::Kind(0x81))]);
    }

    #[test]
    fn a_reply_is_one_notification_or_one_serial_frame_without_an_end_in_front() {
        let reply = [0x60, 0x03, 0xC0];
        assert_eq!(
            Framing::Gatt { mtu: 247 }.encode(Channel::Control, &reply),
            [3, 0, 0x81, 0x60, 0x03, 0xC0]
        );
        assert_eq!(
            Framing::Slip { payload: 64 }.encode(Channel::Control, &reply),
            [0x60, 0x03, 0xDB, 0xDC, 0xC0]
        );
    }

    #[test]
    fn an_smp_answer_is_cut_to_the_mtu() {
        let answer: Vec<u8> = (0..41).collect();
        let wire = Framing::Gatt { mtu: 23 }.encode(Channel::Smp, &answer);
        let fragments = [(&answer[..20], 20), (&answer[20..40], 20), (&answer[40..], 1)];
        let expected = fragments.map(|(bytes, length)| [&[length, 0, 0x83], bytes].concat());
        assert_eq!(wire, expected.concat());
    }
}
