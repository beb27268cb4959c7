#!/usr/bin/env bash
# Every property again and again with new seeds, for as many minutes as are given (10 if none), until
# one breaks: it prints the smallest case that it found. `cargo test` alone tries each 256 times.
set -euo pipefail
cd "$(dirname "$0")/../.."

end=$((SECONDS + ${1:-10} * 60))
export PROPTEST_CASES="${PROPTEST_CASES:-2000}"
round=0
while [ "$SECONDS" -lt "$end" ]; do
    round=$((round + 1))
    echo "== round $round of $PROPTEST_CASES cases each, $(((end - SECONDS) / 60 + 1)) minutes are left"
    cargo test --quiet --test it properties
    cargo test --quiet --test it api::mutilated
    cargo test --quiet --test it install::random
    cargo test --quiet --lib -- mcp::confirmation dialing::ledger::ids sandbox::scenario_file
done
