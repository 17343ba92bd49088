"""Every seeded bug is noticed by the tests that are named for it, and stands on the page."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import catalogue, run

HERE = Path(__file__).resolve().parent
PATCHES = sorted(patch.stem for patch in HERE.glob("*.patch"))


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What became of every mutant that is asked about: two processes try half of them each."""
    asked = [item.callspec.params["name"] for item in request.session.items if asks(item)]  # type: ignore[attr-defined]
    command = [sys.executable, str(HERE / "run.py"), "--json"]
    trying = [
        subprocess.Popen([*command, *some], stdout=subprocess.PIPE, text=True)
        for some in (asked[::2], asked[1::2])
        if some
    ]
    found = [verdict for one in trying for verdict in json.loads(one.communicate()[0])]
    return {verdict["mutant"]: verdict for verdict in found}


def asks(item: pytest.Item) -> bool:
    killed = test_the_seeded_bug_is_killed.__name__
    return isinstance(item, pytest.Function) and item.originalname == killed


@pytest.mark.parametrize("name", PATCHES)
@pytest.mark.timeout(1200)
def test_the_seeded_bug_is_killed(name: str, verdicts: dict[str, Any]) -> None:
    assert verdicts[name]["killed"], verdicts[name]["note"]


def test_the_page_says_what_the_patches_say() -> None:
    assert catalogue.PAGE.read_text() == catalogue.page(run.mutants())


def test_every_bug_of_the_list_is_seeded_or_said_why_not() -> None:
    seeded = {bug for mutant in run.mutants() for bug in mutant.seeds}
    listed = set(catalogue.LISTED)
    assert len(listed) == 30
    assert len(seeded & listed) >= 20
    assert listed - seeded == set(catalogue.NOT_SEEDED)
