"""The way from an agent to its master: HTTP, with the node's own token, or the Unix socket.

Two ways to fail: `Unreachable` (try again) and `Rejected` (the master understood and says no).
"""

import os
import uuid
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import httpx2
import msgspec
import structlog

from ledger.wire import EnrolReply, EnrolRequest, SyncReply, SyncRequest

log = structlog.get_logger("agent")

ANSWER_MARGIN_S = 15.0
"""How much longer than `wait_s` a sync may take before it is taken for lost."""

TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
R = TypeVar("R", SyncReply, EnrolReply)


class Unreachable(Exception):
    """No answer, or one that says to come back later: nothing is known of what the master did."""


class NotKept(Unreachable):
    """The master's output store takes nothing for now. Nothing else is wrong."""


class Rejected(Exception):
    """The master refused: `status` of HTTP, `code` for programs, the text for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status, self.code = status, code


class Transport(Protocol):
    """What an agent needs of the network, but for its jobs' output, which not every one keeps."""

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One call of the protocol; Unreachable or Rejected."""

    async def close(self) -> None:
        """Let the connections go."""


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""


def client(url: str, connections: int | None = 10) -> httpx2.AsyncClient:
    """A client for `http(s)://…` or `unix:/path`; no proxy, no settings of the environment's."""
    limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
    if url.startswith("unix:"):
        base, socket = "http://jobledger", url.removeprefix("unix:")
    else:
        base, socket = url.rstrip("/"), None
    transport = httpx2.AsyncHTTPTransport(uds=socket, limits=limits, trust_env=False)
    return httpx2.AsyncClient(base_url=base, transport=transport, trust_env=False, timeout=30.0)


class HttpTransport:
    """The protocol over HTTP for one node. Several nodes may share one `http` client."""

    def __init__(self, http: httpx2.AsyncClient, node: str, token: str) -> None:
        self._http, self._node = http, node
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._base = f"/v1/agents/{node}"

    async def sync(self, request: SyncRequest) -> SyncReply:
        """One call of the protocol; Unreachable or Rejected."""
        body = msgspec.json.encode(request)
        timeout_s = request.wait_s + ANSWER_MARGIN_S
        answer = await self._post(f"{self._base}/sync", body, "application/json", timeout_s)
        return decode(answer, SyncReply)

    async def upload(self, job: int, attempt: int, offset: int, data: bytes) -> None:
        """Store a piece of an attempt's output; again is harmless. Unreachable or Rejected."""
        path = f"{self._base}/output/{job}/{attempt}?offset={offset}"
        await self._post(path, data, "application/octet-stream", 60.0)

    async def enrol(self, request: EnrolRequest) -> EnrolReply:
        """Join: the credential must be a join token, or that of an operator."""
        body = msgspec.json.encode(request)
        answer = await self._post(f"{self._base}/enrol", body, "application/json", 30.0)
        return decode(answer, EnrolReply)

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    async def _post(self, path: str, body: bytes, kind: str, timeout_s: float) -> bytes:
        request_id = uuid.uuid4().hex
        headers = {**self._headers, "Content-Type": kind, "X-Request-Id": request_id}
        try:
            answer = await self._http.post(path, content=body, headers=headers, timeout=timeout_s)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as e:
            raise Unreachable(f"{type(e).__name__}: {e} (request {request_id})") from e
        if not answer.is_success:
            refuse(answer.status_code, answer.content, request_id)
        return answer.content


def refuse(status: int, body: bytes, request_id: str) -> NoReturn:
    """Raise what an answer that is no success means."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(detail=body[:200].decode(errors="replace"))
    detail = f"{problem.detail} (request {request_id})"
    if problem.code == "output_not_kept":
        raise NotKept(f"{status} {problem.code}: {detail}")
    if status in TRY_AGAIN:
        raise Unreachable(f"{status} {problem.code}: {detail}")
    raise Rejected(status, problem.code, detail)


def decode(data: bytes, kind: type[R]) -> R:
    """An answer of the protocol, or Unreachable: it may be a proxy that speaks."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as e:
        raise Unreachable(f"an answer that is not the protocol: {e}") from e


def read_token(folder: Path) -> str:
    """The node's own token, "" if it has none yet."""
    try:
        return (folder / "token").read_text().strip()
    except FileNotFoundError:
        return ""


def save_token(folder: Path, token: str) -> None:
    """Keep the node's token, for this account's eyes only, whole or not at all."""
    temporary = folder / "token.new"
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as f:
        f.write(token + "\n")
        f.flush()
        os.fsync(f.fileno())
    temporary.rename(folder / "token")
    folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
