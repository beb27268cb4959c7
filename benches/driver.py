"""The clients: each reads one call as often as it is asked, by one transport.

They are as thin as asyncio allows: requests are bytes made beforehand, answers are cut at their end
and searched for their id and for an error, never parsed. So what is measured is the server, and the
same little is added to every target, `socket` included; only `direct` measures itself. `check` reads one answer properly.
"""

import asyncio
import http.client
import json
import re
import socket
from subprocess import PIPE

from processors import start

ID = re.compile(rb'"id":\s*(\d+)')
CLIENT = {"name": "bench", "version": "0"}
JSON = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"


class Failed(Exception):
    """A server did not do what is measured."""


def message(number, method, params):
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return body if number is None else body | {"id": number}


def opening(version="2025-11-25"):
    return {"protocolVersion": version, "capabilities": {}, "clientInfo": CLIENT}


def checked(answer):
    if b'"isError":true' in answer or b'"error":{' in answer:
        raise Failed(answer[:500].decode(errors="replace"))
    return answer


def events(answer):
    """The last event of a stream, or the answer itself where it is no stream."""
    data = [line[5:] for line in answer.splitlines() if line.startswith(b"data:") and line[5:].strip()]
    return data[-1] if data else answer


def joined(chunks):
    """The body that came in these chunks."""
    body = []
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        body.append(chunks[:length])
        chunks = chunks[length + 2 :]
    return b"".join(body)


class Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time: the body of each answer, chunks joined."""

    def __init__(self):
        self.buffer, self.waiting = b"", None

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, error):
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(Failed(f"the connection was closed: {error}"))

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end]
        at = head.lower().find(b"content-length:")
        if at >= 0:
            length = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if len(self.buffer) < length:
                return
        elif b"transfer-encoding: chunked" in head.lower():
            if not self.buffer.endswith(b"0\r\n\r\n"):
                return
        body, self.buffer = self.buffer[end + 4 :], b""
        if self.waiting and not self.waiting.done():
            self.waiting.set_result((head, body if at >= 0 else joined(body)))

    async def ask(self, request, status=b" 200"):
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        head, body = await self.waiting
        if head[8:12] != status:
            raise Failed((head + b"\n" + body[:300]).decode(errors="replace"))
        return head, body


class Pool:
    """Connections to one address, as many as are in use at once."""

    def __init__(self, address):
        self.address, self.free, self.all = address, [], []

    async def ask(self, request, status=b" 200"):
        # A server may have closed what was idle while others were measured.
        self.free = [connection for connection in self.free if not connection.transport.is_closing()]
        if self.free:
            connection = self.free.pop()
        else:
            host, port = self.address.rsplit(":", 1)
            _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
            self.all.append(connection)
        answer = await connection.ask(request, status)
        self.free.append(connection)
        return answer

    def close(self):
        for connection in self.all:
            connection.transport.close()


class Opened:
    """A client that needs no server started, for an `async with`."""

    def __init__(self, kind, *arguments):
        self.kind, self.arguments, self.client = kind, arguments, None

    async def __aenter__(self):
        self.client = self.kind(*self.arguments)
        return self

    async def __aexit__(self, *_):
        self.client.close()


class Socket:
    """No server between, and no more of an HTTP client than this driver is itself."""

    def __init__(self, address, call, key):
        self.pool = Pool(address)
        self.request = (
            f"GET /v1/calls/{call} HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\n"
            f"authorization: Bearer {key}\r\n\r\n"
        ).encode()

    async def call(self):
        return (await self.pool.ask(self.request))[1]

    async def check(self, call):
        if json.loads(await self.call())["id"] != call:
            raise Failed("another call was answered")

    def close(self):
        self.pool.close()


class Direct:
    """No server between: direct.rs reads the call itself, and measures itself."""

    def __init__(self, program, *arguments):
        self.process = start([program, *arguments], stdin=PIPE, stdout=PIPE, text=True)

    async def calls(self, count, at_once, seconds):
        """How long it took in all, and each call."""
        print(count, at_once, seconds, file=self.process.stdin, flush=True)
        line = await asyncio.to_thread(self.process.stdout.readline)
        if not line:
            raise Failed("the direct client ended")
        answer = json.loads(line)
        return answer["seconds"], answer["times"]

    async def check(self, _call):
        await self.calls(1, 1, 60)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Ordinary(Socket):
    """No server between, and an HTTP client as programs use it: Python's own. One call at a time."""

    def __init__(self, address, call, key):
        self.connection = http.client.HTTPConnection(address)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.path, self.headers = f"/v1/calls/{call}", {"authorization": f"Bearer {key}"}

    async def call(self):
        self.connection.request("GET", self.path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise Failed(f"{answer.status}: {body[:300]}")
        return body

    def close(self):
        self.connection.close()


class Client:
    """What all ways to an MCP server have in common."""

    number = 0

    def call_with(self, tool, arguments):
        """Makes the request beforehand, but for its id."""
        self.tool = tool
        text = json.dumps(self.message(0, "tools/call", {"name": tool, "arguments": arguments}))
        before, after = text.rsplit('"id": 0', 1)
        self.before, self.after = f'{before}"id": '.encode(), after.encode()

    def message(self, number, method, params):
        return message(number, method, params)

    def next(self):
        self.number += 1
        return self.number

    async def call(self):
        number = self.next()
        body = self.before + str(number).encode() + self.after
        return checked(await self.exchange(number, body, "tools/call"))

    async def request(self, method, params):
        number = self.next()
        body = json.dumps(self.message(number, method, params)).encode()
        answer = json.loads(events(await self.exchange(number, body, method)))
        if "result" not in answer:
            raise Failed(f"{method}: {answer}")
        return answer["result"]

    async def open(self):
        await self.request("initialize", opening())
        await self.notify(json.dumps(message(None, "notifications/initialized", {})).encode())

    async def tools(self):
        found, cursor = [], {}
        while cursor is not None:
            page = await self.request("tools/list", cursor)
            found += page["tools"]
            cursor = {"cursor": page["nextCursor"]} if page.get("nextCursor") else None
        return found

    async def check(self, call):
        answer = json.loads(events(await self.call()))
        result = json.dumps(answer["result"])
        if answer["result"].get("isError") or call not in result or "completed" not in result:
            raise Failed(f"the call was not answered: {result[:500]}")


class Waiting:
    """Answers that come by one stream, in any order."""

    def __init__(self):
        self.futures, self.broken = {}, None

    def expect(self, number):
        if self.broken:
            raise self.broken
        self.futures[number] = asyncio.get_running_loop().create_future()
        return self.futures[number]

    def arrived(self, answer):
        number = ID.search(answer)
        future = number and self.futures.pop(int(number[1]), None)
        if future and not future.done():
            future.set_result(answer)

    def end(self, error):
        self.broken = Failed(f"the stream was closed: {error}")
        for future in self.futures.values():
            if not future.done():
                future.set_exception(self.broken)
        self.futures = {}


class Lines(asyncio.Protocol):
    """Cuts a stream at `separator`; a piece goes to `waiting` once it is whole."""

    def __init__(self, waiting, separator=b"\n"):
        self.waiting, self.separator, self.pieces = waiting, separator, []

    def data_received(self, data):
        self.pieces.append(data)
        # The last byte of a separator may come alone.
        if self.separator in b"".join(self.pieces[-2:]):
            *whole, rest = b"".join(self.pieces).split(self.separator)
            self.pieces = [rest] if rest else []
            for piece in whole:
                self.waiting.arrived(piece)

    def connection_lost(self, error):
        self.waiting.end(error)


class Stdio(Client):
    """Lines over the standard input and output of a process."""

    @classmethod
    async def connect(cls, process):
        self = cls()
        loop = asyncio.get_running_loop()
        self.waiting = Waiting()
        self.reading, _ = await loop.connect_read_pipe(lambda: Lines(self.waiting), process.stdout)
        self.writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        return self

    async def exchange(self, number, body, _method):
        answer = self.waiting.expect(number)
        self.writing.write(body + b"\n")
        return await answer

    async def notify(self, body):
        self.writing.write(body + b"\n")

    def close(self):
        self.reading.close()
        self.writing.abort()


class Pipe(Stdio):
    """No server and no request: `cat` gives each line back. What this driver and two pipes take."""

    def __init__(self, _address, call, _key):
        self.call_with("get_call_result", {"call_id": call, "wait_seconds": 0})

    async def check(self, _call):
        self.process = start(["cat"], stdin=PIPE, stdout=PIPE)
        other = await Stdio.connect(self.process)
        self.waiting, self.reading, self.writing = other.waiting, other.reading, other.writing
        await self.call()

    def close(self):
        super().close()
        self.process.kill()
        self.process.wait()


class Http(Client):
    """POSTs to /mcp."""

    headers = ""

    @classmethod
    async def connect(cls, address):
        self = cls()
        self.pool = Pool(address)
        return self

    def post(self, body, more=""):
        length = f"content-length: {len(body)}\r\n\r\n"
        head = f"POST /mcp HTTP/1.1\r\nhost: {self.pool.address}\r\n{JSON}{self.headers}{more}{length}"
        return head.encode() + body

    async def exchange(self, number, body, method):
        return (await self.pool.ask(self.post(body, self.about(method))))[1]

    def about(self, method):
        return ""

    def close(self):
        self.pool.close()


class Session(Http):
    """The era of sessions (2025-11-25)."""

    async def open(self):
        body = json.dumps(message(self.next(), "initialize", opening())).encode()
        head, _ = await self.pool.ask(self.post(body))
        session = re.search(rb"(?i)mcp-session-id: ([^\r\n]+)", head)[1].decode()
        self.headers = f"mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n"
        note = json.dumps(message(None, "notifications/initialized", {})).encode()
        await self.pool.ask(self.post(note), b" 202")


class Apart(Session):
    """The same, with a server that answers calls of tools on a stream of its own, a GET of /mcp. Its head
    may come with the first answer, so it is not waited for."""

    async def open(self):
        await super().open()
        self.waiting = Waiting()
        host, port = self.pool.address.rsplit(":", 1)
        pieces = Lines(self.waiting, b"\n\n")
        self.stream, _ = await asyncio.get_running_loop().create_connection(lambda: pieces, host, int(port))
        head = f"GET /mcp HTTP/1.1\r\nhost: {self.pool.address}\r\naccept: text/event-stream\r\n"
        self.stream.write(f"{head}{self.headers}\r\n".encode())

    async def exchange(self, number, body, method):
        if method != "tools/call":
            return await super().exchange(number, body, method)
        answer = self.waiting.expect(number)
        await self.pool.ask(self.post(body), b" 202")
        return await answer

    def close(self):
        self.stream.close()
        super().close()


class Modern(Http):
    """The era without sessions (2026-07-28). Its opening is `server/discover`."""

    headers = "mcp-protocol-version: 2026-07-28\r\n"
    tool = None

    def message(self, number, method, params):
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": CLIENT,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        return message(number, method, params | {"_meta": meta})

    def about(self, method):
        name = f"mcp-name: {self.tool}\r\n" if method == "tools/call" else ""
        return f"mcp-method: {method}\r\n{name}"

    async def open(self):
        await self.request("server/discover", {})


class Sse(Client):
    """HTTP+SSE (2024-11-05): a POST for each message, all answers on one stream."""

    @classmethod
    async def connect(cls, address):
        self = cls()
        self.pool, self.waiting = Pool(address), Waiting()
        host, port = address.rsplit(":", 1)
        self.endpoint = asyncio.get_running_loop().create_future()
        pieces = Lines(self, b"\n\n")
        self.stream, _ = await asyncio.get_running_loop().create_connection(lambda: pieces, host, int(port))
        self.stream.write(f"GET /sse HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n".encode())
        self.path = await self.endpoint
        return self

    def arrived(self, event):
        if self.endpoint.done():
            self.waiting.arrived(event)
        elif found := re.search(rb"data: ?(/messages\S+)", event):
            self.endpoint.set_result(found[1].decode())

    def end(self, error):
        self.waiting.end(error)

    def post(self, body):
        head = f"POST {self.path} HTTP/1.1\r\nhost: {self.pool.address}\r\n{JSON}content-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def exchange(self, number, body, _method):
        answer = self.waiting.expect(number)
        await self.pool.ask(self.post(body), b" 202")
        return await answer

    async def notify(self, body):
        await self.pool.ask(self.post(body), b" 202")

    def close(self):
        self.stream.close()
        self.pool.close()
