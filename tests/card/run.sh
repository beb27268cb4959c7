#!/usr/bin/env bash
# Runs the call card in Chromium: in the official MCP Inspector, in OpenClaw, and in a host of our own that can refuse
# everything, against the program on its simulator. Installs Chromium (apt) and the packages (npm) under target/card, and writes pictures of the
# states to target/card/pictures.
#
#   tests/card/run.sh                  all jobs
#   tests/card/run.sh --pictures      also renews the pictures of the README in docs/images
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$PWD/target/card
mkdir -p "$tools"
command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }
npm install --silent --no-audit --no-fund --prefix "$tools" \
  node@24.21.0 \
  @modelcontextprotocol/inspector@2.12.0 \
  @modelcontextprotocol/ext-apps@2.0.4 \
  ajv@8.20.0 \
  axe-core@4.14.1 \
  puppeteer-core@25.16.0
cargo build --quiet
PATH=$tools/node_modules/node/bin:$PATH
export PATH
# It wants the Node.js that was installed above.
npm install --silent --no-audit --no-fund --prefix "$tools/openclaw" openclaw@2026.9.6
CARD_CHROMIUM=$(command -v chromium)
export CARD_CHROMIUM
node tests/card/own_host.mjs
node tests/card/inspector.mjs
node tests/card/openclaw.mjs
if [ "${1:-}" = --pictures ]; then
  mkdir -p docs/images
  cp "$tools/pictures/ended-light.png" docs/images/card-call.png
  cp "$tools/pictures/asking-light.png" docs/images/card-yes.png
fi
