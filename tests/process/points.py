"""Where masters are killed: the calls they make to store, to hear, to answer, to begin and to end.

No two points of a database have the same call, ordinal, thread and file.
"""

from collections.abc import Iterator
from itertools import count
from typing import Literal, NamedTuple

from .harness import Site
from .strace import Point

ALL, FEW = 300, 16
FIRST_REPLY = 21
Moment = Literal["reigning", "among agents", "recovering", "ending", "beside a backup"]
"""`among agents`: nobody else asks for anything."""


class Where(NamedTuple):
    """A point, when in a master's life it is looked for, and how the master was started.

    `cold`: by the command a user would type, with nothing preloaded.
    """

    moment: Moment
    point: Point
    cold: bool = False

    @property
    def kind(self) -> str:
        """What the figures are told by."""
        return self.point.kind if self.moment == "reigning" else self.moment


def places(database: str, site: Site, *, full: bool) -> list[Where]:
    """The points of a database, a tenth of them by cold start; what is left are replies."""
    made = sqlite(site, full=full) if database == "sqlite" else postgres(full=full)
    made += [Where("reigning", Point("epoll_pwait", k, loop=True)) for k in take(1, 12, 3, full)]
    made += checkpoint(site, full=full)
    made += [Where("among agents", Point("write", k, loop=True)) for k in take(1, 4, 1, full)]
    replies = (Point("write", k, loop=True) for k in count(FIRST_REPLY))
    made += [Where("beside a backup", next(replies)) for _ in range(10 if full else 1)]
    made += [Where("reigning", next(replies)) for _ in range((ALL if full else FEW) - len(made))]
    return [where._replace(cold=i % 10 == 0) for i, where in enumerate(made)]


def take(first: int, last: int, one: int, full: bool) -> Iterator[int]:
    """The ordinals from first to last, or the one that CI tries."""
    return iter(range(first, last + 1) if full else (one,))


def sqlite(site: Site, *, full: bool) -> list[Where]:
    """On SQLite. To `log.db` the journal is written back, while reigning and at the end."""
    log, journal, lock = (str(site.data / n) for n in ("log.db", "log.db-wal", "master.lock"))
    replay = (1, 2, 3, 5, 8, 13, 21, 34, 55, 70, 85, 100) if full else (55,)
    wanted: list[tuple[Moment, str, Iterator[int], str]] = [
        ("reigning", "write", take(1, 12, 2, full), ""),
        ("reigning", "pwrite64", take(1, 48, 7, full), ""),
        ("reigning", "fsync", take(2, 17, 4, full), ""),
        ("reigning", "read", take(1, 12, 3, full), ""),
        ("reigning", "pwrite64", take(17, 22, 17, full), log),
        ("recovering", "pread64", iter(replay), ""),
        ("recovering", "pwrite64", take(1, 4, 3, full), journal),
    ]
    if full:
        wanted += [
            ("reigning", "fsync", iter((1,)), log),
            ("recovering", "fsync", iter((1, 2)), journal),
            ("recovering", "pwrite64", iter((1, 2)), lock),
            ("recovering", "bind", iter((1,)), ""),
            ("recovering", "listen", iter((1,)), ""),
            ("ending", "pwrite64", iter(range(5, 9)), journal),
            ("ending", "pwrite64", iter(range(1, 7)), log),
            ("ending", "unlink", iter((1,)), journal),
        ]
    return [Where(m, Point(call, k, path)) for m, call, ks, path in wanted for k in ks]


def postgres(*, full: bool) -> list[Where]:
    """On PostgreSQL. The first thread speaks to it at the beginning and at the end only."""
    wanted: list[tuple[Moment, str, Iterator[int], bool]] = [
        ("reigning", "sendto", take(1, 30, 4, full), False),
        ("reigning", "recvfrom", take(1, 18, 8, full), False),
        ("reigning", "poll", take(1, 18, 4, full), False),
        ("recovering", "sendto", take(5, 24, 12, full), True),
        ("recovering", "recvfrom", take(19, 30, 24, full), False),
    ]
    if full:
        wanted += [
            ("recovering", "recvfrom", iter(range(1, 21)), True),
            ("recovering", "poll", iter(range(2, 17)), True),
            ("ending", "sendto", iter((1, 2, 3)), True),
        ]
    return [Where(m, Point(call, k, loop=loop)) for m, call, ks, loop in wanted for k in ks]


def checkpoint(site: Site, *, full: bool) -> list[Where]:
    """While a checkpoint is written, which an orderly end does."""
    folder = site.data / "checkpoints"
    unfinished = str(folder / "unfinished")
    points = [Point("rename", 1, unfinished)]
    if full:
        points += [Point("write", k, unfinished) for k in (1, 2)]
        points += [Point("fsync", 1, unfinished), Point("fsync", 1, str(folder))]
    return [Where("ending", point) for point in points]
