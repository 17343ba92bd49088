"""The client that blocks."""

import copy
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Self

import httpx2
import stamina

from ledger import models as m
from ledger.client import wire
from ledger.client.answers import Answers
from ledger.client.errors import ClientError, NotUnderstood

WAIT_S = 20.0
"""How long one long poll asks the service to wait."""

RECONNECT_S = 0.2
"""The pause before a broken stream of events is asked for again."""


class Output:
    """A piece of an attempt's output: its bytes, where the next one begins, is it all there."""

    __slots__ = ("data", "ended", "next")

    def __init__(self, data: bytes, next_offset: int, ended: bool) -> None:
        self.data, self.next, self.ended = data, next_offset, ended


class Client(Answers):
    """A service, as one subject sees it.

    Every call may raise a `ClientError`; before that it is repeated for at most `patience_s`
    seconds (0: never) where that may help. `on_retry` is told each error that is followed by
    another try. An answer may take `answer_s` seconds, beyond what the request asks to wait.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        patience_s: float = 60.0,
        answer_s: float = wire.ANSWER_S,
        on_retry: Callable[[Exception], None] | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.place = wire.place(url)
        self._token, self._patience_s, self._on_retry = token, patience_s, on_retry
        self._answer_s = answer_s
        self._then: dict[str, Any] = {}
        self._http = httpx2.Client(
            base_url=self.place.base,
            transport=transport or httpx2.HTTPTransport(uds=self.place.socket, trust_env=False),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._http.close()

    def as_of(self, at: datetime | None = None, position: int | None = None) -> Self:
        """The same service over the same connections, asked as of a time or a position: what can
        be asked of the present alone is refused (`present_only`)."""
        then = copy.copy(self)
        then._then = {"at": at.isoformat() if at is not None else None, "at_position": position}
        return then

    # Jobs

    def submit(
        self, jobs: m.JobIn | Sequence[m.JobIn], *, each: bool = False, key: str = ""
    ) -> m.SubmittedOut:
        """Queue one job, or many: all or none of them, or with `each` those that can be.

        A key is made unless one is given; whatever is lost on the way, the jobs are queued once.
        """
        return self._model(wire.submission(jobs, self._token, each=each, key=key), m.SubmittedOut)

    def jobs(self, **filters: Any) -> m.JobsOut:
        """One page of jobs: scope, user, account, pool, node, state, name, since, until, limit,
        cursor, order."""
        return self._get("/v1/jobs", m.JobsOut, filters)

    def job_pages(self, **filters: Any) -> Iterator[m.JobsOut]:
        """Page after page of jobs."""
        while True:
            page = self.jobs(**filters)
            yield page
            if page.next is None:
                return
            filters["cursor"] = page.next

    def show(self, job: str) -> m.JobDetailOut:
        """A job with its attempts. A job is named `17`, or `17_3` in an array."""
        return self._get(f"/v1/jobs/{job}", m.JobDetailOut)

    def why(self, job: str) -> m.WhyOut:
        """Why a job waits."""
        return self._get(f"/v1/jobs/{job}/why", m.WhyOut)

    def job_events(self, job: str) -> Iterator[dict[str, Any]]:
        """The recorded events about a job, in order."""
        asked = self._ask("GET", f"/v1/jobs/{job}/events", accept="application/x-ndjson")
        for line in self._answer(asked).text.splitlines():
            if line.strip():
                yield self._event(line)

    def wait(self, job: str, timeout_s: float | None = None) -> m.JobOut:
        """Wait until a job has ended, at most `timeout_s`; the job as it is then."""
        deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = max(0.0, deadline - time.monotonic())
            wait_s = min(WAIT_S, left)
            params = {"timeout_s": f"{wait_s:.3f}"}
            asked = self._ask("GET", f"/v1/jobs/{job}/wait", params=params, wait_s=wait_s)
            found = self._model(asked, m.JobOut)
            if found.state not in wire.LIVE or left == 0:
                return found

    def output(
        self, job: str, *, attempt: int | None = None, offset: int = 0, wait_s: float = 0
    ) -> Output:
        """What an attempt (the last one) printed from `offset` on; waits up to `wait_s` for it."""
        params = {"attempt": attempt, "offset": offset, "wait_s": wait_s or None}
        path = f"/v1/jobs/{job}/output"
        asked = self._ask("GET", path, params=params, wait_s=wait_s, accept="*/*")
        answer = self._answer(asked)
        try:
            following = int(answer.headers["Output-Next-Offset"])
        except (KeyError, ValueError) as error:
            raise wire.strange(answer, asked, self.place) from error
        return Output(answer.content, following, answer.headers.get("Output-Ended") == "true")

    def cancel(self, job: str, note: str = "") -> m.DoneOut:
        """End a pending job, or stop a running one."""
        return self._act(f"/v1/jobs/{job}/cancel", m.NoteIn(note=note))

    def hold(self, job: str, note: str = "") -> m.DoneOut:
        """Keep a pending job from starting."""
        return self._act(f"/v1/jobs/{job}/hold", m.NoteIn(note=note))

    def release(self, job: str, note: str = "") -> m.DoneOut:
        """Lift a hold."""
        return self._act(f"/v1/jobs/{job}/release", m.NoteIn(note=note))

    def requeue(self, job: str, note: str = "") -> m.DoneOut:
        """Stop a running, restartable job and let it wait again."""
        return self._act(f"/v1/jobs/{job}/requeue", m.NoteIn(note=note))

    def change(self, job: str, change: m.ChangeIn) -> m.DoneOut:
        """Change a live job's request."""
        return self._act(f"/v1/jobs/{job}", change, "PATCH")

    # Nodes and policy

    def nodes(self) -> m.NodesOut:
        """All nodes."""
        return self._get("/v1/nodes", m.NodesOut)

    def node(self, name: str) -> m.NodeOut:
        """One node."""
        return self._get(f"/v1/nodes/{name}", m.NodeOut)

    def node_do(self, name: str, action: str, reason: str = "") -> m.DoneOut:
        """`drain`, `resume`, `down` or `retire` a node."""
        return self._act(f"/v1/nodes/{name}/{action}", m.ReasonIn(reason=reason))

    def configure(self, name: str, facts: m.ConfigureIn) -> m.DoneOut:
        """Say where a node stands and what kind it is."""
        return self._act(f"/v1/nodes/{name}", facts, "PATCH")

    def policy(self) -> m.PolicyOut:
        """The policy in force."""
        return self._get("/v1/policy", m.PolicyOut)

    def policy_history(self, **filters: Any) -> m.PolicyHistoryOut:
        """One page of the policies there were: limit, cursor."""
        return self._get("/v1/policy/history", m.PolicyHistoryOut, filters)

    def set_policy(self, change: m.PolicyIn) -> m.PolicyOut:
        """Change the policy."""
        return self._model(self._ask("PATCH", "/v1/policy", body=change), m.PolicyOut)

    # Tokens and the service

    def issue_token(self, wanted: m.TokenIn) -> m.TokenMadeOut:
        """Make a token; a repetition after a lost answer makes another."""
        return self._model(self._ask("POST", "/v1/tokens", body=wanted), m.TokenMadeOut)

    def tokens(self) -> m.TokensOut:
        """The tokens one may see."""
        return self._get("/v1/tokens", m.TokensOut)

    def revoke_token(self, token: str) -> m.DoneOut:
        """Refuse a token from now on."""
        return self._model(self._ask("DELETE", f"/v1/tokens/{token}"), m.DoneOut)

    def whoami(self) -> m.WhoOut:
        """Who you are to this service."""
        return self._get("/v1/whoami", m.WhoOut)

    def head(self) -> m.HeadOut:
        """The head of the log."""
        return self._get("/v1/log/head", m.HeadOut)

    def status(self) -> m.StatusOut:
        """How the service is; `follow` answers the same where it listens."""
        return self._get("/v1/status", m.StatusOut)

    def inner(self, part: m.InnerPart, limit: int = 100) -> m.InnerOut:
        """A part of the master's inner state, with at most `limit` rows."""
        return self._get(f"/v1/inner/{part}", m.InnerOut, {"limit": limit})

    def ready(self) -> m.ReadyOut:
        """Is the service ready, and how it came up. A service that is not answers at once."""
        asked = self._ask("GET", "/readyz")
        answer = self._send(asked)
        if answer.status_code == 503:
            try:
                return m.ReadyOut.model_validate_json(answer.content)
            except ValueError:
                raise wire.refused(answer, asked, self.place) from None
        return wire.understood(answer, m.ReadyOut, asked, self.place)

    def events(self, after: int = 0, *, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Every recorded event behind the position `after`; with `follow` without end.

        A connection that breaks is made again where it was, for as long as `patience_s` allows.
        """
        failing_since: float | None = None
        while True:
            params = {"after": after, "follow": follow}
            asked = self._ask(
                "GET", "/v1/events", params=params, accept="application/x-ndjson", wait_s=WAIT_S
            )
            try:
                for event in self._stream(asked):
                    after, failing_since = int(event["position"]), None
                    yield event
                if not follow:
                    return
            except ClientError as error:
                failing_since = failing_since or time.monotonic()
                patient = time.monotonic() - failing_since < self._patience_s
                if not (patient and wire.worth_repeating(failing_since)(error)):
                    raise
            time.sleep(RECONNECT_S)

    def _stream(self, asked: wire.Ask) -> Iterator[dict[str, Any]]:
        http = self._http.stream(
            asked.method,
            asked.path,
            params=asked.params,
            headers=asked.headers,
            timeout=wire.timeout(asked),
        )
        try:
            with http as answer:
                if not answer.is_success:
                    answer.read()
                    raise wire.refused(answer, asked, self.place)
                for line in answer.iter_lines():
                    if line.strip():
                        yield self._event(line)
        except httpx2.TransportError as error:
            raise wire.unreachable(error, self.place, asked.request) from error

    def _event(self, line: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError as error:
            raise NotUnderstood(f"{self.place.shown} sent an event that is not JSON.") from error
        assert isinstance(found, dict), "an event is a JSON object"
        return found

    # How it is asked

    def _ask(self, method: str, path: str, **rest: Any) -> wire.Ask:
        if self._then:
            rest["params"] = {**(rest.get("params") or {}), **self._then}
            rest["wait_s"] = wire.LOOK_BACK_S
        return wire.ask(method, path, token=self._token, **rest)

    def _model(self, asked: wire.Ask, model: type[wire.Model]) -> wire.Model:
        return wire.understood(self._answer(asked), model, asked, self.place)

    def _answer(self, asked: wire.Ask) -> httpx2.Response:
        """The first good answer, after as many tries as it takes."""
        began = time.monotonic()
        rule = wire.worth_repeating(began)

        def again(error: Exception) -> bool | float:
            verdict = rule(error)
            if verdict is not False and self._on_retry:
                self._on_retry(error)
            return verdict

        for attempt in stamina.retry_context(again, **wire.tries(self._patience_s)):
            with attempt:
                answer = self._send(asked)
                if not answer.is_success:
                    raise wire.refused(answer, asked, self.place)
                return answer
        raise AssertionError("a retry context ends with an answer or an error")

    def _send(self, asked: wire.Ask) -> httpx2.Response:
        try:
            return self._http.request(
                asked.method,
                asked.path,
                params=asked.params,
                content=asked.body or None,
                headers=asked.headers,
                timeout=wire.timeout(asked, self._answer_s),
            )
        except httpx2.TransportError as error:
            raise wire.unreachable(error, self.place, asked.request) from error
