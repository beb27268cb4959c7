#!/bin/sh
# Runs the official MCP conformance suite over HTTP in both protocol eras: the scenarios that need no fixtures against
# the program, and all scenarios, as one suite and as the frozen requirements of each revision, against the suite's
# fixtures on the program's own HTTP layer.
#
# A check that does not succeed must be in expected.tsv with a reason, and a line of expected.tsv that does not occur
# fails the run. See judge.mjs.
#
# Usage: tests/conformance/run.sh      needs cargo and npm; everything goes under target/conformance.
set -eu

cd "$(dirname "$0")/../.."
work=$PWD/target/conformance
suite=0.2.0-alpha.12
mkdir -p "$work/home"
if [ ! -d "$work/node_modules/@modelcontextprotocol/conformance" ]; then
    (cd "$work" && npm install --no-audit --no-fund --prefix . node@24 "@modelcontextprotocol/conformance@$suite")
fi
PATH=$work/node_modules/node/bin:$PATH
export PATH
cargo build --quiet --bin callingbox-mcp --example conformance

servers=
trap 'kill $servers 2>/dev/null || true' EXIT
# Starts a server and sets $url to the address that it prints.
start() {
    name=$1
    shift
    # Discard the address of an earlier run.
    : >"$work/$name.out"
    env -i PATH="$PATH" HOME="$work/home" XDG_DATA_HOME="$work/home/data" XDG_CONFIG_HOME="$work/home/config" \
        "$@" >"$work/$name.out" 2>"$work/$name.err" &
    servers="$servers $!"
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        url=$(sed -n 's/^listening on //p' "$work/$name.out")
        [ -n "$url" ] && return
        sleep 0.5
    done
    echo "$name did not start" >&2
    cat "$work/$name.err" >&2
    exit 1
}
# Runs a part of the suite against $url. Its exit code is ignored: judge.mjs knows the expected failures.
run() {
    folder=$1
    shift
    node "$work/node_modules/@modelcontextprotocol/conformance/dist/index.js" server \
        --url "$url" -o "$work/results/$folder" "$@" >>"$work/$folder.log" 2>&1 || true
}
rm -rf "$work/results" "$work"/*.log
mkdir -p "$work/results"

start program target/debug/callingbox-mcp --sandbox http --listen 127.0.0.1:0
for scenario in server-initialize server-session-lifecycle ping tools-list \
    completion-complete resources-list prompts-list \
    server-sse-multiple-streams server-sse-polling dns-rebinding-protection; do
    run program-2025-11-25 --scenario "$scenario" --spec-version 2025-11-25
done
# Two more scenarios of input-required-result-* pass without fixtures, but with a warning only.
for scenario in server-stateless tools-list caching http-header-validation \
    completion-complete resources-list prompts-list sep-2164-resource-not-found \
    input-required-result-unsupported-methods input-required-result-validate-input \
    server-sse-multiple-streams dns-rebinding-protection; do
    run program-2026-07-28 --scenario "$scenario" --spec-version 2026-07-28
done
for scenario in sep-2640-skills-enumeration sep-2640-skills-manifest; do
    run program-skills --scenario "$scenario"
done

start fixtures target/debug/examples/conformance
for version in 2025-11-25 2026-07-28; do
    run "fixtures-$version" --suite all --spec-version "$version"
    run "required-$version" --requirements "$version"
done

set --
for folder in program-2025-11-25 program-2026-07-28 program-skills \
    fixtures-2025-11-25 required-2025-11-25 fixtures-2026-07-28 required-2026-07-28; do
    [ -d "$work/results/$folder" ] || { echo "no results: $folder" >&2; cat "$work/$folder.log" >&2; exit 1; }
    set -- "$@" "$folder=$work/results/$folder"
done
node tests/conformance/judge.mjs tests/conformance/expected.tsv "$@"
