#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks at a configured image (.config and edt.pickle) and names what cannot work, each in one sentence that says what to change.

    build_check.py --zephyr FOLDER image BUILD              the application or bledfu's boot stage; prints the write unit
    build_check.py --zephyr FOLDER agree APPLICATION BOOT   both, of one sysbuild: the application, and the boot stage (or MCUboot)

BUILD is the folder with zephyr/.config. Exit code 1, and the sentences on the standard error.
"""

import argparse
import os
import pathlib
import pickle
import sys

# Erase units that bledfu knows; the smallest, unless the flash of slot 0 has another.
PAGES = (4096, 8192, 16384, 32768, 65536)
WRITE_UNITS = (1, 2, 4, 8, 16, 32)
# The boot stage and the application write in units of 4 bytes at least.
LEAST_WRITE_SIZE = 4
# The options that say in which pages a driver reports its flash; other flashes have erase-block-size.
PAGE_OPTIONS = {"nordic,qspi-nor": "NORDIC_QSPI_NOR_FLASH_LAYOUT_PAGE_SIZE", "jedec,spi-nor": "SPI_NOR_FLASH_LAYOUT_PAGE_SIZE"}
DRIVERS = {"nordic,qspi-nor": "NORDIC_QSPI_NOR", "jedec,spi-nor": "SPI_NOR"}
PARTITIONS = ("fixed-partitions", "fixed-subpartitions", "zephyr,mapped-partition")
LABELS = {"primary": "slot0_partition", "secondary": "slot1_partition", "journal": "bledfu_journal_partition",
          "scratch": "scratch_partition", "revert": "bledfu_revert_partition", "trust": "bledfu_trust_partition",
          "boot": "boot_partition"}
ALGORITHMS = ("SWAP_OFFSET", "SWAP_MOVE", "SWAP_SCRATCH", "OVERWRITE", "COPY")
MCUBOOT_MODES = {"SWAP_OFFSET": "BOOT_SWAP_USING_OFFSET", "SWAP_MOVE": "BOOT_SWAP_USING_MOVE",
                 "SWAP_SCRATCH": "BOOT_SWAP_USING_SCRATCH", "OVERWRITE": "BOOT_UPGRADE_ONLY"}
SYSBUILD_MODES = {"SWAP_OFFSET": "SWAP_USING_OFFSET", "SWAP_MOVE": "SWAP_USING_MOVE", "SWAP_SCRATCH": "SWAP_SCRATCH",
                  "OVERWRITE": "OVERWRITE_ONLY"}
# Measured, on a Cortex-M33 (doc/internals.md, "Stacks"): the deepest path of the worker with P-256 in Rust and in Arm assembly
# (scripts/arm_check.py), by SMP (there without the frame) and packed updates; and those of the QSPI driver and the host.
WORKER_NEEDS = {
    (False, False): (9888, 7440),
    (True, False): (10480, 7936),
    (False, True): (13984, 11408),
    (True, True): (14080, 11536),
}
# More than that with packed updates on a 32-bit RISC-V.
PACKED_NEEDS_RISCV = 768
FLASH_NEEDS, BT_RX_NEEDS = 1024, 1200
# What Zephyr's defaults leave to MCUmgr's thread beside a piece of a file is 1708.
MCUMGR_NEEDS = 1536
# The record of rust/bledfu-transfer/src/buttonless.rs.
RECORD_SIZE = 33
DOC = "see doc/porting.md"


class Config:
    """A .config: None where a symbol is not set."""

    def __init__(self, path):
        self.values = {}
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("CONFIG_") and "=" in line:
                name, _, value = line[7:].partition("=")
                self.values[name] = value.strip('"')

    def __call__(self, name):
        return self.values.get(name) == "y"

    def text(self, name):
        return self.values.get(name, "")

    def number(self, name):
        return int(self.values.get(name, "0") or "0", 0)


class Place:
    """A partition: where it is, and what its flash is like."""

    def __init__(self, name, node):
        self.name, self.label = name, next(iter(node.labels), node.name)
        self.flash = node.parent
        while self.flash.parent and any(compatible in PARTITIONS for compatible in self.flash.compats) or not self.flash.compats:
            self.flash = self.flash.parent
        self.start, self.size = node.regs[0].addr, node.regs[0].size
        self.end = self.start + self.size

    def __str__(self):
        return f"{self.label} ({self.size:#x} bytes at {self.start:#x} of {self.flash_name})"

    @property
    def flash_name(self):
        return next(iter(self.flash.labels), self.flash.name)

    def same_place(self, other):
        return (self.flash.path, self.start, self.size) == (other.flash.path, other.start, other.size)

    def property(self, name):
        found = self.flash.props.get(name)
        return found.val if found else None

    def page(self, config):
        """In bytes, as the driver reports it, and the option for it; 0 if this program does not know the driver."""
        for compatible, option in PAGE_OPTIONS.items():
            if compatible in self.flash.compats:
                return config.number(option), f"CONFIG_{option}"
        return self.property("erase-block-size") or self.property("page-size") or 0, None

    def write_unit(self):
        return self.property("write-block-size") or 1

    def flash_size(self):
        """In bytes; 0 if it is not known."""
        bits = self.property("size")
        if isinstance(bits, int) and any(compatible in PAGE_OPTIONS for compatible in self.flash.compats):
            return bits // 8
        return self.flash.regs[0].size or 0 if self.flash.regs and self.flash.props.get("erase-block-size") else 0


class Image:
    """One configured image."""

    def __init__(self, folder, zephyr):
        sys.path.insert(0, str(pathlib.Path(zephyr) / "scripts" / "dts" / "python-devicetree" / "src"))
        folder = pathlib.Path(folder) / "zephyr"
        self.config = Config(folder / ".config")
        with open(folder / "edt.pickle", "rb") as file:
            self.edt = pickle.load(file)
        self.places = {name: Place(name, node) for name, node in self._nodes() if node is not None and node.regs}

    def _nodes(self):
        chosen = self.edt.chosen_node("bledfu,update-slots")
        for name, label in LABELS.items():
            node = self.edt.label2node.get(label)
            if chosen is not None and name != "boot":
                named = chosen.props.get(name)
                node = named.val if named else None
            yield name, node if node is None or node.status == "okay" else None

    @property
    def algorithm(self):
        return next((name for name in ALGORITHMS if self.config(f"BLEDFU_INSTALL_{name}")), "SWAP_OFFSET")


def needed(image):
    """The partitions this image uses, the missing ones as sentences."""
    config, names = image.config, ["primary", "secondary"]
    names += ["journal"] if config("BLEDFU") else []
    names += {"SWAP_SCRATCH": ["scratch"], "COPY": ["revert"]}.get(image.algorithm, [])
    names += ["trust"] if config("BLEDFU_TRUST") else []
    sizes = {"journal": " (two pages, 8 KiB)", "trust": " (two pages, 8 KiB, in the flash of slot 0)", "scratch": " (swap using scratch)",
             "revert": " (copy, as large as slot 0)"}
    missing = [f"there is no {LABELS[name]}{sizes.get(name, '')}: add it to the devicetree overlay of the board, {DOC}"
               for name in names if name not in image.places]
    return [image.places[name] for name in names if name in image.places], missing


def stack(image):
    """Options of Zephyr that the service cannot do without, and stacks."""
    config = image.config
    if not config("BLEDFU"):
        return
    for option, what in (("BT", "Bluetooth"), ("BT_PERIPHERAL", "the peripheral role"), ("FLASH", "a flash driver")):
        if not config(option):
            yield f"CONFIG_BLEDFU=y needs {what}: set CONFIG_{option}=y, or remove the line that sets it to n"
    in_rust, in_assembly = WORKER_NEEDS[bool(config("BLEDFU_SMP")), bool(config("BLEDFU_SMALL_UPDATES"))]
    need = in_assembly if config("BLEDFU_CRYPTO_CORTEX_M") else in_rust
    if config("BLEDFU_SMP"):
        need += config.number("BLEDFU_SMP_FRAME_SIZE")
    if config("RISCV") and config("BLEDFU_SMALL_UPDATES"):
        need += PACKED_NEEDS_RISCV
    if config.number("BLEDFU_STACK_SIZE") < need:
        yield (f"CONFIG_BLEDFU_STACK_SIZE is {config.number('BLEDFU_STACK_SIZE')}, and the worker alone needs {need}: "
               "remove the line, its default is enough")
    if config.number("BLEDFU_FLASH_STACK_SIZE") < FLASH_NEEDS + config.number("NORDIC_QSPI_NOR_STACK_WRITE_BUFFER_SIZE"):
        yield (f"CONFIG_BLEDFU_FLASH_STACK_SIZE is {config.number('BLEDFU_FLASH_STACK_SIZE')}, and the flash driver needs {FLASH_NEEDS} "
               f"and CONFIG_NORDIC_QSPI_NOR_STACK_WRITE_BUFFER_SIZE ({config.number('NORDIC_QSPI_NOR_STACK_WRITE_BUFFER_SIZE')}): "
               "raise it by the difference, or remove the line")
    if config("BT") and config.number("BT_RX_STACK_SIZE") < BT_RX_NEEDS:
        yield (f"CONFIG_BT_RX_STACK_SIZE is {config.number('BT_RX_STACK_SIZE')}, and the Bluetooth host alone needs {BT_RX_NEEDS}: "
               "remove the line, bledfu's default is 2048")
    if config("BT") and config("BLEDFU_SMP") and config.number("BT_L2CAP_TX_MTU") < 65:
        yield (f"CONFIG_BT_L2CAP_TX_MTU is {config.number('BT_L2CAP_TX_MTU')}, and SMP clients send fragments of 64 bytes and more: "
               "remove the line, bledfu's default is 498")
    if config("BLEDFU_SMP_FORWARD") and config("MCUMGR_GRP_FS"):
        piece = (config.number("MCUMGR_GRP_FS_DL_CHUNK_SIZE") if config("MCUMGR_GRP_FS_DL_CHUNK_SIZE_LIMIT")
                 else config.number("MCUMGR_TRANSPORT_NETBUF_SIZE"))
        if config.number("MCUMGR_TRANSPORT_WORKQUEUE_STACK_SIZE") < MCUMGR_NEEDS + piece:
            yield (f"CONFIG_MCUMGR_TRANSPORT_WORKQUEUE_STACK_SIZE is {config.number('MCUMGR_TRANSPORT_WORKQUEUE_STACK_SIZE')}, and Zephyr's "
                   f"file group needs {MCUMGR_NEEDS} and {piece} for a piece of a file: raise it, or lower "
                   "CONFIG_MCUMGR_GRP_FS_DL_CHUNK_SIZE")
    if config("MCUMGR_GRP_IMG"):
        yield ("CONFIG_MCUMGR_GRP_IMG=y and CONFIG_BLEDFU=y would write the same slot at once: remove CONFIG_MCUMGR_GRP_IMG, and update with "
               "bledfu (CONFIG_BLEDFU_SMP=y serves the same clients)")
    if config.number("BLEDFU_CONN_INTERVAL_MIN") > config.number("BLEDFU_CONN_INTERVAL_MAX"):
        yield "CONFIG_BLEDFU_CONN_INTERVAL_MIN is larger than CONFIG_BLEDFU_CONN_INTERVAL_MAX: exchange the two"


def buttonless(image):
    """Buttonless entry: memory that a reset does not clear, and phones that learn of changed services."""
    config = image.config
    if not config("BLEDFU_UPDATE_MODE"):
        return
    area = image.edt.chosen_node("bledfu,update-mode")
    if area is None or "zephyr,retention" not in area.compats or area.status != "okay" or not config("RETENTION"):
        yield ("CONFIG_BLEDFU_BUTTONLESS_* needs memory that a reset does not clear: add a zephyr,retention area and chosen "
               f"bledfu,update-mode to the devicetree overlay of the board, {DOC}")
        return
    prefix, checksum = area.props.get("prefix"), area.props.get("checksum")
    room = (area.regs[0].size or 0) - len(prefix.val if prefix else b"") - (checksum.val if checksum else 0)
    if room < RECORD_SIZE:
        yield (f"the area of bledfu,update-mode has room for {room} bytes, and the update mode needs {RECORD_SIZE}: enlarge its reg")
    if config("BLEDFU_BUTTONLESS_WITH_BONDS") and not config("BT_GATT_CACHING"):
        yield ("CONFIG_BLEDFU_BUTTONLESS_WITH_BONDS=y needs CONFIG_BT_GATT_CACHING, by which phones learn that the services changed: remove "
               "the line that sets it to n")


def ring(image):
    """The rule of rust/bledfu-transfer/src/ring.rs, which asserts it once more."""
    config = image.config
    if not config("BLEDFU"):
        return
    size, objects = config.number("BLEDFU_RING_SIZE"), config.number("BLEDFU_OBJECT_SIZE")
    page = page_size(image)
    if objects % page:
        yield f"CONFIG_BLEDFU_OBJECT_SIZE is {objects}: it must be a multiple of {page}"
    if size < 8192 and size < objects + -(-objects // 20) + 14:
        yield (f"CONFIG_BLEDFU_RING_SIZE is {size}, and holds neither one object of CONFIG_BLEDFU_OBJECT_SIZE ({objects}) in packets of "
               "20 bytes nor 8192 bytes: remove the line, its default follows, or lower CONFIG_BLEDFU_OBJECT_SIZE")
    if config("BLEDFU_SMP"):
        frame, count = config.number("BLEDFU_SMP_FRAME_SIZE"), config.number("BLEDFU_SMP_FRAME_COUNT")
        least = count * (frame + -(-frame // 20)) + 8 * 19
        if size < least:
            yield (f"CONFIG_BLEDFU_RING_SIZE is {size}, and {count} frames of {frame} bytes in fragments of 20 bytes need {least}: "
                   "raise it, or lower CONFIG_BLEDFU_SMP_FRAME_COUNT or CONFIG_BLEDFU_SMP_FRAME_SIZE")


def places(image):
    """Each partition by itself."""
    config = image.config
    used, missing = needed(image)
    common = page_size(image)
    yield from missing
    for place in used:
        for compatible, driver in DRIVERS.items():
            if compatible in place.flash.compats and not config(driver):
                yield f"{place} needs the driver of its flash: set CONFIG_{driver}=y, or remove the line that sets it to n"
        page, option = place.page(config)
        if page and page != common:
            yield (f"{place}: its flash reports pages of {page} bytes, and bledfu needs {common}: "
                   + (f"set {option}={common}, or remove the line" if option else "use a flash with such pages"))
        if place.write_unit() not in WRITE_UNITS:
            yield f"{place}: its flash has write units of {place.write_unit()} bytes, and bledfu knows 1 to 32: use another flash"
        elif place.write_unit() > config.number("BLEDFU_MAX_ALIGN"):
            yield (f"{place}: its flash has write units of {place.write_unit()} bytes, and CONFIG_BLEDFU_MAX_ALIGN is "
                   f"{config.number('BLEDFU_MAX_ALIGN')}: set CONFIG_BLEDFU_MAX_ALIGN={place.write_unit()}")
        if place.start % common or place.size % common:
            yield f"{place} does not begin and end at multiples of {common} bytes: change its reg"
        if place.flash_size() and place.end > place.flash_size():
            yield f"{place} ends beyond its flash of {place.flash_size():#x} bytes: change its reg"
    for at, place in enumerate(used):
        for other in used[at + 1:]:
            if place.flash.path == other.flash.path and place.start < other.end and other.start < place.end:
                yield f"{place} and {other} overlap: change the reg of one of them"


def slots(image):
    """The partitions together."""
    config, used = image.config, {place.name: place for place in needed(image)[0]}
    if "primary" not in used or "secondary" not in used:
        return
    primary, secondary = used["primary"], used["secondary"]
    more = {"SWAP_OFFSET": (0, 1), "SWAP_MOVE": (1, 0)}.get(image.algorithm, (0, 0))
    page = page_size(image)
    pages = primary.size // page, secondary.size // page
    # With overwrite and copy, the smaller place limits the image.
    if image.algorithm.startswith("SWAP") and pages[0] != pages[1] and (pages[0] - more[0], pages[1] - more[1]) != (min(pages),) * 2:
        yield f"{primary} and {secondary} differ in size: give both the size of the smaller one"
    most = config.number("BLEDFU_MAX_IMG_SECTORS")
    if max(pages) > most:
        yield (f"a slot has {max(pages)} pages, and CONFIG_BLEDFU_MAX_IMG_SECTORS is {most}: raise it to the next power of two, in the "
               "application and in the boot stage")
    if min(pages) < 4:
        yield f"{primary if pages[0] == min(pages) else secondary} has no room for an image beside its trailer: enlarge it"
    if "journal" in used and used["journal"].size < 2 * page:
        yield f"{used['journal']} needs two pages ({2 * page // 1024} KiB): enlarge it"
    if "trust" in used and used["trust"].size < 2 * page:
        yield f"{used['trust']} has less than two pages ({2 * page // 1024} KiB): enlarge it"
    if "trust" in used and used["trust"].flash.path != primary.flash.path:
        yield f"{used['trust']} is in the external flash, which it is there to distrust: move it into the flash of slot 0"
    if ("scratch" in used and used["scratch"].flash.path == primary.flash.path and used["scratch"].size < 8 * page
            and not config("BLEDFU_SMALL_SCRATCH")):
        yield (f"{used['scratch']} has fewer than 8 pages ({8 * page // 1024} KiB) and would wear out: enlarge it, use another CONFIG_BLEDFU_INSTALL_*, or "
               "set CONFIG_BLEDFU_SMALL_SCRATCH=y")


def rust_product(image):
    """zephyr-lang-rust calls cargo for a Rust product, and does not pass units on."""
    unit, page = write_size(image), page_size(image)
    if image.config("RUST") and unit > LEAST_WRITE_SIZE and os.environ.get("BLEDFU_WRITE_SIZE") != str(unit):
        yield f"a Rust product does not know the write unit of its flash: export BLEDFU_WRITE_SIZE={unit} before the build"
    if image.config("RUST") and page > PAGES[0] and os.environ.get("BLEDFU_PAGE_SIZE") != str(page):
        yield f"a Rust product does not know the pages of its flash: export BLEDFU_PAGE_SIZE={page} before the build"


def check_image(image):
    """All sentences about one image."""
    found = list(stack(image)) + list(buttonless(image)) + list(ring(image))
    if image.config("BLEDFU_BUILD_CHECK"):
        found += list(places(image))
        # The same mistake is not told twice.
        found += [] if found else list(slots(image)) + list(rust_product(image))
    return found


def agree(application, boot):
    """What differs between the application and the boot stage that a sysbuild made for it."""
    own = boot.config("BLEDFU_BOOT")
    stage = "the boot stage" if own else "MCUboot"
    fix = ("bledfu passes the application's overlays on (zephyr/sysbuild); put the partitions into boards/<board>.overlay or app.overlay, "
           "and remove those of the boot stage from sysbuild/")
    names = ["boot", "primary", "secondary"]
    names += {"SWAP_SCRATCH": ["scratch"], "COPY": ["revert"] if own else []}.get(application.algorithm, [])
    names += ["trust"] if own and (application.config("BLEDFU_TRUST") or boot.config("BLEDFU_TRUST")) else []
    for name in names:
        here, there = application.places.get(name), boot.places.get(name)
        if here is None or there is None or not here.same_place(there):
            yield (f"the {LABELS[name]} of the application is {here or 'missing'}, and that of {stage} is {there or 'missing'}: {fix}")
    if not own and not boot.config("BLEDFU_MCUBOOT"):
        yield "MCUboot is not built for the updates of this application: set SB_CONFIG_BLEDFU=y in sysbuild.conf"
    if own:
        pairs = [("BLEDFU_MAX_IMG_SECTORS", "BLEDFU_MAX_IMG_SECTORS"), ("BLEDFU_MAX_ALIGN", "BLEDFU_MAX_ALIGN")]
        pairs += [(f"BLEDFU_INSTALL_{name}", f"BLEDFU_INSTALL_{name}") for name in ALGORITHMS]
        pairs += [("BLEDFU_BOOT_DOWNGRADE_VERSION",) * 2, ("BLEDFU_BOOT_DOWNGRADE_COUNTER",) * 2, ("BLEDFU_TRUST",) * 2]
    else:
        pairs = [("BLEDFU_MAX_IMG_SECTORS", "BOOT_MAX_IMG_SECTORS")]
        mode = MCUBOOT_MODES.get(application.algorithm)
        if mode is None or not boot.config(mode):
            chosen = next((name for name, mode in MCUBOOT_MODES.items() if boot.config(mode)), None)
            wish = (f"set SB_CONFIG_MCUBOOT_MODE_{SYSBUILD_MODES[application.algorithm]}=y, or remove CONFIG_BLEDFU_INSTALL_*" if mode
                    else "MCUboot has no such mode: set SB_CONFIG_BOOTLOADER_BLEDFU=y")
            yield (f"the application is built for CONFIG_BLEDFU_INSTALL_{application.algorithm}, and MCUboot for "
                   f"{chosen or 'a mode without updates'}: {wish}")
        if not boot.config("BOOT_SIGNATURE_TYPE_ECDSA_P256"):
            yield ("MCUboot is not built for ECDSA P-256, the signatures that bledfu checks: set SB_CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y "
                   "in sysbuild.conf")
        if boot.config("BOOT_ENCRYPT_IMAGE"):
            yield "MCUboot expects encrypted images, which bledfu does not support yet: remove SB_CONFIG_BOOT_ENCRYPTION"
    for here, there in pairs:
        mine, yours = application.config.text(here) or "n", boot.config.text(there) or "n"
        if mine != yours:
            yield f"CONFIG_{here} is {mine} in the application, and CONFIG_{there} is {yours} in {stage}: set the same in both"


def write_size(image):
    """The write unit of the build, in bytes: one that every partition accepts."""
    return max([LEAST_WRITE_SIZE] + [place.write_unit() for place in needed(image)[0]])


def page_size(image):
    """The erase unit of the build, in bytes: the pages of the flash of slot 0. The other flash must report as large ones."""
    primary = image.places.get("primary")
    page = primary.page(image.config)[0] if primary else 0
    return page if page in PAGES else PAGES[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zephyr", required=True, help="the folder of Zephyr")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image").add_argument("builds", nargs=1)
    commands.add_parser("agree").add_argument("builds", nargs=2)
    arguments = parser.parse_args()
    images = [Image(build, arguments.zephyr) for build in arguments.builds]
    sentences = list(check_image(*images) if arguments.command == "image" else agree(*images))
    if sentences:
        sys.exit("\n".join(sentences))
    if arguments.command == "image":
        print(write_size(*images), page_size(*images), sep=";")


if __name__ == "__main__":
    main()
