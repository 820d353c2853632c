# SPDX-License-Identifier: Apache-2.0
"""Scenarios with clients of SMP; run.py runs them."""

import json
import os
import re
import subprocess
import time

from gatt import Phone, load
from harness import HERE, Output, expect, finished, image, package, scenario

SMALL, MEDIUM = "small-2.0.0.signed.bin", "medium-2.3.4.signed.bin"
DOORS = ("udp", "pty")
ACTIVE, CONFIRMED, PENDING = "active", "confirmed", "pending"


# A device that installs older images as well.
ANY_VERSION = ["--prevent-downgrade", "none"]


class Smp:
    """The clients, on one of the two doors for SMP of a device that does not confirm its images itself."""

    def __init__(self, context, door, version="1.0.0", **options):
        self.context = context
        self.door = door
        confirms = options.pop("confirms", False)
        words = options.pop("options", []) + ([] if confirms else ["--no-confirm"])
        self.server = context.server("smp-" + door, options=words, **options)
        expect(self.server.start() == (version, "confirmed"), "the factory image does not run, confirmed")

    @property
    def place(self):
        return "udp:" + self.server.smp_host if self.door == "udp" else "serial:" + self.server.smp_pty

    def run(self, *command, must_succeed=True, timeout=60, on_line=None):
        """Runs one client; what it says."""
        process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   env=dict(os.environ, PYTHONDONTWRITEBYTECODE="1", COLUMNS="120", TERM="dumb"))
        output = Output(process, on_line)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            code = "no end in %u s" % timeout
        output.thread.join(10)
        said = "\n".join(output.lines)
        if must_succeed:
            expect(code == 0, "%s: %s\n%s" % (" ".join(map(str, command[-3:])), code, said[-1500:]))
        return code, said

    def smpmgr(self, *command, **options):
        where = ["--ip", self.server.smp_host] if self.door == "udp" else ["--port", self.server.smp_pty]
        return self.run(os.path.join(self.context.tools.smp(), "bin", "smpmgr"), *where, *command, **options)[1]

    def tool(self, what, *parameters, **options):
        python = os.path.join(self.context.tools.smp(), "bin", "python")
        return self.run(python, os.path.join(HERE, "smp_tool.py"), what, self.place, *parameters, **options)

    def images(self, said=None):
        """What `smpmgr image state-read` tells: for each slot version, hash and the flags that are set."""
        said = self.smpmgr("image", "state-read") if said is None else said
        found = {}
        for entry in re.findall(r"ImageState\((.*?)\n\)", said, re.DOTALL):
            value = lambda key: re.search(r"\b%s=(?:HashBytes\(\s*)?'?([^',\n]*)" % key, entry).group(1)
            flags = {flag for flag in (ACTIVE, CONFIRMED, PENDING, "permanent") if value(flag) == "True"}
            found[int(value("slot"))] = (value("version"), value("hash").lower(), flags)
        return found

    def wait_running(self, version, state, timeout=60):
        self.server.output.wait(r"running %s \(%s\)" % (re.escape(version), state), timeout, start=self.server.mark)

    def reset(self):
        self.server.set_mark()
        self.smpmgr("os", "reset")


# smp case 71
@scenario(*[(door,) for door in DOORS])
def smpmgr_step_by_step(context, door):
    """Echo, upload, test, reset, swap, confirm; then the same device is erased."""
    smp = Smp(context, door)
    expect("r='hi'" in smp.smpmgr("os", "echo", "hi"), "echo")
    images = smp.images()
    expect(list(images) == [0] and images[0][2] == {ACTIVE, CONFIRMED}, "the factory state is %r" % images)
    smp.smpmgr("image", "upload", image(MEDIUM))
    version, digest, flags = smp.images()[1]
    expect((version, flags) == ("2.3.4.5", set()), "after the upload slot 1 is %s %r" % (version, flags))
    smp.smpmgr("image", "state-write", digest)
    images = smp.images()
    expect(images[1][2] == {PENDING}, "after test: %r" % images)
    smp.reset()
    smp.wait_running("2.3.4+5", "test")
    smp.smpmgr("image", "erase", "1", must_succeed=False)
    images = smp.images()                       # the image to go back to is still there
    expect((images[0][1], images[0][2], images[1][2]) == (digest, {ACTIVE}, {CONFIRMED}), "on trial: %r" % images)
    smp.smpmgr("image", "state-write", "--confirm")
    expect(smp.server.restart() == ("2.3.4+5", "confirmed"), "after another reset it is not confirmed any more")
    images = smp.images()
    expect(images[0][2] == {ACTIVE, CONFIRMED}, "after confirm: %r" % images)
    smp.smpmgr("image", "erase", "1")
    images = smp.images()
    expect(list(images) == [0], "after erase: %r" % images)


# smp case 71
@scenario(*[(door,) for door in DOORS])
def smpmgr_upgrade(context, door):
    """`upgrade --slot 1`: without confirmation the next reset goes back; then again, confirmed."""
    smp = Smp(context, door)
    for confirmed in (False, True):
        smp.server.set_mark()
        smp.smpmgr("upgrade", "--slot", "1", image(SMALL))
        smp.wait_running("2.0.0", "test")
        if confirmed:
            smp.smpmgr("image", "state-write", "--confirm")
            break
        smp.reset()
        smp.server.output.wait(r"reverted 2\.0\.0 -> 1\.0\.0", 60, start=smp.server.mark)
    expect(smp.server.restart() == ("2.0.0", "confirmed"), "the confirmed image does not run")


@scenario()
def smpmgr_upgrade_for_good(context):
    """`upgrade --confirm`: installed without a test."""
    smp = Smp(context, "udp")
    smp.server.set_mark()
    smp.smpmgr("upgrade", "--slot", "1", "--confirm", image(SMALL))
    smp.wait_running("2.0.0", "confirmed")
    expect(smp.server.restart() == ("2.0.0", "confirmed"), "the image does not stay")


@scenario(*[(door,) for door in DOORS])
def smpclient_power_cut_and_resume(context, door):
    """Killed in the upload and once more in the swap; the upload goes on where it was."""
    smp = Smp(context, door, flash_time="real")

    def on_line(line):
        match = re.match(r"offset (\d+)", line)
        if match and int(match.group(1)) >= 20000 and smp.server.process.poll() is None:
            smp.server.kill()
    code, _ = smp.tool("upload", image(MEDIUM), must_succeed=False, on_line=on_line)
    expect(code != 0 and smp.server.process.poll() is not None, "the upload ended before the cut")
    expect(smp.server.start() == ("1.0.0", "confirmed"), "another image runs")
    _, said = smp.tool("upload", image(MEDIUM))
    first = int(re.search(r"offset (\d+)", said).group(1))
    expect(16384 <= first < 45000, "goes on at %u" % first)
    context.notes.append("went on at %u" % first)
    smp.smpmgr("image", "state-write", smp.images()[1][1])
    smp.reset()
    smp.server.output.wait(r"resetting", 30, start=smp.server.mark)
    time.sleep(0.7)
    smp.server.kill()
    version, state = smp.server.start()
    context.notes.append("after the cut in the swap %s (%s)" % (version, state))
    expect((version, state) in (("2.3.4+5", "test"), ("1.0.0", "confirmed")), "runs %s (%s)" % (version, state))
    if version == "1.0.0":
        return                                  # the cut came when the swap was done: that boot was the one of the test
    smp.smpmgr("image", "state-write", "--confirm")
    expect(smp.server.restart() == ("2.3.4+5", "confirmed"), "the image does not stay")


@scenario()
def smpmgr_image_of_the_case(context):
    """475,384 bytes with real flash times into a slot that another image has left: no answer takes smpmgr's two seconds."""
    smp = Smp(context, "udp", flash_time="real", confirms=True, options=ANY_VERSION)
    path = os.path.join(context.folder, "case.bin")
    with open(path, "wb") as file:
        file.write(load(package("demo-2.0.0"))[1])
    for name, version in ((image(MEDIUM), "2.3.4+5"), (path, "2.0.0")):
        smp.server.set_mark()
        started = time.monotonic()
        smp.smpmgr("upgrade", "--slot", "1", name, timeout=120)
        context.notes.append("%.1f s" % (time.monotonic() - started))
        smp.server.wait_confirmed(version, 120)
    finished(smp.server, "2.0.0")


# smp case 74
@scenario()
def smp_models_take_every_answer(context):
    """The pydantic models of the package `smp` refuse unknown keys and numbers out of range."""
    smp = Smp(context, "udp")
    smp.server.set_mark()
    _, said = smp.tool("models", image(SMALL))
    smp.wait_running("2.0.0", "test")
    context.notes.append(said.strip())


@scenario(*[(door,) for door in DOORS])
def mcumgr_toolkit_update(context, door):
    smp = Smp(context, door)
    smp.server.set_mark()
    smp.tool("toolkit", "update", image(SMALL))
    smp.wait_running("2.0.0", "test")
    smp.tool("toolkit", "confirm")
    expect(smp.server.restart() == ("2.0.0", "confirmed"), "the image does not stay")


# smp case 72
@scenario()
def mcumgr_client_update(context):
    """The crate mcumgr-client, as a Python module, which has only its serial transport."""
    smp = Smp(context, "pty", confirms=True)
    listed = lambda: json.loads(smp.tool("client", "list")[1])

    def lists(*versions):
        found = listed()
        expect([one["version"] for one in found] == list(versions), "lists %r" % found)
        return found
    lists("1.0.0")
    smp.tool("client", "upload", image(SMALL))
    lists("1.0.0", "2.0.0")
    smp.tool("client", "erase")
    lists("1.0.0")
    smp.tool("client", "upload", image(SMALL))
    smp.tool("client", "test")
    expect(lists("1.0.0", "2.0.0")[1]["pending"], "not pending")
    smp.server.set_mark()
    smp.tool("client", "reset")
    finished(smp.server, "2.0.0")


@scenario()
def mcumgr_smp_update(context):
    """The crate mcumgr-smp over UDP: killed in the upload, then upload, list, test, reset, confirm."""
    smp = Smp(context, "udp")
    program = context.tools.mcumgr_smp()

    def client(*command, **options):
        return smp.run(program, "%s:1337" % smp.server.smp_host, *command, **options)[1]
    expect(client("echo", "hi").strip() == "hi", "echo")

    def on_line(line):
        if line.startswith("offset ") and int(line.split()[1]) >= 20000 and smp.server.process.poll() is None:
            smp.server.kill()
    client("upload", image(MEDIUM), 64, must_succeed=False, on_line=on_line)
    expect(smp.server.process.poll() is not None, "the upload ended before the cut")
    smp.server.start()
    first = int(client("upload", image(MEDIUM)).split()[1])
    expect(16384 <= first < 45000, "goes on at %u" % first)
    context.notes.append("went on at %u" % first)
    slot, version, digest, *flags = client("list").splitlines()[1].split()
    expect((slot, version, flags) == ("1", "2.3.4.5", []), "lists slot %s, %s %r" % (slot, version, flags))
    expect(client("test", digest).splitlines()[1].split()[3:] == [PENDING], "not pending")
    smp.server.set_mark()
    client("reset")
    smp.wait_running("2.3.4+5", "test")
    expect(client("confirm", digest).splitlines()[0].split()[3:] == [ACTIVE, CONFIRMED], "not confirmed")
    expect(smp.server.restart() == ("2.3.4+5", "confirmed"), "the image does not stay")


@scenario()
def both_protocols_on_one_device(context):
    """Secure DFU, SMP, Secure DFU again; and while a phone is in the middle of its transfer SMP waits for its turn."""
    server = context.server("gatt", "smp-udp", options=ANY_VERSION)
    server.start()
    smp = Smp.__new__(Smp)
    smp.context, smp.door, smp.server = context, "udp", server
    Phone(server.gatt_address, package("small-2.0.0")).update()
    server.wait_confirmed("2.0.0")
    server.set_mark()
    smp.smpmgr("upgrade", "--slot", "1", image("small-3.0.0.signed.bin"))
    server.wait_confirmed("3.0.0")
    server.set_mark()

    said = []

    def on_frame(trace):
        if not said and trace.data_bytes >= 10000:
            said.append(smp.smpmgr("image", "upload", image(SMALL), must_succeed=False))
    one = Phone(server.gatt_address, package("medium-2.3.4"), on_frame=on_frame)
    one.update()
    expect(said and "100.0%" not in said[0], "SMP took the slot from a transfer under way: %s" % said)
    expect(one.trace.data_bytes == 45000, "the phone sent %u bytes" % one.trace.data_bytes)
    finished(server, "2.3.4+5")
