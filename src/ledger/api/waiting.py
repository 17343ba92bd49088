"""How fresh an answer out of a projection has to be, as the request says."""

from typing import Annotated, NamedTuple

from fastapi import Depends, Query, Request

PATIENCE_S = 2.0


class Freshness(NamedTuple):
    """`at_least`: a position that must be reached (0: the head when the request arrived).
    `stale`: any will do."""

    at_least: int = 0
    stale: bool = False


async def _asked(
    request: Request,
    at_least: Annotated[
        str, Query(pattern="^[0-9]{0,15}$", description="A position that is insisted on.")
    ] = "",
    stale: Annotated[str, Query(description="`ok`: wait for nothing.")] = "",
) -> None:
    request.state.freshness = Freshness(int(at_least or "0"), stale == "ok")


FRESH = [Depends(_asked)]
"""The dependency of every route that may read a projection."""


def freshness(request: Request) -> Freshness:
    """`?at_least=N` and `?stale=ok` of a request; those of a route without `FRESH` say nothing."""
    asked: Freshness = getattr(request.state, "freshness", Freshness())
    return asked
