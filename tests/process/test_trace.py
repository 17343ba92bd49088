"""A real cluster's trace through the real API: every job accepted, each with exactly one end."""

import signal
import time
from collections import Counter
from pathlib import Path

from ledger.events import AttemptEnded, JobEnded, JobsSubmitted
from ledger.testing.evidence import Evidence

from .harness import Site

JOBS = 28_476
NODES = 100
SLICE = 1_000


def test_every_job_of_a_real_trace_is_accepted_and_ends_once(
    sqlite_site: Site, shared: Path, full: bool, evidence: Evidence
) -> None:
    site = sqlite_site
    (trace,) = (shared / "swf").glob("KTH-SP2-*.gz")
    master = site.start()
    words = ["replay-trace", str(trace), "--speed", "max", "--agents", str(NODES), "--json"]
    began = time.monotonic()
    replay = site.run(*words, *([] if full else ["--limit", str(SLICE)]), name="replay")
    status = replay.ends(1800)
    took = time.monotonic() - began
    assert status == 0, replay.words()
    wanted = JOBS if full else SLICE
    events = site.events()
    queued = [r.event for r in events if isinstance(r.event, JobsSubmitted)]
    assert sum(event.count for event in queued) == wanted
    assert sorted(e.first_job for e in queued) == list(range(1, wanted + 1))
    over = [e for e in (r.event for r in events) if isinstance(e, AttemptEnded | JobEnded)]
    ends = Counter(e.job for e in over if isinstance(e, JobEnded) or e.next == "final")
    assert len(ends) == wanted
    assert set(ends.values()) == {1}
    users = len({event.user for event in queued})
    rate = f"{took:.0f} s, {wanted / took:.0f} jobs/s"
    evidence("KTH-SP2 through the API", f"{wanted} accepted, 0 refused, {users} users; {rate}")
    began = time.monotonic()
    verified = site.verified()
    evidence("KTH-SP2, log verified", f"{verified} events in {time.monotonic() - began:.1f} s")
    assert master.end(signal.SIGKILL) == -signal.SIGKILL
    for checkpoint in site.data.glob("checkpoints/*"):
        checkpoint.unlink()
    began = time.monotonic()
    site.start()
    ready_s = time.monotonic() - began
    report = site.web().json("GET", "/readyz")["recovery"]
    assert report["events_replayed"] == verified
    evidence(
        "KTH-SP2, cold recovery",
        f"{verified} events in {report['micros'] / 1e6:.2f} s, ready {ready_s:.2f} s after start",
    )
