"""Lists and questions find their rows by an index: what the databases say of it themselves."""

import re
from collections.abc import Iterator
from random import Random
from typing import Any, get_args

import pytest
import sqlalchemy as sa

from ledger.events import JobState
from ledger.projection.reader import Reader
from ledger.testing.plans import plan_of
from ledger_projections import jobs
from ledger_projections.jobs import blocks
from ledger_projections.jobs.rows import ATTEMPTS, JOBS, NODES, JobRow
from places import Place
from projection.keeping import PROJECTIONS, Told, close, kept, wandered

STATES = list(get_args(JobState))
AT = 1_700_000_000_000_000
LISTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "user": ({"user": "ann"}, {"user_job"}),
    "user and states": ({"user": "ann", "states": ["failed", "timeout"]}, {"user_job"}),
    "user and pool": ({"user": "ann", "pool": "default"}, {"user_job"}),
    "user and a day": ({"user": "ann", "since": AT, "until": 2 * AT}, {"user_job"}),
    "account": ({"account": "physics"}, {"account_job"}),
    "name": ({"name": "work-2"}, {"name_job"}),
    "node": ({"node": "n1"}, {"node_job"}),
    "pool": ({"pool": "default"}, {"pool_job"}),
    "states": ({"states": ["failed", "timeout"]}, {"state_job"}),
    "pool and state": ({"pool": "default", "states": ["failed"]}, {"state_job"}),
    "live": ({"states": ["pending", "running"], "ascending": True}, {"state_job"}),
    "since": ({"since": AT}, {"state_job"}),
    "until, ascending": ({"until": 2 * AT, "ascending": True}, {"state_job"}),
    "state since": ({"states": ["failed"], "since": AT}, set()),
    "a page": ({"cursor": "9"}, set()),
}
"""What `list_jobs` may be narrowed by, and the indexes that this needs beside keys."""

IMPACT: dict[str, dict[str, Any]] = {
    "nodes": {"nodes": ["n1", "n2"], "since": AT, "until": 2 * AT},
    "a window": {"since": AT, "until": 2 * AT},
    "an outage": {"outages": [1], "window": False},
    "an outage's nodes": {"nodes": ["n1"], "since": AT, "outages": [1]},
}


@pytest.fixture(params=[3, blocks.BLOCK], ids="blocks of {}".format)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many jobs are summed up in one."""
    monkeypatch.setattr(blocks, "BLOCK", request.param)
    monkeypatch.setattr(blocks, "AT_ONCE", request.param)
    return int(request.param)


@pytest.fixture
def reader(place: Place) -> Iterator[Reader]:
    """All projections of some weeks, on each database in turn."""
    source = Told(wandered(5, 200))
    for projection in PROJECTIONS:
        follower = kept(projection, place, source)
        follower.catch_up()
        close(follower)
    reader = Reader({p.name: p for p in PROJECTIONS}, place.data, place.url)
    yield reader
    reader.close()


def lines(reader: Reader, projection: str, query: str, **parameters: Any) -> list[str]:
    """The plans of all statements of a query, where an index is better than reading all rows."""

    def told(connection: sa.Connection) -> list[str]:
        if connection.dialect.name == "postgresql":  # so few rows are best read all
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        plans = plan_of(connection, reader.query(projection, query), **parameters)
        return [line for plan in plans for line in plan]

    return list(reader.ask(projection, told).value)


def whole_tables(found: list[str]) -> list[str]:
    """The lines that say that a table of ours is gone through, other than that of the blocks: it is
    made for this."""
    gone = [line for line in found if re.search(r"SCAN (main\.)?\w+_v\d|Seq Scan", line)]
    return [line for line in gone if "_blocks" not in line]


def test_no_list_of_jobs_goes_through_a_table(reader: Reader, place: Place) -> None:
    found = {by: lines(reader, "jobs", "list_jobs", **given) for by, (given, _) in LISTS.items()}
    assert {by: whole_tables(plan) for by, plan in found.items()} == {by: [] for by in LISTS}
    if place.url is None:  # PostgreSQL chooses by what the rows are: here there are too few
        used = {
            by: set(re.findall(r"jobs_v\d+_(?:jobs|nodes)_(\w+) ", " ".join(p)))
            for by, p in found.items()
        }
        assert used == {by: indexes for by, (_, indexes) in LISTS.items()}
        assert not [line for plan in found.values() for line in plan if "ORDER BY" in line]


def test_a_list_has_the_jobs_that_a_look_at_each_finds(block: int, reader: Reader) -> None:

    def rows(connection: sa.Connection) -> tuple[list[JobRow], list[Any]]:
        nodes = [(row.job, row.node) for row in NODES.rows(connection, NODES.select())]
        return JOBS.rows(connection, JOBS.select()), nodes

    found, nodes = reader.ask("jobs", rows).value
    dice = Random(block)  # noqa: S311
    times = sorted({at for row in found for at in (row.submitted_at, row.ended_at) if at})
    seen = 0
    for _ in range(150):
        asked: dict[str, Any] = {
            "user": dice.choice(["", "", "ann", "bob"]),
            "account": dice.choice(["", "", "", "physics"]),
            "pool": dice.choice(["", "", "default", "main"]),
            "node": dice.choice(["", "", "", "n1"]),
            "states": dice.sample(STATES, dice.choice([0, 0, 1, 3])),
            "since": dice.choice([None, dice.choice(times)]),
            "until": dice.choice([None, dice.choice(times)]),
            "cursor": dice.choice(["", str(dice.choice(found).job)]),
            "limit": dice.choice([2, 7, 1000]),
            "ascending": dice.random() < 0.5,
        }
        wanted = [row.job for row in found if _fits(row, nodes, asked)]
        wanted.sort(reverse=not asked["ascending"])
        page, following = reader.ask("jobs", jobs.list_jobs, **asked).value
        assert [row.job for row in page] == wanted[: asked["limit"]], asked
        more = len(wanted) > asked["limit"]
        assert following == (str(page[-1].job) if more else None), asked
        seen += len(page)
    assert seen > 300


def _fits(row: JobRow, nodes: list[tuple[int, str]], asked: dict[str, Any]) -> bool:
    """Is a job one that is asked for?"""
    last = int(asked["cursor"] or 0)
    return (
        all(asked[name] in ("", getattr(row, name)) for name in ("user", "account", "pool"))
        and (not asked["node"] or (row.job, asked["node"]) in nodes)
        and (not asked["states"] or row.state in asked["states"])
        and (asked["since"] is None or row.ended_at is None or row.ended_at >= asked["since"])
        and (asked["until"] is None or row.submitted_at < asked["until"])
        and (not last or (row.job > last if asked["ascending"] else row.job < last))
    )


def test_whom_a_loss_hit_and_what_somebody_used_are_found_by_index(reader: Reader) -> None:
    edges = [AT, 2 * AT]
    found = {
        **{by: lines(reader, "outage_impact", "impact", **given) for by, given in IMPACT.items()},
        "user": lines(reader, "usage", "usage", edges=edges, by=["user"], user="ann"),
        "account": lines(reader, "usage", "usage", edges=edges, account="physics"),
    }
    assert all(found.values())
    assert {by: whole_tables(plan) for by, plan in found.items()} == {by: [] for by in found}


def test_a_table_that_is_gone_through_is_noticed(reader: Reader) -> None:
    def question(connection: sa.Connection) -> None:
        connection.execute(ATTEMPTS.select().where(ATTEMPTS.c.attempt == 2))

    def told(connection: sa.Connection) -> list[str]:
        return [line for plan in plan_of(connection, question) for line in plan]

    assert whole_tables(reader.ask("jobs", told).value)
