"""The HTTP service: routes, one request id through everything, problems for every refusal."""

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI, Response
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from ledger import __version__
from ledger.api import agents, answers, auth, bodies, inner, jobs, nodes, problems, status, usage
from ledger.api.describe import describe
from ledger.api.headers import header
from ledger.domain.errors import ReadOnly, Refusal
from ledger.master.service import Service

logger = structlog.get_logger("http")

READING = ("GET", "HEAD", "OPTIONS")
AGENTS, SYNC, SYNC_SLASHES = "/v1/agents/", "/sync", 4
EVERYWHERE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Envelope:
    """Gives every request its id, and every answer the headers that say as of when it is.

    Nobody gets past it without a credential, nothing of a body is read before, and of no body more
    than its route may take. It stands around the framework, not within: what goes by a shortcut
    never enters the framework's own layers.
    """

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = auth.request_id(header(scope, b"x-request-id"))
        scope["app"] = self._app  # as the framework itself would say
        scope.setdefault("state", {})["request_id"] = request
        structlog.contextvars.bind_contextvars(request=request)

        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *self._headers(scope["state"])]
            await send(message)

        try:
            subject = scope["state"]["subject"] = await auth.subject_of(Request(scope))
            auth.demand_release(scope)
            if self._service.archive and scope["method"] not in READING:
                raise ReadOnly("This ledger is an archive: nothing in it can be changed.")
            bounded = bodies.limited(scope, receive)
            if (route := shortcut(scope)) is not None:
                response = await route(auth.Caller(Request(scope, bounded), subject))
                await response(scope, bounded, answer)
            else:
                await self._app(scope, bounded, answer)
        except Refusal as refusal:
            await problems.problem(Request(scope), refusal)(scope, receive, answer)
        except ClientDisconnect:
            logger.info("a client went away", path=scope["path"])
        except Exception:
            logger.exception("a request failed", path=scope["path"])
            if started:
                raise  # the connection is closed: the answer can't be taken back
            await problems.problem(Request(scope), problems.crash())(scope, receive, answer)
        finally:
            structlog.contextvars.unbind_contextvars("request")

    def _headers(self, state: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        yield b"x-request-id", state["request_id"].encode()
        yield from EVERYWHERE
        if (running := self._service.running) is not None:
            position = state.get("ledger_position", running.master.head.position)
            yield b"ledger-position", b"%d" % position
            yield b"ledger-lag", str(state.get("ledger_lag", 0)).encode()
            yield b"jobledger-epoch", b"%d" % running.master.epoch


def shortcut(scope: Scope) -> Callable[[auth.Caller], Awaitable[Response]] | None:
    """The two routes that make up nearly all requests, without the framework's own work on them.

    They are the same functions: this halves what a request costs.
    """
    if scope["method"] != "POST":
        return None
    path: str = scope["path"]
    if path == "/v1/jobs" and not scope["query_string"]:
        return jobs.submit
    if path.startswith(AGENTS) and path.endswith(SYNC) and path.count("/") == SYNC_SLASHES:
        return partial(agents.sync, node=path[len(AGENTS) : -len(SYNC)])
    return None


def application(service: Service) -> Envelope:
    """The whole service: its application in the envelope that all requests pass."""
    return Envelope(create_app(service), service)


def create_app(service: Service) -> FastAPI:
    """The routes over `service`, which may still be replaying its log."""
    app = FastAPI(
        title="jobledger",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.service = service
    # The busiest first: routes are tried in order.
    for part in (agents, jobs, answers, nodes, usage, status, inner):
        app.include_router(part.router)
    problems.install(app)
    describe(app)
    return app
