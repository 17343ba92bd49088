"""Connections that nobody in his right mind makes: slow, endless, half-open, deaf, or not HTTP."""

import asyncio
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, NamedTuple

PIECE = b"x" * 65_536
GIGABYTE = 1 << 30
LAST_S = 120.0


class Target(NamedTuple):
    """Where to, and an operator's token."""

    host: str
    port: int
    token: str

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """A request's head, up to the last header."""
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.token}"]
        return "\r\n".join([*lines, "Content-Type: application/json", *headers, ""]).encode()


Pieces = AsyncIterator[bytes]
Attack = Callable[[Target], Pieces]


async def slow_head(target: Target) -> Pieces:
    """A byte of a head a second."""
    yield b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Long: "
    while True:
        await asyncio.sleep(1)
        yield b"a"


async def slow_body(target: Target) -> Pieces:
    """A byte of a body a second."""
    yield target.head("POST", "/v1/jobs", "Content-Length: 1000") + b"\r\n"
    while True:
        await asyncio.sleep(1)
        yield b" "


async def no_body(target: Target) -> Pieces:
    """A body is promised and never comes."""
    yield target.head("POST", "/v1/tokens", "Content-Length: 1000") + b"\r\n"


async def endless_head(target: Target) -> Pieces:
    """Headers without an end."""
    yield b"GET / HTTP/1.1\r\n"
    for n in range(10_000):
        yield b"X-%d: %s\r\n" % (n, PIECE[:8000])


async def endless_line(target: Target) -> Pieces:
    """A path without an end."""
    yield b"GET /"
    for _ in range(1000):
        yield PIECE


async def gigabyte(target: Target) -> Pieces:
    """A gigabyte in chunks, its length not told before."""
    yield target.head("POST", "/v1/jobs", "Transfer-Encoding: chunked") + b"\r\n"
    for _ in range(GIGABYTE // len(PIECE)):
        yield b"%x\r\n%s\r\n" % (len(PIECE), PIECE)


async def promised_gigabyte(target: Target) -> Pieces:
    """A gigabyte, its length told before."""
    yield target.head("POST", "/v1/jobs", f"Content-Length: {GIGABYTE}") + b"\r\n"
    for _ in range(GIGABYTE // len(PIECE)):
        yield PIECE


async def half_open(target: Target) -> Pieces:
    """Half a head, then the client closes its side."""
    yield target.head("POST", "/v1/jobs")[:40]
    yield b""


def once(data: bytes) -> Attack:
    """All of it at once."""

    async def pieces(target: Target) -> Pieces:
        yield data

    return pieces


def posted(body: bytes, *headers: str, path: str = "/v1/jobs") -> Attack:
    """One request with this body."""

    async def pieces(target: Target) -> Pieces:
        yield target.head("POST", path, f"Content-Length: {len(body)}", *headers) + b"\r\n" + body

    return pieces


def anonymous(*headers: str) -> Attack:
    """A request of somebody who says who he is, and proves nothing."""
    return once("\r\n".join(["GET /v1/jobs HTTP/1.1", "Host: x", *headers, "", ""]).encode())


KEYS = json.dumps({f"k{n}": n for n in range(100_000)}).encode()
ENV = b'{"argv":["x"],"env":' + KEYS + b"}"
OLD_SYNC = (
    b'{"protocol":0,"spool":"s","boot_id":"b","sent_ns":1,"build":"0.0.1","facts":{}}'
)  # fmt: skip
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(190)

ATTACKS: dict[str, tuple[Attack, int, int]] = {
    # what is sent, how many at once, the status that must come (0: the connection just ends)
    "nothing at all": (once(b""), 500, 0),
    "a byte of a head a second": (slow_head, 30, 408),
    "a byte of a body a second": (slow_body, 30, 408),
    "a body that never comes": (no_body, 30, 408),
    "half a head, then closed": (half_open, 30, 0),
    "headers without an end": (endless_head, 5, 431),
    "a path without an end": (endless_line, 5, 431),
    "a gigabyte in chunks": (gigabyte, 1, 413),
    "a gigabyte, promised": (promised_gigabyte, 1, 413),
    "a gzip bomb": (posted(gzip.compress(bytes(50 << 20)), "Content-Encoding: gzip"), 2, 400),
    "100,000 keys": (posted(KEYS), 1, 422),
    "100,000 values of an environment": (posted(ENV), 1, 422),
    "100,000 levels": (posted(b'{"a":' * 100_000), 2, 400),
    "a number of a million digits": (posted(b'{"nodes":' + b"9" * 1_000_000 + b"}"), 2, 400),
    "TLS": (once(CLIENT_HELLO), 5, 400),
    "HTTP/2": (once(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 5, 400),
    "HTTP/0.9": (once(b"GET /\r\n\r\n"), 5, 401),
    "binary": (once(bytes(range(256)) * 8), 5, 400),
    "two lengths": (posted(b"{}", "Content-Length: 3"), 5, 400),
    "length and chunks": (posted(b"{}", "Transfer-Encoding: chunked"), 5, 400),
    "a name in a header": (anonymous("X-Remote-User: root", "X-Forwarded-User: root"), 5, 401),
    "basic": (anonymous("Authorization: Basic cm9vdDpyb290"), 5, 401),
    "an unsigned token": (anonymous("Authorization: Bearer eyJhbGciOiJub25lIn0.e30."), 5, 401),
    "a cookie": (anonymous("Cookie: session=root; user=root"), 5, 401),
    "a proxy's word": (anonymous("Forwarded: for=127.0.0.1;by=unix", "X-Real-IP: ::1"), 5, 401),
    "an ancient client": (posted(b'{"argv":["x"]}', "X-Jobledger-Build: 0.0.9"), 5, 426),
    "an ancient agent": (posted(OLD_SYNC, path="/v1/agents/n1/sync"), 1, 403),
}


async def made(attack: Attack, target: Target) -> bytes:
    """Carry out one attack; all that came back until the other side closed."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    sending = asyncio.ensure_future(_send(attack(target), writer))
    try:
        async with asyncio.timeout(LAST_S):
            return await _answer(reader)
    finally:
        sending.cancel()
        writer.transport.abort()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """One answer, whole; or nothing, if the other side just closes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(f.lower().split(b": ", 1) for f in head.split(b"\r\n")[1:] if f)
        return head + await reader.readexactly(int(fields[b"content-length"]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


async def _send(pieces: Pieces, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for piece in pieces:
            if piece:
                writer.write(piece)
                await writer.drain()
            elif writer.can_write_eof():
                writer.write_eof()


async def all_made(target: Target) -> dict[str, list[bytes]]:
    """Every attack there is, all of them at the same time; what came back."""
    running: dict[str, list[Coroutine[Any, Any, bytes]]] = {
        name: [made(attack, target) for _ in range(times)]
        for name, (attack, times, _) in ATTACKS.items()
    }
    together = [asyncio.gather(*each, return_exceptions=False) for each in running.values()]
    return dict(zip(running, await asyncio.gather(*together), strict=True))


@contextlib.contextmanager
def deaf(target: Target, count: int) -> Iterator[list[socket.socket]]:
    """Clients that ask for all events, and read none of them."""
    socks = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((target.host, target.port))
        sock.sendall(target.head("GET", "/v1/events", "Accept: text/event-stream") + b"\r\n")
        socks.append(sock)
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()
