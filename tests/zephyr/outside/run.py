#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stranger: a product made of nothing but the lines that README.md and doc/porting.md show.

    tests/zephyr/outside/run.py [-k WORD] [-j N] [--build FOLDER] [--list]

Makes the product in a folder of its own, builds it with sysbuild for the nRF52840 DK with both boot stages, and for native_sim,
where it is updated over virtual Bluetooth, once as MCUboot installs and once with copy. Then each mistake of mistakes.py is made
once, and the build must name it. Needs a Zephyr workspace (ZEPHYR_BASE) and is skipped without one. One line per case; the exit
code is 0 only if none failed.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
DOCUMENTS = ("README.md", "doc/porting.md")
DK, NATIVE = "nrf52840dk/nrf52840", "native_sim/native/64"
# What every Zephyr application has, and what the lines of the documents go into.
FRAME = {
    "CMakeLists.txt": "cmake_minimum_required(VERSION 3.20.0)\nfind_package(Zephyr REQUIRED HINTS $ENV{ZEPHYR_BASE})\n"
                      "project(product LANGUAGES C)\ntarget_sources(app PRIVATE src/main.c)\n",
    "prj.conf": "CONFIG_BT_DEVICE_NAME=\"Stranger\"\nCONFIG_LOG=y\n",
    # The tests' flash behaves like NOR, and the HCI socket is polled once per tick.
    "boards/native_sim_native_64.conf": "CONFIG_FLASH_SIMULATOR_DOUBLE_WRITES=n\nCONFIG_FLASH_SIMULATOR_UNALIGNED_READ=n\n"
                                        "CONFIG_LOG_MODE_IMMEDIATE=y\nCONFIG_SYS_CLOCK_TICKS_PER_SEC=10000\n",
}
PAYLOAD = 60_000
PATIENCE_S = 1800


class Failed(Exception):
    """A case that failed, and why."""


def blocks():
    """The blocks of the documents that are marked for this test, by what they are: a file's name, or `keys`."""
    found = {}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for name, body in re.findall(r"<!-- outside: (\S+) -->\n```\w*\n(.*?)```", text, re.DOTALL):
            found.setdefault(name, "")
            if body not in found[name]:
                found[name] += body
    return found


def make_product(folder):
    """The product: the frame, and in it the lines of the documents."""
    lines = blocks()
    missing = {"keys", "prj.conf", "sysbuild.conf", "src/main.c", "boards/nrf52840dk_nrf52840.overlay",
               "boards/native_sim_native_64.overlay"} - lines.keys()
    if missing:
        raise Failed("the documents no longer show %s" % ", ".join(sorted(missing)))
    for name in FRAME.keys() | lines.keys() - {"keys"}:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FRAME.get(name, "") + lines.get(name, ""))
    subprocess.run(["sh", "-e"], input=lines["keys"], cwd=folder, text=True, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def words(text):
    """The text in one line: CMake breaks lines where it likes."""
    return " ".join(text.split())


class Builder:
    """west, or what west calls where there is no west workspace."""

    def __init__(self, base, builds):
        self.base, self.builds = base, builds
        self.environment = dict(os.environ, ZEPHYR_BASE=base)
        # A C product needs cargo and nothing of zephyr-lang-rust.
        if "ZEPHYR_MODULES" in self.environment:
            kept = [name for name in self.environment["ZEPHYR_MODULES"].split(";") if not name.endswith("lang/rust")]
            self.environment["ZEPHYR_MODULES"] = ";".join(kept)
        self.environment.setdefault("CARGO_BUILD_BUILD_DIR", str(builds / "cargo"))
        west = subprocess.run(["west", "build", "--help"], capture_output=True, env=self.environment) if shutil.which("west") else None
        self.has_west = west is not None and west.returncode == 0

    def _run(self, command):
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, timeout=PATIENCE_S)
        return done.returncode, done.stdout + done.stderr

    def configure(self, product, board, name, *options, sysbuild=False):
        """(exit code, output)"""
        build = self.builds / name
        shutil.rmtree(build, ignore_errors=True)
        options = ["-DEXTRA_ZEPHYR_MODULES=%s" % ROOT, *options]
        if self.has_west:
            return self._run(["west", "build", "--cmake-only", "--sysbuild" if sysbuild else "--no-sysbuild", "-b", board, "-d", str(build),
                              str(product), "--", *options])
        share = pathlib.Path(self.base) / "share"
        source = ["-S", str(share / "sysbuild"), "-DAPP_DIR=%s" % product, "-DSysbuild_DIR=%s" % (share / "sysbuild-package" / "cmake")] \
            if sysbuild else ["-S", str(product)]
        return self._run(["cmake", "-GNinja", *source, "-B", str(build), "-DBOARD=%s" % board,
                          "-DZephyr_DIR=%s" % (share / "zephyr-package" / "cmake"), *options])

    def build(self, product, board, name, *options):
        """With sysbuild, to the end; the folder."""
        code, output = self.configure(product, board, name, *options, sysbuild=True)
        if code == 0:
            code, more = self._run(["cmake", "--build", str(self.builds / name)])
            output += more
        if code != 0:
            raise Failed("the product does not build:\n" + "\n".join(output.splitlines()[-40:]))
        return self.builds / name


def dk(builder, product, stage):
    """The product and its boot stage for the kit; the module has compared the two when it was configured."""
    options = {"mcuboot": [], "bledfu": ["-DSB_CONFIG_BOOTLOADER_BLEDFU=y"]}[stage]
    build = builder.build(product, DK, "dk_" + stage, *options)
    application = build / product.name / "zephyr"
    boot = build / {"mcuboot": "mcuboot", "bledfu": "bledfu_boot"}[stage] / "zephyr"
    for path in (application / "zephyr.signed.bin", boot / "zephyr.hex"):
        if not path.is_file():
            raise Failed("there is no %s" % path)
    parser = [sys.executable, str(ROOT / "zephyr" / "build_check.py"), "--zephyr", builder.base, "agree", str(application.parent),
              str(boot.parent)]
    if subprocess.run(parser).returncode != 0:
        raise Failed("application and boot stage differ")
    algorithm = re.search(r"^CONFIG_BLEDFU_INSTALL_(\w+)=y$", (application / ".config").read_text(), re.MULTILINE).group(1)
    expected = {"mcuboot": "SWAP_MOVE", "bledfu": "COPY"}[stage]
    if algorithm != expected:
        raise Failed("it installs by %s, expected %s" % (algorithm, expected))
    return "%s, %u bytes" % (algorithm.lower(), (application / "zephyr.signed.bin").stat().st_size)


def update(builder, product, algorithm):
    """One update over virtual Bluetooth: received, installed by bledfu's boot stage, started, confirmed."""
    import devices
    from central import BluetoothPhone, Central
    from harness import Failure
    from run import Tools

    options = {"swap-move": ["-DCONFIG_BLEDFU_INSTALL_SWAP_MOVE=y"],
               "copy": ["-DCONFIG_BLEDFU_INSTALL_COPY=y",
                        "-DEXTRA_DTC_OVERLAY_FILE=%s" % (ROOT / "boards" / "native_sim_native_64_copy.overlay")]}[algorithm]
    build = builder.build(product, NATIVE, "native_" + algorithm, "-DSB_CONFIG_BOOTLOADER_NONE=y", *options)
    devices.KEY = str(product / "keys" / "image.pem")

    class Stranger(devices.ZephyrDevice):
        """The product, with images of its own keys, and the boot stage on its slots."""

        def _boot(self, version, state):
            layout = self.tools.layout
            places = [("primary", layout.primary), ("secondary", layout.secondary)]
            places += [("revert", layout.revert)] if layout.revert else []
            command = [self.tools.bledfu, "install", "--algorithm", layout.algorithm, "--max-sectors", "256", "--key", devices.KEY]
            for name, place in places:
                command += ["--" + name, self._save("boot-%s.bin" % name, self._slot(place))]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise Failure("the boot stage: " + done.stdout + done.stderr)
            for name, place in places:
                with open(os.path.join(self.folder, "boot-%s.bin" % name), "rb") as file:
                    self._write(place[0], file.read())

    tools = Tools(str(build / product.name / "zephyr" / "zephyr.exe"))
    with tempfile.TemporaryDirectory(prefix="bledfu-outside-") as folder:
        images = {}
        for version in ("1.0.0", "2.0.0"):
            plain, signed = os.path.join(folder, "plain.bin"), os.path.join(folder, "%s.signed.bin" % version)
            with open(plain, "wb") as file:
                file.write(os.urandom(PAYLOAD))
            subprocess.run([*tools.imgtool, "sign", "-k", devices.KEY, "--version", version, "--header-size", "0x200", "--pad-header",
                            "--slot-size", "0xe8000", "--align", "4", plain, signed], check=True, stdout=subprocess.DEVNULL)
            with open(signed, "rb") as file:
                images[version] = file.read()
        package = os.path.join(folder, "update.zip")
        subprocess.run([tools.bledfu, "--quiet", "package", "--image", signed, "--key", str(product / "keys" / "package.pem"), "--hw-version",
                        "52", "--output", package], check=True)
        central = Central()
        device = Stranger(tools, folder, central)
        try:
            device.use_factory_image(images["1.0.0"])
            device.start()
            phone = BluetoothPhone(central, package)
            phone.update()
            return "MTU %u, %.0f KiB/s, %s" % (phone.link.mtu, phone.rate() / 1024, device.check_update(phone.image, "2.0.0"))
        except Failure as error:
            raise Failed("%s\n%s" % (error, device.tail())) from error
        finally:
            device.stop()
            central.close()


def mistake(builder, product, entry, folder):
    """A copy of the product with one mistake: it is not configured, and the output has the sentence."""
    wrong = folder / ("product_" + entry.name)
    shutil.copytree(product, wrong)
    for name, edit in entry.files.items():
        path = wrong / name
        text = path.read_text() if path.exists() else ""
        changed = edit(text, wrong) if callable(edit) else text + edit
        if changed == text:
            raise Failed("the mistake in %s changes nothing" % name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed)
    code, output = builder.configure(wrong, entry.board, entry.name, sysbuild=entry.sysbuild,
                                     *(option.replace("{product}", str(wrong)) for option in entry.options))
    shutil.rmtree(builder.builds / entry.name, ignore_errors=True)
    if code == 0:
        raise Failed("the build is configured all the same")
    sentence = entry.sentence.replace("{product}", str(wrong))
    if "bledfu: " + sentence not in words(output):
        told = [line for line in words(output).split("bledfu: ")[1:]]
        raise Failed("expected: %s\n  told: %s" % (sentence, told[-1][:400] if told else "\n".join(output.splitlines()[-20:])))
    return sentence


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-k", metavar="WORD", action="append", help="only cases with that word in the name; may be repeated")
    parser.add_argument("-j", type=int, default=2, metavar="N", help="mistakes at a time")
    parser.add_argument("--build", metavar="FOLDER", help="for builds, and kept; default: a temporary folder")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    base = os.environ.get("ZEPHYR_BASE")
    if not base or not os.path.isfile(os.path.join(base, "share", "zephyr-package", "cmake", "ZephyrConfig.cmake")):
        print("skipped: no Zephyr workspace (set ZEPHYR_BASE)")
        return 0
    from mistakes import MISTAKES
    cases = [("dk_mcuboot", lambda b, p, f: dk(b, p, "mcuboot")), ("dk_bledfu", lambda b, p, f: dk(b, p, "bledfu")),
             ("update_as_mcuboot_installs", lambda b, p, f: update(b, p, "swap-move")),
             ("update_with_copy", lambda b, p, f: update(b, p, "copy"))]
    names = [name for name, _ in cases] + ["mistake_" + entry.name for entry in MISTAKES]
    chosen = [name for name in names if any(word in name for word in arguments.k or [""])]
    if arguments.list:
        print("\n".join(chosen))
        return 0
    if any(name.startswith("update") for name in chosen):
        sys.path[:0] = [str(ROOT / "tests" / "zephyr" / "e2e"), str(ROOT / "tests" / "clients")]
        import run as e2e
        e2e.use_environment()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="bledfu-outside-") as temporary:
        folder = pathlib.Path(temporary)
        builds = pathlib.Path(arguments.build).resolve() if arguments.build else folder / "build"
        builds.mkdir(parents=True, exist_ok=True)
        builder, product = Builder(base, builds), folder / "product"
        product.mkdir()
        make_product(product)

        def one(name, function):
            started = time.monotonic()
            try:
                return name, "ok", time.monotonic() - started, function()
            except Exception as error:  # one case that fails does not end the others
                return name, "FAIL", time.monotonic() - started, "%s: %s" % (type(error).__name__, error)

        def tell(result):
            name, verdict, seconds, text = result
            print("%-4s %-36s %s" % (verdict, name, text), flush=True)
            return verdict == "FAIL"

        for name, function in cases:
            if name in chosen:
                failures += tell(one(name, lambda function=function: function(builder, product, folder)))
        with concurrent.futures.ThreadPoolExecutor(arguments.j) as pool:
            waiting = [pool.submit(one, "mistake_" + entry.name, lambda entry=entry: mistake(builder, product, entry, folder))
                       for entry in MISTAKES if "mistake_" + entry.name in chosen]
            failures += sum(tell(done.result()) for done in concurrent.futures.as_completed(waiting))
    print("%u passed, %u failed" % (len(chosen) - failures, failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
