"""What every request goes through, whoever serves it: who asks, an id, failures told."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import structlog
from fastapi import FastAPI, Response
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from ledger.api import auth, bodies, problems
from ledger.api.auth import Door
from ledger.api.headers import header
from ledger.domain.errors import ReadOnly, Refusal

logger = structlog.get_logger("http")

READING = ("GET", "HEAD", "OPTIONS")
EVERYWHERE = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
Shortcut = Callable[[Scope], Callable[[auth.Caller], Awaitable[Response]] | None]
"""The route of a request, where it goes without the framework's own work on it."""


class Envelope:
    """Gives every request its id, and every answer the headers that say as of when it is.

    Nobody gets past it without a credential, nothing of a body is read before, and of no body more
    than its route may take. It stands around the framework, not within: what goes by a shortcut
    never enters the framework's own layers.
    """

    def __init__(self, app: FastAPI, door: Door, shortcut: Shortcut) -> None:
        self._app, self._door, self._shortcut = app, door, shortcut

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = auth.request_id(header(scope, b"x-request-id"))
        scope["app"] = self._app  # as the framework itself would say
        scope.setdefault("state", {})["request_id"] = request
        structlog.contextvars.bind_contextvars(request=request)

        started = answered = False

        async def answer(message: Message) -> None:
            nonlocal started, answered
            answered = message["type"] == "http.response.body" and not message.get("more_body")
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *self._headers(scope["state"])]
            await send(message)

        try:
            subject = scope["state"]["subject"] = await auth.subject_of(Request(scope))
            auth.demand_release(scope)
            if self._door.archive and scope["method"] not in READING:
                raise ReadOnly("This ledger is an archive: nothing in it can be changed.")
            bounded = bodies.limited(scope, receive)
            if (route := self._shortcut(scope)) is not None:
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
            if started and not answered:
                raise  # the connection is closed: the answer can't be taken back
            if not started:
                await problems.problem(Request(scope), problems.crash())(scope, receive, answer)
        finally:
            structlog.contextvars.unbind_contextvars("request")

    def _headers(self, state: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
        yield b"x-request-id", state["request_id"].encode()
        yield from EVERYWHERE
        if (as_of := self._door.as_of()) is not None:
            position, epoch = as_of
            yield b"ledger-position", b"%d" % state.get("ledger_position", position)
            yield b"ledger-lag", str(state.get("ledger_lag", 0)).encode()
            yield b"jobledger-epoch", b"%d" % epoch
