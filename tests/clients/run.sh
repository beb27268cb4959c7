#!/usr/bin/env bash
# Real MCP clients against the real program on its simulator: what users have, none of which needs a
# model, a login or a key. Slow (several hundred MB from npm the first time), so a part of its own.
#
#   tests/clients/run.sh
#
# Each client has a home of its own and an empty environment. Prints `ok CLIENT` for each; the first
# failure ends it. Not here: Claude Desktop, Cursor, VS Code and Windsurf, which have no command line
# that connects; their files are held by tests/clients/tables.rs. The versions are pinned, and are those
# that were seen to work.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
cargo build --quiet
program=$root/target/debug/callingbox-mcp
tools=$root/target/real-clients
mkdir -p "$tools/node" "$tools/npm"

# Most of them need a newer Node than systems have; npm has it as a package.
npm install --silent --no-audit --no-fund --prefix "$tools/node" node@24.21.0
node=$tools/node/node_modules/node/bin
PATH=$node:$PATH npm install --silent --no-audit --no-fund --prefix "$tools/npm" \
  @anthropic-ai/claude-code@2.1.330 \
  @google/gemini-cli@0.61.0 \
  @modelcontextprotocol/inspector@2.12.0 \
  @modelcontextprotocol/sdk@1.32.2 \
  @openai/codex@0.169.0 \
  mcporter@0.12.3 \
  openclaw@2026.9.6
[ -x "$tools/py/bin/python" ] || python3 -m venv "$tools/py"
"$tools/py/bin/pip" install --quiet --disable-pip-version-check mcp==2.3.0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Runs a command in a new home with nothing in its environment; the home is its folder too.
home=
new_home() { home=$(mktemp -d "$work/XXXXXX"); }
alone() {
  (cd "$home" && timeout 120 env -i HOME="$home" GEMINI_CLI_TRUST_WORKSPACE=true \
    PATH="$node:$tools/npm/node_modules/.bin:/usr/local/bin:/usr/bin:/bin" "$@")
}
# Runs it, and demands that it succeeds and says this.
says() {
  local wanted=$1 said
  shift
  if ! said=$(alone "$@" 2>"$work/stderr") || ! grep -qE -- "$wanted" <<<"$said"; then
    printf 'failed: %s\nwanted: %s\nsaid: %s\n' "$*" "$wanted" "$said" >&2
    tail -20 "$work/stderr" >&2
    exit 1
  fi
}
ok() { echo "ok $1"; }

new_home
inspector=(mcp-inspector --cli "$program" stdio --sandbox)
says '"name": "place_call"' "${inspector[@]}" --method tools/list --strict
for era in legacy modern; do
  says '"isError": false' "${inspector[@]}" --protocol-era "$era" --method tools/call --tool-name list_agents
done
ok inspector

new_home
says '"agents": \[\]' mcporter call --stdio "$program stdio --sandbox" list_agents --output json
ok mcporter

new_home
says '^ok legacy modern$' "$tools/py/bin/python" "$root/tests/clients/python_mcp.py" "$program"
ok python-mcp

new_home
says '^ok$' node "$root/tests/clients/typescript_sdk.mjs" "$tools/npm" "$program"
ok typescript-sdk

new_home
says 'Written to' "$program" install claude-code --sandbox
says '^callingbox: .*Connected' claude mcp list
ok claude-code

new_home
says 'Written to' "$program" install codex --sandbox
says '^ok$' node "$root/tests/clients/codex.mjs"
ok codex

new_home
says 'Written to' "$program" install openclaw --sandbox
says '"callingbox__place_call"' openclaw mcp probe --json
says '^- callingbox: ok' openclaw mcp doctor --probe
ok openclaw

new_home
says 'Written to' "$program" install gemini --sandbox
# It says this on standard error or output, by version.
says 'callingbox: .*Connected' sh -c 'gemini mcp list 2>&1'
ok gemini
