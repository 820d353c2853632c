#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the logic crates for a Cortex-M4 and prints their code size.

usage: scripts/size.py [--check]

Each program in rust/size/src/bin holds one part of the device's logic; what is printed is its size minus that of a
program that holds nothing. --check compares with scripts/size-budget.json and fails above it.

The `core` of the target comes from rustup if it has the target, else from a rustc with its sources beside it (Debian:
rustc-web and rust-web-src) through cargo's build-std.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "thumbv7em-none-eabihf"
LINKER_FLAGS = "-C linker={} -C linker-flavor=ld.lld -C link-arg=--gc-sections"
# Sections with these names are loaded into flash.
FLASH_SECTIONS = (".text", ".rodata", ".data", ".ARM.exidx", ".ARM.extab")


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def sysroot_has(rustc, *path):
    sysroot = output(rustc, "--print", "sysroot")
    return bool(sysroot) and pathlib.Path(sysroot, "lib", "rustlib", *path).exists()


def toolchain():
    """Environment and arguments with which cargo can build for the target, or None."""
    if sysroot_has("rustc", TARGET):
        return {}, []
    for rustc in ("rustc", "/usr/bin/rustc"):
        if sysroot_has(rustc, "src", "rust", "library", "core"):
            return {"RUSTC": rustc, "RUSTC_BOOTSTRAP": "1"}, ["-Zbuild-std=core"]
    return None


def linker():
    bundled = output("rustc", "--print", "sysroot")
    candidates = list(pathlib.Path(bundled).glob("lib/rustlib/*/bin/rust-lld")) if bundled else []
    # rust-lld asks for its flavour by name; the plain linker is simpler where there is one.
    return shutil.which("ld.lld") or (str(candidates[0]) if candidates else None)


def flash_size(elf):
    total = 0
    for line in output("readelf", "-SW", str(elf)).splitlines():
        fields = line.replace("[", " ").replace("]", " ").split()
        if len(fields) > 6 and any(fields[1] == name or fields[1].startswith(name + ".") for name in FLASH_SECTIONS):
            total += int(fields[5], 16)
    return total


def main():
    found, link = toolchain(), linker()
    if found is None or link is None:
        print(f"no Rust core for {TARGET}, or no linker: `rustup target add {TARGET}`, or on Debian")
        print("`apt-get install rustc-web rust-web-src lld`")
        return 1
    extra, arguments = found
    environment = {**os.environ, **extra, "RUSTFLAGS": LINKER_FLAGS.format(link)}
    crate = ROOT / "rust" / "size"
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--target", TARGET, *arguments]
    if subprocess.run(build, cwd=crate, env=environment).returncode != 0:
        return 1
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", crate / "target"), TARGET, "release")
    empty = flash_size(folder / "empty")
    budgets = json.loads((ROOT / "scripts" / "size-budget.json").read_text())
    too_large = 0
    print(f"{'code size, ' + TARGET + ', opt-level z':<72} bytes  budget")
    for name, (budget, what) in budgets.items():
        size = flash_size(folder / name) - empty
        over = size > budget
        too_large += over
        print(f"{name:<16} {what:<55} {size:>5}  {budget:>6}{'  TOO LARGE' if over else ''}")
    return 1 if too_large and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
