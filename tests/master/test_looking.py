"""Who looks inside the master keeps nobody waiting, however much there is to see."""

import asyncio
import gc
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from ledger.commands import Submit
from ledger.events import JobSpec
from ledger.master.inner import PARTS
from ledger.master.service import Running, Service
from ledger.testing.evidence import Evidence

from .memory_log import Bench, begun, ended, run, turns, user

USERS, EACH, EACH_FULL = 10, 3_000, 10_000
MOST_MS = 20.0
"""An upper bound for any machine; what is measured is told."""


async def keeps(bench: Bench) -> tuple[object, float, float]:
    """The jobs counted, the longest it kept the loop at a time, the whole time; ms of CPU."""
    gaps: list[float] = []

    async def beat() -> None:
        while True:
            before = time.thread_time()
            await turns()
            gaps.append(time.thread_time() - before)

    running = cast(Running, SimpleNamespace(master=bench.master))
    service = Service(Path("/nowhere"), None, frozenset(), running)
    beating = asyncio.ensure_future(beat())
    before = time.thread_time()
    seen = await PARTS["queue"](service, 100)
    whole = time.thread_time() - before
    beating.cancel()
    return seen.facts["pending"], max(gaps) * 1000, whole * 1000


def test_counting_all_that_waits_keeps_the_loop_for_moments(full: bool, evidence: Evidence) -> None:
    each = EACH_FULL if full else EACH

    async def test() -> None:
        bench = Bench()
        task = await begun(bench)
        specs = (JobSpec(nodes=1),)
        for number in range(USERS):
            submit = Submit(specs=specs, array=f"0-{each - 1}")
            await bench.master.ask_one(user(f"u{number}"), submit)
        gc.collect()
        gc.freeze()  # as the master does: collecting is not looking
        try:
            counted, longest, whole = await keeps(bench)
        finally:
            gc.unfreeze()
        assert counted == USERS * each
        assert longest < MOST_MS
        figure = f"{longest:.1f} ms at a time, {whole:.0f} ms in all, of {USERS * each} pending"
        evidence("inspect queue keeps the loop", figure)
        await ended(bench, task)

    run(test())
