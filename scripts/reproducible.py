#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the boot stage and the program `bledfu` twice from nothing, and compares the bytes.

`bledfu` is built in two different folders, with two different folders of cargo. The boot stage is the library that
zephyr/cargo.cmake links into the boot image, for a Cortex-M4; the rest of that image is Zephyr's. It is built twice in a folder
of the same name: cargo makes the identity of a crate from its absolute path when it lies outside of the workspace, as
bledfu-slot does for rust/boot, and the linker orders functions by it. In another folder the functions are the same and stand in
another order. So who wants to make the bytes of somebody else's boot image again must use the same folder.
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


def compare(what, first, second):
    """Prints what came out; True if the two builds are equal, and no path of this machine is in them."""
    # A path of this machine would make a difference only on another one, if both builds had it.
    leaked = [str(path) for path in (dist.ROOT, pathlib.Path.home()) if str(path).encode() in first.read_bytes()]
    same = digest(first) == digest(second)
    print(f"{what:<12} {digest(first)}  {'the same' if same else 'DIFFERENT: ' + differences(first, second)}", flush=True)
    if not same:
        print(f"{'':<12} {digest(second)}")
    for path in leaked:
        print(f"{'':<12} holds the path {path}")
    return same and not leaked


def main():
    with tempfile.TemporaryDirectory(prefix="bledfu-reproducible-") as temporary:
        temporary = pathlib.Path(temporary)
        home = other_home(temporary / "other-cargo")

        folder, built = temporary / "boot", []
        for at in (dist.cargo_home(), home):
            copy_sources(folder)
            archive = dist.build_boot(folder, folder / "rust/target", at)
            built.append(shutil.move(archive, temporary / f"boot-{len(built)}.a"))
            shutil.rmtree(folder)
        same = compare("boot stage", *built)

        other = temporary / "a-folder-with-another-name" / "sources"
        copy_sources(other)
        first = dist.build_command(dist.ROOT, dist.ROOT / "rust/target")
        same &= compare("bledfu", first, dist.build_command(other, other / "rust/target", home))
    return 0 if same else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except dist.BuildError as error:
        sys.exit(f"error: {error}")
