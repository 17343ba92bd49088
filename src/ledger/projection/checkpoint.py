"""How far a projection has come, in the same transaction as its rows: one row a projection."""

import msgspec
import sqlalchemy as sa

from ledger.projection.model import SCHEMA, Json

METADATA = sa.MetaData()
CHECKPOINTS = sa.Table(
    "checkpoints",
    METADATA,
    sa.Column("projection", sa.Text, primary_key=True),
    sa.Column("shape", sa.Text, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("incarnation", sa.Text, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("skipped", Json(tuple[int, ...]), nullable=False),
    sa.Column("stopped_at", sa.BigInteger, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    schema=SCHEMA,
)
"""`projection` is name and version (`jobs_v1`)."""


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The fold has taken in every event up to `position`, the end of the commit with this hash.

    `incarnation` is that of the log it read, `at` the commit's time (µs). `skipped` are the
    positions left out so far because a recorded `ProjectionSkipped` says so. `stopped_at` is the
    position of the event that it can't digest, 0 if there is none; `error` says why.
    """

    shape: str = ""
    position: int = 0
    hash: str = ""
    incarnation: str = ""
    at: int = 0
    skipped: tuple[int, ...] = ()
    stopped_at: int = 0
    error: str = ""


_COLUMNS = [CHECKPOINTS.c[name] for name in Checkpoint.__struct_fields__]
_READ = sa.select(*_COLUMNS).where(CHECKPOINTS.c.projection == sa.bindparam("of"))
_READ_LOCKED = _READ.with_for_update()
_WRITE = sa.update(CHECKPOINTS).where(CHECKPOINTS.c.projection == sa.bindparam("of"))
_MOVE = _WRITE.where(
    *(CHECKPOINTS.c[name] == sa.bindparam(f"was_{name}") for name in Checkpoint.__struct_fields__)
)
"""Made once: making them takes longer than the database needs to answer them."""


def read(connection: sa.Connection, projection: str, *, lock: bool = False) -> Checkpoint | None:
    """The checkpoint of a projection (`jobs_v1`); None if there is none yet.

    `lock` keeps others from changing it until the transaction is over.
    """
    query = _READ_LOCKED if lock else _READ
    found = connection.execute(query, {"of": projection}).one_or_none()
    return None if found is None else Checkpoint(**found._mapping)


def write(connection: sa.Connection, projection: str, checkpoint: Checkpoint) -> None:
    """Make this the checkpoint; it must be there already."""
    connection.execute(_WRITE, {"of": projection, **msgspec.structs.asdict(checkpoint)})


def move(connection: sa.Connection, projection: str, before: Checkpoint, after: Checkpoint) -> bool:
    """Make `after` the checkpoint if it is `before`; whether it was."""
    was = {f"was_{name}": value for name, value in msgspec.structs.asdict(before).items()}
    values = {"of": projection, **was, **msgspec.structs.asdict(after)}
    return connection.execute(_MOVE, values).rowcount == 1


def insert(connection: sa.Connection, projection: str, checkpoint: Checkpoint) -> None:
    """Enter a projection that has no checkpoint yet."""
    values = msgspec.structs.asdict(checkpoint)
    connection.execute(sa.insert(CHECKPOINTS).values(projection=projection, **values))


def forget(connection: sa.Connection, projection: str) -> None:
    """Let a projection have no checkpoint."""
    connection.execute(sa.delete(CHECKPOINTS).where(CHECKPOINTS.c.projection == projection))
