#!/usr/bin/env python3
"""Writes start.ld anew: the functions that a start runs, for the linker to lay side by side.

    python3 link/start.py

Builds the program with its symbols, starts it under callgrind over standard input and output and over
HTTP, each until the tools are listed, and writes down what ran. Needs Rust, valgrind and binutils, on Linux;
ten minutes. To be run when benches/compare.py shows that the memory at idle has grown.
"""

import http.client
import json
import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "target" / "start"
HEAD = """\
/* What a start of the program runs, laid side by side (build.rs says why). Written by start.py: a name for each function,
   the same in every build: without its hash, and without those of the crates. A name that is there no more does no harm. */
SECTIONS
{
  .text.start :
  {
"""
TAIL = """\
  }
}
INSERT BEFORE .text;
"""
VERSION = "2025-11-25"
CLIENT = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "start", "version": "0"}}
MESSAGES = [
    {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
]


def over_stdio(process):
    for message in MESSAGES:
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        if "id" in message:
            assert b'"result"' in process.stdout.readline()


def over_http(process):
    listening = next(line for line in process.stdout if line.startswith(b"listening on http://"))
    connection = http.client.HTTPConnection(listening.decode().split("//")[1].split("/")[0])
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    for message in MESSAGES:
        connection.request("POST", "/mcp", json.dumps(message), headers)
        answer = connection.getresponse()
        if session := answer.getheader("mcp-session-id"):
            headers |= {"mcp-session-id": session, "mcp-protocol-version": VERSION}
        assert answer.status in (200, 202)
        answer.read()


def symbols(program):
    listed = subprocess.run(["nm", "--defined-only", program], check=True, capture_output=True, text=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}


def functions(program, arguments, drive):
    """The symbols of the program's own functions that ran, in no order."""
    with tempfile.TemporaryDirectory() as home:
        profile = f"{home}/profile"
        valgrind = ["valgrind", "--tool=callgrind", "--demangle=no", "--compress-strings=no"]
        environment = {
            "PATH": os.environ["PATH"], "HOME": home,
            "CALLINGBOX_API_KEY": "sk_start_0000", "CALLINGBOX_BASE_URL": "http://127.0.0.1:9",
        }
        with subprocess.Popen(
            [*valgrind, f"--callgrind-out-file={profile}", program, *arguments], env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:
            drive(process)
            process.send_signal(signal.SIGTERM)
        lines = Path(profile).read_text(errors="replace").splitlines()
    # A function that calls itself has its depth behind its name.
    return {line[3:].split("'")[0] for line in lines if line.startswith("fn=")}


def pattern(symbol):
    """The symbol as it is in every build, by the old mangling or the one of RFC 2603."""
    if symbol.startswith("_R"):
        symbol = re.sub(r"Cs[0-9A-Za-z]*_(?=\d)", "Cs*_", symbol)
        return re.sub(r"(\.llvm)?\.\d+$", "*", symbol)
    return re.sub(r"17h[0-9a-f]{16}E.*$", "17h*", symbol)


def main():
    build = ["cargo", "build", "--release", "--config", "profile.release.strip=false", "--target-dir", TARGET]
    subprocess.run(build, cwd=ROOT, check=True)
    program = str(TARGET / "release" / "callingbox-mcp")
    known = symbols(program)
    one = functions(program, ["stdio"], over_stdio)
    other = functions(program, ["http", "--listen", "127.0.0.1:0"], over_http)
    # First what both run, then what only one does.
    patterns = []
    for ran in (one & other, one - other, other - one):
        patterns += sorted({pattern(symbol) for symbol in ran & known} - set(patterns))
    lines = "".join(f"    *(.text*.{each})\n" for each in patterns)
    (ROOT / "link" / "start.ld").write_text(HEAD + lines + TAIL)
    print(f"{len(patterns)} names in link/start.ld")


if __name__ == "__main__":
    main()
