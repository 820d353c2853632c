# SPDX-License-Identifier: Apache-2.0
"""Mistakes of a product, and the sentence of the build for each: it says what is wrong and what to change."""

import dataclasses
import pathlib
import subprocess
import typing

DK, NATIVE = "nrf52840dk/nrf52840", "native_sim/native/64"
VECTORS = pathlib.Path(__file__).resolve().parents[2] / "vectors" / "keys"


@dataclasses.dataclass
class Mistake:
    """`files`: lines to add to a file, or a function of its text and the product's folder. {product} is that folder."""

    name: str
    sentence: str
    files: dict[str, typing.Union[str, typing.Callable]] = dataclasses.field(default_factory=dict)
    board: str = NATIVE
    options: tuple = ()
    sysbuild: bool = False


def conf(name, line, sentence, **more):
    return Mistake(name, sentence, {"prj.conf": line + "\n"}, **more)


def overlay(name, text, sentence, **more):
    return Mistake(name, sentence, {"boards/native_sim_native_64.overlay": text}, **more)


def dk_overlay(name, text, sentence, **more):
    return Mistake(name, sentence, {"boards/nrf52840dk_nrf52840.overlay": text}, board=DK, **more)


def key(name, commands, sentence, file="keys/image.pub.pem"):
    """The key file is another one, made by these commands of the shell."""
    def make(_text, product):
        subprocess.run(["sh", "-ec", commands], cwd=product / "keys", check=True, capture_output=True)
        return (product / "keys" / "made.pem").read_text()
    return Mistake(name, sentence, {file: make})


def reg(label, value):
    return "\n&%s { reg = <%s>; };\n" % (label, value)


P256 = "; bledfu checks P-256 signatures: use a P-256 key (nrfutil keys generate, imgtool keygen -t ecdsa-p256)"

MISTAKES = [
    # Zephyr's options
    conf("no_peripheral", "CONFIG_BT_PERIPHERAL=n",
         "CONFIG_BLEDFU=y needs the peripheral role: set CONFIG_BT_PERIPHERAL=y, or remove the line that sets it to n"),
    conf("no_flash", "CONFIG_FLASH=n", "CONFIG_BLEDFU=y needs a flash driver: set CONFIG_FLASH=y, or remove the line that sets it to n"),
    conf("no_bluetooth", "CONFIG_BT=n", "CONFIG_BLEDFU=y needs Bluetooth: set CONFIG_BT=y, or remove the line that sets it to n"),
    conf("mcumgr_stack", "CONFIG_BLEDFU_SMP=y\nCONFIG_NET_BUF=y\nCONFIG_ZCBOR=y\nCONFIG_MCUMGR=y\nCONFIG_FILE_SYSTEM=y\n"
         "CONFIG_MCUMGR_GRP_FS=y\nCONFIG_MCUMGR_GRP_FS_DL_CHUNK_SIZE=2000",
         "CONFIG_MCUMGR_TRANSPORT_WORKQUEUE_STACK_SIZE is 2048, and Zephyr's file group needs 1536 and 2000 for a piece of a file: raise it, or "
         "lower CONFIG_MCUMGR_GRP_FS_DL_CHUNK_SIZE"),
    conf("two_image_groups", "CONFIG_BLEDFU_SMP=y\nCONFIG_NET_BUF=y\nCONFIG_ZCBOR=y\nCONFIG_MCUMGR=y\nCONFIG_IMG_MANAGER=y\n"
         "CONFIG_STREAM_FLASH=y\nCONFIG_FLASH_MAP=y\nCONFIG_MCUMGR_GRP_IMG=y\nCONFIG_BOOTLOADER_MCUBOOT=y",
         "CONFIG_MCUMGR_GRP_IMG=y and CONFIG_BLEDFU=y would write the same slot at once: remove CONFIG_MCUMGR_GRP_IMG, and update with bledfu",
         board=DK),
    # stacks and the ring
    conf("worker_stack", "CONFIG_BLEDFU_STACK_SIZE=8192",
         "CONFIG_BLEDFU_STACK_SIZE is 8192, and the worker alone needs 13984: remove the line, its default is enough"),
    conf("worker_stack_with_assembly", "CONFIG_BLEDFU_STACK_SIZE=7168",
         "CONFIG_BLEDFU_STACK_SIZE is 7168, and the worker alone needs 11408: remove the line, its default is enough", board=DK),
    conf("flash_stack", "CONFIG_BLEDFU_FLASH_STACK_SIZE=768", "CONFIG_BLEDFU_FLASH_STACK_SIZE is 768, and the flash driver needs 1024"),
    conf("bluetooth_stack", "CONFIG_BT_RX_STACK_SIZE=1024",
         "CONFIG_BT_RX_STACK_SIZE is 1024, and the Bluetooth host alone needs 1200: remove the line, bledfu's default is 2048"),
    conf("ring", "CONFIG_BLEDFU_RING_SIZE=6000",
         "CONFIG_BLEDFU_RING_SIZE is 6000, and holds neither one object of CONFIG_BLEDFU_OBJECT_SIZE (32768) in packets of 20 bytes nor 8192 "
         "bytes: remove the line, its default follows, or lower CONFIG_BLEDFU_OBJECT_SIZE"),
    conf("object", "CONFIG_BLEDFU_OBJECT_SIZE=5000", "CONFIG_BLEDFU_OBJECT_SIZE is 5000: it must be a multiple of 4096"),
    conf("interval", "CONFIG_BLEDFU_CONN_INTERVAL_MIN=24",
         "CONFIG_BLEDFU_CONN_INTERVAL_MIN is larger than CONFIG_BLEDFU_CONN_INTERVAL_MAX: exchange the two"),
    # buttonless entry
    conf("no_retained_memory", "CONFIG_BLEDFU_BUTTONLESS_WITHOUT_BONDS=y",
         "CONFIG_BLEDFU_BUTTONLESS_* needs memory that a reset does not clear: add a zephyr,retention area and chosen bledfu,update-mode to "
         "the devicetree overlay of the board, see doc/porting.md"),
    Mistake("little_retained_memory", "the area of bledfu,update-mode has room for 32 bytes, and the update mode needs 33: enlarge its reg",
            {"prj.conf": "CONFIG_BLEDFU_BUTTONLESS_WITHOUT_BONDS=y\n",
             "boards/nrf52840dk_nrf52840.overlay": "\n#include <layouts/retained-nrf52840.dtsi>\n" + reg("bledfu_update_mode", "0x0 0x20")},
            board=DK),
    # partitions
    overlay("no_journal", "\n/delete-node/ &bledfu_journal_partition;\n",
            "there is no bledfu_journal_partition (two pages, 8 KiB): add it to the devicetree overlay of the board, see doc/porting.md"),
    overlay("no_slot1", "\n/delete-node/ &slot1_partition;\n",
            "there is no slot1_partition: add it to the devicetree overlay of the board, see doc/porting.md"),
    conf("no_revert", "CONFIG_BLEDFU_INSTALL_COPY=y", "there is no bledfu_revert_partition (copy, as large as slot 0): add it to"),
    conf("no_scratch", "CONFIG_BLEDFU_INSTALL_SWAP_SCRATCH=y", "there is no scratch_partition (swap using scratch): add it to"),
    overlay("unequal_slots", reg("slot1_partition", "0x100000 0xe0000"),
            "slot0_partition (0xe8000 bytes at 0xc000 of flash0) and slot1_partition (0xe0000 bytes at 0x100000 of flash0) differ in size: give "
            "both the size of the smaller one"),
    overlay("part_of_a_page", reg("slot1_partition", "0x100000 0xe7800"),
            "slot1_partition (0xe7800 bytes at 0x100000 of flash0) does not begin and end at multiples of 4096 bytes: change its reg"),
    overlay("overlap", reg("bledfu_journal_partition", "0x1e7000 0x2000"),
            "slot1_partition (0xe8000 bytes at 0x100000 of flash0) and bledfu_journal_partition (0x2000 bytes at 0x1e7000 of flash0) overlap: "
            "change the reg of one of them"),
    overlay("beyond_the_flash", reg("bledfu_journal_partition", "0x1ff000 0x2000"),
            "bledfu_journal_partition (0x2000 bytes at 0x1ff000 of flash0) ends beyond its flash of 0x200000 bytes: change its reg"),
    overlay("short_journal", reg("bledfu_journal_partition", "0x1e8000 0x1000"),
            "bledfu_journal_partition (0x1000 bytes at 0x1e8000 of flash0) needs two pages (8 KiB): enlarge it"),
    overlay("write_unit", "\n&flash0 { write-block-size = <64>; };\n",
            "slot0_partition (0xe8000 bytes at 0xc000 of flash0): its flash has write units of 64 bytes, and bledfu knows 1 to 32: use another "
            "flash"),
    Mistake("field_width", "slot0_partition (0xe8000 bytes at 0xc000 of flash0): its flash has write units of 16 bytes, and CONFIG_BLEDFU_MAX_ALIGN "
            "is 8: set CONFIG_BLEDFU_MAX_ALIGN=16",
            {"boards/native_sim_native_64.overlay": "\n&flash0 { write-block-size = <16>; };\n", "prj.conf": "CONFIG_BLEDFU_MAX_ALIGN=8\n"}),
    overlay("pages_of_8_kib", "\n&flash0 { erase-block-size = <8192>; };\n",
            "slot0_partition (0xe8000 bytes at 0xc000 of flash0): its flash reports pages of 8192 bytes, and bledfu needs 4096: use a flash "
            "with such pages"),
    conf("pages_of_64_kib", "CONFIG_NORDIC_QSPI_NOR_FLASH_LAYOUT_PAGE_SIZE=65536",
         "slot1_partition (0xe8000 bytes at 0x0 of mx25r64): its flash reports pages of 65536 bytes, and bledfu needs 4096: set "
         "CONFIG_NORDIC_QSPI_NOR_FLASH_LAYOUT_PAGE_SIZE=4096, or remove the line", board=DK),
    conf("no_driver", "CONFIG_NORDIC_QSPI_NOR=n",
         "slot1_partition (0xe8000 bytes at 0x0 of mx25r64) needs the driver of its flash: set CONFIG_NORDIC_QSPI_NOR=y, or remove the line "
         "that sets it to n", board=DK),
    dk_overlay("trust_outside", "\n/delete-node/ &bledfu_trust_partition;\n&bledfu_external { bledfu_trust_partition: partition@200000 { reg = "
               "<0x200000 0x2000>; }; };\n",
               "bledfu_trust_partition (0x2000 bytes at 0x200000 of mx25r64) is in the external flash, which it is there to distrust: move it "
               "into the flash of slot 0"),
    conf("sectors", "CONFIG_BLEDFU_MAX_IMG_SECTORS=128",
         "a slot has 232 pages, and CONFIG_BLEDFU_MAX_IMG_SECTORS is 128: raise it to the next power of two, in the application and in the "
         "boot stage"),
    # keys
    conf("no_key", 'CONFIG_BLEDFU_IMAGE_KEY_FILE=""', "no key for images: set CONFIG_BLEDFU_IMAGE_KEY_FILE (to try it out: "
         "CONFIG_BLEDFU_DEMO_KEYS=y)"),
    conf("lost_key", 'CONFIG_BLEDFU_IMAGE_KEY_FILE="keys/lost.pem"', "cannot read the key file keys/lost.pem"),
    conf("demo_key", 'CONFIG_BLEDFU_IMAGE_KEY_FILE="%s"' % (VECTORS / "image.pub.pem"),
         "%s is the demo key of images: anybody can sign with it" % (VECTORS / "image.pub.pem")),
    key("private_key", "cp image.pem made.pem", "keys/image.pub.pem holds a private key; firmware gets the public one"),
    key("encrypted_key", "openssl pkcs8 -topk8 -in image.pem -passout pass:secret -out made.pem",
        "keys/image.pub.pem holds an encrypted private key; firmware gets the public one"),
    key("rsa_key", "openssl genrsa 2048 | openssl rsa -pubout -out made.pem", "keys/image.pub.pem is an RSA key" + P256),
    key("ed25519_key", "openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out made.pem",
        "keys/package.pub.pem is an Ed25519 key" + P256, file="keys/package.pub.pem"),
    key("p384_key", "openssl ecparam -name secp384r1 -genkey -noout | openssl ec -pubout -out made.pem",
        "keys/image.pub.pem is a key of the curve P-384" + P256),
    # application and boot stage
    Mistake("signed_with_another_key", "{product}/keys/package.pem (SB_CONFIG_BOOT_SIGNATURE_KEY_FILE) signs the application, and its public "
            "half is not in CONFIG_BLEDFU_IMAGE_KEY_FILE", {"sysbuild.conf": 'SB_CONFIG_BOOT_SIGNATURE_KEY_FILE="keys/package.pem"\n'},
            board=DK, sysbuild=True),
    Mistake("rsa_boot_stage", "MCUboot is not built for ECDSA P-256, the signatures that bledfu checks: set "
            "SB_CONFIG_BOOT_SIGNATURE_TYPE_ECDSA_P256=y in sysbuild.conf",
            {"sysbuild.conf": lambda text, _: text.replace("TYPE_ECDSA_P256", "TYPE_RSA")}, board=DK, sysbuild=True),
    Mistake("another_mode", "the application is built for CONFIG_BLEDFU_INSTALL_SWAP_OFFSET, and MCUboot for SWAP_MOVE: set "
            "SB_CONFIG_MCUBOOT_MODE_SWAP_USING_OFFSET=y, or remove CONFIG_BLEDFU_INSTALL_*",
            {"prj.conf": "CONFIG_BLEDFU_INSTALL_SWAP_OFFSET=y\n"}, board=DK, sysbuild=True),
    Mistake("other_partitions", "the slot1_partition of the application is slot1_partition (0xe8000 bytes at 0x0 of mx25r64), and that of "
            "MCUboot is slot1_partition (0xe8000 bytes at 0x200000 of mx25r64): bledfu passes the application's overlays on",
            {"own.overlay": reg("slot1_partition", "0x200000 0xe8000")}, board=DK, sysbuild=True,
            options=("-Dmcuboot_EXTRA_DTC_OVERLAY_FILE={product}/own.overlay",)),
]
