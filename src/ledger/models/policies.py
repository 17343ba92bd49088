"""What is told of the policies there were."""

from datetime import datetime

from ledger.models.answered import Answer


class ChangedOut(Answer):
    """A field of the policy that was changed, in the unit that its name tells."""

    field: str
    was: int
    now: int


class PolicyChangeOut(Answer):
    """A policy that was set: where in the log, when, by whom, from which machine; in what it
    differs from the one before, for the first from what holds until one is set."""

    policy: int
    position: int
    set_at: datetime
    set_by: str
    machine: str
    changed: list[ChangedOut]


class PolicyHistoryOut(Answer):
    """Policies, the latest first; `next` is the cursor of the next page, null after the last."""

    policies: list[PolicyChangeOut]
    next: str | None
    position: int
