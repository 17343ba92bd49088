"""A year of a real cluster's node events, as its resource manager (Flux) wrote them down, and told
again to our own rules: each line is a command, at its own time."""

import gzip
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ledger.commands import SYSTEM, Drain, Resume, Silence
from ledger.testing.stories import OPERATOR, Story

FILE = "failures/flux_thing2.resource.eventlog.part1.gz"


class Line(NamedTuple):
    """A line of the file: when (µs), what, and its particulars."""

    at: int
    name: str
    about: dict[str, Any]


class Drained(NamedTuple):
    """Since when (µs) a rank takes no jobs, and why."""

    since: int
    reason: str


def lines(path: Path) -> list[Line]:
    """All lines of the file."""
    with gzip.open(path, "rt") as file:
        read = [json.loads(text, parse_float=Decimal) for text in file]
    return [Line(_micros(line["timestamp"]), line["name"], line["context"]) for line in read]


def ranks(idset: str) -> Iterator[int]:
    """The ranks of `3,7-9`."""
    for part in idset.split(",") if idset else ():
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def recorded(line: Line) -> dict[int, Drained]:
    """The whole drain state that stands in the line of a restart."""
    return {
        rank: Drained(_micros(told["timestamp"]), told.get("reason", ""))
        for idset, told in line.about["drain"].items()
        for rank in ranks(idset)
    }


def _micros(seconds: Decimal) -> int:
    return int(seconds * 1_000_000)


def name(rank: int) -> str:
    """What a rank is called here."""
    return f"thing{rank}"


class Replay:
    """Tells the file to a story: `story.cluster` is the fold of what has been told."""

    def __init__(self, told: list[Line]) -> None:
        self.story = Story(now=told[0].at)
        every = {
            rank
            for line in told
            for idset in (line.about.get("idset", ""), *line.about.get("drain", ()))
            for rank in ranks(idset)
        }
        for rank in sorted(every):
            self.story.node(name(rank))
        self.nodes = len(every)

    def tell(self, line: Line) -> None:
        """What this line comes to."""
        self.story.now = line.at
        if line.name == "resource-init" and line.about["restart"]:
            self.story.restart()
        for rank in ranks(line.about.get("idset", "")):
            self._tell(line, name(rank))

    def _tell(self, line: Line, node: str) -> None:
        story = self.story
        if line.name == "drain":
            story.ask(OPERATOR, Drain(node=node, reason=line.about.get("reason", "")))
        elif line.name == "undrain":
            story.ask(OPERATOR, Resume(node=node))
        elif line.name == "offline":
            lease_us = story.cluster.policy.job_lease_s * 1_000_000
            story.ask(SYSTEM, Silence(node=node, since=line.at - lease_us))
        elif line.name == "online":
            story.contact(node)
