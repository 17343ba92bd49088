"""Fixtures of the agent's tests."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger.agent.processes import Processes


@pytest.fixture
def open_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that jobs of any account can reach and write to."""
    path = Path("/var/tmp") / f"ledger-test-{os.getpid()}-{time.monotonic_ns()}"  # noqa: S108
    path.mkdir()
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)


@pytest.fixture
def runner(open_path: Path) -> Processes:
    """The real thing."""
    return Processes(open_path / "scratch")
