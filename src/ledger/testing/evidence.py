"""A pytest plug-in: how large the tests run, and where the figures go that they measure.

It gives two fixtures, `full` and `evidence`. Every run prints its figures at its end, so that the
sizes it ran can be seen. With `JOBLEDGER_FULL=1`, as `make full` sets it, the figures are also
written to docs/explanation/evidence.md, with date and commit, over older ones of the same names.
Tests may run in several processes (pytest-xdist): figures come with the reports of their tests.
"""

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("JOBLEDGER_FULL") == "1"
FIGURES = pytest.StashKey[dict[str, str]]()
FIGURES_OF = "figures"
COMMIT = pytest.StashKey[str]()
Evidence = Callable[[str, str], None]


@pytest.fixture(scope="session")
def full() -> bool:
    """True under `make full`: run the sizes that the requirements name, not those of CI."""
    return FULL


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config) -> Evidence:
    """Note a figure: `evidence("kill points, SQLite", "100 of 100 fired, 0 lost")`."""
    return pytestconfig.stash.setdefault(FIGURES, {}).__setitem__


def pytest_configure(config: pytest.Config) -> None:
    """Note what is measured, before the run writes what it found."""
    if FULL:
        config.stash[COMMIT] = commit(config.rootpath)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked as too long for every change, but at full size."""
    long = [item for item in items if not FULL and item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report of a test carry its figures, to whichever process began the run."""
    report = yield
    figures = item.config.stash.get(FIGURES, {})
    report.user_properties.append((FIGURES_OF, dict(figures)))
    figures.clear()
    return report


def carried(terminalreporter: pytest.TerminalReporter, what: str) -> Iterator[tuple[str, Any]]:
    """What the reports of a run carry under this name, each with the test's node id."""
    for report in chain.from_iterable(terminalreporter.stats.values()):
        for name, value in getattr(report, "user_properties", ()):
            if name == what:
                yield report.nodeid, value


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures, and at full size keep them."""
    figures: dict[str, str] = {}
    for _, found in carried(terminalreporter, FIGURES_OF):
        figures |= found
    interrupted: dict[str, str] = config.stash.get(FIGURES, {})
    figures |= interrupted
    if not figures:
        return
    terminalreporter.section("figures at full size" if FULL else "figures at CI's size")
    for name, figure in sorted(figures.items()):
        terminalreporter.write_line(f"{name}: {figure}")
    if FULL:
        path = config.rootpath / "docs" / "explanation" / "evidence.md"
        date = datetime.now(UTC).date().isoformat()
        path.write_text(renewed(path.read_text(), figures, date, config.stash[COMMIT]))


def renewed(page: str, figures: dict[str, str], date: str, commit: str) -> str:
    """The page with these figures in its table, which ends it; rows of other names stay."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---")) + 1
    rows = {row.split("|")[1].strip(): row for row in lines[start:] if row.strip()}
    for name, figure in figures.items():
        rows[name] = f"| {name} | {figure} | {date} | {commit} |"
    return "\n".join([*lines[:start], *(rows[name] for name in sorted(rows)), ""])


def commit(root: Path) -> str:
    """The commit that was measured; `+` when the tree held more than it."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "safe.directory=*", "-C", str(root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
