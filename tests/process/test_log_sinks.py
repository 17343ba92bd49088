"""A master's own log that nobody takes: a pipe that is full, a file on a full disk."""

import contextlib
import os
import resource
import socket
import time
from collections.abc import Callable

import pytest

from .harness import Site, until
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


@pytest.mark.fault("A12")
@pytest.mark.parametrize("sink", ["pipe", "disk", "pipe to the end"])
def test_a_master_whose_log_nobody_takes(sqlite_site: Site, sink: str, evidence: Evidence) -> None:
    site = sqlite_site
    log = site.folder / "pipe"
    if sink == "disk":
        disk = site.small_disk(site.folder / "logs", MIB)
        log = site.folder / "logs" / "master.log"
        disk.fill()
    else:
        os.mkfifo(log)
        reader = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        full_of = b"." * resource.getpagesize()
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(reader, full_of)
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
