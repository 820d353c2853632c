#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that must hold before a change lands. One command for people and for CI; about 25 minutes on two cores from
# nothing, a few minutes when everything is built.
#
#   scripts/ci.sh [STEP ...]     default: the steps that each change must pass, in order
#   scripts/ci.sh all            those, and the slow ones
#   scripts/ci.sh --list         the names of the steps
#
# Needs Rust and Python 3. Installs the rest by itself where it may: rustfmt and clippy through rustup; a Rust core for
# Cortex-M4, a linker and Doxygen through apt; clients and tools through pip and cargo. Every step can run alone.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

# Every crate is built once here: what would speed up the next build, or help a debugger, only takes time and disk. A panic
# names its line without it.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0

heading() {
    printf '\n=== %s (%d s)\n' "$1" "$SECONDS"
}

# Installs Debian packages where that is possible; whoever needs them says so otherwise.
install_packages() {
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    fi
}

install_for_cortex_m() {
    python3 scripts/size.py --find >/dev/null && return
    install_packages rustc-web rust-web-src lld binutils
}

# Cargo with the options of what is released: the step `reproducible` compares this very build with another one.
release_cargo() {
    (cd rust && RUSTFLAGS=$(python3 "$root/scripts/dist.py" --flags) cargo "$@")
}

build_bledfu() {
    release_cargo build --quiet --release --locked --package bledfu-cli
}

# ---- the steps

step_format() {
    heading 'format'
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    (cd rust && cargo fmt --all --check && cd size && cargo fmt --check && cd ../boot && cargo fmt --check)
    (cd rust/fuzz && cargo fmt --check && cd ../module && cargo fmt --check && cd ../firmware && cargo fmt --check)
    (cd rust/arm-check && cargo fmt --check && cd ../bledfu-web && cargo fmt --check)
    (cd examples/embassy && cargo fmt --check)
    (cd tests/clients/nrf_dfu && cargo fmt --check)
    (cd tests/clients/mcumgr_smp && cargo fmt --check)
}

step_msrv() {
    heading 'the oldest Rust that is supported'
    python3 scripts/msrv.py
}

step_lint() {
    heading 'lint'
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    (cd rust && cargo clippy --locked --workspace --all-targets -- -D warnings)

    # As products without a log, and with defmt, build it.
    (cd rust && cargo clippy --locked -p bledfu-transfer --no-default-features -- -D warnings)
    # As a C product has them, with every log line a number.
    (cd rust && cargo clippy --locked -p bledfu-firmware --features whole-lines,log-numbers -- -D warnings)
    (cd rust && cargo clippy --locked -p bledfu-transfer --no-default-features --features defmt -- -D warnings)

    # What is outside of the workspace. The programs for a microcontroller bring their own panic handler, so a target of the PC
    # must not unwind, and has no tests. rust/firmware needs the crate `zephyr` of a Zephyr build.
    (cd rust/fuzz && cargo clippy --locked -- -D warnings)
    for crate in size boot module; do
        (cd "rust/$crate" && CARGO_PROFILE_DEV_PANIC=abort cargo clippy --locked --target-dir ../target/outside -- -D warnings)
    done
    (cd tests/clients/nrf_dfu && cargo clippy --locked --all-targets -- -D warnings)
    (cd tests/clients/mcumgr_smp && cargo clippy --locked --all-targets -- -D warnings)
}

step_doc() {
    heading 'documentation of the crates'
    (cd rust && RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace)
}

step_rules() {
    heading 'rules'
    python3 scripts/test_check_rules.py
    python3 scripts/check_rules.py
    python3 scripts/texts.py --check
}

step_text() {
    heading 'spelling, shell scripts, workflows'
    tools=$(scripts/tools.sh)
    "$tools/typos" --config typos.toml
    git ls-files -z '*.sh' .ci/run | xargs -0 "$tools/shellcheck"
    "$tools/actionlint" -shellcheck "$tools/shellcheck" -pyflakes=
}

step_deny() {
    heading 'licences, sources and known faults of dependencies'
    scripts/deny.sh
}

step_test() {
    heading 'tests: cd rust && cargo test'
    (cd rust && cargo test)
    # As a C product builds them.
    (cd rust && cargo test --quiet -p bledfu-text --features numbers)
    (cd rust && cargo test --quiet --lib -p bledfu-zephyr -p bledfu-transfer \
        --features bledfu-zephyr/fake,bledfu-zephyr/whole-lines,bledfu-transfer/whole-lines)
}

step_packages() {
    heading 'packages: what goes to a registry builds from what goes there'
    unpublished=$(cd rust && cargo metadata --locked --no-deps --format-version 1 | python3 -c \
        'import json, sys; print(*("--exclude " + p["name"] for p in json.load(sys.stdin)["packages"] if p["publish"] == []))')
    # A folder of its own each time: cargo never looks again at a package of a version that it has unpacked and built before.
    packages=$(mktemp -d)
    # shellcheck disable=SC2086
    (cd rust && cargo package --locked --workspace $unpublished --allow-dirty --target-dir "$packages")
    rm -rf "$packages"
}

step_demo() {
    heading 'a whole update in memory'
    (cd rust && cargo run --quiet --package bledfu-transfer --example in_memory)

    heading 'update: cd rust && cargo run --release -- update'
    update() {
        release_cargo run --release -- update "$@"
    }
    update | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
    grep -q 'version *1\.0\.0 (confirmed) -> 2\.0\.0 (confirmed)' "${TMPDIR:-/tmp}/bledfu-update.txt"
    update --no-confirm | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
    grep -q 'after the next reset 1\.0\.0 runs again' "${TMPDIR:-/tmp}/bledfu-update.txt"
    update --protocol smp | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
    grep -q 'version *1\.0\.0 (confirmed) -> 2\.0\.0 (confirmed)' "${TMPDIR:-/tmp}/bledfu-update.txt"
}

step_cut() {
    heading 'power cuts in every kind of install'
    release_cargo run --release -- cut
    release_cargo run --release -- cut --hostile
    release_cargo run --release -- cut --misread
    release_cargo run --release -- cut --weak
    # Every point, where that takes a minute: what is rare was found there only.
    release_cargo run --release -- cut --full --weak --algorithm overwrite
    release_cargo run --release -- cut --full --weak --algorithm copy
    release_cargo run --release -- bench --install
}

step_clients() {
    heading 'real clients'
    build_bledfu
    python3 tests/clients/run.py --bledfu "$root/rust/target/release/bledfu"
}

step_central() {
    heading 'a third-party Bluetooth central, and bledfu send, through virtual controllers'
    build_bledfu
    run="python3 tests/zephyr/e2e/run.py --bledfu $root/rust/target/release/bledfu"
    $run --object-size 4096
    # What depends on the size of objects, with the default one.
    $run -k fresh -k as_phones_do -k demo_image -k large_object -k power_cuts_on_the_way
}

step_bluez() {
    heading 'bledfu send over the system Bluetooth: a model of BlueZ on a bus of its own'
    command -v dbus-daemon >/dev/null || install_packages dbus-daemon
    # libdbus is built here: a plain machine has none.
    (cd rust && cargo clippy --locked -p bledfu-cli --features ble-vendored --all-targets -- -D warnings)
    (cd rust && cargo build --quiet --locked -p bledfu-cli --features ble-vendored)
    python3 tests/bluez/run.py --bledfu "$root/rust/target/debug/bledfu"
}

step_web() {
    heading 'the page for browsers: built, measured, and tested in Chromium'
    if ! command -v npm >/dev/null; then
        echo 'skipped: there is no npm (Node.js 20 or later)'
        return
    fi
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || install_packages chromium
    command -v dbus-daemon >/dev/null || install_packages dbus-daemon
    (cd web && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund && npm run build)
    # Clippy needs the target's std as it comes; wasm.sh builds its own.
    if command -v rustup >/dev/null; then
        rustup target add wasm32-unknown-unknown
        (cd rust/bledfu-web && cargo clippy --locked --release --target wasm32-unknown-unknown -- -D warnings)
    fi
    if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
        echo 'the tests of the page are skipped: there is no Chromium'
        return
    fi
    (cd rust && cargo build --quiet --locked -p bledfu-cli)
    (cd web && BLEDFU="$root/rust/target/debug/bledfu" npm test)
}

step_size() {
    heading 'code size'
    install_for_cortex_m
    python3 scripts/size.py --check
}

step_assembly() {
    heading 'P-256 in Arm assembly, on an emulated Cortex-M4'
    install_for_cortex_m
    command -v qemu-system-arm >/dev/null || install_packages qemu-system-arm
    python3 scripts/arm_check.py
}

step_embassy() {
    heading 'the second platform: embassy, built for the nRF52840 and updated on the PC'
    install_for_cortex_m
    (cd rust && cargo build --quiet --release -p bledfu-cli)
    python3 examples/embassy/test.py --bledfu "$root/rust/target/release/bledfu"
}

step_measurements() {
    heading 'doc/measurements.md'
    install_for_cortex_m
    build_bledfu
    python3 scripts/measurements.py --check --bledfu "$root/rust/target/release/bledfu"
}

step_fuzz() {
    heading 'fuzz smoke'
    scripts/fuzz.sh
}

step_patch() {
    heading 'small updates between releases of real firmware'
    if ! command -v npm >/dev/null; then
        echo 'skipped: there is no npm, which fetches the releases'
        return
    fi
    python3 scripts/patch_sizes.py
}

step_reproducible() {
    heading 'the same sources make the same boot stage and the same bledfu'
    install_for_cortex_m
    python3 scripts/reproducible.py
}

step_semver() {
    heading 'the interface of the crates, compared with the last release'
    scripts/semver.sh
}

step_release() {
    heading 'release, without publishing'
    python3 scripts/release.py --check
    python3 scripts/release.py --dry-run
}

step_site() {
    heading 'site and links'
    command -v doxygen >/dev/null || install_packages doxygen
    scripts/site.sh
}

step_zephyr() {
    heading 'Zephyr'
    scripts/zephyr.sh
}

steps=(format msrv lint doc rules text deny demo cut test packages clients central size measurements zephyr)
# Steps that run beside those that follow, with what these leave of the processors: they wait for timers, for each other and for
# the linker.
beside=(cut)
# Ten minutes more: jobs of their own in the workflow.
slow=(assembly embassy bluez web fuzz patch reproducible semver release site)

if [ "${1:-}" = --list ]; then
    printf '%s\n' "${steps[@]}" "${slow[@]}"
    exit
fi
[ "${1:-}" != all ] || set -- "${steps[@]}" "${slow[@]}"
for name in "$@"; do
    if ! [[ " ${steps[*]} ${slow[*]} " == *" $name "* ]]; then
        echo "there is no step $name; the steps are ${steps[*]} ${slow[*]}, or all" >&2
        exit 2
    fi
done

heading 'tools'
cargo --version
python3 --version
[ $# -gt 0 ] || set -- "${steps[@]}"

# A step in the background, behind all others: its output is kept until it has ended.
background=
finish_background() {
    [ -n "$background" ] || return 0
    local ended=0
    wait "$background" || ended=$?
    background=
    cat "$output"
    rm -f "$output"
    return "$ended"
}
stop_background() {
    [ -n "$background" ] || return 0
    pkill -P "$background" 2>/dev/null || true
    rm -f "$output"
}
trap stop_background EXIT

for name in "$@"; do
    if [ $# -gt 1 ] && [[ " ${beside[*]} " == *" $name "* ]]; then
        finish_background
        output=$(mktemp)
        {
            renice -n 10 "$BASHPID" >/dev/null 2>&1 || true
            "step_$name"
        } >"$output" 2>&1 &
        background=$!
    else
        "step_$name"
    fi
done
finish_background
heading 'done'
