"""A master without rules: it gives the orders a test puts into it, and keeps what it hears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from ledger.agent.transport import Rejected, Unreachable
from ledger.wire import (
    PROTOCOL,
    EnrolReply,
    EnrolRequest,
    Order,
    Report,
    Seen,
    SyncReply,
    SyncRequest,
)

Key = tuple[int, int]
OWN = "own-token"


class FakeMaster:
    """`orders` of one node, `reports` in the order they came, `output` per attempt."""

    def __init__(self, lease_s: int = 300) -> None:
        self.lease_s = lease_s
        self.seen = Seen(incarnation="i1", epoch=1, position=10, hash="aa")
        self.orders: dict[Key, Order] = {}
        self.requests: list[SyncRequest] = []
        self.reports: list[Report] = []
        self.output: dict[Key, bytearray] = {}
        self.enrolled: list[EnrolRequest] = []
        self.away = False
        self.acks = True
        self.no_output = False
        self.request_ids: set[str] = set()
        self._changed = asyncio.Event()

    def give(self, *orders: Order) -> None:
        """These are the node's orders from now on."""
        self.orders = {(o.job, o.attempt): o for o in orders}
        self._changed.set()

    def ended(self, job: int = 17) -> Report | None:
        """The report that a job's attempt is over, once it came."""
        return next((r for r in self.reports if r.kind == "ended" and r.job == job), None)

    def has(self) -> dict[Key, str]:
        """What the node said last that it has."""
        return {(h.job, h.attempt): h.phase for h in self.requests[-1].has} if self.requests else {}

    async def sync(self, request: SyncRequest) -> SyncReply:
        """As the real one: at once if there is something new, else within `wait_s`."""
        if self.away:
            raise Unreachable("the test says so")
        self.requests.append(request)
        known = {r.seq for r in self.reports}
        self.reports.extend(r for r in request.reports if r.seq not in known)
        acked = tuple(r.seq for r in request.reports) if self.acks else ()
        for report in request.reports:
            if report.kind == "ended" and self.acks:
                self.orders.pop((report.job, report.attempt), None)
        until = asyncio.get_running_loop().time() + request.wait_s
        while not acked and not self._news(request):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                break
        if self.away:
            raise Unreachable("the test says so")
        orders = tuple(self.orders.values())
        return SyncReply(
            protocol=PROTOCOL, seen=self.seen, lease_s=self.lease_s, orders=orders, acked=acked
        )

    def _news(self, request: SyncRequest) -> bool:
        has = {(h.job, h.attempt): h.phase for h in request.has}
        if set(has) != set(self.orders):
            return True
        return any(
            (o.stop and has[k] != "stopping") or (o.go and has[k] == "held")
            for k, o in self.orders.items()
        )

    async def upload(self, job: int, attempt: int, offset: int, data: bytes) -> None:
        """Store by offset."""
        if self.away or self.no_output:
            raise Unreachable("the test says so")
        if job == 666:
            raise Rejected(404, "unknown_job", "there is no such job")
        kept = self.output.setdefault((job, attempt), bytearray())
        kept[offset : offset + len(data)] = data

    async def close(self) -> None:
        """Nothing to let go."""

    # ── the same over HTTP ──

    @contextlib.asynccontextmanager
    async def listening(self, path: Path | None = None) -> AsyncIterator[str]:
        """Serve HTTP on loopback, or on a Unix socket; the URL."""
        if path is not None:
            server = await asyncio.start_unix_server(self._serve, path)
            url = f"unix:{path}"
        else:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield url
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, answer = await self._answer(head[0].split(" ")[1], headers, body)
                writer.write(
                    f"HTTP/1.1 {status} x\r\ncontent-length: {len(answer)}\r\n\r\n".encode()
                    + answer
                )
                await writer.drain()
        writer.close()

    async def _answer(self, target: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        self.request_ids.add(headers["x-request-id"])
        path, _, query = target.partition("?")
        parts = path.split("/")
        credential = headers.get("authorization", "")
        try:
            if parts[4] == "enrol":
                self.enrolled.append(msgspec.json.decode(body, type=EnrolRequest))
                if credential not in ("bearer join-me", ""):
                    return 401, b'{"code": "unauthenticated", "detail": "no"}'
                return 200, msgspec.json.encode(EnrolReply(node=parts[3], token=OWN))
            if credential != f"bearer {OWN}":
                return 401, b'{"code": "unauthenticated", "detail": "no"}'
            if parts[4] == "sync":
                reply = await self.sync(msgspec.json.decode(body, type=SyncRequest))
                return 200, msgspec.json.encode(reply)
            offset = int(query.removeprefix("offset="))
            await self.upload(int(parts[5]), int(parts[6]), offset, body)
        except Unreachable:
            return 503, b'{"code": "not_ready", "detail": "away"}'
        return 204, b""
