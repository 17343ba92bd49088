"""A real master under every hostile connection and request at once: it answers others meanwhile."""

import asyncio  # noqa: I001
import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path

import httpx2
import pytest

from ledger.testing.evidence import Evidence

from hostile import Hostile, requests
from .attacks import ATTACKS, Target, all_made, deaf
from .harness import Site, Web
from .processes import until

GROWTH = 64 << 20
DEAF = 10


class Watch:
    """Another client who asks all the time, and the master's memory meanwhile."""

    def __init__(self, site: Site, target: Target) -> None:
        assert site.master is not None
        self._pid = site.master.pid
        self._web = Web(f"http://{target.host}:{target.port}", target.token, timeout_s=60)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took: list[float] = []
        self.before = self.peak = self.rss()

    def rss(self) -> int:
        """Bytes of memory that the master has now."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def sockets(self) -> int:
        """How many sockets the master has open."""
        found = 0
        for file in Path(f"/proc/{self._pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                found += os.readlink(file).startswith("socket:")
        return found

    def _run(self) -> None:
        while not self._end.wait(0.02):
            began = time.monotonic()
            assert self._web.ask("GET", "/v1/jobs?limit=1").good
            self.took.append(time.monotonic() - began)
            self.peak = max(self.peak, self.rss())

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._web.close()

    def p99(self) -> float:
        """Of the other client's answers, seconds."""
        return sorted(self.took)[int(0.99 * len(self.took))]


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def target(sqlite_site: Site) -> Target:
    """A master on TCP with a drained node, a pending job 1, and some megabytes of events."""
    site, port = sqlite_site, free_port()
    site.start("--listen", f"127.0.0.1:{port}")
    web = site.web()
    web.json("POST", "/v1/agents/n1/enrol", {"facts": {"cpus": 1}})
    web.json("POST", "/v1/nodes/n1/drain", {})
    jobs = [{"argv": ["/bin/true"], "name": "x" * 100, "held": True}] * 250
    for _ in range(120):
        web.submit(*jobs)
    secret = web.json("POST", "/v1/tokens", {"owner": "olga", "role": "operator", "ttl_s": 3600})
    return Target("127.0.0.1", port, secret["secret"])


def fault(name: str, answer: bytes, wanted: int) -> str:
    """What is wrong with an answer, in words; empty if nothing is."""
    if not wanted:
        return "" if not answer else f"{name}: answered {answer[:200]!r}"
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 %d" % wanted):
        return f"{name}: {wanted} was due, not {answer[:200]!r}"
    problem = json.loads(body)
    if (problem["status"], bool(problem["hint"])) != (wanted, True) or not problem["detail"]:
        return f"{name}: no clear problem: {problem}"
    if wanted == 426 and "Install the release" not in problem["hint"]:
        return f"{name}: does not say what to install"
    return ""


def ask_all(target: Target) -> list[str]:
    """Every hostile request of the list for the API, over this connection; what went wrong."""
    wrong = []
    headers = {"Authorization": f"Bearer {target.token}"}
    base = f"http://{target.host}:{target.port}"
    with httpx2.Client(base_url=base, headers=headers, timeout=60, verify=False) as client:
        for bad in requests():
            answer = client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)
            if not (400 <= answer.status_code < 500 or (bad.fine and answer.is_success)):
                wrong.append(f"{bad.name}: {answer.status_code} {answer.text[:200]}")
    return wrong


@pytest.mark.fault("F6", "I5", "I6", "I7")
def test_hostile_connections_are_ended_while_others_are_answered(
    sqlite_site: Site, target: Target, evidence: Evidence
) -> None:
    site, listed = sqlite_site, list[Hostile](requests())
    watch = Watch(site, target)
    sockets, head = watch.sockets(), site.events()[-1].position
    with watch, deaf(target, DEAF) as socks:
        answers = asyncio.run(all_made(target))
        wrong = ask_all(target)
        wrong += [
            said
            for name, (_, _, wanted) in ATTACKS.items()
            for answer in answers[name]
            if (said := fault(name, answer, wanted))
        ]
        assert wrong == []
        until(lambda: watch.sockets() <= sockets + 2, 60, "the end of all their connections")
        assert len(socks) == DEAF
    left = {type(r.event).__name__ for r in site.events() if r.position > head}
    assert left <= {"DemandRefused"}
    grown = watch.peak - watch.before
    assert grown < GROWTH, f"the master's memory grew by {grown >> 20} MB"
    assert watch.p99() < 3
    assert site.web().submit({"argv": ["true"], "held": True})
    site.verified()
    evidence(
        "hostile connections and requests",
        f"{sum(n for _, n, _ in ATTACKS.values()) + DEAF} connections of {len(ATTACKS) + 1} "
        f"kinds at once and {len(listed)} requests: one clear problem each, all sockets freed, "
        f"head unchanged; memory +{grown / 2**20:.0f} MB at its peak; another client's "
        f"{len(watch.took)} requests meanwhile: p99 {1000 * watch.p99():.0f} ms, longest "
        f"{1000 * max(watch.took):.0f} ms",
    )
