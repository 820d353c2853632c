# SPDX-License-Identifier: Apache-2.0
"""Runs `bledfu serve` and the real clients as processes, and watches what they say; collects the scenarios."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

from wire_trace import Trace

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
VECTORS = os.path.join(ROOT, "tests", "vectors")
CACHE = os.path.abspath(os.environ.get("BLEDFU_CLIENTS_DIR", os.path.join(ROOT, "rust", "target", "clients")))


SMP_PORT = 1337                           # the only one that smpmgr and smpclient know


class Failure(Exception):
    """A scenario did not go as it must."""


SCENARIOS = []


def scenario(*variants):
    """Registers a function once, or once per variant (a tuple of arguments)."""
    def register(function):
        for variant in variants or [()]:
            name = function.__name__ + "".join("_%s" % part for part in variant)
            SCENARIOS.append((name, function, variant))
        return function
    return register


def expect(condition, message):
    if not condition:
        raise Failure(message)


def finished(server, version, timeout=60):
    """The new version runs, confirmed, and still does after another reset."""
    server.wait_confirmed(version, timeout)
    expect(server.restart() == (version, "confirmed"), "after another reset it is not confirmed any more")


def package(name):
    return os.path.join(VECTORS, "packages", name + ".zip")


def image(name):
    return os.path.join(VECTORS, "images", name)


def package_facts(name):
    with open(os.path.join(VECTORS, "packages.json")) as file:
        for entry in json.load(file):
            if entry["file"] == "packages/%s.zip" % name:
                return entry
    raise KeyError(name)


def image_size(name):
    return package_facts(name)["application"]["bin_size"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_smp_host():
    """A loopback address on which nobody has the port of SMP, so that scenarios can run side by side."""
    hosts = ["127.0.0.1"]
    if sys.platform == "linux":                                             # all of 127/8 is the loopback there
        hosts = ["127.%u.%u.%u" % tuple(random.randint(1, 254) for _ in range(3)) for _ in range(8)]
    for host in hosts:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, SMP_PORT))
                return host
            except OSError:
                continue
    raise Failure("UDP port %u, the only one that smpmgr knows, is in use: stop what serves SMP on this machine" % SMP_PORT)


class Output:
    """The lines a process prints, as they come."""

    def __init__(self, process, on_line=None):
        self.process = process
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        self.on_line = on_line
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            line = line.rstrip("\r\n")
            with self.changed:
                self.lines.append(line)
                self.changed.notify_all()
            if self.on_line:
                self.on_line(line)
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, pattern, timeout, start=0):
        """The first line from number `start` on that matches; Failure if none comes."""
        deadline = time.monotonic() + timeout
        seen = start
        with self.changed:
            while True:
                for line in self.lines[seen:]:
                    match = re.search(pattern, line)
                    if match:
                        return match
                seen = len(self.lines)
                left = deadline - time.monotonic()
                if self.ended or left <= 0:
                    raise Failure("no line /%s/ %s" % (pattern, "before the end" if self.ended else "in %u s" % timeout))
                self.changed.wait(left)


class Server:
    """One device in a box: a state folder, and the process that brings it to life, again and again."""

    def __init__(self, bledfu, folder, doors, options=(), primary="small-1.0.0.signed.bin", flash_time="none"):
        self.state = os.path.join(folder, "state")
        self.pty = os.path.join(folder, "dfu-port")
        self.command = [bledfu, "serve", "--state", self.state, "--flash-time", flash_time]
        if primary:
            self.command += ["--primary", image(primary)]
        self.smp_pty = os.path.join(folder, "smp-port")
        self.slip_address = self.gatt_address = self.smp_host = None
        if "pty" in doors:
            self.command += ["--slip-pty", self.pty]
        if "slip" in doors:
            self.slip_address = ("127.0.0.1", free_port())
            self.command += ["--slip-tcp", "%s:%u" % self.slip_address]
        if "gatt" in doors:
            self.gatt_address = ("127.0.0.1", free_port())
            self.command += ["--gatt-tcp", "%s:%u" % self.gatt_address]
        if "smp-udp" in doors:
            self.smp_host = free_smp_host()
            self.command += ["--smp-udp", "%s:%u" % (self.smp_host, SMP_PORT)]
        if "smp-pty" in doors:
            self.command += ["--smp-pty", self.smp_pty]
        self.command += list(options)
        self.process = self.output = None
        self.mark = 0
        self.log = []                     # of all processes so far

    def start(self):
        """Starts the device and returns the version it runs and whether that is confirmed."""
        if self.output:
            self.log += self.output.lines + ["---- power off ----"]
        self.mark = 0
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self.output = Output(self.process)
        running = self.output.wait(r"running (\S+) \((confirmed|test)\)", 60)
        self.output.wait(r"\bserving\b", 60)
        return running.group(1), running.group(2)

    def kill(self):
        """The power goes, now."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()

    def restart(self):
        self.stop()
        return self.start()

    def wait_confirmed(self, version, timeout=60):
        self.output.wait(r"running %s \(confirmed\)|^(?!.*(?:not |un)confirmed).*\b%s\b.*\bconfirmed\b"
                         % (re.escape(version), re.escape(version)), timeout, start=self.mark)

    def set_mark(self):
        """Lines from here on count for wait_confirmed."""
        self.mark = len(self.output.lines)

    def tail(self, count=25):
        lines = self.log + (self.output.lines if self.output else [])
        return "\n".join("      | " + line for line in lines[-count:])


class Client:
    """A real client in its own process; its frames go through a Trace."""

    name = "client"
    success = None
    frame_pattern = None

    def __init__(self, command, on_frame=None, environment=None, image_bytes=None):
        self.trace = Trace(on_frame)
        self.trace.image_size = image_bytes
        self.command = command
        self.environment = dict(os.environ, PYTHONUNBUFFERED="1", **(environment or {}))
        self.output = self.process = None

    def parse(self, text):
        raise NotImplementedError

    def _line(self, line):
        match = self.frame_pattern.search(line)
        if match:
            frame = self.parse(match.group(2))
            if match.group(1) == "-->":
                self.trace.sent(frame)
            else:
                self.trace.received(frame)

    def run(self, timeout=120):
        """Returns True if the client says the update is done and exits with 0."""
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace", env=self.environment)
        self.output = Output(self.process, self._line)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise Failure("%s did not end in %u s:\n%s" % (self.name, timeout, self.tail())) from None
        self.output.thread.join(10)
        return code == 0 and any(self.success in line for line in self.output.lines)

    def tail(self, count=12):
        return "\n".join("      : " + line[:160] for line in self.output.lines[-count:])


class Nrfutil(Client):
    """`nrfutil dfu serial`. With -v four times it logs every frame.

    It looks for a USB device of that name for as many seconds as its timeout says (default 30), then pauses
    for the connect delay (default 3), then opens the port.
    """

    name = "nrfutil"
    success = "Device programmed."
    frame_pattern = re.compile(r"SLIP: (-->|<--) \[(.*)\]")

    def __init__(self, venv, port, package_path, prn, on_frame=None, image_bytes=None, timeout=1):
        super().__init__([os.path.join(venv, "bin", "nrfutil"), "-v", "-v", "-v", "-v", "dfu", "serial", "-pkg", package_path,
                          "-p", port, "-b", "115200", "-prn", str(prn), "-cd", "0", "-t", str(timeout)],
                         on_frame, image_bytes=image_bytes)

    def parse(self, text):
        return bytes(int(number) for number in text.split(","))


class NrfDfu(Client):
    """The program in nrf_dfu/, around the crate of that name."""

    name = "nrf_dfu"
    success = "updated"
    frame_pattern = re.compile(r"^(-->|<--) ([0-9a-f ]*)$")

    def __init__(self, program, port, package_path, prn, on_frame=None, image_bytes=None, force=False):
        super().__init__([program, *(["--force"] if force else []), port, package_path], on_frame,
                         {"NRF_DFU_PRN": str(prn)}, image_bytes)

    def parse(self, text):
        return bytes.fromhex(text)


def run_tool(*command, cwd=None):
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, cwd=cwd)
    if done.returncode != 0:
        raise Failure("%s failed:\n%s" % (" ".join(map(str, command[:3])), done.stdout[-2000:]))
    return done.stdout


def install_python_clients(kind="nrfutil"):
    """The folder of the virtual environment with nrfutil and imgtool, or of that with the clients of SMP."""
    done = subprocess.run([os.path.join(HERE, "venv.sh"), kind], stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, BLEDFU_CLIENTS_DIR=CACHE))
    if done.returncode != 0:
        raise Failure("venv.sh could not install the clients (%s)" % kind)
    return done.stdout.strip()


def build_mcumgr_smp():
    """Builds the program in mcumgr_smp/, around the crate of that name."""
    source = os.path.join(HERE, "mcumgr_smp")
    target = os.path.join(CACHE, "target-smp")
    done = subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--quiet", "--locked",
                           "--manifest-path", os.path.join(source, "Cargo.toml"), "--target-dir", target])
    if done.returncode != 0:
        raise Failure("the mcumgr_smp client does not build")
    return os.path.join(target, "debug", "mcumgr-smp-client")


def build_nrf_dfu():
    """Builds the crate client twice: as published, and with its receipt interval read from NRF_DFU_PRN.

    Returns a function from the interval to the program.
    """
    source = os.path.join(HERE, "nrf_dfu")
    target = os.path.join(CACHE, "target")
    published = os.path.join(CACHE, "nrf-dfu-client")
    changed = os.path.join(CACHE, "nrf-dfu-client-any-prn")
    inputs = [os.path.join(source, name) for name in ("Cargo.toml", "Cargo.lock", os.path.join("src", "main.rs"))]
    newest = max(os.path.getmtime(name) for name in [*inputs, __file__])
    if not all(os.path.exists(name) and os.path.getmtime(name) > newest for name in (published, changed)):
        os.makedirs(CACHE, exist_ok=True)
        cargo = os.environ.get("CARGO", "cargo")

        def build(folder, keep, *options):
            done = subprocess.run([cargo, "build", "--quiet", "--manifest-path", os.path.join(folder, "Cargo.toml"),
                                   "--target-dir", target, *options])
            if done.returncode != 0:
                raise Failure("the nrf_dfu client does not build")
            shutil.copyfile(os.path.join(target, "debug", "nrf-dfu-client"), keep + ".new")
            os.chmod(keep + ".new", 0o755)
            os.replace(keep + ".new", keep)

        build(source, published, "--locked")
        metadata = json.loads(subprocess.run(
            [cargo, "metadata", "--format-version", "1", "--locked", "--manifest-path", os.path.join(source, "Cargo.toml")],
            stdout=subprocess.PIPE, check=True).stdout)
        crate = next(entry for entry in metadata["packages"] if entry["name"] == "nrf_dfu")
        # A copy, because replacing a dependency changes the lock file.
        work = os.path.join(CACHE, "nrf_dfu-any-prn")
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, os.path.join(work, "client"), ignore=shutil.ignore_patterns("target"))
        crate_copy = os.path.join(work, "nrf_dfu")
        shutil.copytree(os.path.dirname(crate["manifest_path"]), crate_copy)
        updater = os.path.join(crate_copy, "src", "updater.rs")
        with open(updater) as file:
            text = file.read()
        constant = "prn: 3,"
        if text.count(constant) != 1:
            raise Failure("nrf_dfu sets its receipt interval elsewhere than expected")
        with open(updater, "w") as file:
            file.write(text.replace(constant, 'prn: std::env::var("NRF_DFU_PRN").unwrap().parse().unwrap(),'))
        build(os.path.join(work, "client"), changed, "--config", "patch.crates-io.nrf_dfu.path=%s" % json.dumps(crate_copy))
    return lambda prn: published if prn == 3 else changed


def find_bledfu(argument):
    built = [os.path.join(ROOT, "rust", "target", kind, "bledfu") for kind in ("release", "debug")]
    for candidate in (argument, os.environ.get("BLEDFU"), *built):
        if candidate and os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return os.path.abspath(candidate)
    sys.exit("run.py: no bledfu program found; build it (cargo build --release in rust/) or set BLEDFU")
