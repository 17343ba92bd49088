"""The test classes that the eventsourcing library ships, run against our recorders.

Nobody here wrote them. They are run by unittest itself, so that they can be counted.
"""

import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import ApplicationRecorder, Tracking
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.tests import persistence, projection
from eventsourcing.utils import get_topic
from psycopg.conninfo import conninfo_to_dict

from ledger.store import postgres, sqlite
from ledger.store.location import db_upgrade
from places import fresh_database

Opened = tuple[ApplicationRecorder, dict[str, str]]
Opener = Callable[[], AbstractContextManager[Opened]]
SHIPPED = 8
"""Four of the recorder and the optional one of subscriptions, the gap test, two projections."""


class Counters(POPOTrackingRecorder, projection.EventCountersView):
    """The library's example of a view, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._created = self._subsequent = 0

    def get_created_event_counter(self) -> int:
        return self._created

    def get_subsequent_event_counter(self) -> int:
        return self._subsequent

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self._created += 1

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        with self._database_lock:
            self._assert_tracking_uniqueness(tracking)
            self._insert_tracking(tracking)
            self._subsequent += 1


@contextmanager
def on_sqlite() -> Iterator[Opened]:
    """A recorder on a fresh file, and the library's settings for the same file."""
    others = set(threading.enumerate())
    with tempfile.TemporaryDirectory() as folder:
        db_upgrade(Path(folder), None)
        file = Path(folder) / "log.db"
        datastore = sqlite.Datastore(file)
        yield (
            sqlite.SQLiteRecorder(datastore),
            {
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(file),
                "APPLICATION_RECORDER_TOPIC": get_topic(sqlite.SQLiteRecorder),
            },
        )
        for thread in set(threading.enumerate()) - others:
            thread.join(30)  # one shipped test leaves its readers behind
        datastore.close()


@contextmanager
def on_postgres(server: Any, template: str) -> Iterator[Opened]:
    """A recorder on a fresh database, and the library's settings for the same one."""
    with fresh_database(server, template) as url:
        datastore = postgres.Datastore(url, "public", pool_size=5)
        known = conninfo_to_dict(url)
        yield (
            postgres.PostgresRecorder(datastore),
            {
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "APPLICATION_RECORDER_TOPIC": get_topic(postgres.PostgresRecorder),
                "ORIGINATOR_ID_TYPE": "text",
                "URL": url,
                "POSTGRES_DBNAME": str(known["dbname"]),
                "POSTGRES_HOST": str(known["host"]),
                "POSTGRES_USER": str(known["user"]),
                "POSTGRES_PASSWORD": "none",
            },
        )
        datastore.close()


def shipped(opener: Opener) -> list[type[unittest.TestCase]]:
    """The library's classes, each test with a recorder of its own."""

    class Recorder(persistence.ApplicationRecorderTestCase[Any]):
        EXPECT_CONTIGUOUS_NOTIFICATION_IDS = True

        def new_originator_id(self) -> str:
            return str(uuid4())

        def create_recorder(self) -> ApplicationRecorder:
            return self.enterContext(opener())[0]

        def test_insert_subscribe(self) -> None:
            self.optional_test_insert_subscribe()

    class NoGaps(persistence.NonInterleavingNotificationIDsBaseCase):
        def new_originator_id(self) -> str:
            return str(uuid4())

        def create_recorder(self) -> ApplicationRecorder:
            return self.enterContext(opener())[0]

    class Projection(projection.AggregateEventCountersProjectionTestCase):
        view_class = Counters

        def setUp(self) -> None:
            env = self.enterContext(opener())[1]
            if url := env.pop("URL", ""):  # the library names the table after the application
                with psycopg.connect(url) as connection:
                    connection.execute("ALTER TABLE stored_events RENAME TO application_events")
            view = {"EVENTCOUNTERS_PERSISTENCE_MODULE": "eventsourcing.popo"}
            type(self).env = env | view

    return [Recorder, NoGaps, Projection]


@pytest.mark.fault("C4")
def test_the_shipped_classes_pass(
    database: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    opener: Opener = on_sqlite
    if database == "postgres":
        fixtures = [request.getfixturevalue(name) for name in ("pg_server", "pg_template")]
        opener = partial(on_postgres, *fixtures)
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(load(case) for case in shipped(opener))
    result = unittest.TestResult()
    suite.run(result)
    capsys.readouterr()  # they print their timings
    assert [trace for _, trace in [*result.errors, *result.failures]] == []
    assert (result.testsRun, result.skipped) == (SHIPPED, [])


def test_the_switch_that_loses_events_is_refused(pg_url: str) -> None:
    datastore = postgres.Datastore(pg_url, "public")
    datastore.enable_db_functions = True
    with pytest.raises(ValueError, match="ENABLE_DB_FUNCTIONS"):
        postgres.PostgresRecorder(datastore)
