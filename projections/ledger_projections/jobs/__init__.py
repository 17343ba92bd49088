"""Which jobs were there ever, and what became of each of them and of every attempt at it?"""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from ledger.projection import Projection
from ledger_projections.jobs.blocks import BLOCKS, runs
from ledger_projections.jobs.rows import ATTEMPTS, JOBS, NODES, AttemptRow, JobRow

MAX_LIMIT = 10_000
LIVE = ("pending", "running")


def list_jobs(
    connection: sa.Connection,
    *,
    user: str = "",
    account: str = "",
    pool: str = "",
    node: str = "",
    states: Sequence[str] = (),
    name: str = "",
    since: int | None = None,
    until: int | None = None,
    limit: int = 100,
    cursor: str = "",
    ascending: bool = False,
) -> tuple[list[JobRow], str | None]:
    """A page of jobs by id, newest first unless `ascending`, and the cursor of the next page.

    `node`: an attempt of it was placed there. `since`, `until` (µs): jobs that were in the system
    at some time from `since` on and before `until`. Raises ValueError for a cursor that is none.
    """
    query = JOBS.select()
    for column, wanted in ((JOBS.c.user, user), (JOBS.c.account, account), (JOBS.c.name, name)):
        query = query.where(column == wanted) if wanted else query
    narrow = bool(user or account or name or node)
    window = since is not None or until is not None
    if pool:
        beside = narrow or states or window
        query = query.where((_beside(JOBS.c.pool) if beside else JOBS.c.pool) == pool)
    if node:
        query = query.where(JOBS.c.job.in_(_of_node(node, ascending=ascending)))
    if since is not None:
        query = query.where(sa.or_(JOBS.c.ended_at.is_(None), JOBS.c.ended_at >= since))
    if until is not None:
        query = query.where(JOBS.c.submitted_at < until)
    last = int(cursor) if cursor else None
    if last is not None:
        query = query.where(JOBS.c.job > last if ascending else JOBS.c.job < last)
    limit = max(1, min(limit, MAX_LIMIT))
    query = query.order_by(JOBS.c.job if ascending else JOBS.c.job.desc()).limit(limit + 1)
    if narrow:
        query = query.where(_beside(JOBS.c.state).in_(states)) if states else query
        found = JOBS.rows(connection, query)
    elif window:
        there = runs(connection, since=since, until=until, beyond=last, ascending=ascending)
        found = _in_window(connection, query, states, there, limit)
    else:
        found = _by_state(connection, query, states) if states else JOBS.rows(connection, query)
    found.sort(key=lambda row: row.job, reverse=not ascending)
    more = len(found) > limit
    return found[:limit], str(found[limit - 1].job) if more else None


def _of_node(node: str, *, ascending: bool) -> sa.Select[tuple[int]]:
    """The jobs that were ever placed on a node, once each and in their order: so PostgreSQL stops
    where a page is full."""
    found = sa.select(NODES.c.job).where(NODES.c.node == node).distinct()
    return found.order_by(NODES.c.job if ascending else NODES.c.job.desc())


def _beside(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A column by which nothing is to be looked up, since another one finds much fewer jobs: the
    databases don't know that."""
    return column.concat("")


def _by_state(
    connection: sa.Connection, query: sa.Select[Any], states: Sequence[str]
) -> list[JobRow]:
    """Jobs in these states, by an index that has those of each in their order."""
    return [
        row
        for state in dict.fromkeys(states)
        for row in JOBS.rows(connection, query.where(JOBS.c.state == state))
    ]


def _in_window(
    connection: sa.Connection,
    query: sa.Select[Any],
    states: Sequence[str],
    there: Iterable[tuple[int, int]],
    limit: int,
) -> list[JobRow]:
    """Jobs of a window: those that live by their state, and out of runs of numbers those that have
    ended, until there are more than `limit`."""
    found = _by_state(connection, query, [s for s in LIVE if not states or s in states])
    ended, state = [s for s in states if s not in LIVE], _beside(JOBS.c.state)
    if states and not ended:
        return found
    query = query.where(state.in_(ended) if ended else state.not_in(LIVE))
    count = 0
    for first, last in there:
        some = JOBS.rows(connection, query.where(JOBS.c.job.between(first, last)))
        found += some
        count += len(some)
        if count > limit:
            break
    return found


def show_job(connection: sa.Connection, job: int) -> tuple[JobRow, list[AttemptRow]] | None:
    """A job and its attempts in order; None if there was never one of that id."""
    found = JOBS.rows(connection, JOBS.select().where(JOBS.c.job == job))
    if not found:
        return None
    attempts = ATTEMPTS.select().where(ATTEMPTS.c.job == job).order_by(ATTEMPTS.c.attempt)
    return found[0], ATTEMPTS.rows(connection, attempts)


def task(connection: sa.Connection, first: int, index: int) -> int | None:
    """The job that `FIRST_INDEX` names; None if there is none."""
    query = sa.select(JOBS.c.job).where(JOBS.c.first == first, JOBS.c.task == index)
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def last(connection: sa.Connection) -> int:
    """The greatest number that a job has; 0 if there is none."""
    return int(connection.execute(sa.select(sa.func.max(JOBS.c.job))).scalar() or 0)


PROJECTION = Projection(
    "jobs",
    version=3,
    tables=(JOBS, ATTEMPTS, NODES, BLOCKS),
    queries=(list_jobs, show_job, task, last),
    by_job=(show_job,),
)
