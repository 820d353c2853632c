// SPDX-License-Identifier: Apache-2.0
//! A process of `bledfu serve`, and its power.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use tempfile::TempDir;

use crate::common::{bledfu, vector_path};
use crate::port::{Framing, Port};

/// Longest time that anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A folder with a device in it, and the process that is its power.
pub struct Server {
    pub folder: TempDir,
    pub options: Vec<String>,
    pub process: Child,
    pub lines: Receiver<String>,
    /// The line with the doors.
    pub serving: String,
}

impl Server {
    /// A new device that runs the small image 1.0.0.
    pub fn new(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let primary = vector_path("images/small-1.0.0.signed.bin");
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

    pub fn in_folder(folder: TempDir, options: Vec<String>) -> Self {
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

    /// Power off and on; the line about the running image.
    pub fn restart(&mut self) -> String {
        self.cut();
        self.start();
        let running = self.line("running ");
        self.serving = self.line("serving ");
        running
    }

    /// Power on.
    pub fn start(&mut self) {
        (self.process, self.lines) = start(self.folder.path(), &self.options);
    }

    /// Tells the process to end, and waits until it has ended well.
    pub fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }

    /// Power off.
    pub fn cut(&mut self) {
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }

    /// The next line that begins so.
    pub fn line(&mut self, begin: &str) -> String {
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

    pub fn address(&self, door: &str) -> String {
        let mut words = self.serving.split(' ');
        words.find(|word| *word == door).unwrap();
        words.next().unwrap().to_owned()
    }

    pub fn gatt(&self) -> Port {
        Port::new(
            TcpStream::connect(self.address("gatt-tcp")).unwrap().into(),
            Framing::Gatt,
        )
    }

    pub fn slip(&self) -> Port {
        Port::new(
            TcpStream::connect(self.address("slip-tcp")).unwrap().into(),
            Framing::Slip,
        )
    }

    pub fn terminal(path: &Path) -> Port {
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
    let mut command = bledfu("serve");
    command.arg("--state").arg(folder);
    // Fast unless a test asks for real times.
    command.args([
        "--flash-time",
        if options.iter().any(|option| option == "real") {
            "real"
        } else {
            "none"
        },
    ]);
    command.args(options.iter().filter(|option| *option != "real"));
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

/// Runs `bledfu serve` with options that it must refuse; returns its only line.
pub fn refused(folder: &Path, options: &[&str]) -> String {
    let options: Vec<String> = options.iter().map(ToString::to_string).collect();
    let Output { status, stderr, .. } = command(folder, &options).output().unwrap();
    assert!(!status.success());
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}
