"""Runs the migrations. Apart from `location`, since SQLAlchemy and alembic are slow to import."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import alembic.command
import alembic.config
import psycopg
import pysqlite3  # type: ignore[import-untyped]
import sqlalchemy
from sqlalchemy.engine import Connection, Engine

from ledger.store.log import LogUnavailable
from ledger.store.sqlite import connect

FORMAT = "1"


def sqlite_engine(file: Path) -> Engine:
    """An engine whose transactions hold the write lock from their beginning."""
    engine = sqlalchemy.create_engine(
        "sqlite://", creator=lambda: connect(file, "rw"), module=pysqlite3
    )

    @sqlalchemy.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def postgres_engine(connected: Callable[[], "psycopg.Connection"]) -> Engine:
    """An engine over connections that somebody else makes."""
    return sqlalchemy.create_engine("postgresql+psycopg://", creator=connected)


def migrate(engine: Engine, place: str) -> None:
    """Bring the tables up to this release, and say whose they are, in one transaction.

    Raises `LogUnavailable`.
    """
    try:
        with engine.begin() as connection:
            _migrate(connection)
    except sqlalchemy.exc.DBAPIError as error:
        raise LogUnavailable(f"can't make the log's tables in {place}: {error.orig}") from error
    finally:
        engine.dispose()


def _migrate(connection: Connection) -> None:
    config = alembic.config.Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    alembic.command.upgrade(config, "head")
    if connection.execute(sqlalchemy.text("SELECT count(*) FROM meta")).scalar():
        return
    facts = {
        "incarnation": secrets.token_hex(16),
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    connection.execute(
        sqlalchemy.text("INSERT INTO meta (key, value) VALUES (:key, :value)"),
        [{"key": key, "value": value} for key, value in facts.items()],
    )


def _migrations() -> Path:
    """The folder of the migrations: inside the wheel, or at the top of a checkout."""
    shipped = Path(__file__).parent / "migrations"
    return shipped if shipped.is_dir() else Path(__file__).parents[3] / "alembic"
