"""`backup …` as one types it, the schedule, and what is told of a backup's age."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger.store import backup, shelf
from live import Live, live, until
from places import Place, fill

from .conftest import Call, Service

DATA, NO_INPUT = 65, 66
READY = {"ready": True, "sentence": "Ready.", "replayed": 1, "head": 1, "epoch": 1}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with a log, which commands take for theirs."""
    folder = tmp_path / "data"
    with closing(Place(folder, None).open(create=True)) as log:
        fill(log, 3, 3)
    monkeypatch.setenv("JOBLEDGER_DATA", str(folder))
    return folder


def test_create_list_verify_restore(call: Call, data: Path, tmp_path: Path) -> None:
    done = call("backup", "create")
    path = Path(done.out.strip())
    assert (done.status, path.parent) == (0, data / "backups")
    assert "9 events up to position 12" in done.err
    (row,) = json.loads(call("backup", "list", "-o", "json").out)
    assert (row["file"], row["position"], row["verified"]) == (path.name, 12, True)
    assert call("backup", "verify").status == 0
    new = tmp_path / "new"
    assert call("backup", "restore", str(path), "--data", str(new)).status == 0
    again = call("backup", "restore", str(path), "--data", str(new))
    assert again.status == DATA
    assert "There is a log already" in again.err
    assert call("log", "verify", "--data", str(new)).status == 0
    assert call("backup", "lost", "--data", str(new), str(path) + "x").status == NO_INPUT


def test_what_was_not_verified_does_not_count(call: Call, data: Path) -> None:
    assert call("backup", "create", "--no-verify").status == 0
    assert "not verified" in call("backup", "list").out
    assert "yes" not in call("backup", "list").out


def test_as_many_as_are_wanted_are_kept(
    call: Call, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBLEDGER_BACKUP_KEEP", "2")
    names = [Path(call("backup", "create").out.strip()).name for _ in range(3)]
    assert call("backup", "list", "-o", "name").out.split() == names[:0:-1]


def test_a_broken_backup_is_refused_in_words(call: Call, data: Path, tmp_path: Path) -> None:
    path = Path(call("backup", "create").out.strip())
    os.truncate(path, path.stat().st_size - 5)
    for words in (["verify", str(path)], ["restore", str(path), "--data", str(tmp_path / "new")]):
        done = call("backup", *words)
        assert (done.status, done.out) == (DATA, "")
        assert "is truncated" in done.err
    path.write_bytes(b"")
    assert "is empty" in call("backup", "verify").err
    assert "broken" in call("backup", "list").out
    assert call("backup", "verify", str(tmp_path / "none")).status == NO_INPUT
    other = call("backup", "verify", "--to", str(tmp_path / "none"))
    assert (other.status, "There is no backup" in other.err) == (NO_INPUT, True)


@pytest.mark.parametrize(
    ("state", "verdict", "words"),
    [
        ({"age_s": 7200.0, "every_s": 86400}, "ok", "2.0 h old"),
        ({"age_s": None, "every_s": 0}, "ok", "none are scheduled"),
        ({"age_s": 1.0, "every_s": 1, "warning": "too old"}, "warn", "too old"),
        (None, "ok", "not looked at"),
    ],
)
def test_the_doctor_looks_at_backups(
    call: Call, service: Service, state: Any, verdict: str, words: str
) -> None:
    warnings = [state["warning"]] if state and "warning" in state else []
    service.say("GET", "/readyz", {**READY, "backups": state, "warnings": warnings})
    for path in ("/v1/whoami", "/v1/log/head", "/v1/status", "/v1/nodes", "/v1/notices"):
        service.refuse("GET", path, 403, "forbidden")
    findings = json.loads(call("doctor", "-o", "json").out)
    found = [f for f in findings if f["check"] in ("backups", "service")]
    assert [f["verdict"] for f in found] == ["ok", verdict]
    assert words in found[1]["found"]


def test_a_master_tells_the_age_of_the_newest_backup_that_counts() -> None:
    with live() as made:
        made.stop()
        folder = made.data / "backups"
        watched(made, folder)
        ready = made.operator.ok("GET", "/readyz")
        assert "no verified backup" in ready["warnings"][-1]
        assert "jobledger_backup_age_seconds +Inf" in made.operator("GET", "/metrics").text
        with closing(Place(made.data, None).open(write=False)) as log:
            backup.verify(backup.create(log, folder))
        ready = made.operator.ok("GET", "/readyz")
        assert ready["warnings"] == []
        assert 0 <= ready["backups"]["age_s"] < 60
        text = made.operator("GET", "/metrics").text
        age = next(x for x in text.splitlines() if x.startswith("jobledger_backup_age_seconds "))
        assert 0 <= float(age.split()[1]) < 60
        assert "jobledger_backup_every_seconds 3600.0" in text


def watched(made: Live, folder: Path) -> None:
    """Start the master so that it looks at a folder of backups."""
    made.start()
    service = made._service
    assert service is not None
    service.backups, service.backup_every_s = folder, 3600


def test_follow_makes_backups_by_the_schedule(data: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JOBLEDGER_")}
    wanted = {"JOBLEDGER_BACKUP_EVERY": "1", "JOBLEDGER_BACKUP_KEEP": "2"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ledger", "follow"],
        env={**kept, **wanted, "JOBLEDGER_DATA": str(data)},
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = data / "backups"
    try:
        until(lambda: [b for b in shelf.listed(folder) if b.verified], "the first backup")
        first = shelf.listed(folder)[-1].path
        until(lambda: not first.exists(), "the first one has to go")
        assert len(shelf.listed(folder)) >= 2
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=20)[1]
    assert (process.returncode, time.monotonic() - began < 10) == (0, True)
    assert "backup made" in said
