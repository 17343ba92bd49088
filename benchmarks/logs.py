"""Logs to measure with: whole lives of jobs, and jobs that wait, as a master would write them."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from typing import Any

from ledger.codec import CODEC
from ledger.events import (
    AttemptEnded,
    AttemptPlaced,
    AttemptStarted,
    Blob,
    Decision,
    Envelope,
    Event,
    Fact,
    JobSpec,
    JobsSubmitted,
    Output,
    Via,
)
from ledger.store.log import Draft, Log

START = 1_700_000_000_000_000
USERS = 200
IN_A_COMMIT = 100
"""Events of a commit: about what 64 submitters at once make of it."""

AT_ONCE = 20_000
"""Events of one transaction while a log is filled."""

A_COMMIT_US = 250_000_000
"""Between two commits of a log: 225,000 jobs end in 26 days, so most keys have had their week."""

PERSON = Envelope(by="u7", via=Via(machine="login1", peer="unix"), request="0123456789abcdef")


def submitted(job: int, nodes: int = 1) -> JobsSubmitted:
    """One job of one user, submitted under a key."""
    text = Blob(sha256=sha256(b"%d" % (job % 1000)).hexdigest(), bytes=60)
    spec = JobSpec(name=f"job {job}", account=f"a{job % 20}", text=text, nodes=nodes)
    digest = sha256(b"%d" % job).hexdigest()
    return JobsSubmitted(
        first_job=job,
        count=1,
        user=f"u{job % USERS}",
        specs=(spec,),
        key=f"k{job}",
        body_sha256=digest,
    )


def life(job: int) -> Iterator[Event]:
    """A job's whole life: submitted, placed, started, ended."""
    first = submitted(job)
    yield first
    tried: dict[str, Any] = {
        "job": job,
        "user": first.user,
        "account": first.specs[0].account,
        "pool": "default",
        "attempt": 1,
        "nodes": (f"n{job % 1000}",),
        "placed_at": START,
    }
    decision = Decision(view=job, now=START, rules=1, policy=0, rank=1, of=1, how="in_order")
    yield AttemptPlaced(**tried, time_limit_s=3600, restartable=False, decision=decision)
    yield AttemptStarted(**tried, started_at=START, boot_id="boot")
    yield AttemptEnded(
        **tried,
        started_at=START,
        ran_us=1000,
        held_us=2000,
        outcome="completed",
        cause="exit",
        next="final",
        state="completed",
        exit_code=0,
        output=Output(),
    )


def facts(events: Iterable[Event]) -> Iterator[Fact]:
    """Events with their bytes, as the master hands them to its log."""
    return (Fact(event, PERSON, CODEC.encode(event, PERSON)) for event in events)


def fill(log: Log, *, lives: int, pending: int) -> int:
    """Append so many lives of jobs, then so many jobs that wait; the position between the two."""
    _append(log, (event for job in range(1, lives + 1) for event in life(job)))
    between = log.head().position
    _append(log, (submitted(job) for job in range(lives + 1, lives + pending + 1)))
    return between


def _append(log: Log, events: Iterator[Event]) -> None:
    found = facts(events)
    while drafts := _drafts(found, max(START, log.head().at)):
        log.append(drafts)


def _drafts(found: Iterator[Fact], last: int) -> list[Draft]:
    drafts: list[Draft] = []
    for _ in range(AT_ONCE // IN_A_COMMIT):
        some = list(islice(found, IN_A_COMMIT))
        if some:
            drafts.append(Draft(last + A_COMMIT_US * (len(drafts) + 1), 1, some))
    return drafts
