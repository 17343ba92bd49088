"""Nodes: joining, speaking, falling silent, being drained, resumed, declared dead, retired."""

from dataclasses import replace

from ledger.commands import (
    Configure,
    Down,
    Drain,
    Enrol,
    NodeCommand,
    Resume,
    Retire,
    Silence,
)
from ledger.domain import losses
from ledger.domain.errors import NodeBusy, NodeExists, UnknownNode
from ledger.domain.permissions import demand
from ledger.domain.state import FORMER_SPOOLS, MOST_REASONS, Ask, Cluster, Node, Outcome, Said
from ledger.events import (
    AgentSeen,
    NodeChecked,
    NodeConfigured,
    NodeEnrolled,
    NodeRetired,
    NodeSoftwareChanged,
    NodeState,
    NodeStateChanged,
    Recorded,
    Struck,
    TokenIssued,
    TokenRevoked,
)

DRAINED = ("operator", "drained")
"""Causes of which an operator says that a node is to take no jobs."""

# ── decide ───────────────────────────────────────────────────────────────────────────────────────


def known(c: Cluster, cmd: NodeCommand) -> Node:
    """The node that `cmd` is about."""
    node = c.nodes.get(cmd.node)
    if node is None:
        raise UnknownNode(f"There is no node {cmd.node}.")
    return node


def decide_enrol(c: Cluster, ask: Ask, cmd: Enrol) -> Outcome:
    """A machine joins, or takes the place of one that is down and has nothing left to lose."""
    demand(ask.subject, "node.enrol", cmd.node)
    old = c.nodes.get(cmd.node)
    if old is not None and (old.health != "down" or old.attempts):
        raise NodeExists(f"A node {cmd.node} is enrolled; it is {old.state}.")
    enrolled = NodeEnrolled(
        node=cmd.node,
        pool=cmd.pool,
        serial=cmd.serial,
        rack=cmd.rack,
        switch=cmd.switch,
        power=cmd.power,
        features=cmd.features,
        cpus=cmd.cpus,
        memory_bytes=cmd.memory_bytes,
        boot_id=cmd.boot_id,
    )
    issued = TokenIssued(
        token=cmd.token,
        sha256=cmd.sha256,
        owner=cmd.node,
        role="node",
        expires_at=0,
        note="enrolment",
    )
    spent = [
        TokenRevoked(token=token.id, reason="replaced by enrolment")
        for token in sorted(c.tokens.values(), key=lambda token: token.id)
        if token.owner == cmd.node and token.role in ("node", "join")
    ]
    return Outcome([enrolled, *spent, issued])


def decide_configure(c: Cluster, ask: Ask, cmd: Configure) -> Outcome:
    """Say where a node stands and what kind it is."""
    node = known(c, cmd)
    demand(ask.subject, "node.manage")
    now = NodeConfigured(
        node=node.name,
        pool=node.pool if cmd.pool is None else cmd.pool,
        serial=node.serial if cmd.serial is None else cmd.serial,
        rack=node.rack if cmd.rack is None else cmd.rack,
        switch=node.switch if cmd.switch is None else cmd.switch,
        power=node.power if cmd.power is None else cmd.power,
        features=tuple(sorted(node.features)) if cmd.features is None else cmd.features,
        cpus=node.cpus,
        memory_bytes=node.memory_bytes,
    )
    same = (now.pool, now.serial, now.rack, now.switch, now.power, frozenset(now.features)) == (
        node.pool,
        node.serial,
        node.rack,
        node.switch,
        node.power,
        node.features,
    )
    return Outcome([] if same else [now])


def decide_drain(c: Cluster, ask: Ask, cmd: Drain) -> Outcome:
    """No new job; what runs there runs on. Of a node that drains already, a further reason."""
    node = known(c, cmd)
    demand(ask.subject, "node.manage")
    if node.drain and cmd.reason in ("", *(said.reason for said in node.said)):
        return Outcome([])
    if node.health == "down":
        return Outcome([change(node, "down", "drained", cmd.reason)])
    return Outcome([change(node, replace(node, drain=True).state, "operator", cmd.reason)])


def decide_resume(c: Cluster, ask: Ask, cmd: Resume) -> Outcome:
    """Take jobs again; a node that is down does so once it has spoken."""
    node = known(c, cmd)
    demand(ask.subject, "node.manage")
    if not node.drain:
        return Outcome([])
    return Outcome([change(node, replace(node, drain=False).state, "resumed", cmd.reason)])


def decide_down(c: Cluster, ask: Ask, cmd: Down) -> Outcome:
    """Declare a node dead. It stays out of service until somebody resumes it."""
    node = known(c, cmd)
    demand(ask.subject, "node.manage")
    if node.cause == "declared_dead":
        return Outcome([])
    events, outage = losses.lost(c, ask.at, node, "declared_dead", node.silent_since)
    declared = NodeStateChanged(
        node=node.name,
        was=node.state,
        to="down",
        cause="declared_dead",
        pool=node.pool,
        rack=node.rack,
        reason=cmd.reason,
        silent_since=node.silent_since,
        struck=struck_by(c, node),
        outage=outage,
    )
    return Outcome([*events, declared])


def decide_retire(c: Cluster, ask: Ask, cmd: Retire) -> Outcome:
    """An empty node leaves for good, and its tokens with it."""
    node = known(c, cmd)
    demand(ask.subject, "node.manage")
    if node.attempts:
        jobs = ", ".join(str(job) for job, _ in sorted(node.attempts))
        raise NodeBusy(f"Node {node.name} has job {jobs}.")
    revoked = [
        TokenRevoked(token=token.id, reason="node retired")
        for token in sorted(c.tokens.values(), key=lambda token: token.id)
        if token.owner == node.name and token.role == "node"
    ]
    return Outcome([NodeRetired(node=node.name, reason=cmd.reason), *revoked])


def decide_silence(c: Cluster, ask: Ask, cmd: Silence) -> Outcome:
    """A node has been silent for its lease: it is down, and the owners it strikes are on record."""
    node = c.nodes.get(cmd.node)
    if node is None or ask.at - cmd.since < c.policy.job_lease_s * 1_000_000:
        return Outcome([])
    if node.health == "down" and node.silent_since:
        return Outcome([])
    cause = node.cause if node.cause == "declared_dead" else "silent"
    events, outage = losses.lost(c, ask.at, node, "silent", cmd.since)
    fell = NodeStateChanged(
        node=node.name,
        was=node.state,
        to="down",
        cause=cause,
        pool=node.pool,
        rack=node.rack,
        reason=node.reason if node.drain else "",
        silent_since=cmd.since,
        struck=struck_by(c, node),
        outage=outage,
    )
    return Outcome([*events, fell])


def struck_by(c: Cluster, node: Node) -> tuple[Struck, ...]:
    """The attempts on a node, as a record for their owners."""
    struck = []
    for job_id, n in sorted(node.attempts):
        job = c.jobs.get(job_id)
        if job is None or job.attempt is None:
            continue
        struck.append(
            Struck(
                job=job_id,
                attempt=n,
                user=job.user,
                account=job.spec.account,
                pool=job.spec.pool,
                restartable=job.attempt.restartable,
                placed_at=job.attempt.placed_at,
            )
        )
    return tuple(struck)


def change(node: Node, to: NodeState, cause: str, reason: str) -> NodeStateChanged:
    """A change of state that is no loss; of a node that is down it names the outage."""
    return NodeStateChanged(
        node=node.name,
        was=node.state,
        to=to,
        cause=cause,
        pool=node.pool,
        rack=node.rack,
        reason=reason,
        silent_since=node.silent_since if to == "down" else 0,
        outage=node.outage if node.health == "down" else 0,
    )


# ── evolve ───────────────────────────────────────────────────────────────────────────────────────


def evolve_enrolled(c: Cluster, r: Recorded, e: NodeEnrolled) -> None:
    """The node exists and is to report itself empty."""
    _leave(c, r, e.node)
    c.nodes[e.node] = Node(
        name=e.node,
        pool=e.pool,
        serial=e.serial,
        rack=e.rack,
        switch=e.switch,
        power=e.power,
        features=frozenset(e.features),
        cpus=e.cpus,
        memory_bytes=e.memory_bytes,
        since=r.at,
    )
    c.pools.setdefault(e.pool, set()).add(e.node)


def evolve_configured(c: Cluster, r: Recorded, e: NodeConfigured) -> None:
    """The node stands elsewhere, or is of another kind."""
    if (node := c.nodes.get(e.node)) is None:
        return
    _leave_pool(c, e.node)
    node.pool, node.serial, node.rack = e.pool, e.serial, e.rack
    node.switch, node.power, node.features = e.switch, e.power, frozenset(e.features)
    node.cpus, node.memory_bytes = e.cpus, e.memory_bytes
    c.pools.setdefault(e.pool, set()).add(e.node)


def evolve_state(c: Cluster, r: Recorded, e: NodeStateChanged) -> None:
    """The node is in another state; a drain outlives silence, and ends by resuming only. What is
    said of one that drains already is added to what was said first.

    A state that no rule of ours leads to (an imported log has them) takes no jobs: like a drain.
    """
    if (node := c.nodes.get(e.node)) is None:
        return
    drained = node.drain
    if drained and e.was == e.to and e.cause in DRAINED:  # a further reason, nothing else
        node.said = _also(node.said, r, e)
        return
    losses.node_changed(c, r, node, e)
    if e.to == "down":
        node.health = "down"
        node.silent_since, node.absent_us = e.silent_since, c.absent_us
        if e.cause in ("declared_dead", "drained"):
            node.drain = True
    else:
        waits = node.health == "checking" and e.cause == "operator"  # drained, and not yet empty
        node.health = "checking" if waits or e.to == "checking" else "ok"
        node.silent_since = 0
        node.drain = node.drain if e.to == "checking" else e.to not in ("idle", "allocated")
    if e.cause == "resumed":
        node.drain = False
    node.since, node.cause, node.reason = r.at, e.cause, e.reason
    if not node.drain:
        node.said = ()
    elif not drained or e.cause == "declared_dead":
        node.said = _also(node.said, r, e)


def _also(said: tuple[Said, ...], r: Recorded, e: NodeStateChanged) -> tuple[Said, ...]:
    """What was said, and this, unless it is known; the first is never forgotten."""
    if any((known.cause, known.reason) == (e.cause, e.reason) for known in said):
        return said
    said = (*said, Said(r.at, r.envelope.by, e.cause, e.reason))
    return said if len(said) <= MOST_REASONS else (said[0], *said[2:])


def evolve_software(c: Cluster, r: Recorded, e: NodeSoftwareChanged) -> None:
    """The node has other software."""
    if (node := c.nodes.get(e.node)) is not None:
        node.image, node.kernel = e.image, e.kernel
        node.packages_sha256, node.build = e.packages_sha256, e.build


def evolve_checked(c: Cluster, r: Recorded, e: NodeChecked) -> None:
    """A check's verdict is a fact for reports; the state change it causes is its own event."""


def evolve_retired(c: Cluster, r: Recorded, e: NodeRetired) -> None:
    """The node is no more."""
    _leave(c, r, e.node)
    c.nodes.pop(e.node, None)


def evolve_seen(c: Cluster, r: Recorded, e: AgentSeen) -> None:
    """The agent is this one now."""
    if (node := c.nodes.get(e.node)) is not None:
        node.build, node.boot_id = e.build, e.boot_id
        if node.spool != e.instance:
            if node.spool:
                node.former = (*node.former, node.spool)[-FORMER_SPOOLS:]
            node.spool, node.spool_since = e.instance, r.at


def _leave(c: Cluster, r: Recorded, name: str) -> None:
    if (node := c.nodes.get(name)) is not None:
        losses.come_back(c, r.at, node)
    _leave_pool(c, name)


def _leave_pool(c: Cluster, name: str) -> None:
    node = c.nodes.get(name)
    if node is None or node.pool not in c.pools:
        return
    c.pools[node.pool].discard(name)
    if not c.pools[node.pool]:
        del c.pools[node.pool]
