"""Structured log lines of a service, through its sink: nothing ever waits for them."""

import json
import logging
import sys
import threading
from typing import Any

import structlog

from ledger.sink import Sink, begin, missing


def configure(level: str, shape: str, *, process: str) -> Sink:
    """Send structlog's and the standard library's lines through one sink to stderr.

    `shape` is `json` or `text`; every line carries `process`, and its request's id if it has one.
    """
    as_json = shape == "json"
    sink = begin(lambda lines: _missing(process, lines) if as_json else missing(lines))
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
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
    threading.excepthook = _thread_failed  # Python's own would write past the sink
    return sink


def quiet() -> None:
    """Let a command that serves its own question say nothing of that but what went wrong."""
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def _missing(process: str, lines: int) -> str:
    said = {"event": "lines of this log were dropped", "lines": lines, "level": "warning"}
    return json.dumps({**said, "process": process})


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    thread = failed.thread.name if failed.thread is not None else ""
    structlog.get_logger("threads").error(
        "a thread failed", thread=thread, exc_info=failed.exc_value
    )


def _named(process: str) -> Any:
    def add(_: Any, __: str, line: dict[str, Any]) -> dict[str, Any]:
        line["process"] = process
        return line

    return add
