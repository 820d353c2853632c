#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the logic crates for a Cortex-M4 and prints their code size.

usage: scripts/size.py [--check] [--json FILE] [--find]

Each program in rust/size/src/bin holds one part of the device's logic; what is printed is its size minus that of a
program that holds nothing. --check compares with scripts/size-budget.json and fails above it. --json writes the sizes
and the compiler to a file, `-` for standard output. --find only says which compiler would be used, and fails if there is none.

Sizes are of one compiler: the budgets were measured with the one that size-budget.json names, and it is looked for first,
among rustup's toolchains and as /usr/bin/rustc. Its sources must be beside it (rustup component rust-src; Debian: rustc-web and
rust-web-src), since `core` is built too, with the same options as the rest. With any other compiler the budgets still hold,
but what is printed says that it is another.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "scripts" / "size-budget.json"
TARGET = "thumbv7em-none-eabihf"
LINKER_FLAGS = "-C linker={} -C linker-flavor=ld.lld -C link-arg=--gc-sections"
# Sections with these names are loaded into flash.
FLASH_SECTIONS = (".text", ".rodata", ".data", ".ARM.exidx", ".ARM.extab")


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def rustup_toolchain(release):
    """The rustc of a toolchain that rustup has installed, by its release."""
    return output("rustup", "which", "--toolchain", release, "rustc")


def has_sources(rustc):
    sysroot = output(rustc, "--print", "sysroot")
    return bool(sysroot) and pathlib.Path(sysroot, "lib/rustlib/src/rust/library/core").exists()


def release_of(rustc):
    """As `1.96.0`: what it is called, whoever built it."""
    fields = output(rustc, "--version").split()
    return fields[1] if len(fields) > 1 else ""


def find_rustc(pinned):
    """The compiler to measure with, the pinned one if there is one, and its release; (None, None) if none has its sources."""
    candidates = [rustc for rustc in (rustup_toolchain(pinned), "/usr/bin/rustc", "rustc") if rustc and has_sources(rustc)]
    candidates.sort(key=lambda rustc: release_of(rustc) != pinned)
    return (candidates[0], release_of(candidates[0])) if candidates else (None, None)


def budgets():
    return json.loads(BUDGETS.read_text())


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


def measure(rustc, link):
    """Bytes of every program above the empty one, by its name; None if one does not build."""
    environment = {**os.environ, "RUSTC": rustc, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": LINKER_FLAGS.format(link)}
    crate = ROOT / "rust" / "size"
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--target", TARGET, "-Zbuild-std=core"]
    if subprocess.run(build, cwd=crate, env=environment).returncode != 0:
        return None
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", crate / "target"), TARGET, "release")
    names = sorted(path.stem for path in (crate / "src" / "bin").glob("*.rs"))
    sizes = {name: flash_size(folder / name) for name in names}
    empty = sizes.pop("empty")
    return {name: size - empty for name, size in sizes.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail above the budget")
    parser.add_argument("--json", metavar="FILE", help="write the sizes there")
    parser.add_argument("--find", action="store_true", help="only say which compiler it would be")
    arguments = parser.parse_args()

    budget_of = budgets()
    pinned = budget_of.pop("compiler")
    (rustc, release), link = find_rustc(pinned), linker()
    if rustc is None or link is None:
        print(f"no rustc with its sources, or no linker: `rustup toolchain install {pinned} --component rust-src`, or on Debian")
        print("`apt-get install rustc-web rust-web-src lld`")
        return 1
    if arguments.find:
        print(f"{rustc}, {release}")
        return 0
    sizes = measure(rustc, link)
    if sizes is None:
        return 1
    if arguments.json:
        text = json.dumps({"compiler": release, "target": TARGET, "bytes": sizes}, indent=2) + "\n"
        sys.stdout.write(text) if arguments.json == "-" else pathlib.Path(arguments.json).write_text(text)
    out = sys.stderr if arguments.json == "-" else sys.stdout

    wrong = [f"{name} has no budget in {BUDGETS.name}" for name in sizes if name not in budget_of]
    wrong += [f"{name} has a budget in {BUDGETS.name} and no program" for name in budget_of if name not in sizes]
    print(f"{f'code size, {TARGET}, opt-level z, rustc {release}':<72} bytes  budget", file=out)
    for name, (budget, what) in budget_of.items():
        size = sizes.get(name, 0)
        over = size > budget
        if over:
            wrong.append(f"{name} is {size - budget} bytes above its budget")
        print(f"{name:<16} {what:<55} {size:>5}  {budget:>6}{'  TOO LARGE' if over else ''}", file=out)
    for line in wrong:
        print(line, file=out)
    if release != pinned:
        print(f"The budgets were measured with rustc {pinned}; this is {release}. A size that changed may be the compiler's doing:"
              f" measure with {pinned}, or measure all anew and name {release} in {BUDGETS.name}.", file=out)
    return 1 if wrong and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
