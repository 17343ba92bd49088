"""A checkpoint counts only if the log confirms it."""

import logging
from pathlib import Path

import pytest

from ledger.store.checkpoint import load, save
from ledger.store.log import Log
from places import draft, fill, job_held


def test_the_newest_confirmed_one_is_used_and_two_are_kept(log: Log, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    assert load(folder, log, 1) is None
    for n in range(4):
        head = log.append([draft(job_held(n))])
        save(folder, head.position, head.hash, 1, b"state\n%d" % n)
    assert load(folder, log, 1) == (head, b"state\n3")
    assert len(list(folder.iterdir())) == 2


@pytest.mark.fault("H10")
@pytest.mark.parametrize("kind", ["version", "hash", "position", "payload", "garbage", "empty"])
def test_one_that_does_not_fit_is_ignored_aloud(
    log: Log, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = fill(log, commits=1, size=1)
    head = log.append([draft(job_held(2), at=2)])
    save(tmp_path, first.position, first.hash, 1, b"older")
    position = head.position - (kind == "position")
    digest = first.hash if kind == "hash" else head.hash
    path = save(tmp_path, position, digest, 2 if kind == "version" else 1, b"newer")
    if kind == "payload":
        path.write_bytes(path.read_bytes() + b"!")
    if kind in ("garbage", "empty"):
        path.write_bytes(b"\x00" * (kind == "garbage"))
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path, log, 1) == (first, b"older")
    assert f"checkpoint {path.name} ignored" in caplog.text


@pytest.mark.fault("H10")
def test_one_ahead_of_the_log_is_ignored(log: Log, tmp_path: Path) -> None:
    head = fill(log, commits=1, size=1)
    save(tmp_path, head.position + 100, head.hash, 1, b"x")
    assert load(tmp_path, log, 1) is None
