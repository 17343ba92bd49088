"""Where notices go in tests: a mail server and a web server that are real, and one that hangs."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller


@dataclass
class Mails:
    """A mail server. `came` is what it took, in order. While it is `held` it answers nobody, who
    then are `waiting`."""

    port: int = 0
    held: bool = False
    waiting: int = 0
    came: list[tuple[list[str], Message]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """It as the site's mail server."""
        return f"mailto://127.0.0.1:{self.port}?from=jobledger@example.org"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Take a mail, once it is not held any more."""
        self.waiting += self.held
        while self.held:  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.01)
        self.came.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 taken"

    def to(self, address: str) -> list[Message]:
        """What one got."""
        return [mail for whom, mail in self.came if whom == [address]]


@contextmanager
def mails() -> Iterator[Mails]:
    """A mail server on the loopback interface for as long as the block runs."""
    sink = Mails(_free_port())
    controller = Controller(sink, hostname="127.0.0.1", port=sink.port)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()


@dataclass
class Hooks:
    """A web server that takes webhooks. `came`: path and body of each; it answers `status`."""

    port: int = 0
    status: int = 200
    refused: int = 0
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        """It as somebody's channel."""
        return f"json://127.0.0.1:{self.port}/{path}"

    def to(self, path: str) -> list[dict[str, Any]]:
        """What came at a path."""
        return [body for where, body in self.came if where == f"/{path}"]


@contextmanager
def hooks() -> Iterator[Hooks]:
    """A web server on the loopback interface for as long as the block runs."""
    sink = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if sink.status == 200:
                sink.came.append((self.path, body))
            else:
                sink.refused += 1
            self.send_response(sink.status)
            if sink.status == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sink.port = server.server_port
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def hung() -> Iterator[int]:
    """The port of a server that accepts connections, and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port
