"""Sends messages in a few processes of their own, so that nobody waits for a channel that hangs.

A process is started when it is needed, killed when a channel takes longer than its time, and ends
when there has been nothing to send for a while.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from ledger import tether
from ledger.effects.worker import Done, Task

logger = structlog.get_logger("notices")

WORKERS = 4
LIMIT_S = 30.0
"""How long a message to one person may take, over all of his channels."""

IDLE_S = 60.0
TOO_LATE = f"it took longer than {LIMIT_S:g} s"


class Sender:
    """At most `WORKERS` processes that send. Everything is called from one event loop."""

    def __init__(self, limit_s: float = LIMIT_S) -> None:
        self._limit_s = limit_s
        self._slots = asyncio.Semaphore(WORKERS)
        self._idle: list[asyncio.subprocess.Process] = []
        self._resting: dict[int, asyncio.TimerHandle] = {}

    async def check(self, urls: Sequence[str]) -> Sequence[str]:
        """What is wrong with each of these URLs; empty: nothing that can be seen from here."""
        return await self._perform(Task("check", tuple(urls)))

    async def send(self, urls: Sequence[str], title: str, body: str, notice: str) -> Sequence[str]:
        """Send a message to each of these URLs: why one did not take it, empty where it did.
        `notice` names the message for ever, so that whoever gets it twice can tell."""
        return await self._perform(Task("send", tuple(urls), title, body, notice))

    async def _perform(self, task: Task) -> Sequence[str]:
        async with self._slots:
            worker = await self._worker()
            well = False
            try:
                async with asyncio.timeout(self._limit_s):
                    faults = await self._answer(worker, task)
                well = True
                return faults
            except TimeoutError:
                return [f"it took longer than {self._limit_s:g} s"] * len(task.urls)
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                logger.warning("a sending process failed", error=type(error).__name__)
                return ["the process that sends it failed"] * len(task.urls)
            finally:
                if well:
                    self._rest(worker)
                else:
                    _kill(worker)

    async def _answer(self, worker: asyncio.subprocess.Process, task: Task) -> Sequence[str]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(msgspec.json.encode(task) + b"\n")
        await worker.stdin.drain()
        done = msgspec.json.decode(await worker.stdout.readline(), type=Done)
        if len(done.faults) != len(task.urls):
            raise ValueError("not an answer to this task")
        return done.faults

    async def _worker(self) -> asyncio.subprocess.Process:
        while self._idle:
            worker = self._idle.pop()
            self._resting.pop(id(worker)).cancel()
            if worker.returncode is None:
                return worker
        program = [sys.executable, "-P", "-m", "ledger.effects.worker"]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(tether.__file__)),
            str(os.getpid()),
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")},
        )

    def _rest(self, worker: asyncio.subprocess.Process) -> None:
        self._idle.append(worker)
        later = asyncio.get_running_loop().call_later(IDLE_S, self._dismiss, worker)
        self._resting[id(worker)] = later

    def _dismiss(self, worker: asyncio.subprocess.Process) -> None:
        self._idle.remove(worker)
        self._resting.pop(id(worker))
        _kill(worker)

    def close(self) -> None:
        """End the processes that rest; those that send end with who waits for them."""
        for worker in tuple(self._idle):
            self._resting[id(worker)].cancel()
            self._dismiss(worker)


def _kill(worker: asyncio.subprocess.Process) -> None:
    if worker.returncode is None:
        worker.kill()
