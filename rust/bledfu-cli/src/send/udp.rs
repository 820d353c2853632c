// SPDX-License-Identifier: Apache-2.0
//! `--udp`: SMP, a frame in each datagram. There is no link: what is lost is asked again.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use bledfu_client::Characteristic;

use super::transport::{answers_probe, Frames, LinkError, Offer, SmpLimits, Transport, PROBE};
use crate::update::Protocol;

/// The port of SMP.
const PORT: u16 = 1337;
/// What a datagram carries on an Ethernet without being cut: its MTU without the headers of IP and UDP.
const DATAGRAM: usize = 1472;
/// A frame that every server of SMP takes: Zephyr's smallest default buffer.
const SMALL_FRAME: usize = 384;
/// How long to wait for the answer to a probe.
const PROBE_PATIENCE: Duration = Duration::from_millis(700);
/// Shortest wait that the system takes.
const INSTANT: Duration = Duration::from_millis(1);

/// SMP over UDP.
pub struct Udp {
    address: String,
    socket: Option<UdpSocket>,
    frames: Frames,
}

impl Udp {
    /// A transport to `HOST:PORT`, or to `HOST` with the usual port.
    pub fn new(address: &str) -> Self {
        let has_port = match address.rsplit_once(':') {
            // An IPv6 address has colons, too, and then its port is behind a bracket.
            Some((host, port)) => port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']')),
            None => false,
        };
        let bare = if address.contains(':') && !address.starts_with('[') {
            format!("[{address}]")
        } else {
            address.to_owned()
        };
        Self {
            address: if has_port {
                address.to_owned()
            } else {
                format!("{bare}:{PORT}")
            },
            socket: None,
            frames: Frames::default(),
        }
    }

    fn socket(&self) -> Result<&UdpSocket, LinkError> {
        self.socket
            .as_ref()
            .ok_or_else(|| LinkError::Lost("it was closed".to_owned()))
    }

    fn connect(&self) -> std::io::Result<UdpSocket> {
        use std::net::ToSocketAddrs;
        let mut failed = std::io::Error::from(ErrorKind::AddrNotAvailable);
        for address in self.address.to_socket_addrs()? {
            let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let connected = UdpSocket::bind(local).and_then(|socket| {
                socket.connect(address)?;
                Ok(socket)
            });
            match connected {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

/// A datagram; `None` if none arrives until then, or if the port is closed: a device that resets has none.
fn datagram(socket: &UdpSocket, until: Instant) -> Result<Option<Vec<u8>>, LinkError> {
    let mut bytes = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let received = socket
            .set_read_timeout(Some(left.max(INSTANT)))
            .and_then(|()| socket.recv(&mut bytes));
        match received {
            Ok(length) => return Ok(Some(bytes.get(..length).unwrap_or_default().to_vec())),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Ok(None),
                ErrorKind::Interrupted => {}
                // Nobody has the port, now.
                ErrorKind::ConnectionRefused if !left.is_zero() => std::thread::sleep(INSTANT),
                ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(LinkError::Lost(error.to_string())),
            },
        }
    }
}

impl Transport for Udp {
    fn open(&mut self, _expected: Option<Protocol>) -> Result<Offer, LinkError> {
        let address = &self.address;
        let socket = self
            .connect()
            .map_err(|error| LinkError::NotFound(format!("cannot reach {address}: {error}")))?;
        // Refused where the port is closed: found out below.
        let _ = socket.send(&PROBE);
        let until = Instant::now() + PROBE_PATIENCE;
        // Somebody else who never stops sending is not the device.
        while Instant::now() < until {
            let Some(frame) = datagram(&socket, until)? else {
                break;
            };
            if answers_probe(&frame) {
                self.frames.clear();
                self.socket = Some(socket);
                return Ok(Offer {
                    protocols: vec![Protocol::Smp],
                    device: address.clone(),
                    ..Offer::default()
                });
            }
        }
        Err(LinkError::NotFound(format!("nothing answers SMP at {address}")))
    }

    fn choose(&mut self, _protocol: Protocol) -> Result<usize, LinkError> {
        Ok(SMALL_FRAME)
    }

    fn write(&mut self, _to: Characteristic, bytes: &[u8]) -> Result<(), LinkError> {
        if let Some(frame) = self.frames.push(bytes) {
            match self.socket()?.send(&frame) {
                // Lost like any other datagram.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(LinkError::Lost(error.to_string())),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>, LinkError> {
        datagram(self.socket()?, Instant::now() + patience)
    }

    fn close(&mut self) {
        self.socket = None;
        self.frames.clear();
    }

    fn has_links(&self) -> bool {
        false
    }

    fn smp_limits(&self) -> SmpLimits {
        SmpLimits {
            frame_size: DATAGRAM,
            window: 3,
            frame_margin: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_smp_is_the_default() {
        for (given, address) in [
            ("192.0.2.1", "192.0.2.1:1337"),
            ("192.0.2.1:99", "192.0.2.1:99"),
            ("device.local", "device.local:1337"),
            ("2001:db8::1", "[2001:db8::1]:1337"),
            ("[2001:db8::1]", "[2001:db8::1]:1337"),
            ("[2001:db8::1]:99", "[2001:db8::1]:99"),
        ] {
            assert_eq!(Udp::new(given).address, address);
        }
    }

    #[test]
    fn a_peer_that_never_stops_sending_does_not_hold_the_search_for_a_device() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap().to_string();
        let (is_over, gives_up) = (AtomicBool::new(false), 10 * PROBE_PATIENCE);
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let (_, asker) = peer.recv_from(&mut [0; 64]).unwrap();
                let started = Instant::now();
                while !is_over.load(Ordering::Relaxed) && started.elapsed() < gives_up {
                    let _ = peer.send_to(b"this is no frame of SMP", asker);
                }
                started.elapsed()
            });
            let opened = Udp::new(&address).open(None);
            is_over.store(true, Ordering::Relaxed);
            assert!(matches!(opened, Err(LinkError::NotFound(_))), "{opened:?}");
            assert!(flood.join().unwrap() < gives_up);
        });
    }
}
