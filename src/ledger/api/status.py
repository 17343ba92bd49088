"""Routes about the service itself: is it up, who am I, tokens, the policy, metrics."""

import asyncio
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ledger.api import history, past, show
from ledger.api import metrics as metrics_of
from ledger.api.auth import Caller, Who
from ledger.api.describe import TEXT
from ledger.api.standing import backups, shown
from ledger.api.waiting import FRESH, LOOKS_BACK
from ledger.commands import IssueToken, RevokeToken, SetPolicy
from ledger.domain.errors import Forbidden, Malformed
from ledger.domain.permissions import may
from ledger.domain.rules_of_use import WORDS
from ledger.domain.service import POLICY_FIELDS
from ledger.domain.state import Cluster
from ledger.master.identity import RESERVED, make_token
from ledger.models import (
    ChangedOut,
    DoneOut,
    HeadOut,
    PolicyChangeOut,
    PolicyHistoryOut,
    PolicyIn,
    PolicyOut,
    ReadyOut,
    TokenIn,
    TokenMadeOut,
    TokenOut,
    TokensOut,
    WhoOut,
)
from ledger.store.chain import EMPTY, Head

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def healthz(who: Who) -> dict[str, str]:
    """The process answers."""
    return {"status": "ok", "for": who.subject.name}


@router.get("/readyz", responses={503: {"model": ReadyOut}})
async def readyz(who: Who, response: Response) -> ReadyOut:
    """Can requests be decided? 503 with the replay's progress until they can, and with the reason
    if they can no longer be."""
    service = who.service
    running = service.running
    if running is None:
        response.status_code = 503
        return ReadyOut(
            ready=False,
            sentence=f"Replaying the log: {service.replayed} of {service.head}.",
            replayed=service.replayed,
            head=service.head,
            epoch=0,
            warnings=service.warnings,
        )
    warnings = service.all_warnings()
    fresh = await asyncio.to_thread(service.freshness)
    if fresh is not None and fresh.warning:
        warnings.append(fresh.warning)
    told = await asyncio.to_thread(running.history.status)
    over = running.master.failed or running.master.halted
    if over:
        response.status_code = 503
    return ReadyOut(
        ready=not over,
        sentence=over or "Ready.",
        replayed=running.master.head.position,
        head=running.master.head.position,
        epoch=running.master.epoch,
        recovery=running.recovery,
        warnings=warnings,
        projections=shown(told, running.master.head),
        backups=backups(fresh),
    )


@router.get("/metrics", response_class=Response, responses=TEXT)
async def metrics(who: Who) -> Response:
    """Metrics in Prometheus' text format."""
    who.demand("service.metrics")
    fresh = await asyncio.to_thread(who.service.freshness)
    running = who.running
    told = await asyncio.to_thread(running.history.status)
    await running.master.settled()
    families = [
        *metrics_of.of_master(running),
        *metrics_of.of_projections(told, running.master.head),
        *(metrics_of.of_backups(fresh) if fresh is not None else ()),
    ]
    return Response(metrics_of.render(families), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/whoami")
async def whoami(who: Who) -> WhoOut:
    """Who the service takes you for, and by what."""
    how = "Unix socket" if who.via.peer == "unix" else "token"
    if "authorization" in who.request.headers:
        how = "token"
    return WhoOut(name=who.subject.name, role=who.subject.role, how=how)


@router.get("/v1/log/head", dependencies=LOOKS_BACK)
async def log_head(who: Who) -> HeadOut:
    """The last commit of the log, now or as of a time or position."""
    who.demand("log.head")
    running = who.running
    await running.master.settled()
    h: Head = running.master.head
    if (moment := await past.then(who)) is not None:
        h = await running.reader.call(lambda log: log.commit_at(moment.position)) or EMPTY
    return HeadOut(
        position=h.position,
        commit=h.commit,
        hash=h.hash,
        at=show.when(h.at),
        epoch=h.epoch,
        incarnation=running.master.log.incarnation,
    )


@router.get("/v1/openapi.json", include_in_schema=False)
async def openapi(who: Who, request: Request) -> Response:
    """This API's description."""
    who.demand("service.see")
    document = await asyncio.to_thread(request.app.openapi)
    return Response(msgspec.json.encode(document), media_type="application/json")


@router.get("/v1/policy", dependencies=LOOKS_BACK)
async def policy(who: Who) -> PolicyOut:
    """The policy in force, now or as of a time or position."""
    who.demand("policy.see")
    if await past.then(who) is not None:
        number, values = await history.ask(who, "policies", "in_force")
        return PolicyOut(policy=number, **values, meanings=WORDS)
    return await _in_force(who)


@router.get("/v1/policy/history", dependencies=FRESH)
async def policy_history(
    who: Who,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: Annotated[str, Query(pattern="^[0-9]{0,15}$")] = "",
) -> PolicyHistoryOut:
    """Every policy there was, the latest first: who set it, when, and what that changed."""
    who.demand("policy.see")
    found, following = await history.ask(who, "policies", "history", limit=limit, cursor=cursor)
    return PolicyHistoryOut(
        policies=[
            PolicyChangeOut(
                policy=one.policy,
                position=one.position,
                set_at=show.at(one.set_at),
                set_by=one.set_by,
                machine=one.machine,
                changed=[ChangedOut(field=c.field, was=c.was, now=c.now) for c in one.changed],
            )
            for one in found
        ],
        next=following,
        position=who.request.state.ledger_position,
    )


async def _in_force(who: Caller) -> PolicyOut:
    cluster: Cluster = await who.running.master.settled()
    values: dict[str, Any] = {name: getattr(cluster.policy, name) for name in POLICY_FIELDS}
    return PolicyOut(policy=cluster.policy.number, **values, meanings=WORDS)


@router.patch("/v1/policy")
async def set_policy(who: Who, body: PolicyIn) -> PolicyOut:
    """Change fields of the policy; the others stay."""
    command = SetPolicy(**body.model_dump())
    await who.running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    return await _in_force(who)


@router.post("/v1/tokens", status_code=201)
async def issue(who: Who, body: TokenIn) -> TokenMadeOut:
    """Make a token. The answer holds its secret, this once."""
    if body.owner in RESERVED:
        raise Malformed(f"The name {body.owner} is reserved.")
    if body.ttl_s == 0 and who.subject.role != "operator":
        raise Malformed("ttl_s must be at least 1: only operators make tokens that do not expire.")
    who.demand("token.issue", body.owner)
    expires_at = who.running.master.now() + body.ttl_s * 1_000_000 if body.ttl_s else 0
    if who.subject.role != "operator" and 0 < who.expires_at < expires_at:
        raise Forbidden(
            "The new token would outlive the one that asks for it.",
            hint="Ask for a shorter ttl_s, or ask an operator.",
        )
    token = make_token()
    command = IssueToken(
        token=token.id,
        sha256=token.sha256,
        owner=body.owner,
        role=body.role,
        expires_at=expires_at,
        note=body.note,
    )
    await who.running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    return TokenMadeOut(
        token=token.id,
        secret=token.secret,
        owner=body.owner,
        role=body.role,
        expires_at=show.when(command.expires_at),
    )


@router.get("/v1/tokens")
async def tokens(who: Who) -> TokensOut:
    """The tokens one may see, without their secrets."""
    who.demand("token.see", who.subject.name)
    cluster: Cluster = await who.running.master.settled()
    return TokensOut(
        tokens=[
            TokenOut(
                token=token.id,
                owner=token.owner,
                role=token.role,
                issued_at=show.at(token.issued_at),
                expires_at=show.when(token.expires_at),
                note=token.note,
            )
            for token in sorted(cluster.tokens.values(), key=lambda t: (t.owner, t.issued_at, t.id))
            if _sees(who, token.owner, token.role)
        ]
    )


def _sees(who: Caller, owner: str, role: str) -> bool:
    own = may(who.subject, "token.see", owner)
    return own and (who.subject.role == "operator" or role == "user")


@router.delete("/v1/tokens/{token}")
async def revoke(who: Who, token: str) -> DoneOut:
    """Refuse a token from now on."""
    command = RevokeToken(token=token[:64])
    await who.running.master.ask_one(who.subject, command, via=who.via, request=who.id)
    return DoneOut(state="revoked", position=who.running.master.head.position)
