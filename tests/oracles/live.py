"""Who was live at a position of the log: a brute-force scan, which knows nothing but events."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ledger.events import AttemptEnded, AttemptPlaced, JobEnded, JobsSubmitted, Recorded


class Lived(NamedTuple):
    """A job that lived then; `attempt` 0 and no `nodes`: it had none, or waits again."""

    job: int
    user: str
    account: str
    running: bool
    attempt: int
    nodes: tuple[str, ...]


def live(log: Sequence[Recorded], upto: int) -> list[Lived]:
    """The jobs that had been submitted by then and had not ended, by number."""
    past = [r for r in log if r.position <= upto]
    found = []
    for r in past:
        e = r.event
        if isinstance(e, JobsSubmitted):
            for i in range(e.count):
                job = e.first_job + i
                spec = e.specs[0 if e.array else i]
                if not over(past, job):
                    found.append(_now(past, job, e.user, spec.account))
    return sorted(found)


def over(past: Iterable[Recorded], job: int) -> bool:
    """Does one of these events end it?"""
    return any(
        (isinstance(e := r.event, JobEnded) and e.job == job)
        or (isinstance(e, AttemptEnded) and e.job == job and e.next == "final")
        for r in past
    )


def _now(past: Iterable[Recorded], job: int, user: str, account: str) -> Lived:
    known = Lived(job, user, account, False, 0, ())
    for r in past:
        e = r.event
        if isinstance(e, AttemptPlaced) and e.job == job:
            known = Lived(job, user, account, True, e.attempt, e.nodes)
        elif isinstance(e, AttemptEnded) and e.job == job:
            known = Lived(job, user, account, False, e.attempt, ())
    return known
