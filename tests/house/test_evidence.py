"""The table of evidence keeps what it had, and what is measured again replaces what was."""

import os
import subprocess
import sys
from pathlib import Path

from ledger.testing.evidence import renewed

HEAD = "# What was measured\n\n| what | figure | date | commit |\n|---|---|---|---|\n"


def test_the_first_figure() -> None:
    page = renewed(HEAD, {"speed": "3 a second"}, "2026-01-02", "abc")
    assert page == HEAD + "| speed | 3 a second | 2026-01-02 | abc |\n"


def test_a_figure_replaces_only_the_older_one_of_its_name() -> None:
    page = renewed(HEAD, {"speed": "3 a second", "loss": "none"}, "2026-01-02", "abc")
    page = renewed(page, {"speed": "4 a second"}, "2026-02-03", "def+")
    assert page == (
        HEAD + "| loss | none | 2026-01-02 | abc |\n| speed | 4 a second | 2026-02-03 | def+ |\n"
    )


def test_a_run_prints_the_figures_of_all_its_processes(tmp_path: Path) -> None:
    body = "def test_{0}(evidence): evidence('figure {0}', '{0} a second')\n"
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(body.format(name))
    small = {name: value for name, value in os.environ.items() if name != "JOBLEDGER_FULL"}
    command = [sys.executable, "-m", "pytest", "-p", "ledger.testing.evidence", "-n2"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=small,
    )
    assert done.returncode == 0, done.stdout
    assert "figure one: one a second" in done.stdout
    assert "figure two: two a second" in done.stdout
