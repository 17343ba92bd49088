"""Telling people, first half: whoever is to be told gets a notice.

A master that reigns looks once a second; what is due is derived from its state each time, and whom
an outage hit is asked of the projections. Where these are behind or can't be reached, it looks
again later.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog

from ledger.commands import SYSTEM, Command, Tell
from ledger.domain.errors import Refusal
from ledger.domain.notices import Telling, to_tell
from ledger.domain.state import Outage
from ledger.effects.digest import HitJob
from ledger.master.loop import Master
from ledger.projection.reader import Reader, Unavailable

logger = structlog.get_logger("notices")

LOOK_S = 1.0
PORTION = 500
"""Users of one command, so that a commit does not become too large."""

WORST = ("lost", "held", "out_of_contact", "requeued", "continued")


class NotKnownYet(Exception):
    """The projections have not come so far, or can't be asked."""


def asked_of(number: int, kind: str, nodes: Sequence[str], since: int, over: int) -> dict[str, Any]:
    """How `outage_impact.impact` is asked whom an outage hit; `over`: its end, 0 while it is open.

    What an outage by hand hit is told by nodes and times, for nobody knew of it meanwhile.
    """
    return {
        "nodes": sorted(nodes) or None,
        "since": since,
        "until": over + 1 if over else None,
        "outages": [number],
        "window": kind in ("operator", "planned"),
    }


class Known(NamedTuple):
    """What the projections know of an outage at a position. `users`: an `ImpactUser` each."""

    users: list[Any]
    position: int


class History:
    """Asks the projections what notices need. It blocks: call it in a thread."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def impact(self, o: Outage, at_least: int, user: str = "", patience_s: float = 0.0) -> Known:
        """Whom an outage hit, of all or of one user. Raises `NotKnownYet`."""
        asked = asked_of(o.n, o.kind, sorted(o.nodes), o.since, o.until if o.closed_at else 0)
        value, position = self._ask(
            "outage_impact", "impact", at_least, patience_s, **asked, user=user
        )
        return Known(value, position)

    def hit(
        self, o: Outage, user: str, named: int, at_least: int, patience_s: float
    ) -> list[HitJob]:
        """The jobs of a user that an outage hit, as their last attempt in it fared; those that are
        `named` first have their names. Raises `NotKnownYet`."""
        found: dict[int, HitJob] = {}
        for one in self.impact(o, at_least, user, patience_s).users:
            for j in one.jobs:
                seen = found.get(j.job)
                worse = seen is not None and WORST.index(seen.effect) <= WORST.index(j.effect)
                if seen is None or j.attempt > seen.attempt or not worse:
                    found[j.job] = HitJob(j.job, "", j.node, j.effect, j.state, j.attempt, j.last)
        in_order = sorted(found.values(), key=lambda j: (WORST.index(j.effect), j.job))
        return [
            j._replace(name=self._name(j.job)) if i < named else j for i, j in enumerate(in_order)
        ]

    def result(self, o: Outage, at_least: int, patience_s: float) -> str:
        """What came of an outage, in an operator's words. Raises `NotKnownYet`."""
        shown, _ = self._ask("outages", "show_outage", at_least, patience_s, o.n)
        return shown.row.result if shown is not None else ""

    def _name(self, job: int) -> str:
        shown, _ = self._ask("jobs", "show_job", 0, 0.0, job)
        return shown[0].name if shown is not None else ""

    def _ask(
        self, projection: str, query: str, at_least: int, patience_s: float, *args: Any, **more: Any
    ) -> tuple[Any, int]:
        try:
            function: Callable[..., Any] = self._reader.query(projection, query)
            answer = self._reader.at_least(
                projection, at_least, patience_s, lambda c: function(c, *args, **more)
            )
        except Unavailable as error:
            raise NotKnownYet(str(error)) from None
        if answer.position < at_least:
            raise NotKnownYet(f"{projection} is at {answer.position}, not yet at {at_least}")
        return answer.value, answer.position


class Teller:
    """Has a notice made for everyone who is to have one. `trouble`: why it can't, or empty."""

    def __init__(self, master: Master, history: History) -> None:
        self._master, self._history = master, history
        self.trouble = ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                await self.look()
            except Refusal as refusal:
                self._troubled(str(refusal))
            except Exception as error:  # whatever it is, the master goes on
                self._troubled(f"a fault of ours: {error!r}")
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Tell whoever is to be told now, as far as it is known whom."""
        cluster = await self._master.settled()
        if self._master.halted:
            return
        trouble = ""
        tellings = to_tell(cluster, self._master.now())
        for telling in sorted(tellings, key=lambda t: t.why == "hit"):  # the others wait for nobody
            try:
                commands = await self._commands(telling)
            except NotKnownYet as error:
                trouble = f"whom outage {telling.outage} hit is not known yet: {error}"
                continue
            for command in commands:
                await self._master.ask_one(SYSTEM, command)
        self._troubled(trouble)

    async def _commands(self, telling: Telling) -> list[Command]:
        if telling.why != "hit":
            return [Tell(outage=telling.outage, why=telling.why, pool=telling.pool)]
        o = (await self._master.settled()).outage(telling.outage)
        if o is None:
            return []
        seen = Outage(o.n, o.kind, o.since, o.opened_at, o.until, o.closed_at, set(o.nodes))
        found = await asyncio.to_thread(self._history.impact, seen, telling.at_least)
        users = sorted({one.user for one in found.users})
        portions = [tuple(users[i : i + PORTION]) for i in range(0, len(users), PORTION)] or [()]
        return [
            Tell(
                outage=telling.outage,
                why="hit",
                users=portion,
                as_of=found.position,
                more=portion is not portions[-1],
            )
            for portion in portions
        ]

    def _troubled(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            logger.warning("people can't be told yet", why=trouble)
        self.trouble = trouble
