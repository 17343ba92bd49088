"""What a client can ask of the past and of the whole: outages, use, demand, abuse, projections."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from ledger import models as m
from ledger.client import wire


class Answers(ABC):
    """The questions, for a client that knows how to put them."""

    def impact(
        self, nodes: str, since: str = "", until: str = "", stated: bool | None = None
    ) -> m.ImpactOut:
        """Whose jobs the loss of `nodes` interrupted in a window (times in RFC 3339). `stated`:
        whoever ran there counts; None: only in an archive."""
        params = {"nodes": nodes, "since": since, "until": until, "stated": stated}
        return self._get("/v1/impact", m.ImpactOut, params)

    def impact_of_absences(self, since: str = "", until: str = "") -> m.ImpactOut:
        """Whose jobs the master's own absences interrupted in a window, or let wait."""
        params = {"master": "true", "since": since, "until": until}
        return self._get("/v1/impact", m.ImpactOut, params)

    def usage(self, by: str, **asked: str) -> m.UsageOut:
        """What was used, by `day`, `user`, `account`, `pool` (joined by commas). `asked`: `since`,
        `until` (RFC 3339), `zone` of the days, and one `user`, `account` or `pool`."""
        return self._get("/v1/usage", m.UsageOut, {"by": by, **asked})

    def findings(self, **filters: Any) -> m.FindingsOut:
        """One page of findings of abuse: user, rule, unanswered, limit, cursor."""
        return self._get("/v1/abuse", m.FindingsOut, filters)

    def finding(self, number: int) -> m.FindingDetailOut:
        """One finding with its evidence."""
        return self._get(f"/v1/abuse/{number}", m.FindingDetailOut)

    def answer_finding(self, number: int, note: str = "") -> m.DoneOut:
        """Say that a finding has been looked at."""
        return self._act(f"/v1/abuse/{number}/answer", m.NoteIn(note=note))

    def queue(self, by: str, **whose: str) -> m.QueueOut:
        """What waits and runs now, by `pool`, `user`, `account` (joined by commas) of one `user`,
        `account` or `pool`, or of all."""
        return self._get("/v1/queue", m.QueueOut, {"by": by, **whose})

    def demand(self, by: str, **asked: str) -> m.DemandOut:
        """Queues and demand over time, by `hour` or `day`, `pool`, `user`, `account` (joined by
        commas). `asked`: as for `usage`."""
        return self._get("/v1/demand", m.DemandOut, {"by": by, **asked})

    def askable(self) -> m.AskablesOut:
        """Every question that a projection answers."""
        return self._get("/v1/ask", m.AskablesOut)

    def ask(self, projection: str, query: str, /, **asked: Any) -> m.AskedOut:
        """What a query of a projection gives; `asked` are its own parameters, lists for those that
        take several values."""
        return self._get(f"/v1/ask/{projection}/{query}", m.AskedOut, asked)

    def outages(self, *, open_: bool = False, since: str = "", limit: int = 200) -> m.OutagesOut:
        """The latest outages: all, the open ones, or those not over at `since` (RFC 3339)."""
        params = {"open": str(open_).lower(), "since": since, "limit": limit}
        return self._get("/v1/outages", m.OutagesOut, params)

    def outage(self, number: int) -> m.OutageDetailOut:
        """One outage."""
        return self._get(f"/v1/outages/{number}", m.OutageDetailOut)

    def affected(self, number: int) -> m.AffectedOut:
        """Whom an outage hit, and who of them was told."""
        return self._get(f"/v1/outages/{number}/affected", m.AffectedOut)

    def open_outage(self, wanted: m.OutageIn) -> m.OutageDoneOut:
        """Open an outage by hand, or announce planned downtime. Repeated, it is the same one."""
        return self._model(self._ask("POST", "/v1/outages", body=wanted), m.OutageDoneOut)

    def outage_do(self, number: int, action: str, body: m.Body) -> m.OutageDoneOut:
        """`cause` or `close` an outage."""
        path = f"/v1/outages/{number}/{action}"
        return self._model(self._ask("POST", path, body=body), m.OutageDoneOut)

    def node_history(self, node: str, **filters: Any) -> m.NodeHistoryOut:
        """A page of a node's states, and what it was: since, until (RFC 3339), limit, cursor."""
        return self._get(f"/v1/nodes/{node}/history", m.NodeHistoryOut, filters)

    def node_jobs(self, node: str, **filters: Any) -> m.StaysOut:
        """A page of what ran on a node: since, until (RFC 3339), failed, limit, cursor."""
        return self._get(f"/v1/nodes/{node}/jobs", m.StaysOut, filters)

    def node_failures(self, **filters: Any) -> m.NodeFailuresOut:
        """The nodes where jobs failed that succeeded elsewhere later: since, until (RFC 3339),
        pool, limit."""
        return self._get("/v1/node-failures", m.NodeFailuresOut, filters)

    def contacts(self) -> m.ContactsOut:
        """How people and desks are told, as far as one may see it."""
        return self._get("/v1/contacts", m.ContactsOut)

    def contact(self, owner: str, *, desk: bool = False) -> m.ContactOut:
        """How one is told."""
        return self._get(f"/v1/contacts/{owner}", m.ContactOut, _desk(desk))

    def set_contact(self, owner: str, wanted: m.ContactIn) -> m.ContactOut:
        """Say how one is told, from now on so and not otherwise."""
        return self._model(self._ask("PUT", f"/v1/contacts/{owner}", body=wanted), m.ContactOut)

    def remove_contact(self, owner: str, *, desk: bool = False) -> m.DoneOut:
        """Forget how one is told."""
        path = f"/v1/contacts/{owner}"
        return self._model(self._ask("DELETE", path, params=_desk(desk)), m.DoneOut)

    def try_contact(self, owner: str, *, desk: bool = False) -> m.TriedOut:
        """Send one a test message."""
        path = f"/v1/contacts/{owner}/test"
        return self._model(self._ask("POST", path, params=_desk(desk)), m.TriedOut)

    def notices(self, **filters: Any) -> m.NoticesOut:
        """One page of notices: user, desk, outage, state, limit, cursor."""
        return self._get("/v1/notices", m.NoticesOut, filters)

    def notice(self, number: int) -> m.NoticeDetailOut:
        """One notice."""
        return self._get(f"/v1/notices/{number}", m.NoticeDetailOut)

    def preview(self, outage: int, why: str, to: str, *, desk: bool = False) -> m.LetterOut:
        """The text that one would be sent of an outage now."""
        params = {"outage": outage, "why": why, "to": to, **_desk(desk)}
        return self._get("/v1/notices/preview", m.LetterOut, params)

    def projections(self) -> m.ProjectionsOut:
        """All projections that are installed, and how far they are."""
        return self._get("/v1/projections", m.ProjectionsOut)

    def projection(self, name: str) -> m.ProjectionDetailOut:
        """One projection with its tables and queries."""
        return self._get(f"/v1/projections/{name}", m.ProjectionDetailOut)

    def skip_projection(self, name: str, position: int, reason: str) -> m.DoneOut:
        """Let a projection leave out one event, for ever."""
        body = m.SkipIn(position=position, reason=reason)
        return self._act(f"/v1/projections/{name}/skip", body)

    # How they are put

    def _get(
        self, path: str, model: type[wire.Model], params: Mapping[str, Any] | None = None
    ) -> wire.Model:
        return self._model(self._ask("GET", path, params=params), model)

    def _act(self, path: str, body: m.Body, method: str = "POST") -> m.DoneOut:
        return self._model(self._ask(method, path, body=body), m.DoneOut)

    @abstractmethod
    def _ask(self, method: str, path: str, **rest: Any) -> wire.Ask:
        """A request as it is to be sent."""

    @abstractmethod
    def _model(self, asked: wire.Ask, model: type[wire.Model]) -> wire.Model:
        """The answer to a request, understood as a model."""


def _desk(desk: bool) -> dict[str, Any]:
    return {"desk": "true"} if desk else {}
