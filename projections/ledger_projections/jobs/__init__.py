"""Which jobs were there ever, and what became of each of them and of every attempt at it?"""

from collections.abc import Sequence

import sqlalchemy as sa

from ledger.projection import Projection
from ledger_projections.jobs.rows import ATTEMPTS, JOBS, NODES, AttemptRow, JobRow

MAX_LIMIT = 10_000
LIVE = ("pending", "running")
FEW = 10_000
"""So many jobs are put in order faster than a million are gone through in it."""


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
    if pool:
        query = query.where((_beside(JOBS.c.pool) if narrow or states else JOBS.c.pool) == pool)
    if node:
        query = query.where(JOBS.c.job.in_(sa.select(NODES.c.job).where(NODES.c.node == node)))
    if since is not None:
        query = query.where(sa.or_(JOBS.c.ended_at.is_(None), JOBS.c.ended_at >= since))
    if until is not None:
        query = query.where(JOBS.c.submitted_at < until)
    if cursor:
        last = int(cursor)
        query = query.where(JOBS.c.job > last if ascending else JOBS.c.job < last)
    limit = max(1, min(limit, MAX_LIMIT))
    query = query.order_by(JOBS.c.job if ascending else JOBS.c.job.desc()).limit(limit + 1)
    parts: list[sa.ColumnElement[bool]] = [sa.true()]
    if not narrow:
        parts = _parts(connection, states, since)
    elif states:
        parts = [_beside(JOBS.c.state).in_(states)]
    rows = [row for part in parts for row in JOBS.rows(connection, query.where(part))]
    found = sorted(rows, key=lambda row: row.job, reverse=not ascending)
    more = len(found) > limit
    return found[:limit], str(found[limit - 1].job) if more else None


def _beside(column: sa.ColumnElement[str]) -> sa.ColumnElement[str]:
    """A column by which nothing is to be looked up, since another one finds much fewer jobs: the
    databases don't know that."""
    return column.concat("")


def _parts(
    connection: sa.Connection, states: Sequence[str], since: int | None
) -> list[sa.ColumnElement[bool]]:
    """What divides a list of all users' jobs into parts, each of which an index has in their order:
    by state; and where few have ended `since`, these are rather looked up and put in order."""
    ended = [state for state in states if state not in LIVE]
    parts = [JOBS.c.state == state for state in LIVE if not states or state in states]
    if states and not ended:
        return parts
    if since is not None:
        lately = sa.select(JOBS.c.job).where(JOBS.c.ended_at >= since)
        some = lately.limit(FEW + 1).subquery()
        count = connection.execute(sa.select(sa.func.count()).select_from(some)).scalar_one()
        if count <= FEW:
            so = _beside(JOBS.c.state).in_(ended) if ended else sa.true()
            return [*parts, sa.and_(JOBS.c.job.in_(lately), so)]
    return parts + [JOBS.c.state == state for state in ended] if states else [sa.true()]


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
    version=1,
    tables=(JOBS, ATTEMPTS, NODES),
    queries=(list_jobs, show_job, task, last),
    by_job=(show_job,),
)
