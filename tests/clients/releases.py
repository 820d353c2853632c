# SPDX-License-Identifier: Apache-2.0
"""Three releases of one program, signed by imgtool, and the packed updates between them, made by `bledfu diff`."""

import os
import random
import struct

from harness import VECTORS, Failure, expect, run_tool

IMAGE_KEY = os.path.join(VECTORS, "keys", "image.pem")
# Where the slots of `bledfu serve` are, and the header that imgtool puts in front of a program.
SLOT, HEADER = 0xD000, 0x200
SIZE = 30000


class Releases:
    """`imgtool` is the words of its command, `slot` the address at which the device's images run."""

    def __init__(self, folder, imgtool, bledfu, slot=SLOT):
        self.folder, self.imgtool, self.bledfu, self.slot = folder, imgtool, bledfu, slot
        program = bytearray(random.Random(16).randbytes(SIZE))
        program[:8] = struct.pack("<II", 0x20004000, slot + HEADER + 0x101)
        self.first = self.sign(program, "1.1.0")
        # As a release differs: bytes that are inserted, and bytes that change.
        second = program[:9000] + bytes(range(200)) + program[9000:]
        self.second = self.sign(second, "2.1.0")
        third = bytearray(second)
        third[20000:20004] = b"next"
        self.third = self.sign(third, "3.1.0")

    def at(self, name):
        return os.path.join(self.folder, name)

    def sign(self, program, version):
        plain, signed = self.at(version + ".bin"), self.at(version + ".signed.bin")
        with open(plain, "wb") as file:
            file.write(program)
        run_tool(*self.imgtool, "sign", "--key", IMAGE_KEY, "--align", 4, "--header-size", hex(HEADER), "--pad-header",
                 "--slot-size", "0xE8000", "--max-sectors", 256, "--version", version, plain, signed)
        return signed

    def diff(self, old, new):
        """The packed update; checked by the tool that everybody has."""
        packed = self.at("%s-to-%s.bin" % (os.path.basename(old)[:5], os.path.basename(new)[:5]))
        run_tool(self.bledfu, "diff", "--from", old, "--to", new, "--key", IMAGE_KEY, "--slot-address", hex(self.slot), "--trial",
                 "-o", packed)
        expect(self.is_valid(packed), "imgtool does not accept a packed update")
        expect(os.path.getsize(packed) < SIZE // 20, "a packed update of %u bytes" % os.path.getsize(packed))
        return packed

    def is_valid(self, path):
        """Whether imgtool finds digest and signature of a file right."""
        try:
            return "correctly validated" in run_tool(*self.imgtool, "verify", "-k", IMAGE_KEY, path)
        except Failure:
            return False
