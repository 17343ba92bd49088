"""What a service keeps is its own account's alone, whoever may pass to its socket."""

import os
import stat
from pathlib import Path

from ledger.settings import keep_private


def test_others_may_pass_through_the_data_directory_but_read_nothing(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        data = tmp_path / "a" / "ledger"
        keep_private(data)
        (data / "log.db").touch()
        (data / "logs").mkdir()
        assert stat.S_IMODE(data.stat().st_mode) == 0o711
        assert stat.S_IMODE((data / "log.db").stat().st_mode) == 0o600
        assert stat.S_IMODE((data / "logs").stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        tmp_path.chmod(0o750)
        keep_private(tmp_path)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
    finally:
        os.umask(before)
