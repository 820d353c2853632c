#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A device of `bledfu serve` behind a model of BlueZ on a bus of its own, for a browser: the documented bridge without Bluetooth.

    room.py [--bledfu PROGRAM] [--primary IMAGE] [--flash-time none|real] [--buttonless] [OPTION of bledfu serve ...]

Prints `{"bus": ADDRESS}` when all is there: start the browser with DBUS_SYSTEM_BUS_ADDRESS=ADDRESS. Then a line on the standard input is
a command, and a line of JSON its answer: `restart` cuts the power and switches it on again, `off` and `on` do half of that each; the
answer of `restart` and `on` is the version that runs, and whether it is confirmed. At the end of the input the device is gone.
"""

import argparse
import json
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "bluez"))

from run import device_on_a_bus, environment, find_bledfu  # noqa: E402


def say(value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bledfu")
    parser.add_argument("--primary", default="small-1.0.0.signed.bin", help="an image of tests/vectors, or a path")
    parser.add_argument("--flash-time", default="none", choices=("none", "real"))
    parser.add_argument("--buttonless", action="store_true", help="an application that enters a bootloader")
    parser.add_argument("--prepare", action="store_true", help="only install what is needed")
    arguments, options = parser.parse_known_args()
    if arguments.prepare:
        environment()
        return
    with device_on_a_bus(environment(), find_bledfu(arguments.bledfu), primary=arguments.primary, flash_time=arguments.flash_time,
                         buttonless=arguments.buttonless, options=options) as (server, variables):
        say({"bus": variables["DBUS_SYSTEM_BUS_ADDRESS"]})
        for line in sys.stdin:
            command = line.strip()
            if command in ("restart", "off"):
                server.stop()
            if command in ("restart", "on"):
                version, state = server.start()
                say({"version": version, "state": state})
            else:
                say({})


if __name__ == "__main__":
    main()
