#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the boot stage and the program `bledfu` twice, in different folders and with different folders of cargo, and compares.

The boot stage is the library that zephyr/cargo.cmake links into the boot image, for a Cortex-M4. The rest of that image is
Zephyr's.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

import dist


def copy_sources(folder):
    """The tracked files as they are now, so that a check of uncommitted work is possible."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=dist.ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        source, copy = dist.ROOT / name, folder / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def other_home(folder):
    """A folder of cargo with the same contents and another path."""
    folder.mkdir(parents=True)
    for entry in dist.cargo_home().iterdir():
        if not entry.name.startswith(".package-cache"):
            (folder / entry.name).symlink_to(entry)
    return folder


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(first, second):
    """Where two files differ, in words."""
    one, two = first.read_bytes(), second.read_bytes()
    if len(one) != len(two):
        return f"{len(one)} and {len(two)} bytes"
    at = [index for index in range(len(one)) if one[index] != two[index]]
    return f"{len(at)} bytes, the first at {at[0]}"


def main():
    failed = False
    with tempfile.TemporaryDirectory(prefix="bledfu-reproducible-") as temporary:
        other = pathlib.Path(temporary, "in a folder with another name".replace(" ", "-"), "sources")
        copy_sources(other)
        home = other_home(pathlib.Path(temporary, "other-cargo"))
        for what, build in (("boot stage", dist.build_boot), ("bledfu", dist.build_command)):
            first = build(dist.ROOT, dist.ROOT / "rust/target")
            second = build(other, other / "rust/target/dist", home)
            # A path of this machine would make a difference only on another one, if both builds had it.
            leaked = [str(path) for path in (dist.ROOT, other, pathlib.Path.home()) if str(path).encode() in first.read_bytes()]
            same = digest(first) == digest(second)
            failed |= not same or bool(leaked)
            print(f"{what:<12} {digest(first)}  {'the same' if same else 'DIFFERENT: ' + differences(first, second)}", flush=True)
            for path in leaked:
                print(f"{what:<12} holds the path {path}")
            if not same:
                print(f"{'':<12} {digest(second)}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except dist.BuildError as error:
        sys.exit(f"error: {error}")
