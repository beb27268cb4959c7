#!/usr/bin/env bash
# Checks the tool definitions with the linter of TDQS, a published measure of definitions for models: what a model is shown
# of the default list and of the list of all tools must have no errors and no warnings. The linter calls no model. Needs
# python3 with venv, and target/debug/callingbox-mcp; another binary can be named in CALLINGBOX_MCP.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=0.1.0
binary="${CALLINGBOX_MCP:-target/debug/callingbox-mcp}"
work=target/tdqs
mkdir -p "$work"

if ! "$work/venv/bin/tdqs" --version 2>/dev/null | grep -qF "$version"; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "tdqs==$version"
fi
for which in "" --all; do
    # shellcheck disable=SC2086 # An empty value must not become an argument.
    "$binary" catalogue $which --format json | python3 -c '
import json, sys

def is_shown(tool):
    return "model" in tool.get("_meta", {}).get("ui", {}).get("visibility", ["model"])

json.dump([tool for tool in json.load(sys.stdin) if is_shown(tool)], sys.stdout)' >"$work/tools.json"
    "$work/venv/bin/tdqs" lint --file "$work/tools.json" --fail-on warning
done
