#!/usr/bin/env bash
# Runs libFuzzer on the readers of untrusted input: two minutes for each target, or as many seconds as the first
# argument says, until one fails. The failing input is kept in fuzz/artifacts.
#
# Without sanitizers, which need a nightly toolchain: the program forbids unsafe code, so the fuzzer looks for panics
# and for violated properties. Needs cargo-fuzz and a C++ compiler.
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
