"""The pages made from the code are what the code says, and no event ever loses a field."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledger.events import EVENTS
from ledger.testing.reference import PAGES, shapes

ROOT = Path(__file__).parent.parent.parent
BASELINES = sorted((ROOT / "tests" / "logs").glob("events-v*.json"))


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    path = ROOT / "docs" / name
    assert path.exists(), f"docs/{name} is missing: run `make docs`"
    assert path.read_text() == PAGES[name](), f"docs/{name} is out of date: run `make docs`"


def test_every_event_is_on_the_page() -> None:
    page = (ROOT / "docs" / "reference" / "events.md").read_text()
    assert [name for name in EVENTS if f"`{name}`" not in page] == []


def test_there_is_a_baseline() -> None:
    assert BASELINES, "tests/logs/ holds no shapes of released events"


@pytest.mark.parametrize("path", BASELINES, ids=lambda path: path.stem)
def test_what_was_written_once_is_read_for_ever(path: Path) -> None:
    assert losses(json.loads(path.read_text()), shapes()) == []


def test_a_loss_is_noticed() -> None:
    old = {"a.v1": {"x": field("int"), "y": field(["p", "q"])}}
    assert losses(old, {}) == ["a.v1 is gone"]
    assert losses(old, {"a.v1": {"x": field("str"), "y": field(["p", "q"])}}) == [
        "a.v1.x was int and is str"
    ]
    assert losses(old, {"a.v1": {"y": field(["p"])}}) == [
        "a.v1.x is gone",
        "a.v1.y no longer knows q",
    ]
    grown = {"a.v1": {"x": field("int"), "y": field(["p", "q", "r"]), "z": field("int", True)}}
    assert losses(old, grown) == ["a.v1.z has no default"]


def field(kind: str | list[str], required: bool = False) -> dict[str, Any]:
    return {"type": kind, "required": required}


def losses(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What an older log may hold that the new shapes can't read."""
    found = []
    for name, fields in old.items():
        if name not in new:
            found.append(f"{name} is gone")
            continue
        for key, was in fields.items():
            found += field_losses(f"{name}.{key}", was, new[name].get(key))
        added = set(new[name]) - set(fields)
        found += [f"{name}.{key} has no default" for key in added if new[name][key]["required"]]
    return found


def field_losses(name: str, was: dict[str, Any], now: dict[str, Any] | None) -> list[str]:
    if now is None:
        return [f"{name} is gone"]
    found = []
    if isinstance(was["type"], list) and isinstance(now["type"], list):
        lost = [value for value in was["type"] if value not in now["type"]]
        found += [f"{name} no longer knows {', '.join(lost)}"] if lost else []
    elif was["type"] != now["type"]:
        found.append(f"{name} was {was['type']} and is {now['type']}")
    if now["required"] and not was["required"]:
        found.append(f"{name} lost its default")
    return found
