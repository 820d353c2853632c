#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates over a link with true air timing: samples/product_c on BabbleSim's nRF52, and a central that plays the phone.

    tests/bsim/run.py [-k WORD] [-j N] [--keep FOLDER]

Needs BabbleSim (BSIM_OUT_PATH), a Zephyr workspace (ZEPHYR_BASE) and the bledfu program (cargo build --release in rust/,
or BLEDFU). Builds the device for MTU 247 and 498 and for larger objects, and the central, in rust/target/bsim or $BLEDFU_BSIM_BUILD; sends the
package of the case once for every combination; prints what README.md explains. The exit code is 0 only if all is as it must be.
"""

import argparse
import concurrent.futures
import csv
import json
import math
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "clients"), str(ROOT / "tests" / "zephyr" / "e2e")]
from devices import Inspection                                             # noqa: E402
from harness import Failure, find_bledfu, image                            # noqa: E402

PACKAGE = ROOT / "tests" / "vectors" / "packages" / "demo-2.0.0.zip"
SLOT_SIZE = 0x80000                     # device/nrf52_bsim.overlay: both slots; slot 1 and slot 0 at 0 of their chips
UPLOAD_OFFSET = 0x1000                  # swap using offset, the default of Kconfig.swap: an update begins in the second sector
NOR_SIZE = 0x800000
SIMULATED_MAX_US = 120_000_000
REAL_MAX_S = 300

MTUS = (247, 498)
INTERVALS_US = (7_500, 15_000, 30_000)
CLIENTS = ("android", "android-prn", "nrfutil")
PASSIVE = ("passive", 30_000, 15_000)   # client, its interval, and the one the device asks for
IDLE_S = 6                              # enough to clear the slot of its old bytes
OBJECT_SIZE, LARGE_OBJECT = 32 * 1024, 64 * 1024
CHANNEL_MAP_MS = 150                    # a phone that changes its channel map as often as this, which ends a link that refuses packets
WINDOWS = (1, 3, 8)                     # requests of SMP under way: one after the other, the libraries' default, more than the device announces
SHALLOW = 3                             # packets in the queue of a phone's controller; else enough for a whole event

DATA_LENGTH, PHY_2M = 251, 2
PAIR_US = 1392                          # on 2M: 251 bytes, an empty packet back, two spaces of 150 us
ROUND_TRIP = 2                          # intervals from a request to its answer: sent in the next event, answered in the one after
RECEIPT_EVERY = {"android-prn": 12}
CALLBACK_MAX_US = 100
SLOWER_MAX = 1.05
REPEATED_MAX = 32             # packets at the end of an event
SECTOR_ERASE_US = 48_000      # the MX25R6435F, see device/nor.c
BLOCK_ERASE_US = 480_000


class Combination:
    def __init__(self, mtu, client, interval_us, granted_us=None, idle_s=IDLE_S, object_size=OBJECT_SIZE, channel_map_ms=0, shallow=False,
                 window=0):
        self.mtu, self.client, self.interval_us = mtu, client, interval_us
        self.granted_us, self.idle_s = granted_us or interval_us, idle_s
        self.object_size, self.channel_map_ms, self.shallow = object_size, channel_map_ms, shallow
        self.name = "%s-%u-%gms-%us" % (client, mtu, interval_us / 1000, idle_s)
        self.window = window
        self.name += "-window%u" % window * (window > 0)
        self.name += "-64k" * (object_size == LARGE_OBJECT) + "-map" * (channel_map_ms > 0) + "-shallow" * shallow

    def object_us(self, size):
        """The time of an object of `size` bytes that the link alone allows."""
        writes = math.ceil(size / (self.mtu - 3))
        # A write has 7 bytes of ATT and L2CAP in front of it.
        packets = sum(math.ceil((min(self.mtu - 3, size - at) + 7) / DATA_LENGTH) for at in range(0, size, self.mtu - 3))
        events = math.ceil(packets / (self.granted_us // PAIR_US))
        waits = 3 + writes // RECEIPT_EVERY.get(self.client, writes + 1)
        return (events + waits * ROUND_TRIP) * self.granted_us


def find_zephyr():
    """As scripts/zephyr.sh: ZEPHYR_BASE, or what `west zephyr-export` announced."""
    if os.environ.get("ZEPHYR_BASE"):
        return pathlib.Path(os.environ["ZEPHYR_BASE"])
    for entry in sorted(pathlib.Path.home().glob(".cmake/packages/Zephyr/*")):
        folder = pathlib.Path(entry.read_text().split("\n")[0].replace("file://", "").split("/share/zephyr-package/")[0])
        if (folder / "VERSION").is_file():
            return folder
    return None


class Builds:
    def __init__(self, zephyr, folder):
        self.zephyr, self.folder = zephyr, folder
        device = HERE / "device"
        self.centrals = {False: self._build("central", HERE / "central"),
                         True: self._build("central-shallow", HERE / "central", "-DCONFIG_BT_BUF_ACL_TX_COUNT=%u" % SHALLOW)}
        self.devices = {(mtu, size, smp): self._build(
            "device-%u-%s" % (mtu, "smp" if smp else size), ROOT / "samples" / "product_c",
            "-DCONFIG_BLEDFU_OBJECT_SIZE=%u" % size, "-DCONFIG_BLEDFU_SMP=%s" % ("y" if smp else "n"),
            "-DEXTRA_ZEPHYR_MODULES=%s;%s" % (ROOT, device),
            "-DEXTRA_DTC_OVERLAY_FILE=%s" % (device / "nrf52_bsim.overlay"),
            "-DEXTRA_CONF_FILE=%s" % ";".join(str(device / name) for name in ("nrf52_bsim.conf", *(["mtu498.conf"] if mtu == 498 else []))),
        ) for mtu, size, smp in (*((mtu, OBJECT_SIZE, False) for mtu in MTUS), (MTUS[-1], LARGE_OBJECT, False), (MTUS[-1], OBJECT_SIZE, True))}

    def _build(self, name, source, *options):
        folder, log = self.folder / name, self.folder / (name + ".log")
        self.folder.mkdir(parents=True, exist_ok=True)
        print("building %s" % name, flush=True)
        configure = ["cmake", "-GNinja", "-S", source, "-B", folder, "-DBOARD=nrf52_bsim", "-DZEPHYR_TOOLCHAIN_VARIANT=host",
                     "-DZephyr_DIR=%s/share/zephyr-package/cmake" % self.zephyr, *options]
        with open(log, "w") as output:
            for command in (configure, ["cmake", "--build", folder]):
                if subprocess.run(command, stdout=output, stderr=subprocess.STDOUT).returncode != 0:
                    sys.exit("FAILED; the end of %s:\n%s" % (log, "".join(open(log).readlines()[-30:])))
        return folder / "zephyr" / "zephyr.exe"


def values_of(log, name):
    """`name: key=value ...`, as a line of the simulation; the values that are numbers as such."""
    for line in log.splitlines():
        match = re.search(r"\b%s: (\S+=\S+(?: \S+=\S+)*)$" % re.escape(name), line)
        if match:
            pairs = (pair.split("=", 1) for pair in match.group(1).split())
            return {key: int(value) if value.isdigit() else value for key, value in pairs}
    raise Failure("no line with %s" % name)


class Air:
    """What the central sent while the image was on its way, from the radio's record: packets of data per connection event."""

    def __init__(self, path, begin_us, end_us, interval_us):
        events, last, anchor, frequency = {}, None, None, None
        self.repeated = 0
        with open(path) as file:
            for row in csv.DictReader(file):
                at, data = int(row["start_time"]), bytes.fromhex(row["packet"])
                if not begin_us <= at <= end_us:
                    continue
                if anchor is None:
                    # Every event has a channel of its own: the first one that begins within the record.
                    if frequency not in (None, row["center_freq"]):
                        anchor = at
                    frequency = row["center_freq"]
                if anchor is None or data[0] & 3 == 3 or data[1] < 64:
                    continue        # link control, an empty packet, or a request
                if int(row["abort_time"]) < int(row["end_time"]):
                    continue        # cut off by the central itself, for the next event
                if data[1:-3] == last:
                    self.repeated += 1
                last = data[1:-3]
                event = (at - anchor + interval_us // 10) // interval_us
                events[event] = events.get(event, 0) + 1
        if not events:
            raise Failure("no data on the air")
        self.most, self.mean = max(events.values()), sum(events.values()) / len(events)


class Run:
    """One update, in a folder of its own."""

    def __init__(self, combination, builds, bledfu, babblesim, folder):
        self.combination, self.builds, self.bledfu, self.babblesim = combination, builds, bledfu, babblesim
        self.folder, self.wrong = pathlib.Path(folder), []
        with open(image("small-1.0.0.signed.bin"), "rb") as file:
            (self.folder / "internal.bin").write_bytes(file.read().ljust(SLOT_SIZE, b"\xff"))
        old = random.Random(1).randbytes(SLOT_SIZE)
        (self.folder / "flash.bin").write_bytes(old.ljust(NOR_SIZE, b"\xff"))

    def simulate(self):
        simulation = "bledfu-%u-%s" % (os.getpid(), self.combination.name)
        commands = {
            "radio": (["./bs_2G4_phy_v1", "-s=" + simulation, "-D=2", "-sim_length=%u" % SIMULATED_MAX_US, "-defmodem=BLE_simple"],
                      self.babblesim / "bin"),
            "device": ([self.builds.devices[self.combination.mtu, self.combination.object_size, self.combination.window > 0], "-s=" + simulation, "-d=0", "-flash_file=internal.bin"], self.folder),
            "central": ([self.builds.centrals[self.combination.shallow], "-s=" + simulation, "-d=1", "-client=" + self.combination.client,
                         "-interval=%u" % (self.combination.interval_us // 1250), "-wait=%u" % self.combination.idle_s,
                         "-channel_map=%u" % self.combination.channel_map_ms, "-window=%u" % self.combination.window], self.folder),
        }
        running = []
        try:
            for name, (command, cwd) in commands.items():
                with open(self.folder / (name + ".log"), "w") as log:
                    running.append(subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT))
            for process in reversed(running):
                process.wait(REAL_MAX_S)
        except subprocess.TimeoutExpired:
            self.wrong.append("the simulation stands still")
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            record = self.babblesim / "results" / simulation
            if record.is_dir():
                for name in ("d_2G4_00.Tx.csv", "d_2G4_01.Tx.csv"):
                    if (record / name).is_file():
                        shutil.move(record / name, self.folder / name)
                shutil.rmtree(record)

    def log(self, name):
        return re.sub(r"\x1b\[[\d;]*m", "", (self.folder / (name + ".log")).read_text(errors="replace"))

    def must(self, what, value, expected):
        if value != expected:
            self.wrong.append("%s is %s, not %s" % (what, value, expected))

    def check_link(self, central):
        for when, at in (("at the start", "link"), ("at the end", "link_end")):
            link = values_of(central, at)
            if self.combination.client == "passive" and at == "link":
                continue            # what the device has asked for comes later
            for key, expected in (("mtu", self.combination.mtu), ("data_length", DATA_LENGTH), ("phy", PHY_2M),
                                  ("interval_us", self.combination.granted_us)):
                self.must("%s %s" % (key, when), link[key], expected)

    def check_slot(self):
        with zipfile.ZipFile(PACKAGE) as archive:
            sent = next(archive.read(name) for name in archive.namelist() if name.endswith(".bin"))
        slot = (self.folder / "flash.bin").read_bytes()[:SLOT_SIZE]
        if slot[UPLOAD_OFFSET:UPLOAD_OFFSET + len(sent)] != sent:
            self.wrong.append("the staged image differs from the package")
        path = self.folder / "slot1.bin"
        path.write_bytes(slot)
        inspection = Inspection(self.bledfu, str(path), "--slot-size", str(SLOT_SIZE))
        if not inspection.sound:
            self.wrong.append("bledfu inspect finds something wrong:\n" + inspection.text)
        inspection.expect({"magic": "good", "image_ok": "unset", "copy_done": "unset",
                           "in the secondary slot": "the next boot installs the image on test"})

    def measure(self):
        """The row of the table; what is wrong is in `wrong`."""
        central, device = self.log("central"), self.log("device")
        if "complete" not in central.split():
            reason = re.search(r"failed: .*", central)
            raise Failure("the central does not come to the end: %s" % (reason.group() if reason else "\n".join(central.splitlines()[-3:])))
        self.check_link(central)
        self.check_slot()
        for line in re.findall(r"<(?:wrn|err)> (?:bledfu|doser|bt_att|bt_gatt|bt_l2cap|bt_conn): .*", device):
            self.wrong.append("the device says: " + line)
        if self.combination.window:
            return self.measure_smp(central, device)
        transfer, answers, nor = values_of(central, "transfer"), values_of(central, "answers"), values_of(device, "nor")
        packets = values_of(device, "callback.packet")
        callback_us = max(packets["longest_us"], values_of(device, "callback.control")["longest_us"])
        if callback_us > CALLBACK_MAX_US:
            self.wrong.append("a GATT callback waits %u us" % callback_us)
        writes = sum(math.ceil(min(transfer["object_size"], transfer["bytes"] - at) / (self.combination.mtu - 3))
                     for at in range(0, transfer["bytes"], transfer["object_size"]))
        if packets["calls"] < writes:
            self.wrong.append("only %u of %u writes arrived" % (packets["calls"], writes))
        took_us = transfer["end_us"] - transfer["begin_us"]
        link_us = sum(self.combination.object_us(min(transfer["object_size"], transfer["bytes"] - at))
                      for at in range(0, transfer["bytes"], transfer["object_size"]))
        # While an object arrives, nothing is erased: a used slot costs the erases of its sectors.
        erase_us = 0 if self.combination.idle_s else nor["sectors"] * SECTOR_ERASE_US + nor["blocks"] * BLOCK_ERASE_US
        if took_us > SLOWER_MAX * (link_us + erase_us) and not self.combination.shallow:
            self.wrong.append("%.1f s, but link and erases allow %.1f s" % (took_us / 1e6, (link_us + erase_us) / 1e6))
        air = Air(self.folder / "d_2G4_01.Tx.csv", transfer["begin_us"], transfer["end_us"], self.combination.granted_us)
        if self.combination.channel_map_ms and values_of(central, "channels")["changes"] < took_us / 1000 / self.combination.channel_map_ms / 2:
            self.wrong.append("the channel map was hardly ever changed")
        if air.repeated > REPEATED_MAX:
            self.wrong.append("%u packets were sent again" % air.repeated)
        self.figures = {"mtu": self.combination.mtu, "interval_ms": self.combination.interval_us / 1000, "client": self.combination.client,
                        "idle_s": self.combination.idle_s, "object_size": self.combination.object_size,
                        "channel_map_ms": self.combination.channel_map_ms, "shallow": self.combination.shallow, "seconds": took_us / 1e6, "kbytes_per_s": transfer["bytes"] / took_us * 1000,
                        "link_kbytes_per_s": transfer["bytes"] / link_us * 1000}
        return "%4u %6g  %-12s %4u %6.2f %6.1f %6.1f %5.1f %3u %4u  %5u  %5.0f %5.0f %5.0f %5.0f   %4u %4u %3u" % (
            self.combination.mtu, self.combination.interval_us / 1000, self.combination.client, self.combination.idle_s, took_us / 1e6,
            transfer["bytes"] / took_us * 1000, transfer["bytes"] / link_us * 1000, air.mean, air.most, air.repeated, callback_us,
            answers["create_us"] / 1000, answers["crc_us"] / 1000, answers["execute_us"] / 1000, answers["final_us"] / 1000,
            nor["pages"], nor["sectors"], nor["blocks"])


    def measure_smp(self, central, device):
        """The same of an upload over SMP."""
        upload, nor, callback = values_of(central, "upload"), values_of(device, "nor"), values_of(device, "callback.smp")
        if callback["longest_us"] > CALLBACK_MAX_US:
            self.wrong.append("a GATT callback waits %u us" % callback["longest_us"])
        took_us = upload["end_us"] - upload["begin_us"]
        rate = upload["bytes"] / took_us * 1000
        # With more requests under way than it has room for, the device loses some while it erases. Their answers say where to go on.
        if self.combination.window < values_of(central, "params")["buf_count"]:
            self.must("the answers that asked for bytes once more", upload["again"], 0)
        self.must("the answers that did not come", upload["silent"], 0)
        self.figures = {"mtu": self.combination.mtu, "interval_ms": self.combination.interval_us / 1000, "client": self.combination.client,
                        "idle_s": self.combination.idle_s, "window": self.combination.window, "seconds": took_us / 1e6, "kbytes_per_s": rate,
                        "again": upload["again"], "silent": upload["silent"]}
        return "%4u %6g  %-12s %4u %6.2f %6.1f  window %u: %u sent again, %u without an answer, longest wait %.0f ms, callback %u us  %4u %4u %3u" % (
            self.combination.mtu, self.combination.interval_us / 1000, self.combination.client, self.combination.idle_s, took_us / 1e6,
            rate, self.combination.window, upload["again"], upload["silent"], upload["longest_us"] / 1000, callback["longest_us"],
            nor["pages"], nor["sectors"], nor["blocks"])


HEAD = """\
                      idle   time           link   packets   again call-   longest answer (ms)         NOR flash
 MTU     ms  client          s      s   kB/s   kB/s  mean most      back us create  crc  exec  last   prog sect blk"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", metavar="WORD", default="", help="only combinations with that word in the name, such as nrfutil-247-15ms-6s or 64k, map, shallow")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="simulations at a time")
    parser.add_argument("--json", metavar="FILE", help="write the figures of the table there")
    parser.add_argument("--keep", metavar="FOLDER", help="keep logs, flash files and the radio's record there")
    arguments = parser.parse_args()
    babblesim = os.environ.get("BSIM_OUT_PATH")
    if not babblesim or not (pathlib.Path(babblesim) / "bin" / "bs_2G4_phy_v1").is_file():
        print("skipped: BabbleSim is not installed (BSIM_OUT_PATH)")
        return 0
    zephyr = find_zephyr()
    if not zephyr:
        print("skipped: no Zephyr workspace (set ZEPHYR_BASE)")
        return 0
    babblesim = pathlib.Path(babblesim).resolve()
    os.environ.setdefault("BSIM_COMPONENTS_PATH", str(babblesim / "components"))
    os.environ["ZEPHYR_BASE"] = str(zephyr)
    bledfu = find_bledfu(None)
    builds = Builds(zephyr, pathlib.Path(os.environ.get("BLEDFU_BSIM_BUILD", ROOT / "rust" / "target" / "bsim")).absolute())
    combinations = [Combination(mtu, client, interval) for mtu in MTUS for interval in INTERVALS_US for client in CLIENTS]
    combinations += [Combination(mtu, *PASSIVE) for mtu in MTUS]
    combinations += [Combination(MTUS[0], "nrfutil", interval, idle_s=0) for interval in INTERVALS_US]
    combinations += [Combination(MTUS[-1], "nrfutil", interval, object_size=LARGE_OBJECT) for interval in INTERVALS_US]
    combinations += [Combination(MTUS[0], "nrfutil", INTERVALS_US[0], idle_s=0, channel_map_ms=CHANNEL_MAP_MS, shallow=shallow)
                     for shallow in (False, True)]

    # With SMP the device asks for the larger MTU.
    combinations += [Combination(MTUS[-1], "smp", interval, window=3) for interval in INTERVALS_US]
    combinations += [Combination(MTUS[-1], "smp", INTERVALS_US[1], idle_s=idle_s, window=window) for window in WINDOWS for idle_s in (IDLE_S, 0)
                     if (window, idle_s) != (3, IDLE_S)]

    figures = {}

    def one(combination):
        with tempfile.TemporaryDirectory(prefix="bledfu-bsim-") as folder:
            if arguments.keep:
                folder = pathlib.Path(arguments.keep).absolute() / combination.name
                folder.mkdir(parents=True, exist_ok=True)
            run = Run(combination, builds, bledfu, babblesim, folder)
            run.simulate()
            try:
                row = run.measure()
                figures[combination.name] = run.figures
                return row, run.wrong
            except Failure as failure:
                return combination.name, [*run.wrong, str(failure)]

    print(HEAD, flush=True)
    failed = 0
    chosen = [combination for combination in combinations if arguments.k in combination.name]
    with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
        for row, wrong in pool.map(one, chosen):
            failed += bool(wrong)
            print("%s  %s" % (row, "FAIL" if wrong else "ok"), flush=True)
            for line in wrong:
                print("     " + line, flush=True)
    if arguments.json:
        rows = [figures[combination.name] for combination in chosen if combination.name in figures]
        pathlib.Path(arguments.json).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")
    print("%u passed, %u failed" % (len(chosen) - failed, failed))
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
