"""A real proxy before a master's Unix socket that loses, holds, cuts and slows what agents say.

Agents get a socket of their own for each node, so that one node can be cut off and others not.
"""

import contextlib
import select
import socket
import threading
import time
from pathlib import Path
from typing import Literal

Loss = Literal[
    "none",
    "refused",  # every connection is ended, and every new one
    "requests eaten",  # nothing arrives at the master; connections stay half open
    "replies eaten",  # all arrives, and every answer is swallowed
    "one way",  # as a network does that loses what the master sends
    "held",  # everything arrives, but only when the fault is over
    "requests cut",  # each request ends in its middle, and the connection with it
    "replies cut",  # each answer likewise
    "slow",  # each answer comes byte by byte
]
SHAPES: tuple[Loss, ...] = (
    *("requests eaten", "replies eaten", "one way", "held"),
    *("requests cut", "replies cut", "slow", "refused"),
)
SLOW_S = 1.0
"""Seconds for a byte."""

LOOK_S = 0.02


class Lossy:
    """Listens at `path` and forwards to `target`. `hit` counts what the fault has touched."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path, self._target = path, target
        self.hit = 0
        self._loss: Loss = "none"
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where agents connect to."""
        return f"unix:{self.path}"

    @property
    def loss(self) -> Loss:
        """The fault that is on."""
        return self._loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._loss = loss

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._closed = True
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            with contextlib.suppress(OSError):
                if select.select([self._listener], [], [], LOOK_S)[0]:
                    client, _ = self._listener.accept()
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Carry one connection until either side, or the fault, ends it."""
        with contextlib.suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
            if self._loss == "refused":
                self.hit += 1
                return
            cut_off = self._loss == "one way"
            server.connect(str(self._target))
            Carried(self, client, server, cut_off).run()

    @property
    def closed(self) -> bool:
        """Is it over?"""
        return self._closed


class Carried:
    """One connection. What the fault has spoilt is ended when the fault is over."""

    def __init__(
        self, proxy: Lossy, client: socket.socket, server: socket.socket, cut_off: bool
    ) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._cut_off, self._spoilt = cut_off, cut_off
        self._held: list[tuple[socket.socket, bytes]] = []

    def run(self) -> None:
        """Until it ends."""
        while not self._proxy.closed:
            loss = self._proxy.loss
            if loss == "refused" or (loss == "none" and self._spoilt):
                return
            if loss == "none" and self._held:
                for target, data in self._held:
                    target.sendall(data)
                self._held.clear()
            ready = select.select([self._client, self._server], [], [], LOOK_S)[0]
            for source in ready:
                if not self._carry(source, self._proxy.loss):
                    return

    def _carry(self, source: socket.socket, loss: Loss) -> bool:
        """Take what one side has said to where the fault lets it go; False ends the connection."""
        data = source.recv(1 << 16)
        if not data:
            return False
        asks = source is self._client
        target = self._server if asks else self._client
        self._proxy.hit += loss != "none"
        if loss == "held":
            self._held.append((target, data))
        elif self._eaten(asks, loss):
            self._spoilt = True
        elif (loss, asks) in (("requests cut", True), ("replies cut", False)):
            target.sendall(data[: len(data) // 2])
            return False
        elif loss == "slow" and not asks:
            self._drip(data)
        else:
            target.sendall(data)
        return True

    def _eaten(self, asks: bool, loss: Loss) -> bool:
        if loss == "one way":
            eaten = not asks or self._cut_off
            self._cut_off = self._cut_off or not asks
            return eaten
        return loss == ("requests eaten" if asks else "replies eaten")

    def _drip(self, data: bytes) -> None:
        """Byte by byte, while the fault is on."""
        for at in range(len(data)):
            end = time.monotonic() + SLOW_S
            while self._proxy.loss == "slow" and time.monotonic() < end:
                time.sleep(LOOK_S)
            if self._proxy.loss != "slow":
                self._client.sendall(data[at:])
                return
            self._client.sendall(data[at : at + 1])
