"""Answers out of the projections: what has ended, and what happened when."""

from datetime import UTC, datetime
from typing import NamedTuple

from ledger.api.auth import Caller
from ledger.api.models import AttemptOut, ImpactOut, JobDetailOut, JobsOut
from ledger.api.waiting import Freshness
from ledger.domain.errors import Behind, Malformed


class Filter(NamedTuple):
    """Which jobs to list; empty fields ask for all. Times are µs, `cursor` a job id."""

    user: str = ""
    account: str = ""
    pool: str = ""
    node: str = ""
    states: tuple[str, ...] = ()
    name: str = ""
    since: int = 0
    until: int = 0
    limit: int = 200
    cursor: int = 0
    ascending: bool = True


def micros(text: str) -> int:
    """A time of a query as µs, 0 for none. Raises `Malformed`."""
    if not text:
        return 0
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise Malformed(f"{text!r} is not a time: write 2026-11-20T10:00:00Z.") from None
    if when.tzinfo is None or not 1970 <= when.year < 3000:
        raise Malformed(f"{text!r}: give a time with its zone, such as 2026-11-20T10:00:00Z.")
    return int(when.astimezone(UTC).timestamp() * 1_000_000)


async def list_jobs(who: Caller, asked: Filter) -> JobsOut:
    raise Behind("x")


async def show_job(who: Caller, job: int, fresh: Freshness) -> JobDetailOut:
    raise Behind("x")


async def former_attempts(who: Caller, job: int, before: int, owner: str) -> list[AttemptOut]:
    return []


async def owner(who: Caller, job: int) -> tuple[str, int]:
    raise Behind("x")


async def attempts(who: Caller, job: int) -> int:
    raise Behind("x")


async def task(who: Caller, first: int, index: int) -> int:
    raise Behind("x")


async def impact(who: Caller, nodes: str, since: int, until: int) -> ImpactOut:
    raise Behind("x")


async def text(who: Caller, sha256: str) -> str | None:
    found = await who.running.reader.call(lambda log: log.blobs([sha256]))
    return found[sha256].decode() if sha256 in found else None
