#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Creates (once) a Python virtual environment with the real nrfutil and the real imgtool, and prints its
# path. Everything else it says goes to standard error.
#
#   venv=$(tests/clients/venv.sh) && "$venv/bin/nrfutil" version
#   venv=$(tests/clients/venv.sh smp) && "$venv/bin/smpmgr" --version
#
# With the word smp it is another environment, with smpmgr and other clients of SMP.
#
# BLEDFU_CLIENTS_DIR   where the environment is kept (default: rust/target/clients)
# PYTHON               the interpreter to use (default: the first suitable one found)
#
# A second call with the same requirements.txt and interpreter does nothing and needs no network.
set -eu

kind=${1:-nrfutil}
case $kind in
nrfutil)
    requirements=requirements.txt oldest=8 newest=13
    candidates="python3 python3.11 python3.12 python3.10 python3.13 python3.9 python3.8"
    ;;
smp)
    requirements=requirements-smp.txt oldest=11 newest=12
    candidates="python3 python3.11 python3.12"
    ;;
*)
    echo "usage: venv.sh [smp]" >&2
    exit 2
    ;;
esac

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${BLEDFU_CLIENTS_DIR:-$here/../../rust/target/clients}
mkdir -p "$root"
root=$(CDPATH='' cd -- "$root" && pwd)

say() { echo "venv.sh: $*" >&2; }

# Prints MAJOR.MINOR if the interpreter is one this list of packages was tried with and can make
# virtual environments. Debian splits ensurepip off into python3-venv.
suitable() {
    command -v "$1" >/dev/null 2>&1 || return 1
    "$1" -c '
import sys
if not (3, int(sys.argv[1])) <= sys.version_info[:2] <= (3, int(sys.argv[2])):
    sys.exit(1)
import venv, ensurepip
print("%d.%d" % sys.version_info[:2])' "$oldest" "$newest" 2>/dev/null
}

version=
for python in ${PYTHON:-$candidates}; do
    if version=$(suitable "$python"); then break; fi
    version=
done
if [ -z "$version" ]; then
    say "no Python from 3.$oldest to 3.$newest with venv and ensurepip found (on Debian: apt install python3-venv);"
    say "set PYTHON to one"
    exit 1
fi

venv=$root/venv-$version
[ "$kind" = nrfutil ] || venv=$root/venv-$kind-$version
stamp=$(cat "$here/$requirements" "$here/venv.sh" | cksum)

# Two callers at once: the second waits for the first.
exec 9>"$root/venv.lock"
if command -v flock >/dev/null 2>&1; then flock 9; fi

if [ -f "$venv/complete" ] && [ "$(cat "$venv/complete")" = "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    echo "$venv"
    exit 0
fi

say "making $venv with $python ($version)"
rm -rf "$venv"
"$python" -m venv "$venv" >&2
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@" >&2; }

if [ "$kind" = smp ]; then
    pip install --quiet --no-deps --only-binary=:all: -r "$here/$requirements"
    "$venv/bin/smpmgr" --version >&2
    echo "$stamp" >"$venv/complete"
    echo "$venv"
    exit 0
fi

# nrfutil and pyspinel come as source with an old setup.py (setuptools.command.test), so the build tools
# are pinned as well and used from this environment.
pip install --quiet setuptools==70.3.0 wheel==0.44.0
pip install --quiet --no-deps --no-build-isolation --ignore-requires-python -r "$here/$requirements"

# Any wheel will do: only exceptions.py is ever loaded from it.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
pip install --quiet --no-deps --ignore-requires-python --target "$site" --only-binary=:all: --implementation cp --python-version 3.10 \
    --platform manylinux2014_x86_64 pc_ble_driver_py==0.17.0

"$venv/bin/nrfutil" version >&2
"$venv/bin/imgtool" version >&2
echo "$stamp" >"$venv/complete"
echo "$venv"
