"""What projections can be asked by routes of their own, and what they answer."""

from typing import Any, Literal

from ledger.models.answered import Answer


class ParameterOut(Answer):
    """A parameter of a question: what it takes in words, whether it may be given several times,
    whether it is needed, and what it is (as JSON) where it is left out."""

    name: str
    takes: str
    several: bool
    required: bool
    default: Any = None


class QueryOut(Answer):
    """One thing that a projection can be asked: `GET /v1/ask/PROJECTION/QUERY?PARAMETER=…`."""

    query: str
    text: str
    parameters: list[ParameterOut]


class AskableOut(Answer):
    """A projection, the question that it answers, and its queries. `asked_by`: operators alone;
    `owners`: users too, of themselves, where a query takes a `user`; or anyone."""

    projection: str
    version: int
    question: str
    asked_by: Literal["operators", "owners", "anyone"]
    queries: list[QueryOut]


class AskablesOut(Answer):
    """All that can be asked."""

    projections: list[AskableOut]


class AskedOut(Answer):
    """What a query gave: rows as objects, numbers, texts, or lists of these. Times are µs."""

    projection: str
    query: str
    answer: Any
    position: int
