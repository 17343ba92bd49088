"""I28: wall clocks decide nothing. I29: to fold a log, nothing of the world is needed."""

import random
import secrets
import socket
import threading
import time
import uuid
from typing import Any

import msgspec
import pytest

from ledger.codec import CODEC
from ledger.domain.cluster import fold
from ledger.domain.snapshot import to_bytes
from ledger.events import Recorded
from ledger.testing.evidence import FULL, Evidence

from .history import steps_of, tell
from .steps import YEAR_S, Step

SEEDS = range(100, 180 if FULL else 104)
YEAR_US = int(YEAR_S) * 1_000_000
A_TIME = 10**15
"""Whatever is larger is a moment in microseconds since 1970."""

BY_THE_CLOCK = {
    "at",
    "held_us",
    "ran_us",
    "cpu_us",
    "now",
    "placed_at",
    "started_at",
    "submitted_at",
    "silent_since",
    "since",
    "until",
}
"""Fields that are moments, or last from one to another, or at most so long, by the log's clock."""


def moved(value: Any, by: int) -> Any:
    """A value in which every moment is earlier by so much."""
    if isinstance(value, dict):
        return {name: moved(one, by) for name, one in value.items()}
    if isinstance(value, list):
        return [moved(one, by) for one in value]
    if isinstance(value, int) and value > A_TIME:
        return value - by
    return value


def timeless(value: Any) -> Any:
    """A value without what is measured by the log's clock."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in BY_THE_CLOCK}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def plain(r: Recorded) -> dict[str, Any]:
    """An event as its JSON, with where it stands."""
    made = msgspec.json.decode(CODEC.encode(r.event, r.envelope))
    return {"at": r.at, "position": r.position, "epoch": r.epoch, "name": r.event.name, **made}


@pytest.mark.timeout(600)
@pytest.mark.fault("G1", "G2")
@pytest.mark.parametrize("years", [1, -1])
def test_a_year_more_or_less_on_every_wall_clock_changes_nothing(years: int) -> None:
    for seed in SEEDS:
        usual, shifted = tell(seed), tell(seed, shift_s=years * YEAR_S)
        assert shifted.ran == usual.ran
        assert [moved(plain(r), years * YEAR_US) for r in shifted.log] == [
            plain(r) for r in usual.log
        ], f"I28: seed {seed}"


@pytest.mark.timeout(600)
@pytest.mark.fault("G1", "G2")
def test_wall_clocks_that_are_set_meanwhile_change_nothing(evidence: Evidence) -> None:
    """But keys, which last for seven days of the log's time, rules of use, which count by it, and
    notices, which wait by it: so nobody repeats a key here, breaks a rule, or is told."""
    quiet = {"notify": 0}
    for seed in SEEDS:
        first = Step("clock_is_set_then_an_outage", seed, seed // 2, seed // 4)
        steps = (first, *(step for step in steps_of(seed) if step.rule != "resubmit"))
        stepped = tell(seed, steps, trusting=True, rules_of_use=quiet)
        still = tell(seed, steps, year_s=0, trusting=True, rules_of_use=quiet)
        assert stepped.ran == still.ran, f"I28: seed {seed}"
        assert [timeless(plain(r)) for r in stepped.log] == [
            timeless(plain(r)) for r in still.log
        ], f"I28: seed {seed}"
    evidence(
        "simulated cluster, wall clocks",
        f"{len(SEEDS)} histories a year off, forward and back, and set meanwhile: same order of "
        "events, same leases, same attempts",
    )


def test_folding_asks_nothing_of_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = [tell(seed).log for seed in (200, 201)]
    expected = [to_bytes(fold(log)) for log in logs]

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("I29: a fold touches the world")

    for module, names in {
        time: ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "clock_gettime"),
        random: ("random", "randrange", "uniform", "choice", "getrandbits"),
        secrets: ("token_hex", "token_bytes", "token_urlsafe"),
        uuid: ("uuid1", "uuid4"),
        socket: ("socket", "create_connection", "getaddrinfo"),
        threading: ("Thread",),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, touched)
    monkeypatch.setattr("os.urandom", touched)
    monkeypatch.setattr("os.getrandom", touched)
    monkeypatch.setattr("builtins.open", touched)
    assert [to_bytes(fold(log)) for log in logs] == expected
