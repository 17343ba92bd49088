"""`contact …` and `notice …`, as a person and a program see them."""

import io
from pathlib import Path

import pytest

from .conftest import Call, Service

SECRET = "jsons://ann:Swordfish@hooks.example.org/Trout"  # noqa: S105 - one that was never good
CHANNEL = {"scheme": "jsons", "host": "hooks.example.org", "problem": ""}
CONTACT = {"owner": "ann", "desk": False, "by_default": False, "channels": [CHANNEL], "position": 9}
NOTICE = {
    "notice": 3,
    "outage": 17,
    "to": "ann",
    "desk": False,
    "why": "hit",
    "pool": "",
    "due_at": "2026-11-20T10:06:00Z",
    "sent_at": None,
    "channels": [],
    "tries": 2,
    "next_at": "2026-11-20T10:08:00Z",
    "error": "jsons: it answered 503",
}
LETTER = {
    "to": "ann",
    "desk": False,
    "channels": [CHANNEL],
    "title": "Outage 17 hit 1 of your jobs (a preview)",
    "body": "Outage 17 hit 1 job of yours.\n",
    "position": 9,
}


@pytest.fixture
def ann(service: Service) -> Service:
    """A service that knows who asks."""
    service.say("GET", "/v1/whoami", {"name": "ann", "role": "user", "how": "token"})
    service.say("PUT", "/v1/contacts/ann", CONTACT)
    return service


def test_an_address_with_a_secret_is_read_from_a_file_and_not_shown(
    ann: Service, call: Call, tmp_path: Path
) -> None:
    file = tmp_path / "hook"
    file.write_text(f"{SECRET}\n\n")
    done = call("contact", "set", "--file", str(file))
    assert ann.body == {"addresses": [SECRET], "desk": False}
    assert done.err == "ann is told over jsons://hooks.example.org.\n"
    assert "Swordfish" not in done.out + done.err


def test_addresses_come_from_stdin_where_none_are_named(
    ann: Service, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"a@b.org\n{SECRET}\n"))
    assert call("contact", "set", "-q").err == ""
    assert ann.body["addresses"] == ["a@b.org", SECRET]


def test_what_can_be_no_address_is_refused_without_repeating_it(
    ann: Service, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    for words in ([], ["x" * 1001], [f"{SECRET}\tx"], ["a@b.org"] * 6, ["a@b.org", "--file", "f"]):
        done = call("contact", "set", *words)
        assert done.status == 64, words
        assert "Swordfish" not in done.err
    assert call("contact", "set", "--user", "bob", "--desk", "help", "a@b.org").status == 64


def test_how_somebody_is_told(ann: Service, call: Call) -> None:
    late = CHANNEL | {"scheme": "mailto", "problem": "no mail server is set"}
    ann.say("GET", "/v1/contacts/ann", CONTACT | {"channels": [CHANNEL, late], "by_default": True})
    lines = call("contact", "show").out.splitlines()
    assert lines[0].endswith("mailto://hooks.example.org, as the site does by default.")
    assert lines[-1].split(maxsplit=1)[1] == "no mail server is set"
    ann.say("GET", "/v1/contacts", {"contacts": [CONTACT], "position": 9})
    assert call("contact", "list").out.splitlines()[1].split()[:3] == [
        "ann",
        "user",
        "jsons://hooks.example.org",
    ]
    ann.say("GET", "/v1/contacts", {"contacts": [], "position": 9})
    assert "jobledger contact set" in call("contact", "list").err
    ann.say("DELETE", "/v1/contacts/ann", {"state": "removed", "changed": True, "position": 9})
    assert call("contact", "remove").err == "How ann is told is forgotten.\n"


def test_a_test_message_that_nobody_takes_ends_with_1(ann: Service, call: Call) -> None:
    ann.say("POST", "/v1/contacts/ann/test", {"channels": [CHANNEL]})
    done = call("contact", "test")
    assert (done.status, done.out) == (0, "jsons://hooks.example.org: taken\n")
    bad = CHANNEL | {"problem": "no such host"}
    ann.say("POST", "/v1/contacts/ann/test", {"channels": [bad]})
    assert call("contact", "test").status == 1


def test_notices_in_a_list_and_one(ann: Service, call: Call) -> None:
    ann.say("GET", "/v1/notices", {"notices": [NOTICE], "next": None, "position": 9})
    (titles, row) = call("notice", "list", "--outage", "17").out.splitlines()
    assert titles.split()[:6] == ["NOTICE", "OUTAGE", "TO", "WHY", "DUE", "STATE"]
    assert row.split()[:4] == ["3", "17", "ann", "hit"]
    assert row.endswith("jsons: it answered 503")
    assert ann.requests[-1].url.params["outage"] == "17"
    ann.say("GET", "/v1/notices", {"notices": [], "next": None, "position": 9})
    assert call("notice", "list").err == "Nobody was told anything yet.\n"
    ann.say("GET", "/v1/notices/3", NOTICE | {"letter": LETTER, "position": 9})
    shown = call("notice", "show", "3").out
    assert "outage 17: it hit his jobs" in shown
    assert "Outage 17 hit 1 job of yours." in shown


def test_a_preview_is_the_text_alone(ann: Service, call: Call) -> None:
    ann.say("GET", "/v1/notices/preview", LETTER)
    done = call("notice", "preview", "17")
    assert done.out == (
        "Subject: Outage 17 hit 1 of your jobs (a preview)\n\nOutage 17 hit 1 job of yours.\n"
    )
    assert done.err == "To ann, over jsons://hooks.example.org:\n"
    assert dict(ann.requests[-1].url.params) == {"outage": "17", "why": "hit", "to": "ann"}
    call("notice", "preview", "17", "--desk", "help")
    assert ann.requests[-1].url.params["why"] == "service"
