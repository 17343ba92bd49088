"""`ask`: what can be asked, and answers of any shape, as a person or a program reads them."""

import json
import re
from typing import Any

import pytest

from .conftest import Call, Service

USAGE = 64
PARAMETERS = [
    {"name": "job", "takes": "whole number", "several": False, "required": True},
    {"name": "held_since", "takes": "text", "several": True, "required": False, "default": ["x"]},
    {"name": "user", "takes": "text", "several": False, "required": False, "default": ""},
]
ASKABLE = {
    "projections": [
        {
            "projection": "names",
            "version": 1,
            "question": "What are jobs called?",
            "asked_by": "anyone",
            "queries": [
                {"query": "of", "text": "A job's name.\n\nAll of it.", "parameters": PARAMETERS},
                {"query": "all", "text": "Every name.", "parameters": []},
            ],
        }
    ]
}
ROWS = [
    {"user": "ann\x1b[2J", "jobs": 12, "seen_at": 1_764_150_000_000_000, "on": ["n1", "n2"],
     "held": False, "note": None, "more": {"a": [1]}},
    {"user": "bob", "jobs": 7, "seen_at": 0, "on": [], "held": False, "note": None, "more": {}},
]  # fmt: skip


@pytest.fixture
def names(service: Service) -> Service:
    """A service with one projection."""
    service.say("GET", "/v1/ask", ASKABLE)
    return service


def answer(service: Service, value: Any) -> None:
    body = {"projection": "names", "query": "of", "answer": value, "position": 40}
    service.say("GET", "/v1/ask/names/of", body)


def test_alone_it_lists_what_can_be_asked(names: Service, call: Call) -> None:
    listed = call("ask").out.splitlines()
    assert listed[0].split() == ["PROJECTION", "QUERY", "WHAT", "IT", "GIVES"]
    assert re.split(r"\s{2,}", listed[1]) == ["names", "of", "A job's name."]
    told = call("ask", "names").out
    assert told.startswith("names: What are jobs called? (asked by anyone)\n")
    assert "  jobledger ask names of\n    A job's name.\n\n    All of it.\n" in told
    assert '    --job: whole number (needed)\n    --held-since: text (else ["x"])\n' in told
    assert json.loads(call("ask", "-o", "json").out) == json.loads(
        call("ask", "names", "-o", "json").out
    )
    assert [json.loads(one)["query"] for one in call("ask", "-o", "jsonl").out.splitlines()] == [
        *("of", "all"),
    ]
    unknown = call("ask", "nonsense")
    assert (unknown.status, "there is names" in unknown.err) == (USAGE, True)


def test_parameters_are_asked_with_as_written(names: Service, call: Call) -> None:
    answer(names, [])
    words = ("--job", "17", "--held-since", "-1", "--held-since", "b c", "--at-position", "9")
    done = call("ask", "names", "of", *words)
    assert done.err == "Nothing.\n"
    asked = names.requests[-1].url.params
    assert asked.multi_items() == [
        ("job", "17"), ("held_since", "-1"), ("held_since", "b c"), ("at_position", "9")
    ]  # fmt: skip
    call("ask", "names", "of", "--since", "2026-11-20T10:00:00Z", "--ended-at", "17", "--x", "-2h")
    assert dict(names.requests[-1].url.params) == {
        "since": "1795168800000000",
        "ended_at": "17",
        "x": "-2h",
    }


def test_rows_are_a_table(names: Service, call: Call) -> None:
    answer(names, ROWS)
    assert call("ask", "names", "of").out.splitlines() == [
        r"USER        JOBS  SEEN AT              ON     MORE",
        r'ann\x1b[2J    12  2025-11-26 09:40:00  n1,n2  {"a": [1]}',
        r"bob            7                              {}",
        r"As of position 40.",
    ]
    wide = call("ask", "names", "of", "-o", "wide").out.splitlines()[0]
    assert wide.split() == ["USER", "JOBS", "SEEN", "AT", "ON", "HELD", "NOTE", "MORE"]
    assert call("ask", "names", "of", "-o", "csv").out.splitlines() == [
        "user,jobs,seen_at,on,held,note,more",
        r'ann\x1b[2J,12,1764150000000000,"n1,n2",false,,"{""a"": [1]}"',
        "bob,7,0,,false,,{}",
    ]
    assert json.loads(call("ask", "names", "of", "-o", "json").out)["answer"] == ROWS
    lines = call("ask", "names", "of", "-o", "jsonl").out.splitlines()
    assert [json.loads(one) for one in lines] == ROWS
    assert call("ask", "names", "of", "-o", "name").out.splitlines()[1] == "bob"


@pytest.mark.parametrize("form", ["csv", "jsonl", "name"])
def test_where_the_next_page_begins_is_no_row(form: str, names: Service, call: Call) -> None:
    answer(names, ROWS)
    alone = call("ask", "names", "of", "-o", form)
    answer(names, [ROWS, "17"])
    done = call("ask", "names", "of", "-o", form)
    assert (done.out, done.err) == (alone.out, "Beside the rows: 17\n")
    answer(names, [ROWS, None])
    assert call("ask", "names", "of", "-o", form) == alone


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (17, "17\n"),
        ("a\tb", "a\\x09b\n"),
        (["n1", "n2"], "n1\nn2\n"),
        ({"user": "ann", "empty": ""}, "user  ann\n"),
        ([[{"job": 1}], "next"], "JOB\n  1\nnext\n"),
        ([[{"job": 1}], None], "JOB\n  1\n"),
        ([[1, 2], [3, 4]], "1\n2\n3\n4\n"),
    ],
)
def test_other_answers(names: Service, call: Call, value: Any, shown: str) -> None:
    answer(names, value)
    assert call("ask", "names", "of").out == shown + "As of position 40.\n"


@pytest.mark.parametrize("value", [None, [], {}, [[], None]])
def test_an_empty_answer_says_so(names: Service, call: Call, value: Any) -> None:
    answer(names, value)
    done = call("ask", "names", "of")
    assert (done.out, done.err) == ("As of position 40.\n", "Nothing.\n")
    for form in ("jsonl", "csv", "name"):
        assert call("ask", "names", "of", "-o", form).out == ""
