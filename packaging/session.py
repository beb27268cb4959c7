#!/usr/bin/env python3
"""Starts a server over stdio on its simulator and makes a call from an empty account to its end.

  packaging/session.py COMMAND...     the program, with what runs it: wine, qemu-aarch64, node, ...

Prints `ok session: ...`, or fails. It knows MCP only as far as a plain client does.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading


class Session:
    def __init__(self, command, folder):
        arguments = ["stdio", "--sandbox", "--sandbox-speed", "100"]
        # The ledger and the configuration of the person who runs this are not touched.
        environment = {**os.environ, "XDG_CONFIG_HOME": folder, "XDG_DATA_HOME": folder}
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.next_id = 0

    def send(self, **message):
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self.process.stdin.flush()

    def request(self, method, **params):
        self.next_id += 1
        self.send(id=self.next_id, method=method, params=params)
        for line in self.process.stdout:
            if line.endswith(b"\r\n"):
                sys.exit(f"a message ends with CR: {line!r}")
            message = json.loads(line)
            if message.get("id") == self.next_id:
                if "error" in message:
                    sys.exit(f"{method}: {message['error']}")
                return message["result"]
        sys.exit(f"{method}: the server ended without an answer")

    def call(self, tool, **arguments):
        result = self.request("tools/call", name=tool, arguments=arguments)
        if result.get("isError"):
            sys.exit(f"{tool}: {result['content'][0]['text']}")
        return result["structuredContent"]

    def confirmed(self, tool, **arguments):
        """A tool that asks first: the client has no elicitation, so it gets a token, and a person's yes sends it back."""
        result = self.request("tools/call", name=tool, arguments=arguments)
        data = result.get("structuredContent") or {}
        if token := data.get("confirmation_token"):
            return self.call(tool, **arguments, confirmation_token=token)
        if result.get("isError"):
            sys.exit(f"{tool}: {result['content'][0]['text']}")
        return data


def main():
    with tempfile.TemporaryDirectory() as folder:
        run_session(Session(sys.argv[1:], folder))


def run_session(session):
    # A program that hangs is a failure, too.
    watchdog = threading.Timer(120, session.process.kill)
    watchdog.daemon = True
    watchdog.start()
    session.request(
        "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={"name": "session.py", "version": "1"}
    )
    session.send(method="notifications/initialized")
    tools = session.request("tools/list")["tools"]
    found = session.call("search_numbers", country_code="US", area_code="415")
    bought = session.confirmed("purchase_number", phone_number=found["numbers"][0]["phone_number"])
    agent = session.call(
        "create_agent",
        name="Reminders",
        type="outbound",
        instructions="Remind them of the appointment.",
        returns={"confirmed": "boolean"},
    )["agent_id"]
    session.call("set_agent_numbers", agent_id=agent, attach=[bought["number"]["number_id"]])
    placed = session.confirmed(
        "place_call", agent_id=agent, to="+13105550100", instructions="Remind them of Tuesday at three."
    )
    ended = session.call("get_call_result", call_id=placed["call_id"], wait_seconds=60)
    if ended["outcome"] != "completed" or "confirmed" not in ended["result"]:
        sys.exit(f"the call ended otherwise: {ended}")
    session.process.stdin.close()
    code = session.process.wait()
    watchdog.cancel()
    if code:
        sys.exit(f"the server exited with {code} after its input ended")
    print(f"ok session: {len(tools)} tools, call {ended['outcome']}, {json.dumps(ended['result'])}")


main()
