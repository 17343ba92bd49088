"""The golden logs of all releases are read for ever, and say what they always said."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from ledger.domain.cluster import fold
from ledger.domain.snapshot import STATE_VERSION, from_bytes, to_bytes
from ledger.domain.state import Cluster
from ledger.events import EVENTS, Recorded
from ledger.store.location import db_upgrade
from ledger.store.transfer import import_
from ledger.store.verify import verify
from ledger.testing.golden import digest, read, said
from places import Place

LOGS = Path(__file__).parent.parent / "logs"
GOLDEN = sorted(LOGS.glob("v*/golden.ndjson"))


def events(path: Path) -> list[Recorded]:
    """What a golden log holds."""
    return list(read(path.read_bytes().splitlines()))


def promised(path: Path) -> dict[str, Any]:
    """What it came to when it was written."""
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def test_there_is_one() -> None:
    assert GOLDEN, "tests/logs/ holds no golden log"


def test_everything_that_can_happen_happens_in_the_newest() -> None:
    missing = set(EVENTS.values()) - {type(r.event) for r in events(GOLDEN[-1])}
    assert missing == set()


@pytest.mark.fault("H7")
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_it_says_what_it_always_said(path: Path) -> None:
    assert said(fold(events(path))) == promised(path)["said"]


@pytest.mark.fault("H7")
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_it_comes_to_the_same_bytes(path: Path) -> None:
    digests = promised(path)["digests"]
    assert str(STATE_VERSION) in digests, (
        "the state has another version: look at what changed, then add its digest to "
        f"{path.with_suffix('.json').name}"
    )
    assert digest(fold(events(path))) == digests[str(STATE_VERSION)], (
        "the state has other bytes: STATE_VERSION must be raised with them"
    )


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_a_checkpoint_anywhere_in_it_changes_nothing(path: Path) -> None:
    whole = digest(fold(events(path)))
    c = Cluster()
    for recorded in events(path):
        c = fold([recorded], from_bytes(to_bytes(c)))
    assert digest(c) == whole


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name)
def test_its_chain_holds(path: Path, tmp_path: Path) -> None:
    place = Place(tmp_path / "data", None)
    db_upgrade(place.data, None)
    log = place.open()
    head = import_(log, BytesIO(path.read_bytes()))
    assert head.position == promised(path)["said"]["position"]
    assert verify(log).head == head
    log.close()
