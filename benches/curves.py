#!/usr/bin/env python3
"""How this server grows: latency and memory against sessions, waits, lines of a transcript, calls of a list.

    python3 benches/curves.py              everything, in a minute or so
    python3 benches/curves.py --quick      shorter curves, in seconds
    python3 benches/curves.py --check      ends badly where one grows worse than in proportion
    python3 benches/curves.py --only waits,list --json out.json --binary FILE

Each curve has a server of its own over /mcp, on the canned upstream of compare.py. Latency is the p50 of
one request at a time; the points of a curve take turns in rounds where they can, and each is the median
of its rounds. Needs what compare.py needs, without npm.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import processors
from compare import CALL, HTTP, ROOT, Running, canned_upstream, environment, memory
from driver import Modern, Session
from peers import say

# This server's own limits are not what is measured.
ROOMY = ["--max-sessions", "10000", "--max-sessions-per-tenant", "10000", "--max-streams-per-tenant", "20000"]
ROUNDS = 5
# A curve may be so much steeper than in proportion: timings are noisy.
SLACK = 1.5
# What memory grows by from page to page of the allocator says nothing about a curve.
NOISE_MB = 4


async def p50(client, calls):
    times = []
    for _ in range(calls):
        begun = time.perf_counter()
        await client.call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


def point(latency, pid):
    return {"p50_us": latency, "memory_mb": memory(pid) / 2**20}


async def in_rounds(running, clients, calls):
    """The points of a curve in which only the request differs, by turns."""
    rounds, memories = {number: [] for number in clients}, {}
    for number, client in clients.items():
        # The smallest first: memory that a larger one took is not given back.
        await p50(client, max(calls, 10))
        memories[number] = memory(running.process.pid) / 2**20
    for _ in range(ROUNDS):
        for number, client in clients.items():
            rounds[number].append(await p50(client, calls))
    return {
        number: {"p50_us": statistics.median(times), "memory_mb": memories[number]}
        for number, times in rounds.items()
    }


async def asking(running, tool, arguments):
    client = await Modern.connect(running.client.pool.address)
    client.call_with(tool, arguments)
    return client


async def sessions(running, numbers, calls):
    """A read in one session, while so many are open."""
    address, opened, found = running.client.pool.address, [], {}
    try:
        for number in numbers:
            while len(opened) < number:
                session = await Session.connect(address)
                await session.open()
                opened.append(session)
            opened[0].call_with("get_call_result", {"call_id": CALL, "wait_seconds": 0})
            await p50(opened[0], calls // 5 + 1)
            latency = statistics.median([await p50(opened[0], calls) for _ in range(ROUNDS)])
            found[number] = point(latency, running.process.pid)
    finally:
        for session in opened:
            session.close()
    return found


async def waits(running, numbers, calls):
    """A read, while so many wait for the ends of as many calls."""
    waiting, found = [], {}
    client = await Modern.connect(running.client.pool.address)
    try:
        for number in numbers:
            while len(waiting) < number:
                client.call_with("get_call_result", {"call_id": f"live-{len(waiting)}", "wait_seconds": 300})
                waiting.append(asyncio.create_task(client.call()))
                if len(waiting) % 50 == 0:
                    await asyncio.sleep(0.02)  # The backlog of a listener is short.
            await asyncio.sleep(1)
            await p50(running.client, calls // 5 + 1)
            latency = statistics.median([await p50(running.client, calls) for _ in range(ROUNDS)])
            found[number] = point(latency, running.process.pid)
            if ended := sum(task.done() for task in waiting):
                raise SystemExit(f"{ended} of {number} waits ended: {next(t for t in waiting if t.done())}")
    finally:
        for task in waiting:
            task.cancel()
        client.close()
    return found


async def pages(running, numbers, calls):
    """The first page, of 100 lines, of a transcript of so many lines, which the API gives whole."""
    arguments = lambda number: {"call_id": f"lines-{number}", "limit": 100}
    clients = {n: await asking(running, "get_call_transcript", arguments(n)) for n in numbers}
    return await in_rounds(running, clients, calls // 5 + 1)


async def results(running, numbers, calls):
    """The result of a call whose transcript has so many lines."""
    arguments = lambda number: {"call_id": f"lines-{number}", "wait_seconds": 0}
    clients = {n: await asking(running, "get_call_result", arguments(n)) for n in numbers}
    return await in_rounds(running, clients, calls)


async def lists(running, numbers, calls):
    """A list of so many calls; beyond a page of 100, a filter that looks through so many and finds none."""

    def arguments(number):
        return {"limit": number} if number <= 100 else {"direction": "inbound"}

    clients = {n: await asking(running, "list_calls", arguments(n)) for n in numbers}
    return await in_rounds(running, clients, calls // 5 + 1)


# What is counted, how it is measured, and at which points: all of them, and quickly.
CURVES = {
    "sessions": ("sessions", sessions, [1, 10, 100, 1_000, 2_000], [1, 10, 50]),
    "waits": ("waits", waits, [1, 10, 100, 1_000, 5_000], [1, 10, 50]),
    "pages": ("lines, a page", pages, [10, 100, 1_000, 10_000], [10, 100, 1_000]),
    "results": ("lines, the result", results, [10, 100, 1_000, 10_000], [10, 1_000]),
    "list": ("calls listed", lists, [10, 100, 1_000], [10, 100]),
}


def worse(found):
    """Where a curve grows worse than in proportion: from each point to each later one."""
    numbers, bad = sorted(found), []
    least = min(found[number]["memory_mb"] for number in numbers)
    for at, less in enumerate(numbers):
        for more in numbers[at + 1 :]:
            allowed = more / less * SLACK
            slower = found[more]["p50_us"] / found[less]["p50_us"]
            if slower > allowed:
                bad.append(f"p50 from {less} to {more}: {slower:.1f} times, and {allowed:.1f} are allowed")
            before, after = (found[number]["memory_mb"] - least for number in (less, more))
            if after > allowed * max(before, NOISE_MB):
                bad.append(f"memory from {less} to {more}: {before:.1f} MB more became {after:.1f}")
    return bad


def table(curves):
    lines = ["| Curve | Of | p50, us | memory, MB |", "|---|---:|---:|---:|"]
    for name, found in curves.items():
        for number, figures in found.items():
            lines.append(f"| {CURVES[name][0]} | {number:,} | {figures['p50_us']:.0f} | {figures['memory_mb']:.1f} |")
    return "\n".join(lines)


async def measure(names, binary, home, address, quick):
    curves = {}
    for name in names:
        _, run, full, short = CURVES[name]
        own = f"{home}/{name}"
        os.mkdir(own)
        say(name)
        async with Running([binary, *HTTP, *ROOMY], Modern, own, environment(own, address)) as running:
            await p50(running.client, 20 if quick else 500)
            curves[name] = await run(running, short if quick else full, 20 if quick else 200)
    return curves


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter curves, in seconds")
    parser.add_argument("--check", action="store_true", help="fail where one grows worse than in proportion")
    parser.add_argument("--only", metavar="NAMES", help="of: " + ",".join(CURVES))
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures here")
    parser.add_argument("--binary", metavar="FILE", type=Path, help="measure this one; default: build it")
    options = parser.parse_args()

    names = options.only.split(",") if options.only else list(CURVES)
    if unknown := set(names) - set(CURVES):
        parser.error("unknown: " + ", ".join(sorted(unknown)))
    # Each wait holds a connection at both ends.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if not options.binary:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        options.binary = ROOT / "target" / "release" / "callingbox-mcp"
    binary = str(options.binary.resolve())

    processors.take_ours()
    with tempfile.TemporaryDirectory(prefix="callingbox-bench-") as home:
        with canned_upstream(home) as address:
            curves = asyncio.run(measure(names, binary, home, address, options.quick))

    print(table(curves))
    bad = [f"{name}: {each}" for name, found in curves.items() for each in worse(found)]
    for each in bad:
        print(f"NOT MET {each}")
    if options.json:
        options.json.write_text(json.dumps({"curves": curves, "worse": bad}, indent=2) + "\n")
    sys.exit(bool(bad and options.check))


if __name__ == "__main__":
    main()
