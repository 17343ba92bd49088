"""Structured log lines, written by a thread of their own so that nothing ever waits for them.

A line goes into a bounded queue; where the queue is full, because whoever reads our stderr has
stopped reading or its disk is full, the line is dropped and counted. The next line that gets
through says how many are missing.
"""

import logging
import queue
import sys
import threading
from typing import Any, TextIO

import structlog

MAX_LINES = 10_000


class Sink:
    """A file that never blocks its writer."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: queue.Queue[str] = queue.Queue(MAX_LINES)
        self._lost = 0
        self.dropped = 0
        threading.Thread(target=self._run, name="log-lines", daemon=True).start()

    def write(self, line: str) -> None:
        """Queue a line, or drop and count it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1
            self._lost += 1

    def flush(self) -> None:
        """Lines are written when they can be."""

    def drain(self, seconds: float) -> None:
        """Give the thread this long to write what is queued: at the end of the process."""
        done = threading.Event()
        threading.Thread(target=self._join, args=(done,), daemon=True).start()
        done.wait(seconds)

    def _join(self, done: threading.Event) -> None:
        self._lines.join()
        done.set()

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            try:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    self._out.write(f'{{"event":"lines were dropped","lines":{lost}}}\n')
                self._out.write(line)
                self._out.flush()
            except (OSError, ValueError):
                self.dropped += 1
                self._lost += 1
            finally:
                self._lines.task_done()


def configure(level: str, shape: str, *, process: str) -> Sink:
    """Send structlog's and the standard library's lines through one sink to stderr.

    `shape` is `json` or `text`; every line carries `process`, and its request's id if it has one.
    """
    sink = Sink(sys.stderr)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if shape == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _named(process),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx2", "httpcore2", "alembic", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        cache_logger_on_first_use=True,
    )
    return sink


def _named(process: str) -> Any:
    def add(_: Any, __: str, line: dict[str, Any]) -> dict[str, Any]:
        line["process"] = process
        return line

    return add
