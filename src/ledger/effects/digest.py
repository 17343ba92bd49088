"""What a notice says: one text for one person about one outage, made of what is known when it is
sent. Plain text; what people wrote themselves (names, reasons) stands in it as one safe line.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from ledger.domain.state import Outage
from ledger.events import Why
from ledger.nodenames import folded
from ledger.safe import line

MAX_NAME = 60
MAX_NODES = 300
"""Characters of a job's name, and of a list of nodes."""


class Letter(NamedTuple):
    """A message: its subject, on one line, and its text."""

    title: str
    body: str


class HitJob(NamedTuple):
    """A job that an outage hit: what the outage did to it (the worst, over its nodes), what it is
    now, in which attempt; `name` is its owner's, or empty."""

    job: int
    name: str
    node: str
    effect: str
    state: str
    attempt: int
    last: int


class About(NamedTuple):
    """What a notice is made of. `jobs` None: they can't be told now. `named` of them are listed.
    `result` is what came of the outage, in an operator's words; `pool` what fails, for a desk.
    Times are shown in `zone`; None: this machine's."""

    notice: int
    why: Why
    desk: bool
    outage: Outage
    jobs: Sequence[HitJob] | None = ()
    named: int = 20
    result: str = ""
    pool: str = ""
    zone: tzinfo | None = UTC


def compose(about: About) -> Letter:
    """The message."""
    o = about.outage
    parts = [_opening(about), _facts(about)]
    if not about.desk and about.why in ("hit", "cause", "over"):
        parts.append(_jobs(about))
    parts.append(_more(about))
    number = f"notice {about.notice}" if about.notice else "a preview"
    if about.notice:
        again = f"This is {number} about outage {o.n}. If it reaches you twice, it is the same one."
        parts.append(again)
    return Letter(f"{_subject(about)} ({number})", "\n\n".join(filter(None, parts)) + "\n")


def _subject(about: About) -> str:
    o, jobs = about.outage, about.jobs
    match about.why:
        case "announced":
            return f"Planned downtime: {_when(o.since, about.zone)}"
        case "over" if o.kind == "planned":
            return f"Planned downtime is over: outage {o.n}"
        case "over":
            return f"Outage {o.n} is over"
        case "cause":
            return f"Outage {o.n}: its cause is known"
        case "service":
            return f"The service fails: outage {o.n}"
        case "pool":
            return f"Pool {line(about.pool)} fails: outage {o.n}"
    hit = "your jobs" if jobs is None else _count(len(jobs), "of your jobs", "of your jobs")
    return f"Outage {o.n} hit {hit}"


def _opening(about: About) -> str:
    o = about.outage
    match about.why:
        case "announced":
            return (
                f"{_where(o)} will be out of service from {_when(o.since, about.zone)} until "
                f"{_when(o.until, about.zone)}. Jobs that run there then are lost, or begin again."
            )
        case "over":
            what = "The planned downtime" if o.kind == "planned" else f"Outage {o.n}"
            return f"{what} is over."
        case "cause":
            return f"The cause of outage {o.n}, of which you were told, is known now."
        case "service":
            return "The service fails, or failed: more than half of its nodes, or all of it."
        case "pool":
            return f"More than half of the nodes of pool {line(about.pool)} are down."
    if about.jobs is None:
        return f"Outage {o.n} hit jobs of yours."
    return f"Outage {o.n} hit {_count(len(about.jobs), 'job', 'jobs')} of yours."


def _facts(about: About) -> str:
    o = about.outage
    happened = {
        "nodes": f"{_where(o)} {'was' if len(o.nodes) == 1 else 'were'} lost.",
        "master": "the service itself was away; nobody could be answered.",
        "operator": f"{_where(o)} had trouble.",
        "planned": f"planned downtime of {_where(o)[:1].lower()}{_where(o)[1:]}.",
    }[o.kind]
    rows = [("What", happened), ("When", _times(about))]
    if o.reason:
        rows.append(("Reason", line(o.reason)))
    if o.kind != "planned":
        later = "" if about.why == "cause" or about.desk else "; you are told when it is"
        rows.append(("Cause", line(o.cause) if o.cause else f"not known yet{later}"))
    if about.result:
        rows.append(("Result", line(about.result)))
    if about.desk and (hit := sum("hit" in whys for whys in o.told.values())):
        rows.append(("Hit", f"{_count(hit, 'user', 'users')} so far"))
    return "\n".join(f"{title + ':':<8}{text}" for title, text in rows)


def _times(about: About) -> str:
    o = about.outage
    since = _when(o.since, about.zone)
    if o.closed_at:
        return f"from {since} to {_when(o.until, about.zone)}"
    if o.kind == "planned":
        return f"from {since} to {_when(o.until, about.zone)}, as planned"
    return f"since {since}; it is not over"


_GROUPS = (
    ("needs you", "lost", "lost; submit it again if it is still wanted"),
    ("needs you", "held", "held; release it, or cancel it"),
    ("needs you", "out_of_contact", "out of contact; it may still run; its node is silent"),
    ("is queued again", "requeued", ""),
    ("ran on", "continued", "ran on"),
)
"""Effects in the order in which their jobs are listed: what it comes to, and what is said of it."""

_STANDS = {
    "pending": "waits to start again",
    "running": "runs again",
    "completed": "has completed since",
    "failed": "has failed since",
    "timeout": "has run into its time limit since",
    "out_of_memory": "has run out of memory since",
    "node_fail": "was lost again since",
    "cancelled": "was cancelled since",
    "deadline": "has missed its deadline since",
}


def _jobs(about: About) -> str:
    jobs = about.jobs
    if jobs is None:
        return "Which of your jobs it hit can't be told at this moment; ask as below."
    if not jobs:
        return ""
    effects = [effect for _, effect, _ in _GROUPS]
    ordered = sorted(jobs, key=lambda j: (effects.index(j.effect), j.job))
    counts = {what: 0 for what, _, _ in _GROUPS}
    comes_to = {effect: what for what, effect, _ in _GROUPS}
    for job in jobs:
        counts[comes_to[job.effect]] += 1
    counted = [f"{n} {_verb(what, n)}" for what, n in counts.items() if n]
    rows = [
        f"  job {j.job}{_name(j.name)} on {line(j.node)}: {_fate(j)}"
        for j in ordered[: about.named]
    ]
    if (left := len(jobs) - len(rows)) > 0:
        rows.append(f"  and {left} more")
    return "\n".join([f"Your jobs: {', '.join(counted)}.", *rows])


def _verb(what: str, n: int) -> str:
    return (
        what
        if n == 1
        else {"needs you": "need you", "is queued again": "are queued again"}.get(what, what)
    )


def _fate(job: HitJob) -> str:
    said = next(words for _, effect, words in _GROUPS if effect == job.effect)
    if job.effect in ("requeued", "held") and (job.effect == "requeued" or job.state != "pending"):
        said = _STANDS[job.state]
        if job.last > job.attempt:
            said += f" (attempt {job.last})"
    if job.effect == "out_of_contact" and job.state not in ("pending", "running"):
        said = _STANDS[job.state]
    return said


def _name(name: str) -> str:
    safe = line(name)
    short = safe if len(safe) <= MAX_NAME else safe[: MAX_NAME - 1] + "…"
    return f' "{short}"' if short else ""


def _more(about: About) -> str:
    n = about.outage.n
    if about.why == "announced":
        return f"More: jobledger outage show {n}"
    if about.desk:
        return (
            f"More: jobledger outage show {n}; whom it hit: jobledger outage affected {n}; "
            "how the service is: jobledger status"
        )
    return f"All of it, as it is now: jobledger outage affected {n}"


def _where(o: Outage) -> str:
    if not o.nodes:
        return "The whole service"
    names = folded(sorted(o.nodes))
    if len(names) > MAX_NODES:
        names = f"{len(o.nodes)} nodes, among them {min(o.nodes)}"
    place = next(
        (
            f" ({word} {getattr(o, word)})"
            for word in ("rack", "switch", "power")
            if getattr(o, word)
        ),
        "",
    )
    return f"{'Node' if len(o.nodes) == 1 else 'Nodes'} {names}{line(place)}"


def _when(micros: int, zone: tzinfo | None) -> str:
    at = datetime.fromtimestamp(micros / 1_000_000, UTC).astimezone(zone)
    return f"{at:%Y-%m-%d %H:%M} {at:%Z}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
