# SPDX-License-Identifier: Apache-2.0
"""`bledfu send --hci` as the phone: another Bluetooth host, the same device, and the same that must hold at the end."""

import contextlib
import subprocess

from computer import Computer
from gatt import load
from harness import package
from scenarios import VERSIONS, Skipped, expect, scenario

CUT_AT = 60000


@contextlib.contextmanager
def computer(context):
    probe = subprocess.run([context.tools.bledfu, "send", "--list", "--hci", "tcp:127.0.0.1:1"], stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if "not part of this bledfu" in probe.stdout:
        raise Skipped("bledfu was built without its feature hci")
    one = Computer(context.central, context.tools.bledfu)
    try:
        yield one
    finally:
        one.close()


def needs(context, protocol):
    if protocol == "smp" and not context.tools.has_smp:
        raise Skipped("built without CONFIG_BLEDFU_SMP")


def ends_well(context, one, name, protocol=None):
    """The new version runs, in the device's flash and in what the computer was told. Over SMP the computer confirms it."""
    _, image = load(package(name))
    if protocol == "smp":
        context.device.confirms = None
    context.device.check_update(image, VERSIONS[name])
    code, told = one.end()
    expect(code == 0, "exit code %u: %s" % (code, "; ".join(one.errors)))
    expect(told["runs"]["version"] == VERSIONS[name], "told that %s runs" % told["runs"]["version"])
    context.notes.append("%s after %.1f s, by %s" % (told["runs"]["version"], told["runs"]["seconds"], told["runs"]["proof"]))
    return told


@scenario(("secure-dfu",), ("smp",))
def send_updates(context, protocol):
    needs(context, protocol)
    context.device.start()
    with computer(context) as one:
        one.send(package("medium-2.3.4"), "--protocol", protocol)
        ends_well(context, one, "medium-2.3.4", protocol)


@scenario(("secure-dfu",), ("smp",))
def send_goes_on_after_a_power_cut(context, protocol):
    needs(context, protocol)
    context.device.start()
    with computer(context) as one:
        one.send(package("demo-2.0.0"), "--protocol", protocol)
        one.wait(lambda event: event["event"] == "progress" and event["bytes"] >= CUT_AT)
        context.device.power_cut()
        context.device.start()
        told = ends_well(context, one, "demo-2.0.0", protocol)
        expect("lost" in told, "the cut was not noticed")
        if protocol == "secure-dfu":
            expect(told["resumed"]["at"] >= CUT_AT // 2, "resumed at %u" % told["resumed"]["at"])


@scenario()
def send_to_a_device_by_its_address_and_not_by_another_name(context):
    context.device.start()
    address = str(context.central.find()).split("/")[0]
    with computer(context) as one:
        one.send(package("small-2.0.0"), "--ble", "nobody", "--patience", "1")
        code, told = one.end()
        expect(code != 0 and address in told["error"]["message"], "told %s" % told.get("error"))
        one.send(package("small-2.0.0"), "--ble", address, "--dry-run")
        code, told = one.end()
        expect(code == 0 and "dry_run" in told and "progress" not in told, "%u: %s" % (code, one.errors))
        one.send("--list")
        code, told = one.end()
        expect(code == 0 and told["device"]["offers_updates"], "the list: %s" % told)
        one.send(package("small-2.0.0"), "--all")
        ends_well(context, one, "small-2.0.0")


@scenario()
def send_tells_why_a_device_refuses(context):
    context.device.start()
    with computer(context) as one:
        one.send(package("wrong-hardware"), "--protocol", "secure-dfu")
        code, told = one.end()
        expect(code == 1, "exit code %u" % code)
        expect("refused Execute" in told["error"]["message"], told["error"]["message"])
        expect("runs" not in told, "told that it runs")
