#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target for a short time, beginning with the committed corpus. A finding fails, and is kept in
# rust/fuzz/artifacts.
#
#   scripts/fuzz.sh [TARGET ...]      default: all targets, two at a time
#
# BLEDFU_FUZZ_SECONDS   seconds for each target (default: 20)
# BLEDFU_FUZZ_MERGE=1   afterwards, reduces what was found to the smallest set with the same coverage, into rust/fuzz/corpus
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${BLEDFU_FUZZ_SECONDS:-20}
tools=$(scripts/tools.sh)
PATH=$tools:$PATH

cd rust
mapfile -t all < <(cargo fuzz list)
if [ $# -eq 0 ]; then
    set -- "${all[@]}"
fi
# The crates forbid unsafe code: without the address sanitizer a stable compiler is enough. Debug assertions and overflow checks
# are on (fuzz/Cargo.toml).
cargo fuzz build --sanitizer none

logs=fuzz/target/smoke
mkdir -p "$logs"

options() {
    local file=fuzz/options/$1
    if [ -f "$file" ]; then
        grep -v '^#' "$file"
    fi
}

run() {
    local target=$1 new=$logs/$1-new arguments
    rm -rf "$new"
    mkdir -p "$new" "fuzz/corpus/$target"
    mapfile -t arguments < <(options "$target")
    # Generated inputs go to the first folder, not among the committed ones.
    cargo fuzz run --sanitizer none "$target" "$new" "fuzz/corpus/$target" -- "${arguments[@]}" \
        "-max_total_time=$seconds" -timeout=10 -print_final_stats=1 >"$logs/$target.log" 2>&1
}

failed=0
while [ $# -gt 0 ]; do
    pair=("${@:1:2}")
    shift "${#pair[@]}"
    jobs=()
    for target in "${pair[@]}"; do
        run "$target" &
        jobs+=($!)
    done
    for index in "${!pair[@]}"; do
        target=${pair[$index]}
        if wait "${jobs[$index]}"; then
            runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target.log")
            seeds=$(find "fuzz/corpus/$target" -type f | wc -l)
            printf '%-16s %9s inputs in %s s, from %s of the corpus: nothing found\n' "$target" "$runs" "$seconds" "$seeds"
        else
            failed=1
            printf '%-16s FAILED\n' "$target"
            tail -n 40 "$logs/$target.log"
        fi
        if [ "${BLEDFU_FUZZ_MERGE:-0}" = 1 ]; then
            mkdir -p "$logs/$target-merged"
            rm -f "$logs/$target-merged"/*
            cargo fuzz run --sanitizer none "$target" "$logs/$target-merged" "$logs/$target-new" "fuzz/corpus/$target" -- \
                -set_cover_merge=1 -use_counters=0 >>"$logs/$target.log" 2>&1
            rm -f "fuzz/corpus/$target"/*
            cp "$logs/$target-merged"/* "fuzz/corpus/$target/"
        fi
    done
done
exit $failed
