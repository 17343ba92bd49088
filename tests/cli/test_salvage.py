"""Whom the loss of the whole service hit, as it is printed."""

import csv
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ledger.store.location import open_log
from ledger.testing.stories import START, Story

from .conftest import Call

DATA, USAGE = 65, 64


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is left of a service: its directory, and nothing that runs."""
    monkeypatch.delenv("JOBLEDGER_URL", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    story = Story()
    for node in ("n1", "n2", "n3"):
        story.node(node)
    wide = story.submit("ann", account="bio", nodes=2, restartable=True)
    story.submit("bob\x1b[2J", account="hep")
    story.submit("ann", account="bio", count=2)
    story.place(wide, "n1", "n2")
    story.start(wide)
    story.tick(3_600)
    story.cancel(4)
    with closing(open_log(tmp_path / "data", None, write=True, create=True)) as log:
        story.append_to(log)
    return tmp_path / "data"


def test_as_people_read_it(left: Path, call: Call) -> None:
    done = call("impact", "--salvage", str(left), "/nowhere")
    assert (done.status, done.err) == (0, "")
    began, ended = (
        datetime.fromtimestamp(START / 1e6 + s, UTC).strftime("%Y-%m-%d %H:%M:%S")
        for s in (0, 3_600)
    )
    lines = done.out.splitlines()
    verdict, titles, first, second, third, sums = lines[:6]
    position = int(verdict.split("position ")[1].split(" ")[0])
    assert verdict == (
        f"The log is whole up to position {position} ({ended}): 3 jobs of 2 users were live then."
    )
    assert titles.split("  ")[0] == "USER"
    assert "KNOWN FROM" not in titles
    assert first.split() == (
        f"ann bio 1 1 n[1-2] {began} ran, its end is not known 2:00:00".split()
    )
    assert second.split() == ["ann", "bio", "3", "waited:", "submit", "again"]
    assert third.split()[0] == "bob\\x1b[2J"
    assert sums == (
        "Never ran, to be submitted again: 2. In all, to be looked after by their owners: 3. "
        "Node time at stake: 2:00:00."
    )
    rest = "\n".join(lines[6:])
    assert f"{left / 'log.db'}  log      1\N{EN DASH}{position}" in rest
    assert "/nowhere" in rest
    assert "it can't be read: No such file or directory" in rest
    assert f"What was submitted, started or ended after {ended}" in rest
    assert "What became of what ran on n1: the spools" in rest
    assert "docs/runbooks/everything-is-gone.md" in lines[-1]


def test_for_programs(left: Path, call: Call) -> None:
    told = json.loads(call("impact", "--salvage", str(left), "-o", "json").out)
    assert [(user["user"], user["submit_again"]) for user in told["users"]] == [
        ("ann", 1),
        ("bob\x1b[2J", 1),
    ]
    assert told["at"] == "2023-11-14T23:13:20Z"
    assert "(2023-11-14T23:13:20Z)" in told["verdict"]
    rows = list(
        csv.DictReader(call("impact", "--salvage", str(left), "-o", "csv").out.splitlines())
    )
    assert [(row["user"], row["job"], row["nodes"], row["effect"]) for row in rows] == [
        ("ann", "1", "n1,n2", "unknown"),
        ("ann", "3", "", "waiting"),
        ("bob\\x1b[2J", "2", "", "waiting"),
    ]
    one_a_line = call("impact", "--salvage", str(left), "-o", "jsonl").out.splitlines()
    assert [len(json.loads(line)["jobs"]) for line in one_a_line] == [2, 1]
    assert call("impact", "--salvage", str(left), "-o", "name").out.split() == [
        "ann",
        "bob\\x1b[2J",
    ]


def test_where_nothing_is_left_it_says_what_to_tell(tmp_path: Path, call: Call) -> None:
    (tmp_path / "log.db").write_bytes(b"")
    done = call("impact", "--salvage", str(tmp_path), "/nowhere/at/all")
    assert (done.status, done.out) == (DATA, "")
    assert f"{tmp_path / 'log.db'}: it is empty." in done.err
    assert "/nowhere/at/all: it can't be read: No such file or directory." in done.err
    assert "Please take every job of yours that had not ended as lost" in done.err
    assert "Nothing of what was named can be read" in done.err


@pytest.mark.parametrize(
    "words", [["--nodes", "n1"], ["--until", "now"], ["--stated"], ["--no-stated"]]
)
def test_no_nodes_and_no_end_can_be_asked_for(left: Path, call: Call, words: list[str]) -> None:
    assert call("impact", *words, "--salvage", str(left)).status == USAGE
