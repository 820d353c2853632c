# SPDX-License-Identifier: Apache-2.0
"""The device under test as a process: the Zephyr application on native_sim, or `bledfu serve` behind the Bluetooth bridge."""

import os
import re
import signal
import subprocess
import sys
import time

import harness
from harness import Failure, Output, Server

HERE = os.path.dirname(os.path.abspath(__file__))
KEY = os.path.join(harness.VECTORS, "keys", "image.pem")
SIM_SLOT_SIZE, SIM_PRIMARY_AT, SIM_SECONDARY_AT, SIM_REVERT_AT = 0xE8000, 0xD000, 0, 0xEA000
CHECK_ADDRESS = "--check-address"
# Sizes of the flashes of examples/embassy; in a layout the external one is behind the internal one.
EMBASSY_INTERNAL_SIZE, EMBASSY_EXTERNAL_SIZE = 0x100000, 0x200000
MAGIC = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980")
PAGE = 4096
START_TIMEOUT = 30
LOG_TIMEOUT = 3
CONFIRM_TIMEOUT = 10


class Inspection:
    """What `bledfu inspect` says of a slot, by the names of its lines."""

    def __init__(self, bledfu, path, *options):
        done = subprocess.run([bledfu, "inspect", path, "--image-key", KEY, *options], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.text, self.sound = done.stdout, done.returncode == 0

    def __getitem__(self, name):
        match = re.search(r"^ +%s {2,}(.*)$" % re.escape(name), self.text, re.MULTILINE)
        return match.group(1).strip() if match else None

    def expect(self, values):
        for name, value in values.items():
            if self[name] != value:
                raise Failure("bledfu inspect says %s: %s, expected %s\n%s" % (name, self[name], value, self.text))


class Device:
    """What both have in common. `lives` counts how often the device's Bluetooth host came to its controller."""

    # The boot stage installs no older image than the running one, and the device says so.
    refuses_older = False

    def __init__(self, tools, folder, central):
        self.tools, self.folder, self.central = tools, folder, central
        self.lives = 0

    @property
    def is_off(self):
        return self.process.poll() is not None

    def _came(self):
        self.lives += 1
        if not self.central.wait_for_host(self.lives, START_TIMEOUT):
            raise Failure("the device did not come to its Bluetooth controller in %u s" % START_TIMEOUT)

    def _save(self, name, data):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def _inspect(self, name, slot):
        algorithm = ["--algorithm", self.tools.layout.algorithm] if self.tools.layout else []
        return Inspection(self.tools.bledfu, self._save(name, slot), "--slot-size", str(len(slot)), *algorithm)

    def _holds(self, name, slot, image):
        """The slot holds that image, by its bytes, by imgtool and by our own eyes."""
        # Swap using offset stores an update from the second page on.
        start = PAGE if name == "secondary" and slot[:4] == b"\xff" * 4 else 0
        held = slot[start:start + len(image)]
        if held != image:
            different = next(at for at in range(len(image)) if held[at] != image[at])
            raise Failure("the image in the %s differs from the package from byte %u on" % (name, different))
        path = self._save(name + "-image.bin", slot[start:])
        done = subprocess.run([*self.tools.imgtool, "verify", "-k", KEY, path], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Failure("imgtool verify refuses the %s:\n%s" % (name, done.stdout))
        inspection = self._inspect(name + ".bin", slot)
        if not inspection.sound:
            raise Failure("bledfu inspect finds something wrong in the %s:\n%s" % (name, inspection.text))
        return inspection

    def said(self, word):
        """The device's log has that word, or has it soon: its output comes another way than its answer."""
        deadline = time.monotonic() + LOG_TIMEOUT
        while not any(word in line.lower() for line in self.lines()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def boots_after_cut(self, version, image=None):
        """Power again after a cut behind a staged image: the boot stage installs it, the application starts and confirms it."""
        raise NotImplementedError

    def expect_nothing_staged(self):
        self._inspect("secondary.bin", self.secondary()).expect({
            "in the secondary slot": "nothing is asked for", "magic": "unset"})


class ZephyrDevice(Device):
    """`zephyr.exe` with its flash in a file. A reset is a new process, or the same one started over by itself."""

    name = "native_sim"
    is_a_host = True
    calls_itself = "Zephyr"

    def __init__(self, tools, folder, central):
        super().__init__(tools, folder, central)
        self.flash = os.path.join(folder, "flash.bin")
        # Of buttonless/: what a reset does not clear, and a power cut does.
        self.retained = os.path.join(folder, "retained.bin")
        self.process = self.output = None
        self.confirms = None                # who confirms an image, if the application leaves that to the phone
        self.starts_over = False            # let it start over without a boot stage
        central.radio.on_host_gone = self._stop_before_it_starts_over
        self.log = []
        self.last_place = None              # where the update before was received, with copy
        with open(harness.image("small-1.0.0.signed.bin"), "rb") as file:
            self.running = file.read()
        self._make_flash()
        self._write(self.primary_address, self.running)

    def _make_flash(self):
        self._save("flash.bin", b"\xff" * self.tools.layout.flash_size)

    def _where(self, at):
        """The file that holds an address of the layout, and where in it."""
        return self.flash, at

    def _write(self, at, data):
        path, offset = self._where(at)
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def _command(self):
        retained = ["--retained=" + self.retained] if self.tools.buttonless else []
        return [self.tools.exe, "--bt-dev=127.0.0.1:%u" % self.central.radio.port, "-flash=" + self.flash, *retained,
                *self.tools.exe_options]

    def start(self):
        if self.output:
            self.log += self.output.lines + ["---- power off ----"]
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self.output = Output(self.process)
        self._came()

    def power_cut(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if os.path.exists(self.retained):
            os.remove(self.retained)
        # The radio has seen it too, before there is another process that it would take for this one.
        self.central.wait_until_reset(self.lives)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.power_cut()

    def wait_for_reset(self):
        """Until it has gone; then it is off, whatever it did by itself."""
        if not self.central.wait_until_reset(self.lives):
            raise Failure("the device did not reset")
        code = self.process.wait(5)
        self.output.thread.join(5)          # its last line may still be on the way
        if code not in (0, -signal.SIGKILL) and not any("sys_arch_reboot called" in line for line in self.output.lines[-3:]):
            raise Failure("the device ended with code %d instead of a reset" % code)

    def _stop_before_it_starts_over(self):
        """CONFIG_NATIVE_SIM_REBOOT: the process closes all its files and begins again, but the boot stage comes first."""
        if self.process.poll() is None and not self.starts_over:
            self.process.kill()

    def lines(self):
        return self.log + (self.output.lines if self.output else [])

    def tail(self, count=30):
        return "\n".join("      | " + line for line in self.lines()[-count:])

    @property
    def checks_address(self):
        return self.tools.checks_address

    @property
    def primary_address(self):
        return self.tools.layout.primary[0]

    def use_factory_image(self, image):
        """Before the first start."""
        self.running = image
        self._write(self.primary_address, image)

    def pad_primary(self):
        """Before the first start: the trailer that `imgtool sign --pad` makes."""
        at, size = self.tools.layout.primary
        self._write(at + size - len(MAGIC), MAGIC)

    def _slot(self, place):
        at, size = place
        path, offset = self._where(at)
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def secondary(self):
        """Where an update waits, else slot 1."""
        return self._slot(self._place())

    def _place(self):
        places = [place for place in self.tools.layout.places if self._slot(place).endswith(MAGIC)]
        if len(places) > 1:
            raise Failure("both places for updates ask for an install")
        return places[0] if places else self.tools.layout.secondary

    def check_staged(self, image, permanent=False):
        self._holds("secondary", self.secondary(), image).expect({
            "magic": "good", "copy_done": "unset", **({
                "image_ok": "set", "swap_info": "0x03 (permanent, image 0)",
                "in the secondary slot": "the next boot installs the image for good"} if permanent else {
                "image_ok": "unset", "swap_info": "0x02 (test, image 0)",
                "in the secondary slot": "the next boot installs the image on test"})})

    def reset_and_boot(self, version, state):
        """The device has reset: the boot stage is next, and leaves `version` running in that state; then the application starts."""
        self.wait_for_reset()
        self._boot(version, state)
        self.start()
        self.central.find()

    def check_update(self, image, version, permanent=False):
        """The secondary slot asks the boot stage for the image; that installs it; the application runs from it and confirms it."""
        self.wait_for_reset()
        self.check_staged(image, permanent)
        place = self._place()
        self._boot(version, "confirmed" if permanent else "test")
        self._check_kept(place)
        self.running = image
        self.start()
        self.central.find()
        if self.confirms:
            self.confirms(permanent)
        self._wait_confirmed(image, version)
        return "staged, installed, runs %s, confirmed" % version

    def boots_after_cut(self, version, image=None):
        self.reset_and_boot(version, "test")
        if self.confirms:
            self.confirms(False)
        self.running = image
        if image is None:
            with open(harness.image("small-%s.signed.bin" % version), "rb") as file:
                self.running = file.read()
        self._wait_confirmed(self.running, version)

    def expect_runs_and_nothing_staged(self, image, version):
        """However the device went on behind the answer: the boot stage has nothing to do."""
        if self.central.wait_until_reset(self.lives, 3):
            self.reset_and_boot(version, "confirmed")
        self._wait_confirmed(image, version)
        if self._slot(self._place()).endswith(MAGIC):
            raise Failure("the boot stage is asked for something again")

    def _wait_confirmed(self, image, version):
        primary = self._slot(self.tools.layout.primary)
        deadline = time.monotonic() + CONFIRM_TIMEOUT
        while self._holds("primary", primary, image)["image_ok"] != "set":
            if time.monotonic() > deadline:
                raise Failure("%s runs, but is not confirmed after %u s" % (version, CONFIRM_TIMEOUT))
            time.sleep(0.2)
            primary = self._slot(self.tools.layout.primary)

    def _check_kept(self, place):
        """With copy, the two places take turns, and the one that was not received into holds the image before."""
        layout = self.tools.layout
        if layout.revert is None:
            return
        if place == self.last_place:
            raise Failure("an update was received over the copy of the running image")
        self.last_place = place
        other = layout.places[1 - layout.places.index(place)]
        if not self._slot(other).startswith(self.running):
            raise Failure("no place holds the image before")

    def check_start_without_boot_stage(self, image):
        """The boot stage has not looked yet (or there is another): what is staged must stay."""
        if self.process.poll() is not None:
            self.start()
        else:
            self._came()
        self.central.find()
        time.sleep(1)
        self.check_staged(image)

    def _boot(self, version, state):
        """The boot stage as a program of its own on the same slots: the start of a simulated device that has them."""
        layout = self.tools.layout
        places = [("internal.bin", SIM_PRIMARY_AT, layout.primary), ("external.bin", SIM_SECONDARY_AT, layout.secondary)]
        if layout.revert is not None:
            places.append(("external.bin", SIM_REVERT_AT, layout.revert))
        if any(size != SIM_SLOT_SIZE for _, _, (_, size) in places):
            raise Failure("bledfu's boot stage has slots of %#x bytes, the application others" % SIM_SLOT_SIZE)
        server = Server(self.tools.bledfu, self.folder, ["gatt"], ["--no-confirm", "--install", layout.algorithm])
        try:
            server.start()                  # makes the files
            server.kill()
            for name, at, place in places:
                with open(os.path.join(server.state, name), "r+b") as file:
                    file.seek(at)
                    file.write(self._slot(place))
            runs = server.start()
            server.kill()
            if runs != (version, state):
                raise Failure("after the boot stage runs %s (%s)\n%s" % (*runs, server.tail()))
        finally:
            server.stop()
        for name, at, (begin, size) in places:
            with open(os.path.join(server.state, name), "rb") as file:
                file.seek(at)
                self._write(begin, file.read(size))


class EmbassyDevice(ZephyrDevice):
    """The device of examples/embassy, with a file for each of its two flashes."""

    name = "examples/embassy"
    calls_itself = "embassy"

    def _files(self):
        return [os.path.join(self.folder, name) for name in ("internal.bin", "external.bin")]

    def _make_flash(self):
        self._save("internal.bin", b"\xff" * EMBASSY_INTERNAL_SIZE)
        self._save("external.bin", b"\xff" * EMBASSY_EXTERNAL_SIZE)

    def _where(self, at):
        internal, external = self._files()
        return (internal, at) if at < EMBASSY_INTERNAL_SIZE else (external, at - EMBASSY_INTERNAL_SIZE)

    def _command(self):
        return [self.tools.exe, "127.0.0.1:%u" % self.central.radio.port, *self._files()]


class BridgeDevice(Device):
    """`bledfu serve`, and the bridge in a process of its own on the HCI door."""

    name = "bledfu serve and bridge.py"
    refuses_older = True
    is_a_host = False
    calls_itself = "bledfu"

    def __init__(self, tools, folder, central):
        super().__init__(tools, folder, central)
        options = ["--object-size", tools.object_size] if tools.object_size else []
        self.server = Server(tools.bledfu, folder, ["gatt"], ["--mtu", "498", "--install", "swap-offset", *options])
        self.process = None                 # the bridge
        self.seen = 0                       # lines of the device before its last reset

    def start(self):
        self.server.start()
        self.server.set_mark()
        self.seen = len(self.server.output.lines)
        host, port = self.server.gatt_address
        self.process = subprocess.Popen([sys.executable, os.path.join(HERE, "bridge.py"), "--gatt-tcp", "%s:%u" % (host, port),
                                        "--bt-dev", "127.0.0.1:%u" % self.central.radio.port],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        self._came()

    def power_cut(self):
        # The bridge first: a closed door would be a reset.
        for process in (self.process, self.server.process):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.server.stop()

    def wait_for_reset(self):
        self._came()
        # Its door is open until the reset: who comes before is sent away.
        self.server.output.wait(r"^running ", START_TIMEOUT, start=self.seen)
        self.seen = len(self.server.output.lines)

    @property
    def checks_address(self):
        return CHECK_ADDRESS in subprocess.run([self.tools.bledfu, "serve", "--help"], stdin=subprocess.DEVNULL,
                                               stdout=subprocess.PIPE, text=True).stdout

    primary_address = SIM_PRIMARY_AT

    def use_factory_image(self, image):
        """Before the first start; what looks at reset vectors starts no other."""
        path = self._save("factory.bin", image)
        self.server.command[self.server.command.index("--primary") + 1] = path
        self.server.command += [CHECK_ADDRESS, "on"]

    def lines(self):
        return self.server.log + (self.server.output.lines if self.server.output else [])

    def tail(self, count=30):
        return self.server.tail(count)

    def boots_after_cut(self, version, image=None):
        self.start()
        self.server.mark = 0
        self.server.wait_confirmed(version)
        self.central.find()

    def expect_runs_and_nothing_staged(self, image, version):
        self._came()                        # the bridge takes the end of the link for a reset
        self.central.find()
        self._holds("primary", self._slot("internal.bin", SIM_PRIMARY_AT), image).expect({"image_ok": "set"})
        self.expect_nothing_staged()

    def _slot(self, file_name, at):
        with open(os.path.join(self.server.state, file_name), "rb") as file:
            file.seek(at)
            return file.read(SIM_SLOT_SIZE)

    def secondary(self):
        return self._slot("external.bin", SIM_SECONDARY_AT)

    def check_update(self, image, version, permanent=False):
        """Its reset includes the boot stage, so the image is in the primary slot now."""
        self.wait_for_reset()
        self.server.wait_confirmed(version)
        self.central.find()
        self._holds("primary", self._slot("internal.bin", SIM_PRIMARY_AT), image).expect({
            "magic": "good", "image_ok": "set", "copy_done": "set",
            "swap_info": "0x03 (permanent, image 0)" if permanent else "0x02 (test, image 0)"})
        return "installed, runs %s, confirmed" % version


class Layout:
    """Where the slots are in the flash file, and how the boot stage installs."""

    ALGORITHMS = {"SWAP_OFFSET": "swap-offset", "SWAP_MOVE": "swap-move", "COPY": "copy"}

    def __init__(self, flash_size, primary, secondary, revert, algorithm):
        self.flash_size, self.primary, self.secondary, self.revert = flash_size, primary, secondary, revert
        self.algorithm = algorithm
        # Where updates are received.
        self.places = [secondary] if revert is None else [secondary, revert]

    @classmethod
    def of_embassy(cls):
        return cls(EMBASSY_INTERNAL_SIZE + EMBASSY_EXTERNAL_SIZE, (SIM_PRIMARY_AT, SIM_SLOT_SIZE),
                   (EMBASSY_INTERNAL_SIZE, SIM_SLOT_SIZE), None, "swap-offset")

    @classmethod
    def of_build(cls, exe):
        """From devicetree and options beside the executable: the simulated flash and its partitions by their labels."""
        with open(os.path.join(os.path.dirname(exe), ".config")) as file:
            chosen = re.search(r"^CONFIG_BLEDFU_INSTALL_(\w+)=y$", file.read(), re.MULTILINE).group(1)
        if chosen not in cls.ALGORITHMS:
            raise Failure("no update with CONFIG_BLEDFU_INSTALL_%s is known here" % chosen)
        path = os.path.join(os.path.dirname(exe), "zephyr.dts")
        with open(path) as file:
            text = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.DOTALL)
        places = {}
        for label, body in re.findall(r'(\w+_partition):[^{};]*\{([^{}]*)\}', text):
            reg = re.search(r"\breg = <\s*(\w+)\s+(\w+)\s*>", body)
            if reg:
                places[label] = (int(reg.group(1), 0), int(reg.group(2), 0))
        flash = re.search(r'compatible = "soc-nv-flash"[^{}]*?\breg = <\s*(\w+)\s+(\w+)\s*>', text) or re.search(
            r'\breg = <\s*(\w+)\s+(\w+)\s*>;[^{}]*?compatible = "soc-nv-flash"', text)
        try:
            return cls(int(flash.group(2), 0), places["slot0_partition"], places["slot1_partition"],
                       places["bledfu_revert_partition"] if chosen == "COPY" else None, cls.ALGORITHMS[chosen])
        except (AttributeError, KeyError) as error:
            raise Failure("%s has no simulated flash with slot0_partition and slot1_partition" % path) from error
