"""From what a user wrote (options, directives, a script) to the job that is asked for."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ledger.cli.sbatch import dependencies, features
from ledger.cli.words import BadWord, duration, moment, node_names
from ledger.models import JobIn

Fields = dict[str, Any]


def job(
    options: Mapping[str, str | None],
    *,
    argv: tuple[str, ...] = (),
    script: str = "",
    name: str = "",
    now: datetime,
    here: Path,
) -> tuple[JobIn, list[str]]:
    """The job that options by their long names (flags have None) describe, and remarks on what of
    them is not carried out. `name` is used if none is asked for; relative paths start at `here`.

    Raises `BadWord`, also for what the service would refuse as malformed.
    """
    from pydantic import ValidationError

    fields: Fields = {"argv": argv, "script": script, "name": name}
    remarks: list[str] = []
    for option, value in options.items():
        try:
            fields |= _CONVERTERS[option](value or "", now)
        except BadWord as error:
            raise BadWord(f"--{option}: {error}") from None
    _paths(fields, here, remarks)
    if "%" in fields.get("array", ""):
        fields["array"], _, most = fields["array"].partition("%")
        remarks.append(f"--array: the limit of {most} tasks at a time is ignored")
    try:
        return JobIn(**{k: v for k, v in fields.items() if v not in ("", ())}), remarks
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "job"
        option = _OPTION_OF.get(field, field)
        message = first["msg"].removeprefix("Value error, ")
        raise BadWord(f"{option}: {_readable(field, first['input'], message)}") from None


def _paths(fields: Fields, here: Path, remarks: list[str]) -> None:
    """Make paths absolute: the node that runs the job knows nothing of where we are."""
    if fields.get("workdir"):
        fields["workdir"] = str(here / fields["workdir"])
    output = fields.get("output_path", "")
    if "%" in output:
        remarks.append(f"--output {output}: file names with % are ignored; see `jobledger output`")
        del fields["output_path"]
    elif output:
        fields["output_path"] = str(here / fields.get("workdir", "") / output)


def _readable(field: str, value: Any, message: str) -> str:
    """What is wrong with a value, without pydantic's regular expressions."""
    if "pattern" in message:
        kind = "a list of indices such as 0-9" if field == "array" else "a name"
        message = f"is not {kind}"
    return f"{str(value)[:80]!r} {message[:1].lower()}{message[1:]}."


def _nodes(text: str, _: datetime) -> Fields:
    low, dash, high = text.partition("-")
    numbers = (low, high) if dash else (low,)
    if not all(n.isascii() and n.isdigit() and len(n) <= 9 for n in numbers):
        raise BadWord(f"{text!r} is not a number of nodes.")
    if dash and int(low) != int(high):
        raise BadWord(f"{text!r}: a range of node counts can't be asked for; write {low}.")
    return {"nodes": int(low)}


def _begin(text: str, now: datetime) -> Fields:
    return {"begin_at": moment(text, now, ahead=True).astimezone(UTC)}


def _as(field: str) -> Callable[[str, datetime], Fields]:
    return lambda text, _: {field: text}


_CONVERTERS: dict[str, Callable[[str, datetime], Fields]] = {
    "job-name": _as("name"),
    "account": _as("account"),
    "partition": _as("pool"),
    "qos": _as("qos"),
    "comment": _as("comment"),
    "array": _as("array"),
    "output": _as("output_path"),
    "chdir": _as("workdir"),
    "nodes": _nodes,
    "time": lambda text, _: {"time_limit_s": duration(text, bare=60)},
    "constraint": lambda text, _: {"features": features(text)},
    "exclude": lambda text, _: {"exclude": node_names(text)},
    "dependency": lambda text, _: {"depends": dependencies(text)},
    "begin": _begin,
    "hold": lambda *_: {"held": True},
    "requeue": lambda *_: {"restartable": True},
    "no-requeue": lambda *_: {"restartable": False},
}
_OPTION_OF = {
    "name": "--job-name",
    "account": "--account",
    "pool": "--partition",
    "qos": "--qos",
    "comment": "--comment",
    "array": "--array",
    "output_path": "--output",
    "workdir": "--chdir",
    "nodes": "--nodes",
    "time_limit_s": "--time",
    "features": "--constraint",
    "exclude": "--exclude",
    "depends": "--dependency",
}
