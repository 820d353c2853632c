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

# With its sources, std is built for the page: a panic there is one instruction without a text, which is a quarter of the code. That is
# a feature of nightly compilers, which the variable switches on. Without the sources the page works as well, and is larger.
sysroot=$(rustc --print sysroot)
sources=$sysroot/lib/rustlib/src/rust/library/std/Cargo.toml
if ! [ -e "$sources" ]; then
    rustup component add rust-src >&2 || true
fi
if [ -e "$sources" ]; then
    std=rebuilt
    export RUSTC_BOOTSTRAP=1
    set -- -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size -Zpanic-immediate-abort \
        --config 'profile.release.panic="immediate-abort"'
else
    std=precompiled
    echo "wasm.sh: the compiler has no sources of std (rustup component add rust-src; Debian: rust-web-src): the page is larger" >&2
    [ -d "$sysroot/lib/rustlib/$target/lib" ] || rustup target add "$target" >&2
    set --
fi
(cd "$crate" && cargo build --locked --release --target "$target" "$@")
folder=$(cd "$crate" && cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

rm -rf "$here/src/wasm"
# wasm-opt makes it no smaller once it is compressed.
"$bindgen" --target web --remove-name-section --remove-producers-section --out-dir "$here/src/wasm" \
    "$folder/$target/release/bledfu_web.wasm"
echo "$std" >"$here/src/wasm/std"
