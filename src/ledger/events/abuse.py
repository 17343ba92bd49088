"""What can happen where somebody breaks the rules of use: it is noticed, and answered."""

from typing import Literal

import msgspec

from ledger.events.base import Event, event
from ledger.events.jobs import Blob

AbuseRule = Literal["submissions", "failing", "idle"]


@event("abuse.found.v1", "clock")
class AbuseFound(Event, frozen=True, kw_only=True):
    """A user has broken a rule of use; `finding` counts the findings of this log: 1, 2, 3 …

    What counted lies between `since` and `until`, when the rule was broken. `found` is what was
    found and `limit` what the rule said: submissions in a minute, the percentage of attempts that
    failed at once, node-seconds held idle. `count` submissions or attempts make it up, `of` how
    many were looked at. `terms` are the fields of the policy (its number is `policy`) that define
    the rule. The latest of the evidence: `jobs` and the `positions` of the events, at most 20.
    `account` is theirs, empty if they have several.
    """

    finding: int
    rule: AbuseRule
    user: str
    account: str
    since: int
    until: int
    found: int
    limit: int
    count: int
    of: int
    policy: int
    terms: dict[str, int] = msgspec.field(default_factory=dict)
    jobs: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def stream(self) -> str:
        return "abuse"


@event("abuse.answered.v1", "person")
class AbuseAnswered(Event, frozen=True, kw_only=True):
    """An operator has looked at a finding. `note` is what he says to it; its user may read it."""

    finding: int
    note: Blob | None = None

    @property
    def stream(self) -> str:
        return "abuse"
