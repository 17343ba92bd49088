"""Who may import whom, where import-linter can't say it: as a list of what is allowed."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOMAIN = ("src/ledger/domain", ("ledger.commands", "ledger.domain", "ledger.events", "ledger.wire"))
PROJECTIONS = (
    "projections/ledger_projections",
    ("ledger.domain", "ledger.events", "ledger.projection", "ledger_projections", "sqlalchemy"),
)
ORACLES = ("tests/oracles", ("ledger.events",))
# The parts of Python that talk to the world: rules and projections get what they need as arguments.
WORLDLY = {
    *("asyncio", "ctypes", "importlib", "multiprocessing", "os", "pathlib", "random", "secrets"),
    *("select", "shutil", "signal", "socket", "sqlite3", "subprocess", "tempfile", "threading"),
    *("time", "urllib"),
}
PURE = set(sys.stdlib_module_names) - WORLDLY | {"msgspec", "numpy"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[1:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            whole = ".".join(part for part in (base, node.module) if part)
            yield from ((node.lineno, f"{whole}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize(("place", "allowed"), [DOMAIN, PROJECTIONS, ORACLES])
def test_imports_are_on_the_list(place: str, allowed: tuple[str, ...]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / place).rglob("*.py"))
        for line, name in imports(path)
        if not any(name == one or name.startswith(f"{one}.") for one in allowed)
        and name.split(".")[0] not in (PURE | {"pytest"} if place.startswith("tests") else PURE)
    ]
    assert found == []
