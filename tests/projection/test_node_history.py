"""The history of a node is what a scan of every event gives."""

import tempfile
import time
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commands import Drain
from ledger.events import Blob
from ledger.projection.database import Bulk
from ledger.projection.fold import Change
from ledger.projection.store import Store
from ledger.testing.evidence import Evidence
from ledger.testing.stories import OPERATOR, START, Story, Wanderer
from ledger_projections import node_history
from ledger_projections.node_history.rows import STAYS, TRIES, StayRow, TryRow
from oracles.nodes import drained_because, facts_at, runs, state_at, suspects
from places import Place
from projection.keeping import Told, ask, close, in_batches, kept

NODES = ("n1", "n2", "n3", "n4", "nowhere")
FOREVER = 2**62
MILLION = 1_000_000


class Scripted(Story):
    """A story whose jobs all have one script, so that one of a user's may succeed where another one
    failed; and whose operator always says why."""

    def submit(self, user: str, **spec: Any) -> int:
        return super().submit(user, script=Blob(sha256="a" * 64, bytes=3), **spec)

    def drain(self, node: str) -> None:
        self.ask(OPERATOR, Drain(node=node, reason=f"reason {len(self.events)}"))


def check(story: Story, follower: Any, rng: Random) -> int:
    """Compare answers with the scan; how many attempts failed and succeeded elsewhere later."""
    log, later = story.events, 0
    for node in NODES:
        times = {at + d for at in rng.choices([r.at for r in log], k=12) for d in (-1, 0, 1)}
        states = ask(follower, node_history.periods, node=node, limit=10_000)[::-1]
        facts = ask(follower, node_history.machines, node=node, limit=10_000)
        for before, after in pairwise(states):
            assert before.until == after.since, "no moment is left out, none counts twice"
            assert before.state != after.state
        assert [state.until for state in states[-1:]] in ([], [None])
        for moment in sorted(times):
            expected = state_at(log, node, moment)
            assert ask(follower, node_history.state_at, node=node, moment=moment) == expected
            now = [s for s in states if s.since <= moment < (s.until or FOREVER)]
            word = "serving" if expected in ("idle", "allocated") else expected
            assert [s.state for s in now] in ([], [word]), moment
            for state in now:
                resumed = [c.at for c in state.causes if c.cause == "resumed" and c.at <= moment]
                said = [c for c in state.drain if max(resumed, default=0) <= c.at <= moment]
                assert [c.reason for c in said] == drained_because(log, node, moment)
            m = [m for m in facts if m.since <= moment < (m.until or FOREVER)]
            assert [_facts(x) for x in m] == [tuple(facts_at(log, node, moment))] * len(m)
            assert bool(m) == (expected is not None)
        found = _runs(follower, node)
        assert found == [tuple(run) for run in runs(log, node)]
        later += sum(run[-1] is not None for run in found)
    since, until = sorted(rng.choices([r.at for r in log], k=2))
    for low, high in ((0, FOREVER), (since, until)):
        rows = ask(follower, node_history.failures, since=low, until=high)
        told = [(s.node, s.ended, s.failed, s.elsewhere, s.users) for s in rows]
        assert told == suspects(log, NODES, low, high)
    return later


def _facts(m: Any) -> tuple[str, ...]:
    return m.pool, m.serial, m.rack, m.image, m.kernel, m.packages_sha256, m.build


def _runs(follower: Any, node: str) -> list[Any]:
    """All attempts on a node, in pages of seven."""
    found: list[Any] = []
    cursor = ""
    while True:
        page, following = ask(follower, node_history.stays, node=node, limit=7, cursor=cursor)
        found += [
            (
                *(stay.row.job, stay.row.attempt, stay.left_at, stay.row.failed),
                (stay.elsewhere.job, stay.elsewhere.attempt) if stay.elsewhere else None,
            )
            for stay in page
        ]
        if following is None:
            return sorted(found)
        cursor = following


@settings(max_examples=8)
@given(st.randoms(use_true_random=False), st.integers(1, 120))
def test_any_story(rng: Random, steps: int) -> None:
    story = Wanderer(Scripted(), rng, nodes=3).walk(steps)
    with tempfile.TemporaryDirectory() as folder:
        follower = kept(node_history.PROJECTION, Place(Path(folder), None), Told(story))
        follower.catch_up()
        check(story, follower, rng)
        close(follower)


def test_a_long_story(place: Place) -> None:
    rng = Random(7)  # noqa: S311
    story = Wanderer(Scripted(), rng).walk(300)
    source = Told(story)
    follower = kept(node_history.PROJECTION, place, source)
    in_batches(follower, source, 100)
    assert check(story, follower, rng) > 10
    close(follower)


def test_a_window_has_what_was_in_it(tmp_path: Path) -> None:
    story = Scripted()
    story.node("n1")
    for _ in range(3):
        story.place(story.submit("ann"), "n1")
        story.tick(60)
        story.end(story.cluster.next_job - 1, "failed", 1)
        story.silence("n1")
        story.contact("n1")
    follower = kept(node_history.PROJECTION, Place(tmp_path, None), Told(story))
    follower.catch_up()
    window = {"since": START + 60_000_001, "until": START + 420_000_000}
    states = ask(follower, node_history.periods, node="n1", **window)
    assert [state.state for state in states] == ["serving", "down", "serving"]
    page, _ = ask(follower, node_history.stays, node="n1", **window)
    assert [stay.row.job for stay in page] == [2]
    first, *rest = ask(follower, node_history.periods, node="n1", limit=2)
    assert [first.state, *(s.state for s in rest)] == ["serving", "down"]
    older = ask(follower, node_history.periods, node="n1", limit=2, before=rest[-1].position)
    assert [s.until for s in older[:1]] == [rest[-1].since]
    close(follower)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_a_million_jobs_are_asked_quickly(place: Place, database: str, evidence: Evidence) -> None:
    """Rows as a year of a thousand nodes would leave them; each question, the middle of five."""
    rng, nodes, year = Random(1), 1_000, 365 * 86_400_000_000  # noqa: S311
    store = Store(node_history.PROJECTION, place.data, place.url)
    store.open()
    with store._engine.begin() as connection:
        bulk = Bulk(connection)
        for first in range(0, MILLION, 50_000):
            made = [_made(job, rng, nodes, year) for job in range(first, first + 50_000)]
            bulk.apply(Change(STAYS, [stay for stay, _ in made], [], []))
            bulk.apply(Change(TRIES, [a_try for _, a_try in made], [], []))
    if database == "postgres":
        with store._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as c:
            c.exec_driver_sql("ANALYZE")
    month = START + year - 30 * 86_400_000_000
    asked: dict[str, tuple[Any, dict[str, Any], float]] = {
        "the last 100 attempts of a node": (node_history.stays, {"node": "n7"}, 0.5),
        "those that failed": (node_history.stays, {"node": "n7", "failed": True}, 0.5),
        "state then": (node_history.state_at, {"node": "n7", "moment": month}, 0.5),
        "suspects of a month": (node_history.failures, {"since": month}, 2.0),
        "suspects ever": (node_history.failures, {}, 20.0),
    }
    figures = []
    with store._engine.begin() as connection:
        for what, (query, given, most) in asked.items():
            took = []
            for _ in range(5):
                began = time.perf_counter()
                query(connection, **given)
                took.append(time.perf_counter() - began)
            middle = sorted(took)[2]
            assert middle < most, what
            figures.append(f"{what} {middle * 1000:,.0f} ms")
    store.close()
    evidence(f"node_history over a million jobs, {database}", ", ".join(figures))


def _made(job: int, rng: Random, nodes: int, year: int) -> tuple[StayRow, TryRow]:
    """A job that ran once on one of the nodes; one in ten failed, three do the same work."""
    at, failed = START + year * job // MILLION, rng.random() < 0.1
    left = at + rng.randrange(1, 7_200_000_000)
    how = ("failed" if failed else "completed", "final", failed, "exit", int(failed))
    stay = StayRow(
        f"n{rng.randrange(nodes)}", job, 1, f"user{job % 300}", "", "default", at, left, *how
    )
    work = f"work {rng.randrange(MILLION // 3)}"
    return stay, TryRow(job, work, None if failed else left, 0 if failed else 1)
