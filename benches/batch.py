#!/usr/bin/env python3
"""Measures a batch of 500 people on the simulator: processor time of the start, memory of each row, requests to CallingBox,
processor time of a report.

    python3 benches/batch.py [--binary PROGRAM] [--people 500]

The server and the simulator are two processes, and the figures are those of the server.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path

from servers import built_binary, resident_bytes

KEY = "sk_sandbox_callingbox_mcp"
RULES = '[limits]\nper_hour = "off"\nper_day = "off"\nconcurrent = 500\nspend_per_day = "off"\nbatch_size = 500\n'
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Simulator:
    def __init__(self, binary):
        command = [binary, "sandbox", "--listen", "127.0.0.1:0", "--manual", "--credit", "100000.00"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = next(line for line in self.process.stdout if "http://" in line)
        self.url = next(word for word in line.split() if word.startswith("http://")).rstrip("/.,;")

    def request(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method, data=json.dumps(body).encode() if body else None)
        request.add_header("authorization", f"Bearer {KEY}")
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def advance(self, seconds):
        self.request("POST", "/sandbox/clock", {"advance_seconds": seconds})

    def reads(self):
        entries = self.request("GET", "/sandbox/requests")["data"]
        return sum(entry["count"] for entry in entries if entry["method"] == "GET")


class Server:
    def __init__(self, binary, url, home):
        environment = {**os.environ, "HOME": home}
        command = [binary, f"--sandbox={url}"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        self.last_id, self.answers = 0, {}
        self.answer(self.send("initialize", client))
        self.process.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n')

    def send(self, method, params):
        self.last_id += 1
        message = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return self.last_id

    def answer(self, wanted):
        while wanted not in self.answers:
            message = json.loads(self.process.stdout.readline())
            if "id" in message and "method" not in message:
                self.answers[message["id"]] = message["result"]
        return self.answers.pop(wanted)

    def call(self, tool, **arguments):
        result = self.answer(self.send("tools/call", {"name": tool, "arguments": arguments}))
        if result.get("isError"):
            raise SystemExit(result["content"][0]["text"])
        return result["structuredContent"]


def numbers(count, first):
    codes = [201, 202, 203, 205, 206]
    return [f"+1{codes[index // 100]}555{first + index % 100:04}" for index in range(count)]


def list_people(count, first):
    return [{"to": to, "name": "Ada Lovelace", "context": {"time": "10:30"}} for to in numbers(count, first)]


def run_to_end(simulator, server, batch):
    while True:
        simulator.advance(30)
        time.sleep(0.3)
        report = server.call("get_batch", batch_id=batch)
        if report["state"] == "ended":
            return report


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default=None)
    parser.add_argument("--people", type=int, default=500)
    arguments = parser.parse_args()
    binary = built_binary(arguments.binary and Path(arguments.binary))
    simulator = Simulator(binary)
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home, ".config/callingbox-mcp")
        folder.mkdir(parents=True)
        (folder / "policy.toml").write_text(RULES)
        server = Server(binary, simulator.url, home)
        pid = server.process.pid
        offers = server.call("search_numbers", area_code="415")
        bought = server.call("purchase_number", phone_number=offers["numbers"][0]["phone_number"])
        agent = server.call(
            "create_agent", name="Bench", type="outbound", persona="You are Mia.", instructions="Ask.",
            returns={"confirmed": "boolean"}, number_ids=[bought["number"]["number_id"]],
        )["agent_id"]  # fmt: skip
        task = {"agent_id": agent, "instructions": "Confirm {name} at {time}."}
        people = list_people(arguments.people, 200)
        memory, spent = resident_bytes(pid), processor_seconds(pid)
        started = server.call("place_calls", people=people, **task)
        print(f"start of {len(people)} people: {processor_seconds(pid) - spent:.2f} s of processor time")
        simulator_reads = simulator.reads()
        report = run_to_end(simulator, server, started["batch_id"])
        print(f"outcomes: {report['outcomes']}")
        print(f"requests to read calls, for each call: {(simulator.reads() - simulator_reads) / len(people):.2f}")
        print(f"memory of a row: {max(0, resident_bytes(pid) - memory) / len(people) / 1024:.1f} KiB")
        spent, reports = processor_seconds(pid), 20
        for _ in range(reports):
            server.call("get_batch", batch_id=started["batch_id"])
        print(f"report of 100 rows: {(processor_seconds(pid) - spent) / reports * 1000:.0f} ms of processor time")

        before, waits = simulator.reads(), []
        for to in numbers(min(100, arguments.people), 400):
            call = server.call("place_call", agent_id=agent, to=to)
            waits.append(server.send("tools/call", {"name": "get_call_result", "arguments": {"call_id": call["call_id"], "wait_seconds": 300}}))
        for _ in range(20):
            simulator.advance(30)
            time.sleep(0.3)
        for wait in waits:
            server.answer(wait)
        print(f"the same for single calls with a wait each: {(simulator.reads() - before) / len(waits):.2f}")

        now = datetime.fromisoformat(simulator.request("GET", "/sandbox/clock")["now"])
        later = (now + timedelta(hours=20)).isoformat()
        waiting = []
        for first in range(500, 1000, 100):
            server.call("place_calls", people=list_people(arguments.people, first), start_at=later, **task)
            time.sleep(1)
            waiting.append(resident_bytes(pid))
        print(f"memory of a row that waits: {(waiting[-1] - waiting[0]) / 4 / len(people) / 1024:.1f} KiB")
        server.process.stdin.close()
        server.process.wait(10)
    simulator.process.terminate()


if __name__ == "__main__":
    main()
