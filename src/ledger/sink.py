"""Where a process of a service speaks: its stderr, written by a thread, so that nobody waits.

A line goes into a bounded queue; where the queue is full, because whoever reads our stderr has
stopped reading, or where a line can't be written, because its disk is full, it is dropped and
counted. The next line that gets through says how many are missing.
"""

import os
import queue
import sys
import threading
from collections.abc import Callable

MAX_LINES = 1_000
DRAIN_S = 1.0
"""How long the end of the process waits for lines that are queued."""


def missing(lines: int) -> str:
    """What is said of dropped lines, unless the sink's owner says it otherwise."""
    return f"{lines} lines of this log were dropped"


class Sink:
    """A file descriptor that never blocks who writes. `dropped` counts the lines that are lost."""

    def __init__(self, descriptor: int) -> None:
        self.missing: Callable[[int], str] = missing
        self.dropped = 0
        self._told = 0
        self._torn = False
        self._descriptor = descriptor
        self._lines: queue.Queue[str] = queue.Queue(MAX_LINES)
        self._counting = threading.Lock()
        threading.Thread(target=self._run, name="log-lines", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line, or drop and count it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._drop()

    def flush(self) -> None:
        """Lines are written when they can be."""

    def drain(self, seconds: float = DRAIN_S) -> None:
        """Give the thread this long to write what is queued: at the end of the process."""
        done = threading.Event()
        threading.Thread(target=self._join, args=(done,), daemon=True).start()
        done.wait(seconds)

    def _join(self, done: threading.Event) -> None:
        self._lines.join()
        done.set()

    def _drop(self) -> None:
        with self._counting:
            self.dropped += 1

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if (lost := self.dropped) > self._told:
                    self._put(self.missing(lost - self._told) + "\n")
                    self._told = lost
                self._put(line)
            except OSError:
                self._drop()
            finally:
                self._lines.task_done()

    def _put(self, line: str) -> None:
        """Write a whole line; behind one of which only a part was written, on a line of its own."""
        data = ("\n" * self._torn + line).encode(errors="backslashreplace")
        while data:
            written = os.write(self._descriptor, data)
            self._torn, data = True, data[written:]
        self._torn = False


_current: Sink | None = None


def begin(says_missing: Callable[[int], str] = missing) -> Sink:
    """Let this process speak through a sink on its stderr from now on, until its end."""
    global _current  # noqa: PLW0603 - a process has one stderr
    if _current is None:
        _current = Sink(sys.stderr.fileno())
    _current.missing = says_missing
    return _current


def say(text: str) -> bool:
    """Speak through this process's sink; False if it has none."""
    if _current is not None:
        _current.write(text + "\n")
    return _current is not None


def end() -> None:
    """Wait a moment for what was said to be written: at the end of the process."""
    if _current is not None:
        _current.drain()


def dropped() -> int:
    """How many lines of this process nobody took."""
    return _current.dropped if _current is not None else 0
