"""Traces of real clusters in the Standard Workload Format: 18 numbers a line, `;` before remarks.

-1 means unknown. Some archives put further columns behind the 18; of these only a list of nodes in
braces, one for each processor, is understood.
"""

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

FIELDS = 18
MAX_LINE = 100_000
GZIP = b"\x1f\x8b"
_LISTED = re.compile(rb"\{([0-9]{1,9}(?:,[0-9]{1,9})*)\}")


class BadTrace(ValueError):
    """A line that no trace has. `line` counts from 1."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


class TraceJob(NamedTuple):
    """A job of a trace. Times are seconds, `submit` from the trace's beginning; `wait`, `status`,
    `group`, `queue` and `partition` are -1 where they are not known, `nodes` is empty then."""

    number: int
    submit: int
    run: int
    procs: int
    limit: int
    user: str
    wait: int = -1
    status: int = -1
    group: int = -1
    queue: int = -1
    partition: int = -1
    nodes: tuple[str, ...] = ()


def read(path: Path) -> Iterator[TraceJob]:
    """The jobs of a file, plain or gzipped, in its order. Raises `BadTrace`, or an OSError."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        yield from parse(gzip.GzipFile(fileobj=file) if packed else file)


def parse(lines: BinaryIO | io.BufferedIOBase) -> Iterator[TraceJob]:
    """The jobs of a trace's lines."""
    number = 0
    while True:
        number += 1
        try:
            line = lines.readline(MAX_LINE)
        except (EOFError, gzip.BadGzipFile) as error:
            raise BadTrace(number, f"the compressed file is broken ({error})") from None
        if not line:
            return
        if len(line) == MAX_LINE:
            raise BadTrace(number, "longer than any line of a trace")
        text = line.strip()
        if text and not text.startswith(b";"):
            yield _job(text, number)


def _job(text: bytes, line: int) -> TraceJob:
    columns = text.split()
    if len(columns) < FIELDS:
        raise BadTrace(line, f"{len(columns)} columns where a trace has {FIELDS}")
    try:
        values = [float(column) for column in columns[:FIELDS]]
    except ValueError:
        raise BadTrace(line, f"a column that is not a number: {text[:60]!r}") from None
    if not all(abs(value) < 2**53 for value in values):  # also false for what is no number
        raise BadTrace(line, "a number without bounds")
    number, submit, run = int(values[0]), int(values[1]), max(0, int(values[3]))
    if number < 0 or submit < 0:
        raise BadTrace(line, "no job number or no submit time")
    procs = next((int(p) for p in (values[4], values[7]) if p > 0), 1)
    limit = max(1, int(values[8]) if values[8] > 0 else run)
    user = f"u{int(values[11])}" if values[11] >= 0 else "unknown"
    wait, status = int(values[2]), int(values[10])
    group, queue, partition = (max(-1, int(values[i])) for i in (12, 14, 15))
    nodes = _nodes(columns[FIELDS]) if len(columns) > FIELDS else ()
    return TraceJob(
        number, submit, run, procs, limit, user, wait, status, group, queue, partition, nodes
    )


def _nodes(text: bytes) -> tuple[str, ...]:
    """The nodes of `{1241,1241,1129}`, each once: how often one stands there is how many of its
    processors it gave."""
    found = _LISTED.fullmatch(text)
    if found is None:
        return ()
    return tuple(f"n{name.decode()}" for name in dict.fromkeys(found[1].split(b",")))


def remarks(path: Path) -> dict[str, str]:
    """What a file says of itself before its first job: `MaxNodes`, `UnixStartTime` and the like."""
    with open(path, "rb") as file:
        packed = file.read(2) == GZIP
        file.seek(0)
        found: dict[str, str] = {}
        for line in gzip.GzipFile(fileobj=file) if packed else file:
            text = line.strip()
            if text and not text.startswith(b";"):
                break
            name, colon, value = text.lstrip(b"; \t").partition(b":")
            if colon and name.isalnum():
                found.setdefault(name.decode(), value.strip().decode("utf-8", "replace"))
        return found
