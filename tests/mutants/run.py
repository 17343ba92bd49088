"""Seed known bugs, one at a time, and see the tests named for them fail.

    python tests/mutants/run.py [NAME …]

Each `NAME.patch` begins with lines `# killed by: tests/…::test_x`. The runner copies the tree,
applies the patch there, and runs those tests against the copy: `PYTHONPATH` puts the copy before
the installation, and a plug-in written into the copy proves it before any test runs. A mutant is
killed when every test named for it fails; all others are reported, and make the exit status 1.
The tests are first run on an unchanged copy: a test that fails anyway kills nothing.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
MARK = "# killed by:"
COPIED = ("src", "projections", "tests", "alembic", "docs", "examples", "pyproject.toml")
PROOF = """
import ledger
assert ledger.__file__.startswith({copy!r}), f"{{ledger.__file__}} is not the mutated copy"
"""
FAILED = 1  # pytest's exit status when tests ran and some failed


class Mutant(NamedTuple):
    """A seeded bug: its patch, and the tests that must notice it."""

    name: str
    patch: Path
    tests: tuple[str, ...]


class Verdict(NamedTuple):
    """What became of a mutant; `note` says why it is not killed."""

    mutant: str
    killed: bool
    note: str


def mutants(names: list[str]) -> list[Mutant]:
    """The patches of these names, or all of them. An unknown name ends the program."""
    known = {patch.stem: patch for patch in sorted(HERE.glob("*.patch"))}
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"no such mutant: {', '.join(unknown)}; there are: {', '.join(known)}")
    return [Mutant(name, known[name], named(known[name])) for name in names or known]


def named(patch: Path) -> tuple[str, ...]:
    """The tests that a patch names in its first lines."""
    lines = patch.read_text().splitlines()
    return tuple(line.removeprefix(MARK).strip() for line in lines if line.startswith(MARK))


def copied(target: Path) -> Path:
    """A copy of the tree with the plug-in that proves which `ledger` is tested."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy2(source, target / name)
    (target / "proof_of_copy.py").write_text(PROOF.format(copy=str(target)))
    return target


def pytest(copy: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run tests against the copy."""
    paths = os.pathsep.join(str(copy / part) for part in ("", "src", "projections"))
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "proof_of_copy", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "-q", "--no-header", "--tb=line", *tests],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def outside_of_git(copy: Path) -> dict[str, str]:
    """An environment in which git sees no repository around the copy: it would skip the patch."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"GIT_CEILING_DIRECTORIES": str(copy.parent)}


def judge(mutant: Mutant, healthy: Path) -> Verdict:
    """Seed one bug and run its tests, each by itself: every one of them must fail."""
    if not mutant.tests:
        return Verdict(mutant.name, False, f"names no test: begin the patch with `{MARK} tests/…`")
    well = pytest(healthy, mutant.tests)
    if well.returncode:
        return Verdict(mutant.name, False, f"its tests fail without it\n{well.stdout}{well.stderr}")
    with tempfile.TemporaryDirectory(prefix="jobledger-mutant-") as name:
        copy = copied(Path(name).resolve())
        applied = subprocess.run(
            ["git", "apply", str(mutant.patch)],
            cwd=copy,
            env=outside_of_git(copy),
            capture_output=True,
            text=True,
            check=False,
        )
        if applied.returncode:
            return Verdict(mutant.name, False, f"no longer applies\n{applied.stderr}")
        for test in mutant.tests:
            done = pytest(copy, (test,))
            if done.returncode != FAILED:
                note = "survived" if done.returncode == 0 else "could not be run under"
                return Verdict(mutant.name, False, f"{note} {test}\n{done.stdout}{done.stderr}")
    return Verdict(mutant.name, True, "")


def judged(names: list[str]) -> list[Verdict]:
    """The verdicts on the mutants of these names, or on all."""
    with tempfile.TemporaryDirectory(prefix="jobledger-healthy-") as name:
        healthy = copied(Path(name).resolve())
        return [judge(mutant, healthy) for mutant in mutants(names)]


def main(names: list[str]) -> int:
    verdicts = judged(names)
    for verdict in verdicts:
        print(
            f"{verdict.mutant:32} {'killed' if verdict.killed else 'NOT KILLED: ' + verdict.note}"
        )
    killed = sum(verdict.killed for verdict in verdicts)
    print(f"{killed} of {len(verdicts)} mutants killed")
    return 0 if killed == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
