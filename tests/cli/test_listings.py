"""Every command that lists something, looked at as a person would: on a terminal of 80 columns, in
a pipe, where there is nothing, and where there are ten thousand rows."""

import csv
import io
import json
import re
import time
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from ledger.cli import shown
from ledger.cli.reference import commands_page
from ledger.testing.outputs import begun, printed, service

COMMANDS = (
    "jobs",
    "jobs --all",
    "jobs --all --at 2026-03-02T11:00",
    "nodes",
    "node failures --since 2026-03-01",
    "node history n1",
    "node show n1",
    "outage list",
    "outage show 1",
    "outage affected 1",
    "impact",
    "impact --nodes n1 --since 2026-03-02T10:00",
    "usage",
    "usage --by day,user,account,pool --waste",
    "demand",
    "demand --by hour,pool,user,account",
    "queue",
    "abuse list",
    "abuse show 1",
    "contact list",
    "notice list",
    "policy show",
    "policy history",
    "projection list",
    "projection show demand",
    "token list",
    "ask",
    "ask jobs",
    "ask jobs list_jobs --limit 50",
    "ask usage usage --edges 1772409600000000 --edges 1772496000000000",
    "inspect",
    "inspect queue",
    "show 1",
    "status",
)
LONELY = {
    "jobs --all --at 2026-03-02T11:00",
    "node history n1",
    "node show n1",
    "outage show 1",
    "outage affected 1",
    "abuse show 1",
    "show 1",
}
"""About something that is not there, or is still to come, where nothing has happened."""

ANYTHING = ("ask jobs list_jobs", "ask usage usage")
"""What rows of these would be called, nobody knows who has seen none."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
MANY = 10_000
WIDTH = 80


class Terminal(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module", autouse=True)
def _service() -> Iterator[None]:
    with service():
        yield


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is carried out speaks to a terminal."""
    monkeypatch.setattr("ledger.testing.outputs.io.StringIO", Terminal)
    monkeypatch.setattr(shown, "_width", lambda: WIDTH)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("words", COMMANDS)
def test_on_a_terminal_no_line_is_longer_than_it(words: str) -> None:
    lines = printed(f"jobledger {words}").splitlines()
    assert lines
    plain = [COLOUR.sub("", line) for line in lines]
    assert [line for line in plain if cell_len(line) > WIDTH] == []
    assert [line for line in lines if line != line.rstrip() and "\x1b" not in line] == []


@pytest.mark.parametrize("words", COMMANDS)
def test_into_a_pipe_it_goes_whole_and_without_colours(words: str) -> None:
    text = printed(f"jobledger {words}")
    assert text
    assert "\x1b" not in text
    assert "…" not in COLOUR.sub("", text).replace("--array 0-999 …", "")


@pytest.mark.parametrize("words", COMMANDS)
def test_programs_can_read_it(words: str) -> None:
    json.loads(printed(f"jobledger {words} -o json"))
    for line in printed(f"jobledger {words} -o jsonl").splitlines():
        json.loads(line)
    rows = list(csv.reader(io.StringIO(printed(f"jobledger {words} -o csv"))))
    assert len({len(row) for row in rows}) <= 1


def test_where_nothing_has_happened_it_says_so() -> None:
    with service(begun()):
        for words in COMMANDS:
            text = printed(f"jobledger {words}")
            assert text.strip(), words
            assert not any(line.isupper() for line in text.splitlines()[-1:]), words
            if words not in LONELY:
                json.loads(printed(f"jobledger {words} -o json"))
                table = printed(f"jobledger {words} -o csv").splitlines()
                assert bool(table) != words.startswith(ANYTHING), words


def test_ten_thousand_rows() -> None:
    story = begun()
    story.node("n1")
    story.submit("ann", count=MANY, name="many")
    with service(story):
        for words in ("jobs --limit 0", "jobs --all --limit 0"):
            began = time.monotonic()
            text = printed(f"jobledger {words}")
            assert len(text.splitlines()) > MANY, words
            assert time.monotonic() - began < 60
        rows = list(csv.DictReader(io.StringIO(printed("jobledger jobs --all --limit 0 -o csv"))))
        assert [int(row["job"]) for row in rows] == list(range(1, MANY + 1))
        listed = printed(f"jobledger ask jobs list_jobs --limit {MANY} -o csv")
        assert len(listed.splitlines()) >= MANY


def test_none_that_lists_is_left_out() -> None:
    """Every command called `list`, and every one that says that it lists."""
    tried = {" ".join(words.split()[:2]) for words in COMMANDS} | {w.split()[0] for w in COMMANDS}
    elsewhere = {"backup list", "backup lost"}  # of files, in their own tests
    page = _commands()
    listing = {name for name, text in page.items() if text.startswith("List") or " list" in name}
    assert listing - tried - elsewhere == set()


def _commands() -> dict[str, str]:
    """Each command with its first sentence."""
    known = re.compile(r"^## jobledger ([\w -]+)\n(?:\n```.*?```\n)?\n(.+?)$", re.M | re.S)
    return {name: text.strip() for name, text in known.findall(commands_page())}
