"""A log that nobody takes, of a master, an agent, a follower or a whole service: a pipe that is
full, a file on a full disk."""

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .harness import RUN_AS, Site
from .processes import until
from .test_full_disks import MIB, metric
from .troubled import Clients, held

Evidence = Callable[[str, object], None]
DROPPED = "log_lines_dropped_total"


def garbage(site: Site) -> None:
    """A connection that speaks no HTTP: the master has a line to say about it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(site.url.removeprefix("unix:"))
        connection.sendall(b"\x16\x03\x01 nothing\r\n\r\n")
        connection.recv(1000)


def full_pipe(site: Site) -> tuple[Path, int]:
    """A pipe that takes nothing more, and the descriptor that it can be read by."""
    pipe = site.folder / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    full_of = b"." * resource.getpagesize()
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(reader, full_of)
    return pipe, reader


@pytest.mark.fault("A12")
def test_agents_and_followers_whose_log_nobody_takes(sqlite_site: Site, evidence: Evidence) -> None:
    site = sqlite_site
    pipe, reader = full_pipe(site)
    site.start()
    parts = [site.run("follow", name="follow", log=pipe)]
    words = ["agent", "--name", "n1", "--pool", "default"]
    account = ["--run-as", RUN_AS] if RUN_AS else []
    parts.append(site.run(*words, *account, name="agent", log=pipe))
    site.nodes_ready(1)
    web = site.web()
    jobs = [web.submit({"argv": ["true"]}) for _ in range(5)]
    for job in jobs:
        assert site.ended(job).outcome == "completed"
        until(lambda job=job: web.json("GET", f"/v1/jobs/{job}")["state"] == "completed")
    assert [part.end() for part in reversed(parts)] == [0, 0]
    os.close(reader)
    evidence("log sinks of an agent and of follow blocked", f"{len(jobs)} of {len(jobs)} jobs done")


@pytest.mark.fault("A12")
def test_a_whole_service_that_nobody_listens_to(sqlite_site: Site, evidence: Evidence) -> None:
    site = sqlite_site
    pipe, reader = full_pipe(site)
    account = ["--run-as", RUN_AS] if RUN_AS else []
    service = site.run("up", "--agents", "1", *account, name="up", log=pipe)
    site.ready(service)
    site.nodes_ready(1)
    web = site.web()
    job = web.submit({"argv": ["true"]})
    assert site.ended(job).outcome == "completed"
    follow = site.data / "run" / "follow.pid"
    pid = follow.read_text()
    os.kill(int(pid), signal.SIGKILL)
    until(lambda: follow.exists() and follow.read_text() not in (pid, ""), saying="another follow")
    until(lambda: web.json("GET", f"/v1/jobs/{job}")["state"] == "completed")
    assert service.end() == 0
    os.close(reader)
    evidence("log sink of up blocked", "a job done, what died started again, ended in order")


@pytest.mark.fault("A12")
@pytest.mark.parametrize("sink", ["pipe", "disk", "pipe to the end"])
def test_a_master_whose_log_nobody_takes(sqlite_site: Site, sink: str, evidence: Evidence) -> None:
    site = sqlite_site
    if sink == "disk":
        disk = site.small_disk(site.folder / "logs", MIB)
        log = site.folder / "logs" / "master.log"
        disk.fill()
    else:
        log, reader = full_pipe(site)
    master = site.run("master", name="master", log=log)
    site.disk, kept = None, site.disk
    site.ready(master)
    site.simulated(1, "sim")
    site.nodes_ready(1)
    clients = Clients(site, held)
    try:
        clients.some()
        while not (dropped := metric(site, DROPPED)):
            for _ in range(200):
                garbage(site)
        clients.some()
        said = bytearray()
        if sink == "disk":
            disk.free()
            garbage(site)
            reader = os.open(disk.seen(log), os.O_RDONLY)

        def told_of_them() -> bool:
            with contextlib.suppress(BlockingIOError):
                said.extend(os.read(reader, 1 << 20))
            return b"lines of this log were dropped" in said

        if sink != "pipe to the end":
            until(told_of_them, saying="the word of what is missing")
    finally:
        clients.end()
    began = time.monotonic()
    assert master.end() == 0
    assert time.monotonic() - began < 10
    os.close(reader)
    told = clients.check(site.events())
    site.disk = kept
    evidence(f"log sink blocked ({sink})", f"{told}; {dropped:.0f} lines dropped and counted")
