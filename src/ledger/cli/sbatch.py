"""The `#SBATCH` and `#JOBLEDGER` lines of a job script.

They stand before the first line that is neither empty nor a comment, as for `sbatch`. What we have
no equal for is not refused but listed, so that a script of another cluster can be tried as it is.
"""

import shlex
from typing import Any, NamedTuple

from ledger.cli.words import BadWord

PREFIXES = ("#SBATCH", "#JOBLEDGER")
SHORT = {
    "J": "job-name",
    "A": "account",
    "p": "partition",
    "N": "nodes",
    "t": "time",
    "C": "constraint",
    "x": "exclude",
    "d": "dependency",
    "b": "begin",
    "H": "hold",
    "a": "array",
    "q": "qos",
    "o": "output",
    "D": "chdir",
}
FLAGS = frozenset({"hold", "requeue", "no-requeue"})
OPPOSITE = {"requeue": "no-requeue", "no-requeue": "requeue"}
KNOWN = frozenset(SHORT.values()) | FLAGS | {"comment"}
OTHERS_WITH_VALUE = frozenset("BcdeFGijkLMnoSwx")
"""One-letter options of sbatch, unknown here, whose value may be the next word."""


class Directives(NamedTuple):
    """What a script asks for: options by long name (flags have None), and what was ignored."""

    options: dict[str, str | None]
    ignored: list[str]


def directives(script: str) -> Directives:
    """Read a script's directives; a later line wins. Raises `BadWord` with the line's number."""
    options: dict[str, str | None] = {}
    ignored: list[str] = []
    for number, line in enumerate(script.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            break
        prefix, _, rest = text.partition(" ") if " " in text else text.partition("\t")
        if prefix not in PREFIXES:
            continue
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:
            raise BadWord(f"Line {number}: {text!r} has a quote without its end.") from None
        _take(words, options, ignored, f"Line {number}: {text!r}")
    return Directives(options, ignored)


def _take(words: list[str], options: dict[str, str | None], ignored: list[str], where: str) -> None:
    """Enter the options that a line's words are."""
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        name, value = _split(word)
        if not name:
            raise BadWord(f"{where} has {word!r} where an option should stand.")
        if name in FLAGS:
            options[name] = None
            options.pop(OPPOSITE.get(name, ""), None)
            continue
        known = name in KNOWN
        takes_next = known or (len(name) == 1 and name in OTHERS_WITH_VALUE) or len(name) > 1
        following = words[position] if position < len(words) else None
        if value is None and takes_next and following is not None and not following.startswith("-"):
            value, position = following, position + 1
        if not known:
            ignored.append(word if value is None or word.endswith(value) else f"{word} {value}")
        elif value is None:
            raise BadWord(f"{where} has no value for {word}.")
        else:
            options[name] = value


def _split(word: str) -> tuple[str, str | None]:
    """The long name and value of `--name=value`, `--name`, `-Nvalue` or `-N`; "" for no option."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None
    if word.startswith("-") and len(word) > 1:
        letter = word[1]
        return SHORT.get(letter, letter), word[2:].removeprefix("=") or None
    return "", None


def features(text: str) -> tuple[str, ...]:
    """The features of `-C`: a list joined by `&` or commas. All are wanted."""
    if any(sign in text for sign in "|[]()*"):
        raise BadWord(
            f"The constraint {text!r} can't be carried out: only lists joined by & are understood."
        )
    return tuple(part.strip() for part in text.replace(",", "&").split("&") if part.strip())


def dependencies(text: str) -> list[dict[str, Any]]:
    """The dependencies of `-d`: `afterok:1:2,afterany:3`."""
    found: list[dict[str, Any]] = []
    for clause in text.split(","):
        kind, *jobs = clause.strip().split(":")
        if kind not in ("afterok", "afterany", "afternotok") or not jobs:
            raise BadWord(
                f"The dependency {clause!r} can't be carried out: write afterok:17, afterany:17 or "
                "afternotok:17, several joined by commas."
            )
        for job in jobs:
            if not (job.isascii() and job.isdigit() and len(job) <= 15 and int(job) > 0):
                raise BadWord(f"The dependency {clause!r} names {job!r}, which is not a job's id.")
            found.append({"kind": kind, "job": int(job)})
    return found
