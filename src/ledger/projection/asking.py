"""What projections can be asked, told by the questions themselves: their names, docstrings and
annotated parameters. So a query needs no route and no command of its own."""

import inspect
import types
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from ledger.projection.model import Projection

MOST_BYTES = 8 << 20
"""Of an answer: what is larger would keep everybody else waiting while it is written."""

_encode = msgspec.json.Encoder().encode
_WORDS = {int: "a whole number", str: "text", bool: "true or false", float: "a number"}


class BadQuestion(ValueError):
    """A question that can't be understood; a sentence that names the parameter at fault."""


class Parameter(NamedTuple):
    """A parameter of a question. `many`: it takes several values. `kind` is what a query's
    annotation says, `default` what it is where it is left out, as JSON has it."""

    name: str
    kind: Any
    many: bool
    required: bool
    default: Any

    @property
    def words(self) -> str:
        """What may be given, in words."""
        return words(self.kind)


class Question(NamedTuple):
    """A query of a projection, and what it says of itself."""

    projection: Projection
    name: str
    text: str
    parameters: tuple[Parameter, ...]

    @property
    def whose(self) -> bool:
        """Can it be asked of one user?"""
        return any(parameter.name == "user" for parameter in self.parameters)


def questions(projection: Projection) -> list[Question]:
    """All that a projection can be asked, in its own order."""
    return [_question(projection, name) for name in projection.queries]


def question(projection: Projection, name: str) -> Question | None:
    """One question by its name; None if there is none."""
    return _question(projection, name) if name in projection.queries else None


def _question(projection: Projection, name: str) -> Question:
    query = projection.queries[name]
    try:
        kinds = get_type_hints(query)
    except Exception:  # a name that only a type checker knows: then it is text
        kinds = {}
    found = []
    for p in list(inspect.signature(query).parameters.values())[1:]:
        kind = kinds.get(p.name, str)
        required = p.default is p.empty
        default = None if required else _plain(p.default)
        found.append(Parameter(p.name, kind, _many(kind), required, default))
    return Question(projection, name, inspect.getdoc(query) or "", tuple(found))


def _plain(value: Any) -> Any:
    """A value as JSON has it; as its text where JSON has none."""
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except (TypeError, msgspec.MsgspecError):
        return str(value)


def asked(question: Question, given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What to call a query with, out of what was written for each parameter. Raises `BadQuestion`.

    A parameter that takes several values is written several times; one that is neither text nor a
    number, nor several of these, is written as JSON.
    """
    known = {p.name: p for p in question.parameters}
    for name in given:
        if name not in known:
            may = ", ".join(known) or "none"
            raise BadQuestion(f"{question.name} has no parameter {name[:64]!r}; it has {may}.")
    for p in question.parameters:
        if p.required and not given.get(p.name):
            raise BadQuestion(f"{question.name} needs {p.name}: {p.words}.")
    return {name: _value(known[name], texts) for name, texts in given.items() if texts}


def _value(parameter: Parameter, texts: Sequence[str]) -> Any:
    name = parameter.name
    if not parameter.many and len(texts) > 1:
        raise BadQuestion(f"{name} is given {len(texts)} times, and takes one value.")
    if any("\0" in text for text in texts):
        raise BadQuestion(f"{name} has a NUL.")
    raw = list(texts) if parameter.many else texts[0]
    try:
        try:
            found = msgspec.convert(raw, parameter.kind, strict=False)
        except msgspec.ValidationError:
            if len(texts) != 1:
                raise
            found = msgspec.json.decode(texts[0], type=parameter.kind)
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        shown = ", ".join(texts)[:64]
        raise BadQuestion(f"{name}: {shown!r} is not {parameter.words}.") from None
    if not _fits(_plain(found)):
        raise BadQuestion(f"{name}: a whole number may have 64 bits.")
    return found


def _fits(value: Any) -> bool:
    """Can every database of ours compare with it?"""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, Mapping):
        return all(map(_fits, value.values()))
    return isinstance(value, str) or not isinstance(value, Iterable) or all(map(_fits, value))


def _bare(kind: Any) -> Any:
    """A type without None."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [arg for arg in get_args(kind) if arg is not type(None)]
        return rest[0] if len(rest) == 1 else kind
    return kind


def _many(kind: Any) -> bool:
    bare = get_origin(_bare(kind)) or _bare(kind)
    return isinstance(bare, type) and issubclass(bare, Collection) and not issubclass(
        bare, str | bytes | Mapping
    )  # fmt: skip


def words(kind: Any) -> str:
    """A type in words."""
    bare = _bare(kind)
    if bare in _WORDS:
        return _WORDS[bare]
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(map(str, get_args(bare)))
    if _many(bare):
        inner = [arg for arg in get_args(bare) if arg is not Ellipsis]
        return f"several, each {words(inner[0])}" if len(inner) == 1 else "several, as JSON"
    return "JSON"


def written(answer: Any) -> bytes:
    """An answer as JSON. Raises `BadQuestion` where it can't be sent."""
    try:
        found = _encode(msgspec.to_builtins(answer, str_keys=True))
    except (TypeError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadQuestion(f"the answer can't be written as JSON: {error}") from None
    if len(found) > MOST_BYTES:
        raise BadQuestion(
            f"the answer has {len(found)} bytes, more than {MOST_BYTES}: ask for less"
        )
    return found
