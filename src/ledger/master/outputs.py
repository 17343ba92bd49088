"""What jobs print, kept beside the log: capped by the agent, expiring, owned by the job's owner.

One file an attempt, `DIR/output/JOB/ATTEMPT`, written by offset so that a repeated chunk changes
nothing. The log has its size and digest; the bytes themselves are no part of it.
"""

import contextlib
import os
import shutil
import time
from pathlib import Path

from ledger.domain.errors import Malformed, OutputGone, OutputNotKept

KEEP_S = 30 * 86_400
MAX_CHUNK = 4 << 20
MAX_FILE = (2 << 30) + (1 << 20)


class Outputs:
    """The output store. Methods block for a disk's time; call them in a thread.

    `failed` counts the chunks that could not be kept: the agents keep them, and send them again.
    `trouble` says why the last one could not, and is empty where it could.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.failed = 0
        self.trouble = ""

    def write(self, job: int, attempt: int, offset: int, chunk: bytes) -> int:
        """Put a chunk at its offset; the file's size after it. Refuses gaps.

        Raises `OutputNotKept` where the disk takes nothing.
        """
        if offset < 0 or offset + len(chunk) > MAX_FILE:
            raise Malformed(f"Output may be {MAX_FILE} bytes at most.")
        try:
            size = self._write(self._path(job, attempt), offset, chunk)
        except OSError as error:
            self.failed += 1
            self.trouble = error.strerror or type(error).__name__
            raise OutputNotKept(f"The output store takes nothing: {self.trouble}.") from error
        self.trouble = ""
        return size

    def _write(self, path: Path, offset: int, chunk: bytes) -> int:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(fd).st_size
            if offset > size:
                raise Malformed(f"The chunk at {offset} leaves a gap behind {size}.", size=size)
            view = memoryview(chunk)
            while view:
                written = os.pwrite(fd, view, offset)
                offset += written
                view = view[written:]
            return max(size, offset)
        finally:
            os.close(fd)

    def read(self, job: int, attempt: int, offset: int, limit: int = MAX_CHUNK) -> bytes:
        """What is kept behind `offset`, `limit` bytes at most. Raises `OutputGone`."""
        try:
            with self._path(job, attempt).open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError:
            raise OutputGone(f"Nothing is kept of job {job}, attempt {attempt}.") from None

    def exists(self, job: int, attempt: int) -> bool:
        """Is anything kept?"""
        return self._path(job, attempt).exists()

    def expire(self, now_s: float | None = None) -> int:
        """Remove what was last written more than 30 days ago; how many jobs it was of."""
        before = (time.time() if now_s is None else now_s) - KEEP_S
        removed = 0
        if not self._folder.exists():
            return 0
        for folder in self._folder.iterdir():
            with contextlib.suppress(OSError):  # a stray file, or one that goes away meanwhile
                if all(file.stat().st_mtime < before for file in folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed

    def _path(self, job: int, attempt: int) -> Path:
        return self._folder / str(int(job)) / str(int(attempt))
