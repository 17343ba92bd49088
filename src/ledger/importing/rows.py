"""Records out of what `sacct --parsable2` prints, which has no quoting at all.

A job's name may hold the delimiter, and a submit line may hold newlines. What is known of the other
columns decides then: lines are joined, and surplus pieces given to a column of free text, until the
columns that have a form (ids, times, states, counts) all have it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

DELIMITERS = ("|", "\u2603", "\t", ";", "^", "!", "%", "@", ",")
"""Those that people choose; the first that makes a header is the file's."""

MAX_LINES = 500
"""Lines of one record."""

TEXTS = ("jobname", "submitline", "comment", "admincomment", "systemcomment", "workdir", "wckey",
         "constraints", "reason", "container")  # fmt: skip
"""Columns that hold what somebody wrote."""

OPEN_XDMOD = (
    *("jobid", "jobidraw", "cluster", "partition", "qos", "account", "group", "gid", "user"),
    *("uid", "submit", "eligible", "start", "end", "elapsed", "exitcode", "state", "nnodes"),
    *("ncpus", "reqcpus", "reqmem", "reqtres", "alloctres", "timelimit", "nodelist", "jobname"),
)
"""The columns that Open XDMoD asks sacct for, without a header."""

_ID = re.compile(r"\d+([._+\[].*)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.+-].*|Z)?|\d{9,11}|Unknown|None|")
_COUNT = re.compile(r"\d{0,15}")
_CODE = re.compile(r"(\d+:\d+)?")
_STATE = re.compile(r"[A-Z][A-Z_]+( by \S+|\+)?")
_SPAN = re.compile(r"([\d:.-]*|UNLIMITED|Partition_Limit|INVALID)")

FORMS: dict[str, re.Pattern[str]] = {
    "jobid": _ID,
    "jobidraw": _ID,
    "state": _STATE,
    "exitcode": _CODE,
    "nnodes": _COUNT,
    "ncpus": _COUNT,
    "alloccpus": _COUNT,
    "uid": _COUNT,
    "gid": _COUNT,
    "timelimit": _SPAN,
    "elapsed": _SPAN,
    **dict.fromkeys(("submit", "eligible", "start", "end"), _TIME),
}
"""What the columns look like that have a form."""


class NoHeader(Exception):
    """The first line does not say what the columns are, and is not of a known layout."""


class Record(NamedTuple):
    """A record: the number of its first line, from 1, and its values by column."""

    line: int
    values: dict[str, str]


class Layout(NamedTuple):
    """What a file's lines are made of. `header`: is the first line one? `closed`: does a delimiter
    end each line, too, as with `sacct --parsable`?"""

    columns: tuple[str, ...]
    delimiter: str
    header: bool
    closed: bool = False


def layout(first: str, columns: Sequence[str] = (), delimiter: str = "") -> Layout:
    """The layout that a file's first line tells; `columns` and `delimiter` where they are known.

    Raises `NoHeader`.
    """
    for mark in (delimiter,) if delimiter else DELIMITERS:
        pieces = [piece.strip().lower() for piece in first.split(mark)]
        if "jobid" in pieces or "jobidraw" in pieces:
            closed = pieces[-1] == ""
            return Layout(tuple(pieces[: len(pieces) - closed]), mark, True, closed)
        if columns and len(pieces) >= len(columns) > 1:
            closed = len(pieces) == len(columns) + 1 and pieces[-1] == ""
            return Layout(tuple(c.strip().lower() for c in columns), mark, False, closed)
        if not columns and len(pieces) >= len(OPEN_XDMOD) and _ID.fullmatch(pieces[0]):
            found = Layout(OPEN_XDMOD, mark, header=False)
            if _fit(first.split(mark), found) is not None:
                return found
    raise NoHeader


def records(
    lines: Iterable[str], form: Layout, broken: Callable[[int, str], None]
) -> Iterator[Record]:
    """The records in a file's lines; `broken(line, text)` hears of lines that are part of none."""
    waiting: list[str] = []
    start = 0
    last: Record | None = None
    tail = form.columns[-1] if form.columns[-1] in TEXTS else ""
    for number, line in enumerate(lines, 1):
        if number == 1 and form.header:
            continue
        waiting.append(line.rstrip("\r\n"))
        start = start or number
        found = _record(waiting, start, form)
        if found is None and len(waiting) > 1 and (alone := _record(waiting[-1:], number, form)):
            last = _give_up(waiting[:-1], start, last, tail, broken)
            found = alone
        if found is not None:
            if last is not None:
                yield last
            last, waiting, start = found, [], 0
        elif len(waiting) > MAX_LINES:
            last = _give_up(waiting, start, last, tail, broken)
            waiting, start = [], 0
    last = _give_up(waiting, start, last, tail, broken)
    if last is not None:
        yield last


def _record(pieces: Sequence[str], start: int, form: Layout) -> Record | None:
    values = _fit("\n".join(pieces).split(form.delimiter), form)
    return None if values is None else Record(start, values)


def _give_up(
    lines: Sequence[str],
    start: int,
    last: Record | None,
    tail: str,
    broken: Callable[[int, str], None],
) -> Record | None:
    """Lines that begin no record belong to the free text that ended the one before, or are lost."""
    if not any(line.strip() for line in lines):
        return last
    if last is not None and tail:
        more = "\n".join([last.values[tail], *lines])
        return Record(last.line, last.values | {tail: more})
    broken(start, lines[0])
    return last


def _fit(pieces: list[str], form: Layout) -> dict[str, str] | None:
    """The values of a record, None if these pieces are none: a surplus belongs to a free text."""
    wanted = len(form.columns)
    if form.closed and pieces.pop():
        return None
    surplus = len(pieces) - wanted
    if surplus < 0:
        return None
    places = [i for i, name in enumerate(form.columns) if name in TEXTS] if surplus else [0]
    for place in places:
        joined = form.delimiter.join(pieces[place : place + surplus + 1])
        values = [*pieces[:place], joined, *pieces[place + surplus + 1 :]]
        found = dict(zip(form.columns, values, strict=True))
        if all(FORMS[name].fullmatch(found[name]) for name in form.columns if name in FORMS):
            return found
    return None
