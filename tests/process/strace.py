"""A signal at the k-th call of a kind that a running process makes, and the proof that it came."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from .processes import until

STRACE = shutil.which("strace")


def need_strace() -> None:
    """Skip the test where strace is missing; in CI, where it must not be, fail instead."""
    if STRACE is None:
        missing = "strace is needed to hit a process at a system call: apt-get install strace"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)


class Point(NamedTuple):
    """Where a process is hit: at the `ordinal`-th `call` that any one of its threads makes.

    With `path`, only calls on this file are counted; with `loop`, only those of the first thread,
    in which the event loop runs: it is what hears requests and answers them.
    """

    call: str
    ordinal: int
    path: str = ""
    loop: bool = False

    @property
    def kind(self) -> str:
        """The point without its ordinal."""
        on = f" on {Path(self.path).name}" if self.path else ""
        return f"{self.call}{on}{' of the loop' if self.loop else ''}"


class Hit(NamedTuple):
    """The call at which the signal came, as strace wrote it, and what its process had done before.

    `synced`: the last call before it that wrote the log on SQLite, or made it durable, was an fsync
    that had returned.
    """

    line: str
    synced: bool

    @property
    def reply(self) -> bool:
        """Was the call to send the head, or the body, of the answer to a submission?"""
        return "HTTP/1.1 201" in self.line or "first_job" in self.line


class TooSoon(Exception):
    """The process came to the point by itself, while it was being attached to."""


class Tracer:
    """strace on a process that runs; it has been attached to every thread when this returns."""

    def __init__(self, pid: int, point: Point, name: str, log: Path) -> None:
        assert STRACE is not None
        self._point, self._log = point, log
        calls = ",".join(sorted({point.call, "pwrite64", "fsync", "sendto", "write"}))
        on = ["-P", point.path] if point.path else []
        hit = f"inject={point.call}:signal={name}:when={point.ordinal}"
        follow = [] if point.loop else ["-f"]
        words = [STRACE, *follow, "-y", "-s", "24", "-o", str(log), "-e", f"trace={calls}", *on]
        self._program = subprocess.Popen(
            [*words, "-e", hit, "-p", str(pid)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        threads = f"task/{pid}" if point.loop else "task/*"
        until(lambda: self._attached(pid, threads), 10, "strace's attachment")

    def _attached(self, pid: int, threads: str) -> bool:
        assert self._program.stderr is not None
        if self._program.poll() is not None:
            if self._log.exists() and "killed by SIGKILL" in self._log.read_text():
                raise TooSoon(f"{self._point} was reached before anybody asked for anything")
            raise AssertionError(f"strace can't trace here: {self._program.stderr.read()}")
        try:
            statuses = [path.read_text() for path in Path(f"/proc/{pid}").glob(f"{threads}/status")]
        except (FileNotFoundError, ProcessLookupError):  # a thread that ends while we look
            return False
        return all(re.search(r"^TracerPid:\t[1-9]", status, re.MULTILINE) for status in statuses)

    def close(self) -> None:
        """Let the process go, if it is still there."""
        if self._program.poll() is None:
            self._program.terminate()
        self._program.communicate()

    def killed(self) -> Hit:
        """The proof that the process was killed at the point. To be asked once it has ended."""
        self._program.communicate(timeout=10)
        counted: Counter[str] = Counter()
        last: dict[str, str] = {}
        done: list[str] = []
        for line in self._log.read_text().splitlines():
            thread, said = ("", line) if self._point.loop else line.split(maxsplit=1)
            if said.startswith(("+++", "---", "<...")):
                if said.startswith("<...") and "= ?" not in said:
                    done.append(f"{last[thread]} {said}")
                continue
            counted[thread] += said.startswith(self._point.call + "(")
            last[thread] = said
            if not said.endswith(("<unfinished ...>", "= ?")):
                done.append(said)
        for thread, said in last.items():
            if (
                counted[thread] == self._point.ordinal
                and said.startswith(self._point.call + "(")
                and said.endswith(("<unfinished ...>", "= ?"))
            ):
                written = [s for s in done if s.startswith(("pwrite64(", "fsync("))]
                synced = bool(written) and written[-1].startswith("fsync(")
                return Hit(said, synced or bool(self._point.path))
        raise AssertionError(f"no call was the one of {self._point}:\n{self._log.read_text()}")
