"""Periods of time as questions name them: days and hours of a zone, and what lies between."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Query

from ledger.api import show
from ledger.domain.errors import Malformed

MAX_PERIODS = 10_000
HOUR_US = 3_600_000_000
Step = Literal["day", "hour", ""]
ZoneName = Annotated[str, Query(max_length=60, pattern="^[A-Za-z0-9_+/-]+$")]
Time = Annotated[str, Query(max_length=40)]


def zone_of(name: str) -> ZoneInfo:
    """The zone of a name. Raises `Malformed`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Malformed(f"zone={name}: write a time zone, such as Europe/Berlin or UTC.") from None


def cut(first: int, last: int, step: Step, zone: ZoneInfo) -> list[int]:
    """`first`, every midnight or whole hour of a zone between it and `last`, and `last`; all µs.

    Raises `Malformed` if that is too many.
    """
    if not step:
        return [first, last]
    if (last - first) // (HOUR_US if step == "hour" else 24 * HOUR_US) > MAX_PERIODS:
        raise Malformed(f"At most {MAX_PERIODS} {step}s can be asked for at once.")
    between = _hours(first, zone) if step == "hour" else _midnights(first, zone)
    edges = [first]
    for edge in between:
        if edge >= last:
            break
        edges.append(edge)
    return [*edges, last]


def _midnights(first: int, zone: ZoneInfo) -> Iterator[int]:
    day = show.at(first).astimezone(zone).date()
    while True:
        day += timedelta(days=1)
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        yield int(midnight.timestamp()) * 1_000_000


def _hours(first: int, zone: ZoneInfo) -> Iterator[int]:
    local = show.at(first).astimezone(zone)
    past = (local.minute * 60 + local.second) * 1_000_000 + local.microsecond
    edge = first - past
    while True:
        edge += HOUR_US
        yield edge
