"""What a wandering story sees of outages: people speak of them, the clock tends them, notices are
sent or fail."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

from ledger.commands import (
    SYSTEM,
    CloseOutage,
    FindCause,
    OpenOutage,
    RecordFailed,
    RecordSent,
    SetContact,
    Subject,
    Tell,
    TendOutages,
)
from ledger.domain.notices import due, to_tell
from ledger.events import Blob

if TYPE_CHECKING:
    from ledger.testing.stories import Story

MINUTE_US = 60_000_000
OPERATOR = Subject("root", "operator")
USERS = ("ann", "bob", "cleo", "dan")


def acts(story: Story, rng: Random) -> list[Callable[[], None]]:
    """What may happen, each as often as it is named."""
    troubles = Troubles(story, rng)
    return [troubles.tend] * 2 + [troubles.tell] * 2 + [troubles.speak, troubles.send]


class Troubles:
    """The acts. Some come to a refusal, which changes nothing."""

    def __init__(self, story: Story, rng: Random) -> None:
        self.story, self.rng = story, rng

    def tend(self) -> None:
        """The clock closes what is over."""
        self.story.ask(SYSTEM, TendOutages())

    def tell(self) -> None:
        """Whoever is to be told, is: those who were struck, as far as the fold knows them."""
        c = self.story.cluster
        for telling in to_tell(c, self.story.now):
            told = Tell(
                outage=telling.outage,
                why=telling.why,
                users=USERS,
                as_of=c.position,
                pool=telling.pool,
            )
            self.story.ask(SYSTEM, told)

    def send(self) -> None:
        """What is due goes out, or does not; somebody says how he is told."""
        rng, now = self.rng, self.story.now
        for notice in due(self.story.cluster, now):
            tries = notice.tries + 1
            if rng.random() < 0.6:
                self.story.ask(SYSTEM, RecordSent(notice=notice.n, channels=("json",), tries=tries))
                continue
            again_at = now + MINUTE_US if tries < 3 else 0
            failed = RecordFailed(notice=notice.n, error="no", tries=tries, next_at=again_at)
            self.story.ask(SYSTEM, failed)
        owner, desk = rng.choice([("ann", False), ("helpdesk", True)])
        channels = rng.choice([(), ("json",), ("mailtos", "json")])
        text = f"{channels} of {owner}".encode()
        blob = Blob(sha256=sha256(text).hexdigest(), bytes=len(text)) if channels else None
        contact = SetContact(owner=owner, desk=desk, channels=channels, addresses=blob)
        self.story.ask(OPERATOR, contact)

    def speak(self) -> None:
        """An operator opens an outage, plans one, finds a cause, or closes one."""
        rng, c, now = self.rng, self.story.cluster, self.story.now
        some = rng.sample(sorted(c.nodes), rng.randrange(1, 3))
        nodes = tuple(some) if rng.random() < 0.8 else ()
        begin = now + rng.randrange(-60, 60) * MINUTE_US
        end = begin + rng.randrange(1, 120) * MINUTE_US
        word = rng.randrange(5)
        number = rng.randrange(1, c.next_outage + 1)
        if word == 0:
            opened = OpenOutage(nodes=nodes, since=begin, until=0, reason=f"reason {now}")
            self.story.ask(OPERATOR, opened)
        elif word == 1:
            planned = OpenOutage(
                nodes=nodes, since=begin, until=end, reason=f"plan {now}", planned=True
            )
            self.story.ask(OPERATOR, planned)
        elif word == 2:
            past = OpenOutage(nodes=nodes, since=begin, until=end, reason=f"past {now}")
            self.story.ask(OPERATOR, past)
        elif word == 3:
            self.story.ask(OPERATOR, FindCause(outage=number, cause=f"cause {now % 3}"))
        else:
            closed = CloseOutage(outage=number, reason=f"closed {now}")
            self.story.ask(OPERATOR, closed)
