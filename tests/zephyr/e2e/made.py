# SPDX-License-Identifier: Apache-2.0
"""Images and packages that no vector has: made where a scenario needs them, with the demo keys."""

import hashlib
import json
import os
import struct
import subprocess
import zipfile

import harness
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HARDWARE_VERSION = 52
HEADER_SIZE = 0x200
# `ih_flags` of MCUboot's image.h, at this place in the header.
FLAGS_AT = 16
KINDS = {"encrypted": 0x04, "compressed": 0x400, "not bootable": 0x10}
# What follows `--header-size` in a Cortex-M image: stack pointer, then the reset vector with the Thumb bit.
STACK_POINTER = 0x20010000


def with_flag(image, kind):
    """The image, said to be of that kind by its header."""
    flags, = struct.unpack_from("<I", image, FLAGS_AT)
    return image[:FLAGS_AT] + struct.pack("<I", flags | KINDS[kind]) + image[FLAGS_AT + 4:]


def with_vectors(tools, folder, version, reset):
    """A signed image of a Cortex-M program of 9 KB that starts at the address `reset`."""
    plain, signed = os.path.join(folder, "vectors.bin"), os.path.join(folder, "vectors.signed.bin")
    with open(plain, "wb") as file:
        file.write(struct.pack("<II", STACK_POINTER, reset | 1) + bytes(range(256)) * 36)
    subprocess.run([*tools.imgtool, "sign", "--key", os.path.join(harness.VECTORS, "keys", "image.pem"), "--align", "4",
                    "--header-size", hex(HEADER_SIZE), "--pad-header", "--slot-size", "0xE8000", "--max-sectors", "256",
                    "--version", version, plain, signed], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with open(signed, "rb") as file:
        return file.read()


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, value):
    """One field of a protobuf message: a number or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def init_packet(image, version):
    """As nrfutil makes it: dfu-cc.proto, digest and both halves of the signature with the last byte first."""
    digest = hashlib.sha256(image).digest()[::-1]
    command = (field(1, version) + field(2, HARDWARE_VERSION) + field(3, b"\0") + field(4, 0) + field(5, 0) + field(6, 0)
               + field(7, len(image)) + field(8, field(1, 3) + field(2, digest)) + field(9, 0) + field(10, field(1, 1) + field(2, b"")))
    with open(os.path.join(harness.VECTORS, "keys", "package.pem"), "rb") as file:
        key = serialization.load_pem_private_key(file.read(), None)
    r, s = decode_dss_signature(key.sign(command, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "little") + s.to_bytes(32, "little")
    return field(2, field(1, field(1, 1) + field(2, command)) + field(2, 0) + field(3, signature))


def package(path, image, version=2):
    """A DFU package with this image; the path of its file."""
    image += b"\xff" * (-len(image) % 4)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("application.bin", image)
        file.writestr("application.dat", init_packet(image, version))
        file.writestr("manifest.json", json.dumps(
            {"manifest": {"application": {"bin_file": "application.bin", "dat_file": "application.dat"}}}))
    return path
