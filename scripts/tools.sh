#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs (once) the tools of requirements-tools.txt into a Python environment, and prints the folder of their programs.
#
#   tools=$(scripts/tools.sh) && "$tools/typos"
#
# BLEDFU_TOOLS_DIR   where the environment is kept (default: rust/target/tools)
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${BLEDFU_TOOLS_DIR:-$here/../rust/target/tools}
mkdir -p "$root"
root=$(CDPATH='' cd -- "$root" && pwd)
stamp=$(cksum <"$here/requirements-tools.txt")

# Two callers at once: the second waits for the first.
exec 9>"$root/lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

if [ ! -f "$root/complete" ] || [ "$(cat "$root/complete")" != "$stamp" ]; then
    echo "tools.sh: installing $(grep -c == "$here/requirements-tools.txt") tools into $root" >&2
    rm -rf "$root/venv"
    python3 -m venv "$root/venv" >&2
    "$root/venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --only-binary=:all: \
        --require-hashes -r "$here/requirements-tools.txt" >&2
    echo "$stamp" >"$root/complete"
fi
echo "$root/venv/bin"
