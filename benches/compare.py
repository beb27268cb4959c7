#!/usr/bin/env python3
"""Measures this server, the servers a user could pick instead, and no server at all, in one run.

    python3 benches/compare.py             everything; installs the peers under target/bench
    python3 benches/compare.py --quick     this server alone, in seconds
    python3 benches/compare.py --only direct,stdio --json out.json

All read the same call from the same canned upstream (upstream.rs), driven by this one process
(driver.py). The targets take turns in rounds, so that a slow moment of the machine falls on all of
them, and each figure is the median of its rounds. Compare figures within a run, never between runs.
Needs Python 3.11 and Rust; npm for one peer. Linux, for memory is read from /proc.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import processors
from driver import Direct, Failed, Modern, Opened, Ordinary, Pipe, Session, Socket, Sse, Stdio
from peers import PEERS, WORK, Skipped, say, tokens_of

ROOT = Path(__file__).resolve().parent.parent
CALL = json.loads((ROOT / "benches" / "call.json").read_text())["id"]
KEY = "sk_bench_0000"
PATIENCE = 60
# This server's own limits are not what is measured.
HTTP = ["http", "--listen", "127.0.0.1:0", "--requests-per-second", "1000000"]
# No server between: the HTTP client that this server uses, which is the limit; an ordinary one; and the
# bare socket of driver.py and `cat`, which are what the machine and this driver give.
DIRECT = {"direct": Direct, "http.client": Ordinary, "socket": Socket, "cat": Pipe}
OURS = {"stdio": (["stdio"], Stdio), "mcp-2026": (HTTP, Modern), "mcp-2025": (HTTP, Session), "sse": (HTTP, Sse)}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    starts: int
    peer_starts: int
    rounds: int
    calls: int  # one at a time, in each round
    seconds: float  # of 50 at once, in each round
    total: int  # calls before memory is read again


FULL = Sizes(starts=15, peer_starts=5, rounds=5, calls=600, seconds=2.0, total=10_000)
QUICK = Sizes(starts=2, peer_starts=1, rounds=2, calls=100, seconds=0.3, total=500)


@dataclass
class Target:
    """One way to read a call, and what was measured of it."""

    name: str
    start: object  # () -> an opened client, for a `with`
    peer: bool = False
    alone: bool = False  # it can do one call at a time only
    figures: dict = field(default_factory=dict)
    rounds: dict = field(default_factory=lambda: {"p50": [], "p99": [], "rate": [], "p99_at_50": []})
    done: int = 0
    client: object = None
    pid: int = 0


class Running:
    """A started server with an opened client; ends both."""

    def __init__(self, command, kind, home, environment, address=None):
        self.command, self.kind, self.home, self.environment = command, kind, home, environment
        self.address, self.client, self.process = address, None, None

    async def __aenter__(self):
        self.begun = time.perf_counter()
        stdio = self.kind is Stdio
        self.process = processors.start(
            self.command, cwd=self.home, env=self.environment, start_new_session=True,
            stdin=subprocess.PIPE if stdio else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if self.address else subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                where = self.process if stdio else await asyncio.to_thread(self.listening)
                self.client = await self.kind.connect(where)
                await self.client.open()
                self.initialized = time.perf_counter() - self.begun
                self.tools = await self.client.tools()
                self.listed = time.perf_counter() - self.begun
                self.client.call_with(*the_read(self.tools))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def listening(self):
        """Where it listens, once it does."""
        while self.address and self.process.poll() is None:
            try:
                socket.create_connection(self.address.split(":")).close()
                return self.address
            except ConnectionRefusedError:
                time.sleep(0.001)
        for line in self.process.stdout or []:
            if line.startswith(b"listening on http://"):
                return line.decode().split("//")[1].split("/")[0]
        raise Failed("the server ended before it listened")

    async def __aexit__(self, *_):
        if self.client:
            self.client.close()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def the_read(tools):
    """The tool that reads a call, and its arguments: each server names them in its own way."""
    plain = lambda text: "".join(c for c in text.lower() if c.isalnum())
    for wanted in ("getcallresult", "getcall"):
        for tool in tools:
            if plain(tool["name"]).endswith(wanted):
                properties = tool["inputSchema"]["properties"]
                arguments = {name: CALL for name in properties if name in ("id", "call_id")}
                if "wait_seconds" in properties:
                    arguments["wait_seconds"] = 0
                return tool["name"], arguments
    raise Failed("it has no tool that reads a call: " + ", ".join(tool["name"] for tool in tools))


def memory(pid):
    """Resident memory of a process and its descendants, in bytes."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(memory(int(child)) for child in (task / "children").read_text().split())
    except FileNotFoundError:
        pass  # It ended while it was looked at.
    return total


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))]


async def one_at_a_time(target, calls):
    times = []
    async with asyncio.timeout(PATIENCE):
        if isinstance(target.client, Direct):
            return (await target.client.calls(calls, 1, PATIENCE))[1]
        for _ in range(calls):
            begun = time.perf_counter()
            await target.client.call()
            times.append(time.perf_counter() - begun)
    target.done += calls
    return times


async def many_at_once(target, at_once=50, seconds=None, calls=None):
    """The rate of calls, and the time of each; ends after `seconds` or about `calls`."""
    if isinstance(target.client, Direct):
        took, times = await target.client.calls(calls or 2**32, at_once, seconds or PATIENCE)
        return len(times) / took, times
    times, begun = [], time.perf_counter()
    left = [calls if calls is not None else sys.maxsize]
    end = begun + seconds if seconds is not None else float("inf")

    async def worker():
        while left[0] > 0 and (start := time.perf_counter()) < end:
            left[0] -= 1
            await target.client.call()
            times.append(time.perf_counter() - start)

    async with asyncio.timeout((seconds or 300) + PATIENCE), asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(worker())
    target.done += len(times)
    return len(times) / (time.perf_counter() - begun), times


async def one_round_alone(target, sizes):
    # A peer is several times slower; a fifth of the calls takes it as long.
    times = await one_at_a_time(target, sizes.calls // (5 if target.peer else 1))
    target.rounds["p50"].append(percentile(times, 0.5) * 1e6)
    target.rounds["p99"].append(percentile(times, 0.99) * 1e6)


async def one_round_of_many(target, sizes):
    if not target.alone:
        rate, times = await many_at_once(target, seconds=sizes.seconds)
        target.rounds["rate"].append(rate)
        target.rounds["p99_at_50"].append(percentile(times, 0.99) * 1e6)


async def starts(target, number):
    to_initialize, to_list = [], []
    for _ in range(number):
        async with target.start() as running:
            to_initialize.append(running.initialized)
            to_list.append(running.listed)
    target.figures["start_to_initialize_ms"] = statistics.median(to_initialize) * 1e3
    target.figures["start_to_list_ms"] = statistics.median(to_list) * 1e3


async def idle(target, number):
    """Where a program lies in memory is another at each start, and with it how much of its file is mapped."""
    found = []
    for _ in range(number):
        async with target.start() as running:
            await asyncio.sleep(0.5)
            found.append(memory(running.process.pid))
    target.figures["memory_idle_mb"] = statistics.median(found) / 2**20


async def measure(targets, sizes):
    async with AsyncExitStack() as stack:
        alive = []
        for target in targets:
            try:
                if target.name not in DIRECT:
                    say(f"{target.name}: starts")
                    await starts(target, sizes.peer_starts if target.peer else sizes.starts)
                    await idle(target, sizes.peer_starts)
                running = await stack.enter_async_context(target.start())
                target.client = running.client
                if target.name not in DIRECT:
                    target.pid = running.process.pid
                    tools = json.dumps(running.tools, separators=(",", ":"), ensure_ascii=False)
                    target.figures["tools"] = len(running.tools)
                    target.figures["output_schemas"] = sum("outputSchema" in tool for tool in running.tools)
                    target.figures["list_bytes"] = len(tools.encode())
                    target.figures["list_tokens"] = tokens_of(tools)
                await target.client.check(CALL)
                await many_at_once(target, at_once=1 if target.alone else 50, calls=sizes.calls // 2)
                alive.append(target)
            except (Exception, ExceptionGroup) as error:
                target.figures["skipped"] = f"{type(error).__name__}: {error}"
                say(f"{target.name} is skipped: {target.figures['skipped']}")
        for number in range(sizes.rounds):
            say(f"round {number + 1} of {sizes.rounds}")
            for phase in (one_round_alone, one_round_of_many):
                for target in [target for target in alive if "skipped" not in target.figures]:
                    try:
                        await phase(target, sizes)
                    except (Exception, ExceptionGroup) as error:
                        target.figures["skipped"] = f"round {number + 1}: {type(error).__name__}: {error}"
                        say(f"{target.name} is skipped: {target.figures['skipped']}")
        alive = [target for target in alive if "skipped" not in target.figures]
        for target in alive:
            for name, values in target.rounds.items():
                unit = {"rate": "rate_at_50"}.get(name, name + "_us")
                if values:
                    target.figures[unit] = statistics.median(values)
            if target.pid:
                missing = max(0, sizes.total - target.done)
                if missing:
                    say(f"{target.name}: {missing} more calls")
                    # The slowest would take minutes; `calls` says how many it was.
                    await many_at_once(target, calls=missing, seconds=60)
                target.figures["calls"] = target.done
                target.figures["memory_after_mb"] = memory(target.pid) / 2**20


COLUMNS = [
    ("to initialize, ms", "start_to_initialize_ms", "{:.1f}"),
    ("to tools/list, ms", "start_to_list_ms", "{:.1f}"),
    ("p50, us", "p50_us", "{:.0f}"),
    ("p99, us", "p99_us", "{:.0f}"),
    ("calls/s at 50", "rate_at_50", "{:.0f}"),
    ("p99 at 50, us", "p99_at_50_us", "{:.0f}"),
    ("idle, MB", "memory_idle_mb", "{:.1f}"),
    ("after, MB", "memory_after_mb", "{:.1f}"),
    ("calls", "calls", "{}"),
    ("tools", "tools", "{}"),
    ("list, bytes", "list_bytes", "{}"),
    ("list, tokens", "list_tokens", "{}"),
]


def table(targets):
    show = lambda figures, key, form: "-" if figures.get(key) is None else form.format(figures[key])
    rows = [["", *(title for title, _, _ in COLUMNS)]]
    for target in targets:
        if "skipped" not in target.figures:
            rows.append([target.name, *(show(target.figures, key, form) for _, key, form in COLUMNS)])
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.rjust(w) for cell, w in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (w + 1) + ":" for w in widths) + "|")
    return "\n".join(lines)


def goals(targets):
    """Each goal: the figure, what it may be, and whether it is met; only those that can be said. What has no
    bound is a comparison and no goal."""
    by = {target.name: target.figures for target in targets if "skipped" not in target.figures}
    peers = {target.name: by[target.name] for target in targets if target.peer and target.name in by}
    http = {name: figures for name, figures in peers.items() if name.endswith("-http")}

    def goal(text, ours, other, key, least=None, most=None):
        pick = {"best": max, "best over HTTP": max, "least": min}
        others = {"best": peers, "best over HTTP": http, "least": peers}.get(other, {other: by.get(other, {})}).values()
        values = [figures[key] for figures in others if key in figures]
        if not values or key not in by.get(ours, {}):
            return
        value = by[ours][key] / pick.get(other, min)(values)
        met, bound = None, None
        if least is not None:
            met, bound = value >= least, f"at least {least}"
        if most is not None:
            met, bound = value <= most, f"at most {most:.3g}"
        found.append({"goal": text, "value": round(value, 4), "bound": bound, "met": met})

    found = []
    goal("p50, stdio / direct", "stdio", "direct", "p50_us", most=1.7)
    goal("p50, /mcp 2026-07-28 / direct", "mcp-2026", "direct", "p50_us", most=3)
    goal("calls/s at 50, /mcp / direct", "mcp-2026", "direct", "rate_at_50", least=0.25)
    goal("calls/s at 50, /mcp / best peer", "mcp-2026", "best", "rate_at_50", least=5)
    goal("start to tools/list, stdio / fastest peer", "stdio", "least", "start_to_list_ms", most=1 / 20)
    goal("memory idle, stdio / smallest peer", "stdio", "least", "memory_idle_mb", most=1 / 6)
    goal("tools/list bytes, ours / smallest peer", "stdio", "least", "list_bytes", most=1)
    goal("p50, stdio / http.client", "stdio", "http.client", "p50_us")
    goal("p50, /mcp 2026-07-28 / http.client", "mcp-2026", "http.client", "p50_us")
    goal("calls/s at 50, /mcp / best peer over /mcp", "mcp-2026", "best over HTTP", "rate_at_50")
    goal("calls/s at 50, stdio / best peer", "stdio", "best", "rate_at_50")
    return found


@contextmanager
def canned_upstream(home):
    """The canned upstream, while it runs: its address."""
    # Built anew each time: it takes a second, and is then never stale.
    program = f"{home}/upstream"
    source = ROOT / "benches" / "upstream.rs"
    subprocess.run(["rustc", "-O", "--edition", "2024", "-o", program, source], check=True)
    with subprocess.Popen([program], stdout=subprocess.PIPE) as running:
        try:
            yield running.stdout.readline().decode().strip()
        finally:
            running.kill()


def environment(home, upstream):
    return {
        "PATH": os.environ["PATH"], "HOME": home,
        "XDG_CONFIG_HOME": f"{home}/config", "XDG_DATA_HOME": f"{home}/data",
        "CALLINGBOX_API_KEY": KEY, "CALLINGBOX_BASE_URL": f"http://{upstream}",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="this server alone, in seconds")
    parser.add_argument("--only", metavar="NAMES", help="of: " + ",".join([*DIRECT, *OURS, *PEERS]))
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all figures here")
    parser.add_argument("--binary", metavar="FILE", type=Path, help="measure this one; default: build it")
    parser.add_argument(
        "--direct", metavar="FILE", type=Path,
        help="the example `direct`, built like the binary; default: beside it, in examples/",
    )
    options = parser.parse_args()

    names = [*DIRECT, *OURS, *([] if options.quick else PEERS)]
    if options.only:
        wanted = options.only.split(",")
        if unknown := set(wanted) - {*DIRECT, *OURS, *PEERS}:
            parser.error("unknown: " + ", ".join(sorted(unknown)))
        names = wanted
    WORK.mkdir(parents=True, exist_ok=True)
    if not options.binary:
        # Apart: an example brings what only the tests want of the dependencies, and that would be measured too.
        for what in (["--bin", "callingbox-mcp"], ["--example", "direct"]):
            subprocess.run(["cargo", "build", "--release", *what], cwd=ROOT, check=True)
        options.binary = ROOT / "target" / "release" / "callingbox-mcp"
    # Built as the server was, or else the two could not be compared.
    direct = options.direct or options.binary.parent / "examples" / "direct"
    binary = str(options.binary.resolve())

    processors.take_ours()
    with tempfile.TemporaryDirectory(prefix="callingbox-bench-") as home:
        with canned_upstream(home) as address:
            targets = []
            for name in names:
                if name in DIRECT:
                    first = [str(direct)] if DIRECT[name] is Direct else []
                    run = lambda kind=DIRECT[name], first=first: Opened(kind, *first, address, CALL, KEY)
                    targets.append(Target(name, run, alone=DIRECT[name] is Ordinary))
                elif name in OURS:
                    arguments, kind = OURS[name]
                    own = f"{home}/{name}"
                    os.mkdir(own)
                    run = lambda command=[binary, *arguments], kind=kind, own=own: Running(
                        command, kind, own, environment(own, address)
                    )
                    targets.append(Target(name, run))
                else:
                    try:
                        peer = PEERS[name](address, KEY)
                    except (Skipped, OSError, subprocess.SubprocessError) as error:
                        targets.append(Target(name, None, True, figures={"skipped": str(error)}))
                        say(f"{name} is skipped: {error}")
                        continue
                    run = lambda peer=peer: Running(
                        peer.command, peer.client, home,
                        environment(home, address) | peer.environment, peer.address,
                    )
                    targets.append(Target(name, run, True))
            asyncio.run(measure([t for t in targets if "skipped" not in t.figures], QUICK if options.quick else FULL))

    met = goals(targets)
    print(table(targets))
    for target in targets:
        if "skipped" in target.figures:
            print(f"skipped {target.name}: {target.figures['skipped']}")
    for each in met:
        if each["bound"]:
            print(f"{'met    ' if each['met'] else 'NOT MET'} {each['goal']}: {each['value']} ({each['bound']})")
        else:
            print(f"besides {each['goal']}: {each['value']}")
    if options.json:
        figures = {target.name: {**target.figures, "rounds": target.rounds} for target in targets}
        options.json.write_text(json.dumps({"targets": figures, "goals": met}, indent=2) + "\n")
    # A peer may be missing; this server and the upstream may not.
    sys.exit(any("skipped" in target.figures and not target.peer for target in targets))


if __name__ == "__main__":
    main()
