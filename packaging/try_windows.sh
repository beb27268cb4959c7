#!/usr/bin/env bash
# Runs the Windows program under wine: a simulated call over stdio, the demo, install, doctor, and Ctrl-C.
#
#   packaging/try_windows.sh PROGRAM.exe
#
# Installs wine from apt; exits with 3 if it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
cp "$1" "$folder/callingbox-mcp.exe"
program=$folder/callingbox-mcp.exe
command -v wine >/dev/null ||
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends wine wine64 >/dev/null; } ||
    { echo "unavailable: apt cannot install wine"; exit 3; }
WINEPREFIX=$(mktemp -d)
export WINEPREFIX WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
trap 'wineserver -k 2>/dev/null || /usr/lib/wine/wineserver64 -k 2>/dev/null || true; rm -rf "$WINEPREFIX" "$folder"' EXIT
wine wineboot --init >/dev/null 2>&1
# Wine has had this library of Windows since version 9; Rust's standard library takes random numbers from it.
if [ ! -e "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" ]; then
    cat >"$folder/prng.c" <<'C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
C
    x86_64-w64-mingw32-gcc -shared -o "$WINEPREFIX/drive_c/windows/system32/bcryptprimitives.dll" "$folder/prng.c" -ladvapi32
fi
fail() { echo "failed: $*" >&2; exit 1; }

wine "$program" --version
packaging/session.py wine "$program"
timeout 120 wine "$program" demo --sandbox-speed 500 | tail -n 1 | grep -q '^completed: ' || fail "demo"
echo "ok demo"
timeout 60 wine "$program" install cursor --sandbox </dev/null >/dev/null || fail "install"
config=$(find "$WINEPREFIX/drive_c/users" -path '*/.cursor/mcp.json')
python3 - "$config" <<'PY'
import json, sys
entry = json.load(open(sys.argv[1]))["mcpServers"]["callingbox"]
assert entry["command"].endswith("callingbox-mcp.exe") and ":\\" in entry["command"], entry
assert "?" not in entry["command"] and "--sandbox" in entry["args"], entry
PY
echo "ok install: $config"
timeout 60 wine "$program" doctor --sandbox | grep -q '^OK   ledger' || fail "doctor"
user=${config%/.cursor/mcp.json}
[ -e "$user/.callingbox-mcp/ledger.sandbox.sqlite3" ] || fail "the ledger is elsewhere"
[ -z "$(find "$user/AppData" -iname '*callingbox*')" ] || fail "a file below AppData"
mkdir -p "$user/AppData/Roaming/callingbox-mcp"
touch "$user/AppData/Roaming/callingbox-mcp/config.toml"
timeout 60 wine "$program" doctor --sandbox | grep -q '^WARN stray files .*config.toml' || fail "doctor: a stray file"
rm -r "$user/AppData/Roaming/callingbox-mcp"
echo "ok doctor: ledger in $user/.callingbox-mcp, a stray file found"

# From the cache of npx: the entry names a copy, which goes with the last entry.
cache=$user/AppData/Local/npm-cache/_npx/1
mkdir -p "$cache"
cp "$program" "$cache/callingbox-mcp.exe"
cached=$cache/callingbox-mcp.exe
timeout 60 wine "$cached" install cursor --sandbox </dev/null >"$folder/said" || fail "install from the cache of npx"
grep -q 'in the cache of npx' "$folder/said" || fail "$(cat "$folder/said")"
copy=$(find "$user/.callingbox-mcp/bin" -name callingbox-mcp.exe)
grep -qF "\\\\.callingbox-mcp\\\\bin\\\\" "$config" || fail "the entry names no copy: $(cat "$config")"
wine "$copy" --version >/dev/null || fail "the copy does not start"
timeout 60 wine "$cached" install cursor --upgrade | grep -q '^Nothing to upgrade' || fail "install --upgrade"
timeout 60 wine "$cached" install cursor --uninstall >/dev/null || fail "install --uninstall"
[ ! -e "$copy" ] || fail "the copy is left"
echo "ok install from a cache: copied to $copy and removed"
packaging/press_ctrl_c.py wine "$program" sandbox --listen 127.0.0.1:0
