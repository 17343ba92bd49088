"""The pages of `docs/reference` that are made from the code, so that they can't be wrong.

    python -m ledger.testing.reference [DOCS]     writes them (default: docs), as `make docs` does
    python -m ledger.testing.reference --shapes   prints the shapes of all events as JSON

A page is a function that returns Markdown; `PAGES` says where each goes. A test compares the files
with these functions. The shapes of a release's events are kept as `tests/logs/events-vN.json`; a
test proves that this release still reads every field in them.
"""

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from pydantic import SecretStr

from ledger.cli.reference import commands_page
from ledger.domain import causes, explain, permissions, rules_of_use
from ledger.domain.errors import Refusal, refusals
from ledger.domain.service import POLICY_BOUNDS, POLICY_FIELDS
from ledger.domain.state import Policy
from ledger.events import EVENTS, Envelope, Event, Part, abuse, base, jobs, nodes, outages, service
from ledger.settings import Settings
from ledger.testing.faults import faults_page
from ledger.testing.http import http_page

Page = Callable[[], str]
Shape = dict[str, dict[str, Any]]

WORDS = {type(None): "null", Path: "path", SecretStr: "str, kept secret"}
STAND_IN: Any = types.SimpleNamespace(job="N", first_job="N", node="X", outage="N", notice="N")


def events_page() -> str:
    """Every event, by family, with its stored name, its origin, its stream and its fields."""
    parts = [part for part in part_types() if part is not Envelope]
    blocks = [
        "# Events",
        "Everything that can stand in a log. Made from `src/ledger/events/`; change it there and"
        " run `make docs`.",
        inspect.getdoc(base) or "",
        "An event is stored as the JSON object `{by, via, request, event}`; the field `event` holds"
        " what is listed here. Fields that have their default are left out.",
    ]
    for family in (jobs, nodes, outages, service, abuse):
        blocks.append(f"## {(inspect.getdoc(family) or '').splitlines()[0].rstrip('.')}")
        for name, cls in EVENTS.items():
            if cls.__module__ == family.__name__:
                stream = cls.stream.fget(STAND_IN)  # type: ignore[attr-defined]
                blocks += [
                    f"### {cls.__name__}",
                    f"`{name}` · origin `{cls.origin}` · stream `{stream}`",
                    inspect.getdoc(cls) or "",
                    field_table(cls),
                ]
    blocks.append("## Pieces of events")
    for part in parts:
        blocks += [f"### {part.__name__}", inspect.getdoc(part) or "", field_table(part)]
    return page(blocks)


def errors_page() -> str:
    """Every refusal with its code, its HTTP status, what it says and what to do about it."""
    blocks = [
        "# Refusals",
        "Every refusal there is, in order of precedence: where several apply, the first is given."
        " Made from `src/ledger/domain/errors.py`; change it there and run `make docs`.",
        "Over HTTP a refusal is `application/problem+json` with these codes; on the command line"
        " the sentence and the hint are printed on standard error.",
    ]
    for family in (cls for cls in refusals() if cls in Refusal.__subclasses__()):
        rows = [cls for cls in refusals() if issubclass(cls, family)]
        lines = ["| code | status | meaning | what to do |", "|---|---|---|---|"]
        lines += [
            f"| `{cls.code}` | {cls.status} | {cell(inspect.getdoc(cls))} | {cell(cls.hint)} |"
            for cls in rows
        ]
        blocks += [f"## {family.__name__}", "\n".join(lines)]
    return page(blocks)


def settings_page() -> str:
    """Every setting with its environment variable, its type, its default and its meaning."""
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        given = isinstance(field.default, str | int | float) and field.default
        default = f"`{json.dumps(field.default)}`" if given else ""
        lines.append(
            f"| `JOBLEDGER_{name.upper()}` | {cell(type_words(field.annotation))} |"
            f" {default} | {cell(field.description)} |"
        )
    blocks = [
        "# Settings",
        "Made from `src/ledger/settings.py`; change it there and run `make docs`. Each is an"
        " environment variable; an option of the same name on the command line wins over it.",
        "\n".join(lines),
    ]
    return page(blocks)


def permissions_page() -> str:
    """Who may do what: action by role."""
    words = {"any": "yes", "own": "own", "no": ""}
    lines = ["| action | user | operator | node | join token | what it is |"]
    lines += ["|---|---|---|---|---|---|"]
    for action, rule in permissions.TABLE.items():
        cells = " | ".join(
            words[getattr(rule, role)] for role in ("user", "operator", "node", "join")
        )
        lines.append(f"| `{action}` | {cells} | {cell(rule.what)} |")
    blocks = [
        "# Permissions",
        "Who may do what. Made from `src/ledger/domain/permissions.py`; change it there and run"
        " `make docs`. `own`: for users their own jobs and tokens, for nodes and join tokens what"
        " bears their own name. Who somebody is comes from his credential alone.",
        "\n".join(lines),
        "Of a job that has ended the master does not remember the owner: a request to change it is"
        " answered `job_ended` to whoever could have asked for it.",
    ]
    return page(blocks)


def reasons_page() -> str:
    """Why a job waits: every token."""
    blocks = [
        "# Reasons",
        "Why a pending job waits, in Slurm's words where the meaning is the same. Exactly one is"
        " true at a time: the first of holds, dependencies, begin time, nodes, jobs before it."
        " Made from `src/ledger/domain/explain.py`; change it there and run `make docs`.",
        words_table("reason", explain.REASONS),
    ]
    return page(blocks)


def policy_page() -> str:
    """Every field of the policy: what holds until it is set, its bounds, its meaning."""
    lines = ["| field | default | least | greatest | meaning |", "|---|---|---|---|---|"]
    first = Policy()
    for name in POLICY_FIELDS:
        low, high = POLICY_BOUNDS[name]
        default = getattr(first, name)
        lines.append(
            f"| `{name}` | {default:,} | {low:,} | {high:,} | {cell(rules_of_use.WORDS[name])} |"
        )
    blocks = [
        "# The policy",
        "What operators may set (`jobledger policy set`), and everybody may see"
        " (`jobledger policy show`). A change is an event, and holds from then on. What ends in"
        " `_s` is seconds, in `_bytes` bytes. Made from `src/ledger/domain/service.py` and"
        " `src/ledger/domain/rules_of_use.py`; change it there and run `make docs`.",
        "\n".join(lines),
    ]
    return page(blocks)


def causes_page() -> str:
    """Every cause that an event may name."""
    blocks = [
        "# Causes",
        "What the field `cause` of events says. Made from `src/ledger/domain/causes.py`; change it"
        " there and run `make docs`.",
        "## Of an attempt's end",
        words_table("cause", causes.ATTEMPTS),
        "## Of the end of a job that was pending",
        words_table("cause", causes.JOBS),
        "## Of a node's change of state",
        words_table("cause", causes.NODES),
        "## Of the beginning of an outage",
        words_table("cause", causes.OUTAGES),
    ]
    return page(blocks)


def words_table(title: str, words: dict[str, str]) -> str:
    """Words and their meanings as a table."""
    lines = [f"| {title} | meaning |", "|---|---|"]
    return "\n".join(lines + [f"| `{word}` | {cell(what)} |" for word, what in words.items()])


PAGES: dict[str, Page] = {
    "reference/events.md": events_page,
    "reference/errors.md": errors_page,
    "reference/settings.md": settings_page,
    "reference/permissions.md": permissions_page,
    "reference/reasons.md": reasons_page,
    "reference/causes.md": causes_page,
    "reference/policy.md": policy_page,
    "reference/commands.md": commands_page,
    "reference/http.md": http_page,
    "reference/faults.md": faults_page,
}


def page(blocks: Iterable[str]) -> str:
    """Markdown blocks, with an empty line between them."""
    return "\n\n".join(block for block in blocks if block) + "\n"


def cell(text: str | None) -> str:
    """A text as one line that does not end its table cell."""
    return " ".join((text or "").split()).replace("|", "\\|")


def field_table(cls: type[msgspec.Struct]) -> str:
    """A struct's fields as a table: name, type, default."""
    lines = ["| field | type | default |", "|---|---|---|"]
    hints = typing.get_type_hints(cls)
    lines += [
        f"| `{field.name}` | {cell(type_words(hints[field.name]))} | {default_words(field)} |"
        for field in msgspec.structs.fields(cls)
    ]
    return "\n".join(lines) if len(lines) > 2 else ""


def default_words(field: msgspec.structs.FieldInfo) -> str:
    """What a field is when it is left out; empty when it must be given."""
    if field.default is not msgspec.NODEFAULT:
        default = field.default
    elif field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    else:
        return ""
    return f"`{json.dumps(msgspec.to_builtins(default))}`"


def type_words(hint: Any) -> str:
    """A type as a reader of JSON understands it, such as `int`, `JobSpec, …` or `"a" | "b"`."""
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(type_words(argument) for argument in arguments)
    if origin is tuple:
        return f"list of {type_words(arguments[0])}"
    if origin is dict:
        return f"object of {type_words(arguments[0])}: {type_words(arguments[1])}"
    return WORDS.get(hint) or str(hint.__name__)


def part_types() -> list[type[Part]]:
    """The pieces that events are made of, by name."""

    def below(cls: type[Part]) -> Iterable[type[Part]]:
        for sub in cls.__subclasses__():
            if not issubclass(sub, Event):
                yield sub
                yield from below(sub)

    ours = {cls for cls in below(Part) if cls.__module__.startswith("ledger.events.")}
    return sorted(ours, key=lambda cls: cls.__name__)


def shapes() -> dict[str, Shape]:
    """Each event by its stored name and each piece by its class: field -> type, and if required.

    A type is a sentence, or for a choice the list of its values, which may grow.
    """
    named: dict[str, type[Part]] = {cls.__name__: cls for cls in part_types()}
    return {name: shape(cls) for name, cls in (named | EVENTS).items()}


def shape(cls: type[Part]) -> Shape:
    """The fields of one event or piece."""
    hints = typing.get_type_hints(cls)
    return {
        field.name: {
            "required": field.required,
            "type": list(typing.get_args(hints[field.name]))
            if typing.get_origin(hints[field.name]) is typing.Literal
            else type_words(hints[field.name]),
        }
        for field in msgspec.structs.fields(cls)
    }


def main(arguments: list[str]) -> None:
    """Write the pages, or print the shapes, as the module's docstring says."""
    if arguments == ["--shapes"]:
        sys.stdout.write(json.dumps(shapes(), indent=1, sort_keys=True) + "\n")
        return
    docs = Path(arguments[0] if arguments else "docs")
    for name, write in PAGES.items():
        target = docs / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(write())


if __name__ == "__main__":
    main(sys.argv[1:])
