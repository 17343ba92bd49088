"""What can happen to outages, and how people are told of them."""

from typing import Literal

import msgspec

from ledger.events.base import Event, event
from ledger.events.jobs import Blob

OutageKind = Literal["nodes", "master", "operator", "planned"]
Why = Literal["hit", "cause", "announced", "over", "pool", "service"]


class OutageEvent(Event, frozen=True, kw_only=True):
    """What every event about an outage repeats: its number."""

    outage: int

    @property
    def stream(self) -> str:
        return f"outage-{self.outage}"


@event("outage.opened.v1", "clock")
class OutageOpened(OutageEvent, frozen=True, kw_only=True):
    """Something failed, or will: one cause, and all that it hits.

    `kind`: `nodes` were lost, the `master` was away, an `operator` says so, or it is `planned`.
    `nodes` none: the whole service. `since` is when it began, which for `operator` and `planned` is
    what was asked for; `until` when it is to end, or did, 0 if that is not known. `rack`, `switch`
    and `power` are what all of its nodes have in common, `pools` those they are of. `cause` is a
    word of `docs/reference/causes.md`, `reason` an operator's own words. `waiting`: whose jobs
    waited for nodes while the master was away, and how many.
    """

    kind: OutageKind
    nodes: tuple[str, ...] = ()
    since: int
    until: int = 0
    rack: str = ""
    switch: str = ""
    power: str = ""
    pools: tuple[str, ...] = ()
    cause: str = ""
    reason: str = ""
    waiting: dict[str, int] = msgspec.field(default_factory=dict)


@event("outage.grew.v1", "clock")
class OutageGrew(OutageEvent, frozen=True, kw_only=True):
    """More nodes were lost in it. `rack`, `switch` and `power` are what all have in common now,
    `pools` those of the new ones."""

    nodes: tuple[str, ...]
    rack: str = ""
    switch: str = ""
    power: str = ""
    pools: tuple[str, ...] = ()


@event("outage.cause_found.v1", "person")
class OutageCauseFound(OutageEvent, frozen=True, kw_only=True):
    """Somebody knows why, in his words. Later ones do not take back earlier ones."""

    cause: str


@event("outage.closed.v1", "clock")
class OutageClosed(OutageEvent, frozen=True, kw_only=True):
    """It is over since `until`. `reason` is an operator's words: what came of it."""

    until: int
    reason: str = ""


@event("outage.told.v1", "clock")
class OutageTold(OutageEvent, frozen=True, kw_only=True):
    """Whoever was to be told by position `as_of` has a notice by now; `notices` are new ones."""

    why: Why
    as_of: int
    notices: int


class NoticeEvent(Event, frozen=True, kw_only=True):
    """What every event about a notice repeats. `to` is a user, or the name of a support `desk`."""

    notice: int
    to: str
    desk: bool = False

    @property
    def stream(self) -> str:
        return f"notice-{self.notice}"


@event("notice.due.v1", "clock")
class NoticeDue(NoticeEvent, frozen=True, kw_only=True):
    """Somebody is to be told about an outage, and why he is: it hit him, its cause was found, it
    is announced to him, it is over, or (desks) a `pool` or the service fails."""

    outage: int
    why: Why
    pool: str = ""


@event("notice.sent.v1", "master")
class NoticeSent(NoticeEvent, frozen=True, kw_only=True):
    """He was told over these channels (schemes, such as `mailtos`) at the `tries`-th try."""

    channels: tuple[str, ...]
    tries: int


@event("notice.failed.v1", "master")
class NoticeFailed(NoticeEvent, frozen=True, kw_only=True):
    """He could not be told. It is tried again at `next_at`; 0: it was given up."""

    error: str
    tries: int
    next_at: int


@event("contact.set.v1", "person")
class ContactSet(Event, frozen=True, kw_only=True):
    """How a user, or a support `desk`, is told. `channels` are schemes, none: not at all; the
    `addresses`, a JSON list of URLs, are kept beside the log and can be erased."""

    owner: str
    desk: bool = False
    channels: tuple[str, ...] = ()
    addresses: Blob | None = None

    @property
    def stream(self) -> str:
        return "contact"
