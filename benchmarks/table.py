"""Figures beside their targets: one line each, with how busy the machine was."""

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

GROWTH_HEADINGS = ("row", "what", "database", "small", "middle", "full")
HEADINGS = ("row", "what", "database", "measured", "target", "baseline", "ratio", "met", "load")


@dataclass(frozen=True)
class Bound:
    """What a figure has to reach: `at_least`, or else stay under, `value`."""

    value: float
    at_least: bool = True

    def met(self, figure: float) -> bool:
        """Does the figure keep it?"""
        return figure >= self.value if self.at_least else figure <= self.value

    def text(self, unit: str = "") -> str:
        """As it is written in the table."""
        return f"{'≥' if self.at_least else '≤'} {number(self.value)}{unit}"


@dataclass(frozen=True)
class Figure:
    """One measurement: the median of `values`, and of the baseline's, taken turn about.

    The ratio is the median of the ratios of each turn: both halves of a turn had the same machine.
    `target` bounds the figure itself, `ratio_target` the ratio.
    """

    row: str
    what: str
    database: str
    values: Sequence[float]
    unit: str
    target: Bound | None = None
    baseline: str = ""
    baselines: Sequence[float] = ()
    ratio_target: Bound | None = None
    load: float = 0.0

    @property
    def value(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """How the figure compares with its baseline; None without one."""
        if not self.baselines:
            return None
        pairs = zip(self.values, self.baselines, strict=True)
        return statistics.median(value / base for value, base in pairs)

    @property
    def met(self) -> str:
        """Are the targets kept: of the figure, and of the ratio? A dash where there is none."""
        words = []
        if self.target is not None:
            words.append("yes" if self.target.met(self.value) else "NO")
        if self.ratio_target is not None:
            kept = self.ratio is not None and self.ratio_target.met(self.ratio)
            words.append("ratio yes" if kept else "ratio NO")
        return ", ".join(words) or "-"

    def cells(self) -> tuple[str, ...]:
        """The line of the table, in the order of `HEADINGS`."""
        base = ratio = ""
        if self.ratio is not None:
            base = f"{self.baseline}: {number(statistics.median(self.baselines))}{self.unit}"
            ratio = f"{self.ratio:.2f}"
        if self.ratio_target is not None:
            ratio += f" ({self.ratio_target.text()})"
        return (
            self.row,
            self.what,
            self.database,
            number(self.value) + self.unit,
            self.target.text(self.unit) if self.target is not None else "",
            base or self.baseline,
            ratio,
            self.met,
            f"{self.load:.1f}",
        )


@dataclass(frozen=True)
class Growth:
    """What one measurement came to at several sizes."""

    row: str
    what: str
    database: str
    sizes: Sequence[str]
    values: Sequence[float]
    unit: str

    def cells(self) -> tuple[str, ...]:
        """The line of the table, in the order of `GROWTH_HEADINGS`."""
        pairs = zip(self.values, self.sizes, strict=True)
        said = (f"{number(value)}{self.unit} ({size})" for value, size in pairs)
        return (self.row, self.what, self.database, *said)


def growth(found: Sequence[Figure], sizes: Sequence[str]) -> Growth:
    """The same figure at several sizes: its ratio to the baseline, if it has one, else itself."""
    last = found[-1]
    if last.ratio is None:
        values, unit = [one.value for one in found], last.unit
    else:
        values, unit = [one.ratio or 0.0 for one in found], " of the baseline"
    return Growth(last.row, last.what, last.database, sizes, values, unit)


def number(value: float) -> str:
    """Three or four figures, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Told(Protocol):
    """Whatever is a line of a table; the first cells are its row, its name and its database."""

    def cells(self) -> tuple[str, ...]:
        """The line's cells."""


def lines(found: Sequence[Told]) -> list[str]:
    """Each as a line of a Markdown table."""
    return ["| " + " | ".join(one.cells()) + " |" for one in found]


def table(found: Sequence[Told] | Sequence[str], headings: Sequence[str] = HEADINGS) -> str:
    """All of them, or of their lines, as a Markdown table."""
    made = [line if isinstance(line, str) else lines([line])[0] for line in found]
    head = ["| " + " | ".join(cells) + " |" for cells in (headings, ("---",) * len(headings))]
    return "\n".join([*head, *made])


def merged(
    former: str, headings: Sequence[str], found: Sequence[Told], order: Sequence[str]
) -> list[str]:
    """The lines of a table in a former text and those found now, which take the places of all lines
    of the same row and database; rows as in `order`."""
    _, _, rest = former.partition("| " + " | ".join(headings) + " |\n")
    old = [line for line in rest.partition("\n\n")[0].splitlines()[1:] if line.startswith("|")]
    new = lines(found)
    measured = {_whose(line) for line in new}
    kept = [line for line in old if _whose(line) not in measured]
    return sorted([*kept, *new], key=lambda line: order.index(_whose(line)[0]))


def _whose(line: str) -> tuple[str, str]:
    """The row and the database of a line."""
    cells = [cell.strip() for cell in line.split("|")]
    return cells[1], cells[3]


def busy() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]
