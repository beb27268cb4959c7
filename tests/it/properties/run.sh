#!/usr/bin/env bash
# Tests the properties with new seeds for the given number of minutes (default 10), or until one fails; the failure
# prints the smallest case. `cargo test` alone tries each property 256 times.
set -euo pipefail
cd "$(dirname "$0")/../.."

end=$((SECONDS + ${1:-10} * 60))
export PROPTEST_CASES="${PROPTEST_CASES:-2000}"
round=0
while [ "$SECONDS" -lt "$end" ]; do
    round=$((round + 1))
    echo "== round $round of $PROPTEST_CASES cases each, $(((end - SECONDS) / 60 + 1)) minutes left"
    cargo test --quiet --test it properties
    cargo test --quiet --test it api::mutilated
    cargo test --quiet --test it install::random
    cargo test --quiet --lib -- mcp::confirmation dialing::ledger::ids batch::template scenario::file
done
