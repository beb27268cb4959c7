#!/usr/bin/env bash
# Runs the OAuth flow of the official Python SDK against the program: discovery, registration, PKCE, the token, and the
# step-up to more scopes. The test contains a small authorization server.
# Needs python3 with venv, and target/debug/callingbox-mcp or the binary that CALLINGBOX_MCP names.
set -euo pipefail
cd "$(dirname "$0")/../.."

binary="${CALLINGBOX_MCP:-target/debug/callingbox-mcp}"
work=target/oauth
mkdir -p "$work"
if ! "$work/venv/bin/python" -c 'from importlib.metadata import version; assert version("mcp") == "2.3.0"' 2>/dev/null; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0
fi
timeout 120 "$work/venv/bin/python" tests/oauth/python_mcp.py "$binary"
