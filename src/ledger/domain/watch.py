"""What is remembered of users so that it is seen who breaks a rule of use, and how it is stored.

It has a bound for each user, and users who have done nothing lately are forgotten.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ledger.events import AbuseFound, AbuseRule

EVIDENCE = 20
"""So many jobs and positions of events stand in a finding: the latest."""

SUBMISSIONS_PER_MIN = 600
"""What a user may submit in a minute until a policy says otherwise."""


class Trace(NamedTuple):
    """An event that may be evidence, and the job and the account it is about ("": several)."""

    at: int
    position: int
    job: int
    account: str


class Tally(msgspec.Struct, gc=False):
    """What counts of one user in a window that slides.

    `of` is how many events there were since this is kept, `amount` what they add up to; `gone_of`
    and `gone_amount` are what these were where the window begins. `span` is the number of the
    present span of the clock, which ends at `ends_at`, µs; `spans` are the former ones that count,
    each with what `of` and `amount` were at its end. `traces`: the latest events with an amount,
    perhaps of before the window.
    """

    span: int
    ends_at: int
    of: int = 0
    amount: int = 0
    gone_of: int = 0
    gone_amount: int = 0
    spans: list[tuple[int, int, int]] = []
    traces: list[Trace] = []

    def slide(self, span: int, ends_at: int, oldest: int) -> None:
        """The present span is this, and what lies before the oldest counts no more."""
        spans = self.spans
        spans.append((self.span, self.of, self.amount))
        while spans and spans[0][0] < oldest:
            _, self.gone_of, self.gone_amount = spans.pop(0)
        self.span, self.ends_at = span, ends_at


class Tallies(msgspec.Struct, gc=False):
    """The tallies of all users who have done something lately; `since` is the span in which those
    who had not were last forgotten."""

    users: dict[str, Tally] = {}
    since: int = 0


def near_from(limit: int) -> int:
    """A user's submissions in a minute up to which none can be evidence; `limit` 0: any number."""
    return limit + 1 - EVIDENCE if limit else 1 << 62


@dataclass(slots=True)
class Watch:
    """What is remembered of users so that it is seen who breaks a rule of use.

    `requests`: submissions of the minute that ends at `minute_ends`; of users with more than
    `near_from` of them, `near` has the events. `failing` and `idle`: the attempts that ended within
    the windows of these rules. `bursts`: users who have broken a rule,
    and from when on nothing of it counts. `due`: findings that are not on record yet, and have no
    number. `findings` are on record.
    """

    findings: int = 0
    minute_ends: int = 0
    near_from: int = near_from(SUBMISSIONS_PER_MIN)
    requests: dict[str, int] = field(default_factory=dict)
    near: dict[str, list[Trace]] = field(default_factory=dict)
    failing: Tallies = field(default_factory=Tallies)
    idle: Tallies = field(default_factory=Tallies)
    bursts: dict[tuple[str, AbuseRule], int] = field(default_factory=dict)
    due: dict[tuple[str, AbuseRule], AbuseFound] = field(default_factory=dict)


class Watched(msgspec.Struct, array_like=True):
    """`Watch` as it is stored."""

    findings: int
    minute_ends: int
    near_from: int
    requests: list[tuple[str, int]]
    near: list[tuple[str, list[Trace]]]
    failing: Tallies
    idle: Tallies
    bursts: list[tuple[tuple[str, AbuseRule], int]]
    due: list[AbuseFound]

    @classmethod
    def of(cls, w: Watch) -> "Watched":
        """The stored form of a watch."""
        return cls(
            findings=w.findings,
            minute_ends=w.minute_ends,
            near_from=w.near_from,
            requests=sorted(w.requests.items()),
            near=sorted(w.near.items()),
            failing=w.failing,
            idle=w.idle,
            bursts=sorted(w.bursts.items()),
            due=[w.due[key] for key in sorted(w.due)],
        )

    def watch(self) -> Watch:
        """The watch that was stored."""
        return Watch(
            findings=self.findings,
            minute_ends=self.minute_ends,
            near_from=self.near_from,
            requests=dict(self.requests),
            near=dict(self.near),
            failing=self.failing,
            idle=self.idle,
            bursts=dict(self.bursts),
            due={(found.user, found.rule): found for found in self.due},
        )
