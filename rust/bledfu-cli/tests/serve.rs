// SPDX-License-Identifier: Apache-2.0
//! `bledfu serve` as a process, with clients at its doors. Killing it is a power cut.

use std::io::{BufRead, BufReader};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

use bledfu_sim::package::Package;
use bledfu_sim::phone::secure_dfu::{Client, Phone, Session};
use bledfu_sim::phone::{DfuLink, PhoneError};
use bledfu_wire::secure_dfu::{op, ExtendedCode, ResultCode};
use bledfu_wire::smp::{self, Failure};
use bledfu_wire::smp_answer::Answer;
use bledfu_wire::{image_group, slip};
use rustix::event::{PollFd, PollFlags, Timespec};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);
const SERIAL_PAYLOAD: usize = 64;

fn vector(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors")
        .join(name)
}

fn package(name: &str) -> Package {
    Package::read(&std::fs::read(vector(&format!("packages/{name}.zip"))).unwrap()).unwrap()
}

/// A folder with a device in it, and the process that serves it. Killing the process is a power cut.
struct Server {
    folder: TempDir,
    options: Vec<String>,
    process: Child,
    lines: Receiver<String>,
    /// The output line that lists the doors.
    serving: String,
}

impl Server {
    /// A new device that runs the small image 1.0.0.
    fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let primary = vector("images/small-1.0.0.signed.bin").display().to_string();
        let fixed = [
            "--slip-tcp",
            "127.0.0.1:0",
            "--gatt-tcp",
            "127.0.0.1:0",
            "--primary",
            &primary,
        ];
        let options = fixed.iter().chain(options).map(ToString::to_string).collect();
        Self::in_folder(folder, options)
    }

    fn in_folder(folder: TempDir, options: Vec<String>) -> Self {
        let (process, lines) = start(folder.path(), &options);
        let mut server = Self {
            folder,
            options,
            process,
            lines,
            serving: String::new(),
        };
        server.serving = server.line("serving ");
        server
    }

    /// Power off and on.
    fn restart(&mut self) -> String {
        self.cut();
        (self.process, self.lines) = start(self.folder.path(), &self.options);
        let running = self.line("running ");
        self.serving = self.line("serving ");
        running
    }

    fn cut(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// The next line that begins with `begin`.
    fn line(&mut self, begin: &str) -> String {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no line {begin:?}"));
            if line.starts_with(begin) {
                return line;
            }
        }
    }

    fn address(&self, door: &str) -> String {
        let mut words = self.serving.split(' ');
        words.find(|word| *word == door).unwrap();
        words.next().unwrap().to_owned()
    }

    fn gatt(&self) -> Port {
        Port::new(
            TcpStream::connect(self.address("gatt-tcp")).unwrap().into(),
            Framing::Gatt,
        )
    }

    fn slip(&self) -> Port {
        Port::new(
            TcpStream::connect(self.address("slip-tcp")).unwrap().into(),
            Framing::Slip,
        )
    }

    fn terminal(path: &Path) -> Port {
        let options = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        Port::new(
            rustix::fs::open(path, options, rustix::fs::Mode::empty()).unwrap(),
            Framing::Slip,
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

fn command(folder: &Path, options: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bledfu"));
    command.arg("serve").arg("--state").arg(folder);
    // The last option counts: a test that needs real times sets it.
    command.args([
        "--flash-time",
        if options.iter().any(|option| option == "real") {
            "real"
        } else {
            "none"
        },
    ]);
    command.args(options.iter().filter(|option| *option != "real"));
    command.env_remove("RUST_LOG");
    command
}

fn start(folder: &Path, options: &[String]) -> (Child, Receiver<String>) {
    let mut process = command(folder, options)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    let output = BufReader::new(process.stdout.take().unwrap());
    std::thread::spawn(move || {
        output
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| sender.send(line))
    });
    (process, lines)
}

/// Runs it where it must not start; returns the error.
fn refused(folder: &Path, options: &[&str]) -> String {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    let Output { status, stderr, .. } = command(folder, &options).output().unwrap();
    assert!(!status.success());
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Slip,
    Gatt,
}

/// A client's end of a wire.
struct Port {
    fd: OwnedFd,
    framing: Framing,
    received: Vec<u8>,
    since: Instant,
}

impl Port {
    fn new(fd: OwnedFd, framing: Framing) -> Self {
        Self {
            fd,
            framing,
            received: Vec::new(),
            since: Instant::now(),
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), PhoneError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = rustix::io::write(&self.fd, rest).map_err(|_| PhoneError::LinkLost)?;
            rest = &rest[written..];
        }
        Ok(())
    }

    fn write(&self, kind: u8, bytes: &[u8]) -> Result<(), PhoneError> {
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

    /// The next frame, if it is complete.
    fn take(&mut self) -> Option<Vec<u8>> {
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
    fn receive(&mut self) -> Result<(), PhoneError> {
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

    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.control(request).unwrap();
        self.notification().unwrap()
    }

    /// Whether the device closes the link without sending anything before.
    fn is_closed(&mut self) -> bool {
        self.notification() == Err(PhoneError::LinkLost)
    }

    fn update(&mut self, name: &str) -> Result<Session, PhoneError> {
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

#[test]
fn an_update_over_the_bluetooth_door_is_installed_and_confirmed() {
    let mut server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.update("small-2.0.0").unwrap();
    assert_eq!(server.line("boot stage:"), "boot stage: installed (test)");
    assert_eq!(server.line("running"), "running 2.0.0 (test)");
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    // The same doors, the same process.
    server.gatt().update("small-3.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 2.0.0 -> 3.0.0, confirmed");
    assert_eq!(server.restart(), "running 3.0.0 (confirmed)");
}

#[test]
fn the_link_is_closed_a_tenth_of_a_second_after_the_last_answer() {
    let server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.update("small-2.0.0").unwrap();
    let answered = Instant::now();
    assert!(phone.is_closed());
    let kept = answered.elapsed();
    // The answer may have been in flight for a while when the client saw it.
    assert!(
        kept > Duration::from_millis(60) && kept < Duration::from_secs(5),
        "{kept:?}"
    );
}

#[test]
fn an_update_over_the_serial_door_is_installed_and_confirmed() {
    let mut server = Server::new(&[]);
    let mut tool = server.slip();
    assert_eq!(tool.ask(&[op::PING, 5]), [0x60, op::PING, 1, 5]);
    assert_eq!(tool.ask(&[op::MTU]), [0x60, op::MTU, 1, 131, 0]);
    tool.update("medium-2.3.4").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.3.4+5, confirmed");
}

#[test]
fn the_terminal_survives_its_clients_and_the_reset_and_is_removed_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("port");
    // As a killed process leaves it.
    std::os::unix::fs::symlink("/dev/pts/no-such-terminal", &path).unwrap();
    let mut server = Server::new(&["--slip-pty", path.to_str().unwrap()]);
    assert_eq!(server.address("slip-pty"), path.to_str().unwrap());

    let mut first = Server::terminal(&path);
    assert_eq!(first.ask(&[op::PING, 1]), [0x60, op::PING, 1, 1]);
    // The client leaves in the middle of its next frame, without reading its answer.
    first.send(&[op::PING, 2, 0xC0, op::WRITE, 7, 7]).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    drop(first);
    std::thread::sleep(Duration::from_millis(200));

    let mut second = Server::terminal(&path);
    assert_eq!(second.ask(&[op::PING, 3]), [0x60, op::PING, 1, 3]);
    second.update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    assert_eq!(second.ask(&[op::PING, 4]), [0x60, op::PING, 1, 4]);
    assert_eq!(second.ask(&[op::FIRMWARE_VERSION, 1])[3..8], [1, 2, 0, 0, 0]);

    let pid = rustix::process::Pid::from_child(&server.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.process.wait().unwrap().success());
    assert!(path.symlink_metadata().is_err(), "the link is still there");
}

#[test]
fn a_transfer_resumes_after_a_power_cut() {
    let mut server = Server::new(&[]);
    let mut phone = server.gatt();
    let package = package("medium-2.3.4");
    let outcome = Client::new(&mut phone, Phone::Android, 0).update(&package, &mut |executed| {
        if executed >= 5 * 4096 {
            server.cut();
        }
    });
    assert_eq!(outcome, Err(PhoneError::LinkLost));
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
    let session = server.gatt().update("medium-2.3.4").unwrap();
    assert_eq!(session.resumed_at, 5 * 4096);
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.3.4+5, confirmed");
}

#[test]
fn a_swap_resumes_after_a_power_cut() {
    let mut server = Server::new(&["real"]);
    server.gatt().update("small-2.0.0").unwrap();
    server.line("resetting");
    // The swap takes more than a second: this is somewhere in its first half.
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(server.restart(), "running 2.0.0 (test)");
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn one_client_at_a_time_owns_the_device() {
    let server = Server::new(&[]);
    let mut first = server.gatt();
    assert_eq!(first.ask(&[op::SELECT, 2])[..3], [0x60, op::SELECT, 1]);
    assert!(server.gatt().is_closed());
    assert!(server.slip().is_closed());
    assert_eq!(first.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    // No pause: a client that has closed its end does not block the next one, even if it leaves half a frame.
    for _ in 0..50 {
        first.send(&[200, 0, 2, 9]).unwrap();
        drop(first);
        first = server.gatt();
        assert_eq!(first.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    }
}

#[test]
fn an_image_that_does_not_confirm_itself_is_reverted_by_the_next_reset() {
    let mut server = Server::new(&["--no-confirm"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
    server.cut();
    (server.process, server.lines) = start(server.folder.path(), &server.options);
    assert_eq!(server.line("boot stage:"), "boot stage: installed (revert)");
    assert_eq!(server.line("running"), "running 1.0.0 (confirmed)");
    assert_eq!(server.line("reverted"), "reverted 2.0.0 -> 1.0.0");
}

#[test]
fn copy_installs_updates_in_a_row_and_reverts_one() {
    let mut server = Server::new(&["--install", "copy"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
    server.gatt().update("small-3.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 2.0.0 -> 3.0.0, confirmed");
    assert_eq!(server.restart(), "running 3.0.0 (confirmed)");

    let mut server = Server::new(&["--install", "copy", "--no-confirm"]);
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
    server.cut();
    (server.process, server.lines) = start(server.folder.path(), &server.options);
    assert_eq!(server.line("boot stage:"), "boot stage: installed (revert)");
    assert_eq!(server.line("running"), "running 1.0.0 (confirmed)");
    assert_eq!(server.line("reverted"), "reverted 2.0.0 -> 1.0.0");
    assert_eq!(server.restart(), "running 1.0.0 (confirmed)");
    server.gatt().update("small-2.0.0").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, not confirmed");
}

#[test]
fn serve_uses_the_keys_of_the_command_line() {
    let refusal = |outcome: Result<Session, PhoneError>| match outcome {
        Err(PhoneError::Refused {
            opcode: op::EXECUTE,
            code,
        }) => code,
        other => panic!("{other:?}"),
    };
    let key = |name: &str| vector(&format!("keys/{name}.pem")).display().to_string();

    // A private package key, and another public image key: the factory image stays valid.
    let mut server = Server::new(&[
        "--public-key",
        &key("other-package"),
        "--image-key",
        &key("image.pub"),
    ]);
    assert_eq!(
        refusal(server.gatt().update("small-2.0.0")),
        ResultCode::InvalidObject
    );
    server.gatt().update("wrong-signature").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");

    let mut server = Server::new(&["--image-key", &key("other-image")]);
    assert_eq!(
        refusal(server.gatt().update("small-2.0.0")),
        ResultCode::Extended(ExtendedCode::VerificationFailed)
    );
    server.gatt().update("wrong-image-key").unwrap();
    assert_eq!(server.line("updated"), "updated 1.0.0 -> 2.0.0, confirmed");
}

#[test]
fn a_write_that_does_not_fit_the_mtu_closes_the_link() {
    let server = Server::new(&["--mtu", "23"]);
    let mut phone = server.gatt();
    assert_eq!(phone.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    phone.packet(&[0; 20]).unwrap();
    assert_eq!(phone.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
    phone.packet(&[0; 21]).unwrap();
    assert!(phone.is_closed());
    assert_eq!(server.gatt().ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}

#[test]
fn a_peer_that_aborts_is_disconnected() {
    let server = Server::new(&[]);
    let mut phone = server.gatt();
    phone.control(&[op::ABORT]).unwrap();
    assert!(phone.is_closed());
    assert_eq!(server.gatt().ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}

#[test]
fn a_folder_whose_first_start_was_cut_becomes_a_new_device() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("factory.sha256"), "0000").unwrap();
    std::fs::write(folder.path().join("internal.new"), [0xFF; 100]).unwrap();
    let primary = vector("images/small-1.0.0.signed.bin").display().to_string();
    let options = ["--gatt-tcp", "127.0.0.1:0", "--primary", &primary].map(str::to_owned);
    let mut server = Server::in_folder(folder, options.to_vec());
    server.gatt().update("small-2.0.0").unwrap();
    server.line("updated");
    // From now on it is a device: the factory image is not programmed again, and another --primary changes nothing.
    server.options = ["--gatt-tcp", "127.0.0.1:0"].map(str::to_owned).to_vec();
    assert_eq!(server.restart(), "running 2.0.0 (confirmed)");
}

#[test]
fn an_unusable_device_or_door_is_refused_with_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("device");
    let said = refused(&state, &[]);
    assert!(said.contains("the device has no door"), "{said}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&state, &["--gatt-tcp", &address]);
    assert!(
        said.contains(&format!("cannot open --gatt-tcp {address}")),
        "{said}"
    );
    let said = refused(&state, &["--gatt-tcp", "nowhere"]);
    assert!(said.contains("cannot open --gatt-tcp nowhere"), "{said}");

    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let path = file.to_str().unwrap();
    let said = refused(&state, &["--slip-pty", path]);
    assert!(said.contains("exists and is not a link to a terminal"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "text");
    let said = refused(&state, &["--slip-tcp", "127.0.0.1:0", "--image-key", path]);
    assert!(said.contains("not a PEM file"), "{said}");
    let said = refused(&file, &["--slip-tcp", "127.0.0.1:0"]);
    assert!(said.contains("cannot make the folder"), "{said}");

    let fresh = folder.path().join("fresh");
    let damaged = folder.path().join("damaged.bin");
    let mut image = std::fs::read(vector("images/small-1.0.0.signed.bin")).unwrap();
    image[4000] ^= 1;
    std::fs::write(&damaged, &image).unwrap();
    let said = refused(
        &fresh,
        &[
            "--slip-tcp",
            "127.0.0.1:0",
            "--primary",
            damaged.to_str().unwrap(),
        ],
    );
    assert!(
        said.contains("the image for the primary slot cannot be used"),
        "{said}"
    );
    // Nothing of it was kept.
    assert!(!fresh.join("internal.bin").exists());
}

#[test]
fn two_processes_do_not_share_a_device() {
    let server = Server::new(&[]);
    let said = refused(server.folder.path(), &["--slip-tcp", "127.0.0.1:0"]);
    assert!(said.contains("in use"), "{said}");
}

// ---- SMP ----

const ECHO: &[u8] = b"\x0a\x00\x00\x06\x00\x00\x42\x00\xa1adbhi";
const ECHOED: &[u8] = b"\x0b\x00\x00\x06\x00\x00\x42\x00\xa1arbhi";

/// A device with a door for SMP over UDP, and a client's socket.
fn udp() -> (Server, UdpSocket) {
    let server = Server::new(&["--smp-udp", "127.0.0.1:0", "--no-confirm"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address("smp-udp")).unwrap();
    (server, socket)
}

/// The next datagram; `None` if none comes.
fn datagram(socket: &UdpSocket, patience: Duration) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(patience)).unwrap();
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).ok()?;
    Some(bytes[..length].to_vec())
}

// smp cases 6-9
#[test]
fn each_smp_frame_of_a_datagram_is_answered_and_a_protocol_error_ends_the_datagram() {
    let (_server, socket) = udp();
    let ask = |bytes: &[u8], answers: &[&[u8]]| {
        socket.send(bytes).unwrap();
        for answer in answers {
            assert_eq!(
                datagram(&socket, PATIENCE).as_deref(),
                Some(*answer),
                "{bytes:02x?}"
            );
        }
        // Nothing else is under way when the next echo comes back.
        socket.send(ECHO).unwrap();
        assert_eq!(
            datagram(&socket, PATIENCE).as_deref(),
            Some(ECHOED),
            "{bytes:02x?}"
        );
    };
    let with_sequence = |frame: &[u8], sequence| [&frame[..6], &[sequence], &frame[7..]].concat();
    let (one, two) = (with_sequence(ECHO, 1), with_sequence(ECHO, 2));
    let answers = [with_sequence(ECHOED, 1), with_sequence(ECHOED, 2)];
    ask(&[one.clone(), two.clone()].concat(), &[&answers[0], &answers[1]]);
    // A group that does not exist: the second frame is ignored.
    let unknown = b"\x08\x00\x00\x01\x00\x09\x07\x00\xa0";
    let refused: &[u8] = b"\x09\x00\x00\x05\x00\x09\x07\x00\xa1brc\x08";
    ask(&[unknown, two.as_slice()].concat(), &[refused]);
    // Fewer bytes than a header, alone and after a frame.
    for length in 0..8 {
        ask(&ECHO[..length], &[]);
    }
    ask(&[one.as_slice(), &two[..5]].concat(), &[&answers[0]]);
    // Fewer bytes than the header says, and more than a frame may have.
    let corrupt: &[u8] = b"\x0b\x00\x00\x05\x00\x00\x42\x00\xa1brc\x09";
    ask(&ECHO[..12], &[corrupt]);
    let long = [&[0x0A, 0, 0x0B, 0xB8, 0, 0, 0x42, 0][..], &[0xA0; 3000]].concat();
    ask(&long, &[corrupt]);
}

#[test]
fn smp_over_udp_requests_a_reset_and_is_available_again_after_it() {
    let (mut server, socket) = udp();
    socket.send(b"\x0a\x00\x00\x01\x00\x00\x09\x05\xa0").unwrap();
    let answer = datagram(&socket, PATIENCE).unwrap();
    assert_eq!(
        answer, b"\x0b\x00\x00\x01\x00\x00\x09\x05\xa0",
        "before the reset"
    );
    assert_eq!(
        server.line("resetting"),
        "resetting",
        "there is nothing to install"
    );
    server.line("running 1.0.0 (confirmed)");
    socket.send(ECHO).unwrap();
    assert_eq!(datagram(&socket, PATIENCE).as_deref(), Some(ECHOED));
}

/// The error with which the first piece of an upload of `image` is refused.
fn first_piece(socket: &UdpSocket, image: &[u8]) -> Option<Failure> {
    let piece = image_group::Upload {
        offset: Some(0),
        length: Some(image.len() as u64),
        data: &image[..600],
        ..Default::default()
    };
    let request = smp::Request::Image(image_group::Request::Upload(piece));
    let mut frame = [0; 1024];
    let length = smp::encode_request(smp::Version::V2, 7, &request, &mut frame).unwrap();
    socket.send(&frame[..length]).unwrap();
    let answer = datagram(socket, PATIENCE).unwrap();
    let error = Answer::decode(&answer).unwrap().error?;
    Some(error.known().expect("an error of the image group"))
}

#[test]
fn a_device_whose_image_has_an_address_refuses_images_for_other_addresses_even_after_a_restart() {
    let file = |name| vector(&format!("vectored/{name}.signed.bin"));
    let image = |name| std::fs::read(file(name)).unwrap();
    let mut options = vec![
        "--smp-udp".to_owned(),
        "127.0.0.1:0".to_owned(),
        "--primary".to_owned(),
        file("application-1.0.0").display().to_string(),
    ];
    let mut server = Server::in_folder(tempfile::tempdir().unwrap(), options.clone());
    let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
    for is_restarted in [false, true] {
        if is_restarted {
            // The image in the folder counts, not the one that a new folder would get.
            options.truncate(2);
            server.options = options.clone();
            server.restart();
        }
        let socket = socket();
        socket.connect(server.address("smp-udp")).unwrap();
        assert_eq!(
            first_piece(&socket, &image("network-core-2.0.0")),
            Some(Failure::Image(image_group::Error::InvalidImageVectorTable)),
            "restarted: {is_restarted}"
        );
        let good = image("application-2.0.0");
        assert_eq!(first_piece(&socket, &good), None, "restarted: {is_restarted}");
    }
}

/// Whether something can be read within this many seconds.
fn has_input(fd: &rustix::fd::OwnedFd, seconds: i64) -> bool {
    let mut wait = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    rustix::event::poll(&mut wait, Some(&patience)) == Ok(1)
}

#[test]
fn an_smp_console_answers_between_other_text_and_survives_its_clients() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smp");
    let _server = Server::new(&["--smp-pty", path.to_str().unwrap()]);
    for _ in 0..2 {
        let port = Server::terminal(&path);
        let mut answer = Vec::new();
        // Bytes may be lost between two clients of a terminal, so SMP clients send again.
        for _ in 0..5 {
            port.send(b"some text\n\x06\x09ABAKAAAGAABCAKFhZGJoaZsK\nmore text\n")
                .unwrap();
            while answer.last() != Some(&b'\n') && has_input(&port.fd, 1) {
                let mut byte = [0];
                assert_eq!(rustix::io::read(&port.fd, &mut byte), Ok(1));
                answer.push(byte[0]);
            }
            if !answer.is_empty() {
                break;
            }
        }
        assert_eq!(answer, b"\x06\x09ABALAAAGAABCAKFhcmJoadxV\n");
    }
}

/// Sends an SMP frame over the Bluetooth door in fragments of 20 bytes; returns the answer.
fn over_bluetooth(port: &mut Port, frame: &[u8]) -> Vec<u8> {
    for fragment in frame.chunks(20) {
        port.write(3, fragment).unwrap();
    }
    let mut answer = Vec::new();
    loop {
        while port.received.len() < 3 {
            port.receive().unwrap();
        }
        let &[low, high, kind, ..] = port.received.as_slice() else {
            unreachable!()
        };
        let length = 3 + usize::from(u16::from_le_bytes([low, high]));
        while port.received.len() < length {
            port.receive().unwrap();
        }
        assert_eq!(kind, 0x83);
        assert!(length <= 3 + 20, "fragments fit the MTU");
        answer.extend(port.received.drain(..length).skip(3));
        let frame_length = answer
            .get(2..4)
            .map(|bytes| 8 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
        if frame_length == Some(answer.len()) {
            return answer;
        }
    }
}

#[test]
fn smp_is_fragmented_over_the_bluetooth_door() {
    let server = Server::new(&["--mtu", "23"]);
    let mut port = server.gatt();
    assert_eq!(over_bluetooth(&mut port, ECHO), ECHOED);
    let state = over_bluetooth(&mut port, b"\x08\x00\x00\x01\x00\x01\x07\x00\xa0");
    assert!(state.len() > 100, "a list of images in many notifications");
    // Secure DFU on the same link still works.
    assert_eq!(port.ask(&[op::SELECT, 1])[..3], [0x60, op::SELECT, 1]);
}

#[test]
fn a_port_in_use_or_one_path_for_two_terminals_is_refused_with_one_sentence() {
    let (server, _) = udp();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let said = refused(&state, &["--smp-udp", &server.address("smp-udp")]);
    assert!(
        said.contains("--smp-udp") && said.contains("is another device behind that port?"),
        "{said}"
    );
    let path = folder.path().join("pty");
    let path = path.to_str().unwrap();
    let said = refused(&state, &["--smp-pty", path, "--slip-pty", path]);
    assert!(said.contains("a path each"), "{said}");
}

#[test]
fn a_second_device_does_not_take_the_terminal_of_a_live_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("port");
    let port = path.to_str().unwrap();
    let primary = vector("images/small-1.0.0.signed.bin").display().to_string();
    let options = ["--slip-pty", port, "--primary", &primary].map(str::to_owned);
    let mut server = Server::in_folder(tempfile::tempdir().unwrap(), options.to_vec());
    let target = std::fs::read_link(&path).unwrap();
    let said = refused(&folder.path().join("other"), &["--slip-pty", port]);
    assert!(said.contains("another device serves"), "{said}");
    assert_eq!(std::fs::read_link(&path).unwrap(), target, "the link stays");
    // When killed, it leaves the link and its lock behind, which block nobody.
    server.cut();
    server.restart();
    assert!(path.exists());
}
