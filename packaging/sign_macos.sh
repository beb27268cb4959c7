#!/usr/bin/env bash
# Signs a program on a Mac and has Apple notarize it, with the secrets that docs/releasing.md names. Without them it is
# signed ad hoc, which arm64 requires.
set -euo pipefail
program=$1
if [ -z "${APPLE_CERTIFICATE:-}" ]; then
    codesign --force --sign - "$program"
    echo "::warning::the macOS program is signed ad hoc: there is no APPLE_CERTIFICATE"
    exit 0
fi
folder=$(mktemp -d)
keychain=$folder/release.keychain
trap 'security delete-keychain "$keychain" || true; rm -rf "$folder"' EXIT
password=$(openssl rand -hex 16)
base64 --decode <<<"$APPLE_CERTIFICATE" >"$folder/certificate.p12"
security create-keychain -p "$password" "$keychain"
security unlock-keychain -p "$password" "$keychain"
security import "$folder/certificate.p12" -k "$keychain" -P "$APPLE_CERTIFICATE_PASSWORD" -T /usr/bin/codesign
security set-key-partition-list -S apple-tool:,apple: -s -k "$password" "$keychain" >/dev/null
security list-keychains -d user -s "$keychain"
identity=$(security find-identity -v -p codesigning "$keychain" | awk 'NR == 1 { print $2 }')
codesign --force --options runtime --timestamp --sign "$identity" "$program"
printf '%s' "$APPLE_API_KEY" >"$folder/key.p8"
ditto -c -k "$program" "$folder/program.zip"
xcrun notarytool submit "$folder/program.zip" --wait \
    --key "$folder/key.p8" --key-id "$APPLE_API_KEY_ID" --issuer "$APPLE_API_ISSUER"
