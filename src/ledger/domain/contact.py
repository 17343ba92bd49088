"""What an agent says when it speaks: what is new about it, what it lost, and whether it is back."""

from dataclasses import replace

from ledger.commands import Contact
from ledger.domain.attempt import lose
from ledger.domain.errors import StaleSync
from ledger.domain.node import change, known
from ledger.domain.state import Ask, Cluster, Node, Outcome
from ledger.events import AgentSeen, AttemptEnded, Event, NodeSoftwareChanged, NodeStateChanged


def decide(c: Cluster, ask: Ask, cmd: Contact) -> Outcome:
    """An agent spoke: record what is new about it, what it lost, and whether it is back."""
    node = known(c, cmd)
    if cmd.spool in node.former:
        raise StaleSync(
            f"A later agent has taken the place of this one on {node.name}.",
            hint="Only one agent may run on a node; restored files must not hold its old spool.",
        )
    events: list[Event] = []
    if (cmd.spool, cmd.boot_id, cmd.build) != (node.spool, node.boot_id, node.build):
        events.append(
            AgentSeen(
                node=node.name,
                build=cmd.build,
                boot_id=cmd.boot_id,
                instance=cmd.spool,
                protocol=cmd.protocol,
            )
        )
    if (cmd.image, cmd.kernel, cmd.packages_sha256, cmd.build) != (
        node.image,
        node.kernel,
        node.packages_sha256,
        node.build,
    ):
        events.append(
            NodeSoftwareChanged(
                node=node.name,
                image=cmd.image,
                kernel=cmd.kernel,
                packages_sha256=cmd.packages_sha256,
                build=cmd.build,
            )
        )
    gone = _forgotten(c, node, cmd)
    outage = 0
    for job_id, _ in sorted(gone):
        ends = lose(c, ask, c.jobs[job_id], "agent_forgot", (node.name,), outage)
        outage = max(e.outage for e in ends if isinstance(e, AttemptEnded)) or outage
        events.extend(ends)
    events.extend(_back(node, cmd, node.attempts - gone))
    return Outcome(events)


def _forgotten(c: Cluster, node: Node, cmd: Contact) -> set[tuple[int, int]]:
    """The attempts this node leads that its agent had and has no more, nor any report of."""
    new_spool = cmd.spool != node.spool
    gone = set()
    for job_id, n in node.attempts - cmd.has - cmd.reported:
        job = c.jobs.get(job_id)
        if job is None or job.attempt is None or job.attempt.n != n:
            continue
        if job.attempt.nodes[0] != node.name:
            continue
        had = job.attempt.started_at > 0 or job.attempt.placed_at < node.spool_since
        if had or (new_spool and node.spool):
            gone.add((job_id, n))
    return gone


def _back(node: Node, cmd: Contact, attempts: set[tuple[int, int]]) -> list[NodeStateChanged]:
    """A node returns to service when it has nothing but what it should have.

    After silence it may still run its own attempts; a node that was declared dead, or has just
    joined, must be empty. One that may not return yet is out of contact no more: it gets orders,
    so that nothing of it may be given up while it speaks. One whose agent can't record what it does
    may have been empty before, and has to take no more.
    """
    waits = node.health == "checking" and node.cause == "cannot_record"
    if node.health == "ok" and not cmd.cannot_record:
        return []
    if node.cause == "declared_dead" or (node.health == "checking" and not waits):
        back = not cmd.has and not attempts
    else:
        back = node.health == "ok" or cmd.has <= attempts
    if not back:
        return [_in_contact(node)] if node.health == "down" and node.silent_since else []
    if cmd.cannot_record:
        return [] if waits else [change(node, "checking", "cannot_record", cmd.cannot_record)]
    to = replace(node, health="ok", attempts=attempts).state
    fresh = "records_again" if waits else "reported_empty"
    cause = fresh if node.health == "checking" else "returned"
    return [change(node, to, cause, node.reason if node.drain else "")]


def _in_contact(node: Node) -> NodeStateChanged:
    return NodeStateChanged(
        node=node.name,
        was="down",
        to="down",
        cause="declared_dead" if node.cause == "declared_dead" else "in_contact",
        pool=node.pool,
        rack=node.rack,
        reason=node.reason,
        outage=node.outage,
    )
