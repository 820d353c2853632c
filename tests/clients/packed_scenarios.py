# SPDX-License-Identifier: Apache-2.0
"""Packed updates with real clients; run.py runs them.

Each client sends a packed update for another image, which is refused, then the full image that it is for, and then the packed update
again. The releases are made by imgtool, the packed updates by `bledfu diff`.
"""

import os
import struct

import releases
from harness import VECTORS, expect, finished, run_tool, scenario
from releases import IMAGE_KEY, SIZE
from smp_scenarios import Smp

PACKAGE_KEY = os.path.join(VECTORS, "keys", "package.pem")


class Releases(releases.Releases):
    """With the tools of a scenario."""

    def __init__(self, context):
        bin_folder = os.path.join(context.tools.venv(), "bin")
        super().__init__(context.folder, [os.path.join(bin_folder, "imgtool")], context.bledfu)
        self.nrfutil = os.path.join(bin_folder, "nrfutil")

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
    made = Releases(context)
    ours = made.diff(made.second, made.third)
    with open(ours, "rb") as file:
        packed = bytearray(file.read())
    stream, entries = parts(packed)
    places = {"header": 20, "stream": 32 + len(stream) // 2, "entries": 32 + len(stream) + 20, "signature": len(packed) - 9}
    for what, at in places.items():
        damaged = bytes(byte ^ 4 if place == at else byte for place, byte in enumerate(packed))
        with open(made.at("damaged.bin"), "wb") as file:
            file.write(damaged)
        expect(not made.is_valid(made.at("damaged.bin")), "imgtool does not see a flipped bit in the " + what)
    with open(made.at("stream.bin"), "wb") as file:
        file.write(stream)
    path, custom = made.at("by-imgtool.bin"), []
    for kind, value in entries.items():
        custom += ["--custom-tlv", hex(kind), "0x" + value.hex()]
    expect(len(entries) == 4, "entries %s" % list(map(hex, entries)))
    run_tool(*made.imgtool, "sign", "--key", IMAGE_KEY, "--align", 4, "--header-size", "0x20", "--pad-header", "--non-bootable",
             "--slot-size", "0xE8000", "--max-sectors", 256, "--version", "3.1.0", *custom, made.at("stream.bin"), path)
    smp = Smp(context, "udp", primary=made.second, version="2.1.0", confirms=True)
    smp.server.set_mark()
    smp.smpmgr("upgrade", "--slot", "1", path)
    finished(smp.server, "3.1.0")


@scenario(("nrfutil",), ("nrf_dfu",))
def packed_update_serial(context, kind):
    made = Releases(context)
    server = context.server({"nrfutil": "pty", "nrf_dfu": "slip"}[kind], primary=made.first)
    expect(server.start() == ("1.1.0", "confirmed"), "the first release does not run")
    packed = made.diff(made.second, made.third)

    def send(file, version):
        client = context.client(kind, server, made.zip(file, version), 0, size=os.path.getsize(file))
        server.set_mark()
        return client.run(), client
    done, client = send(packed, 3)
    expect(not done, "%s says that an update for another image is done:\n%s" % (kind, client.tail()))
    for file, version, runs in ((made.second, 2, "2.1.0"), (packed, 3, "3.1.0")):
        done, client = send(file, version)
        expect(done, "%s did not say it is finished:\n%s" % (kind, client.tail()))
        server.wait_confirmed(runs)
    sent = client.trace.data_bytes
    expect(sent < SIZE // 20, "sent %u bytes" % sent)
    context.notes.append("%u of %u bytes sent" % (sent, os.path.getsize(made.third)))
    finished(server, "3.1.0")


@scenario()
def packed_update_smpmgr(context):
    made = Releases(context)
    smp = Smp(context, "udp", primary=made.first, version="1.1.0")
    packed = made.diff(made.second, made.third)
    said = smp.smpmgr("upgrade", "--slot", "1", packed, must_succeed=False)
    expect("27" in said or "NEWER" in said.upper(), "smpmgr says of an update for another image:\n" + said)
    expect(smp.images()[0][0].startswith("1.1.0"), "another image runs")
    for file, version in ((made.second, "2.1.0"), (packed, "3.1.0")):
        smp.server.set_mark()
        smp.smpmgr("upgrade", "--slot", "1", file)
        smp.wait_running(version, "test")
        smp.smpmgr("image", "state-write", "--confirm")
    version, digest, flags = smp.images()[0]
    expect((version, flags) == ("3.1.0", {"active", "confirmed"}), "after confirm: %r" % flags)
    # As every fleet must find it: what was sent no longer matters.
    expect(digest in run_tool(context.bledfu, "inspect", made.third).lower(), "slot 0 is listed as " + digest)
    expect(smp.server.restart() == ("3.1.0", "confirmed"), "the image does not stay")


@scenario()
def packed_update_mcumgr_toolkit(context):
    made = Releases(context)
    smp = Smp(context, "udp", primary=made.first, version="1.1.0")
    packed = made.diff(made.second, made.third)
    code, said = smp.tool("toolkit", "update", packed, must_succeed=False)
    expect(code != 0, "mcumgr-toolkit says that an update for another image is done:\n" + said)
    for file, version in ((made.second, "2.1.0"), (packed, "3.1.0")):
        smp.server.set_mark()
        smp.tool("toolkit", "update", file)
        smp.wait_running(version, "test")
        smp.tool("toolkit", "confirm")
    expect(smp.server.restart() == ("3.1.0", "confirmed"), "the image does not stay")


@scenario()
def packed_update_mcumgr_client(context):
    made = Releases(context)
    smp = Smp(context, "pty", confirms=True, primary=made.first, version="1.1.0")
    packed = made.diff(made.second, made.third)
    smp.tool("client", "upload", packed)
    code, said = smp.tool("client", "test", must_succeed=False)
    expect(code != 0, "mcumgr-client may test an update for another image:\n" + said)
    for file, version in ((made.second, "2.1.0"), (packed, "3.1.0")):
        smp.tool("client", "upload", file)
        smp.tool("client", "test")
        smp.server.set_mark()
        smp.tool("client", "reset")
        smp.server.wait_confirmed(version)
    finished(smp.server, "3.1.0")


@scenario()
def packed_update_mcumgr_smp(context):
    """Its program goes by hashes that it reads from lists, so it confirms by the digest that is listed then."""
    made = Releases(context)
    smp = Smp(context, "udp", primary=made.first, version="1.1.0")
    packed = made.diff(made.second, made.third)
    program = context.tools.mcumgr_smp()

    def client(*command, **options):
        return smp.run(program, "%s:1337" % smp.server.smp_host, *command, **options)[1]

    def listed(slot):
        slots = {words[0]: words[1:] for words in map(str.split, client("list").splitlines())}
        return slots[str(slot)]
    client("upload", packed)
    code, said = smp.run(program, "%s:1337" % smp.server.smp_host, "test", listed(1)[1], must_succeed=False)
    expect(code != 0, "mcumgr-smp may test an update for another image:\n" + said)
    for file, version in ((made.second, "2.1.0"), (packed, "3.1.0")):
        client("upload", file)
        digest = listed(1)[1]
        expect(client("test", digest).splitlines()[1].split()[2:] == [digest, "pending"], "%s is not pending" % version)
        smp.server.set_mark()
        client("reset")
        smp.wait_running(version, "test")
        expect(listed(0)[:2] == [version, digest], "on trial runs %s" % listed(0))
        expect(client("confirm", digest).splitlines()[0].split()[3:] == ["active", "confirmed"], "%s is not confirmed" % version)
    version, digest, *_ = listed(0)
    expect(version == "3.1.0" and digest in run_tool(context.bledfu, "inspect", made.third).lower(), "slot 0 is listed as " + digest)
    expect(smp.server.restart() == ("3.1.0", "confirmed"), "the image does not stay")
