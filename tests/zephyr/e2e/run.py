#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates over virtual Bluetooth by an unmodified central (Bumble), from discovery to the staged image.

    tests/zephyr/e2e/run.py --exe BUILD/zephyr/zephyr.exe     the Zephyr application on native_sim
    tests/zephyr/e2e/run.py                                   without Zephyr: bledfu serve behind bridge.py
    tests/zephyr/e2e/run.py --embassy PROGRAM                 the device of examples/embassy, built for the PC

Installs Bumble, imgtool and smp by itself (pip, ../requirements.txt) into rust/target/e2e or $BLEDFU_E2E_DIR. Prints one line per
scenario and `N passed, N failed` at the end; the exit code is 0 only if none failed. With `--exe` and no such file it says so and
exits with 0: there is no Zephyr workspace here.
"""

import argparse
import concurrent.futures
import hashlib
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", "..", ".."))
REQUIREMENTS = os.path.join(HERE, "..", "requirements.txt")
PYTHON_MIN = (3, 11)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--exe", help="the application built for native_sim/native/64; default: $BLEDFU_ZEPHYR_EXE, else the bridge")
    parser.add_argument("--embassy", metavar="PROGRAM", help="the device of examples/embassy: its program `pc`")
    parser.add_argument("--exe-option", action="append", default=[], metavar="OPTION", help="one more option for it, such as --exe-option=-rt-ratio=2")
    parser.add_argument("--bledfu", help="the bledfu program; default: $BLEDFU, else the one built in rust/target")
    parser.add_argument("--object-size", metavar="BYTES", help="largest data object of bledfu serve; default: its own")
    parser.add_argument("-k", metavar="WORD", action="append", help="only scenarios with that word in the name; may be repeated")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="scenarios at a time")
    parser.add_argument("-v", action="store_true", help="the device's last lines after every scenario")
    parser.add_argument("--keep", metavar="FOLDER", help="keep flash files and slots there")
    parser.add_argument("--list", action="store_true")
    return parser.parse_args()


def use_environment():
    """Goes on in a virtual environment with Bumble, imgtool and smp, made on first use."""
    if all(importlib.util.find_spec(name) for name in ("bumble", "imgtool", "smp")):
        return
    if sys.version_info < PYTHON_MIN:
        print("skipped: Bumble needs Python %u.%u, this is %s" % (*PYTHON_MIN, sys.version.split()[0]))
        sys.exit(0)
    folder = os.environ.get("BLEDFU_E2E_DIR", os.path.join(ROOT, "rust", "target", "e2e"))
    with open(REQUIREMENTS, "rb") as file:
        stamp = hashlib.sha256(file.read()).hexdigest()
    venv = os.path.join(folder, "venv-%u.%u" % sys.version_info[:2])
    python = os.path.join(venv, "bin", "python")
    complete = os.path.join(venv, "complete")
    if not (os.path.exists(complete) and open(complete).read() == stamp):
        print("installing Bumble, imgtool and smp", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "-r", REQUIREMENTS],
                       check=True)
        with open(complete, "w") as file:
            file.write(stamp)
    if os.environ.get("BLEDFU_E2E_STARTED"):
        sys.exit("run.py: the environment in %s is broken; remove it" % venv)
    os.environ["BLEDFU_E2E_STARTED"] = "1"
    os.execv(python, [python, *sys.argv])


def build_options(exe):
    """The Kconfig options of the build that are on."""
    path = os.path.join(os.path.dirname(exe), ".config")
    if not os.path.isfile(path):
        return {}
    with open(path) as file:
        return {line.split("=")[0] for line in file if line.startswith("CONFIG_") and line.rstrip().endswith("=y")}


def build_number(exe, name):
    """The number of a Kconfig option of the build; 0 if it has none."""
    path = os.path.join(os.path.dirname(exe), ".config")
    if not os.path.isfile(path):
        return 0
    with open(path) as file:
        return next((int(line.split("=")[1], 0) for line in file if line.startswith(name + "=")), 0)


class Tools:
    """The programs a scenario works with."""

    def __init__(self, exe=None, exe_options=(), bledfu=None, embassy=None, object_size=None):
        from devices import BridgeDevice, EmbassyDevice, Layout, ZephyrDevice
        from harness import find_bledfu
        self.exe, self.exe_options = embassy or exe, list(exe_options)
        self.bledfu = find_bledfu(bledfu)
        self.object_size = object_size
        self.imgtool = [sys.executable, "-m", "imgtool.main"]
        self.layout = Layout.of_embassy() if embassy else Layout.of_build(exe) if exe else None
        options = build_options(exe) if exe and not embassy else {}
        self.has_smp = embassy or not exe or "CONFIG_BLEDFU_SMP" in options
        self.checks_address = "CONFIG_BLEDFU_CHECK_IMAGE_ADDRESS" in options
        self.has_groups = "CONFIG_BLEDFU_SMP_FORWARD" in options
        self.idle_link_timeout = build_number(exe, "CONFIG_BLEDFU_IDLE_LINK_TIMEOUT_S") if exe and not embassy else 0
        # Of the tests' own application (smp/): it does not confirm its image.
        self.client_confirms = "CONFIG_CLIENT_CONFIRMS" in options
        # Nobody pairs here. On an open link the Zephyr application takes every peer for a stranger.
        self.meets_strangers = bool(options)
        self.strangers_make_permanent = not self.meets_strangers or "CONFIG_BLEDFU_SMP_PERMANENT" in options
        # Which characteristic by which a phone asks for the update mode: "open", "bonds" or none. Such a build has scenarios of its own.
        self.buttonless = ("open" if "CONFIG_BLEDFU_BUTTONLESS_WITHOUT_BONDS" in options else
                           "bonds" if "CONFIG_BLEDFU_BUTTONLESS_WITH_BONDS" in options else None)
        # Every peer pairs first: such a build has scenarios of its own, too.
        self.bonded = not self.buttonless and "CONFIG_BLEDFU_ENCRYPTED_LINK" in options
        self.takes_packed = not embassy and (not exe or "CONFIG_BLEDFU_SMALL_UPDATES" in options)
        self.has_slow_flash = "CONFIG_FLASH_SIMULATOR_SIMULATE_TIMING" in options
        self.device = EmbassyDevice if embassy else ZephyrDevice if exe else BridgeDevice


def run_scenario(tools, name, function, variant, keep=None):
    """("ok" | "FAIL" | "skip", seconds, what to say, the device's last lines)"""
    from central import Central
    from scenarios import Context, Skipped
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bledfu-e2e-") as folder:
        if keep:
            folder = os.path.join(keep, name)
            os.makedirs(folder, exist_ok=True)
        central = device = None
        try:
            if name.startswith("buttonless") != bool(tools.buttonless):
                raise Skipped("built with%s CONFIG_BLEDFU_BUTTONLESS" % ("" if tools.buttonless else "out"))
            if name.startswith("bonded") != tools.bonded:
                raise Skipped("built with%s CONFIG_BLEDFU_ENCRYPTED_LINK" % ("" if tools.bonded else "out"))
            central = Central()
            device = tools.device(tools, folder, central)
            context = Context(tools, central, device)
            function(context, *variant)
            return "ok", time.monotonic() - started, "; ".join(context.notes), device.tail()
        except Skipped as reason:
            return "skip", 0, str(reason), ""
        except Exception as error:
            text = "%s: %s" % (type(error).__name__, error)
            if type(error).__module__ in ("builtins", "bumble.core"):
                text += "\n" + traceback.format_exc()
            return "FAIL", time.monotonic() - started, text, device.tail() if device else ""
        finally:
            if device:
                device.stop()
            if central:
                central.close()


def main():
    arguments = parse_arguments()
    exe = arguments.exe or os.environ.get("BLEDFU_ZEPHYR_EXE")
    if exe and not os.path.isfile(exe):
        print("skipped: no Zephyr application at %s (build it: west build -b native_sim/native/64)" % exe)
        return 0
    use_environment()
    sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "clients")]
    import buttonless_scenarios  # noqa: F401
    import packed_scenarios  # noqa: F401
    import send_scenarios  # noqa: F401
    import smp_groups  # noqa: F401
    import smp_scenarios  # noqa: F401
    from scenarios import SCENARIOS
    words = arguments.k or [""]
    chosen = [entry for entry in SCENARIOS if any(word in entry[0] for word in words)]
    if arguments.list:
        for name, function, _ in chosen:
            print("%-36s %s" % (name, (function.__doc__ or "").split("\n")[0]))
        return 0
    logging.basicConfig(level=logging.CRITICAL)
    embassy = arguments.embassy and os.path.abspath(arguments.embassy)
    tools = Tools(exe and os.path.abspath(exe), arguments.exe_option, arguments.bledfu, embassy, arguments.object_size)
    print("device: %s" % tools.device.name)
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
        running = {pool.submit(run_scenario, tools, *entry, arguments.keep): entry[0] for entry in chosen}
        for future in concurrent.futures.as_completed(running):
            result, seconds, text, tail = future.result()
            count[result] += 1
            print("%-4s %-40s %5.1f s  %s" % (result, running[future], seconds, text), flush=True)
            if tail and (arguments.v or result == "FAIL"):
                print(tail, flush=True)
    print("%.0f s%s" % (time.monotonic() - started, ", %u skipped" % count["skip"] if count["skip"] else ""))
    print("%u passed, %u failed" % (count["ok"], count["FAIL"]))
    return 1 if count["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
