#!/usr/bin/env bash
# Builds the program of one platform as it is published, and leaves it in target/programs/TARGET/.
#
#   packaging/build.sh TARGET            a target of packaging/platforms.json
#   packaging/build.sh --check TARGET    only checks that the code compiles there, up to linking
#
# PROFILE names another cargo profile than dist. Linux programs are linked by zig: against glibc 2.17, which every
# distribution of the last ten years has, or static with musl. The Windows program is built by mingw-w64. The macOS
# program holds both processors and is built on a Mac, or elsewhere if SDKROOT names Apple's SDK.
#
# It installs what is missing (apt, pip, rustup). If the target's standard library or a tool cannot be had, it prints
# `unavailable: REASON` and exits with 3; a build that fails exits with cargo's code.
set -euo pipefail
cd "$(dirname "$0")/.."
check=
[ "${1:-}" = --check ] && check=yes && shift
target=${1:?usage: packaging/build.sh [--check] TARGET}
profile=${PROFILE:-dist}
grep -qF "\"$target\"" packaging/platforms.json || { echo "unknown target $target" >&2; exit 2; }

unavailable() { echo "unavailable: $*"; exit 3; }

standard_library() { # standard_library TARGET
    [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && return
    command -v rustup >/dev/null || unavailable "the standard library for $1 is not installed, and there is no rustup"
    timeout 300 rustup --quiet target add "$1" || unavailable "rustup cannot install the standard library for $1"
}

tools=target/packaging/zig
zig() { # Puts zig and cargo-zigbuild on the path.
    local versions="ziglang==0.17.1 cargo-zigbuild==0.24.1"
    if [ "$(cat "$tools/versions" 2>/dev/null)" != "$versions" ]; then
        rm -rf "$tools"
        python3 -m venv "$tools" || unavailable "python3 has no venv"
        # shellcheck disable=SC2086 # two words
        "$tools/bin/pip" install --quiet --disable-pip-version-check $versions || unavailable "pip cannot install zig"
        echo "$versions" >"$tools/versions"
    fi
    PATH=$PWD/$tools/bin:$PATH
}

binary=callingbox-mcp
build() { # build COMMAND CARGO_TARGET
    if [ -n "$check" ]; then
        case $1 in
            zigbuild) cargo-zigbuild check --locked --target "$2" --lib --bins ;;
            *) cargo check --locked --target "$2" --lib --bins ;;
        esac
    else
        cargo "$1" --locked --profile "$profile" --target "$2" --bin callingbox-mcp
    fi
}
built() { # built TARGET: where cargo leaves the program
    local folder=$profile
    [ "$profile" = dev ] && folder=debug
    echo "${CARGO_TARGET_DIR:-target}/$1/$folder/$binary"
}

programs=target/programs/$target
mkdir -p "$programs"
case $target in
    *-linux-gnu)
        standard_library "$target"
        zig
        build zigbuild "$target.2.17"
        ;;
    *-linux-musl)
        standard_library "$target"
        zig
        build zigbuild "$target"
        ;;
    *-windows-gnu)
        standard_library "$target"
        command -v x86_64-w64-mingw32-gcc >/dev/null ||
            { apt-get update -qq && apt-get install -y -qq gcc-mingw-w64-x86-64 >/dev/null; } ||
            unavailable "apt cannot install gcc-mingw-w64-x86-64"
        binary=callingbox-mcp.exe
        build build "$target"
        ;;
    universal-apple-darwin)
        standard_library aarch64-apple-darwin
        standard_library x86_64-apple-darwin
        if [ "$(uname -s)" = Darwin ]; then
            build build aarch64-apple-darwin
            build build x86_64-apple-darwin
        elif [ -n "$check" ] || [ -n "${SDKROOT:-}" ]; then
            zig
            build zigbuild aarch64-apple-darwin
            build zigbuild x86_64-apple-darwin
        else
            unavailable "a macOS program is linked on a Mac, or with Apple's SDK in SDKROOT"
        fi
        [ -n "$check" ] || lipo -create -output "$programs/$binary" "$(built aarch64-apple-darwin)" "$(built x86_64-apple-darwin)"
        ;;
esac
[ -n "$check" ] && exit 0
[ "$target" = universal-apple-darwin ] || cp "$(built "$target")" "$programs/$binary"
ls -l "$programs/$binary"
