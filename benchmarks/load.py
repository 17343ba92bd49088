"""A client that costs little: hand-made HTTP over plain sockets, each with one request under way.

It shares the machine with what it measures, and so must not be what is measured.
"""

import asyncio
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Target = str | tuple[str, int]
"""A Unix socket's path, or host and port."""


class Loaded(NamedTuple):
    """What came of a load: requests a second, and how long one took (ms)."""

    per_s: float
    p50_ms: float
    p99_ms: float


class Client(asyncio.Protocol):
    """One connection. It sends the next request as soon as it has its answer."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._got = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def _next(self) -> None:
        assert self._transport is not None
        request = self._load.request()
        if request is None:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._got += data
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._got.lower().find(b"content-length:", 0, end)
        length = int(self._got[at + 15 : self._got.index(b"\r", at)])
        if len(self._got) < end + 4 + length:
            return
        answer, self._got = self._got, b""
        self._load.answered(time.perf_counter() - self._sent, answer)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.gone()


class Load:
    """So many connections that together make so many requests."""

    def __init__(self, make: Callable[[int], bytes], requests: int, connections: int) -> None:
        self._make, self._left, self._made = make, requests, 0
        self._requests, self._connections = requests, connections
        self._took: list[float] = []
        self._open = connections
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def request(self) -> bytes | None:
        """The next request's bytes; None when there are enough."""
        if self._made == self._requests:
            return None
        self._made += 1
        return self._make(self._made)

    def answered(self, seconds: float, answer: bytes) -> None:
        """Count a good answer; anything else ends the measurement."""
        if answer[9:11] != b"20" and not self._over.done():
            self._over.set_exception(AssertionError(answer.decode()))
        self._took.append(seconds)

    def gone(self) -> None:
        """A connection is closed."""
        self._open -= 1
        if not self._open and not self._over.done():
            self._over.set_result(None)

    async def run(self, target: Target) -> Loaded:
        """Make all requests of all connections."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        for _ in range(self._connections):
            if isinstance(target, str):
                await loop.create_unix_connection(lambda: Client(self), target)
            else:
                await loop.create_connection(lambda: Client(self), *target)
        await self._over
        took = time.perf_counter() - began
        assert len(self._took) == self._requests, f"{self._requests - len(self._took)} unanswered"
        ordered = sorted(self._took)
        return Loaded(
            self._requests / took,
            statistics.median(ordered) * 1e3,
            ordered[len(ordered) * 99 // 100] * 1e3,
        )


def run(target: Target, make: Callable[[int], bytes], requests: int, connections: int) -> Loaded:
    """Load `target` with what `make` gives for 1, 2, 3 …"""

    async def loaded() -> Loaded:
        return await Load(make, requests, connections).run(target)

    return asyncio.run(loaded())


def post(path: str, body: bytes, *, key: str = "", token: str = "") -> bytes:
    """A POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: jobledger\r\nContent-Type: application/json\r\n"
    if key:
        head += f"Idempotency-Key: {key}\r\n"
    if token:
        head += f"Authorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
