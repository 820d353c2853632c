#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flash and RAM of the Zephyr application, and of the boot image (boot BOARD), beside the budget of board-sizes.json.

    scripts/board_sizes.py [--json FILE] BOARD=BUILD_FOLDER ...

--json also writes them, with Zephyr's version, for scripts/measurements.py. The exit code is 1 if a board is above its budget or has none.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

BUDGETS = pathlib.Path(__file__).with_name("board-sizes.json")
SYMBOLS = {"_flash_used": "flash", "_image_ram_size": "ram"}


def sizes(elf):
    """What Zephyr's linker script counts, and its build prints."""
    found = {}
    for line in subprocess.run(["readelf", "-sW", elf], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines():
        fields = line.split()
        if fields and fields[-1] in SYMBOLS:
            found[SYMBOLS[fields[-1]]] = int(fields[1], 16)
    return found


def zephyr_version(folder):
    """The version of the Zephyr that a folder was built with."""
    # Newer ones have it in a folder `zephyr`.
    header = next(pathlib.Path(folder, "zephyr/include/generated").rglob("version.h"))
    return re.search(r'#define KERNEL_VERSION_STRING +"([^"]+)"', header.read_text())[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", metavar="FILE", help="write the sizes there")
    parser.add_argument("builds", nargs="+", metavar="BOARD=BUILD_FOLDER")
    arguments = parser.parse_args()
    budgets = json.loads(BUDGETS.read_text())
    failed = False
    found = {}
    print(f"{'board':<36} {'flash':>8} {'budget':>8} {'RAM':>8} {'budget':>8}")
    for argument in arguments.builds:
        board, _, folder = argument.partition("=")
        used = sizes(pathlib.Path(folder, "zephyr", "zephyr.elf"))
        found[board] = used
        budget = budgets.get(board)
        if budget is None:
            print(f"{board:<36} {used['flash']:>8} {'-':>8} {used['ram']:>8} {'-':>8}  NO BUDGET in {BUDGETS.name}")
            failed = True
            continue
        over = any(used[kind] > budget[kind] for kind in used)
        failed |= over
        print(f"{board:<36} {used['flash']:>8} {budget['flash']:>8} {used['ram']:>8} {budget['ram']:>8}"
              + ("  TOO LARGE" if over else ""))
    if arguments.json:
        report = {"zephyr": zephyr_version(arguments.builds[0].partition("=")[2]), "boards": found}
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
