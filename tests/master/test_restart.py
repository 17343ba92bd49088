"""A master that comes back has exactly the state that its log makes, whatever helped it there."""

import asyncio
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ledger.domain import snapshot
from ledger.domain.cluster import fold
from ledger.events import MasterStarted, MasterStopped, Recorded
from ledger.master.main import MasterSettings, run_master
from ledger.master.recovery import recover
from ledger.master.service import Service
from ledger.settings import SOCKET
from ledger.store.location import open_log
from ledger.store.log import AppendFailed, Log, LogBusy, LogUnavailable
from live import Http, Live, live, until
from places import fresh_database


@pytest.fixture
def either(database: str, request: pytest.FixtureRequest) -> Iterator[Live]:
    """A service for one test on each database in turn."""
    if database == "sqlite":
        with live() as made:
            yield made
        return
    template = request.getfixturevalue("pg_template")
    with fresh_database(request.getfixturevalue("pg_server"), template) as url, live(url) as made:
        yield made


def busy(s: Live) -> None:
    """Some of everything: nodes, jobs in every state, tokens, keys, a policy."""
    n1 = s.node("n1", features=["gpu"])
    s.node("n2", pool="other")
    alice, operator = s.user("alice"), s.operator
    operator.ok("PATCH", "/v1/policy", {"max_jobs_per_user": 1000})
    alice.ok("POST", "/v1/jobs", {"argv": ["x"], "array": "0-9"}, headers={"Idempotency-Key": "k"})
    last = alice.submit(depends=[{"kind": "afterany", "job": 1}], name="waits")
    alice.ok("POST", f"/v1/jobs/{last}/hold", {"note": "so"})
    alice.ok("POST", "/v1/jobs/5/cancel", {})
    until(lambda: s.state(lambda c: c.running), "one is placed")
    end = {"seq": 1, "kind": "ended", "job": 1, "attempt": 1, "end": "failed", "cause": "exit"}
    assert n1.sync("n1", reports=[end]).json()["acked"] == [1]
    until(lambda: s.state(lambda c: c.running), "the next is placed")
    operator.ok("POST", "/v1/nodes/n2/drain", {"reason": "r"})


def bytes_of(s: Live) -> bytes:
    """The state of the running master, canonically."""
    return s.state(snapshot.to_bytes)


def folded(s: Live) -> bytes:
    """The state that the durable log makes, from nothing."""
    return snapshot.to_bytes(fold(s.events()))


def checkpoints(s: Live) -> list[Path]:
    return sorted((s.data / "checkpoints").glob("*.checkpoint"))


def started(s: Live) -> MasterStarted:
    """The last start on record."""
    return [r.event for r in s.events() if isinstance(r.event, MasterStarted)][-1]


def test_the_state_is_the_fold_of_the_log_before_and_after(either: Live) -> None:
    busy(either)
    assert bytes_of(either) == folded(either)
    before = either.state(lambda c: (len(c.jobs), len(c.running), sorted(c.nodes), len(c.tokens)))
    either.restart()
    after = either.state(lambda c: (len(c.jobs), len(c.running), sorted(c.nodes), len(c.tokens)))
    assert before == after
    assert bytes_of(either) == folded(either)
    alice = either.user("alice")
    again = alice(
        "POST", "/v1/jobs", {"argv": ["x"], "array": "0-9"}, headers={"Idempotency-Key": "k"}
    )
    assert (again.status_code, again.json()["first_job"]) == (200, 1)
    names = [type(r.event) for r in either.events()]
    assert (names.count(MasterStarted), names.count(MasterStopped)) == (2, 1)
    assert either.operator("GET", "/v1/jobs").headers["jobledger-epoch"] == "2"
    assert either.fatal == []


def test_a_checkpoint_spares_the_replay(either: Live) -> None:
    busy(either)
    either.stop()
    (made,) = checkpoints(either)
    either.start()
    report = started(either).recovered
    assert report["from_checkpoint"] == int(made.stem)
    assert report["events_replayed"] == 0
    assert report["clean_stop"] == 1
    assert either.said[-1].startswith("Back after an orderly stop: 0 events")
    assert bytes_of(either) == folded(either)


@pytest.mark.fault("H10")
def test_a_damaged_checkpoint_is_ignored_and_the_older_one_taken(fresh: Live) -> None:
    busy(fresh)
    fresh.restart()
    fresh.user("bob").submit()
    fresh.stop()
    older, newer = checkpoints(fresh)
    data = bytearray(newer.read_bytes())
    data[-10] ^= 1
    newer.write_bytes(data)
    fresh.start()
    report = started(fresh).recovered
    assert report["from_checkpoint"] == int(older.stem)
    assert report["events_replayed"] > 0
    assert bytes_of(fresh) == folded(fresh)


@pytest.mark.fault("H10")
@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "label", "gone"])
def test_without_a_checkpoint_that_counts_everything_is_replayed(fresh: Live, damage: str) -> None:
    busy(fresh)
    fresh.stop()
    (made,) = checkpoints(fresh)
    data = made.read_bytes()
    damaged = {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "noise": bytes(range(256)) * 10,
        "label": data.replace(b'"state_version":', b'"state_version":9', 1),
    }
    if damage == "gone":
        made.unlink()
    else:
        made.write_bytes(damaged[damage])
    fresh.start()
    assert started(fresh).recovered["from_checkpoint"] == 0
    assert bytes_of(fresh) == folded(fresh)


@pytest.mark.fault("H10")
def test_another_logs_checkpoint_is_ignored(fresh: Live) -> None:
    with live() as other:
        busy(other)
        other.stop()
        busy(fresh)
        fresh.stop()
        shutil.rmtree(fresh.data / "checkpoints")
        shutil.copytree(other.data / "checkpoints", fresh.data / "checkpoints")
    fresh.start()
    assert started(fresh).recovered["from_checkpoint"] == 0
    assert bytes_of(fresh) == folded(fresh)


def test_a_checkpoint_and_the_rest_make_what_the_whole_log_makes(fresh: Live) -> None:
    """For any place between: as after a crash, when the last checkpoint is some way behind."""
    busy(fresh)
    fresh.restart()
    busier = fresh.user("carol")
    for _ in range(5):
        busier.submit()
    fresh.stop()
    log = open_log(fresh.data, None, write=False)
    newest = checkpoints(fresh)[-1]
    newest.unlink()
    found = recover(log, fresh.data / "checkpoints")
    assert found.from_checkpoint > 0
    assert found.events > 5
    assert snapshot.to_bytes(found.cluster) == snapshot.to_bytes(recover(log, None).cluster)
    assert snapshot.to_bytes(found.cluster) == folded(fresh)
    log.close()


# ── while it replays ─────────────────────────────────────────────────────────────────────────────


class Slow:
    """A log whose reading stops after some events until it is let go."""

    def __init__(self, log: Log, after: int) -> None:
        self._log, self._after = log, after
        self.reached, self.go = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def read(self, after: int = 0, upto: int | None = None) -> Iterator[Recorded]:
        """The events, haltingly."""
        for i, recorded in enumerate(self._log.read(after, upto)):
            if i == self._after:
                self.reached.set()
                assert self.go.wait(20), "the test never let the replay go on"
            yield recorded


def test_while_it_replays_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.master.recovery.PROGRESS_EVERY", 2)
    data = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    made: list[Slow] = []

    def slow(log: Log) -> Log:
        made.append(Slow(log, 10 if made else 10**9))
        return made[-1]  # type: ignore[return-value]

    s = Live(data / "data", wrap=slow)
    s.start()
    busy(s)
    token = s.token("alice")
    s.stop()
    shutil.rmtree(s.data / "checkpoints")
    s.start(wait=False)
    try:
        until(lambda: made[-1].reached.is_set() and s.listening, "the replay is under way")
        transport = httpx2.HTTPTransport(uds=str(s.data / SOCKET), verify=False)
        http = Http(httpx2.Client(transport=transport, base_url="http://live"), "operator")
        ready = http("GET", "/readyz")
        told = ready.json()
        assert (ready.status_code, told["ready"], told["epoch"]) == (503, False, 0)
        assert 0 < told["replayed"] < told["head"]
        assert str(told["head"]) in told["sentence"]
        assert http("GET", "/healthz").status_code == 200
        for path in ("/v1/jobs", "/v1/nodes", "/metrics", "/v1/log/head"):
            answer = http("GET", path)
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            assert int(answer.headers["retry-after"]) >= 1
        submitted = http("POST", "/v1/jobs", {"argv": ["x"]})
        assert submitted.json()["code"] == "not_ready"
        by_token = http("GET", "/healthz", headers={"Authorization": f"Bearer {token}"})
        assert by_token.json()["code"] == "not_ready"  # tokens are known from the log
        made[-1].go.set()
        until(lambda: http("GET", "/readyz").status_code == 200, "it reigns")
        assert http.ok("GET", "/readyz")["recovery"]["from_checkpoint"] == 0
        http.client.close()
    finally:
        made[-1].go.set()
        until(lambda: s.ready, "it reigns")
        s.stop()
        shutil.rmtree(data)


@pytest.mark.fault("A11")
def test_a_second_master_does_not_start_beside_it(fresh: Live) -> None:
    with pytest.raises(LogBusy, match="is held by process"):
        Live(fresh.data).start()
    assert fresh.operator.ok("GET", "/readyz")["ready"] is True


async def nobody(service: Service, stop: asyncio.Event) -> None:
    """Serve nothing: whoever is served by this ends at once."""


@pytest.mark.fault("B9")
@pytest.mark.parametrize(
    ("expected", "trace"),
    [
        (False, "checkpoints/00000000000000000007.checkpoint"),
        (False, "projections/jobs.v1.db"),
        (True, "logs/master.log"),
    ],
)
def test_where_a_log_was_no_new_one_is_begun(tmp_path: Path, expected: bool, trace: str) -> None:
    """A disk that is not mounted must not become an empty cluster under the old one's name."""
    (tmp_path / trace).parent.mkdir()
    (tmp_path / trace).touch()
    with pytest.raises(LogUnavailable, match=r"there is no log in .*; nothing was created"):
        run_master(MasterSettings(tmp_path, expect_log=expected), nobody, lambda _: None)
    assert not (tmp_path / "log.db").exists()


def test_a_failed_log_ends_the_reign_and_says_so_to_whoever_waits() -> None:
    class Failing:
        def __init__(self, log: Log) -> None:
            self._log, self.fail = log, False

        def __getattr__(self, name: str) -> object:
            return getattr(self._log, name)

        def append(self, drafts: object) -> object:
            if self.fail:
                raise AppendFailed("the disk is gone")
            return self._log.append(drafts)  # type: ignore[arg-type]

    data = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    made: list[Failing] = []

    def failing(log: Log) -> Log:
        made.append(Failing(log))
        return made[-1]  # type: ignore[return-value]

    s = Live(data / "data", wrap=failing).start()
    try:
        s.node("n1")
        alice = s.user("alice")
        made[0].fail = True
        answer = alice("POST", "/v1/jobs", {"argv": ["x"]}, headers={"Idempotency-Key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
        assert len(s.fatal) == 1
        until(lambda: not s.alive, "the process would have ended")
    finally:
        s.stop()
    s = Live(data / "data").start()
    try:
        assert "AttemptPlaced" not in [type(r.event).__name__ for r in s.events()]
        assert s.user("alice").submit() == 1
    finally:
        s.stop()
        shutil.rmtree(data)


def test_who_waits_is_answered_when_the_master_goes(fresh: Live) -> None:
    """And so an orderly stop takes no longer because agents and people are waiting."""
    n1 = fresh.node("n1")
    fresh.operator.ok("POST", "/v1/nodes/n1/drain", {})
    job = fresh.user("alice").submit()
    bells, contacts = fresh.running.bells, fresh.running.contacts
    sent = contacts._heard["n1"].sent_ns
    asked = [
        fresh.beside(n1.sync, "n1", wait_s=60),
        fresh.beside(fresh.operator, "GET", f"/v1/jobs/{job}/wait"),
        fresh.beside(fresh.operator, "GET", "/v1/events?follow=true"),
    ]
    until(lambda: bells._waiting and len(fresh.running.master._listeners) > 3, "they wait")
    until(lambda: contacts._heard["n1"].sent_ns > sent, "the agent waits")
    began = time.monotonic()
    fresh.end()
    assert time.monotonic() - began < 4
    sync, wait, events = (call.result(10) for call in asked)
    assert (sync.status_code, sync.json()["seen"]["epoch"]) == (200, 1)
    assert (wait.status_code, wait.json()["state"]) == (200, "pending")
    assert "master.stopped" in events.text.splitlines()[-1]


def test_who_follows_is_told_of_the_end_even_while_he_reads(
    fresh: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last event is for all who follow, also where it comes while a page is on its way."""
    master, reader = fresh.running.master, fresh.running.reader
    read, reading = reader.call, threading.Event()

    async def until_the_end(task: Callable[[Log], Any]) -> Any:
        page, ended = await read(task), asyncio.Event()
        master.listen(lambda events: None if events else ended.set())
        reading.set()
        if master.accepting:
            await ended.wait()
        return page

    monkeypatch.setattr(reader, "call", until_the_end)
    asked = fresh.beside(fresh.operator, "GET", "/v1/events?follow=true")
    assert reading.wait(10)
    fresh.end()
    assert "master.stopped" in asked.result(10).text.splitlines()[-1]
