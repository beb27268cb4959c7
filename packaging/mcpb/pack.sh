#!/usr/bin/env bash
# Packs the program as an MCPB bundle for this platform, unpacks it elsewhere and starts it there.
#
#   packaging/mcpb/pack.sh [PROGRAM]     default: target/dist/callingbox-mcp
#
# Leaves target/mcpb/callingbox-mcp-VERSION-PLATFORM.mcpb and beside it server.json, the registry's
# entry with the bundle's checksum. Needs Node 18 or newer.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-target/dist/callingbox-mcp}
out=target/mcpb
rm -rf "$out/stage" "$out/unpacked" "$out"/*.mcpb
mkdir -p "$out/stage/server" "$out/npm"
npm install --silent --no-audit --no-fund --prefix "$out/npm" @anthropic-ai/mcpb@2.1.2
mcpb() { node "$out/npm/node_modules/@anthropic-ai/mcpb/dist/cli/cli.js" "$@"; }

cp "$program" "$out/stage/server/"
cp LICENSE "$out/stage/"
# A bundle holds the program of one platform, and says so.
node -e '
  const [from, to] = process.argv.slice(1), fs = require("fs");
  const manifest = JSON.parse(fs.readFileSync(from));
  manifest.compatibility.platforms = [process.platform];
  if (process.platform === "win32") manifest.server.entry_point += ".exe";
  fs.writeFileSync(to, JSON.stringify(manifest, null, 2) + "\n");
' packaging/mcpb/manifest.json "$out/stage/manifest.json"
version=$(node -p 'JSON.parse(require("fs").readFileSync("packaging/mcpb/manifest.json")).version')
bundle=$out/callingbox-mcp-$version-$(node -p 'process.platform + "-" + process.arch').mcpb

mcpb validate "$out/stage/manifest.json"
mcpb pack "$out/stage" "$bundle"
mcpb unpack "$bundle" "$out/unpacked"
node packaging/mcpb/start.mjs "$out/npm/node_modules/@anthropic-ai/mcpb/dist/index.js" "$out/unpacked"

node -e '
  const [bundle, to] = process.argv.slice(1), fs = require("fs"), path = require("path");
  const server = JSON.parse(fs.readFileSync("packaging/server.json"));
  const entry = server.packages.find((one) => one.registryType === "mcpb");
  entry.identifier = entry.identifier.replace(/[^/]+$/, path.basename(bundle));
  entry.fileSha256 = require("crypto").createHash("sha256").update(fs.readFileSync(bundle)).digest("hex");
  fs.writeFileSync(to, JSON.stringify(server, null, 2) + "\n");
' "$bundle" "$out/server.json"
echo "ok $bundle"
