"""What `/v1` answers about the service itself: how it is, and what is inside."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from ledger.models.answered import Answer, BackupsOut

InnerRow = dict[str, str | int | float | bool | None]
InnerPart = Literal[
    "queue",
    "leases",
    "outbox",
    "checkpoints",
    "projections",
    "plan",
    "keys",
    "timers",
    "log",
    "memory",
    "notices",
]


class InnerOut(Answer):
    """A part of the master's inner state as of a position: one sentence, facts by name, rows of one
    shape, and how many rows there are beyond these."""

    part: str
    sentence: str
    facts: InnerRow
    rows: list[InnerRow]
    more: int
    position: int
    at: datetime


class ProjectionOut(Answer):
    """How far a projection is behind the log; `error` says why it stands still, if it does."""

    projection: str
    version: int
    state: Literal["up to date", "behind", "stopped", "unavailable"]
    position: int
    lag_events: int
    lag_s: float
    error: str = ""


class StatusOut(Answer):
    """How the service is: `sentence` says it, `well` whether nothing is wrong, `warnings` what is.

    `told_by` is who answers; `follow` does while the master is away. `master_silent_since` is null
    while the master answers. Jobs and nodes are as they were at `counted_at`, null if that is not
    known. `in_service` are nodes that take jobs, `lost` those that are down.
    """

    told_by: Literal["master", "follow"]
    sentence: str
    well: bool
    accepting: bool
    starting: bool
    warnings: list[str]
    master_silent_since: datetime | None = None
    counted_at: datetime | None = None
    pending: int | None = None
    running: int | None = None
    nodes: int | None = None
    in_service: int | None = None
    lost: int | None = None
    projections: list[ProjectionOut]
    backups: BackupsOut | None = None
    position: int
    written_at: datetime | None
    epoch: int
    build: str


class ReadyOut(Answer):
    """Is the service ready; if not, how far the replay has come. `recovery`: its report;
    `projections`: how far each is, nothing during a replay."""

    ready: bool
    sentence: str
    replayed: int
    head: int
    epoch: int
    recovery: dict[str, int] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    projections: list[ProjectionOut] = Field(default_factory=list)
    backups: BackupsOut | None = None


class FollowReadyOut(Answer):
    """Do the projections follow: `warnings` says what is wrong with those that don't."""

    ready: bool
    sentence: str
    warnings: list[str]
    projections: list[ProjectionOut]
    position: int
