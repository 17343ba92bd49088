"""Who is at the other end: decided here, once, from the connection and the credential alone."""

import re
import secrets
import socket
import struct
from itertools import count
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ledger.api.headers import header
from ledger.api.waiting import demand_present
from ledger.commands import Subject
from ledger.domain.errors import NotNow, TooOld, Unauthenticated
from ledger.domain.permissions import demand
from ledger.events import Via
from ledger.master.identity import by_peer
from ledger.master.service import Service

_UNIX = "unix:"
_PROCESS = secrets.token_hex(4)
_requests = count(1)
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
_PLAIN = re.compile(r"^[A-Za-z0-9 ._:/+()-]{0,100}$")


class Door(Protocol):
    """What has to be known where requests come in: the master's `Service`, or what stands in for
    it while it is away."""

    @property
    def operator_uids(self) -> frozenset[int]:
        """The accounts of this machine that are operators."""

    @property
    def archive(self) -> bool:
        """Is it a ledger in which nothing can be changed?"""

    async def known(self, secret: str) -> tuple[Subject, int]:
        """Whom a token stands for, and until when (µs, 0 for ever). Raises `Unauthenticated`, and
        `NotNow` where that can't be told."""

    def as_of(self) -> tuple[int, int] | None:
        """The position and epoch that answers are of, once known."""


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's protocol; on a Unix socket the client's address is its uid, told by the kernel."""

    def connection_made(self, transport: Any) -> None:
        """Ask the kernel who connected, before anything is read."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            size = struct.calcsize("3i")
            pid, uid, _ = struct.unpack(
                "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            )
            self.client = (f"{_UNIX}{uid}", pid)


def request_id(raw: str | None) -> str:
    """The client's request id if it is a decent one, else a new one."""
    return raw if raw and _REQUEST_ID.match(raw) else f"{_PROCESS}{next(_requests):08x}"


def service_of(request: Request) -> Service:
    """The service, ready or not."""
    service: Service = request.app.state.service
    return service


async def subject_of(request: Request) -> Subject:
    """Who asks. Raises `Unauthenticated`; there is no anonymous request."""
    door: Door = request.app.state.service
    host = _host(request)
    credential = header(request.scope, b"authorization")
    if credential is not None:
        scheme, _, secret = credential.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("The Authorization header must be `Bearer TOKEN`.")
        subject, request.state.expires_at = await door.known(secret.strip())
        return subject
    if host.startswith(_UNIX):
        return by_peer(int(host.removeprefix(_UNIX)), door.operator_uids)
    raise Unauthenticated("This request carries no credential.")


OLDEST_CLIENT = (0, 1)
"""Clients that say they are of an older release are told so."""

_RELEASE = re.compile(r"^(?:jobledger[/ ])?v?(\d{1,6})\.(\d{1,6})")


def demand_release(scope: Scope) -> None:
    """Raise `TooOld` for a client of a release that is no longer understood."""
    build = header(scope, b"x-jobledger-build") or ""
    found = _RELEASE.match(build)
    if found and tuple(map(int, found.groups())) < OLDEST_CLIENT:
        oldest = ".".join(map(str, OLDEST_CLIENT))
        raise TooOld(f"The client is of release {build[:40]}; {oldest} is the oldest understood.")


def _host(request: Request) -> str:
    client = request.scope.get("client")
    return client[0] if client else ""


def via_of(request: Request) -> Via:
    """How a request came: what the client says of itself, and the peer we see."""
    host = _host(request)
    return Via(
        machine=_plain(header(request.scope, b"x-jobledger-machine")),
        peer="unix" if host.startswith(_UNIX) else host,
        build=_plain(header(request.scope, b"x-jobledger-build")),
    )


def _plain(value: str | None) -> str:
    return value if value and _PLAIN.match(value) else ""


class Caller:
    """A request's subject, origin and id, as one parameter of a route."""

    def __init__(self, request: Request, subject: Subject) -> None:
        self.request = request
        self.subject = subject
        self.via = via_of(request)
        self.id: str = request.state.request_id

    @property
    def service(self) -> Service:
        """The master's service, ready or not."""
        return service_of(self.request)

    @property
    def running(self) -> Any:
        """The running master, or `NotNow`."""
        if self.service.running is None:
            raise NotNow("The master is replaying its log.", retry_after_s=1)
        return self.service.running

    @property
    def expires_at(self) -> int:
        """When the credential of this request expires, µs; 0: never."""
        expires_at: int = getattr(self.request.state, "expires_at", 0)
        return expires_at

    def demand(self, action: str, owner: str = "") -> None:
        """Raise `Forbidden` unless the subject may."""
        demand(self.subject, action, owner)


async def caller(request: Request) -> Caller:
    """The dependency every route has. Who it is was found before the request came here."""
    demand_present(request)
    return Caller(request, request.state.subject)


Who = Annotated[Caller, Depends(caller)]
