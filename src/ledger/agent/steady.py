"""One plain connection per simulated node, kept open: a tenth of a general client's cost a call.

Hundreds of simulated nodes in one process are there to load a master, not to be the load. What
this speaks is HTTP/1.1 to a server that states the length of its answers; no TLS.
"""

import asyncio
import uuid
from urllib.parse import urlsplit

import msgspec

from ledger.agent.transport import Unreachable, decode, refuse
from ledger.wire import SyncReply, SyncRequest


class SteadyTransport:
    """The protocol's `sync` for one node, over `http://…` or `unix:/path`."""

    def __init__(self, url: str, node: str, token: str) -> None:
        self._url, self._target = url, f"/v1/agents/{node}/sync"
        host = "jobledger" if url.startswith("unix:") else urlsplit(url).netloc
        self._head = (
            f"POST {self._target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\n"
        )
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One call of the protocol; Unreachable or Rejected."""
        body, request_id = msgspec.json.encode(request), uuid.uuid4().hex
        whole = False
        try:
            reader, writer = self._streams or await self._connect()
            head = f"{self._head}X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            status, answer, keep = await _read(reader)
            whole = keep
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as e:
            raise Unreachable(f"{type(e).__name__}: {e} (request {request_id})") from e
        finally:
            if not whole:  # an answer may still come, and would be taken for the next one's
                await self.close()
        if status != 200:
            refuse(status, answer, request_id)
        return decode(answer, SyncReply)

    async def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._url.startswith("unix:"):
            self._streams = await asyncio.open_unix_connection(self._url.removeprefix("unix:"))
        else:
            parts = urlsplit(self._url)
            self._streams = await asyncio.open_connection(parts.hostname, parts.port or 80)
        return self._streams


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status and body of an answer, and whether the connection may be used again."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    fields = dict(line.split(b":", 1) for line in head.split(b"\r\n")[1:] if line)
    body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
    return int(head[9:12]), body, b"close" not in fields.get(b"connection", b"")
