"""Jobs that give signs of life, so that two that run at once can't hide."""

from collections import defaultdict
from pathlib import Path

from ledger.events import AttemptEnded

from .harness import Site
from .processes import until

Attempt = tuple[int, int]


class Beats:
    """Jobs that write a line of witness every 50 ms, until a file of their own is there."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._stops = site.folder / "stops"
        self._stops.mkdir()

    def submit(self, *, restartable: bool) -> int:
        """Queue one and wait until it beats."""
        line = 'echo "$JOBLEDGER_JOB_ID $JOBLEDGER_ATTEMPT $JOBLEDGER_NODES $$ $(date +%s.%N)"'
        beat = f"{line} >> {self.site.witness}"
        script = f"while [ ! -e {self._stops}/$JOBLEDGER_JOB_ID ]; do {beat}; sleep 0.05; done"
        argv = ["/bin/sh", "-c", script]
        job = self.site.web().submit({"argv": argv, "restartable": restartable})
        self.beats(job, 1)
        return job

    def beats(self, job: int, attempt: int) -> None:
        """Wait for one more beat of an attempt."""
        had = len(self.of(job, attempt))
        until(lambda: len(self.of(job, attempt)) > had, 15, f"a beat of {job}, attempt {attempt}")

    def of(self, job: int, attempt: int) -> list[float]:
        """When an attempt has beaten."""
        lines = self.site.witnessed()
        return [float(when) for j, a, _, _, when in lines if (j, a) == (str(job), str(attempt))]

    def end(self, job: int) -> None:
        """Let a job end, by itself."""
        Path(self._stops / str(job)).touch()

    def check(self) -> None:
        """Every attempt was one process on one node, and ended before the next one began."""
        where: dict[Attempt, set[tuple[str, str]]] = defaultdict(set)
        when: dict[Attempt, list[float]] = defaultdict(list)
        for job, attempt, nodes, pid, at in self.site.witnessed():
            where[int(job), int(attempt)].add((nodes, pid))
            when[int(job), int(attempt)].append(float(at))
        assert [key for key, processes in where.items() if len(processes) != 1] == []
        for (number, nth), beats in when.items():
            if (following := when.get((number, nth + 1))) is not None:
                assert max(beats) < min(following), f"job {number} ran twice at once"
        self.site.verified()

    def gap(self, job: int) -> float:
        """Seconds between the last sign of attempt 1 and the first of attempt 2."""
        return min(self.of(job, 2)) - max(self.of(job, 1))


def ends(site: Site, job: int) -> list[AttemptEnded]:
    """How the attempts of a job ended, in order."""
    found = [r.event for r in site.events() if isinstance(r.event, AttemptEnded)]
    return [event for event in found if event.job == job]


def node_of(site: Site, job: int) -> str:
    """Where a job runs."""
    name: str = site.web().job(job)["nodes"][0]
    return name


def short_lease(site: Site, lease_s: int, margin_s: int = 1) -> Beats:
    """Start the master, with this lease before any agent is there."""
    site.start()
    policy = {"job_lease_s": lease_s, "lease_margin_s": margin_s, "kill_grace_s": 1}
    site.web().json("PATCH", "/v1/policy", policy)
    return Beats(site)
