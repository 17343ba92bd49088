"""Row 12: jobs placed, started, reported and finished by 200 simulated agents over HTTP."""

import time
from collections.abc import Iterator

from benchmarks.places import Places
from benchmarks.services import service, until
from benchmarks.table import Bound, Figure, busy

AGENTS = 200


def measure(places: Places, *, turns: int, jobs: int) -> Iterator[Figure]:
    """From the submission of jobs that take no time until the last has ended."""
    for database in places.databases:
        with places.fresh(database) as place, service(place, agents=AGENTS) as running:
            values = []
            for _ in range(turns):
                began = time.perf_counter()
                running.queue(jobs, argv=["sleep", "0"])
                until(lambda: not running.ask("GET", "/v1/jobs?limit=1")["jobs"], "all ended")
                values.append(jobs / (time.perf_counter() - began))
        what = f"jobs run, {AGENTS} simulated agents"
        yield Figure("12", what, database, values, "/s", Bound(500), load=busy())
