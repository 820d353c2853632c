# SPDX-License-Identifier: Apache-2.0
"""Makes the test images and packages with the real imgtool and nrfutil. Run it through make.sh."""

import argparse
import binascii
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))

# The slot the images are signed for, and what MCUboot's swap using move leaves of it for an image: the
# trailer (256 sectors, write size 4: 3120 bytes, so one sector) and one sector to move into.
SLOT_SIZE = 0xE8000
MAX_SECTORS = 256
SECTOR_SIZE = 0x1000
IMAGE_LIMIT = SLOT_SIZE - 2 * SECTOR_SIZE

# Where the processor sees the primary slot of an nRF52840, and the flash of the network core of an nRF5340.
SLOT_ADDRESS = 0xD000
NETWORK_CORE_ADDRESS = 0x01000000

# The image of the case: 116 objects of 4096 bytes and one of 248.
CASE_SIZE = 475384

HEADER_SIZE = 0x200
# Info header, SHA-256, key hash, and the head of the signature entry.
TLV_SIZE_WITHOUT_SIGNATURE = 4 + (4 + 32) + (4 + 32) + 4
HW_VERSION = 52


class Maker:
    """Runs the two tools and keeps track of what was made."""

    def __init__(self, tools, out):
        self.tools = tools
        self.out = out
        self.work = tempfile.mkdtemp(prefix="bledfu-vectors-")
        self.packages = []
        self.cases = []

    def path(self, *parts):
        return os.path.join(self.out, *parts)

    def run(self, tool, *args):
        done = subprocess.run([os.path.join(self.tools, tool), *map(str, args)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit("%s %s failed:\n%s" % (tool, " ".join(map(str, args)), done.stdout))
        return done.stdout

    # ---- keys

    def keys(self):
        os.makedirs(self.path("keys"), exist_ok=True)
        for name in ("package", "other-package"):
            if not os.path.exists(self.path("keys", name + ".pem")):
                self.run("nrfutil", "keys", "generate", self.path("keys", name + ".pem"))
        for name in ("image", "other-image"):
            if not os.path.exists(self.path("keys", name + ".pem")):
                self.run("imgtool", "keygen", "-k", self.path("keys", name + ".pem"), "-t", "ecdsa-p256")
        # The public halves, as the tools print them.
        self.run("nrfutil", "keys", "display", self.path("keys", "package.pem"), "--key", "pk", "--format", "pem",
                 "--out_file", self.path("keys", "package.pub.pem"))
        public = self.run("imgtool", "getpub", "-k", self.path("keys", "image.pem"), "-e", "pem")
        with open(self.path("keys", "image.pub.pem"), "w") as file:
            file.write(public)

    # ---- images

    def sign(self, target, payload, version, key="image", fits=lambda size: True, options=(), verifies=True):
        """Signs until the size of the signed image suits: a DER signature has 70 to 72 bytes, by chance."""
        source = os.path.join(self.work, "payload.bin")
        with open(source, "wb") as file:
            file.write(payload)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        for _ in range(60):
            self.run("imgtool", "sign", "--key", self.path("keys", key + ".pem"), "--align", 4,
                     "--header-size", hex(HEADER_SIZE), "--pad-header", "--slot-size", hex(SLOT_SIZE),
                     "--max-sectors", MAX_SECTORS, "--version", version, *options, source, target)
            if fits(os.path.getsize(target)):
                break
        else:
            sys.exit("imgtool never made %s of a suitable size" % target)
        public = self.path("keys", key + ".pem")
        if verifies and "--pad" not in options and "Image was correctly validated" not in self.run("imgtool", "verify", "-k", public, target):
            sys.exit("imgtool does not verify " + target)
        return target

    # ---- packages

    def init(self, name, firmware, **options):
        """An init packet made by nrfutil, listed in init/cases.json with its exact inputs."""
        os.makedirs(self.path("init"), exist_ok=True)
        package = os.path.join(self.work, name + ".zip")
        self.generate(package, firmware, **options)
        with zipfile.ZipFile(package) as zip_file:
            entry = json.loads(zip_file.read("manifest.json"))["manifest"]["application"]
            packet = zip_file.read(entry["dat_file"])
            binary = zip_file.read(entry["bin_file"])
        with open(self.path("init", name + ".dat"), "wb") as file:
            file.write(packet)
        fields = init_fields(packet)
        key = options.get("key", "package")
        self.cases.append({
            "name": name,
            "dat": "init/%s.dat" % name,
            "firmware": os.path.relpath(firmware, self.out).replace(os.sep, "/"),
            "arguments": list(map(str, arguments(**{**options, "firmware": "FIRMWARE", "key": "KEY" if key else None}))),
            "key": "keys/%s.pem" % key if key else None,
            "options": {
                "hw_version": options.get("hw_version", HW_VERSION),
                "application_version": options["application_version"],
                "sd_req": [int(number, 16) for number in options.get("sd_req", "0x00").split(",")],
                "debug_mode": options.get("debug_mode", False),
                "app_boot_validation": options.get("app_boot_validation", "VALIDATE_GENERATED_CRC"),
            },
            "length": len(packet),
            "crc32": "%08X" % binascii.crc32(packet),
            "app_size": len(binary),
            "app_sha256": hashlib.sha256(binary).hexdigest(),
            # All bytes outside these ranges are the same whenever the package is made again.
            "random": fields["random"],
            "init_command": fields["init_command"],
            "sd_req_in_packet": fields["sd_req"],
        })

    def generate(self, target, firmware=None, key="package", **options):
        if os.path.exists(target):
            os.remove(target)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        key = self.path("keys", key + ".pem") if key else None
        self.run("nrfutil", *arguments(firmware=firmware, key=key, **options), target)

    def package(self, name, expect, firmware=None, note="", **options):
        """A package in packages/; `expect` is what a target of the README's description answers."""
        target = self.path("packages", name + ".zip")
        self.generate(target, firmware, **options)
        # nrfutil stores without compressing. Small packages stay as it made them; the same members of a
        # big one are deflated, to keep the repository small.
        if os.path.getsize(target) > 64 * 1024:
            deflate(target)
        self.note(name, expect, note)

    def change(self, name, base, expect, note, member):
        """The package `base` with every member passed through `member(name, bytes)`; None drops it."""
        target = self.path("packages", name + ".zip")
        with zipfile.ZipFile(self.path("packages", base + ".zip")) as source:
            members = [(info.filename, member(info.filename, source.read(info))) for info in source.infolist()]
        with zipfile.ZipFile(target, "w") as zip_file:
            for member_name, content in members:
                if content is not None:
                    zip_file.writestr(zipfile.ZipInfo(member_name), content)
        self.note(name, expect, note)

    def note(self, name, expect, note):
        entry = {"file": "packages/%s.zip" % name, "expect": expect}
        if note:
            entry["note"] = note
        try:
            with zipfile.ZipFile(self.path("packages", name + ".zip")) as zip_file:
                manifest = json.loads(zip_file.read("manifest.json"))["manifest"]
                for kind, part in sorted(manifest.items()):
                    packet = zip_file.read(part["dat_file"])
                    binary = zip_file.read(part["bin_file"])
                    entry[kind] = {
                        "bin_file": part["bin_file"], "bin_size": len(binary),
                        "bin_crc32": "%08X" % binascii.crc32(binary),
                        "bin_sha256": hashlib.sha256(binary).hexdigest(),
                        "init_size": len(packet), "init_crc32": "%08X" % binascii.crc32(packet),
                    }
        except (zipfile.BadZipFile, KeyError, ValueError):
            pass  # one of the broken ones
        self.packages.append(entry)


def arguments(firmware=None, key=None, hw_version=HW_VERSION, application_version=None, sd_req="0x00", sd_id=None,
              debug_mode=False, app_boot_validation=None, softdevice=None, bootloader=None, bootloader_version=None):
    """The command line for nrfutil, without the name of the package."""
    args = ["pkg", "generate", "--hw-version", hw_version, "--sd-req", sd_req]
    if debug_mode:
        args.append("--debug-mode")
    if firmware:
        args += ["--application", firmware, "--application-version", application_version]
    if softdevice:
        args += ["--softdevice", softdevice]
    if bootloader:
        args += ["--bootloader", bootloader, "--bootloader-version", bootloader_version]
    if sd_id:
        args += ["--sd-id", sd_id]
    if app_boot_validation:
        args += ["--app-boot-validation", app_boot_validation]
    if key:
        args += ["--key-file", key]
    return args


def deflate(path):
    with zipfile.ZipFile(path) as source:
        members = [(info.filename, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name, content in sorted(members):
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(info, content)


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def fields_of(data, start, end):
    """Every (number, value) of one protobuf message; for a length-delimited field the value is (start, end)."""
    at = start
    while at < end:
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            yield tag >> 3, (at, at + value)
            at += value
        else:
            yield tag >> 3, value


def init_fields(packet):
    """Where in an init packet the signed bytes are and which ranges [offset, length] a signer fills by chance."""
    random, sd_req, init = [], [], None
    for number, value in fields_of(packet, 0, len(packet)):
        command = value
        if number == 2:
            for signed_number, signed_value in fields_of(packet, *value):
                if signed_number == 1:
                    command = signed_value
                elif signed_number == 3:
                    random.append([signed_value[0], signed_value[1] - signed_value[0]])
        for command_number, command_value in fields_of(packet, *command):
            if command_number == 2:
                init = command_value
    for number, value in fields_of(packet, *init):
        if number == 3:
            at = value[0]
            while at < value[1]:
                one, at = varint(packet, at)
                sd_req.append(one)
        if number == 10:
            kind, content = [entry for _, entry in fields_of(packet, *value)]
            if kind == 3:
                random.append([content[0], content[1] - content[0]])
    return {"random": sorted(random), "init_command": [init[0], init[1] - init[0]], "sd_req": sd_req}


def payload(title, size):
    """Lines of text of 64 bytes. Every 256-byte page of the image differs from all others and says which it is."""
    lines = []
    for number in range(-(-size // 64)):
        at = HEADER_SIZE + number * 64
        line = "%-20.20s page %04u line %u at %06x %s" % (title, at // 256, at % 256 // 64, at, "." * 64)
        lines.append(line[:63] + "\n")
    return "".join(lines).encode()[:size]


def vectored(title, size, reset_vector):
    """A payload that begins as code for a Cortex-M does: stack pointer, reset vector; then lines of text."""
    table = struct.pack("<II", 0x20040000, reset_vector)
    return table + payload(title, size)[len(table):]


def payload_size(image_size, signature=71):
    return image_size - HEADER_SIZE - TLV_SIZE_WITHOUT_SIGNATURE - signature


def exactly(size):
    return lambda signed: signed == size


def make(maker):
    maker.keys()
    for folder in ("images", "packages", "init"):
        shutil.rmtree(maker.path(folder), ignore_errors=True)
        os.makedirs(maker.path(folder))

    # -- images
    # 474,720 bytes of payload: with a signature of 70, 71 or 72 bytes the packaged .bin has the size of the case.
    demo = {}
    for version in ("1.0.0", "2.0.0"):
        demo[version] = maker.sign(os.path.join(maker.work, "demo-%s.signed.bin" % version),
                                   payload("bledfu demo " + version, payload_size(CASE_SIZE - 1)), version,
                                   fits=lambda size: CASE_SIZE - 2 <= size <= CASE_SIZE)

    def image(name, title, version, size, **options):
        return maker.sign(maker.path("images", name + ".signed.bin"), payload(title, payload_size(size)), version,
                          fits=exactly(size), **options)

    small_1 = image("small-1.0.0", "bledfu small 1.0.0", "1.0.0", 9400)
    small_2 = image("small-2.0.0", "bledfu small 2.0.0", "2.0.0", 13636)
    small_3 = image("small-3.0.0", "bledfu small 3.0.0", "3.0.0", 3 * 4096)
    odd = image("odd-2.0.0", "bledfu odd 2.0.0", "2.0.0", 9201)
    medium = image("medium-2.3.4", "bledfu medium 2.3.4", "2.3.4+5", 45000)
    other_key = maker.sign(os.path.join(maker.work, "other-image-key.signed.bin"),
                           payload("bledfu small 2.0.0", payload_size(9404)), "2.0.0", key="other-image", fits=exactly(9404))
    # Same size and version as small-2.0.0 and a good image, but not the one the init packet speaks of.
    twin = maker.sign(os.path.join(maker.work, "twin.signed.bin"),
                      payload("bledfu twin 2.0.0", payload_size(13636)), "2.0.0", fits=exactly(13636))
    # Mostly zeros, so that the biggest image that fits costs nothing here.
    limit, over = [maker.sign(os.path.join(maker.work, "limit-%u.signed.bin" % size),
                              payload("bledfu limit 2.0.0", 2048).ljust(payload_size(size), b"\0"), "2.0.0",
                              fits=exactly(size))
                   for size in (IMAGE_LIMIT, IMAGE_LIMIT + 4)]
    # The worked example of the MCUboot notes: a protected TLV area, and an image padded to its slot.
    maker.sign(maker.path("images", "protected-1.2.3.signed.bin"), bytes(range(64)), "1.2.3+4",
               fits=exactly(755), options=("--security-counter", "7", "--dependencies", "(1, 1.2.3+0)"))
    maker.sign(maker.path("images", "padded-confirmed-1.2.3.bin"), bytes(range(64)), "1.2.3+4",
               options=("--slot-size", "0x4000", "--max-sectors", "4", "--pad", "--confirm"))

    vectored_images(maker)

    no_image = os.path.join(maker.work, "no-image.bin")
    with open(no_image, "wb") as file:
        file.write(payload("this is no image", 9000))
    system = os.path.join(maker.work, "system.bin")
    with open(system, "wb") as file:
        file.write(payload("system software", 5000))

    # -- packages a target takes
    maker.package("demo-1.0.0", "ok", demo["1.0.0"], application_version=1)
    maker.package("demo-2.0.0", "ok", demo["2.0.0"], application_version=2)
    maker.package("small-1.0.0", "ok", small_1, application_version=1)
    maker.package("small-2.0.0", "ok", small_2, application_version=2)
    maker.package("small-3.0.0", "ok", small_3, application_version=3, note="the last object is a whole one")
    maker.package("medium-2.3.4", "ok", medium, application_version=2, note="11 objects; image version 2.3.4+5")
    maker.package("odd-2.0.0", "ok", odd, application_version=2, note="a 9201-byte image; nrfutil appended three FF")
    maker.package("boot-validation-ecdsa", "ok", small_2, application_version=2,
                  app_boot_validation="VALIDATE_ECDSA_P256_SHA256")
    maker.package("boot-validation-sha256", "ok", small_2, application_version=2,
                  app_boot_validation="VALIDATE_GENERATED_SHA256")
    maker.package("debug", "ok", small_2, application_version=2, debug_mode=True, note="is_debug set, hardware version right")
    maker.package("limit", "ok", limit, application_version=2, note="the biggest image swap using move takes: %u bytes" % IMAGE_LIMIT)

    # -- packages a target refuses at the Execute of the init packet
    maker.package("wrong-signature", "init 05", small_2, application_version=2, key="other-package", note="signed with keys/other-package.pem")
    maker.package("unsigned", "init 0B 08", small_2, application_version=2, key=None)
    maker.package("too-old", "init 0B 05", small_1, application_version=0)
    maker.package("wrong-hardware", "init 0B 06", small_2, application_version=2, hw_version=51)
    maker.package("debug-wrong-hardware", "init 0B 06", small_2, application_version=2, hw_version=51, debug_mode=True,
                  note="a production target ignores is_debug")
    maker.package("sd-req-0x100", "init 0B 07", small_2, application_version=2, sd_req="0x100",
                  note="accepted by a target whose policy ignores sd_req or lists 0x100")
    maker.package("over-limit", "init 04", over, application_version=2, note="%u bytes, 4 more than limit.zip" % (IMAGE_LIMIT + 4))
    maker.package("softdevice", "init 0B 04", softdevice=system, sd_req="0x00")
    maker.package("bootloader", "init 0B 04", bootloader=system, bootloader_version=2)
    maker.package("softdevice-bootloader", "init 0B 04", softdevice=system, bootloader=system, bootloader_version=2)
    maker.package("softdevice-application", "init 0B 04, then ok", small_2, application_version=2, softdevice=system,
                  sd_id="0x00", note="phones go on with the application on the same connection")

    # -- packages a target refuses after the last byte, or on the way
    maker.package("wrong-image-key", "final 0B 0C", other_key, application_version=2, note="the image is signed with keys/other-image.pem")
    maker.package("no-image", "final 0B 0C", no_image, application_version=2, note="no MCUboot image in it")

    with open(twin, "rb") as file:
        twin_bytes = file.read()
    maker.change("wrong-hash", "small-2.0.0", "final 0B 0C", "the .bin is another good image of equal size and version",
                 lambda name, data: twin_bytes if name.endswith(".bin") else data)
    maker.change("boot-validation-wrong", "boot-validation-ecdsa", "final 0B 0C", "same with boot validation type 3",
                 lambda name, data: twin_bytes if name.endswith(".bin") else data)
    maker.change("truncated", "small-2.0.0", "create 03", "1000 bytes of the .bin are missing; a tool should say so before sending",
                 lambda name, data: data[:-1000] if name.endswith(".bin") else data)
    maker.change("too-long", "small-2.0.0", "create 08 or 03", "4 bytes more in the .bin than the init packet says",
                 lambda name, data: data + b"\xff" * 4 if name.endswith(".bin") else data)
    maker.change("damaged-init", "small-2.0.0", "init 05", "one bit of the .dat flipped, in the hash",
                 lambda name, data: data[:40] + bytes([data[40] ^ 1]) + data[41:] if name.endswith(".dat") else data)

    # -- files that are no package
    with open(maker.path("packages", "small-2.0.0.zip"), "rb") as file:
        whole = file.read()

    def raw(name, content, note):
        with open(maker.path("packages", name + ".zip"), "wb") as file:
            file.write(content)
        maker.note(name, "file", note)

    raw("broken-truncated", whole[:len(whole) // 2], "half of small-2.0.0.zip")
    raw("broken-empty", b"", "no bytes")
    raw("broken-text", b"this is not a zip file\n" * 8, "text")
    maker.change("broken-crc", "small-2.0.0", "file", "one byte of the stored .bin does not match the zip's CRC", lambda _, data: data)
    with open(maker.path("packages", "broken-crc.zip"), "r+b") as file:
        at = file.read().index(b"bledfu small 2.0.0   page 0010")
        file.seek(at)
        file.write(b"B")
    drop = "small-2.0.0"
    maker.change("broken-no-manifest", drop, "file", "manifest.json missing",
                 lambda name, data: None if name == "manifest.json" else data)
    maker.change("broken-no-bin", drop, "file", "the manifest names a .bin that is not there",
                 lambda name, data: None if name.endswith(".bin") else data)
    maker.change("broken-no-dat", drop, "file", "the manifest names a .dat that is not there",
                 lambda name, data: None if name.endswith(".dat") else data)
    maker.change("broken-json", drop, "file", "manifest.json ends in the middle",
                 lambda name, data: data[:len(data) // 2] if name == "manifest.json" else data)
    maker.change("broken-no-dat-entry", drop, "file", "the manifest entry has no dat_file",
                 lambda name, data: json.dumps({"manifest": {"application": {"bin_file": "small-2.0.0.signed.bin"}}}).encode()
                 if name == "manifest.json" else data)
    maker.change("broken-no-application", drop, "file", "an empty manifest",
                 lambda name, data: b'{"manifest": {}}' if name == "manifest.json" else data)

    # -- init packets for comparing byte by byte
    init_cases(maker, small_2, odd)

    with open(maker.path("packages.json"), "w") as file:
        json.dump(maker.packages, file, indent=2)
        file.write("\n")


def vectored_images(maker):
    """Images with the start of a vector table, for the slots of an nRF52840 and an nRF5340; and kinds no device here takes."""
    folder = "vectored"
    shutil.rmtree(maker.path(folder), ignore_errors=True)
    # Handlers 0x100 bytes into the payload; bit 0 says Thumb.
    inside = SLOT_ADDRESS + HEADER_SIZE + 0x100 + 1

    def image(name, version, reset_vector, *options, verifies=True):
        content = vectored("bledfu %s" % name, payload_size(5000), reset_vector)
        maker.sign(maker.path(folder, name + ".signed.bin"), content, version, options=options, verifies=verifies)

    image("application-1.0.0", "1.0.0", inside)
    image("application-2.0.0", "2.0.0", inside)
    image("application-3.0.0", "3.0.0", inside)
    image("network-core-2.0.0", "2.0.0", NETWORK_CORE_ADDRESS + HEADER_SIZE + 0x8800 + 1)
    image("second-slot-2.0.0", "2.0.0", inside + SLOT_SIZE)
    image("last-word-2.0.0", "2.0.0", SLOT_ADDRESS + SLOT_SIZE - 1)
    image("rom-fixed-2.0.0", "2.0.0", inside, "--rom-fixed", hex(SLOT_ADDRESS))
    image("rom-fixed-elsewhere-2.0.0", "2.0.0", inside, "--rom-fixed", hex(SLOT_ADDRESS + SLOT_SIZE))
    image("ram-load-2.0.0", "2.0.0", 0x20010000 + HEADER_SIZE + 0x100 + 1, "--load-addr", "0x20010000")
    image("non-bootable-2.0.0", "2.0.0", inside, "--non-bootable")
    image("compressed-2.0.0", "2.0.0", inside, "--compression", "lzma2")
    image("compressed-thumb-2.0.0", "2.0.0", inside, "--compression", "lzma2armthumb")
    # Nobody here can decrypt it: the private half is thrown away.
    key = os.path.join(maker.work, "encryption.pem")
    public = os.path.join(maker.work, "encryption.pub.pem")
    maker.run("imgtool", "keygen", "-k", key, "-t", "ecdsa-p256")
    with open(public, "w") as file:
        file.write(maker.run("imgtool", "getpub", "-k", key, "-e", "pem"))
    for size in ("128", "256"):
        image("encrypted-%s-2.0.0" % size, "2.0.0", inside, "--encrypt", public, "--encrypt-keylen", size, verifies=False)


def init_cases(maker, small_2, odd):
    maker.init("plain", small_2, application_version=2)
    maker.init("odd-length", odd, application_version=2)
    maker.init("unsigned", small_2, application_version=2, key=None)
    maker.init("version-0", small_2, application_version=0)
    maker.init("version-max", small_2, application_version=0xFFFFFFFF, hw_version=0xFFFFFFFF)
    maker.init("version-20731", small_2, application_version=20731, hw_version=300)
    maker.init("debug", small_2, application_version=2, debug_mode=True)
    maker.init("debug-unsigned", small_2, application_version=2, debug_mode=True, key=None, sd_req="0xFFFE")
    maker.init("validation-none", small_2, application_version=2, app_boot_validation="NO_VALIDATION")
    maker.init("validation-sha256", small_2, application_version=2, app_boot_validation="VALIDATE_GENERATED_SHA256")
    maker.init("validation-ecdsa", small_2, application_version=2, app_boot_validation="VALIDATE_ECDSA_P256_SHA256")
    maker.init("sd-req-default", small_2, application_version=2, sd_req="0xFFFE")
    maker.init("sd-req-case", small_2, application_version=2, sd_req="0x100,0x123")
    maker.init("sd-req-duplicates", small_2, application_version=2, sd_req="0x123,0x100,0x123,0x100")
    maker.init("sd-req-collisions", small_2, application_version=2, sd_req="0x100,0x00,0x08,0xFFFE")
    maker.init("sd-req-reverse", small_2, application_version=2, sd_req="0xFFFE,0x08,0x00,0x100")
    maker.init("sd-req-five", small_2, application_version=2, sd_req="0x124,0x101,0xC2,0xCB,0xB7")
    maker.init("sd-req-sixteen", small_2, application_version=2,
               sd_req="0x124,0x101,0xCB,0xC2,0xB7,0xAF,0xA8,0xA5,0x9D,0x9F,0x9E,0x99,0x98,0x95,0x91,0x8C")
    maker.init("sd-req-sixteen-collisions", small_2, application_version=2,
               sd_req="0x120,0x100,0xE0,0xC0,0xA0,0x80,0x60,0x40,0x20,0x00,0xFFFE,0x1F,0x3F,0x5F,0x7F,0x9F")
    with open(maker.path("init", "cases.json"), "w") as file:
        json.dump(maker.cases, file, indent=2)
        file.write("\n")


def check(maker):
    """Makes the init packets again from the committed images and compares all but the random signatures."""
    committed = os.path.join(maker.work, "committed")
    shutil.copytree(HERE, committed)
    maker.out = committed
    with open(maker.path("init", "cases.json")) as file:
        before = {case["name"]: case for case in json.load(file)}
    packets = {}
    for name in before:
        with open(maker.path("init", name + ".dat"), "rb") as file:
            packets[name] = bytearray(file.read())
    init_cases(maker, maker.path("images", "small-2.0.0.signed.bin"), maker.path("images", "odd-2.0.0.signed.bin"))
    wrong = 0
    for case in maker.cases:
        with open(maker.path("init", case["name"] + ".dat"), "rb") as file:
            packet = bytearray(file.read())
        old = packets.get(case["name"], bytearray())
        for at, length in case["random"]:
            old[at:at + length] = packet[at:at + length]
        if old != packet or any(before[case["name"]][key] != case[key] for key in ("options", "app_sha256", "random", "init_command")):
            print("init/%s.dat is not what nrfutil makes now" % case["name"])
            wrong += 1
    for name in sorted(os.listdir(maker.path("images"))):
        if "padded" in name:
            continue
        maker.run("imgtool", "verify", "-k", maker.path("keys", "image.pem"), maker.path("images", name))
    for name in sorted(os.listdir(maker.path("vectored"))):
        if "encrypted" not in name:
            maker.run("imgtool", "verify", "-k", maker.path("keys", "image.pem"), maker.path("vectored", name))
    print("%u init packets compared, %u differ; the images verify" % (len(maker.cases), wrong))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", required=True, help="folder with nrfutil and imgtool")
    parser.add_argument("--check", action="store_true", help="compare only, change nothing")
    parser.add_argument("--vectored", action="store_true", help="make only the images of vectored/")
    args = parser.parse_args()
    maker = Maker(args.tools, HERE)
    try:
        if args.check:
            return 1 if check(maker) else 0
        if args.vectored:
            vectored_images(maker)
            return 0
        make(maker)
        size = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(HERE) for name in names)
        print("%u packages, %u init packets, %u KiB in all" % (len(maker.packages), len(maker.cases), size // 1024))
    finally:
        shutil.rmtree(maker.work, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
