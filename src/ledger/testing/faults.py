"""Which faults there are, which tests try them, what came out: a registry and a pytest plug-in.

`tests/faults.toml` is the registry. A test says what it tries: `@pytest.mark.fault("A1", "B3")`;
it fails where an id is not in the registry. At full size what came out is kept in
`tests/faults.json`, with date and commit, and docs/reference/faults.md is made from these three. A
run of `-m fault`, as `make faults` does, prints its own table at its end.
"""

import ast
import json
import tomllib
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ledger.testing.evidence import COMMIT, FULL, carried

ROOT = Path(__file__).resolve().parents[3]
PAGE = "docs/reference/faults.md"
OUTCOMES = "tests/faults.json"
MARK = "pytest.mark.fault"
MARKED = "faults"

Outcomes = dict[str, dict[str, Any]]
"""By test: how often it passed, failed or was skipped, and the date and commit of that."""


class Fault(NamedTuple):
    """What happens, how a test makes it happen, and what must hold."""

    group: str
    fault: str
    how: str
    holds: str


def registry(root: Path = ROOT) -> dict[str, Fault]:
    """Every fault by its id, in order."""
    groups = tomllib.loads((root / "tests" / "faults.toml").read_text())
    return {
        name: Fault(f"{letter}. {group['title']}", **row)
        for letter, group in groups.items()
        for name, row in group.items()
        if name != "title"
    }


def trying(root: Path = ROOT) -> dict[str, list[str]]:
    """Fault -> the tests that are marked with it, as `tests/….py::name`. Raises ValueError."""
    found = defaultdict(list)
    for path in sorted((root / "tests").rglob("test_*.py")):
        for test, ids in marks(ast.parse(path.read_text()), path.relative_to(root).as_posix()):
            for name in ids:
                found[name].append(test)
    if unknown := sorted(set(found) - set(registry(root))):
        raise ValueError(f"not in tests/faults.toml: {', '.join(unknown)}")
    return dict(found)


def marks(tree: ast.Module, path: str) -> Iterator[tuple[str, list[str]]]:
    """The marked tests of a module and their faults. Raises ValueError for a mark on no test."""
    everywhere: list[str] = []
    for node in tree.body:
        if (found := list(ids_in(node))) and not named(node).startswith(("test", "Test", "pyt")):
            raise ValueError(f"{path}:{node.lineno}: a fault mark must stand on a test")
        if named(node) == "pytestmark":
            everywhere += found
    for node in tree.body:
        if named(node).startswith(("test", "Test")) and (found := [*everywhere, *ids_in(node)]):
            yield f"{path}::{named(node)}", sorted(set(found))


def named(node: ast.stmt) -> str:
    """What a statement defines or assigns."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""


def ids_in(node: ast.stmt) -> Iterator[str]:
    """The faults that marks within a statement name."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == MARK:
            yield from (ast.literal_eval(argument) for argument in call.args)


def faults_page(root: Path = ROOT) -> str:
    """Every fault, what must hold, which tests try it, and what came out at full size."""
    faults, tests = registry(root), trying(root)
    outcomes: Outcomes = json.loads((root / OUTCOMES).read_text())
    words = {name: said(tests.get(name, []), outcomes) for name in faults}
    survived = sum(word.startswith("survived") for word in words.values())
    blocks = [
        "# Faults tried and survived",
        "Every fault that we know of, what must hold under it, and which tests try it. Made from"
        " `tests/faults.toml`, from the marks on the tests, and from what `make faults` or"
        " `make full` last noted at full size; `make docs` renews it. How faults are made, and"
        " where a test could fool itself, stands in [Faults](../explanation/faults.md).",
        f"{len(faults)} faults, {len(tests)} tried, {survived} survived at full size. A fault"
        " survived when all tests that try it passed; date and commit are those of the oldest.",
    ]
    for group in dict.fromkeys(fault.group for fault in faults.values()):
        lines = [
            "| id | fault | how | what must hold | tests | outcome |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {fault.fault} | {fault.how} | {fault.holds} |"
            f" {links(tests.get(name, []))} | {words[name]} |"
            for name, fault in faults.items()
            if fault.group == group
        ]
        blocks += [f"## {group}", "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def links(tests: Iterable[str]) -> str:
    """Where these tests stand: each module, and how many of them it holds."""
    modules = Counter(test.partition("::")[0] for test in tests)
    return ", ".join(f"[{Path(path).stem}](../../{path}): {n}" for path, n in modules.items())


def said(tests: list[str], outcomes: Outcomes) -> str:
    """In a word what came out of these tests."""
    known = [outcomes[test] for test in tests if test in outcomes]
    if not tests:
        return "not tried"
    if bad := [one for one in known if one["failed"]]:
        return f"**failed**, {bad[0]['date']}, {bad[0]['commit']}"
    good = sorted((one["date"], one["commit"]) for one in known if not one["skipped"])
    if not good:
        return "not yet at full size"
    late = f"; {len(tests) - len(good)} of the tests not yet" if len(good) < len(tests) else ""
    return f"survived, {', '.join(good[0])}{late}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test that says it tries what nobody registered."""
    ids = ids_of(item)
    if ids and (unknown := sorted(ids - set(registry()))):
        pytest.fail(f"not in tests/faults.toml: {', '.join(unknown)}", pytrace=False)


def ids_of(item: pytest.Item) -> set[str]:
    """The faults that a test says it tries."""
    return {str(name) for mark in item.iter_markers("fault") for name in mark.args}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let the report of a test carry what it tries."""
    report = yield
    if ids := ids_of(item):
        report.user_properties.append((MARKED, sorted(ids)))
    return report


def test_of(nodeid: str) -> str:
    """`tests/….py::name` of whatever was made from that function or class."""
    return "::".join(nodeid.partition("[")[0].split("::")[:2])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table if it was asked for, and at full size keep what came out."""
    marked: dict[str, set[str]] = {}
    for nodeid, ids in carried(terminalreporter, MARKED):
        marked.setdefault(test_of(nodeid), set()).update(ids)
    counted = count(terminalreporter.stats, list(marked))
    if "fault" in config.option.markexpr:
        terminalreporter.section("faults tried")
        for line in table(counted, marked):
            terminalreporter.write_line(line)
    if FULL and counted:
        date = datetime.now(UTC).date().isoformat()
        path = config.rootpath / OUTCOMES
        kept: Outcomes = json.loads(path.read_text())
        for test, numbers in counted.items():
            kept[test] = {**numbers, "date": date, "commit": config.stash[COMMIT]}
        tests = {test for found in trying(config.rootpath).values() for test in found}
        kept = {test: kept[test] for test in sorted(tests & set(kept))}
        path.write_text(json.dumps(kept, indent=1) + "\n")
        (config.rootpath / PAGE).write_text(faults_page(config.rootpath))


def count(stats: dict[str, list[Any]], tests: Iterable[str]) -> dict[str, dict[str, int]]:
    """How often each of these tests passed, failed (also in set-up), and was skipped."""
    found: dict[str, dict[str, int]] = {}
    for word, kind in [
        ("passed", "passed"),
        ("failed", "failed"),
        ("error", "failed"),
        ("skipped", "skipped"),
    ]:
        for report in stats.get(word, []):
            if (test := test_of(report.nodeid)) in tests:
                found.setdefault(test, dict.fromkeys(("passed", "failed", "skipped"), 0))[kind] += 1
    return found


def table(counted: dict[str, dict[str, int]], marked: dict[str, set[str]]) -> Iterator[str]:
    """What a run tried, a line for each fault."""
    tried = survived = 0
    faults = registry()
    for name, fault in faults.items():
        tests = [test for test, ids in marked.items() if name in ids and test in counted]
        if not tests:
            continue
        sums = Counter[str]()
        for test in tests:
            sums.update(counted[test])
        word = "FAILED" if sums["failed"] else "survived" if sums["passed"] else "skipped"
        tried += word != "skipped"
        survived += word == "survived"
        times = sums["passed"] + sums["failed"]
        yield f"{name:4} {fault.fault}: {len(tests)} tests, tried {times} times, {word}"
    yield f"{tried} of {len(faults)} faults tried, {survived} survived"
