"""The master's HTTP service: its routes."""

from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import FastAPI, Response
from starlette.types import Scope

from ledger import __version__
from ledger.api import (
    abuse,
    agents,
    answers,
    ask,
    auth,
    contacts,
    demand,
    inner,
    jobs,
    node_history,
    nodes,
    notices,
    outages,
    problems,
    projections,
    standing,
    status,
    usage,
)
from ledger.api.describe import describe
from ledger.api.envelope import Envelope
from ledger.master.service import Service

AGENTS, SYNC, SYNC_SLASHES = "/v1/agents/", "/sync", 4


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
    return Envelope(create_app(service), service, shortcut)


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
    for part in (
        agents,
        jobs,
        answers,
        nodes,
        node_history,
        usage,
        outages,
        demand,
        abuse,
        contacts,
        notices,
        ask,
        status,
        standing,
        inner,
        projections,
    ):
        app.include_router(part.router)
    problems.install(app)
    describe(app)
    return app
