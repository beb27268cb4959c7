#!/bin/sh
# Runs the official MCP conformance suite against the product over HTTP, in both eras: the scenarios
# that need no fixtures. Counts checks, not only scenarios: a scenario that checks nothing proves
# nothing and fails here.
#
# Usage: tests/conformance/run.sh [BINARY]      needs npm; everything goes under target/conformance.
set -eu

cd "$(dirname "$0")/../.."
binary=${1:-target/debug/callingbox-mcp}
work=$PWD/target/conformance
suite=0.2.0-alpha.12
mkdir -p "$work/home"
if [ ! -d "$work/node_modules/@modelcontextprotocol/conformance" ]; then
    (cd "$work" && npm install --no-audit --no-fund --prefix . node@24 "@modelcontextprotocol/conformance@$suite")
fi
PATH=$work/node_modules/node/bin:$PATH
export PATH

env -i PATH="$PATH" HOME="$work/home" XDG_DATA_HOME="$work/home/data" XDG_CONFIG_HOME="$work/home/config" \
    "$binary" --sandbox http --listen 127.0.0.1:0 >"$work/server.out" 2>"$work/server.err" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    url=$(sed -n 's/^listening on //p' "$work/server.out")
    [ -n "$url" ] && break
    sleep 0.5
done
[ -n "$url" ] || { echo "the server did not start" >&2; cat "$work/server.err" >&2; exit 1; }

failed=0
total=0
run() {
    version=$1
    scenario=$2
    log=$work/$version-$scenario.log
    status=0
    node "$work/node_modules/@modelcontextprotocol/conformance/dist/index.js" server \
        --url "$url" --scenario "$scenario" --spec-version "$version" >"$log" 2>&1 || status=$?
    passed=$(sed -n 's/^Passed: \([0-9]*\)\/.*/\1/p' "$log" | tail -1)
    if [ "$status" -ne 0 ] || [ "${passed:-0}" -eq 0 ]; then
        failed=$((failed + 1))
        echo "FAIL  $version  $scenario (exit $status, ${passed:-0} checks passed)"
        sed 's/^/      /' "$log"
    else
        total=$((total + passed))
        echo "ok    $version  $scenario ($passed checks)"
    fi
}

for scenario in server-initialize server-session-lifecycle ping tools-list \
    server-sse-multiple-streams server-sse-polling dns-rebinding-protection; do
    run 2025-11-25 "$scenario"
done
for scenario in tools-list http-header-validation \
    input-required-result-unsupported-methods dns-rebinding-protection; do
    run 2026-07-28 "$scenario"
done
# These need prompts and resources; without them their methods are rightly unknown.
hello='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"0"}}}'
if curl -s -m 10 -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \
    -d "$hello" "$url" | grep -q '"prompts":'; then
    for scenario in completion-complete resources-list prompts-list; do
        run 2025-11-25 "$scenario"
    done
    for scenario in caching sep-2164-resource-not-found; do
        run 2026-07-28 "$scenario"
    done
else
    echo "skip  prompts, resources and completions: this server does not offer them"
fi
echo "$total checks passed, $failed scenarios failed"
[ "$failed" -eq 0 ]
