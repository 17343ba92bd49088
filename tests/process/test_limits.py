"""Masters that run out of something, are told to end, or are replaced time after time."""

import contextlib
import os
import resource
import signal
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from ledger.events import JobsSubmitted, MasterStarted
from ledger.testing.evidence import Evidence

from .harness import NO_ANSWER, Site
from .load import Book, Patient, Unanswered, submissions
from .processes import state_of, until
from .whole import all_is_well, pid_of, running, some_run

END_S = 10.0
REQUEST = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: jobledger\r\nContent-Type: application/json\r\n"
    b"Idempotency-Key: key-%d\r\nContent-Length: 35\r\n\r\n"
    b'[{"argv": ["true"], "held": true} ]'
)


def node(site: Site) -> None:
    """A node without an agent, so that jobs are possible."""
    site.web().json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}})


def connections(site: Site, count: int) -> list[socket.socket]:
    """So many connections to the master."""
    made = []
    for _ in range(count):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(30)
        one.connect(str(site.data / "jobledger.sock"))
        made.append(one)
    return made


def status(one: socket.socket) -> int:
    """What a request was answered; 0 where the connection ended without an answer."""
    with contextlib.suppress(OSError):
        said = one.recv(1 << 16)
        return int(said.split()[1]) if said else 0
    return 0


@pytest.mark.fault("A10")
def test_told_to_end_under_load(
    any_site: Site, database: str, full: bool, evidence: Evidence
) -> None:
    site, size = any_site, 1000 if full else 200
    master = site.start()
    node(site)
    asked = connections(site, size)
    master.freeze()
    for number, one in enumerate(asked):
        one.sendall(REQUEST % number)
    master.tell(signal.SIGCONT)
    first = status(asked[0])
    began = time.monotonic()
    assert master.end(signal.SIGTERM) == 0
    took = time.monotonic() - began
    answers = {f"key-{n}": status(one) for n, one in enumerate(asked) if n} | {"key-0": first}
    for one in asked:
        one.close()
    queued = Counter(r.event.key for r in site.events() if isinstance(r.event, JobsSubmitted))
    told = [key for key, code in answers.items() if code == 201]
    assert [key for key in told if queued[key] != 1] == []
    assert set(answers.values()) <= {201, 503, 0}
    assert took < END_S
    site.start()
    site.verified()
    evidence(
        f"SIGTERM under {size} requests, {database}",
        f"{len(told)} acknowledged and in the log, {len(answers) - len(told)} refused or not"
        f" answered, {sum(queued.values()) - len(told)} of these in the log; ended after"
        f" {took:.1f} s",
    )


@pytest.mark.fault("A8")
def test_no_file_descriptors_left(any_site: Site, database: str, evidence: Evidence) -> None:
    site = any_site
    master = site.start()
    node(site)
    known = site.web()
    known.submit({"argv": ["true"], "held": True})
    resource.prlimit(master.pid, resource.RLIMIT_NOFILE, (64, 64))
    crowd = connections(site, 200)
    until(lambda: len(list(Path(f"/proc/{master.pid}/fd").iterdir())) >= 60, 20, "the limit")
    jobs = [known.submit({"argv": ["true"], "held": True}) for _ in range(20)]
    assert len(set(jobs)) == 20
    for one in crowd:
        one.close()

    def heals() -> bool:
        with contextlib.suppress(*NO_ANSWER):
            return site.web(timeout_s=2).submit({"argv": ["true"], "held": True}) > max(jobs)
        return False

    began = time.monotonic()
    until(heals, 20, "a new client's answer")
    took = time.monotonic() - began
    assert master.status is None
    site.verified()
    evidence(
        f"200 connections at a limit of 64 files, {database}",
        f"20 of 20 submissions of a known client; a new one was served {took:.1f} s after",
    )


@pytest.mark.full
@pytest.mark.fault("A7")
def test_no_memory_left(any_site: Site, database: str, evidence: Evidence) -> None:
    site, book = any_site, Book()
    master = site.start()
    node(site)
    memory = int(Path(f"/proc/{master.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(master.pid, resource.RLIMIT_AS, (memory + (24 << 20),) * 2)
    refused, web = 0, site.web(timeout_s=5)
    specs = [{"argv": ["true", "x" * 400], "held": True}] * 1000
    for _ in range(60):
        try:
            book.ask(web, lambda _: specs)
        except (*NO_ANSWER, Unanswered):
            refused += 1
        if master.status is not None or refused > 5:
            break
    assert refused, "60 requests did not use it up"
    if master.status is None:
        queued = {r.event.key for r in site.events() if isinstance(r.event, JobsSubmitted)}
        assert set(book.told) <= queued
        master.end(signal.SIGKILL)
    ended = master.ends()
    site.age_leadership()
    site.start()
    again = site.web()
    for key in book.unanswered:
        book.repeat(again, key)
    kept: dict[str, tuple[int, int]] = {}
    submissions(site.events(), kept)
    book.check(kept)
    events = site.verified()
    evidence(
        f"no memory left, {database}",
        f"{len(book.told)} requests of 1,000 jobs acknowledged, {refused} not; the master ended "
        f"with {ended}; nothing was lost or doubled in {events} events",
    )


@pytest.mark.full
@pytest.mark.fault("G4")
def test_each_process_is_stopped_and_goes_on(sqlite_site: Site, evidence: Evidence) -> None:
    site, book, stopped = sqlite_site, Book(), 0
    with running(site):
        load = Patient(site, book, some_run(site))
        load.goes_on()
        for part in ("master", "follow", "agent-n1") * 3:
            pid = pid_of(site, part)
            os.kill(pid, signal.SIGSTOP)
            until(lambda pid=pid: state_of(pid) == "T", 10, "the stop")
            if part != "master":
                load.goes_on()
            os.kill(pid, signal.SIGCONT)
            load.goes_on()
            stopped += 1
            assert pid_of(site, part) == pid
        load.end()
        head = all_is_well(site, book)
    evidence(
        "master, follow and agent stopped and continued under load (SQLite)",
        f"{stopped} times, {len(book.told)} acknowledged, 0 lost or doubled; projections are the "
        f"fold at {head}",
    )


@pytest.mark.fault("D1", "D4")
def test_takeovers_in_a_row(any_site: Site, database: str, full: bool, evidence: Evidence) -> None:
    site, book, times = any_site, Book(), 50 if full else 2
    site.start()
    agents = site.simulated(4, "sim")
    site.nodes_ready(4)
    before = len(list(Path(f"/proc/{agents.pid}/fd").iterdir()))
    load = Patient(site, book, lambda number: [{"argv": ["sleep", "0"], "pool": "sim"}])
    slowest = 0.0
    for _ in range(times):
        load.goes_on(4)
        old = site.master
        assert old is not None
        site.master = site.run("master", "--wait", name="master")
        began = time.monotonic()
        old.end(signal.SIGKILL)
        site.age_leadership()
        site.ready(site.master)
        slowest = max(slowest, time.monotonic() - began)
    load.goes_on()
    load.end()
    until(lambda: not site.web().json("GET", "/v1/jobs")["jobs"], 60, "the end of all jobs")
    kept: dict[str, tuple[int, int]] = {}
    events = site.events()
    submissions(events, kept)
    book.check(kept)
    reigns = [r.epoch for r in events if isinstance(r.event, MasterStarted)]
    assert reigns == list(range(1, times + 2))
    assert [r.epoch for r in events] == sorted(r.epoch for r in events)
    assert len(list(Path(f"/proc/{agents.pid}/fd").iterdir())) <= before + 4
    site.verified()
    evidence(
        f"takeovers in a row, {database}",
        f"{times}, the slowest ready after {slowest:.1f} s; {len(book.told)} acknowledged, 0 lost "
        f"or doubled; epochs 1 to {times + 1}",
    )
