"""Makes a call through the MCP adapter of an agent framework, as an agent of it does. No model is needed.

Both adapters send null for every optional argument that is left out.

Usage: adapters.py crewai|mcp-use BASE     BASE is a server on the simulator
"""

import asyncio
import re
import sys

FRAMEWORK, BASE = sys.argv[1:]
ID = "[0-9a-f-]{36}"


async def make_call(run_tool):
    """`run_tool` takes a tool's name and its arguments, and returns its text."""
    agents = await run_tool("list_agents", {})
    assert "SIMULATED" in agents and "invalid_argument" not in agents, agents
    offers = await run_tool("search_numbers", {"area_code": "415"})
    number = re.search(r"\+1415555\d{4}", offers)[0]
    bought = await run_tool("purchase_number", {"phone_number": number})
    agent = {
        "name": "Reminders",
        "type": "outbound",
        "instructions": "Remind them of the appointment.",
        "returns": {"confirmed": "boolean"},
        "number_ids": [re.search(f"number_id ({ID})", bought)[1]],
    }
    created = await run_tool("create_agent", agent)
    call = {"agent_id": re.search(f"agent_id ({ID})", created)[1], "to": "+12025550123"}
    placed = await run_tool("place_call", call)
    wait = {"call_id": re.search(f"call_id: ({ID})", placed)[1], "wait_seconds": 60}
    ended = await run_tool("get_call_result", wait)
    assert "outcome: completed" in ended and '"confirmed":' in ended, ended


async def use_crewai():
    from crewai_tools import MCPServerAdapter

    with MCPServerAdapter({"url": f"{BASE}/mcp", "transport": "streamable-http"}) as tools:
        by_name = {tool.name: tool.to_structured_tool() for tool in tools}

        async def run_tool(name, arguments):
            return str(await asyncio.to_thread(by_name[name].invoke, arguments))

        await make_call(run_tool)


async def use_mcp_use():
    from mcp_use import MCPClient
    from mcp_use.agents.adapters.langchain_adapter import LangChainAdapter

    client = MCPClient.from_dict({"mcpServers": {"callingbox": {"url": f"{BASE}/mcp"}}})
    tools = await LangChainAdapter().create_tools(client)
    by_name = {tool.name: tool for tool in tools}

    async def run_tool(name, arguments):
        return str(await by_name[name].ainvoke(arguments))

    await make_call(run_tool)
    await client.close_all_sessions()


asyncio.run({"crewai": use_crewai, "mcp-use": use_mcp_use}[FRAMEWORK]())
print("ok")
