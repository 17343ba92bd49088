"""Row 7: three questions over a million jobs, by the queries that answer them over HTTP."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from random import Random
from typing import Any, NamedTuple

from benchmarks.places import Places
from benchmarks.table import Bound, Figure, Growth, busy, growth
from benchmarks.year import ACCOUNTS, AN_OUTAGE, NODES, STRUCK, USERS, YEAR_US, Year, keep, user
from ledger.projection.discover import discover
from ledger.projection.reader import Reader
from ledger.testing.plans import plan_of

NAMES = ("jobs", "outage_impact", "usage")
PARTS = (64, 8, 1)
ASKED = 40
"""How often each question is asked, each time of somebody else."""

PAGE = 200
MOST_MS = {"impact": 50, "usage": 300}
DAY_US = 86_400_000_000
Parameters = Callable[[Random], dict[str, Any]]


DETAIL = re.compile(r"\s*(Filter|Recheck Cond|Group Key|Sort Key|Hash Cond|Join Filter):")
"""What a plan says beside its steps and what these look up."""

PLAN_HEADINGS = ("question", "asked by", "database", "plan, as the database tells it")


class Plan(NamedTuple):
    """How a database answers one question."""

    question: str
    by: str
    database: str
    steps: str

    def cells(self) -> tuple[str, ...]:
        """The line of the table."""
        return self


class Asked(NamedTuple):
    """A question: a query of a projection, and somebody's parameters."""

    projection: str
    query: str
    by: str
    parameters: Parameters


def measure(places: Places, *, jobs: int) -> Iterator[Figure | Growth | Plan]:
    """With tables of three sizes; the last are the figures, and the plans."""
    for database in places.databases:
        series, plans = [], []
        for part in PARTS:
            year = Year(jobs // part)
            with places.fresh(database) as place:
                keep(place, year, NAMES)
                with closing(Reader(discover().projections, place.data, place.url)) as reader:
                    series.append(_figures(reader, year, database))
                    plans = [_plan(reader, asked, database) for asked in _questions(year)]
        yield from series[-1]
        for same in zip(*series, strict=True):
            yield growth(same, [f"{jobs // part:,} jobs" for part in PARTS])
        yield from plans


def _figures(reader: Reader, year: Year, database: str) -> list[Figure]:
    questions = _questions(year)
    found = {asked.by: _times(reader, asked) for asked in questions if asked.query == "list_jobs"}
    slowest = max(found, key=lambda by: sorted(found[by])[ASKED // 2])
    others = [(asked, _times(reader, asked)) for asked in questions if asked.query != "list_jobs"]
    return [
        _figure(
            f"a page of {PAGE} jobs, the slowest of {len(found)} filters: {slowest}",
            database,
            found[slowest],
            20,
        ),
        *(
            _figure(f"{asked.query} by {asked.by}", database, times, MOST_MS[asked.query])
            for asked, times in others
        ),
    ]


def _plan(reader: Reader, asked: Asked, database: str) -> Plan:
    function = reader.query(asked.projection, asked.query)
    parameters = asked.parameters(Random(1))  # noqa: S311
    found = reader.ask(asked.projection, lambda c: plan_of(c, function, **parameters)).value
    said = [" / ".join(_short(line) for line in plan if not DETAIL.match(line)) for plan in found]
    steps = "; ".join(
        f"{plan}{f' ({n} times)' if (n := said.count(plan)) > 1 else ''}"
        for plan in dict.fromkeys(said)
    )
    return Plan(asked.query, asked.by, database, steps)


def _short(line: str) -> str:
    """A step without what is the same in all: schemas, versions, types, indentation."""
    line = re.sub(r"\b(main|projections)\.|_v\d+(new)?(?=_)|::\w+", "", " ".join(line.split()))
    return line.replace("|", "\\|")


def _figure(what: str, database: str, times: list[float], most: float) -> Figure:
    return Figure("7", what, database, times, " ms", Bound(most, at_least=False), load=busy())


def _times(reader: Reader, asked: Asked) -> list[float]:
    """How long each answer took, ms. The first one of all is not counted: it opens the files."""
    dice = Random(7)  # noqa: S311
    found, function = [], reader.query(asked.projection, asked.query)
    for n in range(ASKED + 1):
        parameters = asked.parameters(dice)
        began = time.perf_counter()
        reader.ask(asked.projection, function, **parameters)
        if n:
            found.append((time.perf_counter() - began) * 1000)
    return found


def _questions(year: Year) -> list[Asked]:
    return [
        *(Asked("jobs", "list_jobs", by, asked) for by, asked in _filters(year).items()),
        Asked("outage_impact", "impact", "an outage of 20 nodes", _outage(year)),
        Asked("outage_impact", "impact", "a day, any nodes", _day(year)),
        Asked("usage", "usage", "user, a year by days", _of_a_user(year)),
    ]


def _filters(year: Year) -> dict[str, Parameters]:
    """What lists can be narrowed by, each with somewhere to begin."""
    end = year.time(year.jobs)

    def page(**given: Any) -> dict[str, Any]:
        return {"limit": PAGE, **given}

    def someone(dice: Random) -> str:
        return user(dice.randrange(1, year.jobs))

    def day(dice: Random) -> int:
        return end - dice.randrange(YEAR_US)

    return {
        "nothing, from some job on": lambda dice: page(cursor=str(dice.randrange(1, year.jobs))),
        "user": lambda dice: page(user=someone(dice)),
        "user and state": lambda dice: page(user=someone(dice), states=["failed"]),
        "account": lambda dice: page(account=f"a{dice.randrange(ACCOUNTS)}"),
        "pool": lambda dice: page(pool="gpu"),
        "pool and state": lambda dice: page(pool="gpu", states=["failed"]),
        "state": lambda dice: page(states=["failed", "timeout"]),
        "live": lambda dice: page(states=["running", "pending"], ascending=True),
        "name": lambda dice: page(name=f"run {dice.randrange(5_000)}"),
        "node": lambda dice: page(node=f"n{dice.randrange(NODES)}"),
        "since, the last day": lambda dice: page(since=end - DAY_US, ascending=True),
        "a day long ago": lambda dice: page(since=(at := day(dice)), until=at + DAY_US),
        "a day long ago, ascending": lambda dice: page(
            since=(at := day(dice)), until=at + DAY_US, ascending=True
        ),
        "user and a day": lambda dice: page(
            user=someone(dice), since=(at := day(dice)), until=at + DAY_US
        ),
    }


def _outage(year: Year) -> Parameters:
    def asked(dice: Random) -> dict[str, Any]:
        number = dice.randrange(1, max(2, year.jobs // AN_OUTAGE + 1))
        nodes = [
            f"n{job % NODES}"
            for job in range(number * AN_OUTAGE - STRUCK, number * AN_OUTAGE - STRUCK + 20)
        ]
        at = year.time(number * AN_OUTAGE)
        return {"nodes": nodes, "since": at - DAY_US, "until": at + DAY_US, "outages": [number]}

    return asked


def _day(year: Year) -> Parameters:
    def asked(dice: Random) -> dict[str, Any]:
        at = year.time(dice.randrange(1, year.jobs))
        return {"since": at, "until": at + DAY_US}

    return asked


def _of_a_user(year: Year) -> Parameters:
    first = year.time(0) // DAY_US * DAY_US
    edges = [first + n * DAY_US for n in range(366)]
    return lambda dice: {"edges": edges, "by": ["user"], "user": f"u{dice.randrange(USERS)}"}
