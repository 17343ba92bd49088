"""How a database looks for what a question asks: its own plan of each statement."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa


def plan_of(
    connection: sa.Connection, query: Callable[..., Any], **parameters: Any
) -> list[list[str]]:
    """The plan of every statement that a query function sends, each as its lines.

    On SQLite a line that begins with SCAN and names no index goes through a whole table; so does
    one with Seq Scan on PostgreSQL.
    """
    told: list[tuple[str, Any]] = []

    def tell(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        told.append((statement, values))

    sa.event.listen(connection, "before_cursor_execute", tell)
    try:
        query(connection, **parameters)
    finally:
        sa.event.remove(connection, "before_cursor_execute", tell)
    if connection.dialect.name == "postgresql":
        explain = "EXPLAIN (COSTS OFF) "
    else:
        explain = "EXPLAIN QUERY PLAN "
    return [
        [str(row[-1]) for row in connection.exec_driver_sql(explain + statement, values)]
        for statement, values in told
    ]
