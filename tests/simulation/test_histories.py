"""2,000 histories of 60 steps each: masters, agents, clients, networks, disks and clocks that fail,
one after the other and all at once; what must hold is looked at after every step (`watched`).

A failure names its seed. `JOBLEDGER_SEED=17 make test ARGS="tests/simulation -k one_seed"` tells
that history again.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ledger.events import AbuseFound
from ledger.testing.evidence import FULL, Evidence

from .history import STEPS, WEIGHTS, Told, steps_of, tell
from .steps import Step

HISTORIES = 2_000 if FULL else 48
TWICE = 20
"""Every so many-th history is told twice."""

COMPOUNDS = (
    "outage longer than the lease, then placed elsewhere",
    "reply lost, then asked on the other master",
    "end in flight while the lease runs out",
    "end told again while the next attempt runs",
    "takeover while a start is in flight",
    "clock set, then an outage",
    "leases change while a node is silent",
    "power fails as a command begins",
    "a zombie acts",
    "an old reply comes again",
    "restart during a rebuild",
)


def told(seed: int) -> Told:
    """One history; a failure says how to see it again."""
    try:
        return tell(seed)
    except AssertionError as error:
        steps = fewer(seed)
        listed = "\n".join(f"    {step}" for step in steps)
        raise AssertionError(
            f"seed {seed}: {error}\nagain: JOBLEDGER_SEED={seed} make test "
            f'ARGS="tests/simulation -k one_seed"\n{len(steps)} of its steps are enough:\n{listed}'
        ) from error


def fewer(seed: int) -> tuple[Step, ...]:
    """A failing history without the steps that it fails without: halves first, then single ones."""
    steps, size = steps_of(seed), STEPS // 2
    while size:
        start = 0
        while start < len(steps):
            rest = steps[:start] + steps[start + size :]
            if fails(seed, rest):
                steps = rest
            else:
                start += size
        size //= 2
    return steps


def fails(seed: int, steps: tuple[Step, ...]) -> bool:
    """Does an invariant break in these?"""
    try:
        tell(seed, steps)
    except AssertionError:
        return True
    return False


@pytest.mark.timeout(1200)
@pytest.mark.fault("A2", "A3", "A4", "A6", "D1", "D2", "D4", "D6", "E1", "E3", "E9", "E10", "E16")
@pytest.mark.fault("E17", "F1", "F2", "F3", "F4", "G1", "G2", "H4", "H5", "H9", "H10", "J3")
def test_histories(evidence: Evidence) -> None:
    fired: Counter[str] = Counter()
    events = starts = found = 0
    for seed in range(HISTORIES):
        result = told(seed)
        fired += result.fired
        events, starts = events + len(result.log), starts + len(result.ran)
        found += sum(isinstance(r.event, AbuseFound) for r in result.log)
        if seed % TWICE == 0:
            assert tell(seed) == result, f"I26: seed {seed} told twice comes out differently"
    never = [name for name in COMPOUNDS if not fired[name]]
    evidence(
        "simulated cluster",
        f"{HISTORIES} histories of {STEPS} steps, {events} events, {starts} commands started, "
        f"0 violations of I1 to I8, I13, I25 to I27; {HISTORIES // TWICE} told twice, same bytes",
    )
    evidence(
        "simulated cluster, abuse",
        f"{found} findings, exactly those of a scan of all events, none twice",
    )
    evidence(
        "simulated cluster, compound faults that fired",
        "; ".join(f"{name}: {fired[name]}" for name in COMPOUNDS),
    )
    assert found > 0
    assert never == [], f"these compound faults never did what they are for: {never}"


def test_one_seed() -> None:
    """The seed that is asked for, or the first."""
    told(int(os.environ.get("JOBLEDGER_SEED", "0")))


STEP = st.builds(
    Step,
    st.sampled_from([name for name, weight in WEIGHTS.items() for _ in range(weight)]),
    *(st.integers(0, (1 << 16) - 1) for _ in range(3)),
)


@settings(
    max_examples=300 if FULL else 15,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)
@given(seed=st.integers(0, 1 << 32), steps=st.lists(STEP, max_size=STEPS))
def test_any_history(seed: int, steps: list[Step]) -> None:
    """Hypothesis chooses the steps, and leaves out what a failure does not need."""
    tell(seed, tuple(steps))


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_another_process_tells_the_same(hash_seed: str) -> None:
    """I26 across processes, whatever Python's hash seed is."""
    code = "from simulation.history import tell; print(tell(3).hash, tell(8).hash)"
    tests = str(Path(__file__).parent.parent)
    paths = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [tell(3).hash, tell(8).hash]
