"""`impact --salvage`: whom the loss of the whole service hit, out of whatever is left of it."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.cli import exits, shown
from ledger.cli.common import Format
from ledger.cli.exits import Stop, say
from ledger.cli.shown import when
from ledger.cli.text import line
from ledger.cli.words import shown_duration, shown_nodes

if TYPE_CHECKING:
    from ledger.models import SalvagedJobOut, SalvagedUserOut, SalvageOut, SalvageSourceOut
    from ledger.salvage.report import NothingLeft

RUNBOOK = "docs/runbooks/everything-is-gone.md"
TITLES = ("USER", "ACCOUNT", "JOB", "ATTEMPT", "NODES", "BEGAN", "WHAT BECAME OF IT", "AT STAKE")
EFFECTS = {
    "waiting": "waited: submit again",
    "not_begun": "had not begun: submit again",
    "may_run": "may run on",
    "unknown": "ran, its end is not known",
    "out_of_contact": "ran on a node that was lost",
    "lost": "was lost with its node",
}
TELL_EVERYBODY = (
    "The batch service has failed, and its records can't be read. We can't tell whose jobs were "
    "hit. Please take every job of yours that had not ended as lost: look at its output, and "
    "submit what you still need again once we say that the service is back."
)


def salvaged(paths: Sequence[Path], since: datetime | None, form: Format) -> int:
    """Print the list; status 65 where nothing of what was named can be read."""
    from ledger.models import SalvagedJobOut, SalvagedUserOut
    from ledger.salvage.report import NothingLeft, salvage

    start = None if since is None else int(since.timestamp() * 1_000_000)
    people = form in ("table", "wide")
    try:
        progress = _progress if sys.stderr.isatty() else None
        found = salvage(paths, _here if people else _anywhere, start, progress)
        if progress is not None:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
    except NothingLeft as nothing:
        raise _nothing(nothing) from None
    if people:
        _table(found, fit=form == "table")
    elif form == "csv":
        shown.plain(
            [_flat(user, job) for user in found.users for job in user.jobs],
            form,
            ("user", "account", *SalvagedJobOut.model_fields),
        )
    elif form == "name":
        for name in dict.fromkeys(user.user for user in found.users):
            shown.data(line(name))
    else:
        shown.write(
            found.users, [], form, of=SalvagedUserOut, name=lambda user: user.user, tree=found
        )
    return exits.OK


def _progress(position: int, reach: int) -> None:
    sys.stderr.write(f"\rread up to position {position} of {max(position, reach)} … ")
    sys.stderr.flush()


def _here(micros: int) -> str:
    return when(datetime.fromtimestamp(micros / 1_000_000, UTC))


def _anywhere(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1_000_000, UTC).isoformat().replace("+00:00", "Z")


def _nothing(nothing: "NothingLeft") -> Stop:
    for source in nothing.sources:
        say(f"{line(str(source.path))}: {line('; '.join(source.trouble))}.")
    say("Tell everybody, for instance:")
    say(f"  {TELL_EVERYBODY}")
    return Stop(
        exits.DATA,
        "Nothing of what was named can be read: whom the loss hit can't be told.",
        f"{RUNBOOK} says where else something may be left.",
    )


def _flat(user: "SalvagedUserOut", job: "SalvagedJobOut") -> dict[str, object]:
    told = job.model_dump(mode="json")
    told["nodes"] = ",".join(job.nodes)
    return {"user": user.user, "account": user.account, **told}


def _table(found: "SalvageOut", *, fit: bool) -> None:
    shown.data(line(found.verdict))
    titles = [
        "USER",
        "ACCOUNT",
        "JOB",
        "ATTEMPT",
        "NODES",
        "BEGAN",
        "WHAT BECAME OF IT",
        "AT STAKE",
    ]
    cells = [_cells(user, job) for user in found.users for job in user.jobs]
    sure = all(job.known_from == "log" for user in found.users for job in user.jobs)
    if sure:
        cells = [row[:-1] for row in cells]
    else:
        titles.append("KNOWN FROM")
    right = [title == "AT STAKE" for title in titles]
    if cells:
        shown.table(titles, cells, right=right, fit=fit)
        _sums(found)
    shown.data("\nWhat was read:")
    shown.table(
        ["", "SOURCE", "KIND", "POSITIONS", "UNTIL", "TROUBLE"],
        [["", *cells] for cells in _sources(found.sources)],
        fit=False,
    )
    _list("What can't be known:", found.unknown)
    _list("What to do:", [*found.advice, f"Whom to tell what: {RUNBOOK}."])


def _sums(found: "SalvageOut") -> None:
    again = sum(user.submit_again for user in found.users)
    owner = sum(user.needs_owner for user in found.users)
    stake = shown_duration(sum(user.at_stake_node_s for user in found.users))
    shown.data(
        f"Never ran, to be submitted again: {again}. In all, to be looked after by their owners: "
        f"{owner}. Node time at stake: {stake}."
    )


def _cells(user: "SalvagedUserOut", job: "SalvagedJobOut") -> list[str]:
    return [
        user.user,
        user.account,
        str(job.job),
        str(job.attempt or ""),
        shown_nodes(job.nodes),
        when(job.began_at),
        _became(job),
        shown_duration(job.at_stake_node_s) if job.at_stake_node_s else "",
        {"log": "the log", "unproven": "what is not proven", "spool": "a spool"}[job.known_from],
    ]


def _became(job: "SalvagedJobOut") -> str:
    if job.effect != "ended":
        return EFFECTS[job.effect]
    code = f" ({job.exit_code})" if job.exit_code else ""
    return f"ended: {(job.end or 'not known how').replace('_', ' ')}{code}"


def _sources(sources: "Sequence[SalvageSourceOut]") -> Iterator[list[str]]:
    """What was read, a source a row; spools that are whole make one."""
    whole = [source for source in sources if source.kind == "spool" and not source.trouble]
    for source in sources:
        if len(whole) < 2 or source not in whole:
            yield [source.path, *_of(source)]
    if len(whole) > 1:
        last = max((source.at for source in whole if source.at), default=None)
        yield [f"{len(whole)} spools", *_of(whole[0].model_copy(update={"at": last}))]


def _of(source: "SalvageSourceOut") -> list[str]:
    positions = f"{source.first}\N{EN DASH}{source.last}" if source.last else ""
    return [source.kind, positions, when(source.at), "; ".join(source.trouble)]


def _list(title: str, sentences: Sequence[str]) -> None:
    shown.data(f"\n{title}")
    for sentence in sentences:
        shown.data(f"  - {line(sentence)}")
