// SPDX-License-Identifier: Apache-2.0
//! The doors: transports for clients. Each has a thread that only moves bytes between its connection and the ring.

use std::fmt::Write as _;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::Args;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};

use bledfu_transfer::smp::DEFAULT_FRAME_SIZE;
use bledfu_wire::smp_console;

use super::link::{Link, Origin, Over, Packet, Remote, Session};
use super::wire::{Decoder, Framing, Wire};

/// Every wait for bytes ends after this time, to check for other events.
const READ_STEP: Duration = Duration::from_secs(1);
/// How often a terminal that nobody has open is polled.
const CLOSED_STEP: Duration = Duration::from_millis(20);
const CHUNK: usize = 4096;

/// Transports for clients; several at once, at least one.
#[derive(Args, Clone, Debug)]
pub struct DoorArgs {
    /// Serial transport: creates a pseudo-terminal and links it at this path (for `nrfutil dfu serial -p PATH`).
    #[arg(long, value_name = "PATH")]
    pub slip_pty: Option<PathBuf>,
    /// Serial transport over TCP: the same SLIP frames. Port 0 selects a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub slip_tcp: Option<String>,
    /// Bluetooth transport over TCP: frames of u16le n, u8 kind (1 control point write, 2 packet write, 3 SMP write,
    /// 0x81 control point notification, 0x83 SMP notification), n bytes.
    #[arg(long, value_name = "HOST:PORT")]
    pub gatt_tcp: Option<String>,
    /// SMP over UDP, for `smpmgr --ip` and others; most clients know only port 1337. Port 0 selects a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub smp_udp: Option<String>,
    /// SMP over a serial port: creates a pseudo-terminal and links it at this path (for `smpmgr --port PATH`).
    #[arg(long, value_name = "PATH")]
    pub smp_pty: Option<PathBuf>,
    /// ATT MTU of the Bluetooth transport; packets carry MTU - 3 bytes.
    #[arg(long, default_value_t = 247, value_parser = clap::value_parser!(u16).range(23..=515))]
    pub mtu: u16,
    /// Data bytes in one serial frame; clients are told an MTU of 2 × (BYTES + 1) + 1.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=511))]
    pub serial_mtu: u16,
}

impl DoorArgs {
    /// Checks, before anything is touched, that there is a transport.
    ///
    /// # Errors
    /// If there is none.
    pub fn check(&self) -> Result<()> {
        let addresses = [&self.slip_tcp, &self.gatt_tcp, &self.smp_udp];
        let terminals = [&self.slip_pty, &self.smp_pty];
        if addresses.iter().all(|door| door.is_none()) && terminals.iter().all(|door| door.is_none()) {
            bail!(
                "the device has no door; give --slip-pty PATH, --slip-tcp HOST:PORT, --gatt-tcp HOST:PORT, \
                 --smp-udp HOST:PORT or --smp-pty PATH"
            );
        }
        if self.slip_pty.is_some() && self.slip_pty == self.smp_pty {
            bail!("--slip-pty and --smp-pty need a path each");
        }
        Ok(())
    }

    /// Opens them.
    ///
    /// # Errors
    /// One sentence about the first that cannot be opened.
    pub fn open(&self, link: &Arc<Link>) -> Result<Doors> {
        let mut doors = Doors {
            description: String::new(),
            _terminals: Vec::new(),
        };
        let slip = Framing::Slip {
            payload: self.serial_mtu,
        };
        if let Some(path) = &self.slip_pty {
            let terminal = doors.terminal("slip-pty", path)?;
            spawn_serial(terminal, slip, link.clone());
        }
        if let Some(path) = &self.smp_pty {
            let terminal = doors.terminal("smp-pty", path)?;
            spawn_console(terminal, link.clone());
        }
        if let Some(address) = &self.smp_udp {
            let socket = UdpSocket::bind(address).with_context(|| {
                format!("cannot open --smp-udp {address}; is another device behind that port?")
            })?;
            doors.add("smp-udp", &socket.local_addr()?.to_string());
            spawn_udp(socket, link.clone());
        }
        for (name, address, framing) in [
            ("slip-tcp", &self.slip_tcp, slip),
            ("gatt-tcp", &self.gatt_tcp, Framing::Gatt { mtu: self.mtu }),
        ] {
            let Some(address) = address else { continue };
            let listener =
                TcpListener::bind(address).with_context(|| format!("cannot open --{name} {address}"))?;
            doors.add(name, &listener.local_addr()?.to_string());
            spawn_listener(listener, framing, link.clone());
        }
        Ok(doors)
    }
}

/// The open doors; dropping them removes the links to the terminals.
pub struct Doors {
    /// `slip-pty PATH slip-tcp ADDRESS …`
    pub description: String,
    _terminals: Vec<TerminalLink>,
}

impl Doors {
    fn terminal(&mut self, name: &str, path: &Path) -> Result<Terminal> {
        let terminal = Terminal::open().context("cannot make a pseudo-terminal")?;
        self._terminals
            .push(TerminalLink::make(path, &terminal.peer_path)?);
        self.add(name, &path.display().to_string());
        Ok(terminal)
    }

    fn add(&mut self, name: &str, place: &str) {
        let blank = if self.description.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(self.description, "{blank}{name} {place}");
    }
}

fn spawn_listener(listener: TcpListener, framing: Framing, link: Arc<Link>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let remote = match stream.and_then(Wire::socket) {
                Ok(wire) => Remote {
                    wire: Arc::new(wire),
                    framing,
                },
                Err(error) => {
                    log::warn!("a connection failed: {error}");
                    std::thread::sleep(CLOSED_STEP);
                    continue;
                }
            };
            match link.admit(&remote) {
                Some(session) => drop(std::thread::spawn(move || carry(&remote, &session))),
                None => log::warn!("a client was turned away: another one is connected"),
            }
        }
    });
}

/// Carries frames from a connection to the ring, until one side ends it.
fn carry(remote: &Remote, session: &Session) {
    let mut decoder = remote.framing.decoder();
    let mut chunk = [0; CHUNK];
    while let Ok(bytes) = remote.wire.read(&mut chunk, READ_STEP) {
        if feed(bytes, &mut decoder, session).is_err() {
            return;
        }
    }
}

fn feed(bytes: &[u8], decoder: &mut Decoder, session: &Session) -> Result<(), Over> {
    for &byte in bytes {
        match decoder.push(byte) {
            None => {}
            Some(Ok(frame)) => session.push(frame)?,
            Some(Err(error)) if error.is_fatal() => {
                log::warn!("the link is closed: {error}");
                return Err(Over);
            }
            Some(Err(error)) => log::warn!("{error}"),
        }
    }
    Ok(())
}

/// A pseudo-terminal; the peers open its other side.
struct Terminal {
    wire: Arc<Wire>,
    peer_path: PathBuf,
}

impl Terminal {
    fn open() -> std::io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let peer_path = PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes()));
        let terminal = Self {
            wire: Arc::new(Wire::terminal(master)?),
            peer_path,
        };
        terminal.clean()?;
        Ok(terminal)
    }

    /// Prepares the terminal for the next peer: raw, and without answers that the last one did not read.
    fn clean(&self) -> std::io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let peer = rustix::fs::open(&self.peer_path, flags, Mode::empty())?;
        rustix::termios::tcflush(peer.as_fd(), QueueSelector::IOFlush)?;
        let mut termios = rustix::termios::tcgetattr(&peer)?;
        termios.make_raw();
        rustix::termios::tcsetattr(&peer, OptionalActions::Now, &termios)?;
        Ok(())
    }

    /// Runs a thread that passes everything received to `take`, and `None` when the peer has closed its side.
    fn spawn(self, mut take: impl FnMut(Option<&[u8]>) + Send + 'static) {
        std::thread::spawn(move || {
            let mut used = false;
            let mut chunk = [0; CHUNK];
            loop {
                match self.wire.read(&mut chunk, READ_STEP) {
                    Ok([]) => {}
                    Ok(bytes) => {
                        used = true;
                        take(Some(bytes));
                    }
                    Err(_) => {
                        take(None);
                        if std::mem::take(&mut used) {
                            if let Err(error) = self.clean() {
                                log::warn!("the terminal cannot be cleaned for the next client: {error}");
                            }
                        }
                        std::thread::sleep(CLOSED_STEP);
                    }
                }
            }
        });
    }
}

/// A peer on a serial port is present from its first byte until it closes the terminal. When the device ends the
/// session, the next byte begins another one.
fn spawn_serial(terminal: Terminal, framing: Framing, link: Arc<Link>) {
    let remote = Remote {
        wire: terminal.wire.clone(),
        framing,
    };
    let mut decoder = framing.decoder();
    let mut session: Option<Session> = None;
    terminal.spawn(move |bytes| {
        let Some(bytes) = bytes else {
            session = None;
            return;
        };
        if !session.as_ref().is_some_and(Session::is_connected) {
            decoder = framing.decoder();
            session = link.admit(&remote);
        }
        match &session {
            // The session ended within a frame: the rest is dropped.
            Some(session) => drop(feed(bytes, &mut decoder, session)),
            None => log::warn!(
                "{} bytes on the terminal are lost: the device resets, or another client is on it",
                bytes.len()
            ),
        }
    });
}

/// SMP frames among other text on a console; nobody connects.
fn spawn_console(terminal: Terminal, link: Arc<Link>) {
    let wire = terminal.wire.clone();
    let mut decoder = Box::<smp_console::Decoder<DEFAULT_FRAME_SIZE>>::default();
    terminal.spawn(move |bytes| {
        let Some(bytes) = bytes else {
            *decoder = smp_console::Decoder::default();
            return;
        };
        for &byte in bytes {
            match decoder.push(byte) {
                None => {}
                Some(Ok(frame)) => link.push(Packet {
                    bytes: frame.to_vec(),
                    origin: Origin::Console(wire.clone()),
                }),
                Some(Err(error)) => log::warn!("{error}"),
            }
        }
    });
}

/// One datagram carries whole frames. One longer than the longest frame loses its end, so the cut frame is answered as
/// damaged.
fn spawn_udp(socket: UdpSocket, link: Arc<Link>) {
    let socket = Arc::new(socket);
    std::thread::spawn(move || {
        let mut datagram = [0; DEFAULT_FRAME_SIZE];
        loop {
            match socket.recv_from(&mut datagram) {
                Ok((length, address)) => link.push(Packet {
                    bytes: datagram.get(..length).unwrap_or_default().to_vec(),
                    origin: Origin::Udp(socket.clone(), address),
                }),
                // A client that is gone before its answer arrives shows up here.
                Err(error) => {
                    log::info!("a datagram was not received: {error}");
                    std::thread::sleep(CLOSED_STEP);
                }
            }
        }
    });
}

/// The link at the user's path; removed when dropped.
struct TerminalLink {
    path: PathBuf,
    /// Locked while the terminal is served; the lock ends with the process, however it ends.
    lock: (PathBuf, std::fs::File),
}

impl TerminalLink {
    /// A link left behind by a dead process is replaced; anything else is kept.
    fn make(path: &Path, target: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
            bail!("{} exists and is not a link to a terminal", path.display());
        }
        let beside = |ending: String| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let lock_path = beside(".lock".to_owned());
        let lock = std::fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| format!("cannot make {}", lock_path.display()))?;
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another device serves {}; stop it, or choose another path",
                path.display()
            );
        }
        let fresh = beside(format!(".{}", std::process::id()));
        symlink(target, &fresh)
            .and_then(|()| std::fs::rename(&fresh, path))
            .with_context(|| format!("cannot make the link {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            lock: (lock_path, lock),
        })
    }
}

impl Drop for TerminalLink {
    fn drop(&mut self) {
        let (lock_path, _held) = &self.lock;
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(lock_path);
    }
}
