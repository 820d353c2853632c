#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that must hold before a change lands. One command for people and for CI; about a quarter of an hour on
# two cores from nothing, two minutes when everything is built.
#
# Needs Rust and Python 3. Installs the rest by itself where it may: rustfmt and clippy through rustup, a Rust core for
# Cortex-M4 and a linker through apt, the clients through pip and cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

step() {
    printf '\n=== %s (%d s)\n' "$1" "$SECONDS"
}

install_for_cortex_m() {
    if rustup target list --installed 2>/dev/null | grep -q '^thumbv7em-none-eabihf$' && command -v ld.lld >/dev/null; then
        return
    fi
    [ -d /usr/lib/rustlib/src/rust/library/core ] && command -v ld.lld >/dev/null && return
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            rustc-web rust-web-src lld binutils >/dev/null
    fi
}

step 'tools'
cargo --version
python3 --version
for component in rustfmt clippy; do
    cargo "${component/rustfmt/fmt}" --version >/dev/null 2>&1 || rustup component add "$component"
done

step 'format'
(cd rust && cargo fmt --all --check && cd size && cargo fmt --check && cd ../boot && cargo fmt --check)
(cd examples/embassy && cargo fmt --check)
(cd tests/clients/nrf_dfu && cargo fmt --check)
(cd tests/clients/mcumgr_smp && cargo fmt --check)

step 'lint'
(cd rust && cargo clippy --locked --workspace --all-targets -- -D warnings)

# As products without a log, and with defmt, build it.
(cd rust && cargo clippy --locked -p bledfu-transfer --no-default-features -- -D warnings)
(cd rust && cargo clippy --locked -p bledfu-transfer --no-default-features --features defmt -- -D warnings)

step 'documentation'
(cd rust && RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace)

step 'rules'
python3 scripts/test_check_rules.py
python3 scripts/check_rules.py

step 'tests: cd rust && cargo test'
(cd rust && cargo test)

step 'packages: what goes to a registry builds from what goes there'
unpublished=$(cd rust && cargo metadata --locked --no-deps --format-version 1 | python3 -c \
    'import json, sys; print(*("--exclude " + p["name"] for p in json.load(sys.stdin)["packages"] if p["publish"] == []))')
# A folder of its own each time: cargo never looks again at a package of a version that it has unpacked and built before.
packages=$(mktemp -d)
# shellcheck disable=SC2086
(cd rust && cargo package --locked --workspace $unpublished --allow-dirty --target-dir "$packages")
rm -rf "$packages"

step 'a whole update in memory'
(cd rust && cargo run --quiet --package bledfu-transfer --example in_memory)

step 'update: cd rust && cargo run --release -- update'
# shellcheck disable=SC2016
update() {
    (cd rust && cargo run --release -- update "$@")
}
update | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
grep -q 'version *1\.0\.0 (confirmed) -> 2\.0\.0 (confirmed)' "${TMPDIR:-/tmp}/bledfu-update.txt"
update --no-confirm | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
grep -q 'after the next reset 1\.0\.0 runs again' "${TMPDIR:-/tmp}/bledfu-update.txt"
update --protocol smp | tee "${TMPDIR:-/tmp}/bledfu-update.txt"
grep -q 'version *1\.0\.0 (confirmed) -> 2\.0\.0 (confirmed)' "${TMPDIR:-/tmp}/bledfu-update.txt"

step 'power cuts in every kind of install'
(cd rust && cargo run --release -- cut)
(cd rust && cargo run --release -- bench --install)

step 'real clients'
python3 tests/clients/run.py --bledfu "$root/rust/target/release/bledfu"

step 'a third-party Bluetooth central, through a virtual controller'
python3 tests/zephyr/e2e/run.py --bledfu "$root/rust/target/release/bledfu"

step 'code size'
install_for_cortex_m
python3 scripts/size.py --check

step 'the second platform: embassy, built for the nRF52840 and updated on the PC'
python3 examples/embassy/test.py --bledfu "$root/rust/target/release/bledfu"

step 'Zephyr'
scripts/zephyr.sh

step 'done'
