"""What a job writes: the first bytes, the last bytes, and how many were left out between them.

The kept bytes lie in one file per attempt in the agent's state directory and are sent from there,
so an agent that dies, or a master that is away, loses none. The head is sent as it comes; the tail
follows when the job is over, for only then is it known.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from ledger.agent.transport import NotKept, Rejected, Unreachable
from ledger.events import Output

log = structlog.get_logger("agent")

CHUNK_BYTES = 256 * 1024
SEND_EVERY_S = 0.25
KEPT_DAYS = 30
Send = Callable[[int, int, int, bytes], Awaitable[None]]


class Kept:
    """At most `head` + `tail` bytes of an attempt, and a line that says how many are left out."""

    def __init__(self, path: Path, head: int, tail: int) -> None:
        self.path, self.head, self.tail = path, head, tail
        self.total = 0
        self.size = 0
        self.news, self.over = asyncio.Event(), asyncio.Event()
        self._ring = bytearray()
        self._file = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as e:
            self._not_kept(e)

    def write(self, data: bytes) -> None:
        """Take what the job wrote."""
        self.total += len(data)
        room = max(0, self.head - self.size)
        written = self._store(data[:room]) if room else 0
        self._ring += data[written:]
        if len(self._ring) > 2 * self.tail + CHUNK_BYTES:
            del self._ring[: len(self._ring) - self.tail]

    def close(self) -> Output | None:
        """No more comes. The size and digest of what is kept; None if nothing was written."""
        left_out = self.total - self.size - min(len(self._ring), self.tail)
        if left_out:
            self._store(f"\n[jobledger: {left_out} bytes left out]\n".encode())
        self._store(bytes(self._ring[max(0, len(self._ring) - self.tail) :]))
        self._ring.clear()
        kept = found(self.path)
        if self._file >= 0:
            os.close(self._file)
        self.over.set()
        self.news.set()
        if not self.total:
            return None
        nothing = Output(bytes=0, kept=0, sha256=hashlib.sha256().hexdigest())
        return msgspec.structs.replace(kept or nothing, bytes=self.total)

    def _store(self, data: bytes) -> int:
        """Append to the file as much as the disk takes; a full one must not end the job."""
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
        except OSError as e:
            self._not_kept(e)
        self.size += written
        self.news.set()
        return written

    def _not_kept(self, error: OSError) -> None:
        """From now on only the last bytes are kept, in memory, until there is room for them."""
        self.head = 0
        log.error("output_not_kept", path=str(self.path), error=str(error))


def found(path: Path) -> Output | None:
    """What a dead agent had kept of an attempt's output; None if nothing."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if not data:
        return None
    return Output(bytes=len(data), kept=len(data), sha256=hashlib.sha256(data).hexdigest())


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # of a disk that takes nothing: the next agent does it
        path.unlink(missing_ok=True)


class Uploads:
    """Brings the kept files to the master's output store, again and again until it has them."""

    def __init__(self, folder: Path, send: Send) -> None:
        self.folder, self._send = folder, send
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._refused: dict[tuple[int, int], asyncio.Event] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, job: int, attempt: int) -> Path:
        """Where an attempt's output is kept."""
        return self.folder / f"{job}.{attempt}"

    def resume(self) -> None:
        """Go on with what an earlier agent left; forget what is older than 30 days."""
        for path in self.folder.iterdir():
            if time.time() - path.stat().st_mtime > KEPT_DAYS * 86400:
                _remove(path)
                continue
            job, attempt = path.name.split(".")
            self._spawn(int(job), int(attempt), self._bring(int(job), int(attempt), None))

    def follow(self, job: int, attempt: int, kept: Kept) -> None:
        """Send what is kept as it comes."""
        self._spawn(job, attempt, self._bring(job, attempt, kept))

    async def delivered(self, job: int, attempt: int, within_s: float) -> bool:
        """Wait until all of a closed output is there, but no longer than `within_s`, and not for an
        output store that takes nothing: it gets the rest when it can."""
        task = self._tasks.get((job, attempt))
        if task is None:
            return True
        refused = asyncio.ensure_future(self._refused[job, attempt].wait())
        try:
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait({task, refused}, timeout=within_s, return_when=first)
            return task.done()
        finally:
            refused.cancel()

    def drop(self, job: int, attempt: int) -> None:
        """Nobody wants this output any more."""
        task = self._tasks.pop((job, attempt), None)
        if task is not None:
            task.cancel()
        _remove(self.path(job, attempt))

    async def close(self) -> None:
        """Stop; the files stay and are sent by the next agent."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, job: int, attempt: int, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks[job, attempt], self._refused[job, attempt] = task, asyncio.Event()
        task.add_done_callback(lambda _: self._over(job, attempt))

    def _over(self, job: int, attempt: int) -> None:
        self._tasks.pop((job, attempt), None)
        self._refused.pop((job, attempt), None)

    async def _bring(self, job: int, attempt: int, kept: Kept | None) -> None:
        path, sent = self.path(job, attempt), 0
        try:
            while kept is not None and not kept.over.is_set():
                kept.news.clear()
                sent = await self._catch_up(job, attempt, path, sent)
                await kept.news.wait()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(kept.over.wait(), SEND_EVERY_S)
            await self._catch_up(job, attempt, path, sent)
        except Rejected as e:
            log.error("output_refused", job=job, attempt=attempt, error=str(e))
            if kept is not None:
                await kept.over.wait()
        except OSError as e:
            log.error("output_lost", job=job, attempt=attempt, error=str(e))
        _remove(path)

    async def _catch_up(self, job: int, attempt: int, path: Path, sent: int) -> int:
        pause_s = 0.1
        with path.open("rb") as f:
            f.seek(sent)
            while chunk := f.read(CHUNK_BYTES):
                try:
                    await self._send(job, attempt, sent, chunk)
                except Unreachable as e:
                    if isinstance(e, NotKept):
                        self._refused[job, attempt].set()
                    log.warning("output_waits", job=job, attempt=attempt, error=str(e))
                    await asyncio.sleep(random.uniform(0.5, 1.0) * pause_s)  # noqa: S311
                    pause_s = min(5.0, pause_s * 2)
                    f.seek(sent)
                    continue
                sent, pause_s = sent + len(chunk), 0.1
        return sent
