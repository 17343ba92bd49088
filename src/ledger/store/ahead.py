"""Reading a long log from PostgreSQL: the server makes a page while the one before it is used.

A client that asks for a page when it needs it waits for the server to make it: a fifth of the time
that a recovery took. So each page is asked for before the one before it is checked, decoded and
folded, on a connection of its own, which is kept for the next long read.
"""

import select
from collections.abc import Callable
from typing import Any

from psycopg import Error
from psycopg.adapt import Transformer
from psycopg.pq import ExecStatus, Format

from ledger.store.session import connect

INT8 = 20
"""PostgreSQL's number of the type."""

NAME = b"page"
Page = Callable[[], list[Any]]


class PagesAhead:
    """The rows of one query with two numbers, `$1` and `$2`, page by page; used by one reader at a
    time. Raises `LogUnavailable`."""

    def __init__(self, url: str, query: str) -> None:
        self._connection = connect(url, read_only=True)
        self._server = self._connection.pgconn
        self._loader = Transformer(self._connection)
        self._news = select.poll()  # `select` knows no descriptor beyond 1023
        self._news.register(self._server.socket, select.POLLIN)
        self._asked = self._failed = False
        self._server.prepare(NAME, query.encode(), [INT8, INT8])

    @property
    def idle(self) -> bool:
        """May another reader have it: is nothing under way, and has nothing gone wrong?"""
        return not (self._asked or self._failed)

    def ask(self, after: int, upto: int, otherwise: Page) -> Page:
        """Let the server begin with a page, after the one before was read. What is given waits for
        it; where there is none, it is what `otherwise` gives: the same query, asked as any other,
        which says what is wrong."""
        if self._failed:
            return otherwise
        assert not self._asked
        self._asked = True
        numbers = [str(number).encode() for number in (after, upto)]
        try:
            self._server.send_query_prepared(NAME, numbers, result_format=Format.BINARY)
            self._server.flush()
        except Error:
            self._failed = True
            return otherwise
        return lambda: otherwise() if (found := self._rows()) is None else found

    def _rows(self) -> list[Any] | None:
        server, self._failed = self._server, True  # until the opposite is known
        try:
            server.consume_input()
            while server.is_busy():
                self._news.poll()
                server.consume_input()
            found = server.get_result()
            while server.get_result() is not None:
                pass
        except Error:
            return None
        if found is None or found.status != ExecStatus.TUPLES_OK:
            return None
        self._asked = self._failed = False
        self._loader.set_pgresult(found)
        return self._loader.load_rows(0, found.ntuples, tuple)

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()
