#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What updates cost a product: flash and RAM of one on the nRF52840 DK, without updates, with bledfu, and with Zephyr's MCUmgr.

    tests/zephyr/sizes/run.py [--build FOLDER] [--json FILE] [-k WORD]

Needs a Zephyr workspace (ZEPHYR_BASE). Builds the product once for each row, about four minutes each, in FOLDER or
rust/target/zephyr/sizes. A row is compared with the product without updates that has the same drivers and cryptography.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
from board_sizes import sizes, zephyr_version                              # noqa: E402

BOARD = "nrf52840dk/nrf52840"
# Name, what it is compared with, configuration files, options.
ROWS = (
    ("drivers", None, [], []),
    ("secure-dfu", "drivers", ["bledfu.conf"], []),
    ("secure-dfu-numbers", "drivers", ["bledfu.conf"], ["CONFIG_BLEDFU_LOG_NUMBERS=y"]),
    ("secure-dfu-small", "drivers", ["bledfu.conf"], ["CONFIG_BLEDFU_SMALL_UPDATES=y"]),
    ("smp", "drivers", ["bledfu.conf"], ["CONFIG_BLEDFU_SMP=y"]),
    ("smp-numbers", "drivers", ["bledfu.conf"], ["CONFIG_BLEDFU_SMP=y", "CONFIG_BLEDFU_LOG_NUMBERS=y"]),
    ("mcumgr", "drivers", ["mcumgr.conf"], []),
    ("psa-drivers", None, ["psa.conf"], []),
    ("psa-secure-dfu", "psa-drivers", ["psa.conf", "bledfu.conf"], ["CONFIG_BLEDFU_CRYPTO_PSA=y"]),
    ("psa-secure-dfu-numbers", "psa-drivers", ["psa.conf", "bledfu.conf"],
     ["CONFIG_BLEDFU_CRYPTO_PSA=y", "CONFIG_BLEDFU_LOG_NUMBERS=y"]),
)


def build(folder, files, options):
    configure = ["cmake", "-GNinja", "-S", HERE, "-B", folder, "-DBOARD=" + BOARD,
                 "-DZephyr_DIR=%s/share/zephyr-package/cmake" % os.environ["ZEPHYR_BASE"], "-DEXTRA_ZEPHYR_MODULES=%s" % ROOT,
                 "-DEXTRA_DTC_OVERLAY_FILE=%s" % (ROOT / "boards" / "nrf52840dk_nrf52840.overlay"),
                 "-DEXTRA_CONF_FILE=" + ";".join(str(HERE / name) for name in files), *("-D" + option for option in options)]
    log = folder.with_suffix(".log")
    with open(log, "w") as output:
        for command in (configure, ["cmake", "--build", folder]):
            if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode != 0:
                sys.exit("FAILED; the end of %s:\n%s" % (log, "".join(log.read_text().splitlines(True)[-30:])))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", metavar="FOLDER", type=pathlib.Path, default=ROOT / "rust" / "target" / "zephyr" / "sizes")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the figures there")
    parser.add_argument("-k", metavar="WORD", default="", help="only rows with that word in the name, and what they are compared with")
    arguments = parser.parse_args()
    if not os.environ.get("ZEPHYR_BASE"):
        print("skipped: no Zephyr workspace (set ZEPHYR_BASE)")
        return 0
    chosen = {name for name, base, _, _ in ROWS if arguments.k in name}
    chosen |= {base for name, base, _, _ in ROWS if name in chosen and base}
    arguments.build.mkdir(parents=True, exist_ok=True)
    found = {}
    print("%-22s %9s %9s   %s" % ("product with", "flash", "RAM", "more than"))
    for name, base, files, options in ROWS:
        if name not in chosen:
            continue
        folder = (arguments.build / name).absolute()
        build(folder, files, options)
        used = found[name] = sizes(folder / "zephyr" / "zephyr.elf")
        used["base"] = base
        more = "%s: %+d %+d" % (base, used["flash"] - found[base]["flash"], used["ram"] - found[base]["ram"]) if base else ""
        print("%-22s %9d %9d   %s" % (name, used["flash"], used["ram"], more), flush=True)
    if arguments.json:
        report = {"zephyr": zephyr_version(arguments.build / next(iter(found))), "products": found}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
