"""Baselines by the eventsourcing library's own means, over lives of jobs in its own log.

Row 4: it replays them, aggregate by aggregate through its repository, which is how it does that;
and its reader, mapper and fold in one loop over the whole log, which we have put together. Row 5:
they are kept in a table by its `ProjectionRunner` over a tracking recorder, on PostgreSQL: it has
none that runs on SQLite.
"""

import gc
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

PATIENCE_S = 300.0
AT_ONCE = 500
"""Jobs that are saved in one transaction."""

PAGE = 5_000
"""Events that are read at a time."""


class Job(Aggregate):
    """A job's whole life, in the library's words."""

    @event("Submitted")
    def __init__(self, job: int, user: str, account: str, name: str) -> None:
        self.job = job

    @event("Placed")
    def place(self, node: str, placed_at: int) -> None:
        """An attempt is placed."""

    @event("Started")
    def start(self, started_at: int) -> None:
        """It has started."""

    @event("Finished")
    def finish(self, ended_at: int, exit_code: int) -> None:
        """It has ended."""


class Jobs(Application[UUID]):
    """The library's log of jobs."""


class Table(PostgresTrackingRecorder):
    """One row a job, changed with the runner's place in one transaction."""

    def __init__(self, datastore: Any, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.sql_create_statements.append(
            SQL(
                "CREATE TABLE IF NOT EXISTS kept_jobs (id uuid PRIMARY KEY, job bigint, user_ text,"
                " account text, name text, node text, state text, placed_at bigint,"
                " started_at bigint, ended_at bigint, exit_code bigint)"
            ).format()
        )

    def change(self, statement: str, values: tuple[Any, ...], tracking: Tracking) -> None:
        """One statement, and how far the runner has come."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(statement.encode(), values)


class Keeping(Projection[Table]):
    """A job's row out of its events."""

    name = "keeping"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """One event."""
        e = domain_event
        values: tuple[Any, ...]
        match type(e).__name__:
            case "Submitted":
                statement = (
                    "INSERT INTO kept_jobs (id, job, user_, account, name, state)"
                    " VALUES (%s, %s, %s, %s, %s, 'pending')"
                )
                values = (e.originator_id, e.job, e.user, e.account, e.name)
            case "Placed":
                statement = (
                    "UPDATE kept_jobs SET state='running', node=%s, placed_at=%s WHERE id=%s"
                )
                values = (e.node, e.placed_at, e.originator_id)
            case "Started":
                statement = "UPDATE kept_jobs SET started_at=%s WHERE id=%s"
                values = (e.started_at, e.originator_id)
            case _:
                statement = (
                    "UPDATE kept_jobs SET state='completed', ended_at=%s, exit_code=%s WHERE id=%s"
                )
                values = (e.ended_at, e.exit_code, e.originator_id)
        self.view.change(statement, values, tracking)


def rate(url: str, lives: int) -> float:
    """Events a second of the runner, over a log of so many lives in a database of its own."""
    env = environment(url)
    with closing(Jobs(env)) as jobs:
        fill(jobs, lives)
        last = jobs.recorder.max_notification_id()
    began = time.perf_counter()
    with ProjectionRunner(
        application_class=Jobs, projection_class=Keeping, view_class=Table, env=env
    ) as runner:
        runner.wait(last, PATIENCE_S)
        return 4 * lives / (time.perf_counter() - began)


def fill(jobs: Jobs, lives: int) -> list[UUID]:
    """Save so many lives; whose they are."""
    found = []
    for start in range(0, lives, AT_ONCE):
        some = [_life(job) for job in range(start, min(lives, start + AT_ONCE))]
        jobs.save(*some)
        found += [job.id for job in some]
    return found


def replay(jobs: Jobs, ids: Sequence[UUID]) -> float:
    """Events a second when the library's repository makes these aggregates of their events."""
    gc.disable()
    began = time.perf_counter()
    for job in ids:
        jobs.repository.get(job)
    took = time.perf_counter() - began
    gc.enable()
    return 4 * len(ids) / took


def loop(jobs: Jobs) -> float:
    """Events a second of a loop that reads all events, and lets each change its aggregate."""
    known: dict[Any, Any] = {}
    gc.disable()
    began, last, events = time.perf_counter(), 0, 0
    while some := jobs.recorder.select_notifications(start=last + 1, limit=PAGE):
        for notification in some:
            happened: Any = jobs.mapper.to_domain_event(notification)
            key = happened.originator_id
            known[key] = happened.mutate(known.get(key))
        last, events = some[-1].id, events + len(some)
    took = time.perf_counter() - began
    gc.enable()
    return events / took


def _life(job: int) -> Job:
    made = Job(job=job, user=f"u{job % 200}", account=f"a{job % 20}", name=f"job {job}")
    made.place(node=f"n{job % 1000}", placed_at=job)
    made.start(started_at=job)
    made.finish(ended_at=job, exit_code=0)
    return made


def environment(place: str | Path) -> dict[str, str]:
    """The library's settings for a file, or a database reached through a socket's directory."""
    if isinstance(place, Path):
        return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(place)}
    url = place
    parts = urlsplit(url)
    options = dict(word.split("=", 1) for word in parts.query.split("&"))
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts.path.lstrip("/"),
        "POSTGRES_HOST": unquote(options["host"]),
        "POSTGRES_PORT": options.get("port", "5432"),
        "POSTGRES_USER": parts.username or "postgres",
        "POSTGRES_PASSWORD": parts.password or "",
    }
