"""What is told of projections as such: what they are, how far they are, how they lie on disk."""

from typing import Annotated, Literal

from pydantic import Field

from ledger.models.answered import Answer
from ledger.models.asked import Body, Line, Whole


class TableOut(Answer):
    """A table of a projection: its key, its columns, by what it is looked up, how many rows."""

    table: str
    key: list[str]
    columns: list[str]
    indexes: list[list[str]]
    rows: int | None


class ListedOut(Answer):
    """A projection, the question it answers, how far it is, and its size in bytes, null where that
    can't be told. `stopped_at` is the event that it can't digest, 0 if there is none; `error` says
    why it stands still. One that is `broken` could not be loaded."""

    projection: str
    version: int
    state: Literal["up to date", "behind", "stopped", "unavailable", "broken"]
    position: int
    lag_events: int
    lag_s: float
    bytes: int | None
    question: str = ""
    stopped_at: int = 0
    error: str = ""


class UnusedOut(Answer):
    """A version of a projection that lies on disk, of so many bytes, and that nothing installed
    is: of an older release, or of a package that is gone."""

    projection: str
    version: int
    bytes: int


class ProjectionsOut(Answer):
    """All projections that are installed, beside the head of the log, and what lies there of
    others."""

    projections: list[ListedOut]
    unused: list[UnusedOut]
    position: int


class ProjectionDetailOut(ListedOut):
    """A projection with its tables and queries, and the positions that it left out as recorded."""

    tables: list[TableOut]
    queries: list[str]
    skipped: list[int]
    head: int


class SkipIn(Body):
    """Which event a projection is to leave out for ever, and why."""

    position: Annotated[Whole, Field(ge=1)]
    reason: Annotated[Line, Field(min_length=1)]
