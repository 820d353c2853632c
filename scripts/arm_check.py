#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs rust/arm-check on an emulated Cortex-M4: the P-256 in Arm assembly must say what the portable one says."""

import os
import pathlib
import shutil
import subprocess
import sys

import size

CRATE = size.ROOT / "rust" / "arm-check"


def main():
    (rustc, release), link = size.find_rustc(size.budgets()["compiler"]), size.linker()
    emulator = shutil.which("qemu-system-arm")
    if rustc is None or link is None or emulator is None:
        print("no rustc with its sources, no linker, or no qemu-system-arm: on Debian")
        print("`apt-get install rustc-web rust-web-src lld qemu-system-arm`")
        return 1
    flags = f"{size.LINKER_FLAGS.format(link)} -C link-arg=-L{CRATE} -C link-arg=-Tlink.x"
    environment = {**os.environ, "RUSTC": rustc, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": flags}
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--target", size.TARGET, "-Zbuild-std=core"]
    subprocess.run(build, cwd=CRATE, env=environment, check=True)
    folder = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", CRATE / "target"), size.TARGET, "release")
    run = [emulator, "-machine", "mps2-an386", "-nographic", "-semihosting", "-kernel", str(folder / "bledfu-arm-check")]
    return subprocess.run(run, timeout=300, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
