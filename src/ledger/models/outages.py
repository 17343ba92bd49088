"""What `/v1` is told and tells of outages."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from ledger.models.answered import Answer, ImpactJobOut
from ledger.models.asked import Body, Flag, Line, Name

Nodes = Annotated[tuple[Name, ...], Field(max_length=10_000)]


class OutageIn(Body):
    """An outage that somebody opens by hand, on these nodes (none: the whole service); `since` and
    `until` may lie in the past. `planned`: it is downtime that is announced."""

    nodes: Nodes = ()
    since: datetime
    until: datetime | None = None
    reason: Line
    planned: Flag = False


class CauseIn(Body):
    """Why an outage was."""

    cause: Line


class CloseIn(Body):
    """What came of an outage, and since when it is over (left out: since now)."""

    reason: Line
    until: datetime | None = None


class OutageDoneOut(Answer):
    """An outage was opened or changed; `changed` is false where it was so already."""

    outage: int
    changed: bool
    position: int


class OutageOut(Answer):
    """An outage. `until` of an open one is its planned end. `words` are an operator's on its cause,
    `result` on what came of it; `told_at`: when whoever was hit until then had a notice."""

    outage: int
    kind: Literal["nodes", "master", "operator", "planned"]
    open: bool
    since: datetime
    until: datetime | None
    opened_at: datetime
    opened_by: str
    closed_at: datetime | None
    closed_by: str
    rack: str
    switch: str
    power: str
    pools: list[str]
    count: int
    cause: str
    reason: str
    words: str
    result: str
    told_at: datetime | None


class OutagesOut(Answer):
    """Outages, the latest first; `next` is the cursor of the next page."""

    outages: list[OutageOut]
    next: int | None
    position: int


class MemberOut(Answer):
    """A node of an outage: when it was lost last, how often, when it was back."""

    node: str
    lost_at: datetime | None
    losses: int
    back_at: datetime | None


class CauseOut(Answer):
    """What somebody said of an outage's cause."""

    at: datetime
    by: str
    cause: str


class NoticeOut(Answer):
    """A notice. `sent_at` is null while it waits; where `next_at` is too, it was given up."""

    notice: int
    to: str
    desk: bool
    why: Literal["hit", "cause", "announced", "over", "pool", "service"]
    pool: str
    due_at: datetime
    sent_at: datetime | None
    channels: list[str]
    tries: int
    next_at: datetime | None
    error: str


class OutageDetailOut(OutageOut):
    """An outage with its nodes, what was said of its cause, and the notices that one may see."""

    members: list[MemberOut]
    causes: list[CauseOut]
    notices: list[NoticeOut]
    position: int


class AffectedJobOut(ImpactJobOut):
    """A job that was hit: `state` and `last` are where it stands now, and in which attempt."""

    last: int


class AffectedUserOut(Answer):
    """A user and account whom an outage hit. Counts are of jobs: `hit` all, `lost` those whose last
    attempt in it was lost for good, `requeued` those that wait again by themselves, `needs_owner`
    those that their owner has to look after."""

    user: str
    account: str
    hit: int
    lost: int
    requeued: int
    needs_owner: int
    lost_node_s: float
    told: list[NoticeOut]
    jobs: list[AffectedJobOut]


class AffectedOut(Answer):
    """Whom an outage hit. `waiting`: whose jobs only waited longer, and how many."""

    outage: OutageOut
    users: list[AffectedUserOut]
    waiting: dict[str, int]
    position: int
