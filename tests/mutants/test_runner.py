"""The runner itself: it tells a noticed bug from one that nobody notices."""

import difflib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).resolve().parent
TEST = "tests/house/test_evidence.py::test_the_first_figure"
MODULE = "src/ledger/testing/evidence.py"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutant_runner", HERE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def healthy(runner: ModuleType, tmp_path: Path) -> Path:
    place = tmp_path / "healthy"
    place.mkdir()
    return Path(runner.copied(place))


def patch(folder: Path, old: str, new: str, test: str = TEST) -> Path:
    """A patch that writes `new` for `old` in a module that `TEST` runs."""
    was = (HERE.parent.parent / MODULE).read_text()
    before, after = was.splitlines(keepends=True), was.replace(old, new).splitlines(keepends=True)
    diff = difflib.unified_diff(before, after, f"a/{MODULE}", f"b/{MODULE}")
    path = folder / "seeded.patch"
    path.write_text(f"# killed by: {test}\n{''.join(diff)}")
    return path


def verdict(runner: ModuleType, healthy: Path, path: Path) -> tuple[bool, str]:
    """What the runner says of one patch: killed, and the first line of its note."""
    found = runner.judge(runner.Mutant("seeded", path, runner.named(path)), healthy)
    return found.killed, found.note.split("\n")[0]


def test_a_noticed_bug_is_killed(runner: ModuleType, healthy: Path, tmp_path: Path) -> None:
    path = patch(tmp_path, "*lines[:start]", "*lines[:1]")
    assert verdict(runner, healthy, path) == (True, "")


def test_an_unnoticed_bug_survives(runner: ModuleType, healthy: Path, tmp_path: Path) -> None:
    path = patch(tmp_path, "A pytest plug-in", "Something")
    assert verdict(runner, healthy, path) == (False, f"survived {TEST}")


def test_a_patch_that_no_longer_applies(runner: ModuleType, healthy: Path, tmp_path: Path) -> None:
    path = patch(tmp_path, "A pytest plug-in", "Something")
    path.write_text(path.read_text().replace("A pytest plug-in", "What was here once"))
    assert verdict(runner, healthy, path) == (False, "no longer applies")


def test_a_test_that_is_not_there(runner: ModuleType, healthy: Path, tmp_path: Path) -> None:
    path = patch(tmp_path, "A pytest plug-in", "Something", test=f"{TEST}s")
    assert verdict(runner, healthy, path) == (False, "its tests fail without it")


def test_a_patch_that_names_no_test(runner: ModuleType, healthy: Path, tmp_path: Path) -> None:
    path = patch(tmp_path, "A pytest plug-in", "Something")
    path.write_text(path.read_text().replace(runner.MARK, "#"))
    killed, note = verdict(runner, healthy, path)
    assert not killed
    assert note.startswith("names no test")
