"""Row 12: jobs placed, started, reported and finished by 200 simulated agents over HTTP."""

import time
from collections.abc import Iterator, Sequence

from benchmarks.places import Places
from benchmarks.services import past, service, until
from benchmarks.table import Bound, Figure, Growth, busy, growth

AGENTS = 200


def measure(
    places: Places, *, turns: int, jobs: int, ended: Sequence[int]
) -> Iterator[Figure | Growth]:
    """From the submission of jobs that take no time until the last has ended; after few and many
    jobs that have ended before."""
    for database in places.databases:
        found = [_after(places, database, past_jobs, turns, jobs) for past_jobs in ended]
        yield found[-1]
        yield growth(found, [f"{past_jobs:,} ended" for past_jobs in ended])


def _after(places: Places, database: str, ended: int, turns: int, jobs: int) -> Figure:
    with places.fresh(database) as place:
        past(place, ended)
        with service(place, agents=AGENTS) as running:
            running.settle()
            values = []
            for _ in range(turns):
                began = time.perf_counter()
                running.queue(jobs, argv=["sleep", "0"])
                until(lambda: not running.ask("GET", "/v1/jobs?limit=1")["jobs"], "all ended")
                values.append(jobs / (time.perf_counter() - began))
    what = f"jobs run, {AGENTS} simulated agents"
    return Figure("12", what, database, values, "/s", Bound(500), load=busy())
