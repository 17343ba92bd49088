"""What all tests share: how large to run, and where measured figures go."""

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EVIDENCE = ROOT / "docs" / "explanation" / "evidence.md"
FULL = os.environ.get("JOBLEDGER_FULL") == "1"
FIGURES = pytest.StashKey[dict[str, str]]()

Evidence = Callable[[str, str], None]


@pytest.fixture(scope="session")
def full() -> bool:
    """True under `make full`: run the sizes that the requirements name, not those of CI."""
    return FULL


@pytest.fixture(scope="session")
def evidence(pytestconfig: pytest.Config) -> Evidence:
    """Note a figure: `evidence("kill points, SQLite", "100 of 100 fired, 0 lost")`.

    Every run prints its figures, so that the sizes it ran can be seen; `make full` also writes them
    to docs/explanation/evidence.md, with date and commit, over the older figure of that name.
    """
    figures = pytestconfig.stash.setdefault(FIGURES, {})

    def note(name: str, figure: str) -> None:
        figures[name] = figure

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures, and under `make full` keep them."""
    figures = config.stash.get(FIGURES, {})
    if figures:
        terminalreporter.section("figures, full size" if FULL else "figures, CI's size")
    for name, figure in sorted(figures.items()):
        terminalreporter.write_line(f"{name}: {figure}")
    if FULL and figures:
        write_evidence(figures)


def write_evidence(figures: dict[str, str]) -> None:
    """Put figures into the page's table; rows of other names stay as they are."""
    head, rows = read_table(EVIDENCE.read_text())
    when, what = datetime.now(UTC).date().isoformat(), commit()
    for name, figure in figures.items():
        rows[name] = f"| {name} | {figure} | {when} | {what} |"
    EVIDENCE.write_text("\n".join([*head, *(rows[name] for name in sorted(rows)), ""]))


def read_table(page: str) -> tuple[list[str], dict[str, str]]:
    """The lines down to the table's rule, and its rows by their first cell. The table ends it."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|---")) + 1
    return lines[:start], {row.split("|")[1].strip(): row for row in lines[start:] if row.strip()}


def commit() -> str:
    """The commit that was measured; `+` when the tree held more than it."""

    def git(*arguments: str) -> str:
        command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
