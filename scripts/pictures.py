#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures in doc/pictures that README shows: reports of `bledfu update`, as a browser draws them.

    scripts/pictures.py [--bledfu PROGRAM] [--browser chromium] [--folder FOLDER]

Needs a Chromium. Nothing is loaded from a network. With --all also phone and desktop width, light and dark, for a look.
"""

import argparse
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIGHT, DARK = "light", "dark"
# Two updates that show something: one with a lost link and a power cut, one into a used slot.
RUNS = {
    "cut": ["--drop-link-at", "200000", "--cut-at", "3000"],
    "used-slot": ["--protocol", "smp", "--used-slot", "--install", "copy"],
}
# name, run, width, height, colours
PICTURES = [
    ("report-light", "cut", 900, 1000, LIGHT),
    ("report-dark", "used-slot", 900, 1000, DARK),
]
LOOKS = [
    (f"{run}-{kind}-{colours}", run, width, height, colours)
    for run in RUNS
    for kind, width, height in (("phone", 390, 1600), ("desktop", 1280, 1400))
    for colours in (LIGHT, DARK)
]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bledfu", help="the program; default: built from rust/")
    arguments.add_argument("--browser", default="chromium")
    arguments.add_argument("--folder", type=pathlib.Path, default=ROOT / "doc" / "pictures")
    arguments.add_argument("--all", action="store_true", help="every width and both colours of each run")
    given = arguments.parse_args()
    bledfu = [given.bledfu] if given.bledfu else ["cargo", "run", "--quiet", "--release", "--"]
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        pages = {}
        for name, options in RUNS.items():
            pages[name] = pathlib.Path(made) / f"{name}.html"
            command = [*bledfu, "update", *options, "--report", str(pages[name]), "--quiet"]
            subprocess.run(command, cwd=ROOT / "rust", check=True)
        for name, run, width, height, colours in LOOKS if given.all else PICTURES:
            picture = given.folder / f"{name}.png"
            take(given.browser, made, pages[run], picture, width, height, colours)
            print(f"wrote {picture}")


def take(browser, folder, page, picture, width, height, colours):
    """One screenshot. A window has a least width, so a narrow page is shown in a frame of its own."""
    frame = pathlib.Path(folder) / f"frame-{width}.html"
    frame.write_text(
        f"<style>html,body{{margin:0;background:{'#000' if colours == DARK else '#fff'}}}</style>"
        f"<meta name='color-scheme' content='{colours}'>"
        f"<iframe src='{page.name}' style='border:0;width:{width}px;height:{height}px'></iframe>"
    )
    dark = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if colours == DARK else []
    light = ["--blink-settings=preferredColorScheme=1"] if colours == LIGHT else []
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
        f"--user-data-dir={folder}/profile", f"--window-size={width},{height}", f"--screenshot={picture}",
        *dark, *light, frame.as_uri(),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)


if __name__ == "__main__":
    main()
