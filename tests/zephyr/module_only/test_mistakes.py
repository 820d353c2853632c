# SPDX-License-Identifier: Apache-2.0
"""Mistakes of a product that its build must name, each with a sentence that says what to do.

Runs within twister (testcase.yaml): the build beside it says where Zephyr and its modules are.
"""

import base64
import pathlib
import re
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
KEYS = ROOT / "tests" / "vectors" / "keys"
GOOD = str(KEYS / "package.pub.pem")
TAKEN_OVER = ("BOARD", "ZEPHYR_MODULES", "EXTRA_ZEPHYR_MODULES", "Zephyr_DIR", "ZEPHYR_TOOLCHAIN_VARIANT", "Python3_EXECUTABLE")


def words(text):
    """The text in one line: CMake breaks lines where it likes."""
    return " ".join(text.split())


@pytest.fixture
def configure(request, tmp_path):
    """Configures this application once more, with the module on and the given definitions; returns (status, output, folder)."""
    build = request.config.getoption("--build-dir", default=None)
    if not build:
        pytest.skip("only within twister")
    cache = (pathlib.Path(build) / "CMakeCache.txt").read_text()
    values = dict(re.findall(r"^(\w+):\w+=(.*)$", cache, re.MULTILINE))
    known = ["-D%s=%s" % (name, values[name]) for name in TAKEN_OVER if values.get(name)]

    def run(*definitions):
        done = subprocess.run(["cmake", "-GNinja", "-S", str(HERE), "-B", str(tmp_path), "-DEXTRA_CONF_FILE=on.conf", *known,
                               *("-D" + definition for definition in definitions)], capture_output=True, text=True)
        return done.returncode, words(done.stdout + done.stderr), tmp_path

    return run


def test_no_key_is_named(configure):
    status, output, _ = configure("CONFIG_BLEDFU_DEMO_KEYS=n")
    assert status != 0
    assert "bledfu: no key for packages: set CONFIG_BLEDFU_PACKAGE_KEY_FILE (to try it out: CONFIG_BLEDFU_DEMO_KEYS=y)" in output


def test_a_key_file_is_missing(configure):
    status, output, _ = configure("CONFIG_BLEDFU_DEMO_KEYS=n", "CONFIG_BLEDFU_TRIAL=y",
                                  'CONFIG_BLEDFU_PACKAGE_KEY_FILE="%s"' % GOOD,
                                  'CONFIG_BLEDFU_IMAGE_KEY_FILE="keys/lost.pem"')
    assert status != 0
    assert "bledfu: cannot read the key file keys/lost.pem" in output


def test_keys_that_everybody_has_are_refused_unless_it_is_a_trial(configure):
    files = ['CONFIG_BLEDFU_%s_KEY_FILE="%s"' % (kind, KEYS / ("%s.pub.pem" % kind.lower())) for kind in ("PACKAGE", "IMAGE")]
    status, output, _ = configure("CONFIG_BLEDFU_DEMO_KEYS=n", *files)
    assert status != 0
    assert "is the demo key of images: anybody can sign with it" in output or "is the demo key of packages" in output


def test_demo_keys_are_warned_of(configure):
    status, output, _ = configure()
    assert status == 0, output
    assert "bledfu: this image trusts the demo keys. Anybody can sign an update for it." in output


@pytest.mark.parametrize("definitions, sentence", [
    (["EXTRA_DTC_OVERLAY_FILE=no_journal.overlay"],
     "there is no bledfu_journal_partition (two pages, 8 KiB): add it to the devicetree overlay of the board"),
    (["CONFIG_BLEDFU_INSTALL_SWAP_SCRATCH=y"], "there is no scratch_partition (swap using scratch): add it to"),
    (["CONFIG_BLEDFU_INSTALL_COPY=y"], "there is no bledfu_revert_partition (copy, as large as slot 0): add it to"),
    (["CONFIG_BLEDFU_OBJECT_SIZE=8192", "CONFIG_BLEDFU_RING_SIZE=8191"],
     "CONFIG_BLEDFU_RING_SIZE is 8191, and holds neither one object of CONFIG_BLEDFU_OBJECT_SIZE (8192) in packets of 20 bytes nor 8192 "
     "bytes: remove the line, its default follows, or lower CONFIG_BLEDFU_OBJECT_SIZE"),
    (["CONFIG_BLEDFU_SMP=y", "CONFIG_BLEDFU_RING_SIZE=10547"],
     "CONFIG_BLEDFU_RING_SIZE is 10547, and 4 frames of 2475 bytes in fragments of 20 bytes need 10548: raise it, or lower "
     "CONFIG_BLEDFU_SMP_FRAME_COUNT or CONFIG_BLEDFU_SMP_FRAME_SIZE"),
], ids=["journal", "scratch", "revert", "ring", "smp-ring"])
def test_the_build_says_what_is_missing(configure, definitions, sentence):
    status, output, _ = configure(*definitions)
    assert status != 0
    assert "bledfu: " + sentence in output, output


def test_two_smp_services_do_not_go_together(configure):
    status, output, folder = configure("CONFIG_BLEDFU_SMP=y", *("CONFIG_%s=y" % name for name in (
        "NET_BUF", "ZCBOR", "CRC", "MCUMGR", "MCUMGR_TRANSPORT_BT")))
    if "ZCBOR" in output and "ZEPHYR_ZCBOR_MODULE" in output:
        pytest.skip("no zcbor in this workspace, so Zephyr has no MCUmgr")
    assert status != 0 or "BLEDFU_SMP" in output
    assert "BLEDFU_SMP" in output and "MCUMGR_TRANSPORT_BT" in output, output


def pem(der):
    return "-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n" % base64.encodebytes(der).decode().strip()


def good_der():
    return base64.b64decode("".join((KEYS / "package.pub.pem").read_text().strip().splitlines()[1:-1]))


def off_the_curve(der):
    return der[:-1] + bytes([der[-1] ^ 1])


@pytest.mark.parametrize("content, sentence", [
    (lambda: (KEYS / "package.pem").read_text(), "{} holds a private key; firmware gets the public one"),
    (lambda: "a text\n", "{} is not a PEM file with a public key"),
    (lambda: pem(good_der()).replace("\n", "\n!", 1), "{} is damaged: its text is not Base64"),
    (lambda: pem(good_der()[:-4]), "{} is not a P-256 public key"),
    (lambda: pem(off_the_curve(good_der())), "{} is damaged: its key is not a point of P-256"),
], ids=["private", "text", "base64", "short", "off-the-curve"])
def test_a_key_file_is_wrong(tmp_path, content, sentence):
    key, source = tmp_path / "key.pem", tmp_path / "keys.c"
    key.write_text(content())
    done = run_keys(source, [GOOD], [str(key)])
    assert done.returncode != 0
    assert words(done.stderr).startswith(sentence.format(key))
    assert not source.exists()


def test_there_are_more_keys_than_the_firmware_takes(tmp_path):
    done = run_keys(tmp_path / "keys.c", [GOOD] * 5, [GOOD])
    assert done.returncode != 0
    assert words(done.stderr) == "CONFIG_BLEDFU_PACKAGE_KEY_FILE names 5 keys; 4 is the most"


def test_good_keys_become_the_bytes_of_their_points(tmp_path):
    source = tmp_path / "keys.c"
    done = run_keys(source, [GOOD, str(KEYS / "image.pub.pem")], [str(KEYS / "image.pub.pem")])
    assert done.returncode == 0, done.stderr
    bytes_of = {name: bytes(int(byte, 16) for byte in re.findall(r"0x(..)", body))
                for name, body in re.findall(r"(\w+)_keys\[\] = \{(.*?)\};", source.read_text(), re.DOTALL)}
    assert bytes_of["package"][:64] == good_der()[-64:]
    assert bytes_of["package"][64:] == bytes_of["image"]


def test_keys_that_everybody_has_are_for_trials(tmp_path):
    source = tmp_path / "keys.c"
    done = run_keys(source, [GOOD], [GOOD], options=())
    assert done.returncode != 0
    assert words(done.stderr).startswith("%s is the demo key of packages: anybody can sign with it." % GOOD)
    assert not source.exists()


def run_keys(output, package, image, options=("--trial",)):
    return subprocess.run([sys.executable, str(ROOT / "zephyr" / "keys.py"), "--output", str(output), "--package", *package,
                           "--image", *image, *options], capture_output=True, text=True)
