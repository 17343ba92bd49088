"""Every seeded bug is noticed by the tests that are named for it."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PATCHES = sorted(HERE.glob("*.patch"))


@pytest.mark.parametrize("name", [patch.stem for patch in PATCHES])
@pytest.mark.timeout(600)
def test_the_seeded_bug_is_killed(name: str) -> None:
    command = [sys.executable, str(HERE / "run.py"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
