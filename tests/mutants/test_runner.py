"""The runner itself: it tells a noticed bug from one that nobody notices."""

import difflib
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TEST = "tests/house/test_evidence.py::test_the_first_figure"
MODULE = "src/ledger/testing/evidence.py"


def patch(folder: Path, name: str, new: str, *, old: str = "*lines[:start]", head: str = "") -> str:
    """A patch that writes `new` for `old` in a module that `TEST` runs."""
    was = (HERE.parent.parent / MODULE).read_text()
    assert old in was
    before, after = was.splitlines(keepends=True), was.replace(old, new).splitlines(keepends=True)
    diff = "".join(difflib.unified_diff(before, after, f"a/{MODULE}", f"b/{MODULE}"))
    text = f"{head or f'# seeds: something{chr(10)}# killed by: {TEST}{chr(10)}'}{diff}"
    (folder / f"{name}.patch").write_text(text)
    return text


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bool, str]]:
    """What the runner says of some patches: killed, and the first line of its note."""
    folder = tmp_path_factory.mktemp("patches")
    patch(folder, "noticed", "*lines[:1]")
    patch(folder, "unnoticed", "Something", old="A pytest plug-in")
    outdated = patch(folder, "outdated", "*lines[:1]").replace("*lines[:start]", "*what_was_once")
    (folder / "outdated.patch").write_text(outdated)
    patch(folder, "no-such-test", "*lines[:1]", head=f"# seeds: x\n# killed by: {TEST}s\n")
    patch(folder, "names-no-test", "*lines[:1]", head="# seeds: something\n")
    patch(folder, "breaks-the-import", "import nothing_of_this_name\nimport os", old="import os")
    patch(folder, "raises", "*lines[0, 0]")
    command = [sys.executable, str(HERE / "run.py"), "--json", "--patches", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    return {
        verdict["mutant"]: (verdict["killed"], verdict["note"].split("\n")[0])
        for verdict in json.loads(done.stdout)
    }


@pytest.mark.parametrize(
    ("name", "killed", "note"),
    [
        ("noticed", True, ""),
        ("unnoticed", False, f"survived {TEST}"),
        ("outdated", False, "no longer applies"),
        ("no-such-test", False, f"without it, {TEST}s: does not run"),
        ("names-no-test", False, "begin the patch with `# seeds:` and `# killed by:`"),
        ("breaks-the-import", False, f"{TEST}: no assertion"),
        ("raises", False, f"{TEST}: no assertion"),
    ],
)
def test_what_it_says_of_a_patch(
    verdicts: dict[str, tuple[bool, str]], name: str, killed: bool, note: str
) -> None:
    assert verdicts[name] == (killed, note)
