#!/usr/bin/env bash
# Runs the MCP adapters of CrewAI and mcp-use (for LangChain) against the program on its simulator. Their packages
# conflict, so each has an environment of its own; the first run takes several minutes.
#
#   tests/clients/adapters.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet
tools=$PWD/target/real-clients
mkdir -p "$tools"
install() { # install NAME PACKAGE…
  [ -x "$tools/$1/bin/python" ] || python3 -m venv "$tools/$1"
  "$tools/$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}
install crewai "crewai-tools[mcp]==1.15.30" "mcp<2"
install mcp-use mcp-use==1.7.1

work=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
env -i HOME="$work" target/debug/callingbox-mcp --sandbox --sandbox-speed 30 http --listen 127.0.0.1:0 \
  >"$work/out" 2>"$work/err" &
server=$!
base=
for _ in {1..40}; do
  base=$(sed -n 's|^listening on \(.*\)/mcp$|\1|p' "$work/out")
  [ -z "$base" ] || break
  sleep 0.25
done
[ -n "$base" ] || { cat "$work/err" >&2; exit 1; }
for name in crewai mcp-use; do
  if ! (cd "$work" && timeout 180 env -i HOME="$work" PATH=/usr/local/bin:/usr/bin:/bin CREWAI_DISABLE_TELEMETRY=true \
    MCP_USE_ANONYMIZED_TELEMETRY=false OTEL_SDK_DISABLED=true \
    "$tools/$name/bin/python" "$OLDPWD/tests/clients/adapters.py" "$name" "$base") >"$work/said" 2>"$work/stderr"; then
    cat "$work/said" "$work/stderr" >&2
    exit 1
  fi
  echo "ok $name: http"
done
