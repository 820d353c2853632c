#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the logic crates for a Cortex-M4 and prints their code size.

usage: scripts/size.py [--check] [--json FILE] [--explain PROGRAM] [--find]

Each program in rust/size/src/bin holds one part of the device's logic; what is printed is its size minus that of a
program that holds nothing. --check compares with scripts/size-budget.json, which has the size at the last change that was
meant, and fails for a growth of more than 1 %. --json writes the sizes and the compiler to a file, `-` for standard output.
--explain says which crates and which functions of a program the bytes are in. --find only says which compiler would be
used, and fails if there is none.

Sizes are of one compiler: the budgets were measured with the one that size-budget.json names, and it is looked for first,
among rustup's toolchains and as /usr/bin/rustc. Its sources must be beside it (rustup component rust-src; Debian: rustc-web and
rust-web-src), since `core` is built too, with the same options as the rest. With any other compiler the budgets still hold,
but what is printed says that it is another.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGETS = ROOT / "scripts" / "size-budget.json"
TARGET = "thumbv7em-none-eabihf"
LINKER_FLAGS = "-C linker={} -C linker-flavor=ld.lld -C link-arg=--gc-sections"
# A size may grow by this part of it before the check fails.
TOLERANCE = 100
# Functions that --explain names.
SYMBOLS = 40
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


def crate_of(symbol):
    """The crate that a demangled symbol is from: for a method or the implementation of a trait, that of the type."""
    path = re.search(r"([A-Za-z_]\w*)::", re.sub(r"[<>&*(\[]|\bmut |\bdyn |\bconst ", "", symbol, count=8))
    return path.group(1) if path else "(runtime)"


def short(symbol):
    """A symbol without the arguments of generic types and functions."""
    text, depth = "", 0
    for i, character in enumerate(symbol):
        if character == "<" and (depth or i and (symbol[i - 1].isalnum() or symbol[i - 1] in "_:")):
            depth += 1
        elif character == ">" and depth and symbol[i - 1] != "-":
            depth -= 1
        elif not depth:
            text += character
    return text.replace("::::", "::").removesuffix("::")


def symbols(elf):
    """(bytes, name) of everything with a name that is loaded into flash, the largest first."""
    found = []
    for line in output("nm", "-SC", str(elf)).splitlines():
        match = re.match(r"[0-9a-f]+ ([0-9a-f]+) ([TtRrDdWwVv]) (.*)", line)
        if match:
            found.append((int(match[1], 16), match[3]))
    return sorted(found, reverse=True)


def explain(folder, name):
    """Prints the bytes of a program by crate and by function."""
    elf, empty = folder / name, folder / "empty"
    found, total = symbols(elf), flash_size(elf) - flash_size(empty)
    by_crate = {}
    for size, symbol in found:
        by_crate[crate_of(symbol)] = by_crate.get(crate_of(symbol), 0) + size
    rest = total - sum(by_crate.values())
    if rest > 0:
        by_crate["(constants without a name)"] = rest
    print(f"\n{name}: {total} bytes")
    for crate, size in sorted(by_crate.items(), key=lambda item: -item[1]):
        print(f"{size:>7}  {100 * size / total:>5.1f} %  {crate}")
    print(f"\nthe largest functions of {name}")
    for size, symbol in found[:SYMBOLS]:
        print(f"{size:>7}  {short(symbol)}")


def programs():
    """The folder of the programs."""
    crate = ROOT / "rust" / "size"
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", crate / "target"), TARGET, "release")


def measure(rustc, link):
    """Bytes of every program above the empty one, by its name; None if one does not build."""
    environment = {**os.environ, "RUSTC": rustc, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": LINKER_FLAGS.format(link)}
    crate = ROOT / "rust" / "size"
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--target", TARGET, "-Zbuild-std=core"]
    packed = [*build, "--features", "packed", "--bin", "receiver_packed"]
    for command in (build, packed):
        if subprocess.run(command, cwd=crate, env=environment).returncode != 0:
            return None
    folder = programs()
    names = sorted(path.stem for path in (crate / "src" / "bin").glob("*.rs"))
    sizes = {name: flash_size(folder / name) for name in names}
    empty = sizes.pop("empty")
    return {name: size - empty for name, size in sizes.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail if a size has grown by more than 1 %%")
    parser.add_argument("--json", metavar="FILE", help="write the sizes there")
    parser.add_argument("--explain", metavar="PROGRAM", help="the bytes of this program by crate and function")
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

    smaller = []
    wrong = [f"{name} has no budget in {BUDGETS.name}" for name in sizes if name not in budget_of]
    wrong += [f"{name} has a budget in {BUDGETS.name} and no program" for name in budget_of if name not in sizes]
    print(f"{f'code size, {TARGET}, opt-level z, rustc {release}':<72} bytes  before", file=out)
    for name, (before, what) in budget_of.items():
        size = sizes.get(name, 0)
        over = size > before + before // TOLERANCE
        if over:
            wrong.append(f"{name} has grown by {size - before} bytes, {100 * (size - before) / before:.1f} %: if that is meant, say why and"
                         f" write {size} into {BUDGETS.name}")
        if size < before - before // TOLERANCE:
            smaller.append(f"{name} is smaller: write {size} into {BUDGETS.name}, so that it stays so")
        print(f"{name:<16} {what:<55} {size:>5}  {before:>6}{'  TOO LARGE' if over else ''}", file=out)
    for line in wrong + smaller:
        print(line, file=out)
    if release != pinned:
        print(f"The budgets were measured with rustc {pinned}; this is {release}. A size that changed may be the compiler's doing:"
              f" measure with {pinned}, or measure all anew and name {release} in {BUDGETS.name}.", file=out)
    if arguments.explain:
        if arguments.explain not in sizes:
            print(f"there is no program {arguments.explain}: {', '.join(sizes)}")
            return 1
        explain(programs(), arguments.explain)
    return 1 if wrong and arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
