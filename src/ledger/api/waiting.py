"""How fresh an answer out of a projection has to be, or as of when, as the request says."""

from typing import Annotated, NamedTuple

from fastapi import Depends, Query, Request

from ledger.domain.errors import Malformed, PresentOnly

PATIENCE_S = 2.0


class Freshness(NamedTuple):
    """`at_least`: a position that must be reached (0: the head when the request arrived).
    `stale`: any will do."""

    at_least: int = 0
    stale: bool = False


class AsOf(NamedTuple):
    """As of when: a time (RFC 3339) or a position; empty and None: the present."""

    at: str = ""
    position: int | None = None

    @property
    def present(self) -> bool:
        """Is the present meant?"""
        return not self.at and self.position is None


_POSITION = Query(pattern="^[0-9]{0,15}$", description="A position that is insisted on.")


async def _fresh(
    request: Request,
    at_least: Annotated[str, _POSITION] = "",
    stale: Annotated[str, Query(description="`ok`: wait for nothing.")] = "",
) -> None:
    request.state.freshness = Freshness(int(at_least or "0"), stale == "ok")


async def _looks_back(request: Request) -> None:
    request.state.as_of = AsOf()


async def _past(
    request: Request,
    at: Annotated[str, Query(max_length=40, description="As it was at this time.")] = "",
    at_position: Annotated[
        str, Query(pattern="^[0-9]{0,15}$", description="As it was at this position of the log.")
    ] = "",
) -> None:
    if at and at_position:
        raise Malformed("Give `at` or `at_position`, not both.")
    request.state.as_of = AsOf(at, int(at_position) if at_position else None)


WAITS = [Depends(_fresh)]
"""The dependency of a route that may read a projection, and tells of the present alone."""

LOOKS_BACK = [Depends(_looks_back), Depends(_past)]
"""The dependency of a route that can be asked as of any time, and needs no projection."""

FRESH = [*WAITS, *LOOKS_BACK]
"""The dependency of every route that answers out of a projection: now, or as of any time."""


def freshness(request: Request) -> Freshness:
    """`?at_least=N` and `?stale=ok` of a request; those of a route without `FRESH` say nothing."""
    asked: Freshness = getattr(request.state, "freshness", Freshness())
    return asked


def as_of(request: Request) -> AsOf:
    """`?at=TIME` or `?at_position=N` of a request."""
    asked: AsOf = getattr(request.state, "as_of", AsOf())
    return asked


def demand_present(request: Request) -> None:
    """Raise `PresentOnly` where somebody would take an answer about now for one about then."""
    if request.scope["query_string"] and not hasattr(request.state, "as_of"):
        asked = request.query_params
        if asked.get("at") or asked.get("at_position"):
            raise PresentOnly("This is answered as of now alone.")
