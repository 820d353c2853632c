#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`bledfu send --ble` through D-Bus, as on a computer with BlueZ: on a bus of its own, with a model of BlueZ in front of `bledfu serve`.

    tests/bluez/run.py --bledfu PROGRAM        a bledfu with the feature `ble`

Needs dbus-daemon (Debian: dbus-daemon) and Python 3.9; installs dbus-fast by itself (pip, requirements.txt) into rust/target/bluez or
$BLEDFU_BLUEZ_DIR. No Bluetooth, no root, no system bus. Prints one line per scenario; the exit code is 0 only if none failed.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests", "clients"))

from harness import Failure, Output, Server, expect, find_bledfu, package  # noqa: E402

ADDRESS = "F0:F1:F2:F3:F4:F5"


def environment():
    """The Python with dbus-fast."""
    folder = os.environ.get("BLEDFU_BLUEZ_DIR", os.path.join(ROOT, "rust", "target", "bluez"))
    venv = os.path.join(folder, "venv-%u.%u" % sys.version_info[:2])
    python = os.path.join(venv, "bin", "python")
    if not os.path.exists(os.path.join(venv, "complete")):
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r",
                        os.path.join(HERE, "requirements.txt")], check=True)
        open(os.path.join(venv, "complete"), "w").close()
    return python


@contextlib.contextmanager
def devices_on_a_bus(python, bledfu, devices=1, buttonless=False, **options):
    """A bus, the model of BlueZ on it, and devices behind that: the devices, and the variables with which a program finds the bus."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bledfu-bluez-"))
        address = "unix:path=" + os.path.join(folder, "bus")
        variables = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=address)
        servers = []
        for number in range(devices):
            home = os.path.join(folder, "device%u" % number)
            os.mkdir(home)
            servers.append(Server(bledfu, home, ["gatt"], **options))
            stack.callback(servers[-1].stop)
            servers[-1].start()

        def start(*command):
            process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.STDOUT, text=True)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        start("dbus-daemon", "--session", "--nofork", "--nopidfile", "--address=" + address)
        deadline = time.monotonic() + 10
        while not os.path.exists(os.path.join(folder, "bus")):
            expect(time.monotonic() < deadline, "dbus-daemon did not start")
            time.sleep(0.02)
        arguments = ["--buttonless"] if buttonless else []
        arguments += ["%s:%u" % server.gatt_address for server in servers]
        mock = Output(start(python, os.path.join(HERE, "mock.py"), *arguments))
        try:
            mock.wait("^ready$", 20)
        except Failure:
            raise Failure("the model of BlueZ did not start:\n%s" % "\n".join(mock.lines)) from None
        yield servers, variables


@contextlib.contextmanager
def device_on_a_bus(python, bledfu, **options):
    """The same with one device."""
    with devices_on_a_bus(python, bledfu, **options) as ([server], variables):
        yield server, variables


@contextlib.contextmanager
def room(python, bledfu, **options):
    """The first device, a function that runs `bledfu send` beside it, and all devices."""
    with devices_on_a_bus(python, bledfu, **options) as (servers, variables):
        def send(*arguments, on_event=None):
            process = start_send(bledfu, variables, arguments)
            events = []
            for line in process.stdout:
                events.append(json.loads(line))
                if on_event:
                    on_event(events[-1])
            errors = process.stderr.read()
            return process.wait(), events, errors
        yield servers[0], send, servers


def start_send(bledfu, variables, arguments):
    return subprocess.Popen([bledfu, "send", *arguments, "--json"], env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def told(events, name):
    found = [event for event in events if event["event"] == name]
    expect(found, "no event %s: %s" % (name, events[-3:]))
    return found[-1]


def lists_and_rehearses(python, bledfu):
    with room(python, bledfu) as (server, send, _):
        code, events, errors = send("--list")
        device = told(events, "device")
        expect(code == 0 and device.pop("rssi") in (-42, -43) and device == {
            "event": "device", "address": ADDRESS, "name": "lamp", "offers_updates": True}, "%s %s" % (events, errors))
        code, events, errors = send(package("small-2.0.0"), "--ble", "lamp", "--dry-run")
        expect(code == 0 and told(events, "now")["version"] == "1.0.0", "%s %s" % (events, errors))
        code, events, errors = send(package("small-2.0.0"), "--ble", "door", "--patience", "0")
        expect(code == 1 and "lamp (%s)" % ADDRESS in errors, errors)
        expect(server.restart() == ("1.0.0", "confirmed"), "something was changed")


def updates(python, bledfu, protocol):
    with room(python, bledfu) as (server, send, _):
        code, events, errors = send(package("medium-2.3.4"), "--ble", "lamp" if protocol == "smp" else ADDRESS, "--protocol", protocol)
        expect(code == 0, errors)
        expect(told(events, "runs")["version"] == "2.3.4+5", "%s" % events[-2:])
        server.wait_confirmed("2.3.4+5")


def goes_on_after_a_power_cut(python, bledfu, protocol):
    with room(python, bledfu, flash_time="real") as (server, send, _):
        cut = []

        def on_event(event):
            if event["event"] == "progress" and event["bytes"] >= 50000 and not cut:
                cut.append(event["bytes"])
                server.restart()
        code, events, errors = send(package("demo-2.0.0"), "--all", "--protocol", protocol, on_event=on_event)
        expect(code == 0, errors)
        expect(cut, "there was no cut")
        told(events, "lost")
        expect(told(events, "runs")["version"] == "2.0.0", "%s" % events[-2:])
        server.wait_confirmed("2.0.0")


def each_of_several_gets_its_update(python, bledfu):
    with room(python, bledfu, devices=3) as (server, send, servers):
        # The middle one runs the image already; the last one cannot be reached.
        code, events, errors = send(package("small-2.0.0"), "--ble", "lamp 2")
        expect(code == 0, errors)
        servers[1].wait_confirmed("2.0.0")
        servers[2].stop()
        code, events, errors = send(package("small-2.0.0"), "--all", "--patience", "2")
        expect(code == 1 and "1 of 3 devices failed: lamp 3 (" in errors, errors)
        expect(len([event for event in events if event["event"] == "runs"]) == 2, "%s" % events)
        told(events, "already")
        told(events, "failed")
        servers[0].wait_confirmed("2.0.0")


SCENARIOS = [(lists_and_rehearses, ()), (updates, ("secure-dfu",)), (updates, ("smp",)), (goes_on_after_a_power_cut, ("secure-dfu",)),
             (goes_on_after_a_power_cut, ("smp",)), (each_of_several_gets_its_update, ())]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bledfu", help="a bledfu with the feature `ble`; default: $BLEDFU, else the one built in rust/target")
    parser.add_argument("-k", default="", metavar="WORD", help="only scenarios with that word")
    arguments = parser.parse_args()
    if not shutil.which("dbus-daemon"):
        print("skipped: there is no dbus-daemon (Debian: apt-get install dbus-daemon)")
        return 0
    python, bledfu, failed, passed = environment(), find_bledfu(arguments.bledfu), 0, 0
    for function, variant in SCENARIOS:
        name = "_".join([function.__name__, *variant])
        if arguments.k not in name:
            continue
        started = time.monotonic()
        try:
            function(python, bledfu, *variant)
            result, text, passed = "ok", "", passed + 1
        except Failure as error:
            result, text, failed = "FAIL", str(error), failed + 1
        print("%-4s %-44s %5.1f s  %s" % (result, name, time.monotonic() - started, text), flush=True)
    print("%u passed, %u failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
