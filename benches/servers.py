"""Starts the servers that are compared: this one, and two that make MCP tools of an OpenAPI description.

The versions of the other servers are fixed; they are installed below target/bench. Nothing here measures.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from clients import BenchError, SessionClient, SessionStreamClient, StatelessClient, StdioClient

ROOT = Path(__file__).resolve().parent.parent
INSTALLED = ROOT / "target" / "bench"
OPENAPI = ROOT / "tests" / "contract" / "callingbox-openapi.yaml"
CALL_ID = json.loads((ROOT / "benches" / "call.json").read_text())["id"]
KEY = "sk_bench_0000"
TIMEOUT = 60
# Raised, so that the default limit of the request rate does not affect the figures.
HTTP = ["http", "--listen", "127.0.0.1:0", "--requests-per-second", "1000000"]


def log(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise BenchError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def unused_address():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "127.0.0.1:%d" % listener.getsockname()[1]


FASTMCP = """
import json, sys
import httpx2 as httpx
from fastmcp import FastMCP
spec, url, key, *address = sys.argv[1:]
client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})
server = FastMCP.from_openapi(openapi_spec=json.load(open(spec)), client=client, name="tel")
host, _, port = "".join(address).partition(":")
server.run(show_banner=False, **({"transport": "http", "host": host, "port": int(port)} if address else {}))
"""


def fastmcp(upstream, address):
    """FastMCP, which is written in Python."""
    folder = INSTALLED / "fastmcp-4.1.0"
    python = folder / "bin" / "python"
    if not (folder / "openapi.json").exists():
        log("installing fastmcp 4.1.0")
        venv.create(folder, with_pip=True, clear=True)
        run(python, "-m", "pip", "install", "--quiet", "fastmcp==4.1.0", "PyYAML")
        to_json = "import json,sys,yaml; json.dump(yaml.safe_load(open(sys.argv[1])), open(sys.argv[2], 'w'), default=str)"
        run(python, "-c", to_json, OPENAPI, folder / "openapi.json")
    (folder / "server.py").write_text(FASTMCP)
    command = [str(python), str(folder / "server.py"), str(folder / "openapi.json"), f"http://{upstream}", KEY]
    return (command + [address], SessionClient) if address else (command, StdioClient)


def openapi_mcp(upstream, address):
    """@ivotoby/openapi-mcp-server, which is written in TypeScript."""
    package, version = "@ivotoby/openapi-mcp-server", "1.16.1"
    folder = INSTALLED / f"openapi-mcp-server-{version}"
    module = folder / "node_modules" / package
    if not module.exists():
        log(f"installing {package} {version}")
        folder.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, f"{package}@{version}")
    program = module / json.loads((module / "package.json").read_text())["bin"]["openapi-mcp-server"]
    command = ["node", str(program), "--api-base-url", f"http://{upstream}", "--openapi-spec", str(OPENAPI)]
    command += ["--disable-abbreviation", "true", "--headers", f"Authorization:Bearer {KEY}"]
    if not address:
        return command + ["--transport", "stdio"], StdioClient
    host, port = address.split(":")
    return command + ["--transport", "http", "--host", host, "--port", port], SessionStreamClient


OURS = {"stdio": (["stdio"], StdioClient), "http-2026": (HTTP, StatelessClient), "http-2025": (HTTP, SessionClient)}
OTHERS = {"fastmcp": fastmcp, "fastmcp-http": fastmcp, "openapi-mcp": openapi_mcp, "openapi-mcp-http": openapi_mcp}


def command_of(name, binary, upstream):
    """The command that starts a server, its client, and its address where it does not print one."""
    if name in OURS:
        arguments, client = OURS[name]
        return [str(binary), *arguments], client, None
    address = unused_address() if name.endswith("-http") else None
    command, client = OTHERS[name](upstream, address)
    return command, client, address


def find_read_tool(tools):
    """The tool that reads a call, and its arguments: each server has its own names."""
    for wanted in ("getcallresult", "getcall"):
        for tool in tools:
            if "".join(filter(str.isalnum, tool["name"].lower())).endswith(wanted):
                properties = tool["inputSchema"]["properties"]
                arguments = {name: CALL_ID for name in properties if name in ("id", "call_id")}
                return tool["name"], arguments | ({"wait_seconds": 0} if "wait_seconds" in properties else {})
    raise BenchError("no tool reads a call: " + ", ".join(tool["name"] for tool in tools))


def wait_for_address(process, address):
    while address and process.poll() is None:
        try:
            socket.create_connection(address.split(":")).close()
            return address
        except ConnectionRefusedError:
            time.sleep(0.001)
    for line in process.stdout or []:
        if line.startswith(b"listening on http://"):
            return line.decode().split("//")[1].split("/")[0]
    raise BenchError("the server ended before it listened")


@asynccontextmanager
async def started(name, binary, upstream, extra=()):
    """A started server with an initialized client; ends both."""
    command, kind, address = command_of(name, binary, upstream)
    with tempfile.TemporaryDirectory(prefix="callingbox-bench-") as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home, "API_HEADERS": f"Authorization:Bearer {KEY}"}
        environment |= {"CALLINGBOX_API_KEY": KEY, "CALLINGBOX_BASE_URL": f"http://{upstream}"}
        stdio, begun, client = kind is StdioClient, time.perf_counter(), None
        process = subprocess.Popen(
            [*command, *extra], cwd=home, env=environment, start_new_session=True, stderr=subprocess.DEVNULL,
            stdin=subprocess.PIPE if stdio else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if address else subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                client = await kind.connect(
                    process if stdio else await asyncio.to_thread(wait_for_address, process, address)
                )
                await client.initialize()
                client.tools = await client.list_tools()
                client.start_seconds, client.pid = time.perf_counter() - begun, process.pid
                client.prepare_call(*find_read_tool(client.tools))
            yield client
        finally:
            if client:
                client.close()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def resident_bytes(pid):
    """Resident memory of a started server and its descendants, which are one session."""
    sizes = subprocess.run(["ps", "-o", "rss=", "-s", str(pid)], capture_output=True, text=True).stdout
    return sum(map(int, sizes.split())) * 1024


@contextmanager
def canned_upstream():
    """The address of the canned API (upstream.rs) while it runs."""
    with tempfile.TemporaryDirectory(prefix="callingbox-upstream-") as folder:
        source = ROOT / "benches" / "upstream.rs"
        subprocess.run(["rustc", "-O", "--edition", "2024", "-o", f"{folder}/upstream", source], check=True)
        with subprocess.Popen([f"{folder}/upstream"], stdout=subprocess.PIPE) as process:
            try:
                yield process.stdout.readline().decode().strip()
            finally:
                process.kill()


def built_binary(path):
    """The program to measure: the one that was named, or a new build as it is published."""
    if not path:
        subprocess.run(["cargo", "build", "--profile", "dist", "--bin", "callingbox-mcp"], cwd=ROOT, check=True)
    return (path or ROOT / "target" / "dist" / "callingbox-mcp").resolve()
