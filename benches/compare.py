#!/usr/bin/env python3
"""Compares this server with two others that a user could take instead, in one run.

    python3 benches/compare.py             everything; installs the other servers below target/bench
    python3 benches/compare.py --quick     this server alone, in seconds
    python3 benches/compare.py --json figures.json

All servers read the same call from the same canned API (upstream.rs), driven by this process (clients.py). They take
turns in rounds, so that a slow moment of the machine affects all of them, and each figure is the median of the rounds.
Compare figures within one run, not between runs. Needs Linux, Python 3.11, Rust, and npm for one server.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from contextlib import AsyncExitStack
from pathlib import Path

from clients import BenchError
from servers import CALL_ID, OTHERS, OURS, built_binary, canned_upstream, log, resident_bytes, started

CONCURRENCY = 50

# In each round, so many calls one after the other, and so many seconds of concurrent ones.
Sizes = namedtuple("Sizes", "starts rounds calls seconds")
FULL = Sizes(starts=5, rounds=5, calls=500, seconds=2.0)
QUICK = Sizes(starts=2, rounds=2, calls=50, seconds=0.3)


async def time_calls(client, count):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await client.call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


async def count_calls(client, seconds):
    done, begun = 0, time.perf_counter()

    async def worker():
        nonlocal done
        while time.perf_counter() < begun + seconds:
            await client.call()
            done += 1

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return done / (time.perf_counter() - begun)


async def measure_start(name, binary, upstream, starts):
    seconds, memory, client = [], [], None
    for _ in range(starts):
        async with started(name, binary, upstream) as client:
            await asyncio.sleep(0.5)
            seconds.append(client.start_seconds)
            memory.append(resident_bytes(client.pid))
    return {
        "start_ms": statistics.median(seconds) * 1e3,
        "idle_mb": statistics.median(memory) / 2**20,
        "tools": len(client.tools),
        "list_bytes": len(json.dumps(client.tools, separators=(",", ":"), ensure_ascii=False).encode()),
    }


async def measure(names, binary, upstream, sizes):
    """The figures of each server, or the reason why it was skipped."""
    figures, clients, rounds = {}, {}, {}
    async with AsyncExitStack() as stack:
        for name in names:
            try:
                log(f"{name}: starting")
                figures[name] = await measure_start(name, binary, upstream, sizes.starts)
                clients[name] = await stack.enter_async_context(started(name, binary, upstream))
                await clients[name].check_call(CALL_ID)
                await count_calls(clients[name], sizes.seconds / 2)
                rounds[name] = ([], [])
            except (BenchError, OSError, TimeoutError, subprocess.SubprocessError) as error:
                figures[name] = {"skipped": f"{type(error).__name__}: {error}"}
                clients.pop(name, None)
        for number in range(sizes.rounds):
            log(f"round {number + 1} of {sizes.rounds}")
            for name, client in clients.items():
                rounds[name][0].append(await time_calls(client, sizes.calls if name in OURS else sizes.calls // 5))
            for name, client in clients.items():
                rounds[name][1].append(await count_calls(client, sizes.seconds))
        for name, client in clients.items():
            latencies, rates = rounds[name]
            figures[name] |= {"p50_us": statistics.median(latencies), "calls_per_second": statistics.median(rates)}
            figures[name]["used_mb"] = resident_bytes(client.pid) / 2**20
    return figures


COLUMNS = {
    "start to tools/list, ms": ("start_ms", "{:.1f}"),
    "p50, us": ("p50_us", "{:.0f}"),
    f"calls/s at {CONCURRENCY}": ("calls_per_second", "{:.0f}"),
    "idle, MB": ("idle_mb", "{:.1f}"),
    "after, MB": ("used_mb", "{:.1f}"),
    "tools": ("tools", "{}"),
    "tools/list, bytes": ("list_bytes", "{}"),
}


def format_table(figures):
    lines = ["| Server | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, of in figures.items():
        if "skipped" not in of:
            lines.append(f"| {name} | " + " | ".join(form.format(of[key]) for key, form in COLUMNS.values()) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="this server alone, in seconds")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument("--binary", metavar="FILE", type=Path, help="measure this program; default: build it")
    options = parser.parse_args()
    names = [*OURS, *([] if options.quick else OTHERS)]
    binary = built_binary(options.binary)
    with canned_upstream() as upstream:
        figures = asyncio.run(measure(names, binary, upstream, QUICK if options.quick else FULL))
    print(format_table(figures))
    for name, of in figures.items():
        if "skipped" in of:
            print(f"skipped {name}: {of['skipped']}")
    if options.json:
        options.json.write_text(json.dumps({"servers": figures}, indent=2) + "\n")
    # Another server may be missing, this one may not.
    sys.exit(any("skipped" in of and name in OURS for name, of in figures.items()))


if __name__ == "__main__":
    main()
