"""What may stand in a file that everybody gets, and what the project says it needs."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Written in pieces, so that this file does not hold what it forbids.
MACHINE_PATHS = re.compile(
    "|".join(["/ro" + r"ot/\w", "/ho" + r"me/\w+/", "/wo" + "rk/", "/Us" + "ers/"])
)
REGISTRIES = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "index" + "-url", "find" + "-links"]), re.I
)
OWN_CODE = {"ledger", "ledger_projections"}


def tracked() -> list[Path]:
    """The files of the repository; in a plain folder, those that a repository would track."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]
    folders = ("src", "projections", "tests", "scripts", "examples", "alembic", "docs")
    return [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]


def texts() -> dict[str, str]:
    """The tracked files that are text."""
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            found[path.relative_to(ROOT).as_posix()] = data.decode()
    return found


def test_no_file_names_a_registry_or_somebodys_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        if REGISTRIES.search(line) or MACHINE_PATHS.search(line)
    ]
    assert found == []


def test_constraints_are_names_and_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert [
        line for line in pinned if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][\w.+!]*", line)
    ] == []
    names = [normal(line.split("==")[0]) for line in pinned]
    assert sorted({name for name in declared() if name not in names}) == []


def normal(name: str) -> str:
    """A distribution's name as packages compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(runtime_only: bool = False) -> set[str]:
    """The distributions that pyproject.toml asks for, without versions and extras."""
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in PROJECT["project"].get("optional-dependencies", {}).values():
        wanted += extra
    if not runtime_only:
        wanted += PROJECT["dependency-groups"]["dev"]
    return {normal(re.split(r"[\s\[<>=!~;]", entry, maxsplit=1)[0]) for entry in wanted}


def imported(*places: str) -> dict[str, str]:
    """The top-level modules imported below these places that are neither ours nor Python's."""
    found: dict[str, str] = {}
    for place in places:
        for path in modules(ROOT / place):
            for node in ast.walk(ast.parse(path.read_text())):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                found |= {name.split(".")[0]: path.relative_to(ROOT).as_posix() for name in names}
    shared = {path.stem for path in (ROOT / "tests").glob("*")}
    known = OWN_CODE | shared | sys.stdlib_module_names
    return {name: path for name, path in found.items() if name not in known}


def modules(place: Path) -> list[Path]:
    """A module, or the modules in a folder."""
    return [place] if place.suffix == ".py" else sorted(place.rglob("*.py"))


def undeclared(modules: dict[str, str], distributions: set[str]) -> list[str]:
    """Modules that no declared distribution brings."""
    brings = importlib.metadata.packages_distributions()
    return [
        f"{path}: {name}"
        for name, path in modules.items()
        if not {normal(d) for d in brings.get(name, [])} & distributions
    ]


def test_what_the_code_imports_is_declared() -> None:
    parts = [path.name for path in (ROOT / "src" / "ledger").iterdir() if path.name != "testing"]
    places = [f"src/ledger/{part}" for part in parts]
    runtime = imported("projections", "alembic", "examples", *places)
    assert undeclared(runtime, declared(runtime_only=True)) == []


def test_what_the_tests_import_is_declared() -> None:
    assert undeclared(imported("tests", "scripts", "src/ledger/testing"), declared()) == []
