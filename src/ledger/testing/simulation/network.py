"""The network between machines: it delays, loses, doubles and reorders, and is cut in one
direction or in both. A call is a request and a reply, each a message of its own."""

import contextvars
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from ledger.agent.transport import Unreachable
from ledger.testing.simulation.loop import Process, SimulatedLoop

Answer = tuple[int, Any]


class Server(Protocol):
    """A machine that answers. `process` is None while nothing listens there."""

    name: str
    process: Process | None

    async def serve(self, source: str, what: Any) -> Answer:
        """The status and the body of an answer, whatever happens."""


class Network:
    """`cut` are the directions in which nothing gets through, until when; `slow` how long a message
    may take, in seconds, where that is long. `doubled`: the share of requests that arrive twice."""

    def __init__(self, loop: SimulatedLoop, rng: Random) -> None:
        self._loop, self._rng = loop, rng
        self.cut: dict[tuple[str, str], float] = {}
        self.slow: dict[tuple[str, str], float] = {}
        self.doubled = 0.0
        self.sent = self.lost = 0

    def connected(self, source: str, target: str) -> bool:
        """Do messages get through, both ways?"""
        return not (self.is_cut((source, target)) or self.is_cut((target, source)))

    def is_cut(self, way: tuple[str, str]) -> bool:
        """Does nothing get through in this direction now?"""
        return self.cut.get(way, 0) > self._loop.time()

    async def call(self, source: str, server: Server, what: Any) -> Answer:
        """Ask a server; no answer at all if a message is lost: have a limit to your patience.

        Raises `Unreachable` where nothing listens.
        """
        answered = self._loop.create_future()
        context = contextvars.copy_context()

        def settle(answer: Answer | None) -> None:
            if answered.done():
                return
            if answer is None:
                answered.set_exception(Unreachable("connection refused"))
            else:
                answered.set_result(answer)

        def replied(answer: Answer | None) -> None:
            self._loop.call_soon(settle, answer, context=context)

        def arrived() -> None:
            process = server.process
            if process is None or not process.alive:
                self._send(server.name, source, replied, None)
            else:
                self._loop.launch(process, answer())

        async def answer() -> None:
            said = await server.serve(source, what)
            self._send(server.name, source, replied, said)

        for _ in range(2 if self._rng.random() < self.doubled else 1):
            self._send(source, server.name, arrived)
        return await answered  # type: ignore[no-any-return]

    def _send(self, source: str, target: str, deliver: Callable[..., None], *args: Any) -> None:
        """Have it delivered by the world: it is under way, whatever becomes of the sender."""
        way = (source, target)
        self.sent += 1

        def arrive() -> None:
            if self.is_cut(way):
                self.lost += 1
            else:
                deliver(*args)

        longest = self.slow.get(way, 0.003)
        if self.is_cut(way):
            self.lost += 1
        else:
            self._loop.later(self._rng.uniform(0.0005, longest), arrive)
