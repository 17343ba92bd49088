"""`docs/reference/commands.md`, made from the application."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.cli import exits
from ledger.cli.app import COMMANDS, build

INTRODUCTION = """# Commands

Data goes to stdout, talk to stderr. `-o` chooses how data is written: `table`, `wide` (more
columns), `json` (the whole answer), `jsonl` (one object a line), `csv`, `name` (numbers or names
only). Jobs are named `17`, or `17_3` for a task of an array; nodes `n3` or `n[1-4,7]`.

Durations: `90`, `2h30m`, `02:30:00`, `1-00:00:00`. A bare number is seconds, but for the time limit
of a job (`-t`), where it is minutes as in Slurm. Moments: RFC 3339, or local `2026-11-20T10:00`,
`2026-11-20`, `10:00`, `-2h`, `now`, `yesterday 10:00`, `tuesday` (the last one before today).

The directives of a script, `#SBATCH` or `#JOBLEDGER`, are the options of `submit` of the same
names, and `-q` for `--qos`. The command line wins over them; unknown ones are listed and ignored.
"""


@contextmanager
def _started_as(name: str) -> Iterator[None]:
    """The library names our groups of commands after the program that runs: let it be ours."""
    before = sys.argv
    sys.argv = [name]
    try:
        yield
    finally:
        sys.argv = before


def commands_page() -> str:
    """The page."""
    with _started_as("jobledger"):
        whole = build([name for _, commands in COMMANDS for name in commands])
        made = whole.generate_docs(heading_level=2, flatten_commands=True, usage_name="jobledger")
    _, _, listed = made.partition("\n## jobledger submit\n")  # behind its own tables of contents
    statuses = ["## Exit status", "", "| status | meaning |", "|---|---|"]
    statuses += [f"| {status} | {meaning} |" for status, meaning in exits.MEANINGS.items()]
    statuses += [
        "",
        "`wait` and `run` end as their job did: its exit code, 128 + the signal that ended it, 124",
        "for its time limit, 137 for too much memory, 143 if it was cancelled, else 1.",
    ]
    body = f"## jobledger submit\n{listed}"
    return f"{INTRODUCTION}\n" + "\n".join(statuses) + "\n\n" + body.strip() + "\n"
