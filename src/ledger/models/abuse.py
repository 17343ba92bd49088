"""What `/v1` answers about the rules of use and those who broke them."""

from datetime import datetime

from ledger.events import AbuseRule
from ledger.models.answered import Answer


class FindingOut(Answer):
    """Somebody broke a rule of use. `sentence` says it; the numbers are those of the event
    `AbuseFound` (docs/reference/events.md). `answered_at`: when an operator answered it the last
    time, null if nobody has; `answers` counts."""

    finding: int
    rule: AbuseRule
    user: str
    account: str
    sentence: str
    found_at: datetime
    since: datetime
    until: datetime
    found: int
    limit: int
    count: int
    of: int
    policy: int
    terms: dict[str, int]
    jobs: list[int]
    answers: int
    answered_at: datetime | None
    answered_by: str


class FindingsOut(Answer):
    """A page of findings, the latest first; `next` is the cursor of the page after it."""

    findings: list[FindingOut]
    next: str | None = None
    position: int


class ProofOut(Answer):
    """An event that a finding rests on, in words."""

    position: int
    at: datetime
    event: str
    job: int
    what: str


class FindingDetailOut(FindingOut):
    """A finding with its evidence (the latest events, at most 20), how to stay within the rule, and
    what an operator said to it the last time."""

    evidence: list[ProofOut]
    advice: list[str]
    note: str
    position: int
