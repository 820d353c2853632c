#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Flash and RAM of the Zephyr application, and of the boot image (boot BOARD), beside the budget of board-sizes.json.

    scripts/board_sizes.py BOARD=BUILD_FOLDER ...

The exit code is 1 if a board is above its budget or has none.
"""

import json
import pathlib
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


def main():
    budgets = json.loads(BUDGETS.read_text())
    failed = False
    print(f"{'board':<36} {'flash':>8} {'budget':>8} {'RAM':>8} {'budget':>8}")
    for argument in sys.argv[1:]:
        board, _, folder = argument.partition("=")
        used = sizes(pathlib.Path(folder, "zephyr", "zephyr.elf"))
        budget = budgets.get(board)
        if budget is None:
            print(f"{board:<36} {used['flash']:>8} {'-':>8} {used['ram']:>8} {'-':>8}  NO BUDGET in {BUDGETS.name}")
            failed = True
            continue
        over = any(used[kind] > budget[kind] for kind in used)
        failed |= over
        print(f"{board:<36} {used['flash']:>8} {budget['flash']:>8} {used['ram']:>8} {budget['ram']:>8}"
              + ("  TOO LARGE" if over else ""))
    return 1 if failed else 0


sys.exit(main())
