"""`node history` and `node failures`: what happened on nodes, and which of them are suspect."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from cyclopts import Parameter
from pydantic import BaseModel

from ledger.cli import exits, shown
from ledger.cli.common import NOWHERE, PRESENT, AsOf, OutputFormat, Service
from ledger.cli.exits import say
from ledger.cli.shown import Column, when
from ledger.cli.text import json_text, line
from ledger.cli.words import BadWord, moment, node_names
from ledger.models import MachineOut, NodePeriodOut, StayOut, SuspectOut

if TYPE_CHECKING:
    from ledger.cli.common import Format
    from ledger.client.blocking import Client
    from ledger.models import NodeCauseOut

PAGE = 500
MOST = 1_000
Part = Literal["states", "software", "jobs"]
PARTS: tuple[Part, ...] = ("states", "software", "jobs")
Since = Annotated[str, Parameter(help="From when: -7d, 2026-11-20.", allow_leading_hyphen=True)]
Until = Annotated[str, Parameter(help="Until when; left out: now.", allow_leading_hyphen=True)]


def history(
    name: Annotated[str, Parameter(help="A node: n3.")],
    /,
    *,
    only: Annotated[
        Part | None, Parameter(help="Only its states, its software, or the jobs that ran there.")
    ] = None,
    since: Since = "",
    until: Until = "",
    failed: Annotated[
        bool, Parameter(negative="", help="Only jobs, and of these only those that failed there.")
    ] = False,
    limit: Annotated[
        int, Parameter(name=["--limit", "-n"], help="At most so many of each; 0: all.")
    ] = 20,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """Say what happened on a node and why, what it had installed, and which jobs ran there.

    The latest comes first. A node is serving while it takes jobs, idle or not. CSV and JSON lines
    are rows of one part: the states, unless --only names another.
    """
    node, parts = _name(name), (only,) if only else (("jobs",) if failed else PARTS)
    if form in ("jsonl", "csv", "name"):
        parts = parts[:1]
    with at.client() as client:
        then = past.of(client)
        window = _window(since, until, past, then)
        found = {part: _ask(then, node, part, window, failed, limit) for part in parts}
    if form in ("jsonl", "csv", "name"):
        _plain(parts[0], found[parts[0]].rows, form)
    elif form == "json":
        told = {part: [row.model_dump(mode="json") for row in found[part].rows] for part in parts}
        position = min(some.position for some in found.values())
        shown.data(json_text({"node": node, **told, "position": position}, indent=2))
    else:
        _show(node, found, limit, wide=form == "wide")
    return exits.OK


class _Some(NamedTuple):
    """Rows of a part of a node's history; `more`: there are others beyond the limit."""

    rows: list[Any]
    more: bool
    position: int


def _window(since: str, until: str, past: AsOf, then: "Client") -> dict[str, str]:
    told = {"since": since, "until": until}
    return {name: moment(t, past.now(then)).isoformat() for name, t in told.items() if t}


def _ask(
    client: "Client", node: str, part: Part, window: dict[str, str], failed: bool, limit: int
) -> _Some:
    if part == "software":
        answer = client.node_history(node, **window, limit=min(limit or MOST, MOST))
        return _Some(answer.machines, len(answer.machines) == limit, answer.position)
    if part == "states":
        return _pages(lambda **p: client.node_history(node, **window, **p), "states", limit)
    asked = {**window, "failed": str(failed).lower()}
    return _pages(lambda **p: client.node_jobs(node, **asked, **p), "attempts", limit)


def _pages(ask: Callable[..., Any], rows: str, limit: int) -> _Some:
    """Page after page until there are `limit` rows, or all."""
    found: list[Any] = []
    cursor: int | str = ""
    while True:
        page = ask(limit=min(limit - len(found), PAGE) if limit else PAGE, cursor=cursor)
        found += getattr(page, rows)
        if page.next is None or (limit and len(found) >= limit):
            return _Some(found, page.next is not None, page.position)
        cursor = page.next


def _name(text: str) -> str:
    names = node_names(text)
    if len(names) != 1:
        raise BadWord(f"{text!r} names {len(names)} nodes; name one.")
    return names[0]


# ── how it is shown ──────────────────────────────────────────────────────────────────────────────


def _plain(part: Part, rows: list[Any], form: "Format") -> None:
    if part == "states" and form != "jsonl":
        shown.plain([_flat(row) for row in rows], form, STATE)
        return
    shown.write(rows, [], form, of=KINDS[part], name=lambda row: _key(part, row))


KINDS: dict[Part, type[BaseModel]] = {
    "states": NodePeriodOut,
    "software": MachineOut,
    "jobs": StayOut,
}
TOLD, WHY = ("state", "since", "until"), ("cause", "reason", "by", "outage")
STATE = (*TOLD, *WHY, "later", "drain")


def _flat(state: NodePeriodOut) -> dict[str, Any]:
    """A state as a row of CSV: why it came to it, and what was said later as one text."""
    first, *later = state.causes
    told = state.model_dump(mode="json", include=set(TOLD))
    why = first.model_dump(mode="json", include=set(WHY))
    return {**told, **why, "later": _words(later), "drain": _words(state.drain)}


def _key(part: Part, row: Any) -> str:
    return f"{row.job}" if part == "jobs" else when(row.since)


def _show(node: str, found: dict[Part, _Some], limit: int, *, wide: bool) -> None:
    """All parts as tables, each under its title."""
    for number, (part, some) in enumerate(found.items()):
        if len(found) > 1:
            shown.data(f"{'' if number == 0 else chr(10)}{TITLES[part].format(node=line(node))}")
        if not some.rows:
            say(f"{EMPTY[part]} then." if len(found) == 1 else f"  {EMPTY[part]} then.")
            continue
        columns = [c for c in COLUMNS[part] if wide or not c.wide]
        cells = [[c.text(row) for c in columns] for row in some.rows]
        kept = [i for i, c in enumerate(columns) if wide or i == 0 or any(row[i] for row in cells)]
        shown.table(
            [columns[i].title for i in kept],
            [[row[i] for i in kept] for row in cells],
            right=[columns[i].right for i in kept],
            fit=not wide,
        )
        if some.more:
            say(f"There are more than {limit}; --limit 0 shows all.")
    shown.data(f"As of position {min(some.position for some in found.values())}.")


TITLES: dict[Part, str] = {
    "states": "What happened on {node}:",
    "software": "What it had installed:",
    "jobs": "What ran there:",
}
EMPTY: dict[Part, str] = {
    "states": "It was not there",
    "software": "Nothing is known of its software",
    "jobs": "Nothing ran there",
}


def _whys(state: NodePeriodOut) -> str:
    """Why it was in a state, the first cause first; of a node that drains, why that is."""
    draining = state.state in ("draining", "drained")
    whys = _words([*(state.drain if draining else ()), *state.causes])
    if state.drain and not draining:
        whys += f" (to take no jobs: {_words(state.drain)})"
    return whys


def _words(causes: "list[NodeCauseOut]") -> str:
    return "; ".join(dict.fromkeys(cause.reason or cause.cause for cause in causes))


def _ended(stay: StayOut) -> str:
    """How an attempt ended, with what its owner may know beside."""
    if stay.left_at is None:
        return "running"
    if stay.signal:
        return f"{stay.outcome} (signal {stay.signal})"
    return f"{stay.outcome} ({stay.exit_code})" if stay.exit_code else stay.outcome


def _elsewhere(stay: StayOut) -> str:
    """Where that which failed succeeded later."""
    later = stay.elsewhere
    if later is None:
        return ""
    what = f"attempt {later.attempt}" if later.job == stay.job else f"job {later.job}"
    return f"{what}, {when(later.at)}"


def _until(until: Any) -> str:
    return when(until) or "still"


COLUMNS: dict[Part, list[Column[Any]]] = {
    "states": [
        Column("SINCE", lambda s: when(s.since)),
        Column("UNTIL", lambda s: _until(s.until)),
        Column("STATE", lambda s: s.state),
        Column("WHY", _whys),
        Column("BY", lambda s: ", ".join(dict.fromkeys(c.by for c in s.causes))),
        Column("SILENT SINCE", lambda s: when(s.silent_since), wide=True),
        Column(
            "OUTAGE",
            lambda s: ",".join(str(n) for n in dict.fromkeys(c.outage for c in s.causes) if n),
            right=True,
        ),
    ],
    "software": [
        Column("SINCE", lambda m: when(m.since)),
        Column("UNTIL", lambda m: _until(m.until)),
        Column("IMAGE", lambda m: m.image),
        Column("KERNEL", lambda m: m.kernel),
        Column("PACKAGES", lambda m: m.packages_sha256[:12]),
        Column("BUILD", lambda m: m.build),
        Column("SERIAL", lambda m: m.serial),
        Column("RACK", lambda m: m.rack),
        Column("POOL", lambda m: m.pool),
        Column("SWITCH", lambda m: m.switch, wide=True),
        Column("POWER", lambda m: m.power, wide=True),
        Column("BOOT", lambda m: m.boot_id, wide=True),
    ],
    "jobs": [
        Column("JOB", lambda s: str(s.job), right=True),
        Column("ATTEMPT", lambda s: str(s.attempt), right=True),
        Column("USER", lambda s: s.user),
        Column("ACCOUNT", lambda s: s.account, wide=True),
        Column("FROM", lambda s: when(s.placed_at)),
        Column("UNTIL", lambda s: _until(s.left_at)),
        Column("ENDED", _ended),
        Column("CAUSE", lambda s: s.cause or "", wide=True),
        Column("OUTAGE", lambda s: str(s.outage or ""), wide=True, right=True),
        Column("SUCCEEDED ELSEWHERE", _elsewhere),
    ],
}


# ── which nodes are suspect ──────────────────────────────────────────────────────────────────────


def failures(
    *,
    since: Since = "-30d",
    until: Until = "",
    pool: Annotated[str, Parameter(name=["--pool", "-p"], help="Only jobs of this pool.")] = "",
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="At most so many nodes.")] = 20,
    form: OutputFormat = "table",
    past: AsOf = PRESENT,
    at: Service = NOWHERE,
) -> int:
    """List the nodes where jobs failed, the one first where most of them succeeded elsewhere later.

    A job succeeded elsewhere if it, or another of the same user with the same script, arguments and
    working directory, was completed later without this node. Without --since: of 30 days.
    """
    with at.client() as client:
        then = past.of(client)
        window = _window(since, until, past, then)
        found = then.node_failures(**window, pool=pool, limit=limit)
    if form in ("table", "wide") and found.nodes:
        shown.sentence(_verdict(found.nodes))
    shown.write(
        found.nodes,
        SUSPECTS,
        form,
        of=SuspectOut,
        name=lambda s: s.node,
        tree=found,
        empty=f"No job failed {f'since {when(found.since)}' if found.since else 'ever'}.",
    )
    if form in ("table", "wide"):
        shown.data(f"As of position {found.position}.")
    return exits.OK


def _verdict(nodes: list[SuspectOut]) -> str:
    first = nodes[0]
    if not first.elsewhere:
        return "Nothing that failed succeeded elsewhere later: no node stands out."
    users = "one user" if first.users == 1 else f"{first.users:,} users"
    return line(
        f"{first.node} comes first: of {first.failed:,} that failed there, {first.elsewhere:,} "
        f"succeeded elsewhere later, of {users}."
    )


SUSPECTS: list[Column[SuspectOut]] = [
    Column("NODE", lambda s: s.node),
    Column("ENDED THERE", lambda s: f"{s.ended:,}", right=True),
    Column("FAILED", lambda s: f"{s.failed:,}", right=True),
    Column("SUCCEEDED ELSEWHERE", lambda s: f"{s.elsewhere:,}", right=True),
    Column("USERS", lambda s: f"{s.users:,}", right=True),
]
