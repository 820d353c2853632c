#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds rust/bledfu-web for browsers into web/src/wasm: cargo, wasm-bindgen.
#
# BLEDFU_WEB_DIR   where the tool wasm-bindgen is kept (default: rust/target/web)
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
crate=$here/../rust/bledfu-web
tools=${BLEDFU_WEB_DIR:-$here/../rust/target/web}
target=wasm32-unknown-unknown
mkdir -p "$tools"

# The tool has the version of the crate: both must be equal.
version=$(sed -n 's/^wasm-bindgen = "=\(.*\)"$/\1/p' "$crate/Cargo.toml")
bindgen=$tools/bin/wasm-bindgen
if [ "$("$bindgen" --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
    echo "wasm.sh: building wasm-bindgen $version into $tools" >&2
    cargo install --quiet wasm-bindgen-cli --version "$version" --root "$tools" --force
fi

# With rustup, the target is one download. Without it, std is built from the sources beside the compiler (Debian: rust-web-src);
# that is a feature of nightly compilers, which the variable switches on.
std=
if ! [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    if ! rustup target add "$target" >&2; then
        std=-Zbuild-std=std,panic_abort
        export RUSTC_BOOTSTRAP=1
    fi
fi
# shellcheck disable=SC2086
(cd "$crate" && cargo build --locked --release --target "$target" $std)
folder=$(cd "$crate" && cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

rm -rf "$here/src/wasm"
# wasm-opt makes it no smaller once it is compressed.
"$bindgen" --target web --remove-name-section --remove-producers-section --out-dir "$here/src/wasm" \
    "$folder/$target/release/bledfu_web.wasm"
