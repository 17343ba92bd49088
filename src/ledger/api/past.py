"""Answers as of a time or position that is over, out of the same projections and their queries."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from ledger.api.auth import Caller
from ledger.api.waiting import as_of
from ledger.domain.errors import Behind, Malformed, NotYet, TooBusy, TooFarBack
from ledger.master.past import TooMany
from ledger.projection.past import TooFar
from ledger.projection.reader import Unavailable
from ledger.projection.source import BEGINNING, Place, last_until
from ledger.store.log import Log


class Then(NamedTuple):
    """The end of the last commit that had happened (0: none had), and what time it was (µs)."""

    position: int
    now: int


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


async def then(who: Caller) -> Then | None:
    """As of when a request is to be answered; None for the present. Raises `NotYet`.

    A position within a commit, and a time between two, mean the commit before. An archive's past
    goes on for ever: as of any later time it is as it ends.
    """
    asked, state = as_of(who.request), who.request.state
    if asked.present:
        return None
    if not hasattr(state, "then"):
        state.then = await _found(who, asked.at, asked.position)
        state.ledger_position, state.ledger_lag = state.then.position, 0
    found: Then = state.then
    return found


async def _found(who: Caller, at: str, position: int | None) -> Then:
    running = who.running
    await running.master.settled()
    head, wanted, now = running.master.head, micros(at), running.master.now()
    if position is not None and position > head.position:
        raise NotYet(f"The log ends at position {head.position}.")
    if position is None and wanted > now and not who.service.archive:
        raise NotYet(f"{at} is still to come.")

    def read(log: Log) -> Place:
        if position is None:
            return last_until(log, wanted)
        return log.commit_at(log.commit_before(position)) or BEGINNING

    place: Place = await running.reader.call(read)
    return Then(place.position, place.at if position is not None else min(wanted, now))


async def ask(
    who: Caller,
    moment: Then,
    projection: str,
    query: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """What a query of a projection gave then. Raises `Behind`, `TooBusy` and `TooFarBack`."""
    try:
        answer = await who.running.past.ask(projection, query, moment.position, args, kwargs)
    except TooMany:
        raise TooBusy("Others are looking into the past.", retry_after_s=5) from None
    except TooFar as error:
        raise TooFarBack(f"That is too far back: {error}.") from None
    except Unavailable as error:
        raise Behind(f"This can't be answered: {error}.") from None
    except ValueError as error:
        raise Malformed(f"That can't be asked: {error}.") from None
    return answer.value
