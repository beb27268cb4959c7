"""Installs what a user could pick instead of this server, and says how each is started.

Versions are fixed. Nothing here measures.
"""

import functools
import json
import socket
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path

from driver import Apart, Session, Stdio

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "bench"
SPEC = ROOT / "tests" / "contract" / "callingbox-openapi.yaml"


class Skipped(Exception):
    """A peer that cannot be had here, and why."""


@dataclass
class Peer:
    """How a peer is started."""

    command: list
    environment: dict = field(default_factory=dict)
    # Where it answers at /mcp; over standard input and output without one.
    address: str | None = None
    client: type = Stdio


def free_address():
    """An address of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return "127.0.0.1:%d" % listener.getsockname()[1]


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command):
    done = subprocess.run([str(word) for word in command], cwd=WORK, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise Skipped(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def python_with(package, version):
    """The Python of an environment that has this package."""
    place = WORK / f"{package}-{version}"
    if not (place / "installed").exists():
        say(f"installing {package} {version}")
        venv.create(place, with_pip=True, clear=True)
        run(place / "bin" / "pip", "install", "--quiet", f"{package}=={version}", "PyYAML")
        (place / "installed").touch()
    return place / "bin"


def node_module(package, version):
    """The folder of an npm package."""
    place = WORK / f"npm-{package.replace('/', '-')}-{version}"
    if not (place / "installed").exists():
        say(f"installing {package} {version}")
        place.mkdir(parents=True, exist_ok=True)
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", place, f"{package}@{version}")
        (place / "installed").touch()
    return place / "node_modules" / package


def spec_as_json(python):
    """The description as JSON, which every peer reads."""
    target = WORK / "openapi.json"
    code = "import json,sys,yaml; json.dump(yaml.safe_load(open(sys.argv[1])), open(sys.argv[2], 'w'), default=str)"
    run(python / "python", "-c", code, SPEC, target)
    return target


FASTMCP = """
import json, sys
import httpx2 as httpx
from fastmcp import FastMCP
spec, url, key, *address = sys.argv[1:]
client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})
server = FastMCP.from_openapi(openapi_spec=json.load(open(spec)), client=client, name="tel")
if address:
    host, port = address[0].split(":")
    server.run(transport="http", host=host, port=int(port), show_banner=False)
else:
    server.run(show_banner=False)
"""


def fastmcp(upstream, key, address=None):
    # 4.1.0: later ones ask for a certifi that not every index has.
    python = python_with("fastmcp", "4.1.0")
    script = WORK / "fastmcp_server.py"
    script.write_text(FASTMCP)
    command = [str(python / "python"), str(script), str(spec_as_json(python)), f"http://{upstream}", key]
    if not address:
        return Peer(command)
    return Peer([*command, address], address=address, client=Session)


def awslabs(upstream, key):
    python = python_with("awslabs.openapi-mcp-server", "1.1.6")
    return Peer([
        str(python / "awslabs.openapi-mcp-server"), "--api-name", "tel", "--api-url", f"http://{upstream}",
        "--spec-path", str(spec_as_json(python)), "--allowed-spec-dirs", str(WORK),
        "--auth-type", "bearer", "--auth-token", key, "--allow-insecure-http", "--allow-private-networks",
    ])


def ivotoby(upstream, key, address=None):
    module = node_module("@ivotoby/openapi-mcp-server", "1.16.1")
    program = module / json.loads((module / "package.json").read_text())["bin"]["openapi-mcp-server"]
    transport = ["--transport", "stdio"]
    if address:
        host, port = address.split(":")
        transport = ["--transport", "http", "--host", host, "--port", port]
    command = [
        "node", str(program), "--api-base-url", f"http://{upstream}", "--openapi-spec", str(SPEC),
        "--disable-abbreviation", "true", *transport,
    ]
    return Peer(command, {"API_HEADERS": f"Authorization:Bearer {key}"}, address, Apart if address else Stdio)


PEERS = {
    "fastmcp": fastmcp,
    "ivotoby": ivotoby,
    "awslabs": awslabs,
    "fastmcp-http": lambda upstream, key: fastmcp(upstream, key, free_address()),
    "ivotoby-http": lambda upstream, key: ivotoby(upstream, key, free_address()),
}


@functools.cache
def tokenizer():
    """The module that counts tokens; nothing where it cannot be had, which is tried once."""
    try:
        return node_module("gpt-tokenizer", "4.0.0") / "cjs" / "encoding" / "o200k_base.js"
    except (Skipped, OSError, subprocess.SubprocessError):
        return None


def tokens_of(text):
    """How many tokens of o200k_base a text is; nothing where they cannot be counted."""
    module = tokenizer()
    if not module:
        return None
    try:
        count = f"require({json.dumps(str(module))}).countTokens(require('fs').readFileSync(0, 'utf8'))"
        done = subprocess.run(
            ["node", "-p", count], input=text, capture_output=True, text=True, timeout=60, check=True
        )
        return int(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
