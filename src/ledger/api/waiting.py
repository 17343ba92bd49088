"""How fresh an answer out of a projection has to be, as the request says."""

from typing import NamedTuple

from fastapi import Request

from ledger.domain.errors import Malformed

PATIENCE_S = 2.0


class Freshness(NamedTuple):
    """`at_least`: a position that must be reached (0: the head when the request arrived).
    `stale`: any will do."""

    at_least: int = 0
    stale: bool = False


def freshness(request: Request) -> Freshness:
    """`?at_least=N` and `?stale=ok` of any reading request."""
    text = request.query_params.get("at_least", "")
    if text and not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Malformed("at_least must be a position, a number.")
    return Freshness(int(text) if text else 0, request.query_params.get("stale") == "ok")
