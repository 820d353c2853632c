#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the site into rust/target/site/site: the guide (mdBook), the C API (Doxygen) and the crates (rustdoc); then checks the
# links of the site and of every Markdown file. Needs doxygen; the rest is installed (scripts/tools.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(scripts/tools.sh)
work=rust/target/site
if ! command -v doxygen >/dev/null; then
    echo 'the site needs doxygen (Debian: apt-get install doxygen)' >&2
    exit 1
fi

mkdir -p "$work"
python3 scripts/site_pages.py "$work/pages"
cp doc/book.toml "$work/"
rm -rf "$work/site"
MDBOOK_LOG=warn "$tools/mdbook" build "$work"

(cat doc/Doxyfile && echo "OUTPUT_DIRECTORY = $work/site") | doxygen -

(cd rust && RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps --workspace)
cp -r rust/target/doc "$work/site/rust"

# Links inside of the repository and of the site; what is elsewhere is not asked. rustdoc checks its own.
echo 'links of the Markdown files:'
git ls-files -z '*.md' | grep -zv '^tests/vectors/' | xargs -0 "$tools/lychee" --offline --include-fragments --no-progress
echo 'links of the site:'
"$tools/lychee" --offline --include-fragments --no-progress --root-dir "$PWD/$work/site" \
    --exclude-path "$work/site/rust" --exclude-path '404\.html' --exclude-path 'print\.html' --exclude-path 'toc\.html' "$work/site"
echo "site: $work/site/index.html"
