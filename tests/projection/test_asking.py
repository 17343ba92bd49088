"""What can be asked is read off the queries; what is written for them is what they are called with,
or a refusal that names the parameter."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.projection import Projection
from ledger.projection.asking import BadQuestion, asked, question, questions, written
from ledger_projections import usage


class Box(msgspec.Struct, frozen=True):
    """Something that only JSON can say."""

    side: int
    words: dict[str, int] = {}


def many(  # type: ignore[no-untyped-def] # one parameter is bare
    connection: object,
    job: int,
    *,
    user: str = "",
    held: bool | None = None,
    share: float = 0.5,
    by: Sequence[Literal["day", "pool"]] = (),
    jobs: tuple[int, ...] | None = None,
    kind: Literal["a", "b"] = "a",
    box: Box | None = None,
    bare=1,
) -> dict[str, Any]:
    """A question with every kind of parameter."""
    return {}


ODD = Projection("odd", version=1, tables=(), queries=(many,))
QUESTION = question(ODD, "many")
assert QUESTION is not None


def test_a_question_tells_of_itself() -> None:
    assert QUESTION is not None
    assert QUESTION.text == "A question with every kind of parameter."
    assert {p.name: p.words for p in QUESTION.parameters} == {
        "job": "a whole number",
        "user": "text",
        "held": "true or false",
        "share": "a number",
        "by": "several, each one of day, pool",
        "jobs": "several, each a whole number",
        "kind": "one of a, b",
        "box": "JSON",
        "bare": "text",
    }
    assert [p.name for p in QUESTION.parameters if p.required] == ["job"]
    assert [one.name for one in questions(usage.PROJECTION)] == ["usage", "span"]
    assert question(ODD, "few") is None


def test_what_is_written_becomes_what_is_meant() -> None:
    assert QUESTION is not None
    given = {
        "job": ["17"],
        "held": ["true"],
        "share": ["0.25"],
        "by": ["day", "pool"],
        "jobs": ["3", "4"],
        "kind": ["b"],
        "box": ['{"side": 2, "words": {"a": 1}}'],
        "user": [],
    }
    assert asked(QUESTION, given) == {
        "job": 17,
        "held": True,
        "share": 0.25,
        "by": ["day", "pool"],
        "jobs": (3, 4),
        "kind": "b",
        "box": Box(2, {"a": 1}),
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs job: a whole number"),
        ({"job": ["x"]}, "job: 'x' is not a whole number"),
        ({"job": ["1", "2"]}, "given 2 times"),
        ({"job": ["9" * 20]}, "64 bits"),
        ({"job": ["1"], "jobs": ["1", "-" + "9" * 20]}, "64 bits"),
        ({"job": ["1"], "box": ['{"side": 1, "words": {"a": %s}}' % ("9" * 20)]}, "64 bits"),
        ({"job": ["1"], "kind": ["c"]}, "not one of a, b"),
        ({"job": ["1"], "by": ["day", "week"]}, "not several, each one of"),
        ({"job": ["1"], "box": ["{"]}, "not JSON"),
        ({"job": ["1"], "user": ["a\0b"]}, "NUL"),
        ({"job": ["1"], "held": ["perhaps"]}, "not true or false"),
        ({"job": ["1"], "nonsense": ["1"]}, "no parameter 'nonsense'; it has job, user"),
    ],
)
def test_what_can_not_be_meant_is_named(given: dict[str, list[str]], said: str) -> None:
    assert QUESTION is not None
    with pytest.raises(BadQuestion, match=said):
        asked(QUESTION, given)


@given(st.dictionaries(st.sampled_from(["job", "user", "by", "box", "jobs", "x"]),
                       st.lists(st.text(max_size=20), max_size=3)))  # fmt: skip
def test_no_text_breaks_it(given: dict[str, list[str]]) -> None:
    assert QUESTION is not None
    try:
        assert asked(QUESTION, given)
    except BadQuestion as error:
        assert str(error)  # noqa: PT017


def test_an_answer_that_can_not_be_sent_says_so() -> None:
    assert written([Box(1), (2, None), {3: "x"}]) == b'[{"side":1,"words":{}},[2,null],{"3":"x"}]'
    with pytest.raises(BadQuestion, match="can't be written"):
        written([object()])
    with pytest.raises(BadQuestion, match="ask for less"):
        written("x" * 9_000_000)


def positional(connection: object, job: int, /) -> None:
    """Can't be given by name."""


def any_more(connection: object, **more: int) -> None:
    """Nobody can tell what it takes."""


def taken(connection: object, at: int = 0) -> None:
    """Every question has that already."""


def jobless(connection: object, user: str = "") -> None:
    """Is not about one job."""


@pytest.mark.parametrize("query", [positional, any_more, taken])
def test_a_query_that_could_not_be_asked_is_no_query(query: Any) -> None:
    with pytest.raises(ValueError, match=query.__name__):
        Projection("odd", version=1, tables=(), queries=(query,))


def test_a_query_about_one_job_takes_a_job() -> None:
    with pytest.raises(ValueError, match="no parameter job"):
        Projection("odd", version=1, tables=(), queries=(jobless,), by_job=(jobless,))
