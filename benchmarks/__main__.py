"""Print the tables: `python -m benchmarks [ROW …] [--small] [--database sqlite|postgres]`.

With `--write` the rows that were measured take the place of the former ones in
`docs/explanation/performance.md`, and row 7's plans in `docs/explanation/projections.md`.
"""

import argparse
import datetime
import os
import platform
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import append, asking, planning, projecting, recovery, running, submitting
from benchmarks.asking import PLAN_HEADINGS, Plan
from benchmarks.places import Places
from benchmarks.submitting import Size
from benchmarks.table import GROWTH_HEADINGS, HEADINGS, Figure, Growth, lines, merged, table

ROWS = ("1", "2", "3", "4", "5", "6", "7", "12", "13", "plan")
ORDER = ("3", "4", "memory", "1", "13", "2", "12", "plan", "5", "6", "7")
DOCS = Path(__file__).parent.parent / "docs" / "explanation"
PAGE, PLANS_PAGE = DOCS / "performance.md", DOCS / "projections.md"
BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"


Measured = Iterator[Figure | Growth | Plan]


def parts(places: Places, rows: Sequence[str], *, small: bool) -> Iterator[Measured]:
    """What is measured on one kind of thing; each gives a figure as soon as it is known."""
    turns = 3 if small else 5
    lives, pending = (20_000, 20_000) if small else (225_000, 100_000)
    sizes = [Size(lives // 16, pending // 100), Size(lives // 4, pending // 10)]
    sizes.append(Size(lives, pending))
    if "3" in rows:
        yield append.measure(places, turns=turns, commits=20 if small else 60)
    if "4" in rows:
        yield recovery.measure(places, turns=3, lives=lives, pending=pending)
    if "5" in rows:
        made = 12_500 if small else 250_000
        yield projecting.rebuilding(places, turns=3, lives=made)
    if "6" in rows:
        yield projecting.lagging(places, seconds=5 if small else 30)
    if "7" in rows:
        yield asking.measure(places, jobs=40_000 if small else 1_000_000)
    if "plan" in rows:
        yield planning.measure([size.pending for size in sizes], turns=turns)
    if wanted := [row for row in rows if row in ("1", "2", "13")]:
        requests = 4_000 if small else 10_000
        yield submitting.measure(places, turns=turns, requests=requests, sizes=sizes, rows=wanted)
    if "12" in rows:
        jobs, ended = 2_000 if small else 5_000, [size.ended for size in sizes]
        yield running.measure(places, turns=3, jobs=jobs, ended=ended)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for; no row named means all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--small", action="store_true", help="smaller sizes, fewer turns")
    parser.add_argument("--database", choices=["sqlite", "postgres"], help="only this one")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {PAGE.name}")
    asked = parser.parse_args(words)
    if unknown := [row for row in asked.rows if row not in ROWS]:
        parser.error(f"there is no row {unknown[0]}: the rows are {', '.join(ROWS)}")
    asked.rows = asked.rows or list(ROWS)
    return asked


def main() -> None:
    """Measure what was asked for, telling of each figure as it comes."""
    asked = arguments()
    places = Places((asked.database,) if asked.database else ("sqlite", "postgres"))
    found: list[Figure] = []
    grown: list[Growth] = []
    plans: list[Plan] = []
    broken = 0
    try:
        for part in parts(places, asked.rows, small=asked.small):
            try:
                for one in part:
                    print("  ".join(cell for cell in one.cells() if cell), flush=True)
                    if isinstance(one, Figure):
                        found.append(one)
                    elif isinstance(one, Growth):
                        grown.append(one)
                    else:
                        plans.append(one)
            except Exception:  # the figures of the others are worth having
                traceback.print_exc()
                broken += 1
    finally:
        places.close()
    sizes = "small sizes (`--small`)" if asked.small else "full sizes"
    print("\n" + _page(lines(found), lines(grown), sizes, asked.rows))
    if asked.write:
        former = _between(PAGE)
        figures = merged(former, HEADINGS, found, ORDER)
        growths = merged(former, GROWTH_HEADINGS, grown, ORDER)
        _write(PAGE, _page(figures, growths, sizes, asked.rows))
        if plans:
            _write(PLANS_PAGE, table(plans, PLAN_HEADINGS) + "\n")
    if broken:
        sys.exit(f"{broken} parts could not be measured")


def _between(page: Path) -> str:
    """What a page has between the marks."""
    return page.read_text().partition(BEGIN)[2].partition(END)[0]


def _write(page: Path, text: str) -> None:
    """Put a text between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


def _page(found: list[str], grown: list[str], sizes: str, rows: Sequence[str]) -> str:
    """The two tables, with what they were measured on."""
    today = datetime.datetime.now(datetime.UTC).date()
    where = f"Python {platform.python_version()}, {os.cpu_count()} cores"
    last = "" if list(rows) == list(ROWS) else f"; the last to be measured: {', '.join(rows)}"
    kept = sum("| NO" not in line and "ratio NO" not in line for line in found)
    return (
        f"{today}, {where}, {sizes}, medians{last}; load: average of the minute before the row was "
        f"done. {kept} of {len(found)} figures keep all of their targets.\n\n"
        f"{table(found)}\n\n"
        "How cost grows: the same at three sizes of log and queue.\n\n"
        f"{table(grown, GROWTH_HEADINGS)}\n"
    )


if __name__ == "__main__":
    main()
