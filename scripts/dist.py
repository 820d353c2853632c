#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How what is released is built: for scripts/release.py and scripts/reproducible.py.

    scripts/dist.py --flags      prints the RUSTFLAGS, with which scripts/ci.sh makes its release build

No path of the machine that builds gets into it, so the same sources and the same compiler make the same bytes anywhere.
"""

import os
import pathlib
import subprocess
import sys
import tomllib

import size

ROOT = pathlib.Path(__file__).resolve().parent.parent
# As zephyr/cargo.cmake builds for a Cortex-M4.
BOOT_TARGET = "thumbv7em-none-eabi"


class BuildError(Exception):
    """One sentence."""


def version(root=ROOT):
    return tomllib.loads((root / "rust/Cargo.toml").read_text())["workspace"]["package"]["version"]


def cargo_home():
    return pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))


def flags(crates, home):
    """Takes the paths of the sources and of the registry out, as zephyr/cargo.cmake does."""
    return f"--remap-path-prefix={crates}/= --remap-path-prefix={home}/registry/src/="


def cargo(folder, home, *arguments, **environment):
    """Runs cargo in the workspace or in a crate beside its members."""
    crates = folder if (folder / "bledfu-cli").is_dir() else folder.parent
    environment = {**os.environ, "CARGO_HOME": str(home), "RUSTFLAGS": flags(crates, home), **environment}
    for name in ("CARGO_TARGET_DIR", "DOTCONFIG"):
        environment.pop(name, None)
    # rustup keeps its toolchains beside the original folder.
    environment.setdefault("RUSTUP_HOME", str(pathlib.Path.home() / ".rustup"))
    if subprocess.run(["cargo", *arguments], cwd=folder, env=environment).returncode != 0:
        raise BuildError(f"cargo {' '.join(arguments)} failed in {folder}")


def build_command(root, target_dir, home=None):
    """The program `bledfu`; its path."""
    cargo(root / "rust", home or cargo_home(), "build", "--quiet", "--release", "--locked", "--package", "bledfu-cli",
          "--target-dir", str(target_dir))
    return pathlib.Path(target_dir, "release", "bledfu")


def build_boot(root, target_dir, home=None):
    """The boot stage's library with the default options, for a Cortex-M4; its path."""
    pinned = size.budgets()["compiler"]
    rustc, _ = size.find_rustc(pinned)
    if rustc is None:
        raise BuildError("there is no rustc with its sources (scripts/size.py says which packages bring one)")
    cargo(root / "rust/boot", home or cargo_home(), "build", "--quiet", "--release", "--locked", "--target", BOOT_TARGET,
          "--features", "small,log-off", "-Zbuild-std=core", "--target-dir", str(target_dir), RUSTC=rustc, RUSTC_BOOTSTRAP="1")
    return pathlib.Path(target_dir, BOOT_TARGET, "release", "libbledfu_boot.a")


if __name__ == "__main__":
    if sys.argv[1:] != ["--flags"]:
        sys.exit("usage: scripts/dist.py --flags")
    print(flags(ROOT / "rust", cargo_home()))
