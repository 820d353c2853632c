#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the list of the sentences that a device may log, from the sources.

usage: scripts/texts.py [--check]

With CONFIG_BLEDFU_LOG_NUMBERS a device logs the number of a sentence, and `bledfu log` finds its text in this list
(rust/bledfu-explain/src/device_log/texts.txt). --check only says whether the list is that of the sources, and fails if not.
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "rust" / "bledfu-explain" / "src" / "device_log" / "texts.txt"
CRATES = ("wire", "slot", "patch", "transfer", "zephyr", "firmware")
SENTENCE = re.compile(r'\b(?:words|text)!\(\s*"((?:[^"\\]|\\.)*)"', re.S)
CONTINUED = re.compile(r"\\\n\s*")


def sentences():
    """Every sentence once, in alphabetical order."""
    found = set()
    for crate in CRATES:
        for path in (ROOT / "rust" / f"bledfu-{crate}" / "src").rglob("*.rs"):
            code = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
            found.update(CONTINUED.sub("", text) for text in SENTENCE.findall(code))
    escaped = [text for text in found if "\\" in text]
    if escaped:
        sys.exit(f"a sentence with an escape, which this script does not know: {escaped[0]}")
    return sorted(found)


def main():
    parser = argparse.ArgumentParser(description="The sentences that a device may log.")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    wanted = "".join(f"{text}\n" for text in sentences())
    if not args.check:
        LIST.write_text(wanted)
    elif LIST.read_text() != wanted:
        sys.exit(f"{LIST.relative_to(ROOT)} does not have the sentences of the sources: run scripts/texts.py")


if __name__ == "__main__":
    main()
