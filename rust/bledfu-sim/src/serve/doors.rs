// SPDX-License-Identifier: Apache-2.0
//! The doors: where peers come in. Each has a thread that only moves bytes between its wire and the ring.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use clap::Args;
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, QueueSelector};

use super::link::{Link, Over, Session};
use super::wire::{Decoder, Framing, Wire};

/// Every wait for bytes ends after this long, to look around.
const READ_STEP: Duration = Duration::from_secs(1);
/// How often a terminal that nobody has open is looked at.
const CLOSED_STEP: Duration = Duration::from_millis(20);
const CHUNK: usize = 4096;

/// Where clients may come in; several at once, at least one.
#[derive(Args, Clone, Debug)]
pub struct DoorArgs {
    /// Serial door: makes a pseudo-terminal and links it at this path (for `nrfutil dfu serial -p PATH`).
    #[arg(long, value_name = "PATH")]
    pub slip_pty: Option<PathBuf>,
    /// Serial door over TCP: the same SLIP frames. Port 0 picks a free one.
    #[arg(long, value_name = "HOST:PORT")]
    pub slip_tcp: Option<String>,
    /// Bluetooth door over TCP: frames of u16le n, u8 kind (1 control point write, 2 packet write, 0x81 notification), n bytes.
    #[arg(long, value_name = "HOST:PORT")]
    pub gatt_tcp: Option<String>,
    /// ATT MTU of the Bluetooth door; packets carry up to 3 bytes less.
    #[arg(long, default_value_t = 247, value_parser = clap::value_parser!(u16).range(23..=515))]
    pub mtu: u16,
    /// Data bytes in one serial frame; clients are told the MTU 2 × (BYTES + 1) + 1.
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=511))]
    pub serial_mtu: u16,
}

impl DoorArgs {
    /// Before anything is touched: is there a way in?
    ///
    /// # Errors
    /// When there is none.
    pub fn check(&self) -> Result<()> {
        if self.slip_pty.is_none() && self.slip_tcp.is_none() && self.gatt_tcp.is_none() {
            bail!(
                "the device has no door; give --slip-pty PATH, --slip-tcp HOST:PORT or --gatt-tcp HOST:PORT"
            );
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
            _terminal: None,
        };
        let slip = Framing::Slip {
            payload: self.serial_mtu,
        };
        if let Some(path) = &self.slip_pty {
            let terminal = Terminal::open(slip).context("cannot make a pseudo-terminal")?;
            doors._terminal = Some(TerminalLink::make(path, &terminal.peer_path)?);
            doors.add("slip-pty", &path.display().to_string());
            spawn_terminal(terminal, link.clone());
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

/// The open doors; dropped, the link to the terminal goes.
pub struct Doors {
    /// `slip-pty PATH slip-tcp ADDRESS …`
    pub description: String,
    _terminal: Option<TerminalLink>,
}

impl Doors {
    fn add(&mut self, name: &str, place: &str) {
        let blank = if self.description.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _ = write!(self.description, "{blank}{name} {place}");
    }
}

fn spawn_listener(listener: TcpListener, framing: Framing, link: Arc<Link>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let wire = match stream.and_then(|stream| Wire::socket(stream, framing)) {
                Ok(wire) => Arc::new(wire),
                Err(error) => {
                    log::warn!("a connection failed: {error}");
                    std::thread::sleep(CLOSED_STEP);
                    continue;
                }
            };
            match link.admit(&wire) {
                Some(session) => drop(std::thread::spawn(move || carry(&wire, &session))),
                None => log::warn!("a client was turned away: another one is connected"),
            }
        }
    });
}

/// Carries frames from a connection to the ring, until one side ends it.
fn carry(wire: &Wire, session: &Session) {
    let mut decoder = wire.framing().decoder();
    let mut chunk = [0; CHUNK];
    while let Ok(bytes) = wire.read(&mut chunk, READ_STEP) {
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
    fn open(framing: Framing) -> std::io::Result<Self> {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let peer_path = PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes()));
        let terminal = Self {
            wire: Arc::new(Wire::terminal(master, framing)?),
            peer_path,
        };
        terminal.clean()?;
        Ok(terminal)
    }

    /// For the next peer: raw, and without answers the last one did not read.
    fn clean(&self) -> std::io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let peer = rustix::fs::open(&self.peer_path, flags, Mode::empty())?;
        rustix::termios::tcflush(peer.as_fd(), QueueSelector::IOFlush)?;
        let mut termios = rustix::termios::tcgetattr(&peer)?;
        termios.make_raw();
        rustix::termios::tcsetattr(&peer, OptionalActions::Now, &termios)?;
        Ok(())
    }
}

/// A peer on a terminal is there from its first byte on until it closes the terminal. When the device ends the session
/// the next byte begins another one.
fn spawn_terminal(terminal: Terminal, link: Arc<Link>) {
    std::thread::spawn(move || {
        let wire = &terminal.wire;
        let mut decoder = wire.framing().decoder();
        let mut session: Option<Session> = None;
        let mut used = false;
        let mut chunk = [0; CHUNK];
        loop {
            match wire.read(&mut chunk, READ_STEP) {
                Ok([]) => {}
                Ok(bytes) => {
                    used = true;
                    if !session.as_ref().is_some_and(Session::is_connected) {
                        decoder = wire.framing().decoder();
                        session = link.admit(wire);
                    }
                    match &session {
                        // Ended in the middle, the rest is for nobody.
                        Some(session) => drop(feed(bytes, &mut decoder, session)),
                        None => log::warn!(
                            "{} bytes on the terminal are lost: the device resets, or another client is on it",
                            bytes.len()
                        ),
                    }
                }
                Err(_) => {
                    session = None;
                    if std::mem::take(&mut used) {
                        if let Err(error) = terminal.clean() {
                            log::warn!("the terminal cannot be cleaned for the next client: {error}");
                        }
                    }
                    std::thread::sleep(CLOSED_STEP);
                }
            }
        }
    });
}

/// The link at the path the user chose; removed when dropped.
struct TerminalLink {
    path: PathBuf,
    target: PathBuf,
}

impl TerminalLink {
    /// A link that an earlier process left is replaced, anything else is left alone.
    fn make(path: &Path, target: &Path) -> Result<Self> {
        if path.symlink_metadata().is_ok_and(|found| !found.is_symlink()) {
            bail!("{} exists and is no link to a terminal", path.display());
        }
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(format!(".{}", std::process::id()));
        symlink(target, &fresh)
            .and_then(|()| std::fs::rename(&fresh, path))
            .with_context(|| format!("cannot make the link {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            target: target.to_owned(),
        })
    }
}

impl Drop for TerminalLink {
    fn drop(&mut self) {
        // Another process may have put its own there.
        if std::fs::read_link(&self.path).is_ok_and(|target| target == self.target) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
