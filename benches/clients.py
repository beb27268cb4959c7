"""Load-generating MCP clients. Each sends one `tools/call` again and again over one transport.

Requests are bytes that are built beforehand, and responses are searched for their id and for an error but not
parsed, so that the figures show the server and not this driver. `check_call` parses one response in full.
"""

import asyncio
import json
import re

RESPONSE_ID = re.compile(rb'"id":\s*(\d+)')
CLIENT_INFO = {"name": "bench", "version": "0"}
HEADERS = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"


class BenchError(Exception):
    """A server ended or answered in a way that cannot be measured."""


def last_event(response):
    """The data of the last event of an SSE response, or the response itself."""
    data = [line[5:] for line in response.splitlines() if line.startswith(b"data:") and line[5:].strip()]
    return data[-1] if data else response


def join_chunks(chunked):
    body = []
    while chunked:
        size, _, chunked = chunked.partition(b"\r\n")
        length = int(size, 16)
        body.append(chunked[:length])
        chunked = chunked[length + 2 :]
    return b"".join(body)


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time."""

    def __init__(self):
        self.buffer, self.response = b"", None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.response and not self.response.done():
            self.response.set_exception(BenchError(f"the server closed the connection: {error}"))

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head, body = self.buffer[:end], self.buffer[end + 4 :]
        at = head.lower().find(b"content-length:")
        if at >= 0:
            if len(body) < int(head[at + 15 :].split(b"\r\n", 1)[0]):
                return
        elif b"transfer-encoding: chunked" in head.lower():
            if not body.endswith(b"0\r\n\r\n"):
                return
            body = join_chunks(body)
        self.buffer = b""
        if self.response and not self.response.done():
            self.response.set_result((head, body))

    async def send(self, data, status):
        self.response = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        head, body = await self.response
        if head[8:12] != status:
            raise BenchError((head + b"\n" + body[:300]).decode(errors="replace"))
        return head, body


class ConnectionPool:
    """As many connections to one address as are used concurrently."""

    def __init__(self, address):
        self.address, self.idle, self.all = address, [], []

    async def send(self, data, status=b" 200"):
        # A server may have closed idle connections while another server was measured.
        self.idle = [each for each in self.idle if not each.transport.is_closing()]
        if self.idle:
            connection = self.idle.pop()
        else:
            host, port = self.address.rsplit(":", 1)
            _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
            self.all.append(connection)
        response = await connection.send(data, status)
        self.idle.append(connection)
        return response

    def close(self):
        for connection in self.all:
            connection.transport.close()


class ResponseStream(asyncio.Protocol):
    """Responses to many requests on one stream, in any order, each ended by `separator`."""

    def __init__(self, separator):
        self.separator, self.buffer, self.pending = separator, b"", {}

    def expect(self, number):
        self.pending[number] = asyncio.get_running_loop().create_future()
        return self.pending[number]

    def data_received(self, data):
        *whole, self.buffer = (self.buffer + data).split(self.separator)
        for response in whole:
            number = RESPONSE_ID.search(response)
            future = number and self.pending.pop(int(number[1]), None)
            if future and not future.done():
                future.set_result(response)

    def connection_lost(self, error):
        for future in self.pending.values():
            if not future.done():
                future.set_exception(BenchError(f"the server closed the stream: {error}"))


class McpClient:
    """The part that does not depend on the transport."""

    number = 0
    meta = {}

    def prepare_call(self, tool, arguments):
        """Builds the bytes of the call, all but its id."""
        self.tool = tool
        text = json.dumps(self.build_request(0, "tools/call", {"name": tool, "arguments": arguments}))
        before, after = text.rsplit('"id": 0', 1)
        self.before, self.after = f'{before}"id": '.encode(), after.encode()

    def build_request(self, number, method, params):
        message = {"jsonrpc": "2.0", "method": method, "params": params | self.meta}
        return message if number is None else message | {"id": number}

    async def call(self):
        self.number += 1
        body = self.before + str(self.number).encode() + self.after
        response = await self.exchange(self.number, body, "tools/call")
        if b'"isError":true' in response or b'"error":{' in response:
            raise BenchError(response[:500].decode(errors="replace"))
        return response

    async def send_request(self, method, params):
        self.number += 1
        body = json.dumps(self.build_request(self.number, method, params)).encode()
        response = json.loads(last_event(await self.exchange(self.number, body, method)))
        if "result" not in response:
            raise BenchError(f"{method}: {response}")
        return response["result"]

    async def initialize(self):
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT_INFO}
        await self.send_request("initialize", params)
        await self.notify(json.dumps(self.build_request(None, "notifications/initialized", {})).encode())

    async def list_tools(self):
        tools, params = [], {}
        while params is not None:
            page = await self.send_request("tools/list", params)
            tools += page["tools"]
            params = {"cursor": page["nextCursor"]} if page.get("nextCursor") else None
        return tools

    async def check_call(self, call_id):
        result = json.loads(last_event(await self.call()))["result"]
        text = json.dumps(result)
        if result.get("isError") or call_id not in text or "completed" not in text:
            raise BenchError(f"the server did not return the call: {text[:500]}")


class StdioClient(McpClient):
    """One line a message over the standard input and output of a process."""

    @classmethod
    async def connect(cls, process):
        self, loop = cls(), asyncio.get_running_loop()
        self.reader, self.stream = await loop.connect_read_pipe(lambda: ResponseStream(b"\n"), process.stdout)
        self.writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return self

    async def exchange(self, number, body, _method):
        response = self.stream.expect(number)
        self.writer.write(body + b"\n")
        return await response

    async def notify(self, body):
        self.writer.write(body + b"\n")

    def close(self):
        self.reader.close()
        self.writer.abort()


class SessionClient(McpClient):
    """POST /mcp with a session (2025-11-25)."""

    headers = ""

    @classmethod
    async def connect(cls, address):
        self = cls()
        self.pool = ConnectionPool(address)
        return self

    def method_headers(self, _method):
        return ""

    def post(self, body, method=None):
        return (
            f"POST /mcp HTTP/1.1\r\nhost: {self.pool.address}\r\n{HEADERS}{self.headers}"
            f"{self.method_headers(method)}content-length: {len(body)}\r\n\r\n"
        ).encode() + body

    async def exchange(self, number, body, method):
        head, response = await self.pool.send(self.post(body, method))
        if method == "initialize":
            session = re.search(rb"(?i)mcp-session-id: ([^\r\n]+)", head)[1].decode()
            self.headers = f"mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n"
        return response

    async def notify(self, body):
        await self.pool.send(self.post(body), b" 202")

    def close(self):
        self.pool.close()


class SessionStreamClient(SessionClient):
    """The same for a server that answers `tools/call` on the GET stream of the session."""

    async def initialize(self):
        await super().initialize()
        host, port = self.pool.address.rsplit(":", 1)
        loop = asyncio.get_running_loop()
        self.transport, self.stream = await loop.create_connection(
            lambda: ResponseStream(b"\n\n"), host, int(port)
        )
        head = f"GET /mcp HTTP/1.1\r\nhost: {self.pool.address}\r\naccept: text/event-stream\r\n"
        self.transport.write(f"{head}{self.headers}\r\n".encode())

    async def exchange(self, number, body, method):
        if method != "tools/call":
            return await super().exchange(number, body, method)
        response = self.stream.expect(number)
        await self.pool.send(self.post(body, method), b" 202")
        return await response

    def close(self):
        self.transport.close()
        super().close()


class StatelessClient(SessionClient):
    """POST /mcp without a session (2026-07-28)."""

    headers = "mcp-protocol-version: 2026-07-28\r\n"
    meta = {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": CLIENT_INFO,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    }

    def method_headers(self, method):
        name = f"mcp-name: {self.tool}\r\n" if method == "tools/call" else ""
        return f"mcp-method: {method}\r\n{name}"

    async def initialize(self):
        await self.send_request("server/discover", {})
