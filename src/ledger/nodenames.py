"""Lists of nodes as people and Slurm write them: `n3,n[7-9]`."""

import re
from collections.abc import Sequence
from functools import lru_cache

from ClusterShell.NodeSet import (  # type: ignore[import-untyped]
    RESOLVER_NOGROUP,
    NodeSet,
    NodeSetException,
)

MAX_NODES = 100_000
_PLAIN = re.compile(r"[A-Za-z0-9._,/\[\]-]{1,20000}")
_LONG_NUMBER = re.compile(r"[0-9]{10}")
_BETWEEN = re.compile(r",(?![^\[]*\])")
_GROUP = re.compile(r"\[([^\]]*)\]")
_SPAN = re.compile(r"(\d+)-(\d+)")


class BadNodes(ValueError):
    """A text that is no list of at most `MAX_NODES` nodes."""

    def __init__(self, text: str) -> None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        super().__init__(
            f"{shown!r} is not a list of at most {MAX_NODES} nodes: write n3 or n3,n[7-9]."
        )


@lru_cache(maxsize=10_000)
def expand(text: str) -> tuple[str, ...]:
    """The names in a list, in order, each once.

    Raises `BadNodes`, before anything is unfolded that would be too much. Groups and wildcards, for
    which ClusterShell would run programs of this machine, are no part of a plain list.
    """
    if not _PLAIN.fullmatch(text) or _LONG_NUMBER.search(text):
        raise BadNodes(text)
    if sum(_at_most(piece) for piece in _BETWEEN.split(text)) > MAX_NODES:
        raise BadNodes(text)
    try:
        return tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except NodeSetException:
        raise BadNodes(text) from None


def folded(names: Sequence[str]) -> str:
    """Node names in few words, such as `n[1-3]`; as they are where they can't be folded."""
    return _folded(tuple(names))


@lru_cache(maxsize=100)  # of a thousand lost nodes, each of those they hit is told
def _folded(names: tuple[str, ...]) -> str:
    if len(names) < 2 or not all(_PLAIN.fullmatch(name) for name in names):
        return ",".join(names)
    try:
        return str(NodeSet.fromlist(names, resolver=RESOLVER_NOGROUP))
    except NodeSetException:
        return ",".join(names)


def _at_most(piece: str) -> int:
    """How many names `n[1-4]x[1-9]` has, or more."""
    names = 1
    for group in _GROUP.findall(piece):
        names *= sum(
            max(1, int(span[2]) - int(span[1]) + 1) if (span := _SPAN.match(part)) else 1
            for part in group.split(",")
        )
    return names
