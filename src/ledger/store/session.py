"""A connection to PostgreSQL on which nothing waits for ever and nothing is taken on trust."""

from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict

from ledger.store.log import LogUnavailable

LOCK_TIMEOUT_S = 5
IDLE_IN_TRANSACTION_S = 2
"""Shorter than the lock's: a writer that stopped while it holds the lock is ended by the server
before the next one gives up waiting for it."""

SERVER = {
    "lock_timeout": LOCK_TIMEOUT_S * 1000,
    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_S * 1000,
    "statement_timeout": 30_000,
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
READER = {"default_transaction_read_only": "on", "enable_bitmapscan": "off"}
"""Rows lie in the order in which they are read. As long as the server has not found that out by
itself, it would rather gather them by a bitmap, and then sort each page."""
CLIENT = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "jobledger",
}
NEVER_ZERO = ("lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
NEVER_ZERO_TCP = ("tcp_keepalives_idle", "tcp_user_timeout")
NEVER_OFF = ("fsync", "full_page_writes", "synchronous_commit")


def parameters(url: str, *, read_only: bool = False) -> dict[str, Any]:
    """Connection parameters: ours, then what the URL says. Raises `LogUnavailable` for a zero."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise LogUnavailable(f"the database URL can't be read: {error}") from error
    for name, value in given.items():
        if name in CLIENT and str(value) == "0":
            raise LogUnavailable(f"the database URL sets {name} to 0: that may wait for ever")
    options = [f"-c {name}={value}" for name, value in SERVER.items()]
    if read_only:
        options += [f"-c {name}={value}" for name, value in READER.items()]
    merged = " ".join([*options, str(given.get("options") or "")])
    return {**CLIENT, **given, "options": merged}


def connect(url: str, *, read_only: bool = False) -> Connection[Any]:
    """A connection in autocommit mode. Raises `LogUnavailable`.

    A writing one is refused where the server would not keep what it has acknowledged, any where
    it would wait without an end.
    """
    known = parameters(url, read_only=read_only)
    try:
        connection = psycopg.connect(**known, autocommit=True)
    except psycopg.Error as error:
        raise LogUnavailable(f"can't reach the database: {error}") from error
    try:
        _check(connection, durable=not read_only)
    except psycopg.Error as error:
        connection.close()
        raise LogUnavailable(f"the database did not answer: {error}") from error
    except LogUnavailable:
        connection.close()
        raise
    return connection


def _check(connection: Connection[Any], *, durable: bool) -> None:
    names: tuple[str, ...] = NEVER_ZERO
    peer = connection.execute("SELECT inet_client_addr()").fetchone()
    if peer and peer[0] is not None:  # on a Unix socket they are 0 and mean nothing
        names += NEVER_ZERO_TCP
    query = "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)"
    found = dict(connection.execute(query, [[*names, *NEVER_OFF]]).fetchall())
    for name in names:
        if found[name] == "0":
            raise LogUnavailable(f"the database has {name} = 0: that may wait for ever")
    if durable:
        for name in NEVER_OFF:
            if found[name] == "off":
                raise LogUnavailable(f"the database has {name} = off: it would lose commits")
