"""The official Python SDK as an OAuth client of the program, with a small authorization server.

Usage: python_mcp.py BINARY
"""

import asyncio
import contextlib
import json
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlparse

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import ClientSession
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata

EVERY_SCOPE = "calls:read calls:place agents:write numbers:purchase"


class Issuer:
    """Grants each client the scopes that it requests, except `granted` for the first request."""

    def __init__(self, granted=None):
        self.granted = granted
        self.requests = []
        self.codes = {}
        self.key = ec.generate_private_key(ec.SECP256R1())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, body, status=200, **headers):
                body = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                url = urlparse(self.path)
                if url.path == "/.well-known/oauth-authorization-server":
                    self.answer(issuer.metadata())
                elif url.path == "/keys":
                    self.answer({"keys": [issuer.jwk()]})
                elif url.path == "/authorize":
                    request = dict(parse_qsl(url.query))
                    code = secrets.token_hex(8)
                    issuer.codes[code] = request
                    back = urlencode({"code": code, "state": request["state"], "iss": issuer.url})
                    self.answer({}, 302, location=f"{request['redirect_uri']}?{back}")
                else:
                    self.answer({}, 404)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/register":
                    client = {**json.loads(body), "client_id": "python-sdk"}
                    self.answer(client, 201)
                else:
                    form = dict(parse_qsl(body.decode()))
                    self.answer(issuer.token(issuer.codes.pop(form["code"]), form["resource"]))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metadata(self):
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "jwks_uri": f"{self.url}/keys",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
        }

    def jwk(self):
        jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        return {**jwk, "kid": "k", "use": "sig", "alg": "ES256"}

    def token(self, request, resource):
        scope = self.granted if self.granted and not self.requests else request["scope"]
        self.requests.append((request["scope"], resource))
        now = int(time.time())
        claims = {"iss": self.url, "aud": resource, "sub": "mia", "client_id": "python-sdk"}
        claims |= {"iat": now, "exp": now + 300, "scope": scope}
        token = jwt.encode(claims, self.key, "ES256", headers={"typ": "at+jwt", "kid": "k"})
        return {"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope}


class Storage(TokenStorage):
    tokens = client = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


@contextlib.contextmanager
def server(binary, issuer):
    """Starts the program on a free port. Its resource is the address that the client uses."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as home:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        url = f"http://127.0.0.1:{port}/mcp"
        command = [binary, "--sandbox", "http", "--listen", f"127.0.0.1:{port}", "--auth", "oauth"]
        command += ["--oauth-issuer", issuer.url, "--oauth-resource", url]
        process = subprocess.Popen(command, env={"HOME": home}, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout.readline() == f"listening on {url}\n"
            yield url
        finally:
            process.kill()
            process.wait()


async def run_client(url):
    """Lists the tools, and calls one that reads and one that writes."""
    callback = {}

    async def open_browser(address):
        async with httpx2.AsyncClient(trust_env=False) as browser:
            redirect = await browser.get(address)
        callback.update(parse_qsl(urlparse(redirect.headers["location"]).query))

    async def wait_for_browser():
        return AuthorizationCodeResult(code=callback["code"], state=callback["state"], iss=callback["iss"])

    client = OAuthClientMetadata(
        client_name="test",
        redirect_uris=["http://localhost:9/callback"],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    auth = OAuthClientProvider(
        server_url=url,
        client_metadata=client,
        storage=Storage(),
        redirect_handler=open_browser,
        callback_handler=wait_for_browser,
    )
    agent = {"name": "A", "type": "inbound", "persona": "Mia.", "instructions": "Talk."}
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30, trust_env=False) as http,
        streamable_http_client(url, http_client=http) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        tools = [tool.name for tool in (await session.list_tools()).tools]
        for name, arguments in [("list_agents", {}), ("create_agent", agent)]:
            answer = await session.call_tool(name, arguments)
            assert not answer.is_error, answer
        return tools


def main(binary):
    issuer = Issuer()
    with server(binary, issuer) as url:
        tools = asyncio.run(run_client(url))
    assert "place_call" in tools, tools
    assert issuer.requests == [(EVERY_SCOPE, url)], issuer.requests
    print("ok    all scopes are granted with the first token")

    issuer = Issuer(granted="calls:read")
    with server(binary, issuer) as url:
        tools = asyncio.run(run_client(url))
    assert "list_agents" in tools and "create_agent" not in tools, tools
    requests = [(set(scopes.split()), resource) for scopes, resource in issuer.requests]
    assert len(requests) == 2 and "agents:write" in requests[1][0] and requests[1][1] == url, requests
    print("ok    a call without its scope leads to a new token with the scope, in the same session")


main(sys.argv[1])
