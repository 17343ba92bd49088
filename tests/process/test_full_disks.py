"""Disks of a service that are full, limited, or mounted read-only, and come back, under load.

What was acknowledged is in the log, what was refused is not, reads and running jobs go on, and
when the cause is gone nobody has to do anything.
"""

import resource
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from ledger.events import AttemptEnded, Recorded
from ledger.store.location import open_log

from .harness import Site
from .processes import Process, until
from .troubled import Clients, held

Evidence = Callable[[str, object], None]
MIB = 1 << 20


def begin(site: Site) -> Process:
    """A master with a node of the pool that the clients ask for."""
    master = site.start()
    site.simulated(1, "sim")
    site.nodes_ready(1)
    return master


def follow(site: Site) -> None:
    """Keep the projections."""
    site.run("follow", name="follow")


def node(site: Site, name: str = "n1") -> None:
    """A node whose agent keeps its memory outside the small disk."""
    state = site.folder / f"state-{name}"
    state.mkdir()
    site.agent(name, "--state", str(state))
    site.nodes_ready(2)


def log_of(site: Site) -> list[Recorded]:
    """The log, verified by the command and read from a copy: SQLite follows links by itself, and
    finds no disk of another namespace."""
    assert site.disk is not None
    assert site.run("log", "verify", name="verify").ends() == 0
    copy = site.folder / "copy"
    copy.mkdir()
    for file in site.disk.seen(site.data).glob("log.db*"):
        shutil.copy(file, copy)
    with closing(open_log(copy, None, write=False)) as log:
        return list(log.read())


def metric(site: Site, name: str) -> float:
    """The present value of one of the master's metrics."""
    text = site.web().ask("GET", "/metrics").body.decode()
    line = next(line for line in text.splitlines() if line.startswith(f"jobledger_{name} "))
    return float(line.split()[1])


def warnings(site: Site) -> str:
    """What the master says it can't do."""
    return " ".join(site.web().json("GET", "/readyz")["warnings"])


@pytest.fixture
def small(sqlite_site: Site) -> Site:
    """A service whose DIR is a disk of 12 MiB."""
    sqlite_site.small_disk(sqlite_site.data, 12 * MIB)
    return sqlite_site


@pytest.mark.fault("B3")
def test_a_full_disk_under_everything(small: Site, full: bool, evidence: Evidence) -> None:
    assert small.disk is not None
    disk = small.disk
    master = begin(small)
    follow(small)
    node(small)
    web = small.web()
    gate, spool = small.folder / "gate", small.folder / "state-n1" / "spool.ndjson"
    job = web.submit(small.job(f"while [ ! -e {gate} ]; do sleep 0.05; done"))
    until(small.witnessed, saying="the job's first line")
    clients = Clients(small, held)
    try:
        healed = []
        for _ in range(5 if full else 2):
            clients.some()
            disk.fill()
            clients.refusals("storage_full")
            assert "disk is full" in warnings(small)
            assert metric(small, "log_writable") == 0
            if not gate.exists():
                assert web.job(job)["state"] == "running"
                gate.touch()  # the job ends while its end can't be recorded
                until(lambda: '"kind":"ended"' in spool.read_text(), saying="the spooled end")
            began = time.monotonic()
            disk.free()
            healed.append(clients.heals(began))
        until(lambda: "disk is full" not in warnings(small), saying="the end of the warning")
        clients.some()
    finally:
        clients.end()
    until(lambda: not any(j["job"] == job for j in web.json("GET", "/v1/jobs")["jobs"]))
    assert (master.status, "the log takes events again" in master.words()) == (None, True)
    history = f"/v1/jobs/{job}"
    until(lambda: web.json("GET", history)["state"] == "completed", saying="the projection")
    assert master.end() == 0
    events = log_of(small)
    ends = [r.event for r in events if isinstance(r.event, AttemptEnded)]
    assert [(e.job, e.outcome) for e in ends] == [(job, "completed")]
    assert len(small.witnessed()) == 1
    said = clients.check(events)
    evidence("full disk under DIR", f"{said}; healed within {max(healed):.1f} s of {len(healed)}")


@pytest.mark.fault("B4")
def test_a_limit_on_the_size_of_a_file(sqlite_site: Site, evidence: Evidence) -> None:
    master = begin(sqlite_site)
    clients = Clients(sqlite_site, held)
    try:
        clients.some()
        resource.prlimit(master.pid, resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
        clients.refusals("storage_full")
        began = time.monotonic()
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(master.pid, resource.RLIMIT_FSIZE, unlimited)
        healed = clients.heals(began)
    finally:
        clients.end()
    assert master.end() == 0
    assert sqlite_site.verified()
    said = clients.check(sqlite_site.events())
    evidence("RLIMIT_FSIZE on the log", f"{said}; healed within {healed:.1f} s")


@pytest.mark.fault("B10")
def test_a_disk_that_is_mounted_read_only_and_back(small: Site, evidence: Evidence) -> None:
    assert small.disk is not None
    master = begin(small)
    clients = Clients(small, held)
    try:
        clients.some()
        master.end(signal.SIGKILL)  # as after the first write that such a disk refuses
        small.disk.read_only(True)
        refused = small.run("master", name="refused")
        assert refused.ends() == 75
        assert "Read-only file system" in refused.words()
        began = time.monotonic()
        small.disk.read_only(False)
        master = small.start()
        healed = clients.heals(began)
        clients.some()
    finally:
        clients.end()
    assert master.end() == 0
    said = clients.check(log_of(small))
    evidence("DIR read-only and back", f"{said}; healed within {healed:.1f} s with the restart")


@pytest.mark.fault("B3")
@pytest.mark.parametrize("part", ["output", "projections", "checkpoints"])
def test_a_full_disk_beside_the_log(sqlite_site: Site, part: str, evidence: Evidence) -> None:
    small = sqlite_site
    disk = small.small_disk(small.data / part, 8 * MIB)  # each projection has a file
    master = begin(small)
    follow(small)
    node(small)
    web = small.web()
    clients = Clients(small, held)
    try:
        clients.some()
        disk.fill()
        job = web.submit(small.job("head -c 300000 /dev/zero"))
        small.ended(job)
        clients.some(50)
        if part == "output":
            until(lambda: metric(small, "output_failures_total") > 0, saying="the count")
            assert "output store" in warnings(small)
        if part == "projections":
            words = small.folder / "follow.log"
            until(lambda: "can't follow" in words.read_text(), saying="the follower's word")
        began = time.monotonic()
        disk.free()
        if part == "output":
            path = f"/v1/jobs/{job}/output"
            until(lambda: len(web.ask("GET", path).body) == 300_000, saying="the output")
            assert "output store" not in warnings(small)
        if part == "projections":
            until(lambda: web.json("GET", f"/v1/jobs/{job}")["state"] == "completed")
        healed = time.monotonic() - began
        if part == "checkpoints":
            disk.fill()
    finally:
        clients.end()
    assert master.end() == 0
    assert ("checkpoint could not be written" in master.words()) == (part == "checkpoints")
    said = clients.check(small.events())
    assert not clients.refused
    evidence(f"full disk under DIR/{part}", f"{said}; healed within {healed:.1f} s")
