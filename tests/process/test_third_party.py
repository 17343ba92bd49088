"""Somebody's package with a projection in it, really built and installed: what the page on them
says works as it stands there, and what such a module does wrong harms nobody else.
"""

import getpass
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import types
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ledger.events import Envelope, Fact, ProjectionSkipped
from ledger.projection.discover import discover
from ledger.projection.reader import Reader, Unavailable
from ledger.store.location import open_log
from ledger.store.log import Draft
from ledger.testing.projections import wandered

from .harness import NO_ANSWER, ROOT, RUN_AS, Web
from .processes import until, without_ours

PAGE = ROOT / "docs" / "how-to" / "write-a-projection.md"
BLOCK = re.compile(r"^```(toml|python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""What is in the page: files by their first line, commands, what these print."""

CHOOSY = '''
"""How many submissions were there? It can't digest the thousandth."""

import msgspec

from ledger.events import JobsSubmitted
from ledger.projection import Projection, Table


class CountRow(msgspec.Struct, frozen=True):
    """All of them."""

    one: int
    count: int = 0


def evolve(key, row, r):
    """One more."""
    if r.event.first_job == 1000:
        raise ArithmeticError("a thousand is more than I can count")
    return CountRow(1, (row.count if row else 0) + 1)


TABLE = Table("counts", CountRow, key=1, events=[JobsSubmitted], keys=lambda r: [(1,)],
              evolve=evolve)


def count(connection) -> int:
    """How many."""
    rows = TABLE.rows(connection, TABLE.select())
    return rows[0].count if rows else 0


PROJECTION = Projection("choosy", version=1, tables=[TABLE], queries=[count], asked_by="anyone")
'''


class Elsewhere:
    """A virtual environment beside this one, and a folder in which somebody works."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work"
        venv.create(folder / "venv", symlinks=True)
        self.bin = folder / "venv" / "bin"
        (where,) = (folder / "venv" / "lib").glob("python*/site-packages")
        ours = sysconfig.get_path("purelib")
        (where / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
        for name, module in (("pip", "pip"), ("pytest", "pytest"), ("jobledger", "ledger")):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec {self.bin}/python -m {module} "$@"\n')
            script.chmod(0o755)
        self.work.mkdir()
        self.data = folder / "data"
        self.env = {
            **without_ours(),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "JOBLEDGER_URL": f"unix:{self.data}/jobledger.sock",
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # which pip takes for: no isolation
        }

    def write(self, text: str) -> None:
        """A file of the page: its first line says which."""
        name, _, rest = text.partition("\n")
        file = self.work / name.removeprefix("# ")
        file.parent.mkdir(exist_ok=True)
        file.write_text(rest)

    def run(self, words: str) -> str:
        """What commands print; they must end well."""
        done = subprocess.run(
            ["sh", "-e", "-c", words],
            cwd=self.work,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, f"{words}{done.stdout}{done.stderr}"
        return done.stdout

    def told(self, path: str, words: bytes) -> bool:
        """Does the service answer, with these words in it?"""
        web = Web(self.env["JOBLEDGER_URL"])
        try:
            answer = web.ask("GET", path)
        except NO_ANSWER:
            return False
        finally:
            web.close()
        return answer.good and words in answer.body

    @contextmanager
    def running(self, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A command of jobledger's for as long as the block runs."""
        with (self.folder / "said.log").open("ab") as said:
            process = subprocess.Popen(
                [self.bin / "python", "-m", "ledger", *words, "--data", self.data],
                env=self.env,
                stdout=said,
                stderr=said,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    """Another environment, with nothing of its own in it yet."""
    folder = Path(tempfile.mkdtemp(prefix="jl-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield Elsewhere(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def blocks(elsewhere: Elsewhere) -> list[str]:
    """The page's commands and what they print, once its files are there, built and installed.

    Beside its projection a second one is installed, which is not as good.
    """
    found = BLOCK.findall(PAGE.read_text())
    for kind, text in found:
        if kind in ("toml", "python"):
            elsewhere.write(text)
    with (elsewhere.work / "pyproject.toml").open("a") as project:
        project.write('choosy = "our_answers.choosy"\n')
    (elsewhere.work / "our_answers" / "choosy.py").write_text(CHOOSY)
    install, *rest = [text for kind, text in found if kind in ("sh", "text")]
    assert re.search(r"\b1[0-9] passed", elsewhere.run(install))
    return rest


def test_what_the_page_says_works(elsewhere: Elsewhere, blocks: list[str]) -> None:
    first, printed, more = blocks
    run_as = ("--run-as", RUN_AS) if RUN_AS else ()
    with elsewhere.running("up", "--agents", "1", *run_as):
        until(lambda: elsewhere.told("/v1/nodes", b'"state":"idle"'), 60, "a node")
        shown = elsewhere.run(first).splitlines()
        me, when = getpass.getuser(), r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"
        *_, title, row, position = [" ".join(line.split()) for line in shown]
        wanted = [" ".join(line.split()) for line in printed.splitlines()]
        assert title == wanted[0]
        assert re.sub(when, "T", row) == re.sub(when, "T", wanted[1]).replace("ann", me)
        assert re.sub(r"\d+", "N", position) == re.sub(r"\d+", "N", wanted[2])
        told = elsewhere.run(more.replace("ann", me))
        assert "failures: Whose jobs fail, and how many of them at once? (asked by owners)" in told
        assert f"{me},2,1,1," in told
        assert '{"projection":"failures","query":"worst","answer":[{"user":"' in told


def test_one_that_fails_harms_nobody_else(elsewhere: Elsewhere, blocks: list[str]) -> None:
    """At its thousandth event it stops, alone, and says where; a recorded skip lets it go on."""
    shutil.rmtree(elsewhere.data, ignore_errors=True)
    story = wandered(1, 0)
    while story.submit("ann") < 1010:
        pass
    position = next(r.position for r in story.events if r.stream == "job-1000")
    with closing(open_log(elsewhere.data, None, write=True, create=True)) as log:
        story.append_to(log)
        head = log.head().position
    module = types.ModuleType("choosy")
    exec(CHOOSY, vars(module))  # noqa: S102 - it stands above
    ours = discover().projections
    reader = Reader({**ours, "choosy": module.PROJECTION}, elsewhere.data, None)

    def at(name: str) -> int:
        try:
            return reader.checkpoint(name).position
        except Unavailable:
            return 0

    with elsewhere.running("follow"):
        until(lambda: all(at(name) == head for name in ours), 30, "the others follow")
        until(lambda: reader.checkpoint("choosy").stopped_at, 30, "it stops")
        stopped = reader.checkpoint("choosy")
        assert (stopped.stopped_at, stopped.position) == (position, position - 2)
        assert "a thousand is more than I can count" in stopped.error
        with elsewhere.running("master", "--accept-clock"):
            until(lambda: elsewhere.told("/v1/ask/choosy/count", b'"answer":999'), 60, "an answer")
            warning = b"the projection choosy does not follow: job.submitted.v1: ArithmeticError"
            assert elsewhere.told("/v1/status", warning)
            asked = "jobledger ask choosy count"
            assert elsewhere.run(asked) == f"999\nAs of position {position - 2}.\n"
            then = elsewhere.run(f"{asked} --at-position {position - 40}")
            assert then.startswith("980\n")
        with closing(open_log(elsewhere.data, None, write=True)) as log:
            skip = ProjectionSkipped(projection="choosy", position=position, reason="known")
            facts = [Fact(skip, Envelope(by="root"))]
            head = log.append([Draft(log.head().at, log.head().epoch, facts)]).position
        until(lambda: at("choosy") == head, 30, "it goes on")
        assert reader.ask("choosy", module.count).value == 1009
        anew = "from ledger.follow import rebuild, verify; from pathlib import Path; "
        anew += f"at = 'choosy', Path({str(elsewhere.data)!r}), None; "
        anew += "print(rebuild(*at).error == '', len(set(verify(*at)[1:3])))"
        assert elsewhere.run(f'python -c "{anew}"') == "True 1\n"
        assert reader.ask("choosy", module.count).value == 1009
    reader.close()
