"""Whom a loss hit of which somebody says that it happened: who ran there, beside what is on record.

What the log recorded of a loss goes before what only follows from where an attempt was.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from ledger.api import show
from ledger.models import ImpactJobOut, ImpactUserOut

Effect = Literal["requeued", "lost", "held", "ended_there", "ran_there"]
OWNERS = {"lost", "held", "out_of_contact", "ended_there"}
"""Effects that a job's owner has to look after."""


def with_stays(
    recorded: Sequence[ImpactUserOut], stays: Iterable[Any], since: int, until: int | None
) -> list[ImpactUserOut]:
    """Those who are on record as hit, and those of the stays (rows of `occupancy.stays`) who are
    not; by user, account, job, attempt and node."""
    users: dict[tuple[str, str], list[ImpactJobOut]] = {}
    known = {(job.job, job.attempt, job.node) for user in recorded for job in user.jobs}
    for user in recorded:
        users[user.user, user.account] = list(user.jobs)
    for stay in stays:
        if (stay.row.job, stay.row.attempt, stay.row.node) not in known:
            mine = users.setdefault((stay.row.user, stay.row.account), [])
            mine.append(_job(stay, since, until))
    return [_user(user, account, users[user, account]) for user, account in sorted(users)]


def _job(stay: Any, since: int, until: int | None) -> ImpactJobOut:
    row = stay.row
    effect = _effect(row, until)
    lost = effect != "ran_there"
    return ImpactJobOut(
        job=row.job,
        attempt=row.attempt,
        node=row.node,
        struck_at=show.at(max(since, row.placed_at)),
        restartable=row.restartable,
        lost_node_s=(row.left_at - row.placed_at) * row.width / 1_000_000 if lost else 0.0,
        effect=effect,
        state=stay.state,
    )


def _effect(row: Any, until: int | None) -> Effect:
    """What the loss did to an attempt, if it is what ended those that ended then, and not well."""
    then = bool(row.outcome) and (until is None or row.left_at < until)
    if not then or row.outcome == "completed":
        return "ran_there"
    if row.next == "final":
        return "lost" if row.lost else "ended_there"
    return "held" if row.next == "held" else "requeued"


def _user(user: str, account: str, jobs: list[ImpactJobOut]) -> ImpactUserOut:
    jobs.sort(key=lambda job: (job.job, job.attempt, job.node))
    lost = {(job.job, job.attempt): job.lost_node_s for job in jobs}
    last: dict[int, set[str]] = {}
    attempts = {job.job: job.attempt for job in jobs}
    for job in jobs:
        if job.attempt == attempts[job.job]:
            last.setdefault(job.job, set()).add(job.effect)
    return ImpactUserOut(
        user=user,
        account=account,
        jobs=jobs,
        lost_node_s=sum(lost.values()),
        requeued=sum("requeued" in effects for effects in last.values()),
        needs_owner=sum(not effects.isdisjoint(OWNERS) for effects in last.values()),
    )
