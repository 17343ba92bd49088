"""The client that does not block, for programs that ask many things at once."""

import time
from collections.abc import AsyncIterator
from typing import Self

import httpx2
import stamina

from ledger import models as m
from ledger.client import wire

STREAM_S = 30.0
"""How long a followed stream may be silent before it is taken for broken."""


class AsyncClient:
    """A service, as one subject sees it; `speaking_as` gives another one on the same connections.

    Calls fail and are repeated as those of `Client`.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        connections: int = 32,
        patience_s: float = 60.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        shared: httpx2.AsyncClient | None = None,
    ) -> None:
        self.place = wire.place(url)
        self._url, self._token, self._patience_s = url, token, patience_s
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = shared or httpx2.AsyncClient(
            base_url=self.place.base,
            transport=transport
            or httpx2.AsyncHTTPTransport(uds=self.place.socket, limits=limits, trust_env=False),
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let the connections go."""
        await self._http.aclose()

    def speaking_as(self, token: str) -> "AsyncClient":
        """The same service over the same connections, with another token."""
        return AsyncClient(self._url, token, patience_s=self._patience_s, shared=self._http)

    async def submit(self, job: m.JobIn, *, key: str = "") -> m.SubmittedOut:
        """Queue one job, once, whatever is lost on the way."""
        return await self._model(wire.submission(job, self._token, key=key), m.SubmittedOut)

    async def issue_token(self, wanted: m.TokenIn) -> m.TokenMadeOut:
        """Make a token."""
        asked = wire.ask("POST", "/v1/tokens", token=self._token, body=wanted)
        return await self._model(asked, m.TokenMadeOut)

    async def revoke_token(self, token: str) -> m.DoneOut:
        """Refuse a token from now on."""
        asked = wire.ask("DELETE", f"/v1/tokens/{token}", token=self._token)
        return await self._model(asked, m.DoneOut)

    async def nodes(self) -> m.NodesOut:
        """All nodes."""
        return await self._model(wire.ask("GET", "/v1/nodes", token=self._token), m.NodesOut)

    async def status(self) -> m.StatusOut:
        """How the service is."""
        return await self._model(wire.ask("GET", "/v1/status", token=self._token), m.StatusOut)

    async def head(self) -> m.HeadOut:
        """The head of the log."""
        return await self._model(wire.ask("GET", "/v1/log/head", token=self._token), m.HeadOut)

    async def event_lines(self, after: int = 0, *, follow: bool = False) -> AsyncIterator[str]:
        """Every recorded event behind the position `after`, each as a line of JSON; with `follow`
        without end. A connection that breaks is not made again: that needs the last position."""
        asked = wire.ask(
            "GET",
            "/v1/events",
            token=self._token,
            params={"after": after, "follow": follow},
            accept="application/x-ndjson",
            wait_s=STREAM_S,
        )
        try:
            async with self._http.stream(
                asked.method,
                asked.path,
                params=asked.params,
                headers=asked.headers,
                timeout=wire.timeout(asked),
            ) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise wire.refused(answer, asked, self.place)
                async for line in answer.aiter_lines():
                    if line.strip():
                        yield line
        except httpx2.TransportError as error:
            raise wire.unreachable(error, self.place, asked.request) from error

    async def _model(self, asked: wire.Ask, model: type[wire.Model]) -> wire.Model:
        rule = wire.worth_repeating(time.monotonic())
        async for attempt in stamina.retry_context(rule, **wire.tries(self._patience_s)):
            with attempt:
                return wire.understood(await self._send(asked), model, asked, self.place)
        raise AssertionError("a retry context ends with an answer or an error")

    async def _send(self, asked: wire.Ask) -> httpx2.Response:
        try:
            return await self._http.request(
                asked.method,
                asked.path,
                params=asked.params,
                content=asked.body or None,
                headers=asked.headers,
                timeout=wire.timeout(asked),
            )
        except httpx2.TransportError as error:
            raise wire.unreachable(error, self.place, asked.request) from error
