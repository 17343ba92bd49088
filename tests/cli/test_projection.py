"""`projection …`: what is told of the projections, and what is done to them where they lie."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ledger.projection import inventory
from ledger.projection.discover import discover
from ledger.projection.follower import Follower
from ledger.projection.store import Store
from ledger.store.location import open_log
from ledger_projections import jobs
from ledger_projections.jobs.rows import JOBS
from places import Place
from projection.keeping import behind, names, wandered

from .conftest import Call, Service

ONE: dict[str, Any] = {
    "projection": "jobs",
    "version": 1,
    "state": "up to date",
    "position": 90,
    "lag_events": 0,
    "lag_s": 0.0,
    "bytes": 3 << 20,
    "question": "Which jobs were there?",
    "stopped_at": 0,
    "error": "",
}
STOPPED = ONE | {"projection": "names", "state": "stopped", "stopped_at": 17, "error": "Bad \x1b."}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ledger whose projections are at the head of the log."""
    place = Place(tmp_path / "data", None)
    log = place.open(create=True)
    wandered(1, 150).append_to(log)
    log.close()
    log = open_log(place.data, None, write=False)
    for projection in discover().projections.values():
        store = Store(projection, place.data, None)
        Follower(projection, store, log).catch_up()
        store.close()
    log.close()
    return tmp_path / "data"


def test_the_list_says_first_how_they_are(service: Service, call: Call) -> None:
    service.say(
        "GET", "/v1/projections", {"projections": [ONE, STOPPED], "unused": [], "position": 90}
    )
    done = call("projection", "list")
    assert done.out.splitlines() == [
        "2 projections, not following: names.",
        "",
        "PROJECTION  VERSION  STATE       POSITION     BEHIND     SIZE  QUESTION, OR WHAT IS WRONG",
        "jobs              1  up to date        90  0 (0.0 s)  3.0 MiB  Which jobs were there?",
        "names             1  stopped           90  0 (0.0 s)  3.0 MiB  Bad \\x1b.",
        "As of position 90.",
    ]
    assert json.loads(call("projection", "list", "-o", "json").out)["position"] == 90
    assert call("projection", "list", "-o", "name").out == "jobs\nnames\n"


def test_old_versions_are_listed_with_what_removes_them(service: Service, call: Call) -> None:
    old = [{"projection": "jobs", "version": n, "bytes": n << 20} for n in (1, 2)]
    service.say("GET", "/v1/projections", {"projections": [ONE], "unused": old, "position": 90})
    assert call("projection", "list").out.splitlines()[-4:] == [
        "",
        "2 versions are of no use any more, 3.0 MiB; remove what you won't go back to:",
        "  jobledger projection drop jobs --version 1  # 1.0 MiB",
        "  jobledger projection drop jobs --version 2  # 2.0 MiB",
    ]


def test_one_is_shown_with_its_tables(service: Service, call: Call) -> None:
    table = {"table": "jobs", "key": ["job"], "columns": ["job", "user"], "indexes": [["user"]]}
    more = {"tables": [table | {"rows": 1200}], "queries": ["list_jobs"], "skipped": [7]}
    service.say("GET", "/v1/projections/jobs", ONE | more | {"head": 90})
    done = call("projection", "show", "jobs")
    assert done.out.startswith("jobs version 1: up to date. Which jobs were there?\n")
    assert "left out  7" in done.out
    assert "jobs   1,200  job        2  user" in done.out


def test_a_skip_is_asked_of_the_service_with_its_reason(service: Service, call: Call) -> None:
    service.say("POST", "/v1/projections/names/skip", {"position": 91})
    assert call("projection", "skip", "names", "17").status == 64
    done = call("projection", "skip", "names", "17", "--reason", "known")
    assert (done.status, done.out) == (0, "")
    assert service.body == {"position": 17, "reason": "known"}
    assert "names leaves out position 17, as recorded at 91." in done.err


def test_verified_broken_and_rebuilt_where_it_lies(data: Path, call: Call) -> None:
    where = ["--data", str(data)]
    done = call("projection", "verify", "--all", *where)
    assert (done.status, done.err) == (0, "")
    assert done.out.count("is what the log says") == len(discover().projections)
    another = f"UPDATE {JOBS.sql.name} SET name = 'x' WHERE job >= 2"  # noqa: S608
    behind(Place(data, None), jobs.PROJECTION, another)
    done = call("projection", "verify", "jobs", *where)
    assert done.status == 65
    assert "jobs [2] is another" in done.out
    assert done.err == "Make it again: jobledger projection rebuild jobs\n"
    done = call("projection", "rebuild", "jobs", *where, "-o", "json")
    (row,) = json.loads(done.out)
    assert (done.status, row["projection"]) == (0, "jobs")
    assert row["events_per_s"] > 0
    assert call("projection", "verify", "jobs", *where).status == 0
    assert call("projection", "verify", *where).status == 64
    assert call("projection", "rebuild", "nonsense", *where).status == 66


def test_a_version_that_is_not_in_use_is_removed(
    place: Place, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its tables and its checkpoint, also what a rebuild of it has left; nothing else."""
    where, ours = place.data or tmp_path, discover().projections
    if place.url:
        monkeypatch.setenv("JOBLEDGER_DATABASE_URL", place.url)
    old = names(version=3)
    for projection in (jobs.PROJECTION, old, old.twin(), names(version=4)):
        with closing(Store(projection, place.data, place.url)) as store:
            store.open()
    found = inventory.unused(ours.values(), place.data, place.url)
    assert [(one.name, one.version, one.bytes > 0) for one in found] == [
        ("names", 3, True),
        ("names", 4, True),
    ]
    options = ("--data", str(where))
    done = call("projection", "drop", "names", "--version", "3", *options)
    assert (done.status, done.out) == (0, "")
    assert done.err.startswith("names version 3 is gone: ")
    left = inventory.unused(ours.values(), place.data, place.url)
    assert [(one.name, one.version) for one in left] == [("names", 4)]
    with closing(Store(jobs.PROJECTION, place.data, place.url)) as store:
        assert store.open().shape, "what is in use is there as before"
    again = call("projection", "drop", "names", "--version", "3", *options)
    assert (again.status, again.err) == (66, "jobledger: There is no names version 3 here.\n")
    version = str(jobs.PROJECTION.version)
    refused = call("projection", "drop", "jobs", "--version", version, *options)
    assert refused.status == 1
    assert "is in use" in refused.err
