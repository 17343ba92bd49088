"""What the agent's tests share: real processes to ask about, orders to give, a patient witness."""

import asyncio
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ledger.agent.processes import Ending, Processes, Refused
from ledger.wire import Order

DEADLINE_S = 20.0


def eventually(what: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `what()` is true; its value. For what other processes do."""
    until = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
    return value


# `...` and not `[]`: a lambda that is made in a loop has defaults, and is called without arguments.
async def soon(what: Callable[..., Any], deadline_s: float = DEADLINE_S) -> Any:
    """The same inside a loop."""
    until = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < until, "it did not happen in time"
        await asyncio.sleep(0.005)
    return value


def alive(pid: int) -> bool:
    """Is this process there and not a zombie?"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def parent_of(pid: int) -> int:
    """The pid of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pid_in(path: Path) -> int:
    """The pid that a job wrote down; 0 while it has not."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def order(*argv: str, **changes: Any) -> Order:
    """An order to go, of a job of this test's."""
    words: dict[str, Any] = {
        "job": 17,
        "attempt": 1,
        "user": ACCOUNT,
        "nodes": ("n1",),
        "restartable": True,
        "time_limit_s": 60,
        "kill_grace_s": 5,
        "go": True,
        "argv": argv,
    }
    return Order(**{**words, **changes})


ACCOUNT = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
"""Whose jobs are tested: root's agent needs a subject with an account, others run all as itself."""


class Outcome:
    """How an attempt went, and what it wrote."""

    def __init__(self, ending: Ending, output: bytes) -> None:
        self.ending, self.output = ending, output


def run(runner: Processes, what: Order, lease_until: float = 0.0) -> Outcome:
    """Run one attempt to its end."""

    async def main() -> Outcome:
        written = bytearray()
        try:
            running = await runner.start(what, written.extend, lease_until)
        except Refused as e:
            return Outcome(Ending("failed", e.cause, detail=e.detail), bytes(written))
        return Outcome(await running.wait(), bytes(written))

    return asyncio.run(main())
