"""The house rules that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LEDGER = ROOT / "src" / "ledger"
PROJECTIONS = ROOT / "projections" / "ledger_projections"
LINES_IN_A_MODULE = 400
LINES_IN_A_FUNCTION = 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(*places: Path) -> Iterator[tuple[str, str, ast.Module]]:
    """Path from the root, text and tree of every module below these places."""
    for place in places:
        for path in sorted(place.rglob("*.py")):
            text = path.read_text()
            yield path.relative_to(ROOT).as_posix(), text, ast.parse(text)


def ours() -> Iterator[tuple[str, str, ast.Module]]:
    return modules(LEDGER, PROJECTIONS)


def everything() -> Iterator[tuple[str, str, ast.Module]]:
    places = ("src", "projections", "tests", "scripts", "examples", "alembic", "benchmarks")
    return modules(*(ROOT / place for place in places))


def dotted(node: ast.expr) -> str:
    """`a.b.c` as it is written; empty for anything that is not a chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every chain of names in a module, imported names written out in full: line and chain."""
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and (chain := dotted(node)):
            first, _, rest = chain.partition(".")
            yield node.lineno, full.get(first, first) + (f".{rest}" if rest else "")


def test_modules_are_short() -> None:
    sizes = {path: len(text.splitlines()) for path, text, _ in everything()}
    assert {path: n for path, n in sizes.items() if n > LINES_IN_A_MODULE} == {}


def test_functions_are_short() -> None:
    long = [
        f"{path}:{node.lineno} {node.name}"
        for path, _, tree in everything()
        for node in ast.walk(tree)
        if isinstance(node, Function)
        and (node.end_lineno or 0) - node.lineno + 1 > LINES_IN_A_FUNCTION
    ]
    assert long == []


def test_every_package_says_so() -> None:
    folders = {path.parent for place in (LEDGER, PROJECTIONS) for path in place.rglob("*.py")}
    bare = [folder for folder in folders if not (folder / "__init__.py").exists()]
    assert [str(folder.relative_to(ROOT)) for folder in bare] == []


def test_what_is_public_says_what_it_promises() -> None:
    assert [where for path, _, tree in ours() for where in undocumented(path, tree)] == []


def undocumented(path: str, tree: ast.Module) -> Iterator[str]:
    """Public modules, functions and classes without a docstring. A Protocol speaks for methods."""
    if tree.body and ast.get_docstring(tree) is None:
        yield path
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            overload = any(dotted(mark) == "overload" for mark in node.decorator_list)
            if ast.get_docstring(node) is None and not overload:
                yield f"{path}:{node.lineno} {node.name}"


def test_no_test_sleeps() -> None:
    found = [
        f"{path}:{line} {chain}"
        for path, _, tree in modules(ROOT / "tests")
        if path.rpartition("/")[2].startswith("test_")  # what polls for them, with a deadline, may
        for line, chain in uses(tree)
        if chain in {"time.sleep", "asyncio.sleep"}
    ]
    assert found == []


def test_only_the_command_line_prints() -> None:
    found = [
        f"{path}:{line}"
        for path, _, tree in modules(LEDGER)
        if not path.startswith("src/ledger/cli/")
        for line, chain in uses(tree)
        if chain == "print"
    ]
    assert found == []


OUTSIDE_WORLD = re.compile(
    r"(datetime\.)*(datetime|date)\.(now|utcnow|today)$"
    r"|time\.(time|monotonic|perf_counter|localtime|gmtime|strftime|sleep)"
    r"|(random|secrets|numpy\.random)\b|uuid\.uuid[14]$|os\b|(open|input|print|hash)$"
)


def test_rules_and_projections_read_nothing_but_their_arguments() -> None:
    found = [
        f"{path}:{line} {chain}"
        for path, _, tree in modules(LEDGER / "domain", PROJECTIONS)
        for line, chain in uses(tree)
        if OUTSIDE_WORLD.match(chain)
    ]
    assert found == []


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"#.*\b(TODO|FIXME|XXX|HACK)\b")
    found = [path for path, text, _ in everything() if mark.search(text) and "house" not in path]
    assert found == []
