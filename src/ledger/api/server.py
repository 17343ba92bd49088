"""The HTTP server: one uvicorn over the Unix socket and any number of TCP listeners."""

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import structlog
import uvicorn

from ledger.api.app import application
from ledger.api.connection import Connection
from ledger.api.envelope import Envelope
from ledger.domain.errors import BadListener
from ledger.master.main import MasterSettings, run_master
from ledger.master.service import Service
from ledger.settings import SOCKET

logger = structlog.get_logger("http")

GRACE_S = 5


class _Server(uvicorn.Server):
    """uvicorn without handlers of its own: signals are the master's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bind(path: Path, listen: tuple[str, ...], *, insecure: bool) -> list[socket.socket]:
    """The listening sockets: a Unix socket at `path`, and one for each HOST:PORT.

    Raises `BadListener`, also for an address beyond the loopback interface without `insecure`:
    tokens would travel in clear text.
    """
    sockets = [_tcp(address, insecure=insecure) for address in listen]
    if len(os.fsencode(path)) > 100:
        raise BadListener(
            f"The path {path} is too long for a Unix socket.", hint="Use a shorter --data."
        )
    path.unlink(missing_ok=True)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(path))
    path.chmod(0o666)
    unix.listen(1024)
    return [unix, *sockets]


def _tcp(address: str, *, insecure: bool) -> socket.socket:
    host, colon, port = address.rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdigit() or int(port) > 65_535 or not host:
        raise BadListener(f"{address!r} is not an address to listen on.")
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise BadListener(f"{address!r} can't be looked up: {error}.") from None
    if not ipaddress.ip_address(where[0]).is_loopback and not insecure:
        raise BadListener(
            f"{address} is not a loopback address, and tokens would travel in clear text.",
            hint="Put a TLS proxy before a loopback listener, or say --insecure-listen.",
        )
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(where)
    except OSError as error:
        raise BadListener(
            f"{address} can't be listened on: {error.strerror}.",
            hint="Is another service running there? Choose another port.",
        ) from None
    sock.listen(1024)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def name_of(sock: socket.socket) -> str:
    """The address that a socket listens on, as clients write it."""
    where = sock.getsockname()
    return f"unix:{where}" if isinstance(where, str) else f"http://{where[0]}:{where[1]}"


async def serve(
    service: Service, stop: asyncio.Event, *, listen: tuple[str, ...], insecure: bool
) -> None:
    """Serve `service` until `stop` is set; then answer what is under way, for a few seconds.

    The sockets are bound here, and so by the process that has the lead, never by one that waits.
    """
    sockets = bind(service.data / SOCKET, listen, insecure=insecure)
    service.listening = [name_of(sock) for sock in sockets]
    await serve_app(application(service), sockets, stop)


async def serve_app(app: Envelope, sockets: list[socket.socket], stop: asyncio.Event) -> None:
    """Serve an application until `stop` is set; then answer what is under way."""
    logger.info("listening", addresses=[name_of(sock) for sock in sockets])
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        backlog=1024,
    )
    server = _Server(config)

    async def watch() -> None:
        await stop.wait()
        server.should_exit = True

    watcher = asyncio.ensure_future(watch())
    try:
        await server.serve(sockets=sockets)
    finally:
        stop.set()
        watcher.cancel()


def run(settings: MasterSettings, say: Callable[[str], None], *, insecure: bool = False) -> int:
    """Run a master with its API; `master.main.run_master` says how it ends."""
    return run_master(settings, partial(serve, listen=settings.listen, insecure=insecure), say)
