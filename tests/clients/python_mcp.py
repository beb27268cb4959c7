"""Runs the official Python SDK against the simulator, in both eras of the protocol.

Usage: python_mcp.py PROGRAM
"""

import asyncio
import sys

from mcp import Client, ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

server = StdioServerParameters(command=sys.argv[1], args=["stdio", "--sandbox"])


def check(tools, answer):
    assert "place_call" in {tool.name for tool in tools.tools}, tools
    assert not answer.is_error, answer
    assert answer.structured_content == {"agents": [], "has_more": False}, answer


async def legacy():
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        opened = await session.initialize()
        assert opened.protocol_version == "2025-11-25", opened
        check(await session.list_tools(), await session.call_tool("list_agents", {}))


async def modern():
    async with Client(server) as client:
        assert client.protocol_version == "2026-07-28", client.protocol_version
        check(await client.list_tools(), await client.call_tool("list_agents", {}))


asyncio.run(legacy())
asyncio.run(modern())
print("ok legacy modern")
