#!/usr/bin/env python3
"""Measures a batch of 500 people on the simulator: processor time of the start, memory of each row, requests to CallingBox,
processor time of a report.

    python3 benches/batch.py [--binary PROGRAM]

The server and the simulator are two processes, and the figures are those of the server.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

from servers import built_binary, resident_bytes, started

PEOPLE = 500
KEY = "sk_sandbox_callingbox_mcp"
RULES = '[limits]\nper_hour = "off"\nper_day = "off"\nspend_per_day = "off"\nbatch_size = 500\nconcurrent = %d\n'


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Simulator:
    def __init__(self, binary):
        command = [binary, "sandbox", "--listen", "127.0.0.1:0", "--manual", "--credit", "100000.00"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().removeprefix("listening on ").strip()

    def request(self, method, path, body=None):
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers, method=method)) as response:
            return json.load(response)

    async def advance(self, seconds):
        self.request("POST", "/sandbox/clock", {"advance_seconds": seconds})
        await asyncio.sleep(0.3)

    def reads(self):
        entries = self.request("GET", "/sandbox/requests")["data"]
        return sum(entry["count"] for entry in entries if entry["method"] == "GET")


def numbers(count, first):
    codes = [201, 202, 203, 205, 206]
    return [f"+1{codes[index // 100]}555{first + index % 100:04}" for index in range(count)]


def list_people(first):
    return [{"to": to, "name": "Ada Lovelace", "context": {"time": "10:30"}} for to in numbers(PEOPLE, first)]


async def measure(simulator, client, rules):
    async def call(tool, **arguments):
        result = await client.send_request("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise SystemExit(result["content"][0]["text"])
        return result["structuredContent"]

    pid = client.pid
    offers = await call("search_numbers", area_code="415")
    bought = await call("purchase_number", phone_number=offers["numbers"][0]["phone_number"])
    agent = await call(
        "create_agent", name="Bench", type="outbound", persona="You are Mia.", instructions="Ask.",
        returns={"confirmed": "boolean"}, number_ids=[bought["number"]["number_id"]],
    )  # fmt: skip
    task = {"agent_id": agent["agent_id"], "instructions": "Confirm {name} at {time}."}
    memory, spent = resident_bytes(pid), processor_seconds(pid)
    started_batch = await call("place_calls", people=list_people(200), **task)
    print(f"start of {PEOPLE} people: {processor_seconds(pid) - spent:.2f} s of processor time")
    # As many calls as people from now on; the start is measured with the limit that is shipped.
    rules.write_text(RULES % PEOPLE)
    reads, report = simulator.reads(), {"state": "running"}
    while report["state"] != "ended":
        await simulator.advance(30)
        report = await call("get_batch", batch_id=started_batch["batch_id"])
    print(f"outcomes: {report['outcomes']}")
    print(f"requests to read calls, for each call: {(simulator.reads() - reads) / PEOPLE:.2f}")
    print(f"memory of a row: {max(0, resident_bytes(pid) - memory) / PEOPLE / 1024:.1f} KiB")
    spent, reports = processor_seconds(pid), 20
    for _ in range(reports):
        await call("get_batch", batch_id=started_batch["batch_id"])
    print(f"report of 100 rows: {(processor_seconds(pid) - spent) / reports * 1000:.0f} ms of processor time")

    reads, waits = simulator.reads(), []
    for to in numbers(100, 400):
        placed = await call("place_call", agent_id=agent["agent_id"], to=to)
        waits.append(asyncio.create_task(call("get_call_result", call_id=placed["call_id"], wait_seconds=300)))
    for _ in range(20):
        await simulator.advance(30)
    await asyncio.gather(*waits)
    print(f"the same for single calls with a wait each: {(simulator.reads() - reads) / len(waits):.2f}")

    now = datetime.fromisoformat(simulator.request("GET", "/sandbox/clock")["now"])
    later = (now + timedelta(hours=20)).isoformat()
    waiting = []
    for first in range(500, 1000, 100):
        await call("place_calls", people=list_people(first), start_at=later, **task)
        await asyncio.sleep(1)
        waiting.append(resident_bytes(pid))
    print(f"memory of a row that waits: {(waiting[-1] - waiting[0]) / 4 / PEOPLE / 1024:.1f} KiB")


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", type=Path)
    binary = built_binary(parser.parse_args().binary)
    simulator = Simulator(binary)
    with tempfile.TemporaryDirectory() as folder:
        rules, config = Path(folder, "policy.toml"), Path(folder, "config.toml")
        rules.write_text(RULES % 5)
        config.write_text(f"policy_file = {json.dumps(str(rules))}\n")
        options = [f"--sandbox={simulator.url}", f"--config={config}"]
        async with started("stdio", binary, "", options) as client:
            await measure(simulator, client, rules)
    simulator.process.terminate()


asyncio.run(main())
