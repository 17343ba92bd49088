"""A pytest plug-in: how large the tests run, and where the figures go that they measure.

It gives two fixtures, `full` and `evidence`. Every run prints its figures at its end, so that the
sizes it ran can be seen. With `JOBLEDGER_FULL=1`, as `make full` sets it, the figures are also
written to docs/explanation/evidence.md, with date and commit, over older ones of the same names.
Where tests run in several processes (pytest-xdist), each hands over what it has found at its end.
"""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("JOBLEDGER_FULL") == "1"
FIGURES = pytest.StashKey[dict[str, str]]()

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


def hand_over(config: pytest.Config, name: str, found: object) -> None:
    """From a process that runs some of the tests: what the one that began it is to know."""
    if (output := getattr(config, "workeroutput", None)) is not None:
        output[name] = found


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the figures over."""
    hand_over(session.config, "figures", session.config.stash.get(FIGURES, {}))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the figures of a process that has ended; one that was killed has left none."""
    figures = getattr(node, "workeroutput", {}).get("figures", {})
    node.config.stash.setdefault(FIGURES, {}).update(figures)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures, and at full size keep them."""
    figures = config.stash.get(FIGURES, {})
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
