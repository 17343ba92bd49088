"""Print the table: `python -m benchmarks [ROW …] [--small] [--database sqlite|postgres]`."""

import argparse
import datetime
import platform
from collections.abc import Iterator

from benchmarks import append, recovery, running, submitting
from benchmarks.places import Places
from benchmarks.table import Figure, table

ROWS = ("1", "2", "3", "4", "12", "13")


def figures(places: Places, rows: list[str], *, small: bool) -> Iterator[Figure]:
    """Each figure as soon as it is known."""
    turns = 3 if small else 5
    if "3" in rows:
        yield from append.measure(places, turns=turns, commits=20 if small else 60)
    if "4" in rows:
        lives, pending = (20_000, 20_000) if small else (225_000, 100_000)
        yield from recovery.measure(places, turns=turns, lives=lives, pending=pending)
    wanted = [row for row in rows if row in ("1", "2", "13")]
    if wanted:
        yield from submitting.measure(
            places,
            turns=turns,
            requests=4_000 if small else 10_000,
            pending=20_000 if small else 100_000,
            only=wanted[0] if len(wanted) == 1 else "",
        )
    if "12" in rows:
        yield from running.measure(places, turns=turns, jobs=2_000 if small else 5_000)


def main() -> None:
    """Measure what was asked for, telling of each figure as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], default=list(ROWS))
    parser.add_argument("--small", action="store_true", help="smaller sizes, fewer turns")
    parser.add_argument("--database", choices=["sqlite", "postgres"], help="only this one")
    asked = parser.parse_args()
    places = Places((asked.database,) if asked.database else ("sqlite", "postgres"))
    found = []
    try:
        for figure in figures(places, asked.rows or list(ROWS), small=asked.small):
            print("  ".join(cell for cell in figure.cells() if cell), flush=True)
            found.append(figure)
    finally:
        places.close()
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"\n{today}, Python {platform.python_version()}, medians; load: of the last minute\n")
    print(table(found))


if __name__ == "__main__":
    main()
