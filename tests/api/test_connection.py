"""What a client gets whose request is refused before it is whole."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ledger.api import connection
from live import Live

HEAD = b"GET / HTTP/1.1\r\nX: " + b"x" * (connection.HEAD_BYTES + 1)


@contextlib.contextmanager
def connected(service: Live) -> Iterator[socket.socket]:
    """A client's end of a connection."""
    host, _, port = service.address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        yield wire


def answer(wire: socket.socket) -> bytes:
    """All that comes until the service has nothing more to say."""
    found = b""
    while piece := wire.recv(65_536):
        found += piece
    return found


def send_for_ever(wire: socket.socket) -> None:
    """As long as it is taken."""
    while True:
        wire.sendall(HEAD)


def test_a_refused_client_that_still_sends_gets_its_answer(service: Live) -> None:
    """And no failure, which on some machines would cost him the answer."""
    with connected(service) as wire:
        wire.sendall(HEAD)
        assert answer(wire).startswith(b"HTTP/1.1 431 ")
        for _ in range(100):
            wire.sendall(HEAD)
        assert wire.recv(1) == b""


def test_one_that_sends_for_ever_is_cut_off(service: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DRAIN_S", 0.1)
    with connected(service) as wire:
        wire.sendall(HEAD)
        assert answer(wire).startswith(b"HTTP/1.1 431 ")
        with pytest.raises(ConnectionError):
            send_for_ever(wire)
