#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Makes the files of this folder again with the real nrfutil and imgtool (see README.md).
#
#   tests/vectors/make.sh            writes everything anew; keys that exist are kept
#   tests/vectors/make.sh --check    changes nothing: makes the same inputs again in a temporary folder and
#                                    compares what does not depend on a random signature
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$("$here/../clients/venv.sh")
exec "$venv/bin/python" "$here/make.py" --tools "$venv/bin" "$@"
