"""Runs the main job with the official Python SDK over HTTP: streamable HTTP in both eras, and HTTP+SSE.

Usage: python_job.py http|sse|modern BASE     BASE is a new server on the simulator that confirms every call
"""

import asyncio
import sys

from mcp import Client, ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import ElicitResult

WAY, BASE = sys.argv[1:]


class Human:
    """Answers each elicitation with the answer that was set before."""

    def __init__(self):
        self.says, self.asked = True, []

    async def __call__(self, context, params):
        self.asked.append(params.message)
        action = "accept" if self.says else "decline"
        return ElicitResult(action=action, content={"confirm": True} if self.says else None)


async def data(client, tool, **arguments):
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer
    return answer.structured_content


async def job(client, human):
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert {"place_call", "get_call_result", "search_numbers"} <= tools, tools

    found = await data(client, "search_numbers", country_code="US", area_code="415")
    agent = await data(
        client,
        "create_agent",
        name="Reminders",
        type="outbound",
        instructions="Remind them of the appointment.",
        returns={"confirmed": "boolean"},
    )
    human.says = True
    bought = await data(client, "purchase_number", phone_number=found["numbers"][0]["phone_number"])
    number = bought["number"]["number_id"]
    await data(client, "set_agent_numbers", agent_id=agent["agent_id"], attach=[number])

    call = {"agent_id": agent["agent_id"], "instructions": "Remind them of Tuesday at three."}
    human.says, human.asked = False, []
    refused = await client.call_tool("place_call", call | {"to": "+12025550123"})
    assert refused.is_error and "Nobody was called" in refused.content[0].text, refused
    assert len(human.asked) == 1 and "To: +12025550123" in human.asked[0], human.asked

    human.says = True
    placed = await data(client, "place_call", **call, to="+12025550123")
    assert (placed["outcome"], placed["simulated"]) == ("in_progress", True), placed
    assert len(human.asked) == 2, human.asked
    told = []

    async def progress(done, total, message):
        told.append((done, message))

    wait = {"call_id": placed["call_id"], "wait_seconds": 60}
    answer = await client.call_tool("get_call_result", wait, progress_callback=progress)
    ended = answer.structured_content
    assert ended["outcome"] == "completed" and "confirmed" in ended["result"], ended
    done = [one for one, _ in told]
    assert len(done) >= 3 and done == sorted(set(done)), told

    long = await data(client, "place_call", **call, to="+12025550107")
    wait = {"call_id": long["call_id"], "wait_seconds": 60}
    try:
        async with asyncio.timeout(1):
            await client.call_tool("get_call_result", wait)
        raise AssertionError("a call of half an hour ended in a second")
    except TimeoutError:
        pass
    # Only the wait was cancelled: the session and the call go on.
    wait["wait_seconds"] = 0
    now = await data(client, "get_call_result", **wait)
    assert now["outcome"] == "in_progress", now

    wrong = await client.call_tool("get_call_result", {"call_id": "no-such-call"})
    assert wrong.is_error and "no-such-call" in wrong.content[0].text, wrong
    try:
        await client.call_tool("no_such_tool", {})
        raise AssertionError("there is no such tool")
    except MCPError as error:
        assert error.error.code == -32602, error


async def session(streams):
    human = Human()
    async with ClientSession(*streams, elicitation_callback=human) as session:
        opened = await session.initialize()
        assert opened.protocol_version == "2025-11-25", opened
        await job(session, human)


async def main():
    if WAY == "modern":
        human = Human()
        async with Client(f"{BASE}/mcp", elicitation_callback=human) as client:
            assert client.protocol_version == "2026-07-28", client.protocol_version
            await job(client, human)
        return
    opened = streamable_http_client(f"{BASE}/mcp") if WAY == "http" else sse_client(f"{BASE}/sse")
    async with opened as streams:
        await session(streams)


asyncio.run(main())
print("ok")
