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
# It installs what is missing (apt, pip, rustup). The target's standard library is an installed one, else that of rustup,
# else it is compiled by Debian's compiler from Debian's package rust-src, both unpacked into a folder
# (STANDARD_LIBRARY=debian takes this way in any case). If a tool cannot be had, it prints `unavailable: REASON` and exits
# with 3; a build that fails exits with cargo's code.
set -euo pipefail
cd "$(dirname "$0")/.."
check=
[ "${1:-}" = --check ] && check=yes && shift
target=${1:?usage: packaging/build.sh [--check] TARGET}
profile=${PROFILE:-dist}
grep -qF "\"$target\"" packaging/platforms.json || { echo "unknown target $target" >&2; exit 2; }

unavailable() { echo "unavailable: $*"; exit 3; }

# Bash of macOS takes an empty list for an unset variable, hence the + below.
std_flags=()
standard_library() { # standard_library TARGET
    if [ "${STANDARD_LIBRARY:-}" != debian ]; then
        [ -d "$(rustc --print sysroot)/lib/rustlib/$1/lib" ] && return
        command -v rustup >/dev/null && timeout 300 rustup --quiet target add "$1" && return
    fi
    debian_compiler "$1"
}

debian_compiler() { # Sets RUSTC to Debian's compiler, which compiles the standard library too.
    local folder=$PWD/target/packaging/debian-rust reason="neither rustup nor Debian has the standard library for $1"
    [ "$(uname -m)" = x86_64 ] && command -v apt-get dpkg-deb >/dev/null || unavailable "$reason"
    if [ ! -e "$folder/rustc" ]; then
        rm -rf "$folder"
        mkdir -p "$folder"/apt/{lists,archives}/partial "$folder/packages" "$folder/root"
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main" >"$folder/apt/list"
        # Another release than this machine's: with lists of its own, and nothing of it is installed.
        local apt=(-qq -o "Dir::Etc::SourceList=$folder/apt/list" -o Dir::Etc::SourceParts=/dev/null
            -o "Dir::State::Lists=$folder/apt/lists" -o "Dir::Cache=$folder/apt" -o APT::Sandbox::User=root)
        timeout 300 apt-get "${apt[@]}" update || unavailable "$reason"
        local only=(--recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances)
        local names
        names=$(apt-cache "${apt[@]}" depends "${only[@]}" rustc rust-src |
            grep -xE 'rustc|rust-src|libstd-rust-dev|lib[^:]*[0-9]|zlib1g' | sort -u)
        # shellcheck disable=SC2086 # one word for each package
        (cd "$folder/packages" && timeout 600 apt-get "${apt[@]}" download $names) || unavailable "$reason"
        for package in "$folder"/packages/*.deb; do dpkg-deb --extract "$package" "$folder/root"; done
        rm -rf "$folder/packages" "$folder/apt"
        # By its own loader, because this machine's C library may be older.
        cat >"$folder/rustc" <<SH
#!/bin/sh
exec "$folder/root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$folder/root/usr/lib/x86_64-linux-gnu:$folder/root/usr/lib" \\
    --argv0 rustc "$folder/root/usr/bin/rustc" --sysroot "$folder/root/usr" "\$@"
SH
        chmod +x "$folder/rustc"
    fi
    export RUSTC=$folder/rustc RUSTC_BOOTSTRAP=1
    std_flags=(-Zbuild-std=std,panic_unwind)
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
            zigbuild) cargo-zigbuild check ${std_flags[@]+"${std_flags[@]}"} --locked --target "$2" --lib --bins ;;
            *) cargo check ${std_flags[@]+"${std_flags[@]}"} --locked --target "$2" --lib --bins ;;
        esac
    else
        cargo "$1" ${std_flags[@]+"${std_flags[@]}"} --locked --profile "$profile" --target "$2" --bin callingbox-mcp
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
