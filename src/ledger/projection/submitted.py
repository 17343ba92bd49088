"""What the event of a submission says of each of its jobs."""

from collections.abc import Iterable
from functools import lru_cache

from ledger.domain.arrays import indices
from ledger.events import JobEvent, JobSpec, JobsSubmitted, Recorded


def job_keys(r: Recorded) -> Iterable[tuple[int]]:
    """Every job of a submission, or the one job that an event is about."""
    e = r.event
    if type(e) is JobsSubmitted:  # `isinstance` takes four times as long
        if e.count == 1:  # as most
            return ((e.first_job,),)
        return [(job,) for job in range(e.first_job, e.first_job + e.count)]
    assert isinstance(e, JobEvent)
    return ((e.job,),)


def spec_of(e: JobsSubmitted, job: int) -> JobSpec:
    """What was asked for one of its jobs."""
    return e.specs[0 if e.array else job - e.first_job]


def task_of(e: JobsSubmitted, job: int) -> int:
    """A job's index in its array; -1 where it is in none."""
    return _tasks(e.array)[job - e.first_job] if e.array else -1


@lru_cache(maxsize=16)
def _tasks(array: str) -> tuple[int, ...]:
    return tuple(indices(array))
