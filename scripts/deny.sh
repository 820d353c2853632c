#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Licences, sources and known faults of what every Cargo.lock of the repository holds (deny.toml).
#
#   scripts/deny.sh [--advisories]
#
# Known faults come from a database on a Git server: they are checked where it answers. With --advisories, no answer is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(scripts/tools.sh)
database=https://github.com/RustSec/advisory-db

checks=(bans licenses sources)
if GIT_TERMINAL_PROMPT=0 timeout 20 git ls-remote --quiet "$database" HEAD >/dev/null 2>&1; then
    checks+=(advisories)
elif [ "${1:-}" = --advisories ]; then
    echo "the advisories cannot be checked: $database does not answer" >&2
    exit 1
else
    echo "not checked: advisories ($database does not answer)"
fi

failed=0
# Applications for zephyr-lang-rust depend on the crate `zephyr` of a Zephyr build, which no registry has in that form.
while IFS= read -r lock; do
    folder=${lock%/Cargo.lock}
    printf '%-28s ' "$folder"
    "$tools/cargo-deny" --manifest-path "$folder/Cargo.toml" --locked --config deny.toml check "${checks[@]}" || failed=1
done < <(git ls-files '*Cargo.lock' | grep -vE "^(rust/firmware|samples/product_rust)/")
exit $failed
