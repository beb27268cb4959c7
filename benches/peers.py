"""Installs what a user could pick instead of this server, and says how each is started.

Versions are fixed. Nothing here measures.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "bench"
SPEC = ROOT / "tests" / "contract" / "callingbox-openapi.yaml"


class Skipped(Exception):
    """A peer that cannot be had here, and why."""


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
spec, url, key = sys.argv[1:]
client = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})
FastMCP.from_openapi(openapi_spec=json.load(open(spec)), client=client, name="tel").run(show_banner=False)
"""


def fastmcp(upstream, key):
    # 4.1.0: later ones ask for a certifi that not every index has.
    python = python_with("fastmcp", "4.1.0")
    script = WORK / "fastmcp_server.py"
    script.write_text(FASTMCP)
    return [str(python / "python"), str(script), str(spec_as_json(python)), f"http://{upstream}", key], {}


def awslabs(upstream, key):
    python = python_with("awslabs.openapi-mcp-server", "1.1.6")
    return [
        str(python / "awslabs.openapi-mcp-server"), "--api-name", "tel", "--api-url", f"http://{upstream}",
        "--spec-path", str(spec_as_json(python)), "--allowed-spec-dirs", str(WORK),
        "--auth-type", "bearer", "--auth-token", key, "--allow-insecure-http", "--allow-private-networks",
    ], {}


def ivotoby(upstream, key):
    module = node_module("@ivotoby/openapi-mcp-server", "1.16.1")
    program = module / json.loads((module / "package.json").read_text())["bin"]["openapi-mcp-server"]
    return [
        "node", str(program), "--api-base-url", f"http://{upstream}", "--openapi-spec", str(SPEC),
        "--transport", "stdio", "--disable-abbreviation", "true",
    ], {"API_HEADERS": f"Authorization:Bearer {key}"}


PEERS = {"fastmcp": fastmcp, "ivotoby": ivotoby, "awslabs": awslabs}


def tokens_of(text):
    """How many tokens of o200k_base a text is; nothing where they cannot be counted."""
    try:
        module = node_module("gpt-tokenizer", "4.0.0") / "cjs" / "encoding" / "o200k_base.js"
        count = f"require({json.dumps(str(module))}).countTokens(require('fs').readFileSync(0, 'utf8'))"
        done = subprocess.run(
            ["node", "-p", count], input=text, capture_output=True, text=True, timeout=60, check=True
        )
        return int(done.stdout)
    except (Skipped, OSError, ValueError, subprocess.SubprocessError):
        return None
