#!/usr/bin/env bash
# libFuzzer, guided by coverage, on everything that reads what strangers wrote: two minutes for each target, or as
# many seconds as are given, until one breaks. What broke it is left in fuzz/artifacts.
#
# Without sanitizers, which want a nightly toolchain: the program forbids unsafe code, and what is looked for here
# is a panic, or a property of fuzz_targets/ that does not hold. Needs cargo-fuzz and a C++ compiler.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is missing: cargo install cargo-fuzz --locked" >&2; exit 1; }
# The program's own versions; libFuzzer's are added to them.
cp Cargo.lock fuzz/Cargo.lock
how=(--sanitizer none --dev --target-dir target/fuzz)
cargo fuzz build "${how[@]}"
for target in answers deliveries lines rules tokens; do
    echo "== $target"
    mkdir -p "fuzz/corpus/$target"
    cargo fuzz run "${how[@]}" "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="${1:-120}" -max_len=4096 -timeout=10 -verbosity=0 -print_funcs=0 -print_final_stats=1
done
