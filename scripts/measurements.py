#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes doc/measurements.md from what is measured here, and from the last run in a Zephyr workspace.

    scripts/measurements.py [--check] [--bledfu PROGRAM]       measure, and write the page; --check: fail if it differs
    scripts/measurements.py --record-zephyr FOLDER             take over the figures of a run of scripts/zephyr.sh

Measured here: `bledfu bench --updates --install` and scripts/size.py. What needs a Zephyr workspace is in
doc/measurements-zephyr.json, with the date and the commit of its run; FOLDER is the build folder of scripts/zephyr.sh.
"""

import argparse
import datetime
import difflib
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "doc" / "measurements.md"
ZEPHYR = ROOT / "doc" / "measurements-zephyr.json"
BUDGETS = ROOT / "scripts" / "size-budget.json"
BOARD_BUDGETS = ROOT / "scripts" / "board-sizes.json"
SIZES_BEGIN, SIZES_END = "<!-- code size -->\n", "<!-- end of code size -->\n"

HEAD = """\
<!-- Written by scripts/measurements.py. Do not edit: run it again. -->
# Measurements

None of these figures comes from a device on a table: no part of bledfu has run on real hardware yet.

- **Simulated**: from `bledfu bench`. A link, a phone and two flashes are modelled in virtual time; flash times are those of the data
  sheets, typical ones unless the row says otherwise. The figures are the same on every machine.
- **Code size**: counted in programs for a Cortex-M4 that hold one part of the logic each.

CI measures both again and fails if this page differs.
"""
ZEPHYR_HEAD = """
- **From a Zephyr build**: read from images of the boards, and from a simulated radio. Kept from the last run that had a Zephyr
  workspace; its date is given below.
"""


def table(head, rows, right=()):
    """A table of Markdown; columns in `right` are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("--:" if column in right else "---" for column in range(len(head))) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def kilobytes(count):
    return f"{count / 1000:.1f}"


def updates_section(bench):
    rows = []
    for row in bench["updates"]:
        seconds = row["receive_ns"] / 1e9
        command = f"bledfu update {row['options']}".strip()
        rows.append([row["what"], f"`{command}`", f"{seconds:.1f}", f"{row['bytes'] / seconds / 1e3:.1f}",
                     f"{row['bytes'] / seconds / row['link_bytes_per_s']:.2f}",
                     f"{row['verify_ns'] / 1e9:.2f}", f"{row['install_ns'] / 1e9:.1f}"])
    size = bench["updates"][0]["bytes"]
    return f"""
## Whole updates, simulated

The image has {size:,} bytes, as in the field log that this project starts from. External flash: {bench['part'].upper()}. Times in seconds.
*Of link*: the share of what the link can carry.

{table(["Circumstances", "Command", "Receive", "kB/s", "Of link", "Verify", "Install"], rows, right=range(2, 7))}
With objects of 4 KiB the round trips of Secure DFU are the limit, not radio or flash; in a used slot the erases are. SMP has a window of requests instead.
"""


def installs_section(bench):
    rows = []
    for row in bench["install"]:
        pages = row["pages"]
        counts = [row[flash][what] / pages for what in ("sectors_erased", "bytes_programmed") for flash in ("internal", "external")]
        rows.append([row["algorithm"], f"{counts[0]:.2f}", f"{counts[1]:.2f}", f"{counts[2]:.0f}", f"{counts[3]:.0f}",
                     f"{row['ns'] / 1e9:.1f}", " / ".join(str(count) for count in row["reference_per_page"])])
    return f"""
## Installs, simulated

What the boot stage does for each of the image's {bench['install'][0]['pages']} pages of 4 KiB, and how long the whole install takes. The last
column has the same four counts as MCUboot's sources give them; for *copy*, as few as there can be.

{table(["Algorithm", "Internal erases", "External erases", "Internal bytes", "External bytes", "Seconds", "Reference"], rows, right=range(1, 6))}
*copy* finds a copy of the running image: the application has made the first one, and every update leaves the next.
"""


def idle_section(bench):
    rows = [[row["what"], str(row["wakes"]), f"{row['flash_ns'] / 1e9:.1f}"] for row in bench["idle"]]
    return f"""
## At rest, simulated

How often the worker wakes, and for how many seconds the external flash is on: with `CONFIG_PM_DEVICE_RUNTIME` it powers down 200 ms after its last
use. Install with *copy*, 15 ms.

{table(["", "Wake-ups", "Flash on"], rows, right=(1, 2))}"""


def sizes_section(sizes):
    budgets = json.loads(BUDGETS.read_text())
    rows = [[name, budgets[name][1], kilobytes(size)]
            for name, size in sorted(sizes["bytes"].items(), key=lambda item: list(budgets).index(item[0]))]
    return f"""{SIZES_BEGIN}
## Code size

Target {sizes['target']}, opt-level z, rustc {sizes['compiler']}; kB are 1,000 bytes. CI fails when one has grown by more than 1 %.

{table(["Program", "Holds", "kB"], rows, right=(2,))}{SIZES_END}"""


def zephyr_section(record):
    budgets = json.loads(BOARD_BUDGETS.read_text())
    rows = [[board, kilobytes(used["flash"]), kilobytes(budgets[board]["flash"]), kilobytes(used["ram"]), kilobytes(budgets[board]["ram"])]
            for board, used in record["boards"].items()]
    text = f"""
## From a Zephyr build

Measured on {record['date']} at commit {record['tree'][:12]} with Zephyr {record['zephyr']}. CI without a Zephyr workspace cannot measure this again.

The application at the root and the boot image, whole, with Zephyr and Bluetooth; kB are 1,000 bytes.

{table(["Image", "Flash, kB", "Budget", "RAM, kB", "Budget"], rows, right=range(1, 5))}"""
    if record.get("products"):
        rows = [[what, kilobytes(used["flash"]), kilobytes(used["ram"]),
                 *(kilobytes(used[kind] - record["products"][used["base"]][kind]) if used["base"] else "" for kind in ("flash", "ram"))]
                for what, used in record["products"].items()]
        text += f"""
What updates cost a product that advertises, has a log, and the drivers of both flashes (`tests/zephyr/sizes`, nRF52840 DK): with bledfu, with
Zephyr's own MCUmgr, and where the product verifies signatures with PSA Crypto already. The boot stage is another image in each case.

{table(["Product", "Flash, kB", "RAM, kB", "more flash", "more RAM"], rows, right=range(1, 5))}"""
    if record.get("radio"):
        rows = [[str(row["mtu"]), f"{row['interval_ms']:g}", client_of(row), f"{row['seconds']:.1f}", f"{row['kbytes_per_s']:.1f}",
                 f"{row['link_kbytes_per_s']:.1f}" if "link_kbytes_per_s" in row else ""] for row in record["radio"]]
        text += f"""
Updates between two of Zephyr's controllers on a simulated radio (BabbleSim): the air has its true timing, the processors take no time.

{table(["MTU", "Interval, ms", "Client", "Seconds", "kB/s", "Link carries, kB/s"], rows, right=(0, 1, 3, 4, 5))}"""
    return text


def client_of(row):
    """The client of a run on the simulated radio, and what is special about it."""
    notes = ["slot not cleared" * (row["idle_s"] == 0), "64 KiB objects" * (row.get("object_size") == 65536),
             f"window {row.get('window')}" * bool(row.get("window")), "channel map changes" * bool(row.get("channel_map_ms")),
             "shallow queue" * bool(row.get("shallow"))]
    return ", ".join([row["client"], *filter(None, notes)])


def run(*command):
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def measure(bledfu):
    """The figures of this tree: `bledfu bench` and code size."""
    bench = json.loads(run(bledfu, "bench", "--updates", "--install", "--idle", "--json"))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        run(sys.executable, "scripts/size.py", "--json", file.name)
        sizes = json.loads(pathlib.Path(file.name).read_text())
    return bench, sizes


def between(text, begin, end):
    return text[text.index(begin):text.index(end) + len(end)]


def page(bench, sizes, zephyr):
    head = HEAD.replace("\n\nCI measures both", f"{ZEPHYR_HEAD}\nCI measures the first two") if zephyr else HEAD
    return head + updates_section(bench) + installs_section(bench) + idle_section(bench) + "\n" + sizes + (zephyr_section(zephyr) if zephyr else "")


def record_zephyr(folder):
    """Takes over what scripts/zephyr.sh and tests/bsim/run.py have left in their build folder."""
    if run("git", "status", "--porcelain", "--", "rust", "zephyr", "app", "boot", "boards", "dts"):
        print("the sources differ from the commit: the figures would have no tree to belong to", file=sys.stderr)
        return 1
    sizes = json.loads((folder / "sizes.json").read_text())
    radio, products = folder / "bsim" / "radio.json", folder / "products.json"
    record = {
        "date": datetime.date.today().isoformat(),
        "tree": run("git", "rev-parse", "HEAD").strip(),
        "zephyr": sizes["zephyr"],
        "boards": sizes["boards"],
        "products": json.loads(products.read_text())["products"] if products.is_file() else {},
        "radio": json.loads(radio.read_text()) if radio.is_file() else [],
    }
    ZEPHYR.write_text(json.dumps(record, indent=2) + "\n")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if the page differs")
    parser.add_argument("--bledfu", default=str(ROOT / "rust/target/release/bledfu"), help="the program to measure")
    parser.add_argument("--record-zephyr", metavar="FOLDER", type=pathlib.Path, help="build folder of scripts/zephyr.sh")
    arguments = parser.parse_args()
    if arguments.record_zephyr and record_zephyr(arguments.record_zephyr):
        return 1

    bench, sizes = measure(arguments.bledfu)
    zephyr = json.loads(ZEPHYR.read_text()) if ZEPHYR.is_file() else None
    before = PAGE.read_text() if PAGE.is_file() else ""
    pinned = json.loads(BUDGETS.read_text())["compiler"]
    if sizes["compiler"] != pinned and arguments.check:
        # Another compiler makes other sizes: that does not make the page stale.
        print(f"not compared: code size, which was measured with rustc {pinned}; this is {sizes['compiler']}")
        section = between(before, SIZES_BEGIN, SIZES_END)
    else:
        section = sizes_section(sizes)
    after = page(bench, section, zephyr)
    if not arguments.check:
        PAGE.write_text(after)
        return 0
    if before == after:
        print(f"{PAGE.relative_to(ROOT)} is true")
        return 0
    sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "committed", "measured"))
    print(f"{PAGE.relative_to(ROOT)} is stale: run scripts/measurements.py and commit what it writes")
    return 1


if __name__ == "__main__":
    sys.exit(main())
