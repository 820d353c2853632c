#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The oldest Rust that is supported is one number, and it is true.

`rust-version` of rust/Cargo.toml is that number. This script checks that every other crate, README.md and the workflow
name the same, and builds with it: with the compiler at hand when that is the one, else through rustup.
"""

import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Where a person or a machine reads the number: file, and the pattern around it.
STATED = {
    "README.md": r"Rust (\d+\.\d+)",
    ".github/workflows/ci.yml": r"RUST_TOOLCHAIN: ['\"]?(\d+\.\d+)(?:\.\d+)?",
}


def faults(version, manifests, stated):
    """What does not agree with `version`; manifests: path -> parsed Cargo.toml, stated: path -> text."""
    found = []
    for path, manifest in manifests.items():
        package = manifest.get("package", {})
        own = package.get("rust-version")
        if package and own != version and own != {"workspace": True}:
            found.append(f"{path}: rust-version is {own}, that of rust/Cargo.toml {version}")
    for path, pattern in STATED.items():
        numbers = set(re.findall(pattern, stated[path]))
        if numbers != {version}:
            found.append(f"{path} names {', '.join(sorted(numbers)) or 'no version'} as the oldest Rust, rust/Cargo.toml {version}")
    return found


def tracked(pattern):
    listed = subprocess.run(["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split()


def main():
    version = tomllib.loads((ROOT / "rust/Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    manifests = {path: tomllib.loads((ROOT / path).read_text()) for path in tracked("*Cargo.toml")}
    found = faults(version, manifests, {path: (ROOT / path).read_text() for path in STATED})
    for fault in found:
        print(fault)
    if found:
        return 1

    running = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    if running.split(".")[:2] == version.split("."):
        print(f"Rust {version}, which is what runs: every other step of CI builds with it")
        return 0
    print(f"Rust {version}; {running} runs here, so a check with the old one, through rustup")
    command = ["rustup", "run", "--install", version, "cargo", "check", "--quiet", "--locked", "--workspace", "--all-targets"]
    try:
        return subprocess.run([*command, "--target-dir", "target/msrv"], cwd=ROOT / "rust").returncode
    except FileNotFoundError:
        print(f"there is no rustup, so nothing was checked with {version}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
