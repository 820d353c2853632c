# SPDX-License-Identifier: Apache-2.0
"""The scenarios of run.py for pytest, and so for twister's pytest harness.

The application is the one twister built (`--build-dir`), or $BLEDFU_ZEPHYR_EXE, or none: then `bledfu serve` behind the bridge.
"""

import logging
import os
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.abspath(os.path.join(HERE, "..", "..", "clients"))]
for needed in ("bumble", "imgtool", "smp"):
    pytest.importorskip(needed, reason="%s is not installed: pip install --no-deps -r tests/zephyr/requirements.txt" % needed)

import buttonless_scenarios  # noqa: E402, F401
import packed_scenarios  # noqa: E402, F401
import send_scenarios  # noqa: E402, F401
import smp_groups  # noqa: E402, F401
import smp_scenarios  # noqa: E402, F401
from run import Tools, run_scenario  # noqa: E402
from scenarios import SCENARIOS  # noqa: E402

# Twister asks for all log lines, and Bumble has some for every HCI packet.
logging.getLogger("bumble").setLevel(logging.CRITICAL)


@pytest.fixture(scope="session")
def tools(request):
    build = request.config.getoption("--build-dir", default=None)
    exe = os.path.join(str(build), "zephyr", "zephyr.exe") if build else os.environ.get("BLEDFU_ZEPHYR_EXE")
    if exe and not os.path.isfile(exe):
        pytest.skip("no Zephyr application at " + exe)
    try:
        return Tools(exe)
    except SystemExit as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("entry", SCENARIOS, ids=[name for name, _, _ in SCENARIOS])
def test_scenario(tools, entry):
    result, _, text, tail = run_scenario(tools, *entry)
    print(text)
    if result == "skip":
        pytest.skip(text)
    if result == "FAIL":
        print(tail)
        pytest.fail(text, pytrace=False)
