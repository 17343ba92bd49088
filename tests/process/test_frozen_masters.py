"""A master that is stopped is replaced, and harms nothing when it goes on; two never reign."""

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import psycopg
import pytest

from ledger.events import MasterStarted
from ledger.store.leadership import LEASE_S
from ledger.store.session import LOCK_TIMEOUT_S
from ledger.testing.evidence import Evidence
from ledger.wire import PROTOCOL, Facts, SyncRequest

from .harness import NO_ANSWER, Answer, Site, Web
from .processes import Process, until
from .strace import Point, Tracer, need_strace

TEMPFAIL = 75
FAILED = 70
SLACK_S = 2.0
"""Beyond lease and lock timeout: the start of a process, and polling."""

BUSY = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"


def sync(web: Web, node: str) -> Answer:
    """Ask for a node's orders, as its agent would."""
    request = SyncRequest(
        protocol=PROTOCOL,
        spool="s1",
        boot_id="b1",
        sent_ns=time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        build="test",
        facts=Facts(cpus=1),
        wait_s=0.0,
    )
    return web.ask("POST", f"/v1/agents/{node}/sync", msgspec.to_builtins(request))


def node(site: Site, name: str) -> str:
    """Enrol a node that has no agent but this test; its token."""
    web = site.web()
    token: str = web.json("POST", f"/v1/agents/{name}/enrol", {"facts": {"cpus": 1}})["token"]
    return token


def answered(future: "Future[Answer]") -> Answer | None:
    """What a request was answered; None where the connection ended without an answer."""
    try:
        return future.result(30)
    except NO_ANSWER:
        return None


def epochs(site: Site) -> list[int]:
    """The epoch of every event in the log, in order."""
    return [r.epoch for r in site.events()]


def replaced(site: Site, frozen_at: float) -> tuple[Process, Web, float]:
    """The master that waits takes over; it, a client of it, and how long it took."""
    other = site.folder / "other"
    second = site.run("master", "--wait", name="second", data=other)
    url = f"unix:{other / 'jobledger.sock'}"

    def reigns() -> bool:
        assert second.status is None, "the waiting master has ended"
        try:
            return bool(Web(url, timeout_s=2).ask("GET", "/readyz").good)
        except NO_ANSWER:
            return False

    until(reigns, LEASE_S + LOCK_TIMEOUT_S + SLACK_S, "the takeover")
    took = time.monotonic() - frozen_at
    return second, Web(url), took


@pytest.mark.fault("A4", "A5", "D2")
@pytest.mark.parametrize("where", ["idle", "between lock and commit"])
def test_a_frozen_master_is_replaced_and_then_writes_and_orders_nothing(
    postgres_site: Site, where: str, evidence: Evidence
) -> None:
    if where != "idle":
        need_strace()
    site = postgres_site
    first = site.start()
    token = node(site, "n1")
    agent, late, user = site.web(token=token), site.web(token=token), site.web()
    assert sync(agent, "n1").good
    job = user.submit({"argv": ["true"]}, key="before")
    until(lambda: user.job(job)["state"] == "running", 10, "the placement")
    before = len(site.events())
    calls = ThreadPoolExecutor(4)
    pending: list[Future[Answer]] = []
    for web in (late, user):
        web.ask("GET", "/v1/whoami")  # a connection that was made before the master froze
    submit = ("POST", "/v1/jobs", [{"argv": ["true"], "held": True}], "doubtful")
    if where == "idle":
        frozen_at = time.monotonic()
        first.freeze()
        pending.append(calls.submit(user.ask, *submit))
    else:
        # The second thing sent to the database is the INSERT, behind BEGIN and LOCK TABLE.
        trace = site.folder / "strace.log"
        tracer = Tracer(first.pid, Point("sendto", 2), "SIGSTOP", trace)
        pending.append(calls.submit(user.ask, *submit))
        until(lambda: "SIGSTOP" in trace.read_text(), 10, "the stop")
        frozen_at = time.monotonic()
        assert site.database_url is not None
        with psycopg.connect(site.database_url, autocommit=True) as connection:
            found = connection.execute(BUSY).fetchone()
            assert found == (1,), "the master was not stopped inside its transaction"
    pending.append(calls.submit(sync, late, "n1"))
    second, web, took = replaced(site, frozen_at)
    reign = max(epochs(site))
    assert web.ask("POST", f"/v1/jobs/{job}/cancel", {"note": "by the second"}).good
    if where != "idle":
        tracer.close()  # which leaves it stopped
    first.tell(signal.SIGCONT)
    assert first.ends(10) == FAILED
    doubtful, orders = (answered(future) for future in pending)
    assert doubtful is None or doubtful.status == 503
    assert orders is None or not orders.good or orders.json()["seen"]["epoch"] < reign
    found_epochs = epochs(site)
    assert found_epochs == sorted(found_epochs)
    assert found_epochs[:before] == [1] * before
    assert set(found_epochs[before:]) == {reign}, "the frozen master wrote something"
    again = web.ask("POST", *submit[1:])
    assert again.status == 201, "the doubtful request had not happened, and happens now"
    site.verified()
    assert second.status is None
    evidence(f"frozen master (PostgreSQL), stopped {where}", f"replaced after {took:.1f} s")


@pytest.mark.fault("A11")
def test_the_second_master_on_sqlite_says_who_holds_the_log(
    sqlite_site: Site, evidence: Evidence
) -> None:
    site = sqlite_site
    first = site.start()
    began = time.monotonic()
    second = site.run("master", name="second")
    assert second.ends(10) == TEMPFAIL
    took = time.monotonic() - began
    assert f"process {first.pid}" in second.words()
    assert "stopped" not in second.words()
    first.freeze()
    third = site.run("master", name="third")
    assert third.ends(10) == TEMPFAIL
    assert f"process {first.pid}" in third.words()
    assert "which is stopped" in third.words()
    assert f"kill -CONT {first.pid}" in third.words()
    first.tell(signal.SIGCONT)
    assert site.web().ask("GET", "/readyz").good, "the first reigns on, and its socket is its own"
    evidence("second master (SQLite)", f"ended with {TEMPFAIL} after {took:.2f} s")


@pytest.mark.fault("D1")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_waiting_master_on_sqlite_begins_when_the_first_is_gone(
    sqlite_site: Site, how: signal.Signals, evidence: Evidence
) -> None:
    site = sqlite_site
    first = site.start()
    second = site.run("master", "--wait", name="second")
    until(lambda: waits(second), 10, "the wait")
    assert site.web().json("GET", "/readyz")["epoch"] == 1
    began = time.monotonic()
    first.end(how)
    site.ready(second)
    evidence(
        f"waiting master (SQLite), {how.name}", f"ready after {time.monotonic() - began:.2f} s"
    )
    starts: list[Any] = [r for r in site.events() if isinstance(r.event, MasterStarted)]
    assert [r.epoch for r in starts] == [1, 2]


def waits(process: Process) -> bool:
    """Does it wait for a lock on a file?"""
    with open("/proc/locks") as locks:
        return any("->" in line and f" {process.pid} " in line for line in locks)
