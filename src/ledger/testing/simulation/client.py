"""A client at a desk: it asks, waits for an answer, and asks again elsewhere."""

import asyncio
from collections.abc import Sequence
from typing import Any

from ledger.agent.transport import Unreachable
from ledger.commands import Command, Subject
from ledger.domain.errors import NotNow, Refusal, TooBusy
from ledger.testing.simulation.loop import Process, SimulatedLoop
from ledger.testing.simulation.master import Acknowledged
from ledger.testing.simulation.network import Network, Server

PATIENCE_S = 2.0
PAUSE_S = 0.3


class Asked:
    """A request and what became of it: an answer, a refusal, or nothing (yet)."""

    def __init__(self, subject: Subject, command: Command, request: str) -> None:
        self.subject, self.command, self.request = subject, command, request
        self.answer: Acknowledged | None = None
        self.refusal: Refusal | None = None
        self.sent_to: list[str] = []

    @property
    def settled(self) -> bool:
        """Is there an answer?"""
        return self.answer is not None or self.refusal is not None


class Desk:
    """Where people sit. `asked` is all they ever asked for, in order."""

    name = "desk"

    def __init__(self, loop: SimulatedLoop, network: Network, servers: Sequence[Server]) -> None:
        self._loop, self._network, self._servers = loop, network, servers
        self._process = Process("desk")
        self._server = 0
        self.asked: list[Asked] = []

    def ask(self, subject: Subject, command: Command, tries: int) -> Asked:
        """Begin to ask; `tries` times at most."""
        asked = Asked(subject, command, f"r{len(self.asked) + 1}")
        self.asked.append(asked)
        self._loop.launch(self._process, self._ask(asked, tries))
        return asked

    def turn_to(self, server: Server) -> None:
        """Ask this one next."""
        self._server = self._servers.index(server)

    async def _ask(self, asked: Asked, tries: int) -> None:
        for _ in range(tries):
            server = self._servers[self._server]
            asked.sent_to.append(server.name)
            said = None
            try:
                async with asyncio.timeout(PATIENCE_S):
                    what: Any = ("ask", asked.subject, asked.command, asked.request)
                    _, said = await self._network.call(self.name, server, what)
            except (Unreachable, TimeoutError):
                pass
            if isinstance(said, Acknowledged):
                asked.answer = said
                return
            if isinstance(said, Refusal) and not isinstance(said, NotNow | TooBusy):
                asked.refusal = said
                return
            self._server = (self._server + 1) % len(self._servers)
            await asyncio.sleep(PAUSE_S)
