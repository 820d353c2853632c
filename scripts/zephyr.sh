#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the Zephyr application for every board and the boot image, checks their sizes, and updates the application on
# native_sim over virtual Bluetooth; without BOARD also builds and updates the product that the documents show, measures what
# updates cost a product, boots in QEMU, runs twister on the whole repository, and the updates on BabbleSim. scripts/ci.sh calls it.
#
#   scripts/zephyr.sh [BOARD ...]       default: native_sim/native/64 and all boards of board-sizes.json
#
# Needs a Zephyr workspace: ZEPHYR_BASE, or one that was announced by `west zephyr-export`. Which toolchain Zephyr takes
# is up to the environment as ever (ZEPHYR_TOOLCHAIN_VARIANT and its companions), as are modules outside of a west
# workspace (ZEPHYR_MODULES). Build folders are in rust/target/zephyr or $BLEDFU_ZEPHYR_BUILD and are kept.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
native=native_sim/native/64

# The folder of Zephyr: what Zephyr's own CMake package would find.
find_zephyr() {
    local entry folder
    if [ -n "${ZEPHYR_BASE:-}" ]; then
        printf '%s\n' "$ZEPHYR_BASE"
        return
    fi
    for entry in "$HOME"/.cmake/packages/Zephyr/*; do
        [ -f "$entry" ] || continue
        folder=$(sed -e 's|^file://||' -e 's|/share/zephyr-package/cmake.*||' "$entry" | head -n 1)
        if [ -f "$folder/VERSION" ]; then
            printf '%s\n' "$folder"
            return
        fi
    done
}

ZEPHYR_BASE=$(find_zephyr)
if [ -z "$ZEPHYR_BASE" ]; then
    echo 'skipped: no Zephyr workspace (set ZEPHYR_BASE)'
    exit 0
fi
if [ ! -f "$ZEPHYR_BASE/share/zephyr-package/cmake/ZephyrConfig.cmake" ]; then
    echo "ZEPHYR_BASE=$ZEPHYR_BASE is no Zephyr tree" >&2
    exit 1
fi
export ZEPHYR_BASE
builds=${BLEDFU_ZEPHYR_BUILD:-$root/rust/target/zephyr}
mkdir -p "$builds"
echo "Zephyr: $ZEPHYR_BASE ($(awk -F' *= *' '/^VERSION_MAJOR|^VERSION_MINOR|^PATCHLEVEL/ { v = v s $2; s = "." } END { print v }' \
    "$ZEPHYR_BASE/VERSION"))"

if [ $# -gt 0 ]; then
    boards=("$@")
else
    mapfile -t boards < <(echo "$native"; python3 -c 'import json, sys; print(*json.load(open(sys.argv[1])), sep="\n")' \
        scripts/board-sizes.json | grep -v '^boot ')
fi

# In a west workspace of this repository the module is found anyway; naming it twice does no harm.
# build SOURCE BOARD FOLDER [CMAKE_OPTION ...]
build() {
    local started=$SECONDS
    if ! { cmake -GNinja -S "$1" -B "$3" -DBOARD="$2" -DZephyr_DIR="$ZEPHYR_BASE/share/zephyr-package/cmake" \
        -DEXTRA_ZEPHYR_MODULES="$root" "${@:4}" && cmake --build "$3"; } >"$3.log" 2>&1; then
        echo "FAILED; the end of $3.log:"
        tail -n 40 "$3.log"
        exit 1
    fi
    echo "built ($((SECONDS - started)) s)"
}

sizes=()
for board in "${boards[@]}"; do
    folder=$builds/${board//\//_}
    printf '%s ... ' "$board"
    if [ $# -eq 0 ] && ! grep -rqE --include=board.yml "name: ${board%%/*}\$" "$ZEPHYR_BASE/boards"; then
        echo 'skipped: this Zephyr has no such board'
        continue
    fi
    build "$root" "$board" "$folder"
    [ "$board" = "$native" ] || sizes+=("$board=$folder")
done
if [ $# -eq 0 ]; then
    printf 'boot stage, nrf52840dk/nrf52840 ... '
    build "$root/boot" nrf52840dk/nrf52840 "$builds/boot_nrf52840dk" -DCONFIG_BLEDFU_DEMO_KEYS=y \
        -DCONFIG_BLEDFU_INSTALL_SWAP_OFFSET=y
    sizes+=("boot nrf52840dk/nrf52840=$builds/boot_nrf52840dk")
    printf 'boot stage with copy, nrf52840dk/nrf52840 ... '
    build "$root/boot" nrf52840dk/nrf52840 "$builds/boot_nrf52840dk_copy" -DCONFIG_BLEDFU_DEMO_KEYS=y \
        -DCONFIG_BLEDFU_INSTALL_COPY=y
    sizes+=("boot nrf52840dk/nrf52840 copy=$builds/boot_nrf52840dk_copy")
fi
if [ ${#sizes[@]} -gt 0 ]; then
    python3 scripts/board_sizes.py --json "$builds/sizes.json" "${sizes[@]}"
fi

exe=$builds/${native//\//_}/zephyr/zephyr.exe
if [[ " ${boards[*]} " == *" $native "* ]]; then
    python3 tests/zephyr/e2e/run.py --exe "$exe"
fi

[ $# -eq 0 ] || exit 0
CARGO_BUILD_BUILD_DIR=${CARGO_BUILD_BUILD_DIR:-$builds/cargo} python3 tests/zephyr/outside/run.py
python3 tests/zephyr/sizes/run.py --build "$builds/sizes" --json "$builds/products.json"
python3 tests/zephyr/boot/qemu.py --build "$builds" swap-offset copy swap-offset:8 swap-move:16 copy:32 swap-offset:8kib copy:8kib
if west twister --help >/dev/null 2>&1; then
    # One folder for cargo, 1.91 or later: what does not depend on the scenario is built once. $BLEDFU_TWISTER_OPTIONS: such
    # as -W for a linker that warns of its own libraries, or -j2.
    export CARGO_BUILD_BUILD_DIR=${CARGO_BUILD_BUILD_DIR:-$builds/cargo}
    # run.py has installed for itself what the scenarios of tests/zephyr/e2e want; without it twister skips them.
    version=$(python3 -c 'import sys; print("%u.%u" % sys.version_info[:2])')
    site=${BLEDFU_E2E_DIR:-$root/rust/target/e2e}/venv-$version/lib/python$version/site-packages
    # shellcheck disable=SC2086
    PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} west twister --integration --inline-logs --outdir "$builds/twister" --clobber-output \
        -x=EXTRA_ZEPHYR_MODULES="$root" --testsuite-root "$root" ${BLEDFU_TWISTER_OPTIONS:-}
else
    echo 'skipped: west twister (no west, or not in a west workspace)'
fi
BLEDFU_BSIM_BUILD=${BLEDFU_BSIM_BUILD:-$builds/bsim} python3 tests/bsim/run.py --json "$builds/bsim/radio.json"
echo "for doc/measurements.md: scripts/measurements.py --record-zephyr $builds"
