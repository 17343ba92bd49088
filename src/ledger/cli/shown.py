"""How answers are written to stdout: tables for people, JSON and CSV for programs.

A table fits the terminal; into a pipe it goes whole, without colours and padding.
"""

import csv
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from ledger.cli.common import Format
from ledger.cli.failures import coloured
from ledger.cli.text import json_text, line

Row = TypeVar("Row", bound=BaseModel)
COLOURS = {
    "running": "green",
    "completed": "green",
    "idle": "green",
    "allocated": "green",
    "failed": "red",
    "timeout": "red",
    "node_fail": "red",
    "out_of_memory": "red",
    "down": "red",
    "cancelled": "yellow",
    "drained": "yellow",
    "draining": "yellow",
}


class Column(NamedTuple, Generic[Row]):
    """A column: its title, a row's text in it, and whether only `wide` shows it."""

    title: str
    text: Callable[[Row], str]
    wide: bool = False
    right: bool = False


def write(
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    form: Format,
    *,
    of: type[Row],
    name: Callable[[Row], str],
    tree: BaseModel | None = None,
    empty: str = "",
) -> None:
    """Write rows `of` one kind in one of the formats. `tree` is what `json` shows, the whole
    answer. As CSV no rows are their names alone."""
    if form == "json":
        shown = tree.model_dump(mode="json") if tree else [r.model_dump(mode="json") for r in rows]
        data(json_text(shown, indent=2))
    elif form == "jsonl":
        for row in rows:
            data(json_text(row.model_dump(mode="json")))
    elif form == "csv":
        _csv([row.model_dump(mode="json") for row in rows], of.model_fields)
    elif form == "name":
        for row in rows:
            data(line(name(row)))
    elif rows:
        wanted = [c for c in columns if form == "wide" or not c.wide]
        table([c.title for c in wanted], [[c.text(r) for c in wanted] for r in rows],
              right=[c.right for c in wanted], fit=form == "table")  # fmt: skip
    elif empty:
        from ledger.cli.exits import say

        say(empty)


def table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[bool] = (),
    fit: bool = True,
    wrap: bool = False,
) -> None:
    """Write a table. What does not fit the terminal is made narrower, if `fit`: first times are
    written without year and seconds, then words are cut with an ellipsis, the widest column first.
    With `wrap` the last column goes on in further lines instead."""
    cells = [list(titles), *([line(cell) for cell in row] for row in rows)]
    if not any(titles):
        del cells[0]
    widths = _widths(cells)
    to_right = [*right, *[False] * len(widths)][: len(widths)]
    room = _width() - len(GAP) * (len(widths) - 1) if fit and sys.stdout.isatty() else sum(widths)
    if sum(widths) > room:
        times = [any(map(MOMENT.fullmatch, column)) for column in zip(*cells, strict=True)]
        cells = [[MOMENT.sub(r"\1\2", cell) for cell in row] for row in cells]
        firm = [time or number for time, number in zip(times, to_right, strict=True)]
        widths = _fitted(_widths(cells), room, firm)
        if wrap:
            cells = [row for whole in cells for row in _wrapped(whole, widths[-1])]
    colour = coloured(sys.stdout)
    for number, row in enumerate(cells):
        head = number == 0 and any(titles)
        shown: list[str] = []
        for cell, width, numeric in zip(row, widths, to_right, strict=True):
            aligned = _aligned(cell, width, numeric)
            if len(shown) == len(row) - 1:
                aligned = aligned.rstrip()
            shown.append(_styled(aligned, cell, head=head) if colour else aligned)
        data(GAP.join(shown).rstrip())


GAP = "  "
BOLD, PLAIN = "\x1b[1m", "\x1b[0m"
CODES = {"green": "\x1b[32m", "red": "\x1b[31m", "yellow": "\x1b[33m"}


MOMENT = re.compile(r"^([a-z]+: )?\d{4}-(\d\d-\d\d \d\d:\d\d):\d\d$")
LEAST = 6
"""Columns of a terminal that words keep before numbers and times have to give way as well."""


def _widths(rows: Iterable[Sequence[str]]) -> list[int]:
    return [max(map(_cells, column), default=0) for column in zip(*rows, strict=True)]


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _fitted(widths: Sequence[int], room: int, firm: Sequence[bool]) -> list[int]:
    """The widths of columns, the widest made narrower until they fit, but none to nothing; those
    that are `firm` only where there would be no room otherwise."""
    found = list(widths)
    for gives, least in (([not one for one in firm], LEAST), ([True] * len(found), 1)):
        most = max(found, default=0)
        while most > least and sum(found) > room:
            most -= 1
            found = [min(w, most) if give else w for w, give in zip(found, gives, strict=True)]
    return found


def _wrapped(row: list[str], width: int) -> list[list[str]]:
    """A row as several, its last cell going on in each."""
    parts = textwrap.wrap(row[-1], max(1, width)) or [""]
    empty = [""] * (len(row) - 1)
    return [[*(row[:-1] if n == 0 else empty), part] for n, part in enumerate(parts)]


def _aligned(text: str, width: int, right: bool) -> str:
    """A text that takes just this many columns."""
    left = width - _cells(text)
    if left < 0:
        from rich.cells import set_cell_size

        return set_cell_size(text, width - 1) + "…"
    return " " * left + text if right else text + " " * left


def _styled(aligned: str, text: str, *, head: bool) -> str:
    code = BOLD if head else CODES.get(COLOURS.get(text.partition(" ")[0], ""), "")
    return f"{code}{aligned}{PLAIN}" if code and aligned.strip() else aligned


def _width() -> int:
    return max(40, shutil.get_terminal_size().columns)


def sentence(text: str, *, indent: int = 0) -> None:
    """Write what people are to read. On a terminal it goes on in further lines, between words."""
    _flow(" " * indent, " " * indent, text)


def pairs(rows: Iterable[tuple[str, str]]) -> None:
    """Write names and values, one a line; empty values are left out, long ones go on below."""
    kept = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _ in kept), default=0)
    for name, value in kept:
        _flow(f"{name:<{width}}  ", " " * (width + len(GAP)), line(value))


def _flow(first: str, further: str, text: str) -> None:
    if not sys.stdout.isatty():
        data(first + text)
        return
    wrapped = textwrap.wrap(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for part in wrapped or [first]:
        data(part.rstrip())


def tree(answer: BaseModel, form: Format, *, name: str = "") -> bool:
    """Write one answer in a format for programs; False if people are to read it."""
    if form == "json":
        data(json_text(answer.model_dump(mode="json"), indent=2))
    elif form == "jsonl":
        data(json_text(answer.model_dump(mode="json")))
    elif form == "csv":
        _csv([answer.model_dump(mode="json")], type(answer).model_fields)
    elif form == "name":
        data(line(name))
    else:
        return False
    return True


def plain(rows: Sequence[dict[str, Any]], form: Format, names: Collection[str] = ()) -> None:
    """Write rows that all have the same names: as `jsonl`, `csv`, or `name` (the first of each).

    `names` are what the first line of a CSV without rows says.
    """
    if form == "csv":
        _csv(rows, rows[0] if rows else names)
        return
    for row in rows:
        data(json_text(row) if form == "jsonl" else line(str(next(iter(row.values())))))


def _csv(rows: Sequence[dict[str, Any]], names: Collection[str]) -> None:
    if not names:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_flat(row[name]) for name in names])


def _flat(value: Any) -> str:
    """A value as one cell: lists of words joined by commas, anything deeper as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list) and all(isinstance(item, str | int) for item in value):
        return line(",".join(str(item) for item in value))
    return json.dumps(value) if isinstance(value, list | dict) else line(str(value))


def data(text: str) -> None:
    """A line of data. What a terminal can't write in its encoding is written as its code."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def when(moment: datetime | None) -> str:
    """A moment on the clock of this machine; "" for none."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
