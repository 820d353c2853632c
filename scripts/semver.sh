#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Whether the crates of the registry still have the interface of the last release, or a version number that says otherwise.
#
#   scripts/semver.sh [BASELINE_REV]     default: the newest release tag (vX.Y.Z)
#
# Before 1.0 the second number counts: after a change that breaks the users of a crate, raise it in rust/Cargo.toml
# (scripts/release.py prepare), before the next release or with the change.
#
# BLEDFU_SEMVER_DIR   where the tool is kept (default: rust/target/semver); the first call builds it, which takes minutes
set -euo pipefail
cd "$(dirname "$0")/.."
# Each version of the tool reads what certain compilers write; this one reads that of our oldest and of the newest Rust.
tool_version=0.51.0

baseline=${1:-}
if [ -z "$baseline" ]; then
    # Without the tags of the repository nothing could be found: a shallow clone has none.
    baseline=$(git describe --tags --abbrev=0 --match 'v[0-9]*.[0-9]*.[0-9]*' 2>/dev/null || true)
    if [ -z "$baseline" ]; then
        echo "nothing to compare with: no release tag (vX.Y.Z) is in the history of HEAD"
        exit
    fi
fi
revision=$(git rev-parse --verify --quiet "$baseline^{commit}") || {
    echo "there is no revision $baseline" >&2
    exit 2
}

root=${BLEDFU_SEMVER_DIR:-$PWD/rust/target/semver}
tool=$root/bin/cargo-semver-checks
if [ "$("$tool" semver-checks --version 2>/dev/null || true)" != "cargo-semver-checks $tool_version" ]; then
    echo "semver.sh: building cargo-semver-checks $tool_version" >&2
    # Fast to build rather than fast to run: it reads a few small crates.
    env -u RUSTFLAGS CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        cargo install --quiet --locked --root "$root" --target-dir "$root/target" "cargo-semver-checks@$tool_version"
    rm -rf "$root/target"
fi

packages=$(cd rust && cargo metadata --locked --no-deps --format-version 1 | python3 -c \
    'import json, sys; print(*(p["name"] for p in json.load(sys.stdin)["packages"] if p["publish"] != []))')
echo "compared with $baseline ($revision):"
failed=0
for package in $packages; do
    "$tool" semver-checks --manifest-path rust/Cargo.toml --package "$package" --baseline-rev "$revision" || failed=1
done
exit $failed
