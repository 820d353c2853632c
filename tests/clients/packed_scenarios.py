# SPDX-License-Identifier: Apache-2.0
"""Packed updates with real clients; run.py runs them.

Each client sends a packed update for another image, which is refused, then the full image that it is for, and then the packed update
again. The releases are made by imgtool, the packed updates by `bledfu diff`.
"""

import os
import random
import struct

from harness import VECTORS, Failure, expect, finished, run_tool, scenario
from smp_scenarios import Smp

IMAGE_KEY = os.path.join(VECTORS, "keys", "image.pem")
PACKAGE_KEY = os.path.join(VECTORS, "keys", "package.pem")
# Where the slots of `bledfu serve` are, and the header that imgtool puts in front of a program.
SLOT, HEADER = 0xD000, 0x200
SIZE = 30000


class Releases:
    """Three releases of one program, a fourth image, and what lies between them."""

    def __init__(self, context):
        self.context = context
        self.imgtool = os.path.join(context.tools.venv(), "bin", "imgtool")
        self.nrfutil = os.path.join(context.tools.venv(), "bin", "nrfutil")
        program = bytearray(random.Random(16).randbytes(SIZE))
        program[:8] = struct.pack("<II", 0x20004000, SLOT + HEADER + 0x101)
        self.first = self.sign(program, "1.1.0")
        # As a release differs: bytes that are inserted, and bytes that change.
        second = program[:9000] + bytes(range(200)) + program[9000:]
        self.second = self.sign(second, "2.1.0")
        third = bytearray(second)
        third[20000:20004] = b"next"
        self.third = self.sign(third, "3.1.0")

    def at(self, name):
        return os.path.join(self.context.folder, name)

    def sign(self, program, version):
        plain, signed = self.at(version + ".bin"), self.at(version + ".signed.bin")
        with open(plain, "wb") as file:
            file.write(program)
        run_tool(self.imgtool, "sign", "--key", IMAGE_KEY, "--align", 4, "--header-size", hex(HEADER), "--pad-header",
                 "--slot-size", "0xE8000", "--max-sectors", 256, "--version", version, plain, signed)
        return signed

    def diff(self, old, new):
        """The packed update; checked by the tool that everybody has."""
        packed = self.at("%s-to-%s.bin" % (os.path.basename(old)[:5], os.path.basename(new)[:5]))
        run_tool(self.context.bledfu, "diff", "--from", old, "--to", new, "--key", IMAGE_KEY, "--trial", "-o", packed)
        expect(self.is_valid(packed), "imgtool does not accept a packed update")
        expect(os.path.getsize(packed) < SIZE // 20, "a packed update of %u bytes" % os.path.getsize(packed))
        return packed

    def is_valid(self, path):
        """Whether imgtool finds digest and signature of a file right."""
        try:
            return "correctly validated" in run_tool(self.imgtool, "verify", "-k", IMAGE_KEY, path)
        except Failure:
            return False

    def zip(self, file, version):
        """The package of a file, made by nrfutil."""
        path = self.at(os.path.basename(file) + ".zip")
        run_tool(self.nrfutil, "pkg", "generate", "--hw-version", 52, "--application-version", version, "--application", file,
                 "--sd-req", "0x00", "--key-file", PACKAGE_KEY, path)
        return path


def parts(packed):
    """Its stream, and the values of its protected entries."""
    header_size, protected, length = struct.unpack_from("<HHI", packed, 8)
    at = header_size + length
    entries, end = {}, at + protected
    at += 4
    while at < end:
        kind, size = struct.unpack_from("<HH", packed, at)
        entries[kind] = packed[at + 4:at + 4 + size]
        at += 4 + size
    return packed[header_size:header_size + length], entries


# small-updates case 17
# small-updates case 18
@scenario()
def packed_update_made_by_imgtool(context):
    """imgtool signs a stream with four entries of its own: the device takes it. It finds every flipped bit."""
    releases = Releases(context)
    ours = releases.diff(releases.second, releases.third)
    with open(ours, "rb") as file:
        packed = bytearray(file.read())
    stream, entries = parts(packed)
    places = {"header": 20, "stream": 32 + len(stream) // 2, "entries": 32 + len(stream) + 20, "signature": len(packed) - 9}
    for what, at in places.items():
        damaged = bytes(byte ^ 4 if place == at else byte for place, byte in enumerate(packed))
        with open(releases.at("damaged.bin"), "wb") as file:
            file.write(damaged)
        expect(not releases.is_valid(releases.at("damaged.bin")), "imgtool does not see a flipped bit in the " + what)
    with open(releases.at("stream.bin"), "wb") as file:
        file.write(stream)
    path, custom = releases.at("by-imgtool.bin"), []
    for kind, value in entries.items():
        custom += ["--custom-tlv", hex(kind), "0x" + value.hex()]
    expect(len(entries) == 4, "entries %s" % list(map(hex, entries)))
    run_tool(releases.imgtool, "sign", "--key", IMAGE_KEY, "--align", 4, "--header-size", "0x20", "--pad-header", "--non-bootable",
             "--slot-size", "0xE8000", "--max-sectors", 256, "--version", "3.1.0", *custom, releases.at("stream.bin"), path)
    smp = Smp(context, "udp", primary=releases.second, version="2.1.0", confirms=True)
    smp.server.set_mark()
    smp.smpmgr("upgrade", "--slot", "1", path)
    finished(smp.server, "3.1.0")


@scenario(("nrfutil",), ("nrf_dfu",))
def packed_update_serial(context, kind):
    releases = Releases(context)
    server = context.server({"nrfutil": "pty", "nrf_dfu": "slip"}[kind], primary=releases.first)
    expect(server.start() == ("1.1.0", "confirmed"), "the first release does not run")
    packed = releases.diff(releases.second, releases.third)

    def send(file, version):
        client = context.client(kind, server, releases.zip(file, version), 0, size=os.path.getsize(file))
        server.set_mark()
        return client.run(), client
    done, client = send(packed, 3)
    expect(not done, "%s says that an update for another image is done:\n%s" % (kind, client.tail()))
    for file, version, runs in ((releases.second, 2, "2.1.0"), (packed, 3, "3.1.0")):
        done, client = send(file, version)
        expect(done, "%s did not say it is finished:\n%s" % (kind, client.tail()))
        server.wait_confirmed(runs)
    sent = client.trace.data_bytes
    expect(sent < SIZE // 20, "sent %u bytes" % sent)
    context.notes.append("%u of %u bytes sent" % (sent, os.path.getsize(releases.third)))
    finished(server, "3.1.0")


@scenario()
def packed_update_smpmgr(context):
    releases = Releases(context)
    smp = Smp(context, "udp", primary=releases.first, version="1.1.0")
    packed = releases.diff(releases.second, releases.third)
    said = smp.smpmgr("upgrade", "--slot", "1", packed, must_succeed=False)
    expect("27" in said or "NEWER" in said.upper(), "smpmgr says of an update for another image:\n" + said)
    expect(smp.images()[0][0].startswith("1.1.0"), "another image runs")
    for file, version in ((releases.second, "2.1.0"), (packed, "3.1.0")):
        smp.server.set_mark()
        smp.smpmgr("upgrade", "--slot", "1", file)
        smp.wait_running(version, "test")
        smp.smpmgr("image", "state-write", "--confirm")
    version, digest, flags = smp.images()[0]
    expect((version, flags) == ("3.1.0", {"active", "confirmed"}), "after confirm: %r" % flags)
    # As every fleet must find it: what was sent no longer matters.
    expect(digest in run_tool(context.bledfu, "inspect", releases.third).lower(), "slot 0 is listed as " + digest)
    expect(smp.server.restart() == ("3.1.0", "confirmed"), "the image does not stay")


@scenario()
def packed_update_mcumgr_toolkit(context):
    releases = Releases(context)
    smp = Smp(context, "udp", primary=releases.first, version="1.1.0")
    packed = releases.diff(releases.second, releases.third)
    code, said = smp.tool("toolkit", "update", packed, must_succeed=False)
    expect(code != 0, "mcumgr-toolkit says that an update for another image is done:\n" + said)
    for file, version in ((releases.second, "2.1.0"), (packed, "3.1.0")):
        smp.server.set_mark()
        smp.tool("toolkit", "update", file)
        smp.wait_running(version, "test")
        smp.tool("toolkit", "confirm")
    expect(smp.server.restart() == ("3.1.0", "confirmed"), "the image does not stay")


@scenario()
def packed_update_mcumgr_client(context):
    releases = Releases(context)
    smp = Smp(context, "pty", confirms=True, primary=releases.first, version="1.1.0")
    packed = releases.diff(releases.second, releases.third)
    smp.tool("client", "upload", packed)
    code, said = smp.tool("client", "test", must_succeed=False)
    expect(code != 0, "mcumgr-client may test an update for another image:\n" + said)
    for file, version in ((releases.second, "2.1.0"), (packed, "3.1.0")):
        smp.tool("client", "upload", file)
        smp.tool("client", "test")
        smp.server.set_mark()
        smp.tool("client", "reset")
        smp.server.wait_confirmed(version)
    finished(smp.server, "3.1.0")
