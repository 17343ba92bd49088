"""Word of a PostgreSQL log's growth: a thread that is told, and looks for itself."""

import select
from os import close, pipe, write
from threading import Thread
from typing import Any

import psycopg
import structlog
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from ledger.store.bell import Bell
from ledger.store.log import LogUnavailable
from ledger.store.session import connect

logger = structlog.get_logger("log")

RETRY_S = 0.1
RETRY_MOST_S = 5.0
LOOK_EVERY_S = 1.0


class Listener:
    """Rings a bell whenever the log has grown: told by NOTIFY, and by looking every second.

    It outlives its connection: it connects again, ever more slowly up to five seconds.
    """

    def __init__(self, url: str, channel: str, bell: Bell) -> None:
        self._url, self._channel, self._bell = url, channel, bell
        self._ended, self._end = pipe()
        self._thread = Thread(target=self._run, name="postgres-listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and its connection."""
        write(self._end, b".")
        self._thread.join()
        close(self._end)
        close(self._ended)

    def _run(self) -> None:
        pause = RETRY_S
        while True:
            try:
                with connect(self._url, read_only=True) as connection:
                    connection.execute(SQL("LISTEN {}").format(Identifier(self._channel)))
                    pause = RETRY_S
                    while not self._heard(connection):
                        pass
                    return
            except (psycopg.Error, LogUnavailable) as error:
                if pause == RETRY_S:
                    logger.warning("listening for news was interrupted", error=str(error).strip())
                if select.select([self._ended], [], [], pause)[0]:
                    return
                pause = min(2 * pause, RETRY_MOST_S)

    def _heard(self, connection: Connection[Any]) -> bool:
        """Look once and wait for news; whether it was the news that this is the end."""
        found = connection.execute("SELECT max(notification_id) FROM stored_events").fetchone()
        self._bell.ring(found[0] or 0 if found else 0)
        for _ in connection.notifies(timeout=0):
            return False
        ready, _, _ = select.select([connection.fileno(), self._ended], [], [], LOOK_EVERY_S)
        for _ in connection.notifies(timeout=0):
            pass
        return self._ended in ready
