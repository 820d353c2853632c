#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Packs releases of real firmware and fails if a stream is larger than it was: small-updates case 16 of doc/conformance.

usage: scripts/patch_sizes.py

The firmware is @pybricks/firmware 7.27.0 and 7.28.0 of npm, which must be installed; nothing of it is kept. What is compared
are streams: header, entries and signature add 320 bytes to each.
"""

import pathlib
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VERSIONS = ("7.27.0", "7.28.0")
# Hub: address of the program, size of RAM, largest share in percent.
HUBS = {
    "primehub": ("8008000", "50000", 2.5),
    "essentialhub": ("8008000", "50000", 1.25),
    "technichub": ("8008000", "20000", 1.4),
    "movehub": ("8005000", "5000", 1.35),
}


def firmware(folder, version):
    """Fetches a release; returns the folder of its hubs' archives."""
    place = folder / version
    place.mkdir()
    subprocess.run(["npm", "pack", "--silent", f"@pybricks/firmware@{version}"], cwd=place, check=True, stdout=subprocess.DEVNULL)
    archive, = place.glob("*.tgz")
    subprocess.run(["tar", "xzf", archive.name], cwd=place, check=True)
    return place / "package" / "build"


def main():
    failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        builds = [firmware(folder, version) for version in VERSIONS]
        for hub, (address, ram, most) in HUBS.items():
            files = []
            for version, build in zip(VERSIONS, builds):
                path = folder / f"{hub}-{version}.bin"
                path.write_bytes(zipfile.ZipFile(build / f"{hub}.zip").read("firmware-base.bin"))
                files.append(str(path))
            run = ["cargo", "run", "--quiet", "--release", "-p", "bledfu-patch", "--features", "std", "--example", "pack", "--"]
            printed = subprocess.run([*run, *files, address, "20000000", ram], cwd=ROOT / "rust", check=True, capture_output=True, text=True)
            stream, image = map(int, printed.stdout.split())
            share = 100 * stream / image
            failed |= share > most
            print(f"{hub:<13} {image:>7} bytes, stream {stream:>6}, {share:.2f} %, at most {most} %{'  TOO LARGE' if share > most else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
