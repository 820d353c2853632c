#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the house that no compiler knows.

- who may know whom: the dependency table of ARCHITECTURE.md, for normal dependencies (tests may use more);
- logic crates are no_std and forbid unsafe code; `unsafe` appears nowhere else either;
- every source file begins with its licence;
- README shows the very commands that scripts/ci.sh runs.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

LOGIC = ("bledfu-wire", "bledfu-slot", "bledfu-transfer", "bledfu-swap")
MAY_DEPEND_ON = {
    "bledfu-wire": {"base64", "crc", "minicbor", "micropb"},
    # embedded-storage-async is the shape sequential-storage wants a flash in.
    "bledfu-slot": {"embedded-storage", "embedded-storage-async", "sequential-storage", "sha2", "p256", "crc"},
    "bledfu-transfer": {"bledfu-wire", "bledfu-slot", "embedded-storage", "heapless", "log"},
    "bledfu-swap": {"bledfu-slot", "embedded-storage", "log"},
    "bledfu-zephyr": {"embedded-storage", "heapless", "log"},
    "bledfu-firmware": {"bledfu-wire", "bledfu-slot", "bledfu-transfer", "bledfu-zephyr", "heapless", "log"},
    "bledfu-testkit": {"embedded-storage", "p256", "sha2"},
}
# Crates of the PC may use what they like, except this. Only bledfu-cli has a command line.
MUST_NOT_DEPEND_ON = {
    "bledfu-sim": {"bledfu-zephyr", "bledfu-firmware", "bledfu-cli", "anyhow", "clap", "ctrlc", "env_logger", "indicatif"},
    "bledfu-cli": {"bledfu-zephyr", "bledfu-firmware"},
}
# Crates that may hold unsafe code, each block with a SAFETY line.
MAY_BE_UNSAFE = {"bledfu-zephyr"}
SOURCES = {".rs": "//", ".py": "#", ".sh": "#", ".toml": "#", ".c": "/*", ".h": "/*"}
COMMANDS = ("cd rust && cargo run --release -- update", "cd rust && cargo test")

wrong = []


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines()]


def check_dependencies():
    command = ["cargo", "metadata", "--no-deps", "--format-version", "1", "--offline"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT / "rust", capture_output=True, check=True).stdout)
    packages = {package["name"]: package for package in metadata["packages"]}
    for name, allowed in MAY_DEPEND_ON.items():
        for dependency in packages[name]["dependencies"]:
            if dependency["kind"] is None and dependency["name"] not in allowed:
                wrong.append(f"{name} must not know {dependency['name']} (ARCHITECTURE.md, crate rule)")
    for name, forbidden in MUST_NOT_DEPEND_ON.items():
        for dependency in packages[name]["dependencies"]:
            if dependency["kind"] is None and dependency["name"] in forbidden:
                wrong.append(f"{name} must not know {dependency['name']} (ARCHITECTURE.md, crate rule)")
    for name in set(packages) - set(MAY_DEPEND_ON) - set(MUST_NOT_DEPEND_ON):
        wrong.append(f"crate {name} has no row in the crate rule")


def check_sources():
    for name in LOGIC:
        head = (ROOT / "rust" / name / "src" / "lib.rs").read_text()
        for attribute in ("#![no_std]", "#![forbid(unsafe_code)]"):
            if attribute not in head:
                wrong.append(f"{name}/src/lib.rs lacks {attribute}")
    for path in tracked():
        comment = SOURCES.get(path.suffix)
        if comment is None or not path.is_file() or path.name == "Cargo.lock":
            continue
        text = path.read_text()
        shown = path.relative_to(ROOT)
        if not any("SPDX-License-Identifier: Apache-2.0" in line for line in text.splitlines()[:3]):
            wrong.append(f"{shown} does not begin with its licence")
        if path.suffix == ".rs" and not MAY_BE_UNSAFE & set(shown.parts):
            code = re.sub(r"//.*", "", text)
            if re.search(r"\bunsafe\b(?!_code)", code):
                wrong.append(f"{shown} holds unsafe code")


def check_readme():
    readme = (ROOT / "README.md").read_text()
    script = (ROOT / "scripts" / "ci.sh").read_text()
    for command in COMMANDS:
        if f"\n{command}\n" not in readme:
            wrong.append(f"README.md does not show the command `{command}`")
        if command not in script:
            wrong.append(f"scripts/ci.sh does not run the README's command `{command}`")


check_dependencies()
check_sources()
check_readme()
for line in wrong:
    print(line)
print(f"rules: {'broken, see above' if wrong else 'kept'}")
sys.exit(1 if wrong else 0)
