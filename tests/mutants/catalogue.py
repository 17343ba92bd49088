"""The page of the seeded bugs, made from the heads of their patches.

    python -m tests.mutants.catalogue

writes `docs/explanation/seeded-bugs.md`; a test compares the page with the patches.
"""

from .run import ROOT, Mutant, mutants

PAGE = ROOT / "docs" / "explanation" / "seeded-bugs.md"
LISTED = (
    "no fence",
    "no idempotency",
    "late finish accepted",
    "requeue before lease+margin",
    "agent restarts same attempt",
    "agent keeps running after lease",
    "tracking committed separately",
    "tracking before rows",
    "cursor moved before publish",
    "retry of failed fsync",
    "synchronous=NORMAL",
    "id order ≠ commit order",
    "snapshot newer than tail",
    "breaker denominator shrinks",
    "breaker counter lost at restart",
    "late report charged twice",
    "exclude list ignored by backfill",
    "reservation ignored by deadline override",
    "kill by pgid only",
    "adopt by PID only",
    "upcaster missing",
    "skip in live but not in rebuild",
    "notification on replay",
    "wall clock lease",
    "job id from max(projection) instead of log",
    "completed job rerun after agent restart",
    "scheduler not restarted after failover",
    "start on empty state dir",
    "epoch checked before, not in, the transaction",
    "secret env stored",
)
"""Bugs that other systems of this kind have had, or would have; each should be tried here."""

NOT_SEEDED = {
    "id order ≠ commit order": "No single mistake makes it: positions are counted, not drawn from "
    "a sequence. Without the append lock two writers count the same ones, and the database refuses "
    "the second.",
    "breaker denominator shrinks": "There is no brake on automation yet.",
    "breaker counter lost at restart": "There is no brake on automation yet.",
    "reservation ignored by deadline override": "There are no reservations and no overrides yet.",
}

NEAR = {
    "notification on replay": "Here: what was sent still waits to be, in the fold.",
    "cursor moved before publish": "Here: of an attempt's output.",
    "late report charged twice": "Here: recorded twice. Only an attempt's one end is charged.",
    "exclude list ignored by backfill": "There is no backfill yet; the planner obeys it.",
    "adopt by PID only": "Agents adopt nothing yet; what they kill they know by its start, too.",
    "secret env stored": "Values of the environment are never taken; tokens are secrets, too.",
}
"""What differs here from what the list means."""

HEAD = """\
# Seeded bugs: what the tests notice

A suite that never failed proves nothing. So bugs are kept as patches in `tests/mutants/`, and every
run of the tests seeds each of them in a copy of the tree and sees the tests that are named for it
fail: all of them, by an assertion, and not because the copy can't be imported or takes too long.
`make mutants` shows it. This page is made from the heads of the patches by
`python -m tests.mutants.catalogue`.

## Bugs of other systems

The list is of bugs that schedulers, queues and event stores have had, or had to be built around.
"""


def page(wanted: list[Mutant]) -> str:
    """The page about these mutants."""
    lines = [HEAD, "| bug | patch | noticed by |", "|---|---|---|"]
    for item in LISTED:
        found = [mutant for mutant in wanted if item in mutant.seeds]
        shown = f"{item}. {NEAR[item]}" if item in NEAR else item
        lines += [row(shown, mutant) for mutant in found]
        if not found:
            lines.append(f"| {item} | none | {NOT_SEEDED[item]} |")
    lines += ["", "## Bugs of our own making", "", "| bug | patch | noticed by |", "|---|---|---|"]
    for mutant in wanted:
        lines += [row(bug, mutant) for bug in mutant.seeds if bug not in LISTED]
    return "\n".join([*lines, ""])


def row(bug: str, mutant: Mutant) -> str:
    """A line of the table."""
    tests = "<br>".join(f"`{test}`" for test in mutant.tests)
    return f"| {bug} | `{mutant.name}` | {tests} |"


if __name__ == "__main__":
    PAGE.write_text(page(mutants()))
