"""The HTTP service: routes, one request id through everything, problems for every refusal."""

from typing import Any

import structlog
from fastapi import Depends, FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger import __version__
from ledger.api import agents, answers, auth, jobs, nodes, problems, status
from ledger.api.models import Problem
from ledger.master.service import Service

logger = structlog.get_logger("http")


class Envelope:
    """Gives every request its id, and every answer the headers that say as of when it is."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = auth.request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request
        structlog.contextvars.bind_contextvars(request=request)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Cache-Control"] = "no-store"
                if (running := self._service.running) is not None:
                    state = scope["state"]
                    position = state.get("ledger_position", running.master.head.position)
                    headers["Ledger-Position"] = str(position)
                    headers["Ledger-Lag"] = str(state.get("ledger_lag", 0))
                    headers["Jobledger-Epoch"] = str(running.master.epoch)
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            structlog.contextvars.unbind_contextvars("request")


def create_app(service: Service) -> FastAPI:
    """The application over `service`, which may still be replaying its log."""
    failures: dict[int | str, dict[str, Any]] = {
        code: {"model": Problem, "description": "A refusal"}
        for code in (400, 401, 403, 404, 409, 413, 422, 426, 429, 500, 503, 507)
    }
    app = FastAPI(
        title="jobledger",
        version=__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(auth.subject_of)],
        responses=failures,
    )
    app.state.service = service
    # The busiest first: routes are tried in order.
    for router in (agents.router, jobs.router, answers.router, nodes.router, status.router):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(Envelope, service=service)
    return app
