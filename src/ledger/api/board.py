"""What `jobledger follow` tells on its own listener: how the service is, above all while the master
is away. It reads the log and the projections, asks the master now and then, and writes nothing.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ledger import __version__
from ledger.api import metrics, problems, show, standing
from ledger.api.auth import Who
from ledger.api.envelope import Envelope
from ledger.api.server import bind, name_of, serve_app
from ledger.client.aio import AsyncClient
from ledger.client.errors import ClientError, Refused
from ledger.commands import Subject
from ledger.domain.cluster import fold
from ledger.domain.errors import NotNow
from ledger.domain.state import Cluster
from ledger.follow import Doing
from ledger.master.identity import by_token, expiry
from ledger.master.reader import LogReader
from ledger.models import FollowReadyOut, StatusOut
from ledger.projection.discover import discover
from ledger.projection.reader import Reader, Status
from ledger.settings import STATUS_SOCKET
from ledger.store.chain import Head
from ledger.store.location import open_log
from ledger.store.log import Log, LogFailure, LogUnavailable
from ledger.store.shelf import Freshness, freshness

logger = structlog.get_logger("status")

LOOK_EVERY_S = 2.0
ANSWER_S = 2.0
"""How often the master is asked how it is, and how long it has to answer."""

FRESH_S = 0.5
"""Whoever asks is told what the master said so short a time ago, at most."""


@dataclass(frozen=True)
class BoardSettings:
    """Whose status is told, and where. `master` and `token`: how the master is asked. `backups` and
    `backup_every_s`: the folder of the backups, and how often one should be made (0: never)."""

    data: Path
    database_url: str | None
    master: str
    token: str = ""
    listen: tuple[str, ...] = ()
    insecure: bool = False
    operator_uids: frozenset[int] = frozenset({0})
    backups: Path = Path("backups")
    backup_every_s: int = 0
    look_every_s: float = LOOK_EVERY_S


@dataclass
class Board:
    """What is known of the service. `heard_at`: when the master last answered (µs of this machine's
    clock, 0: not since this process began); `heard`: how it said that it was."""

    settings: BoardSettings
    doing: Doing
    began_at: int = field(default_factory=lambda: time.time_ns() // 1000)
    heard_at: int = 0
    heard: StatusOut | None = None
    silent: bool = True
    head: Head | None = None

    def __post_init__(self) -> None:
        s = self.settings
        self._log = LogReader(partial(open_log, s.data, s.database_url, write=False))
        self._projections = Reader(discover().projections, s.data, s.database_url)
        self._tokens: tuple[Log, Cluster] | None = None
        self._master = AsyncClient(s.master, s.token, connections=1, patience_s=0)
        self._asking, self._asked = asyncio.Lock(), -inf

    @property
    def operator_uids(self) -> frozenset[int]:
        """The accounts of this machine that are operators."""
        return self.settings.operator_uids

    @property
    def archive(self) -> bool:
        """Nothing can be changed here: no route of it would."""
        return False

    async def known(self, secret: str) -> tuple[Subject, int]:
        """Whom a token stands for by the log, and until when (µs, 0 for ever).

        Raises `Unauthenticated`, and `NotNow` while the log can't be read.
        """
        try:
            cluster, head = await self._log.call(self._identities)
        except LogFailure as error:
            raise NotNow(f"The log can't be read, so no token is known: {error}.") from None
        now = max(time.time_ns() // 1000, head.at)
        return by_token(cluster, secret, now), expiry(cluster, secret)

    def _identities(self, log: Log) -> tuple[Cluster, Head]:
        """The tokens that the log knows, those read before not read again."""
        if self._tokens is None or self._tokens[0] is not log:
            self._tokens = (log, Cluster())
        cluster = self._tokens[1]
        fold(log.read_stream("identity", cluster.position), cluster)
        return cluster, log.head()

    def as_of(self) -> tuple[int, int] | None:
        """The position and epoch of the log when it was last looked at."""
        return (self.head.position, self.head.epoch) if self.head is not None else None

    async def look(self) -> "Looked":
        """What the log, the projections and the backups are now. The log may be away."""
        s, incarnation, trouble = self.settings, "", ""
        try:
            self.head, incarnation = await self._log.call(_looked_at)
        except (LogFailure, OSError) as error:
            trouble = f"the log can't be read: {error}"
        self._projections.incarnation = incarnation
        told = await asyncio.to_thread(self._projections.status)
        fresh = None
        if incarnation:
            fresh = await asyncio.to_thread(freshness, s.backups, incarnation, s.backup_every_s)
        return Looked(self.head or Head(0, 0, "", 0, 0), told, fresh, trouble)

    async def hear(self, at_most_s: float) -> None:
        """Ask the master how it is, unless that is known as of so short a time ago."""
        async with self._asking:
            if time.monotonic() - self._asked < at_most_s:
                return
            try:
                async with asyncio.timeout(ANSWER_S):
                    self.heard = await self._master.status()
                self.silent, self.heard_at = False, time.time_ns() // 1000
            except Refused:  # it is there, and does not know who we are, or not yet
                self.silent, self.heard_at = False, time.time_ns() // 1000
            except (ClientError, TimeoutError):
                self.silent = True
            self._asked = time.monotonic()

    async def watch(self) -> None:
        """Ask the master again and again, until cancelled."""
        while True:
            await self.hear(0)
            await asyncio.sleep(self.settings.look_every_s)

    async def close(self) -> None:
        """Let go of the master, the log and the projections."""
        await self._master.close()
        self._log.close()
        self._projections.close()


@dataclass(frozen=True)
class Looked:
    """What was found where the log, the projections and the backups lie."""

    head: Head
    told: list[Status]
    fresh: Freshness | None
    trouble: str


def _looked_at(log: Log) -> tuple[Head, str]:
    """Where a log ends, and which it is. One that was replaced is opened anew for the next look."""
    if log.replaced():
        raise LogUnavailable("another log lies there now, or none")
    return log.head(), log.incarnation


router = APIRouter()


def board_of(request: Request) -> Board:
    """What is known of the service."""
    board: Board = request.app.state.service
    return board


@router.get("/healthz")
async def healthz(who: Who) -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "for": who.subject.name}


@router.get("/readyz")
async def readyz(who: Who, response: Response) -> FollowReadyOut:
    """Do the projections follow? 503 while one stands still, can't be asked, or is far behind."""
    board = board_of(who.request)
    seen = await board.look()
    projections = standing.shown(seen.told, seen.head)
    wrong = [one for one in (seen.trouble, board.doing.trouble) if one]
    wrong += standing.behind(projections, beginning=True)
    if wrong:
        response.status_code = 503
    return FollowReadyOut(
        ready=not wrong,
        sentence="Not every projection follows." if wrong else "Every projection follows.",
        warnings=wrong,
        projections=projections,
        position=seen.head.position,
    )


@router.get("/metrics", response_class=Response)
async def metrics_(who: Who) -> Response:
    """Metrics in Prometheus' text format."""
    who.demand("service.metrics")
    board = board_of(who.request)
    seen = await board.look()
    silent_s = (time.time_ns() // 1000 - _silent_since(board, seen.head)) / 1e6
    families = [
        *metrics.of_projections(seen.told, seen.head),
        *(metrics.of_backups(seen.fresh) if seen.fresh is not None else ()),
        metrics.gauge("log_position", "Position of the log's head", seen.head.position),
        metrics.gauge(
            "master_silent_seconds",
            "For how long the master has not answered, 0 while it does",
            max(0.0, silent_s) if board.silent else 0.0,
        ),
        metrics.counter("follow_restarts", "How often following began anew", board.doing.restarts),
        metrics.gauge("start_time_seconds", "When this process began", board.began_at / 1e6),
    ]
    return Response(metrics.render(families), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/status")
async def status(who: Who) -> StatusOut:
    """How the service is, also while the master is away."""
    who.demand("service.see")
    board = board_of(who.request)
    await board.hear(FRESH_S)
    seen = await board.look()
    projections = standing.shown(seen.told, seen.head)
    warnings = [*standing.behind(projections), *standing.late(seen.fresh)]
    warnings += [one for one in (seen.trouble, board.doing.trouble) if one]
    last = board.heard
    own = {
        "told_by": "follow",
        "projections": projections,
        "backups": standing.backups(seen.fresh),
        "position": seen.head.position,
        "written_at": show.when(seen.head.at),
    }
    if not board.silent and last is not None:
        return standing.looked_again(last, warnings, own)
    since = _silent_since(board, seen.head)
    away = {
        "sentence": _away(board),
        "well": False,
        "accepting": False,
        "starting": False,
        "warnings": warnings,
        "master_silent_since": show.when(since) if board.silent else None,
        "epoch": seen.head.epoch,
        "build": __version__,
    }
    if last is None:
        return StatusOut.model_validate({**own, **away})
    return last.model_copy(update={**own, **away})


def _silent_since(board: Board, head: Head) -> int:
    """When the master was last known to live: it answered, or wrote."""
    return max(board.heard_at, head.at)


def _away(board: Board) -> str:
    if not board.silent:
        return "The master answers, and does not say how it is."
    if board.heard_at:
        return "The master does not answer: nothing can be submitted, and no job is started."
    return (
        "The master has not answered since `follow` began: nothing can be submitted, and no job is "
        "started."
    )


def create_board(board: Board) -> Envelope:
    """The application of `follow`: four routes, and the same way in as the master's."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.service = board
    app.include_router(router)
    problems.install(app)
    return Envelope(app, board, lambda scope: None)


@contextlib.contextmanager
def telling(settings: BoardSettings, doing: Doing) -> Iterator[list[str]]:
    """Tell how the service is, in a thread of its own, for as long as the block runs; where.

    Raises `BadListener`.
    """
    path = settings.data / STATUS_SOCKET
    sockets = bind(path, settings.listen, insecure=settings.insecure)
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def tell() -> None:
        async with _watched(Board(settings, doing)) as board:
            await serve_app(create_board(board), sockets, stop)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(tell())

    thread = threading.Thread(target=run, name="status", daemon=True)
    thread.start()
    try:
        yield [name_of(sock) for sock in sockets]
    finally:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextlib.asynccontextmanager
async def _watched(board: Board) -> AsyncIterator[Board]:
    watcher = asyncio.ensure_future(board.watch())
    try:
        yield board
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        await board.close()
