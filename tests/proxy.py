"""A real TCP proxy before PostgreSQL that loses what it is told to lose."""

import contextlib
import socket
import threading
from typing import Literal

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Fault = Literal["none", "reply", "request"]


class Proxy:
    """Listens on a loopback port and forwards to the server of `url`.

    With `fault` `reply`, the next COMMIT, or another statement that `at` is a part of, reaches the
    server, and the connection ends once the server has answered; with `request`, it ends before
    that is forwarded. Both happen once; `fired` counts them. `refuse` ends every connection, also
    new ones; with `then_refuse` this is done in the moment of the fault.
    """

    def __init__(self, url: str) -> None:
        known = conninfo_to_dict(url)
        self._target = f"{known['host']}/.s.PGSQL.{known.get('port') or 5432}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = make_conninfo(url, host="127.0.0.1", port=str(port))
        self.fault: Fault = "none"
        self.at = b"COMMIT"
        self.fired = 0
        self.then_refuse = False
        self._refusing = False
        self._eating: socket.socket | None = None
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self) -> None:
        """End every connection, and every new one at once."""
        self._refusing = True
        for open_socket in list(self._open):
            _end(open_socket)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self.refuse()
        _end(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._open += [client, server]
            for run in (self._to_server, self._to_client):
                threading.Thread(target=run, args=(client, server), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(client):
            if self.at in data and self.fault != "none":
                fault, self.fault = self.fault, "none"
                if fault == "request":
                    self._refusing = self._refusing or self.then_refuse
                    self.fired += 1
                    break
                self._eating = client
            _send(server, data)
        _end(client)
        _end(server)

    def _to_client(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(server):
            if self._eating is client:
                self._eating = None
                self._refusing = self._refusing or self.then_refuse
                self.fired += 1
                break
            _send(client, data)
        _end(client)
        _end(server)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:
        return b""


def _send(target: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        target.sendall(data)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
