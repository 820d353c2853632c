#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the embassy device for the nRF52840 and for the PC, and updates the one on the PC over virtual Bluetooth.

usage: examples/embassy/test.py [--bledfu PROGRAM] [--all]

Runs the end-to-end scenarios of tests/zephyr/e2e that stand for the rest: an update by each protocol, a resume, a power cut, a
refusal. --all runs every one of them.
"""

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import size  # noqa: E402

SCENARIOS = ("fresh_247_0", "demo_image_0", "disconnected_in_an_object_247", "power_cut_in_an_object", "refuses_wrong-signature",
             "refuses_wrong-image-key", "smp_update_247", "smp_update_498", "smp_power_cut_half_way")


def build_for_the_nrf52840():
    (rustc, _), link = size.find_rustc(size.budgets()["compiler"]), size.linker()
    if rustc is None or link is None:
        print("no rustc with its sources, or no linker: scripts/size.py says which packages bring one")
        return 1
    environment = {**os.environ, "RUSTC": rustc, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": size.LINKER_FLAGS.format(link)}
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--features", "nrf52840", "--bin", "nrf52840",
               "--target", size.TARGET, "-Zbuild-std=core"]
    if subprocess.run(command, cwd=HERE, env=environment).returncode != 0:
        return 1
    print(f"nrf52840: {size.flash_size(target() / size.TARGET / 'release' / 'nrf52840')} bytes of flash")
    return 0


def update_on_the_pc(arguments):
    if subprocess.run(["cargo", "build", "--quiet", "--locked", "--features", "pc", "--bin", "pc"], cwd=HERE).returncode != 0:
        return 1
    command = [sys.executable, ROOT / "tests" / "zephyr" / "e2e" / "run.py", "--embassy", target() / "debug" / "pc"]
    if arguments.bledfu:
        command += ["--bledfu", arguments.bledfu]
    if not arguments.all:
        command += [part for name in SCENARIOS for part in ("-k", name)]
    return subprocess.run(command).returncode


def target():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bledfu", help="the bledfu program, which is the boot stage here; default: $BLEDFU, else the one in rust/target")
    parser.add_argument("--all", action="store_true", help="every end-to-end scenario")
    arguments = parser.parse_args()
    return build_for_the_nrf52840() or update_on_the_pc(arguments)


if __name__ == "__main__":
    sys.exit(main())
