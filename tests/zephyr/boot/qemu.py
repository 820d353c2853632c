#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The boot image in QEMU: it starts images from simulated flash, installs, goes back, refuses.

    tests/zephyr/boot/qemu.py [--build FOLDER] [ALGORITHM[:FLASH] ...]     default: swap-offset

FLASH is what the flash is like: its write unit in bytes (4, which is the default, 8, 16 or 32; pages of 4 KiB), or 8kib, which
stands for pages of 8 KiB and write units of 16 bytes.

Builds boot/ for mps2/an385 with the Zephyr of ZEPHYR_BASE, images with the ARM gcc, and signs those with imgtool. Prints one line per
scenario; the exit code is 0 only if none failed. What is missing is named, and then all is skipped.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
KEYS = ROOT / "tests" / "vectors" / "keys"
BOARD = "mps2/an385"
QEMU, GCC = "qemu-system-arm", "arm-none-eabi-gcc"

# boot/boards/mps2_an385.overlay
FLASH = 0x21000000
SLOT, FLASH_SIZE = 0x20000, 0x80000
REVERT_COPY = 0x44000
# Beyond the partitions: updates that an image of the test receives later.
LATER, LATER_SIZE = [0x64000, 0x6C000], 0x8000
HEADER = 0x200
# boot/src/guard.c: it lies in the last bytes of the stack, at a multiple of its size.
GUARD_SIZE = 1024
# What a boot stage may leave unused of its stack, at least, above the guard.
STACK_RESERVE = 1024 + 2 * GUARD_SIZE
PATIENCE_S = 120  # to see that it hangs
# A stack that is too small for a check of an image, and how long that check has.
SMALL_STACK, OVERFLOW_S = 4096, 10

OPTIONS = {"swap-offset": "SWAP_OFFSET", "swap-move": "SWAP_MOVE", "swap-scratch": "SWAP_SCRATCH", "overwrite": "OVERWRITE",
           "copy": "COPY"}

# enum bledfu_boot_action, MCUboot's swap types, enum bledfu_boot_reason
NOTHING, INSTALLED, REPAIRED, REJECTED, SKIPPED, NO_IMAGE, DROPPED = 0, 1, 3, 4, 5, 7, 8
TEST, REVERT = 2, 4
# Write unit, page, and the overlay.
FLASHES = {"": (4, 0x1000, None), "4": (4, 0x1000, None), "8": (8, 0x1000, "units_8"), "16": (16, 0x1000, "units_16"),
           "32": (32, 0x1000, "units_32"), "8kib": (16, 0x2000, "pages_of_8_kib")}
DAMAGED, SIGNATURE, OLDER, WRONG_ADDRESS, ALREADY_RUNS, NOT_BEFORE = 4, 5, 6, 8, 9, 10


class Trailer:
    """MCUboot's trailer, whose fields are as wide as the write unit of the flash, or 8 bytes."""

    def __init__(self, kind):
        self.unit, self.page, _ = FLASHES[kind]
        self.width = max(self.unit, 8)
        # From fields of 16 bytes on, the magic begins with their width.
        self.magic = bytes.fromhex("77c295f360d2ef7f3552500f2cb67980") if self.width == 8 else \
            bytes((self.width, 0)) + bytes.fromhex("2de15d29410b8d77679c110f1f8a")
        self.image_ok = SLOT - max(self.width, len(self.magic)) - self.width


class Images:
    """Signed images; each is a program for the primary slot, made when it is asked for."""

    def __init__(self, folder, elf, trailer):
        self.folder, self.trailer, self.made = folder, trailer, {}
        symbols = subprocess.run(["arm-none-eabi-nm", "-S", elf], capture_output=True, text=True, check=True).stdout.splitlines()
        self.stack, self.stack_size = next(line.split()[:2] for line in symbols if line.endswith(" z_main_stack"))

    def __call__(self, name, version, key="image.pem", confirms=False, damaged=False, receives=None, requests=True, wears_out=False,
                 base=FLASH):
        """`receives`: the place in flash, and where in flash the update comes from. Without `requests` it only lies there, beside
        the trailer that was there before. `wears_out`: it damages itself from the second start on. `base`: the slot it is linked for."""
        arguments = (name, version, key, confirms, receives, requests, wears_out, base)
        if arguments not in self.made:
            plain, signed = self.folder / f"{len(self.made)}.bin", self.folder / f"{len(self.made)}.signed.bin"
            elf = plain.with_suffix(".elf")
            defines = [f'-DNAME="{name}"', f"-DBOOT_STACK=0x{self.stack}", f"-DBOOT_STACK_SIZE=0x{self.stack_size}"]
            if confirms:
                defines.append(f"-DCONFIRM_AT={FLASH + self.trailer.image_ok:#x}")
            if receives:
                place, comes_from = (FLASH + at for at in receives)
                defines += [f"-DPLACE={place:#x}", f"-DPLACE_SIZE={SLOT if requests else LATER_SIZE:#x}",
                            f"-DIS_REQUESTED={requests:d}", f"-DUPDATE_FROM={comes_from:#x}", f"-DUPDATE_SIZE={LATER_SIZE:#x}",
                            "-DMAGIC=" + ",".join(str(byte) for byte in self.trailer.magic)]
            if wears_out:
                defines.append("-DDAMAGES_ITSELF")
            subprocess.run([GCC, "-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding", "-nostdlib", "-Wall", "-Werror", *defines,
                            f"-Wl,--section-start=.vectors={base + HEADER:#x},-Ttext={base + HEADER + 0x100:#x},-e,reset",
                            "-Wl,--build-id=none,-z,noexecstack", HERE / "image.c", "-o", elf], check=True)
            subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", elf, plain], check=True)
            subprocess.run([sys.executable, "-m", "imgtool.main", "sign", "--key", KEYS / key, "--version", version, "--align", str(self.trailer.unit),
                            "--max-align", str(self.trailer.width), "--header-size", hex(HEADER), "--pad-header", "--slot-size", hex(SLOT),
                            plain, signed],
                           check=True, stdout=subprocess.DEVNULL)
            self.made[arguments] = signed.read_bytes()
        image = bytearray(self.made[arguments])
        if damaged:
            image[HEADER + 0x110] ^= 1
        return bytes(image)


def flash(algorithm, trailer, primary, secondary=None, requested=True):
    """The contents of both slots, with a request to test the secondary."""
    content = bytearray(b"\xff" * FLASH_SIZE)
    content[: len(primary)] = primary
    if secondary is not None:
        start = SLOT + (trailer.page if algorithm == "swap-offset" else 0)
        content[start : start + len(secondary)] = secondary
        if requested:
            content[2 * SLOT - len(trailer.magic) : 2 * SLOT] = trailer.magic
    return bytes(content)


def scenarios(algorithm, image):
    old, new = image("old", "1.0.0"), image("new", "2.0.0")
    quiet = ("old", NOTHING, 1, 0)

    def case(name, primary, secondary, expected, requested=True):
        return name, flash(algorithm, image.trailer, primary, secondary, requested), expected

    yield case("starts what is there", old, None, [quiet, quiet])
    if algorithm == "overwrite":
        yield case("installs for good", old, new, [("new", INSTALLED, TEST, 0), ("new", NOTHING, 1, 0)])
    else:
        yield case("installs, goes back without a confirmation, and stays there", old, new,
                   [("new", INSTALLED, TEST, 0), ("old", INSTALLED, REVERT, 0), quiet])
        yield case("installs, and a confirmed image stays", old, image("new", "2.0.0", confirms=True),
                   [("new", INSTALLED, TEST, 0), ("new", NOTHING, 1, 0), ("new", NOTHING, 1, 0)])
    yield case("refuses an image of another key", old, image("new", "2.0.0", key="other-image.pem"),
               [("old", REJECTED, TEST, SIGNATURE), quiet])
    yield case("refuses a damaged image", old, image("new", "2.0.0", damaged=True), [("old", REJECTED, TEST, DAMAGED), quiet])
    yield case("refuses an image that is linked for the other slot", old, image("new", "2.0.0", base=FLASH + SLOT),
               [("old", REJECTED, TEST, WRONG_ADDRESS), quiet])
    yield case("repairs a damaged primary slot", image("old", "1.0.0", damaged=True), new, [("new", REPAIRED, 1, 0)], requested=False)
    yield case("starts nothing when there is nothing", b"", None, [(None, NO_IMAGE, 0, None)])
    yield from hostile_outside(algorithm, image)
    if algorithm == "copy":
        yield from updates_in_a_row(image)


def hostile_outside(algorithm, image):
    """Whoever writes the external flash has every image that was ever released. What is believed is in the trust area."""
    running, older, oldest = image("running", "3.0.0"), image("older", "2.0.0"), image("oldest", "1.0.0")
    quiet = ("running", NOTHING, 1, 0)

    def with_later(content, update):
        content = bytearray(content)
        content[LATER[0] : LATER[0] + len(update)] = update
        return bytes(content)

    yield "a downgrade that is written to the external flash is refused", flash(algorithm, image.trailer, running, older), [
        ("running", REJECTED, TEST, OLDER), quiet]
    yield "the image that runs is not installed again", flash(algorithm, image.trailer, running, running), [
        ("running", DROPPED, TEST, ALREADY_RUNS), quiet]
    if algorithm != "overwrite":
        # The image that ran before is where the algorithm has put it; another one takes its place during the trial.
        before = REVERT_COPY if algorithm == "copy" else SLOT
        trial = image("trial", "4.0.0", receives=(before, LATER[0]), requests=False)
        yield "a revert brings back only the image that ran before: another one is left where it is", with_later(
            flash(algorithm, image.trailer, running, trial), older), [
            ("trial", INSTALLED, TEST, 0), ("trial", SKIPPED, REVERT, NOT_BEFORE), ("trial", SKIPPED, REVERT, NOT_BEFORE)]
        yield "a revert brings back only the image that ran before: not a newer one either", with_later(
            flash(algorithm, image.trailer, running, trial), image("newest", "5.0.0")), [
            ("trial", INSTALLED, TEST, 0), ("trial", SKIPPED, REVERT, NOT_BEFORE), ("trial", SKIPPED, REVERT, NOT_BEFORE)]
    # What is confirmed raises the floor. When slot 0 is damaged later, an older image outside does not repair it.
    outside = dict(receives=(SLOT + (image.trailer.page if algorithm == "swap-offset" else 0), LATER[0]), requests=False)
    worn = image("worn", "3.0.0", confirms=True, wears_out=True, **outside)
    yield "the floor survives: an older image does not repair slot 0", with_later(flash(algorithm, image.trailer, oldest, worn), older), [
        ("worn", INSTALLED, TEST, 0), ("worn", NOTHING, 1, 0), (None, NO_IMAGE, 0, None)]
    yield "a newer image repairs slot 0", with_later(flash(algorithm, image.trailer, oldest, worn), image("newest", "5.0.0")), [
        ("worn", INSTALLED, TEST, 0), ("worn", NOTHING, 1, 0), ("newest", REPAIRED, 1, 0), ("newest", NOTHING, 1, 0)]


def updates_in_a_row(image):
    """Each image takes the next update, in the place that has no copy of itself; a place that held one is used again."""
    old = image("old", "1.0.0")
    fourth = image("fourth", "4.0.0")
    third = image("third", "3.0.0", confirms=True, receives=(SLOT, LATER[1]))
    second = image("second", "2.0.0", confirms=True, receives=(REVERT_COPY, LATER[0]))

    def content(*updates):
        content = bytearray(flash("copy", image.trailer, old, second))
        for at, update in zip(LATER, updates):
            content[at : at + len(update)] = update
        return bytes(content)

    tried, back = ("fourth", INSTALLED, TEST, 0), ("third", INSTALLED, REVERT, 0)
    yield "three updates in a row; the last does not confirm itself, goes, and comes again", content(third, fourth), [
        ("second", INSTALLED, TEST, 0), ("third", INSTALLED, TEST, 0), tried, back, tried, back]
    forged = image("third", "3.0.0", key="other-image.pem")
    yield "after an update, the next is refused in the other place, again and again", content(forged), [
        ("second", INSTALLED, TEST, 0), ("second", REJECTED, TEST, SIGNATURE), ("second", REJECTED, TEST, SIGNATURE)]
    damaged = bytearray(content(third))
    damaged[LATER[0] + HEADER + 0x110] ^= 1
    yield "after an update, a damaged one is refused in the other place", bytes(damaged), [
        ("second", INSTALLED, TEST, 0), ("second", REJECTED, TEST, DAMAGED)]


def run(elf, content, expected, folder):
    """What QEMU's serial port said that is not as expected, or None; and the smallest unused stack."""
    file = folder / "flash.bin"
    file.write_bytes(content)
    # Time counts instructions: a loaded machine does not make the device slower.
    qemu = subprocess.Popen([QEMU, "-machine", "mps2-an385", "-nographic", "-icount", "shift=7",
                             # Not as an ELF: that claims the simulated flash, too.
                             "-device", f"loader,file={elf.with_suffix('.bin')},addr=0,force-raw=on",
                             "-device", f"loader,file={file},addr={FLASH:#x},force-raw=on"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    hangs = threading.Timer(PATIENCE_S, qemu.kill)
    hangs.start()
    lines, unused = [], None
    try:
        for want in expected:
            name, action, swap, reason = want
            head = "boot: action" if name is None else f"{name}: action"
            while True:
                line = qemu.stdout.readline()
                if line == "":
                    return f"expected {want}; it said:\n" + "".join(lines), unused
                lines.append(line)
                if not line.startswith("boot: ") or name is None:
                    break
            if name is None:
                found = line.startswith(f"{head} {action}, swap type {swap}, ")
            else:
                found = line.startswith(f"{head} {action} swap {swap} reason {reason} unused ")
            if not found:
                return f"expected {want}; it said:\n" + "".join(lines), unused
            if name is not None:
                left = int(line.rsplit(" ", 1)[1])
                unused = left if unused is None else min(unused, left)
        return None, unused
    finally:
        hangs.cancel()
        qemu.kill()
        qemu.wait()


def overflow(elf, content, folder):
    """What is wrong with a boot stage whose stack is too small: it must stop at the guard, and start nothing."""
    file, log = folder / "flash.bin", folder / "faults.log"
    file.write_bytes(content)
    symbols = subprocess.run(["arm-none-eabi-nm", elf], capture_output=True, text=True, check=True).stdout.splitlines()
    stack = next(int(line.split()[0], 16) for line in symbols if line.endswith(" z_main_stack"))
    guard = range(-(-stack // GUARD_SIZE) * GUARD_SIZE, (-(-stack // GUARD_SIZE) + 1) * GUARD_SIZE)
    qemu = subprocess.Popen([QEMU, "-machine", "mps2-an385", "-nographic", "-icount", "shift=7", "-d", "int", "-D", log,
                             "-device", f"loader,file={elf.with_suffix('.bin')},addr=0,force-raw=on",
                             "-device", f"loader,file={file},addr={FLASH:#x},force-raw=on"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = qemu.communicate(timeout=OVERFLOW_S)
    except subprocess.TimeoutExpired:
        qemu.kill()
        said, _ = qemu.communicate()
    found = re.search(r"MMFAR 0x([0-9a-f]+)", log.read_text())
    if said:
        return f"it said:\n{said.decode(errors='replace')}"
    if found is None or int(found[1], 16) not in guard:
        return f"no fault at {guard.start:#x}:\n" + log.read_text()[-2000:]
    return None


def build(algorithm, kind, folder, *options):
    zephyr = os.environ["ZEPHYR_BASE"]
    log = folder.parent / f"{folder.name}.log"
    folder.parent.mkdir(parents=True, exist_ok=True)
    configure = ["cmake", "-GNinja", "-S", ROOT / "boot", "-B", folder, f"-DBOARD={BOARD}", f"-DZephyr_DIR={zephyr}/share/zephyr-package/cmake",
                 f"-DEXTRA_ZEPHYR_MODULES={ROOT}", "-DCONFIG_BLEDFU_DEMO_KEYS=y", f"-DCONFIG_BLEDFU_INSTALL_{OPTIONS[algorithm]}=y", *options]
    if FLASHES[kind][2]:
        # Parts with such units read any bytes all the same.
        configure += [f"-DEXTRA_DTC_OVERLAY_FILE={HERE / FLASHES[kind][2]}.overlay", "-DCONFIG_FLASH_SIMULATOR_UNALIGNED_READ=y"]
    if algorithm == "swap-scratch":
        configure.append("-DCONFIG_BLEDFU_SMALL_SCRATCH=y")  # its four pages are memory
    with open(log, "w") as output:
        for command in (configure, ["cmake", "--build", folder]):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode != 0:
                sys.exit(f"the boot image does not build; the end of {log}:\n" + log.read_text()[-4000:])
    return folder / "zephyr" / "zephyr.elf"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("algorithms", nargs="*", metavar="ALGORITHM[:FLASH]", help=", ".join(OPTIONS))
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "rust" / "target" / "zephyr", help="for build folders, which are kept")
    arguments = parser.parse_args()
    builds = []
    for argument in arguments.algorithms or ["swap-offset"]:
        algorithm, _, kind = argument.partition(":")
        if algorithm not in OPTIONS:
            parser.error(f"{algorithm} is none of {', '.join(OPTIONS)}")
        if kind not in FLASHES:
            parser.error(f"{kind} is none of {', '.join(filter(None, FLASHES))}")
        builds.append((argument, algorithm, kind))
    if not os.environ.get("ZEPHYR_BASE"):
        print("skipped: the boot image in QEMU (no Zephyr workspace: set ZEPHYR_BASE)")
        return 0
    for program in (QEMU, GCC):
        if shutil.which(program) is None:
            print(f"skipped: the boot image in QEMU (no {program})")
            return 0
    if not pathlib.Path(os.environ["ZEPHYR_BASE"], "boards", "arm", "mps2", "mps2_an385.dts").exists():
        print(f"skipped: the boot image in QEMU (this Zephyr has no board {BOARD})")
        return 0
    sys.path.append(str(HERE.parent / "e2e"))
    import run as e2e  # its environment has imgtool
    e2e.use_environment()
    failed = passed = 0
    for title, algorithm, kind in builds:
        elf = build(algorithm, kind, arguments.build / ("boot_" + title.replace(":", "_")))
        with tempfile.TemporaryDirectory(prefix="bledfu-boot-") as folder:
            folder = pathlib.Path(folder)
            for name, content, expected in scenarios(algorithm, Images(folder, elf, Trailer(kind))):
                wrong, unused = run(elf, content, expected, folder)
                if wrong is None and unused is not None and unused < STACK_RESERVE:
                    wrong = f"only {unused} bytes of the stack are left"
                stack = "" if unused is None else f" ({unused} bytes of stack to spare)"
                print(f"{'ok  ' if wrong is None else 'FAIL'} {title}: {name}{stack}" + ("" if wrong is None else f"\n     {wrong}"), flush=True)
                failed += wrong is not None
                passed += wrong is None
    # The same for all algorithms.
    _, algorithm, kind = builds[0]
    trailer = Trailer(kind)
    elf = build(algorithm, kind, arguments.build / "boot_small_stack", f"-DCONFIG_MAIN_STACK_SIZE={SMALL_STACK}")
    with tempfile.TemporaryDirectory(prefix="bledfu-boot-") as folder:
        folder = pathlib.Path(folder)
        images = Images(folder, elf, trailer)
        wrong = overflow(elf, flash(algorithm, trailer, images("old", "1.0.0"), images("new", "2.0.0")), folder)
    print(f"{'ok  ' if wrong is None else 'FAIL'} a stack that overflows is a fault in its guard" + ("" if wrong is None else f"\n     {wrong}"))
    failed += wrong is not None
    passed += wrong is None
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
