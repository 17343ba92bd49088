"""The list of those whom the loss of the service hit, and what it can't say."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from ledger.events import AttemptEnded
from ledger.models import SalvagedJobOut, SalvagedUserOut, SalvageOut, SalvageSourceOut
from ledger.salvage import line, sources, words
from ledger.salvage.live import Job, Live
from ledger.salvage.sources import Source, Spool
from ledger.salvage.spools import Spools

Effect = Literal["waiting", "not_begun", "may_run", "ended", "unknown", "out_of_contact", "lost"]
SUBMIT_AGAIN = {"waiting", "not_begun"}
NO_OWNER = {"may_run"}


class NothingLeft(Exception):
    """Nothing that was named can be read; `sources` say why."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__("nothing can be read")
        self.sources = sources


class Salvaged(NamedTuple):
    """All that was made out, before it is put into words."""

    extent: line.Extent
    live: Live
    spools: Spools
    jobs: list[Job]
    sources: list[Source]


def salvage(
    paths: Iterable[Path],
    when: words.When,
    since: int | None = None,
    progress: line.Progress | None = None,
) -> SalvageOut:
    """Whom the loss of the whole service hit, out of these files and directories.

    `since` (µs): those too whose job the loss of a node had ended since then. `when` writes the
    moments of sentences. Nothing is written, nothing is repaired. Raises `NothingLeft`.
    """
    found = sources.find(paths)
    try:
        return _salvaged(found, when, since, progress)
    finally:
        for source in found:
            source.close()


def _salvaged(
    found: list[Source], when: words.When, since: int | None, progress: line.Progress | None
) -> SalvageOut:
    live = Live(since)
    logs = [source for source in found if not isinstance(source, Spool)]
    extent = line.read(logs, live, progress)
    spools = Spools([source for source in found if isinstance(source, Spool)], live)
    if not extent.last and not any(spool.remains.lines for spool in spools.used):
        raise NothingLeft(found)
    jobs = live.finish()
    list(spools.behind(jobs, live, blind=not extent.proven.position))
    made = Salvaged(extent, live, spools, [jobs[n] for n in sorted(jobs)], found)
    users = _users(made)
    proven = extent.proven
    return SalvageOut(
        position=proven.position,
        commit=proven.commit,
        hash=proven.hash if proven.position else "",
        at=_when(proven.at),
        incarnation=live.cluster.incarnation,
        verdict=words.verdict(made, when),
        users=users,
        sources=[_source(source) for source in found],
        unknown=list(words.unknown(made, users, when)),
        advice=list(words.advice(made)),
    )


def _users(made: Salvaged) -> list[SalvagedUserOut]:
    users: dict[tuple[str, str], list[SalvagedJobOut]] = {}
    for job in made.jobs:
        users.setdefault((job.user, job.account), []).append(_job(job, made))
    for lost in made.live.lost:
        users.setdefault((lost.user, lost.account), []).append(_lost(lost))
    return [_user(*who, sorted(users[who], key=lambda j: j.job)) for who in sorted(users)]


def _user(user: str, account: str, jobs: list[SalvagedJobOut]) -> SalvagedUserOut:
    return SalvagedUserOut(
        user=user,
        account=account,
        jobs=jobs,
        at_stake_node_s=sum(job.at_stake_node_s for job in jobs),
        submit_again=sum(job.effect in SUBMIT_AGAIN for job in jobs),
        needs_owner=sum(job.effect not in NO_OWNER and job.end != "completed" for job in jobs),
    )


class _Became(NamedTuple):
    """What became of a job's last attempt, as far as anybody says."""

    effect: Effect
    stake_s: float = 0.0
    began_at: int = 0
    end: str = ""
    exit_code: int | None = None


def _job(job: Job, made: Salvaged) -> SalvagedJobOut:
    became = _became(job, made) if job.running else _Became("waiting")
    return SalvagedJobOut(
        job=job.job,
        attempt=job.attempt,
        nodes=list(job.nodes) if job.running else [],
        submitted_at=_when(job.submitted_at),
        began_at=_when(became.began_at),
        restartable=job.restartable,
        effect=became.effect,
        end=became.end,
        exit_code=became.exit_code,
        at_stake_node_s=became.stake_s,
        known_from=job.known_from,
    )


def _became(job: Job, made: Salvaged) -> _Became:
    said = made.spools.of(job)
    if said is None:
        if job.silent or not made.spools.not_begun(job):
            effect: Effect = "out_of_contact" if job.silent else "unknown"
            return _Became(effect, _stake(job, made, job.placed_at), job.started_at)
        return _Became("not_begun")
    began = job.started_at or said.began_at
    if said.end is None:
        since = job.placed_at or said.began_at
        return _Became("unknown" if said.gone else "may_run", _stake(job, made, since), began)
    end = said.end.end or ""
    spent = 0.0 if end == "completed" else said.end.ran_us * len(job.nodes) / 1_000_000
    return _Became("ended", spent, began, end, said.end.exit_code)


def _stake(job: Job, made: Salvaged, since: int) -> float:
    """The node time of an attempt from then to the last moment of which anybody told."""
    until = max(made.extent.at, made.spools.last)
    return max(0, until - (since or until)) * len(job.nodes) / 1_000_000


def _lost(e: AttemptEnded) -> SalvagedJobOut:
    return SalvagedJobOut(
        job=e.job,
        attempt=e.attempt,
        nodes=list(e.nodes),
        submitted_at=None,
        began_at=_when(e.started_at),
        restartable=False,
        effect="lost",
        end="node_fail",
        at_stake_node_s=e.held_us * len(e.nodes) / 1_000_000,
        known_from="log",
    )


def _source(source: Source) -> SalvageSourceOut:
    trouble = list(source.trouble)
    if source.other:
        trouble.append(words.another_log(source))
    return SalvageSourceOut(
        path=str(source.path),
        kind=source.kind,
        first=source.first,
        last=source.last,
        at=_when(source.at),
        trouble=trouble,
    )


def _when(micros: int) -> datetime | None:
    return datetime.fromtimestamp(micros / 1_000_000, UTC) if micros else None
