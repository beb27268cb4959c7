#!/usr/bin/env bash
# Runs the MCP clients that users have against the program on its simulator. None of them needs a model, a login or
# a key. The first run installs several hundred megabytes from npm.
#
#   tests/clients/run.sh
#
# Each client has its own home and an empty environment. `callingbox-mcp install` configures it where it can, and it
# connects over stdio, streamable HTTP, HTTP+SSE and with a bearer token, as far as it supports them. Prints
# `ok CLIENT: TRANSPORTS` for each; the first failure ends the run. packaging/dry_run.sh starts the bundle. Claude
# Desktop, Cursor, VS Code and Windsurf have no command that connects; tests/it/install checks their files. The
# versions are pinned to those that were seen to work.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
cargo build --quiet
program=$root/target/debug/callingbox-mcp
tools=$root/target/real-clients
mkdir -p "$tools/node" "$tools/npm"

# Most of them need a newer Node than Debian has; npm has one as a package.
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
servers=()
finish() {
  [ ${#servers[@]} -eq 0 ] || kill "${servers[@]}" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
# Runs a command in the new home, which is its folder too, with nothing in its environment but what `with` lists.
home=
with=()
new_home() { home=$(mktemp -d "$work/XXXXXX"); with=(); }
alone() {
  (cd "$home" && timeout 120 env -i HOME="$home" GEMINI_CLI_TRUST_WORKSPACE=true \
    PATH="$node:$tools/npm/node_modules/.bin:/usr/local/bin:/usr/bin:/bin" "${with[@]}" "$@")
}
# Runs a command that must succeed and print this.
says() {
  local wanted=$1 said
  shift
  if ! said=$(alone "$@" 2>"$work/stderr") || ! grep -qE -- "$wanted" <<<"$said"; then
    printf 'failed: %s\nexpected: %s\nprinted: %s\n' "$*" "$wanted" "$said" >&2
    tail -20 "$work/stderr" >&2
    exit 1
  fi
}
ok() { echo "ok $1"; }
# Starts a server on the simulator with these arguments and sets $base to its address without /mcp.
serve() {
  local place
  place=$(mktemp -d "$work/XXXXXX")
  printf '[dialing]\nconfirm = "%s"\n' "$1" >"$place/config.toml"
  touch "$place/out"
  env -i HOME="$place" "$program" --config "$place/config.toml" --sandbox --sandbox-speed 30 \
    --toolsets calls,agents,numbers,webhooks http --listen 127.0.0.1:0 "${@:2}" \
    >"$place/out" 2>"$place/err" &
  servers+=($!)
  for _ in {1..40}; do
    base=$(sed -n 's|^listening on \(.*\)/mcp$|\1|p' "$place/out")
    [ -n "$base" ] && return
    sleep 0.25
  done
  cat "$place/err" >&2
  exit 1
}
serve auto
plain=$base
token=$(env -i HOME="$work" "$program" token create proof --tokens "$work/tokens.toml" | grep -o 'cbmcp_[^ ]*')
serve auto --auth token --tokens "$work/tokens.toml"
guarded=$base

# The Inspector checks the definition of each tool.
new_home
every=$(alone "$program" --sandbox --toolsets calls,agents,numbers,webhooks catalogue --format json | grep -c '"inputSchema"')
for way in "$program --sandbox --toolsets calls,agents,numbers,webhooks" "$plain/mcp" "$plain/sse"; do
  # shellcheck disable=SC2086 # it is a command and its arguments
  listed=$(alone mcp-inspector --cli $way --method tools/list --strict 2>"$work/stderr") || { cat "$work/stderr" >&2; exit 1; }
  [ "$(grep -c '"inputSchema"' <<<"$listed")" -eq "$every" ] || { echo "$way: not $every tools" >&2; exit 1; }
  # shellcheck disable=SC2086
  says '"isError": false' mcp-inspector --cli $way --method tools/call --tool-name list_agents
done
for era in legacy modern; do
  for way in "$program stdio --sandbox" "$plain/mcp"; do
    # shellcheck disable=SC2086
    says '"isError": false' mcp-inspector --cli $way --protocol-era "$era" --method tools/call --tool-name list_agents
  done
done
ok "inspector: $every tools over stdio, http and sse; both eras"

new_home
says '"agents": \[\]' mcporter call --stdio "$program stdio --sandbox" list_agents --output json
says '"agents": \[\]' mcporter call --http-url "$plain/mcp" --allow-http list_agents --output json
says '"agents": \[\]' mcporter call --http-url "$plain/sse" --allow-http list_agents --output json
ok "mcporter: stdio, http, sse"

new_home
says '^ok legacy modern$' "$tools/py/bin/python" "$root/tests/clients/python_mcp.py" "$program"
for way in http sse modern; do
  serve always
  says '^ok$' "$tools/py/bin/python" "$root/tests/clients/python_job.py" "$way" "$base"
done
ok "python-mcp: stdio in both eras; the whole job over http in both eras, and sse"

new_home
says '^ok$' node "$root/tests/clients/typescript_sdk.mjs" "$tools/npm" "$program"
for way in http sse; do
  serve always
  says '^ok$' node "$root/tests/clients/typescript_job.mjs" "$tools/npm" "$way" "$base"
done
ok "typescript-sdk: stdio; the whole job over http and sse"

new_home
says 'Written to' "$program" install claude-code --sandbox
says 'Written to' "$program" install claude-code --name over-http --http "$plain/mcp"
says 'Written to' "$program" install claude-code --name guarded --http "$guarded/mcp" --http-token-env
says 'Added' claude mcp add --scope user --transport sse over-sse "$plain/sse"
with=(CALLINGBOX_MCP_TOKEN="$token")
for name in callingbox over-http guarded over-sse; do
  says "^$name: .*Connected" claude mcp list
done
with=()
if alone claude mcp list 2>&1 | grep -qE '^guarded: .*Connected'; then
  echo "claude-code: connected without the token" >&2
  exit 1
fi
ok "claude-code: stdio, http, sse, token"

new_home
says 'Written to' "$program" install codex --sandbox
says 'Written to' "$program" install codex --name over-http --http "$plain/mcp"
says 'Written to' "$program" install codex --name guarded --http "$guarded/mcp" --http-token-env=TELEPHONE
with=(TELEPHONE="$token")
for name in callingbox over-http guarded; do
  says '^ok$' node "$root/tests/clients/codex.mjs" "$name"
done
ok "codex: stdio, http, token"

new_home
says 'Written to' "$program" install openclaw --sandbox
says 'Written to' "$program" install openclaw --name overhttp --http "$plain/mcp"
says 'Written to' "$program" install openclaw --name guarded --http "$guarded/mcp" --http-token-env
with=(CALLINGBOX_MCP_TOKEN="$token")
says . openclaw mcp set oversse "{\"url\":\"$plain/sse\",\"transport\":\"sse\"}"
says . openclaw mcp set bare "{\"url\":\"$plain/mcp\"}"
for name in callingbox overhttp guarded oversse bare; do
  says "\"${name}__place_call\"" openclaw mcp probe --json
  says "^- $name: ok" openclaw mcp doctor --probe
done
ok "openclaw: stdio, http, sse, a bare address, token"

new_home
says 'Written to' "$program" install gemini --sandbox
says 'Written to' "$program" install gemini --name over-http --http "$plain/mcp"
says 'Written to' "$program" install gemini --name guarded --http "$guarded/mcp" --http-token-env
with=(CALLINGBOX_MCP_TOKEN="$token")
says 'over-sse' sh -c "gemini mcp add --scope user -t sse over-sse '$plain/sse' 2>&1"
for name in callingbox over-http guarded over-sse; do
  # Some versions print this on standard error, others on standard output.
  says "$name: .*Connected" sh -c 'gemini mcp list 2>&1'
done
ok "gemini: stdio, http, sse, token"
