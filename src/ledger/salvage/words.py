"""What a salvage comes to, in sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ledger.models import SalvagedUserOut
from ledger.nodenames import folded
from ledger.salvage.sources import Export, Source

if TYPE_CHECKING:
    from ledger.salvage.live import Job
    from ledger.salvage.report import Salvaged


When = Callable[[int], str]
"""How a moment (µs) is written."""


def verdict(made: Salvaged, when: When) -> str:
    """The sentence that says it all."""
    extent = made.extent
    log = [job for job in made.jobs if job.known_from == "log"]
    behind = [job for job in made.jobs if job.known_from == "unproven"]
    spooled = [job for job in made.jobs if job.known_from == "spool"]
    spools = count(len(made.spools.used), "agent's spool", "agents' spools")
    one = len(made.spools.used) == 1
    if extent.proven.position:
        said = f"The log is whole up to position {extent.proven.position} ({when(extent.at)}): "
        if extent.unproven:
            said = f"The log is whole up to position {extent.proven.position}, and can be read "
            said += f"in part up to {extent.last} ({when(extent.at)}): "
        said += f"{_jobs(log)} {_were(log)} live then"
        said += f", and what is behind the break adds {_jobs(behind)}" if behind else ""
    elif extent.last:
        said = "The beginning of the log is lost, and nothing proves what can be read of it, up to "
        said += f"position {extent.last} ({when(extent.at)}): {_jobs(behind)} seem to have been "
        said += "live then"
    else:
        names = f"name{'s' * one} {_jobs(spooled)}"
        return f"No log can be read: {spools} {names} that had begun."
    if made.spools.used:
        known = sum(made.spools.of(job) is not None for job in log + behind if job.running)
        told = f"say{'s' * one} what became of {known} of them, and " if known else ""
        said += f"; {spools} {told}add{'s' * one} {_jobs(spooled)}"
    return said + "."


def unknown(made: Salvaged, users: Sequence[SalvagedUserOut], when: When) -> Iterator[str]:
    """What can't be known, in sentences."""
    yield from _behind_the_end(made, when)
    yield from _gaps(made)
    silent = sorted(
        {
            job.nodes[0]
            for user in users
            for job in user.jobs
            if job.effect in ("unknown", "out_of_contact") and job.nodes
        }
    )
    if silent:
        yield (
            f"What became of what ran on {folded(silent)}: the spools of the agents there are not "
            "among what was read, or say nothing of it."
        )
    if any(job.known_from == "spool" for job in made.jobs):
        yield (
            "What the jobs asked for that only spools know, and which accounts they were of; and "
            "which others were submitted with them and had not begun."
        )
    for name, number in {**made.extent.unknown, **made.extent.broken}.items():
        yield f"What {count(number, 'event')} called {name!r} say: this release can't read them."


def _behind_the_end(made: Salvaged, when: When) -> Iterator[str]:
    extent, witness = made.extent, made.spools.witness
    if not extent.last:
        yield "Which jobs waited, and whatever only the log had: no spool knows of them."
    else:
        yield (
            f"What was submitted, started or ended after {when(extent.at)}, but for what spools "
            "tell: no copy goes further."
        )
    if witness.position > extent.last:
        node = f" of {witness.node}" if witness.node else ""
        yield (
            f"The log had gone on to position {witness.position} at least, which the agent{node} "
            f"was shown: {witness.position - extent.last} positions or more are missing at its end."
        )


def _gaps(made: Salvaged) -> Iterator[str]:
    extent = made.extent
    if not extent.unproven:
        return
    missing = ", ".join(f"{g.first} to {g.last}" for g in extent.gaps[:5])
    more = f" and {len(extent.gaps) - 5} other ranges" if len(extent.gaps) > 5 else ""
    lost = f"Positions {missing}{more} can't be read. " if extent.gaps else ""
    yield (
        f"{lost}Whether what stands behind position {extent.proven.position} is as it was written: "
        f"{count(extent.unproven, 'event')} there can be read, and the chain does not prove "
        "them. Jobs may have ended, or been submitted, in between."
    )


def advice(made: Salvaged) -> Iterator[str]:
    """What may be better than asking people to submit again."""
    proven = made.extent.proven.position
    whole = [
        source
        for source in made.sources
        if proven and source.last == proven and source.first == 1 and not source.trouble
    ]
    for source in whole:
        if source.kind == "log":
            how = "copy it (and its -wal), try `jobledger log verify` on the copy, then a master"
        elif isinstance(source, Export):
            verb = "backup restore" if source.kind == "backup" else "log import"
            how = f"make a log of it with `jobledger {verb}`"
        else:
            continue
        yield (
            f"{source.path} holds all of the log up to there. Before anybody submits again: {how} "
            "(docs/runbooks/restore.md)."
        )
        return


def another_log(source: Source) -> str:
    """Why a source was left out."""
    if source.other == 1:
        return "it is of another log, and was left out: ask for it alone"
    return f"from position {source.other} on it tells of another log, and was left out there"


def count(number: int, noun: str, several: str = "") -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def _jobs(jobs: Sequence[Job]) -> str:
    if not jobs:
        return "no job"
    users = count(len({job.user for job in jobs}), "user")
    return f"{count(len(jobs), 'job')} of {users}"


def _were(jobs: Sequence[Job]) -> str:
    return "was" if len(jobs) <= 1 else "were"
