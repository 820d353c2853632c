#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Real clients update a device in a box (`bledfu serve`), from start and after the power was cut.

    tests/clients/run.py [--bledfu PROGRAM] [-k WORD] [-j N] [--list]

Installs nrfutil, imgtool and smpmgr (venv.sh) and builds the crates nrf_dfu and mcumgr-smp by itself. Prints one line per scenario and
`N passed, N failed` at the end; the exit code is 0 only if none failed. Standard library only.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True

from gatt import CREATE, EXECUTE, Disconnected, Link, Phone, Refused, Wrong, crc32, load
from harness import (SCENARIOS, Failure, NrfDfu, Nrfutil, Server, build_mcumgr_smp, build_nrf_dfu, expect, find_bledfu,
                     finished, image, image_size, install_python_clients, package, run_tool, scenario)
from wire_trace import DATA, OBJECT_SIZE, Trace

import packed_scenarios                   # these register their scenarios
import smp_scenarios

INTERVALS = (0, 3, 12)


class Context:
    """What a scenario works with: the programs, and a folder of its own."""

    def __init__(self, bledfu, tools, folder):
        self.bledfu = bledfu
        self.tools = tools
        self.folder = folder
        self.servers = []
        self.notes = []

    def server(self, *doors, **options):
        server = Server(self.bledfu, self.folder, doors, **options)
        self.servers.append(server)
        return server

    def client(self, kind, server, package_path, prn, on_frame=None, size=None, **options):
        if kind == "nrfutil":
            return Nrfutil(self.tools.venv(), server.pty, package_path, prn, on_frame, size, **options)
        port = "tcp:%s:%u" % server.slip_address if server.slip_address else server.pty
        return NrfDfu(self.tools.nrf_dfu()(prn), port, package_path, prn, on_frame, size, **options)


def no_problems(trace):
    expect(not trace.problems, "; ".join(trace.problems[:4]))


def serial_update(context, kind, server, name, prn, on_frame=None, must_succeed=True, **options):
    """One run of a real client; its trace."""
    client = context.client(kind, server, package(name), prn, on_frame, image_size(name), **options)
    server.set_mark()
    succeeded = client.run()
    if must_succeed:
        expect(succeeded, "%s did not say it is finished:\n%s" % (kind, client.tail()))
        no_problems(client.trace)
    return client.trace


# ---- nrfutil and nrf_dfu, the same for both

SERIAL = {"nrfutil": "pty", "nrf_dfu": "slip"}


@scenario(*[(kind, prn) for kind in SERIAL for prn in INTERVALS])
def fresh(context, kind, prn):
    server = context.server(SERIAL[kind])
    expect(server.start() == ("1.0.0", "confirmed"), "the factory image does not run, confirmed")
    trace = serial_update(context, kind, server, "medium-2.3.4", prn)
    expect(trace.resumed_at == 0 and trace.data_bytes == 45000, "sent %u bytes from %s" % (trace.data_bytes, trace.resumed_at))
    expect(bool(trace.receipts) == bool(prn), "%u receipts with PRN %u" % (trace.receipts, prn))
    finished(server, "2.3.4+5")
    context.notes.append("%u receipts" % trace.receipts)


@scenario(*[(kind, prn) for kind in SERIAL for prn in INTERVALS])
def power_cuts_in_the_transfer(context, kind, prn):
    """Killed three times: early, in the middle of an object, near the end. Each time it goes on where it was."""
    server = context.server(SERIAL[kind])
    server.start()
    kept = 0
    for cut in (5000, 22000, 41500):
        def on_frame(trace, cut=cut):
            if trace.resumed_at is not None and trace.resumed_at + trace.data_bytes >= cut:
                server.kill()
        trace = serial_update(context, kind, server, "medium-2.3.4", prn, on_frame, must_succeed=False)
        expect(server.process.poll() is not None, "the cut at %u never came" % cut)
        check_resume(trace, kept)
        kept = trace.resumed_at - trace.resumed_at % OBJECT_SIZE + trace.executed * OBJECT_SIZE
        version, _ = server.start()
        if version == "2.3.4+5":
            break                       # the client was done before its output was read
        expect(version == "1.0.0", "after a cut in the transfer runs " + version)
    else:
        trace = last_run_after_cuts(context, kind, server, prn, kept)
        context.notes.append("last run sent %u of %u bytes" % (trace.data_bytes, image_size("medium-2.3.4")))
    finished(server, "2.3.4+5")


def last_run_after_cuts(context, kind, server, prn, kept):
    trace = serial_update(context, kind, server, "medium-2.3.4", prn)
    check_resume(trace, kept)
    expect(trace.command_bytes == 0, "the init packet was sent again")
    left = image_size("medium-2.3.4") - kept
    expect(trace.data_bytes <= left, "sent %u bytes although only %u were missing" % (trace.data_bytes, left))
    return trace


def check_resume(trace, kept):
    expect(trace.resumed_at is not None and trace.resumed_at >= kept,
           "resumes at %s although %u bytes were executed" % (trace.resumed_at, kept))


@scenario(("nrfutil",), ("nrf_dfu",))
def power_cut_in_the_init_packet(context, kind):
    # At full speed the cut may come too late.
    server = context.server(SERIAL[kind], flash_time="real", options=("--crypto", "software"))
    server.start()

    def on_frame(trace):
        if trace.command_bytes >= 100:
            server.kill()
    serial_update(context, kind, server, "small-2.0.0", 3, on_frame, must_succeed=False)
    expect(server.start() == ("1.0.0", "confirmed"), "another image runs")
    trace = serial_update(context, kind, server, "small-2.0.0", 3)
    expect(trace.resumed_at == 0, "data at %s before there was any" % trace.resumed_at)
    finished(server, "2.0.0")


@scenario(("nrfutil", 0), ("nrfutil", 1.0), ("nrf_dfu", 0.5))
def power_cut_in_the_swap(context, kind, delay):
    """Killed that many seconds after the final answer, with flash times as in the datasheet."""
    server = context.server(SERIAL[kind], flash_time="real")
    server.start()

    def on_frame(trace):
        if trace.final_execute_answered:
            time.sleep(delay)
            server.kill()
    serial_update(context, kind, server, "small-2.0.0", 0, on_frame, must_succeed=False)
    after_cut_in_swap(context, server, lambda: serial_update(context, kind, server, "small-2.0.0", 0))


def after_cut_in_swap(context, server, update):
    """The swap goes on and the image is confirmed. A cut between its start and its confirmation brings the
    old one back, as it must; then the update is repeated."""
    version, _ = server.start()
    context.notes.append("then " + version)
    if version == "1.0.0":
        update()
    else:
        expect(version == "2.0.0", "runs " + version)
    finished(server, "2.0.0")


@scenario(("nrfutil",), ("nrf_dfu",))
def client_killed_and_started_again(context, kind):
    """The device stays up; the client dies in the middle of an object, the next one finds its own way."""
    server = context.server(SERIAL[kind])
    server.start()
    box = []

    def on_frame(trace):
        if trace.data_bytes >= 21000:
            box[0].process.kill()
    box.append(context.client(kind, server, package("medium-2.3.4"), 3, on_frame, 45000))
    box[0].run()
    # The port may hold half a frame: the first ping of nrfutil is lost with it and it needs a second one.
    options = {"timeout": 3} if kind == "nrfutil" else {}
    if kind == "nrf_dfu":
        time.sleep(0.5)
    trace = serial_update(context, kind, server, "medium-2.3.4", 12, **options)
    check_resume(trace, 20480)
    finished(server, "2.3.4+5")


@scenario(("nrfutil",), ("nrf_dfu",), ("phone",))
def flash_times_of_the_datasheet(context, kind):
    """Every answer comes within the second nrfutil waits for it, with an old image to be erased."""
    server = context.server(SERIAL.get(kind, "gatt"), flash_time="real", primary="medium-2.3.4.signed.bin",
                            options=["--part", "gd25wb256e", "--prevent-downgrade", "none"])
    server.start()
    for version in ("2.0.0", "3.0.0"):
        name = "small-" + version
        trace = phone(context, server, name).trace if kind == "phone" else serial_update(context, kind, server, name, 0)
        expect(trace.slowest[0] < 1, "answer to %02x after %.2f s" % (trace.slowest[1], trace.slowest[0]))
        context.notes.append("slowest answer %.0f ms, to %02x" % (trace.slowest[0] * 1000, trace.slowest[1]))
        server.wait_confirmed(version)
    finished(server, "3.0.0")


@scenario(("nrfutil",), ("nrf_dfu",))
def the_same_package_twice(context, kind):
    server = context.server(SERIAL[kind])
    server.start()
    trace = serial_update(context, kind, server, "small-3.0.0", 0)
    server.wait_confirmed("3.0.0")
    expect(trace.data_bytes == 3 * OBJECT_SIZE, "%u bytes were sent" % trace.data_bytes)
    server.set_mark()
    # The image runs: the client is told that everything is there, succeeds, and nothing is installed again.
    trace = serial_update(context, kind, server, "small-3.0.0", 0)
    expect(trace.data_bytes == 0, "second time %u bytes were sent" % trace.data_bytes)
    lines = server.output.lines[server.mark:]
    expect(not any(line.startswith("resetting") for line in lines), "the same image was installed twice")
    expect(server.restart() == ("3.0.0", "confirmed"), "the image does not run any more")


@scenario()
def nrf_dfu_through_the_serial_port(context):
    server = context.server("pty")
    server.start()
    serial_update(context, "nrf_dfu", server, "odd-2.0.0", 3)
    finished(server, "2.0.0")


@scenario()
def nrf_dfu_force_sends_all_again(context):
    """`force` ignores what the device kept: Create of the init packet over an unfinished transfer."""
    server = context.server("slip")
    server.start()

    def on_frame(trace):
        if trace.data_bytes >= 21000:
            server.kill()
    serial_update(context, "nrf_dfu", server, "medium-2.3.4", 3, on_frame, must_succeed=False)
    server.start()
    trace = serial_update(context, "nrf_dfu", server, "small-2.0.0", 3, force=True)
    expect(trace.data_bytes == 13636, "sent %u bytes" % trace.data_bytes)
    finished(server, "2.0.0")


@scenario()
def nrfutil_image_of_the_case(context):
    """475,384 bytes onto the embedded factory image."""
    server = context.server("pty", primary=None)
    expect(server.start() == ("1.0.0", "confirmed"), "the embedded factory image does not run")
    trace = serial_update(context, "nrfutil", server, "demo-2.0.0", 0)
    expect(trace.executed == 117, "%u objects" % trace.executed)
    finished(server, "2.0.0")


@scenario()
def nrfutil_says_why_a_package_is_refused(context):
    server = context.server("pty")
    server.start()
    for name, words in (("wrong-signature", "InvalidObject"), ("too-old", "0x05"), ("wrong-hash", "0x0C")):
        client = context.client("nrfutil", server, package(name), 0, size=image_size(name))
        expect(not client.run(), "%s went through" % name)
        said = "\n".join(client.output.lines)
        expect(words in said, "%s: nrfutil says %s" % (name, client.output.lines[-1:]))
        no_problems(client.trace)
    expect(server.restart() == ("1.0.0", "confirmed"), "a refused package changed the image")
    serial_update(context, "nrfutil", server, "small-2.0.0", 0)
    finished(server, "2.0.0")


@scenario(("nrfutil",), ("phone",))
def own_keys_and_own_image(context, kind):
    """Keys, image and package made now by the real tools; the device only gets the keys."""
    tools = os.path.join(context.tools.venv(), "bin")
    at = lambda name: os.path.join(context.folder, name)
    run_tool(os.path.join(tools, "nrfutil"), "keys", "generate", at("p.pem"))
    run_tool(os.path.join(tools, "nrfutil"), "keys", "display", at("p.pem"), "--key", "pk", "--format", "pem", "--out_file", at("p.pub.pem"))
    run_tool(os.path.join(tools, "imgtool"), "keygen", "-k", at("i.pem"), "-t", "ecdsa-p256")
    with open(at("i.pub.pem"), "w") as file:
        file.write(run_tool(os.path.join(tools, "imgtool"), "getpub", "-k", at("i.pem"), "-e", "pem"))
    with open(at("payload.bin"), "wb") as file:
        file.write(os.urandom(20001))
    run_tool(os.path.join(tools, "imgtool"), "sign", "--key", at("i.pem"), "--align", 4, "--header-size", "0x200", "--pad-header",
             "--slot-size", "0xE8000", "--max-sectors", 256, "--version", "7.8.9+10", at("payload.bin"), at("own.signed.bin"))
    run_tool(os.path.join(tools, "nrfutil"), "pkg", "generate", "--hw-version", 77, "--application-version", 123456,
             "--application", at("own.signed.bin"), "--sd-req", "0x00", "--key-file", at("p.pem"), at("own.zip"))
    # Public and private keys, SEC1, PKCS #8 and SPKI: each tool's own form.
    keys = ("p.pem", "i.pub.pem") if kind == "nrfutil" else ("p.pub.pem", "i.pem")
    options = ["--public-key", at(keys[0]), "--image-key", at(keys[1]), "--hw-version", "77"]
    if kind == "nrfutil":
        server = context.server("pty", primary=None, options=options)
        expect(server.start() == ("1.0.0", "confirmed"), "the factory image does not run with another image key")
        client = context.client("nrfutil", server, at("own.zip"), 0)
        server.set_mark()
        expect(client.run(), "nrfutil did not say it is finished:\n" + client.tail())
        no_problems(client.trace)
    else:
        server = context.server("gatt", options=options)
        server.start()
        try:
            phone(context, server, "small-2.0.0")
            raise Failure("a package signed with the demo key went through")
        except Refused as refused:
            expect((refused.op, refused.result) == (EXECUTE, 5), str(refused))
        server.set_mark()
        no_problems(Phone(server.gatt_address, at("own.zip")).update())
    finished(server, "7.8.9+10")


# ---- a phone on the GATT door

def phone(context, server, name, on_frame=None, **options):
    """One whole update; Refused, Wrong and Disconnected come through."""
    one = Phone(server.gatt_address, package(name), on_frame=on_frame, **options)
    server.set_mark()
    one.update()
    no_problems(one.trace)
    return one


def phone_until_cut(server, name, on_frame, **options):
    """One update that ends with the device switched off."""
    one = Phone(server.gatt_address, package(name), on_frame=on_frame, **options)
    try:
        one.update()
    except Disconnected:
        pass
    return one.trace


PHONES = {
    "android": {"style": "android", "packet_size": 244, "prn": 0},
    "android_prn": {"style": "android", "packet_size": 244, "prn": 16},
    "android_small_packets": {"style": "android", "packet_size": 20, "prn": 16},
    "ios": {"style": "ios", "packet_size": 180, "prn": 12},
    "web": {"style": "web", "packet_size": 20, "prn": 0},
    "odd_packets": {"style": "android", "packet_size": 241, "prn": 17},
    "tiny_packets": {"style": "ios", "packet_size": 1, "prn": 64},
}


@scenario(*[(name,) for name in PHONES])
def phone_fresh(context, name):
    server = context.server("gatt")
    server.start()
    one = phone(context, server, "medium-2.3.4" if name != "tiny_packets" else "small-2.0.0", **PHONES[name])
    expect(one.seconds_to_disconnection >= 0.05,
           "the link was closed %.0f ms after the last answer" % (one.seconds_to_disconnection * 1000))
    finished(server, "2.3.4+5" if name != "tiny_packets" else "2.0.0")
    context.notes.append("%u receipts, link closed %.0f ms after the last answer"
                         % (one.trace.receipts, one.seconds_to_disconnection * 1000))


@scenario(("android_small_packets",), ("android",), ("ios",), ("web",))
def phone_power_cuts_anywhere(context, name):
    """Killed after one frame or another, spread over the whole transfer; every time it ends well."""
    options = PHONES[name]
    server = context.server("gatt")
    server.start()
    frames = phone(context, server, "small-2.0.0", **options).trace.frames
    cuts = sorted({*range(1, 14), *(frames * part // 12 for part in range(1, 12)), *range(frames - 6, frames + 1)})
    resumed = 0
    for cut in cuts:
        server.stop()
        shutil.rmtree(server.state)
        server.start()

        def on_frame(trace, cut=cut):
            if trace.frames == cut:
                server.kill()
        trace = phone_until_cut(server, "small-2.0.0", on_frame, **options)
        server.stop()
        version, _ = server.start()
        if version == "1.0.0":
            one = phone(context, server, "small-2.0.0", **options)
            kept = trace.executed * OBJECT_SIZE
            if kept < 13636 and not trace.final_execute_sent:
                expect(one.trace.resumed_at >= kept,
                       "cut at frame %u: resumes at %s although %u bytes were executed" % (cut, one.trace.resumed_at, kept))
            resumed += bool(one.trace.resumed_at)
        else:
            expect(version == "2.0.0", "cut at frame %u: runs %s" % (cut, version))
        try:
            finished(server, "2.0.0")
        except Failure as failure:
            raise Failure("cut at frame %u: %s" % (cut, failure)) from None
    context.notes.append("%u cuts, %u resumed" % (len(cuts), resumed))


@scenario(("android_prn",), ("ios",), ("web",))
def phone_link_drops(context, name):
    """The link drops again and again; the device stays up. PRN is set anew or not at all in each connection."""
    server = context.server("gatt")
    server.start()

    class Drop(Exception):
        pass

    drops = resumed = turned_away = 0
    frame = 7
    while turned_away < 20:
        def on_frame(trace, frame=frame):
            if trace.frames == frame:
                raise Drop()
        one = Phone(server.gatt_address, package("medium-2.3.4"), on_frame=on_frame, **PHONES[name])
        server.set_mark()
        try:
            one.update()
            break
        except Disconnected:
            # It may not have noticed yet that the last link is gone; phones try again, too.
            expect(one.trace.frames == 1, "the device closed the link")
            turned_away += 1
            time.sleep(0.1)
        except Drop:
            drops += 1
            resumed += bool(one.trace.resumed_at)
            frame += {20: 300}.get(PHONES[name]["packet_size"], 31)
    else:
        raise Failure("nobody is let in after a link dropped")
    no_problems(one.trace)
    finished(server, "2.3.4+5")
    context.notes.append("%u drops, %u connections resumed" % (drops, resumed))


@scenario((0.0,), (0.12,), (0.3,), (0.7,), (1.2,), (1.8,))
def phone_power_cut_in_the_swap(context, delay):
    """Killed that many seconds after the final answer; the device needs flash times as in the datasheet."""
    server = context.server("gatt", flash_time="real")
    server.start()

    def on_frame(trace):
        if trace.final_execute_answered:
            time.sleep(delay)
            server.kill()
    phone_until_cut(server, "small-2.0.0", on_frame)
    server.stop()
    after_cut_in_swap(context, server, lambda: phone(context, server, "small-2.0.0"))


@scenario()
def phone_power_cuts_again_and_again_in_one_swap(context):
    """The power fails every 0.35 s until the swap is through: each start must get further than the last."""
    # Copy erases a page before it begins, so it needs 0.4 s for its first step; a later start goes on from there.
    server = context.server("gatt", options=["--install", "swap-offset"], flash_time="real")
    server.start()
    phone(context, server, "small-2.0.0")
    for number in range(1, 40):
        server.stop()
        try:
            version, _ = start_within(server, 0.35)
            break
        except Failure:
            continue
    else:
        raise Failure("never boots when the power fails every 0.35 s")
    context.notes.append("%u cuts, then %s" % (number, version))
    if version == "1.0.0":
        server.restart()
        phone(context, server, "small-2.0.0")
    finished(server, "2.0.0")


def start_within(server, seconds):
    """Starts the device and gives it that long to say what it runs."""
    timer = threading.Timer(seconds, server.stop)
    timer.start()
    try:
        return server.start()
    finally:
        timer.cancel()


def code(words):
    """'0B 0C' -> (0x0B, 0x0C), '05' -> (5, None)."""
    numbers = [int(word, 16) for word in words.split()]
    return numbers[0], (numbers[1] if len(numbers) > 1 else None)


@scenario()
def phone_gets_the_right_refusal(context):
    """Every bad package of the vectors: right code, image untouched, the next good package taken."""
    # With copy an image may be one page larger than the list says.
    with open(os.path.join(os.path.dirname(image("")), "..", "packages.json")) as file:
        entries = json.load(file)
    server = context.server("gatt", options=["--install", "swap-offset"])
    server.start()
    wrong = []
    tried = 0
    for entry in entries:
        place, _, codes = entry["expect"].partition(" ")
        if place not in ("init", "create", "final") or "then" in codes:
            continue
        tried += 1
        name = os.path.basename(entry["file"])[:-4]
        part = next(kind for kind in entry if kind not in ("file", "expect", "note"))
        allowed = [code(words) for words in codes.split(" or ")]
        one = Phone(server.gatt_address, package(name), part=part)
        try:
            one.update()
            wrong.append("%s went through" % name)
            continue
        except Refused as refused:
            got = (refused.result, refused.extended)
            op = {"init": EXECUTE, "final": EXECUTE, "create": CREATE}[place]
            if refused.op != op or got not in allowed:
                wrong.append("%s: %s, expected %s" % (name, refused, entry["expect"]))
            if place == "init" and one.trace.data_bytes:
                wrong.append("%s: refused after %u bytes of data" % (name, one.trace.data_bytes))
        except (Wrong, Disconnected) as error:
            wrong.append("%s: %s" % (name, error))
        wrong += ["%s: %s" % (name, problem) for problem in one.trace.problems]
    expect(not wrong, "\n      ".join(["%u of %u:" % (len(wrong), tried), *wrong]))
    expect(server.restart() == ("1.0.0", "confirmed"), "a refused package changed the image")
    phone(context, server, "small-2.0.0")
    finished(server, "2.0.0")
    context.notes.append("%u packages" % tried)


@scenario()
def phone_system_part_refused_then_application_on_the_same_link(context):
    server = context.server("gatt")
    server.start()
    both = Phone(server.gatt_address, package("softdevice-application"), part="softdevice")
    link = Link(server.gatt_address, both.trace)
    server.set_mark()
    try:
        both._send_init_packet(link)
        raise Failure("the SoftDevice part was taken")
    except Refused as refused:
        expect((refused.result, refused.extended) == (0x0B, 0x04), str(refused))
    application = Phone(server.gatt_address, package("softdevice-application"))
    application.trace = link.trace
    application._send_init_packet(link)
    application._send_image(link)
    link.wait_for_disconnection()
    no_problems(link.trace)
    finished(server, "2.0.0")


@scenario(("limit", 942080), ("odd-2.0.0", 9204), ("boot-validation-ecdsa", 13636), ("debug", 13636))
def phone_special_package(context, name, size):
    server = context.server("gatt")
    server.start()
    one = phone(context, server, name)
    expect(one.trace.data_bytes == size, "sent %u bytes" % one.trace.data_bytes)
    finished(server, "2.0.0", timeout=120)


@scenario()
def phone_another_package_after_half_of_one(context):
    """Create of a new init packet forgets the old transfer."""
    server = context.server("gatt")
    server.start()

    def on_frame(trace):
        if trace.data_bytes >= 20000:
            server.kill()
    phone_until_cut(server, "medium-2.3.4", on_frame)
    server.start()
    one = phone(context, server, "small-3.0.0", style="ios")
    expect(one.trace.resumed_at == 0, "resumed at %u" % one.trace.resumed_at)
    finished(server, "3.0.0")


@scenario()
def phone_too_long_packet_is_dropped_whole(context):
    """More data than the object has room for: nothing of the packet counts, and the transfer goes on."""
    server = context.server("gatt")
    server.start()
    init_packet, binary = load(package("small-2.0.0"))
    link = Link(server.gatt_address, Trace())
    one = Phone(server.gatt_address, package("small-2.0.0"))
    one._send_init_packet(link)
    link.request(CREATE, DATA, struct.pack("<I", OBJECT_SIZE))
    link.packet(binary[:200])
    for _ in range(20):
        link.raw_packet(bytes(244))
    expect(link.checksum()[0] in range(200, OBJECT_SIZE + 1), "counts past the object")
    link.request(CREATE, DATA, struct.pack("<I", OBJECT_SIZE))
    for at in range(0, OBJECT_SIZE, 128):
        link.packet(binary[at:at + 128])
    link.raw_packet(b"\xAA" * 100)
    expect(link.checksum() == (OBJECT_SIZE, crc32(binary[:OBJECT_SIZE])), "the extra packet counted")
    link.request(EXECUTE)
    link.close()
    server.set_mark()
    one = phone(context, server, "small-2.0.0")
    expect(one.trace.resumed_at == OBJECT_SIZE, "resumed at %u" % one.trace.resumed_at)
    finished(server, "2.0.0")


# ---- the serial door, byte by byte

@scenario()
def serial_frames(context):
    """Checks 90 to 94 of the conformance list, on the TCP door for SLIP."""
    server = context.server("slip")
    server.start()
    with socket.create_connection(server.slip_address, timeout=5) as link:
        def answer(hexes):
            link.sendall(bytes.fromhex(hexes))
            got = b""
            while not got.endswith(b"\xC0"):
                got += link.recv(1)
                expect(got, "the device closed the link after " + hexes)
            return got.hex(" ")
        for sent, expected in (
                ("0905C0", "60 09 01 05 c0"),
                ("09C0 0906C0", "60 09 03 c0"),
                ("", "60 09 01 06 c0"),
                ("00C0", "60 00 01 01 c0"),
                ("05C0", "60 05 02 c0"),
                ("C0C0 0907C0", "60 09 01 07 c0"),
                ("09DB00C0 0908C0", "60 09 01 08 c0"),
                ("09DBDCC0", "60 09 01 db dc c0"),
                ("09DBDDC0", "60 09 01 db dd c0"),
                ("0601C0", "60 06 01 00 02 00 00 00 00 00 00 00 00 00 00 c0"),
                ("08AABBC0 0909C0", "60 09 01 09 c0"),
                ("0102001000 00C0", "60 01 08 c0")):
            got = answer(sent)
            expect(got == expected, "%s answers %s, expected %s" % (sent, got, expected))
        got = bytes.fromhex(answer("07C0"))
        expect(got[:3] == b"\x60\x07\x01" and len(got) in (6, 7), "MTU answer " + got.hex(" "))


# ---- running them

class Tools:
    """The clients, installed when the first scenario asks for them."""

    def __init__(self):
        self.lock = threading.Lock()
        self.made = {}

    def _once(self, name, make):
        with self.lock:
            if name not in self.made:
                try:
                    self.made[name] = (make(), None)
                except Exception as error:
                    self.made[name] = (None, error)
            value, error = self.made[name]
        if error:
            raise Failure("%s could not be installed: %s" % (name, error))
        return value

    def venv(self):
        return self._once("nrfutil", install_python_clients)

    def nrf_dfu(self):
        return self._once("nrf_dfu", build_nrf_dfu)

    def smp(self):
        return self._once("smpmgr", lambda: install_python_clients("smp"))

    def mcumgr_smp(self):
        return self._once("mcumgr-smp", build_mcumgr_smp)


def run_one(bledfu, tools, keep, name, function, variant):
    folder = tempfile.mkdtemp(prefix="bledfu-")
    context = Context(bledfu, tools, folder)
    started = time.monotonic()
    failure = None
    try:
        function(context, *variant)
    except (Failure, Refused, Wrong, Disconnected) as error:
        failure = "%s%s" % ("" if isinstance(error, Failure) else type(error).__name__ + ": ", error)
    except Exception:
        failure = traceback.format_exc()
    logs = "\n".join(server.tail() for server in context.servers)
    for server in context.servers:
        server.stop()
    if keep and failure:
        logs += "\n      kept: " + folder
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return name, time.monotonic() - started, failure, ", ".join(context.notes), logs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bledfu", metavar="PROGRAM", help="default: $BLEDFU, then rust/target/release, then debug")
    parser.add_argument("-k", metavar="WORD", action="append", help="only scenarios with that word in the name; may be repeated")
    parser.add_argument("-j", metavar="N", type=int, default=2, help="scenarios at a time (default 2)")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--keep", action="store_true", help="keep the state folders of failed scenarios")
    args = parser.parse_args()
    chosen = [entry for entry in SCENARIOS if not args.k or any(word in entry[0] for word in args.k)]
    if args.list:
        print("\n".join(entry[0] for entry in chosen))
        return 0
    bledfu = find_bledfu(args.bledfu)
    tools = Tools()
    failed = 0
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, args.j)) as pool:
        runs = [pool.submit(run_one, bledfu, tools, args.keep, *entry) for entry in chosen]
        for run in concurrent.futures.as_completed(runs):
            name, seconds, failure, notes, logs = run.result()
            failed += failure is not None
            print("%-4s %s (%.1f s)%s" % ("FAIL" if failure else "ok", name, seconds, ": " + notes if notes else ""), flush=True)
            if failure:
                print("      %s\n%s" % (failure, logs), flush=True)
    print("%u passed, %u failed (%.0f s)" % (len(chosen) - failed, failed, time.monotonic() - started))
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
