"""`ask`: whatever a projection can be asked, ours or anybody's."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Service, now
from ledger.cli.exits import say
from ledger.cli.text import json_text, line, lines
from ledger.cli.words import BadWord, moment

if TYPE_CHECKING:
    from ledger.cli.common import Format
    from ledger.models import AskableOut, AskablesOut, AskedOut

Row = dict[str, Any]


def ask(
    projection: Annotated[str, Parameter(help="Which projection; left out: list them.")] = "",
    query: Annotated[str, Parameter(help="Which of its queries; left out: list them.")] = "",
    /,
    *,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
    **given: Annotated[
        list[str],
        Parameter(
            help="The query's own parameters: --user ann; one that takes several, several times.",
            allow_leading_hyphen=True,
        ),
    ],
) -> int:
    """Ask a projection, ours or one that is installed beside; alone, list what can be asked.

    Times are µs on the wire: a column whose name ends in _at is shown as a time, and one may be
    given as -2h or 2026-11-20 for a parameter of such a name, for since and for until.
    """
    with at.client() as client:
        if query:
            found = past.of(client).ask(projection, query, **_asked(given))
            _write(found, form)
            return exits.OK
        askables = client.askable()
    _list(askables, projection, form)
    return exits.OK


def _asked(given: dict[str, list[str]]) -> dict[str, list[str]]:
    """Parameters as the service takes them: their names with underscores, times as µs."""
    asked = {}
    for word, texts in given.items():
        name = word.replace("-", "_")
        timely = name in ("since", "until") or name.endswith("_at")
        asked[name] = [_micros(text) if timely else text for text in texts]
    return asked


def _micros(text: str) -> str:
    if text.isascii() and text.isdigit():
        return text
    return str(int(moment(text, now()).timestamp() * 1_000_000))


def _list(found: "AskablesOut", projection: str, form: "Format") -> None:
    """What can be asked: of all projections shortly, of one at length."""
    some = [one for one in found.projections if projection in ("", one.projection)]
    if not some:
        there = ", ".join(one.projection for one in found.projections) or "none"
        raise BadWord(f"There is no projection {projection!r}; there is {there}.")
    if form == "json":
        kept = found.model_copy(update={"projections": some})
        shown.data(json_text(kept.model_dump(mode="json"), indent=2))
    elif form in ("jsonl", "csv", "name"):
        shown.plain([_row(one, query) for one in some for query in one.queries], form)
    elif projection or form == "wide":
        for one in some:
            _at_length(one)
    else:
        rows = [
            (one.projection, query.query, _first_sentence(query.text))
            for one in some
            for query in one.queries
        ]
        shown.table(["PROJECTION", "QUERY", "WHAT IT GIVES"], rows)
        say("`jobledger ask PROJECTION` says what its queries take.")


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".") + "."


def _row(one: "AskableOut", query: Any) -> Row:
    told = query.model_dump(mode="json")
    return {"projection": one.projection, "asked_by": one.asked_by, **told}


def _at_length(one: "AskableOut") -> None:
    shown.sentence(f"{one.projection}: {line(one.question)} (asked by {one.asked_by})")
    for query in one.queries:
        shown.data(f"\n  jobledger ask {one.projection} {query.query}")
        for n, paragraph in enumerate(lines(query.text).split("\n\n")):
            if n:
                shown.data("")
            shown.sentence(" ".join(paragraph.split()), indent=4)
        for p in query.parameters:
            default = json_text(p.default)
            need = "needed" if p.required else f"else {default}" if p.default else "may be left out"
            shown.data(f"    --{p.name.replace('_', '-')}: {line(p.takes)} ({line(need)})")
    shown.data("")


def _write(found: "AskedOut", form: "Format") -> None:
    if form == "json":
        shown.data(json_text(found.model_dump(mode="json"), indent=2))
        return
    parts = _parts(found.answer)
    if form in ("jsonl", "csv", "name"):
        _write_plain(parts, form)
        return
    if all(part in (None, [], {}) for part in parts):
        say("Nothing.")
    for part in parts:
        _show(part, wide=form == "wide")
    shown.data(f"As of position {found.position}.")


def _parts(answer: Any) -> list[Any]:
    """An answer that is rows and something more, such as where the next page begins, in parts."""
    if isinstance(answer, list) and any(isinstance(part, list) for part in answer):
        return answer
    return [answer]


def _is_rows(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and all(isinstance(row, dict) for row in part)


def _write_plain(parts: list[Any], form: "Format") -> None:
    """For programs; what stands beside rows, such as where the next page begins, is none of them,
    and is said."""
    many = any(isinstance(part, list | dict) for part in parts)
    for part in parts:
        if isinstance(part, list | dict) or not many:
            _plain(part, form)
        elif part is not None:
            say(f"Beside the rows: {_cell('', part)}")


def _plain(part: Any, form: "Format") -> None:
    if _is_rows(part):
        shown.plain(part, form)
    elif isinstance(part, dict):
        shown.plain([part] * bool(part), form)
    elif isinstance(part, list):
        for one in part:
            shown.data(json_text(one) if form == "jsonl" else _cell("", one))
    elif part is not None:
        shown.data(json_text(part) if form == "jsonl" else _cell("", part))


def _show(part: Any, *, wide: bool) -> None:
    if part in (None, [], {}):
        return
    if _is_rows(part):
        _table(part, wide=wide)
    elif isinstance(part, dict):
        shown.pairs((name, _cell(name, value)) for name, value in part.items())
    elif isinstance(part, list):
        for one in part:
            shown.data(_cell("", one))
    else:
        shown.data(_cell("", part))


def _table(rows: list[Row], *, wide: bool) -> None:
    """Rows as a table; a column in which nothing stands is left out, unless all are wanted."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [_cell(name, row.get(name)) for row in rows] for name in names}
    kept = [name for name in names if wide or any(text not in ("", "no") for text in cells[name])]
    numbers = [
        all(isinstance(row.get(name), int | float | None) for row in rows)
        and not name.endswith("_at")
        for name in kept
    ]
    titles = [name.upper().replace("_", " ") for name in kept]
    shown.table(titles, zip(*(cells[name] for name in kept), strict=True), right=numbers,
                fit=not wide)  # fmt: skip


def _cell(name: str, value: Any) -> str:
    """A value in few words: a time where the name says so, lists by commas, what is deeper as
    JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_at") and isinstance(value, int):
        return shown.when(datetime.fromtimestamp(value / 1_000_000, UTC)) if value else ""
    if isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        return line(",".join(map(str, value)))
    return line(json_text(value) if isinstance(value, list | dict) else str(value))
