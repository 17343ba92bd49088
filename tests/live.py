"""A whole service inside the test's process: the real master, the real API over a Unix socket and
TCP, the projections kept beside it. Its clock can be set, its log can be swapped, its state seen.
"""

import asyncio
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx2
import structlog

from ledger.api.server import serve
from ledger.commands import Command, Subject
from ledger.domain.state import Cluster, Outcome
from ledger.events import DemandRefused
from ledger.follow import Stop, follow
from ledger.master.main import MasterSettings, Reign
from ledger.master.outbox import NO_POST, Post
from ledger.master.service import Running, Service
from ledger.projection.discover import discover
from ledger.projection.reader import Reader
from ledger.settings import SOCKET
from ledger.store.leadership import leadership
from ledger.store.location import open_log
from ledger.store.log import Log

structlog.configure(  # tracebacks as they are: drawing them with their variables takes seconds
    processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
)

T = TypeVar("T")
Falsy = Literal[False] | None
DEADLINE_S = 30.0
_sent_ns = count(1)


# `...` and not `[]`: a lambda that is made in a loop has defaults, and is called without arguments.
def until(what: Callable[..., T | Falsy], saying: str, deadline_s: float = DEADLINE_S) -> T:
    """Poll until `what()` is true; its value."""
    end = time.monotonic() + deadline_s
    while not (value := what()):
        assert time.monotonic() < end, f"{saying}: not within {deadline_s:g} s"
        time.sleep(0.005)
    return value


class Clock:
    """The log's clock in a test: real time, and as much more as the test says."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        """µs since 1970."""
        return time.time_ns() // 1000 + self.ahead

    def advance(self, seconds: float) -> None:
        """Let time pass for the log alone."""
        self.ahead += round(seconds * 1_000_000)

    def advance_to_minute(self) -> None:
        """Let time pass until a minute begins."""
        self.ahead += 60_000_000 - self.now() % 60_000_000


class _ClockedReign(Reign):
    """A reign that goes by the test's clock."""

    test_clock: Clock

    def clock(self, last_at: int) -> Callable[[], int]:
        return self.test_clock.now


class Http:
    """One client: a credential, a way to the service. Answers are plain httpx2 responses."""

    def __init__(self, client: httpx2.Client, name: str, token: str = "") -> None:
        self.client, self.name, self.token = client, name, token

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        """A request; `body` is sent as JSON."""
        if body is not None:
            more.setdefault("content", json.dumps(body).encode())
            more["headers"] = {"Content-Type": "application/json", **more.get("headers", {})}
        return self.client.request(method, path, **more)

    def ok(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """The JSON answer of a request that must succeed."""
        answer = self(method, path, body, **more)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def submit(self, **job: Any) -> int:
        """Submit one job; its id."""
        first: int = self.ok("POST", "/v1/jobs", {"argv": ["/bin/true"], **job})["first_job"]
        return first

    def sync(self, node: str, **said: Any) -> httpx2.Response:
        """An agent's call, by hand; it waits for nothing unless told to."""
        body = {
            "protocol": 1,
            "spool": f"spool-{node}",
            "boot_id": "boot-1",
            "sent_ns": next(_sent_ns),
            "build": "test",
            "facts": {},
            "wait_s": 0,
        }
        return self("POST", f"/v1/agents/{node}/sync", body | said)


class Live:
    """A service that runs in a thread. `fatal`: why it had to end, if it had to."""

    def __init__(
        self,
        data: Path,
        url: str | None = None,
        wrap: Callable[[Log], Log] = lambda log: log,
        post: Post = NO_POST,
    ) -> None:
        self.data, self.url, self.post = data, url, post
        self.clock = Clock()
        self.fatal: list[str] = []
        self.said: list[str] = []
        self._wrap = wrap
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reign: Reign | None = None
        self._service: Service | None = None
        self._failure: BaseException | None = None
        self._clients: list[httpx2.Client] = []
        self._beside = ThreadPoolExecutor(8)
        self._follow_stop: Stop | None = None
        self._following: Future[None]

    # ── the service ──────────────────────────────────────────────────────────────────────────────

    def start(self, *, wait: bool = True) -> "Live":
        """Start it; with `wait`, return once it reigns."""
        self._service, self._failure = None, None
        self._thread = threading.Thread(target=self._run, name="live-master")
        self._thread.start()
        if wait:
            until(lambda: self._failure or self.ready, "the master reigns")
            if self._failure is not None:
                raise self._failure
        return self

    @property
    def ready(self) -> bool:
        """Does it reign?"""
        return self._service is not None and self._service.running is not None

    @property
    def listening(self) -> bool:
        """Does it listen, whether it reigns or not?"""
        return self._service is not None and bool(self._service.listening)

    @property
    def alive(self) -> bool:
        """Does its thread run?"""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = MasterSettings(
            self.data,
            self.url,
            operator_uids=frozenset({os.getuid()}),
            accept_clock=True,
            post=self.post,
        )
        lead = leadership(self.data, self.url, self.fatal.append)
        try:
            lead.acquire(wait=False)
            log = self._wrap(open_log(self.data, self.url, write=True, create=True))
            self._reign = _ClockedReign(settings, lead, log, self.fatal.append, self.said.append)
            self._reign.test_clock = self.clock
            asyncio.run(self._main(self._reign))
            log.close()
        except BaseException as failure:
            self._failure = failure
        finally:
            lead.release()

    async def _main(self, reign: Reign) -> None:
        self._loop = asyncio.get_running_loop()

        async def served(service: Service, stop: asyncio.Event) -> None:
            self._service = service
            await partial(serve, listen=("127.0.0.1:0",), insecure=False)(service, stop)

        await reign.run(served)

    def stop(self) -> None:
        """End it in order."""
        self.unfollow()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.end()

    def end(self) -> None:
        """Tell the master to go, as SIGTERM does, whoever is still connected; wait until it has."""
        if self._thread is not None and self._loop is not None and self._reign is not None:
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._reign.stop.set)
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()
        self._thread = None

    def restart(self) -> None:
        """End it in order, and start it again over the same log."""
        self.stop()
        self.start()

    def follow(self) -> None:
        """Keep the projections beside it, as `jobledger follow` does, until it stops; return once
        each can be asked."""
        self._follow_stop = Stop()
        found = discover().projections
        self._following = self.beside(
            follow, list(found.values()), self.data, self.url, self._follow_stop
        )
        reader = Reader(found, self.data, self.url)
        until(lambda: not any(told.error for told in reader.status()), "projections are made")
        reader.close()

    def unfollow(self) -> None:
        """Keep them no longer."""
        if self._follow_stop is not None:
            self._follow_stop()
            self._following.result(DEADLINE_S)  # it would make files again that are removed next
            self._follow_stop = None

    # ── looking in ───────────────────────────────────────────────────────────────────────────────

    @property
    def service(self) -> Service:
        """What the API serves."""
        assert self._service is not None
        return self._service

    @property
    def running(self) -> Running:
        """The parts of the running master. Look at them through `call` where it matters."""
        assert self.service.running is not None
        return self.service.running

    def call(self, what: Awaitable[T]) -> T:
        """Run a coroutine in the service's event loop."""
        assert self._loop is not None

        async def awaited() -> T:
            return await what

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(DEADLINE_S)

    def state(self, look: Callable[[Cluster], T]) -> T:
        """What `look` finds in the settled state."""

        async def looked() -> T:
            return look(await self.running.master.settled())

        return self.call(looked())

    def ask(self, subject: Subject, command: Command) -> Outcome:
        """Have one command decided, past the API."""
        return self.call(self.running.master.ask_one(subject, command))

    @property
    def head(self) -> int:
        """The position of the log's head, once nothing is on its way."""
        return self.state(lambda _: self.running.master.head.position)

    def events(self, after: int = 0) -> list[Any]:
        """The recorded events behind a commit's end, read from the log itself."""
        log = open_log(self.data, self.url, write=False)
        try:
            return list(log.read(after=after))
        finally:
            log.close()

    def since(self, position: int) -> list[str]:
        """The names of the events behind a commit's end, but of those that the turn of a minute
        makes of what was refused before."""
        found = [r.event for r in self.events(position)]
        return [type(event).__name__ for event in found if not isinstance(event, DemandRefused)]

    def refused(self, position: int) -> list[DemandRefused]:
        """What the turns of minutes behind a commit's end have made of what was refused."""
        found = [r.event for r in self.events(position)]
        return [event for event in found if isinstance(event, DemandRefused)]

    # ── clients ──────────────────────────────────────────────────────────────────────────────────

    @property
    def address(self) -> str:
        """Where it listens on TCP."""
        return next(a for a in self.service.listening if a.startswith("http"))

    @property
    def operator(self) -> Http:
        """This account, over the Unix socket: an operator."""
        transport = httpx2.HTTPTransport(uds=str(self.data / SOCKET), verify=False)
        client = httpx2.Client(transport=transport, base_url="http://live", timeout=DEADLINE_S)
        return self._kept(Http(client, "operator"))

    def token(self, owner: str, role: str = "user", ttl_s: int = 3600) -> str:
        """A new token."""
        body = {"owner": owner, "role": role, "ttl_s": ttl_s}
        with self.one_client() as operator:
            secret: str = operator.ok("POST", "/v1/tokens", body)["secret"]
            return secret

    @contextmanager
    def one_client(self) -> Iterator[Http]:
        """An operator for a moment."""
        http = self.operator
        yield http
        http.client.close()
        self._clients.remove(http.client)

    def client(self, token: str = "", name: str = "") -> Http:
        """A client over TCP with this token, or with none."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        client = httpx2.Client(
            base_url=self.address,
            headers=headers,
            timeout=DEADLINE_S,
            verify=False,
        )
        return self._kept(Http(client, name, token))

    def user(self, name: str, role: str = "user") -> Http:
        """A client with a new token of this subject."""
        return self.client(self.token(name, role), name)

    def node(self, name: str, *, idle: bool = True, **body: Any) -> Http:
        """Enrol a node; a client with its own token. With `idle` it has reported itself empty."""
        with self.one_client() as operator:
            made = operator.ok("POST", f"/v1/agents/{name}/enrol", body)
        agent = self.client(made["token"], name)
        if idle:
            assert agent.sync(name).status_code == 200
        return agent

    def beside(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Do something in another thread meanwhile."""
        return self._beside.submit(call, *args, **kwargs)

    def _kept(self, http: Http) -> Http:
        self._clients.append(http.client)
        return http


@contextmanager
def live(url: str | None = None, *, follow: bool = False, post: Post = NO_POST) -> Iterator[Live]:
    """A service for as long as the block runs, in a directory of its own: a socket's path may not
    be as long as pytest's are."""
    data = Path(tempfile.mkdtemp(prefix="jl-", dir="/tmp"))
    made = Live(data / "data", url, post=post)
    try:
        made.start()
        if follow:
            made.follow()
        yield made
    finally:
        made.stop()
        shutil.rmtree(data, ignore_errors=True)
