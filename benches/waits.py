#!/usr/bin/env python3
"""Measures how the latency of a read and the memory of the server grow with the number of waiting requests.

    python3 benches/waits.py              up to 5,000 waits, in a minute or so
    python3 benches/waits.py --quick      up to 100 waits, in seconds
    python3 benches/waits.py --check      fail where a figure grows faster than the number of waits

Each wait is a `get_call_result` with `wait_seconds` 300 for a live call of its own, over /mcp (2026-07-28).
"""

import argparse
import asyncio
import json
import resource
import statistics
import sys
from pathlib import Path

from clients import StatelessClient
from compare import time_calls
from servers import built_binary, canned_upstream, resident_bytes, started

FULL, QUICK = [1, 10, 100, 1_000, 5_000], [1, 10, 100]
LIMITS = ["--max-sessions", "10000", "--max-sessions-per-tenant", "10000", "--max-streams-per-tenant", "20000"]
ROUNDS = 5
# Timings are noisy, and the allocator takes memory in large steps.
SLACK, NOISE_MB = 1.5, 4


async def measure(binary, upstream, numbers):
    points, waiting = {}, []
    async with started("http-2026", binary, upstream, LIMITS) as client:
        waits = await StatelessClient.connect(client.pool.address)
        try:
            for number in numbers:
                while len(waiting) < number:
                    waits.prepare_call("get_call_result", {"call_id": f"live-{len(waiting)}", "wait_seconds": 300})
                    waiting.append(asyncio.create_task(waits.call()))
                    if len(waiting) % 50 == 0:
                        await asyncio.sleep(0.02)  # The backlog of a listener is short.
                await asyncio.sleep(1)
                latency = statistics.median([await time_calls(client, 100) for _ in range(ROUNDS)])
                points[number] = {"p50_us": latency, "memory_mb": resident_bytes(client.pid) / 2**20}
                if ended := sum(task.done() for task in waiting):
                    raise SystemExit(f"{ended} of {number} waits ended early")
        finally:
            for task in waiting:
                task.cancel()
            waits.close()
    return points


def find_excess(points):
    """Where a figure grows faster than the number of waits, from each point to each later one."""
    excess, numbers = [], sorted(points)
    least = min(point["memory_mb"] for point in points.values())
    for at, few in enumerate(numbers):
        for many in numbers[at + 1 :]:
            allowed = many / few * SLACK
            if points[many]["p50_us"] > allowed * points[few]["p50_us"]:
                excess.append(f"p50 from {few} to {many} waits")
            before, after = (points[number]["memory_mb"] - least for number in (few, many))
            if after > allowed * max(before, NOISE_MB):
                excess.append(f"memory from {few} to {many} waits")
    return excess


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 100 waits, in seconds")
    parser.add_argument("--check", action="store_true", help="fail where a figure grows faster than the waits")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures to this file")
    parser.add_argument("--binary", metavar="FILE", type=Path, help="measure this program; default: build it")
    options = parser.parse_args()
    # Each wait holds a connection at both ends.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    binary = built_binary(options.binary)
    with canned_upstream() as upstream:
        points = asyncio.run(measure(binary, upstream, QUICK if options.quick else FULL))
    print("| Waits | p50, us | memory, MB |\n|---:|---:|---:|")
    for number, point in points.items():
        print(f"| {number:,} | {point['p50_us']:.0f} | {point['memory_mb']:.1f} |")
    excess = find_excess(points)
    for each in excess:
        print(f"NOT MET: {each}")
    if options.json:
        options.json.write_text(json.dumps({"points": points, "excess": excess}, indent=2) + "\n")
    sys.exit(bool(excess and options.check))


main()
