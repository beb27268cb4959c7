#!/usr/bin/env bash
# Tests the simulator with two independent readings of the API: the official Python SDK, and schemathesis with
# the contract. Needs python3 with venv, and target/debug/callingbox-mcp or the binary that CALLINGBOX_MCP names.
# Exits non-zero at the first violation.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary="${CALLINGBOX_MCP:-target/debug/callingbox-mcp}"
work=target/contract
python="$work/venv/bin/python"
mkdir -p "$work"

if ! "$python" -c 'from importlib.metadata import version as v
assert (v("callingbox"), v("schemathesis")) == ("0.1.0", "4.32.5")' 2>/dev/null; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$python" -m pip install --quiet --disable-pip-version-check callingbox==0.1.0 schemathesis==4.32.5
fi

# Two simulators, since the SDK test needs a webhook receiver on loopback, which the contract forbids.
processes=()
trap 'kill "${processes[@]}" 2>/dev/null || true' EXIT
start_simulator() {
    local out="$work/$1.out"
    shift
    rm -f "$out"
    "$binary" sandbox --listen 127.0.0.1:0 --manual "$@" >"$out" &
    processes+=("$!")
    for _ in $(seq 100); do
        url="$(sed -n 's/^listening on //p' "$out" 2>/dev/null || true)"
        if [ -n "$url" ]; then return; fi
        sleep 0.1
    done
    echo "the simulator did not start" >&2
    return 1
}

start_simulator sdk --allow-private-webhooks
CALLINGBOX_BASE_URL="$url" CALLINGBOX_API_KEY=sk_live_sdk "$python" tests/contract/python_sdk.py

start_simulator contract
# Enough credit for every example.
"$python" - "$url" <<'PYTHON'
import sys, urllib.request
urllib.request.urlopen(urllib.request.Request(
    sys.argv[1] + "/sandbox/credits", data=b'{"balance_milli_cents": 1000000000000}',
    headers={"Authorization": "Bearer sk_live_contract"})).close()
PYTHON
# schemathesis writes files into its working directory.
tests="$PWD/tests/contract"
cd "$work"
venv/bin/schemathesis --config-file "$tests/schemathesis.toml" \
    run "$tests/callingbox-openapi.yaml" --url "$url" \
    --header 'Authorization: Bearer sk_live_contract' \
    --max-examples 50 --seed 20260415 --generation-database none \
    --continue-on-failure --warnings off --no-color
